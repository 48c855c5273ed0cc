//! What keeps a server from starting is told in a text that names cause and remedy, and by an exit code: 2 command, configuration
//! or key, 3 data, 5 address. A low descriptor limit keeps nobody from starting: it makes a smaller server.
#[path = "reliability/support.rs"]
mod support;

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Server, Settings, command, connect_from, eventually, free_address, source_address};
use tempfile::TempDir;

/// Starts a server that must not come up; exit code and text.
fn refused(data: &Path, address: SocketAddr, settings: &Settings) -> (Option<i32>, String) {
    told(command(data, address, settings))
}

fn told(mut command: Command) -> (Option<i32>, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it started: {}", String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty(), "an error is not an answer");
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code(), text)
}

#[test]
fn a_port_in_use() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let _other = TcpListener::bind(address).unwrap();
    let (code, text) = refused(&folder.path().join("data"), address, &Settings::new(1, &[]));
    assert_eq!(code, Some(5), "{text}");
    assert!(
        text.contains(&address.to_string()) && text.contains("in use") && text.contains("another server"),
        "{text}"
    );
}

/// The folder of a server that has come and gone.
fn left_in_order() -> (Arc<TempDir>, PathBuf) {
    let mut server = Server::start(&[]);
    server.signal(&["TERM"]);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    (server.folder(), server.data_dir())
}

/// Two shards of one server share a port; two servers must not.
#[test]
fn a_port_in_use_by_another_throng() {
    let (server, folder) = (Server::start(&[]), TempDir::new().unwrap());
    let (code, text) = refused(&folder.path().join("data"), server.address, &Settings::new(2, &[]));
    assert_eq!(code, Some(5), "{text}");
    let (code, text) = refused(
        &folder.path().join("data"),
        free_address(),
        &Settings::new(2, &[&format!("admin.listen={}", server.admin)]),
    );
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains(&server.admin.to_string()) && text.contains("in use"), "{text}");
    Client::connect(&server, "anna");
}

#[test]
fn an_address_of_another_machine() {
    let folder = TempDir::new().unwrap();
    let address = "192.0.2.1:20001".parse().unwrap();
    let (code, text) = refused(&folder.path().join("data"), address, &Settings::new(1, &[]));
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("192.0.2.1:20001") && text.contains("no interface"), "{text}");
}

/// One process at a time: a second one on the same data would break the order of rooms.
#[test]
fn a_data_folder_in_use() {
    let server = Server::start(&[]);
    let (code, text) = refused(&server.data_dir(), free_address(), &Settings::new(1, &[]));
    assert_eq!(code, Some(3), "{text}");
    let folder = server.data_dir().display().to_string();
    assert!(["another process", "stop it", "--data-dir", &folder].iter().all(|part| text.contains(part)), "{text}");
    let mut client = Client::connect(&server, "anna");
    client.join("lobby", None);
    client.request("chat_message", serde_json::json!({"roomId": "lobby", "message": "undisturbed"}));
}

/// The lock goes with the process, even one that was killed.
#[test]
fn a_data_folder_left_behind_by_a_kill() {
    let server = Server::start(&[]);
    let folder = server.folder();
    server.kill();
    Client::connect(&Server::start_in(folder, &Settings::new(2, &[])), "anna");
}

/// By a file in its place, which also stops a test run by root.
#[test]
fn a_data_folder_that_cannot_be_made() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let data = folder.path().join("file/data");
    let (code, text) = refused(&data, free_address(), &Settings::new(1, &[]));
    assert!(matches!(code, Some(2 | 3)), "{code:?} {text}");
    assert!(text.contains(&data.display().to_string()) && text.contains("--data-dir"), "{text}");
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    let (folder, data) = left_in_order();
    fs::set_permissions(&data, Permissions::from_mode(0o500)).unwrap();
    let mut settings = Settings::new(1, &[]);
    if fs::write(data.join("probe"), "").is_ok() {
        // Root may write anywhere; without its capabilities it is like anybody else.
        settings.through = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"].map(Into::into).into();
    }
    let (code, text) = refused(&data, free_address(), &settings);
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(&data.display().to_string()) && text.contains("--data-dir"), "{text}");
    drop(folder);
}

/// An older program must not touch the data of a newer one.
#[test]
fn a_database_of_a_newer_version() {
    let (folder, data) = left_in_order();
    let database = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let database =
        database.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).expect("a database");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 9_999).unwrap();
    let (code, text) = refused(&data, free_address(), &Settings::new(1, &[]));
    assert_eq!(code, Some(3), "{text}");
    let folder_name = data.display().to_string();
    assert!(["9999", "newer program", "--data-dir", &folder_name].iter().all(|part| text.contains(part)), "{text}");
    drop(folder);
}

#[test]
fn a_database_that_is_none() {
    let (folder, data) = left_in_order();
    for entry in fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|end| end == "db") {
            fs::write(&entry, "no database, but long enough to look like one ".repeat(200)).unwrap();
        }
    }
    let (code, text) = refused(&data, free_address(), &Settings::new(1, &[]));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(&data.display().to_string()) && text.contains("--data-dir"), "{text}");
    drop(folder);
}

/// R-AUTH-2: no key, no start.
#[test]
fn no_key() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
    command
        .args(["serve", "--listen", &free_address().to_string(), "--data-dir"])
        .arg(folder.path().join("data"))
        .env_clear();
    let (code, text) = told(command);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("auth.secret_file") && text.contains("JWT_SECRET") && text.contains("--dev"), "{text}");
    assert!(!folder.path().join("data").exists(), "a refused start leaves nothing behind");
}

#[test]
fn a_broken_setting() {
    for (set, parts) in [
        ("limits.conections=1", &["limits.conections", "did you mean limits.connections?"][..]),
        ("drain.batch=many", &["drain.batch", "whole number"]),
        ("conn.out_queue_bytes=2048", &["conn.out_queue_bytes", "ws.max_message_bytes"]),
        ("drain.batch", &["KEY=VALUE"]),
    ] {
        let folder = TempDir::new().unwrap();
        let (code, text) = refused(&folder.path().join("data"), free_address(), &Settings::new(1, &[set]));
        assert_eq!(code, Some(2), "{set}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{set}: {text}");
        assert!(!folder.path().join("data").exists(), "{set}: a refused start leaves nothing behind");
    }
}

/// A table larger than the limit on descriptors is refused by the ring (exit code 4) or cut down; never a crash later.
#[test]
fn a_low_descriptor_limit_makes_a_smaller_server() {
    let mut settings = Settings::new(1, &[]);
    settings.through = ["prlimit", "--nofile=200:200"].map(Into::into).into();
    let server = Server::start_with(&settings);
    let mut clients = Vec::new();
    let refusal = loop {
        assert!(clients.len() < 200, "more connections than the table can hold");
        let stream = connect_from(source_address(0), server.address).expect("accepted, if only to be refused");
        let mut client = Client::begin(&server, stream, Some(&format!("user-{}", clients.len())));
        let head = client.head().expect("an answer");
        if !head.starts_with("HTTP/1.1 101 ") {
            break head;
        }
        client.wait_for("connection_established").expect("signed in");
        clients.push(client);
    };
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.to_lowercase().contains("\r\nretry-after: "), "{refusal}");
    assert!(clients.len() >= 32, "a table of {} is too small to be of use", clients.len());
    // Those who are in are served, and a place that becomes free is given to the next.
    clients[0].join("lobby", None);
    clients.pop();
    eventually("a free place", || Client::try_connect(&server, "next"));
}
