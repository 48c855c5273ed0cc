//! The whole program against a server that breaks one delivery: the run never passes, and says what was broken.
#[path = "broken_server/mod.rs"]
mod server;

use serde_json::Value;
use server::{Breakage, BrokenServer, Fault};
use std::process::Command;

const SCENARIO: &str = "name = 'caught'\nabout = 'one room of twelve, live and durable'\nconnections = 12\n\
    time = { warmup_s = 0.2, measure_s = 3, settle_s = 2 }\n[[layer]]\nname = 'room'\nmembers = 12\n\
    [[traffic]]\nkind = 'live'\nlayer = 'room'\nsenders = 4\nrate_per_s = 50\narrival = 'uniform'\n\
    [[traffic]]\nkind = 'durable'\nlayer = 'room'\nsenders = 4\nrate_per_s = 25\n";
/// Of some 11,000 deliveries that are live and durable alternately; the fault comes in the middle of the run.
const PERIOD: u64 = 5_000;

/// Exit code, the result's integrity and verdict, and the server's own count of what it broke.
fn run(fault: Option<Fault>) -> (i32, Value, u64) {
    let broken = BrokenServer::start(fault.map(|fault| Breakage { fault, period: PERIOD }));
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("caught.toml");
    std::fs::write(&scenario, SCENARIO).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_throng-loadgen"))
        .args(["run", scenario.to_str().expect("text"), "--no-pin", "--quiet", "--url", &broken.url(), "--out"])
        .arg(folder.path())
        .output()
        .expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    let result = std::fs::read_to_string(folder.path().join("result.json")).unwrap_or_else(|e| panic!("{e}: {said}"));
    (output.status.code().expect("an exit code"), serde_json::from_str(&result).expect("JSON"), broken.faults())
}

fn found(result: &Value, kind: &str) -> u64 {
    result["integrity"][kind].as_u64().expect("a count")
}

/// A broken run is never a pass: missed, or on a crowded machine invalid besides; the counts tell in either case.
fn caught(fault: Fault, kinds: &[&str]) {
    let (code, result, faults) = run(Some(fault));
    assert!(faults > 0, "the server has had its chance");
    let count: u64 = kinds.iter().map(|kind| found(&result, kind)).sum();
    assert_eq!(count, faults, "{}", result["integrity"]);
    assert!(matches!(code, 1 | 2), "{code}");
    assert_ne!(result["verdict"]["outcome"], "passed");
    let misses = result["verdict"]["misses"].to_string();
    assert!(kinds.iter().any(|kind| misses.contains(kind.split('_').next().expect("a word"))), "{misses}");
}

#[test]
fn a_correct_server_is_not_accused() {
    let (_, result, faults) = run(None);
    assert_eq!(faults, 0);
    for kind in ["lost_live", "lost_durable", "duplicated", "reordered", "foreign", "offset_faults", "unanswered"] {
        assert_eq!(found(&result, kind), 0, "{}", result["integrity"]);
    }
    assert!(found(&result, "delivered") > PERIOD);
    assert_eq!(found(&result, "delivered"), found(&result, "expected"));
    assert_eq!(result["verdict"]["misses"].as_array().map(Vec::len), Some(0), "{}", result["verdict"]);
}

#[test]
fn a_lost_delivery_is_caught() {
    caught(Fault::Drop, &["lost_live", "lost_durable"]);
}

#[test]
fn a_doubled_delivery_is_caught() {
    caught(Fault::Repeat, &["duplicated"]);
}

#[test]
fn swapped_deliveries_are_caught() {
    caught(Fault::Swap, &["reordered"]);
}

#[test]
fn a_delay_that_lets_others_pass_is_caught() {
    caught(Fault::Overtake, &["reordered"]);
}
