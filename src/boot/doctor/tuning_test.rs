//! The files in `tuning/` and what `throng doctor` wants are the same values.
use super::check::{Goal, Verdict};
use super::made_up::{machine, report};
use super::read::SYSCTL_NAMES;
use super::sysctls::SYSCTLS;
use crate::config::Config;
use crate::plane::os::Limit;
use std::collections::BTreeMap;

/// What the files are written for: a million connections, on two shards.
const CONNECTIONS: u64 = 1_000_000;

const SYSCTL_CONF: &str = include_str!("../../../tuning/90-throng.conf");
const LIMITS_CONF: &str = include_str!("../../../tuning/limits.d/throng.conf");
const UNIT: &str = include_str!("../../../tuning/throng.service");
const MANUAL: &str = include_str!("../../../tuning/README.md");

/// Settings of a file of the form of sysctl.d(5); a dash before a name lets it be missing.
fn settings() -> BTreeMap<String, String> {
    let lines = SYSCTL_CONF.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let pairs = lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}")));
    pairs.map(|(name, value)| (name.trim().trim_start_matches('-').into(), value.trim().into())).collect()
}

#[test]
fn a_machine_with_the_files_is_fine() {
    let limit =
        |text: &str| Limit((text != "infinity" && text != "unlimited").then(|| text.parse().expect("a number")));
    let facts = machine(|facts| {
        facts.sysctls.extend(settings());
        facts.tracked = Some(1);
        facts.descriptors.hard = limit(unit("LimitNOFILE"));
        facts.locked_memory = limit(unit("LimitMEMLOCK"));
    });
    let report = report(&facts, Some(CONNECTIONS), |_| {});
    assert!(report.lines.iter().all(|line| line.finding.verdict == Verdict::Ok), "{}", report.text());
}

#[test]
fn the_file_holds_what_is_wanted_and_nothing_else() {
    let facts = machine(|_| {});
    let mut config = Config::default();
    config.server.shards = 2;
    let goal = Goal::new(&facts, &config, Some(CONNECTIONS));
    let settings = settings();
    for sysctl in SYSCTLS {
        let set = settings.get(sysctl.name).unwrap_or_else(|| panic!("{} is not in the file", sysctl.name));
        assert_eq!(*set, (sysctl.wanted)(&goal), "{}", sysctl.name);
    }
    for name in settings.keys() {
        assert!(SYSCTL_NAMES.contains(&name.as_str()), "throng doctor does not look at {name}");
        assert!(MANUAL.contains(&format!("`{name}`")), "tuning/README.md does not explain {name}");
    }
}

/// Each setting matters: with a poor value in its place something is said.
#[test]
fn each_setting_is_looked_at() {
    let poor = BTreeMap::from([
        ("kernel.io_uring_disabled", None), // found out by trying; see the tests of forbidden rings
        ("kernel.numa_balancing", Some("1")),
        ("net.ipv4.tcp_mem", Some("1000 2000 3000")),
        ("net.ipv4.tcp_rmem", Some("4096 131072 99999999")),
        ("net.ipv4.tcp_wmem", Some("4096 16384 99999999")),
        ("vm.overcommit_memory", Some("2")),
    ]);
    for name in settings().keys() {
        let Some(value) = poor.get(name.as_str()).copied().unwrap_or(Some("0")) else { continue };
        let facts = machine(|facts| {
            facts.sysctls.extend(settings());
            // Where syncookies are on, the length of the queue does not matter.
            if name == "net.ipv4.tcp_max_syn_backlog" {
                facts.sysctls.insert("net.ipv4.tcp_syncookies".into(), "0".into());
            }
            facts.sysctls.insert(name.clone(), value.into());
            facts.tracked = Some(1);
        });
        let report = report(&facts, Some(CONNECTIONS), |_| {});
        let line = report.lines.iter().find(|line| line.name == *name).unwrap_or_else(|| panic!("no check of {name}"));
        assert!(line.finding.verdict != Verdict::Ok && line.finding.remedy.contains(name.as_str()), "{line:?}");
    }
}

fn unit(key: &str) -> &'static str {
    let line = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {key}"))
}

#[test]
fn unit_and_limits_agree() {
    for (item, key) in [("nofile", "LimitNOFILE"), ("memlock", "LimitMEMLOCK")] {
        let words: Vec<Vec<&str>> = LIMITS_CONF.lines().map(|line| line.split_whitespace().collect()).collect();
        let set = words.iter().find(|words| words.len() == 4 && words[0] == "throng" && words[2] == item);
        let value = set.unwrap_or_else(|| panic!("no limit on {item}"))[3];
        assert_eq!(value.replace("unlimited", "infinity"), unit(key), "{item}");
    }
    // A filter that leaves them out makes the server end with exit code 4.
    let calls: Vec<&str> = unit("SystemCallFilter").split(' ').collect();
    assert!(["io_uring_setup", "io_uring_enter", "io_uring_register"].iter().all(|call| calls.contains(call)));
    // Those mend themselves: a crash (70), a data folder and a port that a former server is about to leave (3, 5).
    let stay_down: Vec<&str> = unit("RestartPreventExitStatus").split(' ').collect();
    assert_eq!(stay_down, ["2", "4", "6", "7", "8"]);
}
