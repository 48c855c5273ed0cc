//! `throng doctor` as an operator meets it, and the script beside it. What it makes of other machines is told by unit tests on made-up
//! ones (`src/boot/doctor/made_up.rs`), and by `start_errors.rs` where io_uring is forbidden.
#[path = "reliability/support.rs"]
mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use support::Server;
use tempfile::TempDir;

/// In an empty folder and an empty environment, through `prlimit` if there is a limit.
fn doctor(folder: &Path, nofile: Option<u64>, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_throng");
    let mut command = match nofile {
        Some(limit) => {
            let mut command = Command::new("prlimit");
            command.arg(format!("--nofile={limit}:{limit}")).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.arg("doctor").args(arguments).current_dir(folder);
    command.env_remove("THRONG_CONFIG").output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn few_connections_fit_and_too_many_do_not() {
    let folder = TempDir::new().unwrap();
    let fits = doctor(folder.path(), Some(1_024), &["--connections", "1024", "--shards", "2"]);
    assert_eq!(fits.status.code(), Some(0), "{}", text(&fits));
    assert!(
        text(&fits)
            .contains("\nThis machine can hold 1,024 connections. What stops it first: RLIMIT_NOFILE, at 1,024.\n")
    );

    let one_more = doctor(folder.path(), Some(1_024), &["--connections", "1025", "--shards", "2"]);
    let told = text(&one_more);
    assert_eq!(one_more.status.code(), Some(1), "{told}");
    assert!(told.starts_with("problem  RLIMIT_NOFILE"), "{told}");
    assert!(told.contains("LimitNOFILE=1025") && told.contains("--set plane.rings_per_shard=2"), "{told}");
    assert!(
        told.ends_with("This machine cannot hold 1,025 connections. What stops it first: RLIMIT_NOFILE, at 1,024.\n")
    );

    // What it advises mends it.
    let rings = ["--connections", "1025", "--shards", "2", "--set", "plane.rings_per_shard=2"];
    let mended = doctor(folder.path(), Some(1_024), &rings);
    assert_eq!(mended.status.code(), Some(0), "{}", text(&mended));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it changes nothing");
}

/// The default: all that the tables hold, which is what a server says of itself when it starts.
#[test]
fn json_for_programs() {
    let folder = TempDir::new().unwrap();
    let output = doctor(folder.path(), Some(2_000), &["--json", "--shards", "2"]);
    let report: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!((&report["connections"], &report["connectionsMax"]), (&2_976.into(), &2_976.into()));
    assert_eq!((&report["canHold"], &report["stoppedBy"]), (&true.into(), &"RLIMIT_NOFILE".into()));
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        let text = |key: &str| check[key].as_str().unwrap_or_else(|| panic!("no {key}: {check}"));
        assert!(["ok", "advice", "problem"].contains(&text("verdict")), "{check}");
        assert!(!text("name").is_empty() && !text("value").is_empty() && !text("why").is_empty(), "{check}");
        assert_eq!(text("verdict") == "ok", text("remedy").is_empty(), "{check}");
    }
    let kernel = checks.iter().find(|check| check["name"] == "kernel").unwrap();
    assert!(kernel["value"].as_str().unwrap().contains("features of"), "{kernel}");
}

#[test]
fn usage_errors() {
    let folder = TempDir::new().unwrap();
    for arguments in [&["--connections", "0"][..], &["--connections", "many"], &["--set", "no.key=1"], &["--sudo"]] {
        let output = doctor(folder.path(), None, arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.starts_with(b"throng: "), "{output:?}");
    }
}

/// It looks at a machine while a server runs there: whose port is in use, and whose huge pages are off whatever the machine says.
#[test]
fn beside_a_running_server() {
    let server = Server::start(&[]);
    let listen = server.address.to_string();
    let data = server.data_dir();
    let output =
        doctor(&data, None, &["--connections", "10", "--listen", &listen, "--data-dir", data.to_str().unwrap()]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains(&format!("{listen} is in use (wanted: free, or Throng)")), "{told}");
    assert!(
        told.lines().any(|line| line.contains("transparent huge pages") && line.contains("off for this process")),
        "{told}"
    );
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    assert!(status.lines().any(|line| line == "THP_enabled:\t0"), "{status}");
}

/// A made-up machine: four cores, an interface with two queues each way, and one without hardware.
fn made_up_machine() -> TempDir {
    let root = TempDir::new().unwrap();
    let file = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    file("sys/devices/system/cpu/online", "0-3\n");
    for path in
        ["rx-0/rps_cpus", "rx-0/rps_flow_cnt", "rx-1/rps_cpus", "rx-1/rps_flow_cnt", "tx-0/xps_cpus", "tx-1/xps_cpus"]
    {
        file(&format!("sys/class/net/eth0/queues/{path}"), "0\n");
    }
    for interrupt in ["40", "41", "42"] {
        file(&format!("sys/class/net/eth0/device/msi_irqs/{interrupt}"), "");
        file(&format!("proc/irq/{interrupt}/smp_affinity_list"), "0\n");
    }
    file("proc/sys/net/core/rps_sock_flow_entries", "0\n");
    file("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n");
    root
}

fn irq(root: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/irq.sh"));
    command.args(arguments).env("SYSFS", root.join("sys")).env("PROCFS", root.join("proc"));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_script_shows_first_and_applies_when_told() {
    let root = made_up_machine();
    let value = |path: &str| fs::read_to_string(root.path().join(path)).unwrap().trim().to_owned();
    let wanted = [
        ("proc/irq/40/smp_affinity_list", "0"),
        ("proc/irq/41/smp_affinity_list", "1"),
        ("proc/irq/42/smp_affinity_list", "2"),
        ("proc/sys/net/core/rps_sock_flow_entries", "65536"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0000000f"),
        ("sys/class/net/eth0/queues/rx-1/rps_flow_cnt", "32768"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "00000005"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "0000000a"),
    ];
    let (code, shown) = irq(root.path(), &[]);
    assert_eq!(code, Some(0), "{shown}");
    for (path, to) in wanted {
        assert!(shown.contains(&format!("echo {to} > {}\n", root.path().join(path).display())), "{path}: {shown}");
        assert_eq!(value(path), "0", "shown, not done");
    }
    assert!(!shown.contains("/lo/") && shown.ends_with("--apply does it\n"), "{shown}");

    let (code, shown) = irq(root.path(), &["--apply"]);
    assert_eq!(code, Some(0), "{shown}");
    for (path, to) in wanted {
        assert_eq!(value(path), to, "{path}");
    }
}

#[test]
fn the_script_takes_cores_and_interfaces() {
    let root = made_up_machine();
    // As many queues as cores: interrupts do it all.
    let (code, shown) = irq(root.path(), &["--cores", "32-33", "eth0"]);
    assert_eq!(code, Some(0), "{shown}");
    let line = |value: &str, path: &str| format!("echo {value} > {}\n", root.path().join(path).display());
    assert!(shown.contains(&line("33", "proc/irq/41/smp_affinity_list")), "{shown}");
    assert!(shown.contains(&line("32", "proc/irq/42/smp_affinity_list")), "around: {shown}");
    assert!(shown.contains(&line("0", "sys/class/net/eth0/queues/rx-0/rps_cpus")), "{shown}");
    assert!(shown.contains(&line("00000002,00000000", "sys/class/net/eth0/queues/tx-1/xps_cpus")), "{shown}");
    for wrong in [&["eth9"][..], &["--cores", "a"], &["--cores"], &["--force"]] {
        assert_eq!(irq(root.path(), wrong).0, Some(2), "{wrong:?}");
    }
}
