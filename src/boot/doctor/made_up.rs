//! Made-up machines, and what is found on them.
use super::check::{Finding, Goal, Report, Verdict, judge};
use super::facts::{Certificate, Data, Facts, Interface, Listen, Memory, RingFacts};
use crate::config::Config;
use crate::plane::SetupCause;
use crate::plane::os::{Limit, Limits};
use crate::plane::ring::Feature;

/// A server of 16 cores, tuned.
pub fn good() -> Facts {
    let sysctls = [
        ("kernel.io_uring_disabled", "0"),
        ("kernel.io_uring_group", "-1"),
        ("kernel.numa_balancing", "0"),
        ("fs.file-max", "9223372036854775807"),
        ("fs.nr_open", "1048576"),
        ("net.core.somaxconn", "4096"),
        ("net.core.netdev_max_backlog", "16384"),
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv4.tcp_max_syn_backlog", "4096"),
        ("net.ipv4.tcp_mem", "500000\t750000\t1000000"),
        ("net.ipv4.tcp_rmem", "4096\t131072\t1048576"),
        ("net.ipv4.tcp_wmem", "4096\t16384\t1048576"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("vm.overcommit_memory", "0"),
    ];
    let limit = Limit(Some(524_288));
    Facts {
        kernel: "6.18.2-server".into(),
        ring: RingFacts {
            features: vec![Feature { name: "a ring (6.0)".into(), fault: None }],
            refusal: None,
            rehearsal: Some(Ok(())),
            seccomp: Some(0),
        },
        descriptors: Limits { soft: limit, hard: limit },
        locked_memory: Limit(None),
        address_space: Limit(None),
        has_ipc_lock: false,
        sysctls: sysctls.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        files_open: 2_000,
        tracked: None,
        backlog_drops: 0,
        memory: Memory { total: 64 << 30, available: 60 << 30, group: None },
        cores: 16,
        numa_nodes: 2,
        clock_source: Some("tsc".into()),
        clock_sources: vec!["tsc".into(), "hpet".into()],
        huge_pages: Some("always [madvise] never".into()),
        huge_pages_off_here: false,
        governors: vec!["performance".into(); 16],
        interfaces: vec![Interface { name: "eth0".into(), receive_queues: 16, is_steered: false }],
        is_clock_synchronised: Some(true),
        listen: Listen { address: ([0, 0, 0, 0], 8080).into(), refusal: None },
        data: Data {
            folder: "/var/lib/throng".into(),
            looked_at: "/var/lib/throng".into(),
            free_bytes: Some(100 << 30),
            fsync_ns: Ok(1_000_000),
        },
        certificate: None,
    }
}

/// What is different on another machine.
type Change = fn(&mut Facts);

/// A change that makes a good machine another one.
pub fn machine(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = good();
    change(&mut facts);
    facts
}

/// For two shards, unless the configuration says otherwise.
pub fn report(facts: &Facts, connections: Option<u64>, change: impl FnOnce(&mut Config)) -> Report {
    let mut config = Config::default();
    config.server.shards = 2;
    change(&mut config);
    judge(facts, &Goal::new(facts, &config, connections))
}

fn found<'a>(report: &'a Report, name: &str) -> &'a Finding {
    &report.lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("no {name}")).finding
}

/// The machine cannot hold a million, and this check says why, with this remedy.
fn stopped(facts: &Facts, name: &str, connections_max: u64, remedy: &str) -> Report {
    let report = report(facts, Some(1_000_000), |_| {});
    assert!(!report.can_hold(), "{name}");
    assert_eq!(report.capacity.stopped_by.as_deref(), Some(name), "{}", report.text());
    assert_eq!(report.capacity.most, connections_max, "{name}");
    assert_eq!(report.lines[0].name, name, "what stops first is told first: {}", report.text());
    assert!(found(&report, name).remedy.contains(remedy), "{}", report.text());
    report
}

#[test]
fn a_good_machine_holds_a_million() {
    let report = report(&good(), Some(1_000_000), |_| {});
    assert!(report.can_hold(), "{}", report.text());
    assert!(report.lines.iter().all(|line| line.finding.verdict == Verdict::Ok), "{}", report.text());
    assert_eq!(report.capacity.most, 2 * (524_288 - 512));
    assert!(report.text().ends_with("What stops it first: RLIMIT_NOFILE, at 1,047,552.\n"), "{}", report.text());
}

#[test]
fn without_a_number_it_is_what_the_tables_hold() {
    let all = |change: fn(&mut Config)| {
        let report = report(&good(), None, change);
        assert!(report.can_hold(), "{}", report.text());
        report.capacity.wanted
    };
    assert_eq!(all(|_| {}), 1_047_552);
    assert_eq!(all(|config| config.server.shards = 3), 1_571_328);
    assert_eq!(all(|config| config.plane.connections_per_shard = 100), 200);
    assert_eq!(all(|config| config.limits.connections = 5_000), 5_000);
}

/// One below, one at the bound.
#[test]
fn the_bound_itself_is_held() {
    let facts = machine(|facts| facts.descriptors.hard = Limit(Some(20_000)));
    assert!(report(&facts, Some(38_976), |_| {}).can_hold());
    assert!(!report(&facts, Some(38_977), |_| {}).can_hold());
}

#[test]
fn few_descriptors() {
    let few = machine(|facts| facts.descriptors.hard = Limit(Some(20_000)));
    stopped(&few, "RLIMIT_NOFILE", 38_976, "; or --set plane.rings_per_shard=27");
    let mended = |change: fn(&mut Config)| {
        let report = report(&few, Some(1_000_000), change);
        assert!(report.can_hold(), "{}", report.text());
        assert!(report.text().contains("2 shards x 27 rings x 19,488 rows = 1,052,352"), "{}", report.text());
    };
    mended(|config| config.plane.rings_per_shard = 27);
    mended(|config| config.limits.connections = 1_000_000);
    // Rows that were configured are mended in the configuration.
    let report = report(&good(), Some(1_000_000), |config| config.plane.connections_per_shard = 1_000);
    assert!(found(&report, "RLIMIT_NOFILE").remedy.contains("plane.connections_per_shard=500000"), "{}", report.text());
}

#[test]
fn io_uring_is_forbidden() {
    let refusal = || Some((SetupCause::Forbidden, "forbidden (EPERM)".into()));
    let by_sysctl = machine(|facts| {
        facts.sysctls.insert("kernel.io_uring_disabled".into(), "2".into());
        facts.ring = RingFacts { refusal: refusal(), seccomp: Some(0), ..RingFacts::default() };
    });
    stopped(&by_sysctl, "io_uring allowed", 0, "sysctl -w kernel.io_uring_disabled=0");
    let by_filter = machine(|facts| {
        facts.ring = RingFacts { refusal: refusal(), seccomp: Some(2), ..RingFacts::default() };
    });
    let report = stopped(&by_filter, "io_uring allowed", 0, "seccomp");
    assert!(report.text().contains("no server starts (io_uring allowed)"), "{}", report.text());
}

#[test]
fn an_old_kernel() {
    let old = machine(|facts| {
        facts.kernel = "5.15.0-91-generic".into();
        facts.ring = RingFacts {
            features: vec![Feature { name: "a ring (6.0)".into(), fault: Some("EINVAL".into()) }],
            refusal: Some((SetupCause::Kernel, "the kernel lacks".into())),
            rehearsal: None,
            seccomp: Some(0),
        };
    });
    let report = stopped(&old, "kernel", 0, "newer kernel");
    assert!(found(&report, "kernel").value.contains("5.15.0-91-generic, without a ring (6.0)"), "{}", report.text());
}

#[test]
fn little_locked_memory() {
    let little = |change: fn(&mut Facts)| {
        machine(|facts| {
            facts.locked_memory = Limit(Some(65_536));
            change(facts);
        })
    };
    stopped(&little(|_| {}), "RLIMIT_MEMLOCK", 0, "LimitMEMLOCK");
    for free in [little(|facts| facts.has_ipc_lock = true), little(|facts| facts.kernel = "6.13.9".into())] {
        assert!(report(&free, Some(1_000_000), |_| {}).can_hold());
    }
}

#[test]
fn little_memory() {
    let goal = |facts: &Facts| report(facts, Some(1_000_000), |_| {}).capacity.most;
    let little = machine(|facts| facts.memory.available = 1 << 30);
    let report = stopped(&little, "memory", goal(&little), "more memory");
    assert!((150_000..250_000).contains(&report.capacity.most), "{}", report.text());
    let grouped = machine(|facts| facts.memory.group = Some(1 << 30));
    assert_eq!(goal(&grouped), goal(&little));
    assert!(stopped(&grouped, "memory", goal(&little), "MemoryMax=").text().contains("control group"));
}

#[test]
fn files_and_tracked_connections() {
    let files = machine(|facts| _ = facts.sysctls.insert("fs.file-max".into(), "100000".into()));
    stopped(&files, "fs.file-max", 100_000 - 2_000 - 16_384, "sysctl -w fs.file-max=1018384");
    let tracked = |count| {
        machine(|facts| {
            facts.sysctls.insert("net.netfilter.nf_conntrack_max".into(), "262144".into());
            facts.tracked = Some(count);
        })
    };
    stopped(&tracked(144), "net.netfilter.nf_conntrack_max", 262_000, "dport 8080 notrack");
    assert!(report(&tracked(0), Some(1_000_000), |_| {}).can_hold(), "loaded, but tracks nothing");
}

/// What stops first is told before what would stop later.
#[test]
fn the_lowest_bound_comes_first() {
    let poor = machine(|facts| {
        facts.descriptors.hard = Limit(Some(20_000));
        facts.sysctls.insert("fs.file-max".into(), "30000".into());
        facts.sysctls.insert("net.core.somaxconn".into(), "128".into());
        facts.governors = vec!["powersave".into(); 16];
    });
    let report = stopped(&poor, "fs.file-max", 30_000 - 2_000 - 16_384, "fs.file-max");
    let names: Vec<&str> = report.lines.iter().map(|line| line.name.as_str()).take(4).collect();
    assert_eq!(names, ["fs.file-max", "RLIMIT_NOFILE", "net.core.somaxconn", "CPU governor"]);
}

/// What can be better is advised, and stands in nobody's way.
#[test]
fn advice_has_a_remedy_and_stops_nobody() {
    let advised: [(&str, Change); 10] = [
        ("clock source", |facts| facts.clock_source = Some("hpet".into())),
        ("CPU governor", |facts| facts.governors[3] = "powersave".into()),
        ("transparent huge pages", |facts| facts.huge_pages = Some("[always] madvise never".into())),
        ("network queues", |facts| facts.interfaces[0].receive_queues = 1),
        ("dropped packets", |facts| facts.backlog_drops = 1),
        ("time", |facts| facts.is_clock_synchronised = Some(false)),
        ("server.data_dir", |facts| facts.data.fsync_ns = Ok(50_000_000)),
        ("http.listen", |facts| facts.listen.refusal = Some((std::io::ErrorKind::AddrInUse, "in use".into()))),
        ("net.ipv4.ip_local_port_range", |facts| {
            facts.sysctls.insert("net.ipv4.ip_local_port_range".into(), "1024 65535".into());
        }),
        ("kernel.numa_balancing", |facts| _ = facts.sysctls.insert("kernel.numa_balancing".into(), "1".into())),
    ];
    for (name, change) in advised {
        let report = report(&machine(change), Some(1_000_000), |_| {});
        assert!(report.can_hold(), "{name}");
        assert_eq!((report.lines[0].name.as_str(), report.lines[0].finding.verdict), (name, Verdict::Advice));
        assert!(!report.lines[0].finding.remedy.is_empty(), "{name}");
        assert_eq!(report.lines.iter().filter(|line| line.finding.verdict != Verdict::Ok).count(), 1, "{name}");
    }
}

#[test]
fn what_keeps_a_server_from_starting_is_a_problem() {
    let broken: [(&str, Change); 4] = [
        ("server.data_dir", |facts| facts.data.fsync_ns = Err("Permission denied".into())),
        ("http.listen", |facts| facts.listen.refusal = Some((std::io::ErrorKind::PermissionDenied, "no".into()))),
        ("rings", |facts| facts.ring.refusal = Some((SetupCause::Resources, "no memory".into()))),
        ("a connection through a ring", |facts| facts.ring.rehearsal = Some(Err("nothing is received".into()))),
    ];
    for (name, change) in broken {
        stopped(&machine(change), name, 0, "");
    }
}

#[test]
fn json_says_the_same() {
    let few = machine(|facts| facts.descriptors.hard = Limit(Some(20_000)));
    let report = report(&few, Some(1_000_000), |_| {});
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!((&json["canHold"], &json["connectionsMax"]), (&false.into(), &38_976.into()));
    assert_eq!(json["stoppedBy"], "RLIMIT_NOFILE");
    let first = &json["checks"][0];
    assert_eq!([&first["name"], &first["verdict"], &first["gain"]], ["RLIMIT_NOFILE", "problem", "connections"]);
    assert_eq!(json["checks"].as_array().map(Vec::len), Some(report.lines.len()));
}

#[test]
fn unreadable_machines_are_judged_too() {
    let bare = machine(|facts| {
        facts.kernel = "of unknown version".into();
        facts.sysctls.clear();
        facts.clock_source = None;
        facts.huge_pages = None;
        facts.governors.clear();
        facts.interfaces.clear();
        facts.is_clock_synchronised = None;
        facts.data.free_bytes = None;
    });
    assert_eq!(bare.kernel_version(), (0, 0));
    let report = report(&bare, Some(1_000_000), |_| {});
    assert!(report.can_hold(), "{}", report.text());
}

#[test]
fn a_certificate_is_looked_at() {
    let with = |days, warnings: &[&str]| {
        let warnings = warnings.iter().map(|text| (*text).into()).collect();
        machine(|facts| facts.certificate = Some(Certificate { file: "/etc/cert.pem".into(), days, warnings }))
    };
    let told = |facts: &Facts| report(facts, Some(1_000), |_| {});
    assert!(told(&good()).lines.iter().all(|line| line.name != "tls.cert_file"), "TLS is off");
    let fine = told(&with(Ok(60), &[]));
    assert!(fine.can_hold() && found(&fine, "tls.cert_file").value.contains("valid for 60 days"), "{}", fine.text());
    let late = told(&with(Ok(3), &["the certificate expires in 3 days"]));
    assert!(late.can_hold() && found(&late, "tls.cert_file").verdict == Verdict::Advice, "{}", late.text());
    let broken = told(&with(Err("tls.key_file: does not belong to the certificate".into()), &[]));
    assert!(!broken.can_hold(), "{}", broken.text());
    assert_eq!(broken.capacity.stopped_by.as_deref(), Some("tls.cert_file"));
}

/// Each connection is planned with its keys.
#[test]
fn tls_takes_memory() {
    let small = machine(|facts| facts.memory.available = 5 << 30);
    let most = |file: Option<&str>| {
        let report = report(&small, Some(1_000), |config| config.tls.cert_file = file.map(Into::into));
        found(&report, "memory").connections_max.unwrap()
    };
    let (plain, tls) = (most(None), most(Some("cert.pem")));
    assert!(tls > plain / 2 && tls < plain * 3 / 4, "{plain} {tls}");
}
