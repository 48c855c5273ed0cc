//! The program as it is called: one command gives a result, files and an exit code.
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Killed by a test that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server of the same build.
fn server() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_throng-loadgen")).with_file_name("throng");
    assert!(program.is_file(), "{} is missing: build the whole workspace", program.display());
    program
}

fn call(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throng-loadgen")).args(arguments).output().expect("started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a scenario against a server of its own. Nothing is bound to cores: tests run beside each other.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let server = server();
    let fixed = ["--server", server.to_str().expect("text"), "--no-pin", "--out", folder.to_str().expect("text")];
    let output = call(&[&["run"], arguments, &fixed].concat());
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let result = std::fs::read_to_string(folder.join("result.json")).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output.status.code(), serde_json::from_str(&result).expect("JSON"), said)
}

/// The exit code is what the verdict says, whatever the machine that runs the test makes of it.
fn code_of(result: &Value) -> Option<i32> {
    match result["verdict"]["outcome"].as_str() {
        Some("passed") => Some(0),
        Some("missed") => Some(1),
        Some("invalid") => Some(2),
        _ => None,
    }
}

#[test]
fn one_command_gives_a_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let size = ["chat", "--connections", "100", "--duration", "2", "--warmup", "0.5", "--verify"];
    let (code, result, said) = run(folder.path(), &size);
    assert_eq!(code, code_of(&result), "{said}");
    assert_eq!(result["counts"]["connected"], 100);
    for (part, key) in [("integrity", "lost_durable"), ("integrity", "duplicated"), ("integrity", "reordered")] {
        assert_eq!(result[part][key], 0, "{said}");
    }
    let plain = &result["verification"];
    assert!(plain["acked"].as_u64() > Some(0) && plain["faults"] == 0, "{plain}");
    assert_eq!(plain["integrity"]["delivered"], plain["integrity"]["expected"]);
    assert!(plain["latency"]["durable"]["p50"].as_u64() > Some(1_000), "{plain}");
    let command = result["command"].as_str().expect("a command");
    assert!(command.starts_with("throng-loadgen run chat --connections 100 "), "{command}");
    assert!(folder.path().join("report.html").is_file());

    // The report can be made again, and says the same.
    std::fs::remove_file(folder.path().join("report.txt")).expect("removed");
    let again = call(&["report", folder.path().to_str().expect("text")]);
    assert_eq!(again.status.code(), code, "{}", text(&again.stderr));
    let table = std::fs::read_to_string(folder.path().join("report.txt")).expect("written anew");
    assert!(text(&again.stdout).starts_with(&table));
}

#[test]
fn throng_is_measured_as_a_socket_io_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let size = ["rooms", "--protocol", "socketio", "--connections", "60", "--duration", "2", "--warmup", "0.5"];
    let (code, result, said) = run(folder.path(), &size);
    assert_eq!(code, code_of(&result), "{said}");
    assert_eq!(result["counts"]["connected"], 60, "{said}");
    assert!(result["server_name"].as_str().is_some_and(|name| name.ends_with(" (socketio)")), "{said}");
    assert!(result["integrity"]["delivered"].as_u64() > Some(0), "{said}");
    assert_eq!(result["integrity"]["delivered"], result["integrity"]["expected"], "{said}");
    for key in ["lost_live", "duplicated", "reordered", "foreign", "unanswered"] {
        assert_eq!(result["integrity"][key], 0, "{key}: {said}");
    }
}

#[test]
fn slow_readers_are_closed_and_the_others_miss_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // 20 KB, 50 a second, to each: a queue and the kernel's buffers are full in a few seconds.
    let text = "name = 'slow'\nabout = 'test'\nconnections = 20\ntime = { warmup_s = 0, measure_s = 8 }\n\
         slow_readers = { count = 3, bytes_per_s = 0 }\nlayer = [{ name = 'room', members = 0 }]\n\
         [[traffic]]\nkind = 'live'\nlayer = 'room'\nsenders = 5\nrate_per_s = 10\npayload_bytes = 20000\n\
         [[traffic]]\nkind = 'durable'\nlayer = 'room'\nsenders = 1\nrate_per_s = 2\n\
         [server.set]\n'conn.out_queue_bytes' = '65536'\n'conn.write_timeout_ms' = '2000'\n";
    let scenario = folder.path().join("slow.toml");
    std::fs::write(&scenario, text).expect("written");
    let (_, result, said) = run(folder.path(), &[scenario.to_str().expect("text"), "--quiet"]);
    assert_eq!(result["integrity"]["closed_slow"], 3, "{said}");
    for key in ["lost_durable", "lost_live", "duplicated", "reordered"] {
        assert_eq!(result["integrity"][key], 0, "{said}");
    }
}

#[test]
fn a_bound_that_is_missed_is_exit_code_1_or_an_invalid_run_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let targets = folder.path().join("targets.toml");
    std::fs::write(&targets, "[echo]\n\"latency.p50_ms\" = { max = 0.000001 }\n").expect("written");
    let size = ["echo", "--connections", "20", "--duration", "1", "--warmup", "0.2", "--targets"];
    let (code, result, said) = run(folder.path(), &[&size[..], &[targets.to_str().expect("text")]].concat());
    assert_eq!(code, code_of(&result), "{said}");
    assert!(code == Some(1) || code == Some(2), "{said}");
    assert_eq!(result["verdict"]["misses"][0]["metric"], "latency.p50_ms", "{said}");
}

#[test]
fn mistakes_of_the_caller_are_exit_code_3() {
    for (arguments, word) in [
        (&["run"][..], "SCENARIO"),
        (&["run", "no-such"], "there are idle, storm"),
        (&["run", "chat", "--payload", "1"], "payload_bytes"),
        (&["run", "chat", "--server", "/no/such/program"], "/no/such/program"),
        (&["run", "chat", "--protocol", "socketio"], "durable messages"),
        (&["run", "rooms", "--protocol", "nchan"], "native, socketio"),
        (&["run", "chat", "--targets", "/no/such/file"], "/no/such/file"),
        (&["run", "chat", "--url", "wss://127.0.0.1:1"], "TLS"),
        (&["compare", "fanout", "--peers", "apache"], "tokio-tungstenite"),
        (&["compare", "chat", "--peers", "bun,ws"], "durable messages"),
        (&["capacity", "--rooms-of", "1"], "throng-loadgen: "),
        (&["report", "/no/such/folder"], "/no/such/folder"),
        (&["fly"], "fly"),
    ] {
        let output = call(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(word), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_server_that_is_not_there_is_an_invalid_run() {
    // Below the ephemeral range, and reserved.
    let output = call(&["run", "echo", "--url", "ws://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("127.0.0.1:1"), "{}", text(&output.stderr));
}

#[test]
fn help_and_lists_are_no_mistakes() {
    for (arguments, word) in [
        (&["--help"][..], "Exit codes"),
        (&["run", "--help"], "--rate-factor"),
        (&["--version"], "throng-loadgen"),
        (&["list"], "polling-baseline"),
        (&["list", "fanout"], "[[traffic]]"),
    ] {
        let output = call(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(word), "{arguments:?}: {}", text(&output.stdout));
    }
}

#[test]
fn an_interrupted_run_ends_in_order_and_is_invalid() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server();
    let child = Command::new(env!("CARGO_BIN_EXE_throng-loadgen"))
        .args(["run", "echo", "--connections", "10", "--duration", "600", "--warmup", "0", "--no-pin", "--server"])
        .arg(&server)
        .arg("--out")
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Running(child.expect("started"));
    // It says when it measures.
    let mut lines = BufReader::new(child.0.stderr.take().expect("piped")).lines();
    let is_measuring = lines.any(|line| line.is_ok_and(|line| line.starts_with("measure")));
    assert!(is_measuring, "it ended by itself");
    let interrupt = Command::new("kill").args(["-INT", &child.0.id().to_string()]).status().expect("kill");
    assert!(interrupt.success());
    assert_eq!(child.0.wait().expect("ended").code(), Some(2));
    let result = std::fs::read_to_string(folder.path().join("result.json")).expect("a result");
    let result: Value = serde_json::from_str(&result).expect("JSON");
    let reasons = result["verdict"]["invalid"].as_array().expect("reasons");
    assert!(reasons.iter().any(|reason| reason == "interrupted"), "{reasons:?}");
}
