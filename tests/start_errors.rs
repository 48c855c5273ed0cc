//! What keeps a server from starting is told in a text that names cause and remedy, and by an exit code: 2 command, configuration
//! or key, 3 data, 4 io_uring forbidden, 5 port in use, 6 kernel, 7 limits, 8 address. A low descriptor limit keeps nobody from
//! starting: it makes a smaller server.
#[path = "reliability/support.rs"]
mod support;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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
    assert_eq!(code, Some(8), "{text}");
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

/// R-SEC-15. A certificate that has ended is no error: the server may come up before its renewal does.
#[test]
fn tls_files_that_cannot_be_used() {
    let files = TempDir::new().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let pair = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        fs::write(path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    };
    pair("one");
    pair("other");
    fs::write(path("empty"), "").unwrap();
    for (certificate, key, parts) in [
        ("missing", "one.key", &["tls.cert_file", "missing", "No such file"][..]),
        ("one.pem", "missing", &["tls.key_file", "missing", "No such file"]),
        ("empty", "one.key", &["tls.cert_file", "empty", "BEGIN CERTIFICATE"]),
        ("one.key", "one.key", &["tls.cert_file", "one.key", "no certificate"]),
        ("one.pem", "one.pem", &["tls.key_file", "one.pem", "no private key"]),
        ("one.pem", "other.key", &["tls.key_file", "other.key", "does not belong to the certificate"]),
    ] {
        let folder = TempDir::new().unwrap();
        let settings = [format!("tls.cert_file={}", path(certificate)), format!("tls.key_file={}", path(key))];
        let settings = Settings::new(1, &[&settings[0], &settings[1]]);
        let (code, text) = refused(&folder.path().join("data"), free_address(), &settings);
        assert_eq!(code, Some(2), "{certificate} {key}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{certificate} {key}: {text}");
        assert!(!folder.path().join("data").join("throng.db").exists(), "a refused start leaves nothing behind");
    }
    let folder = TempDir::new().unwrap();
    let half = format!("tls.cert_file={}", path("one.pem"));
    let (code, text) = refused(&folder.path().join("data"), free_address(), &Settings::new(1, &[&half]));
    assert!(code == Some(2) && text.contains("tls.key_file: is unset, but tls.cert_file is set"), "{text}");
}

/// Starts it behind a filter that answers io_uring_setup with this errno, as container runtimes do. The filter is the thread's, and
/// what it starts inherits it.
fn filtered<T: Send + 'static>(errno: i32, start: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(move || {
        const IO_URING_SETUP: i64 = 425;
        let rules = [(IO_URING_SETUP, vec![])].into_iter().collect();
        let architecture = std::env::consts::ARCH.try_into().unwrap();
        let refusal = SeccompAction::Errno(errno as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture).unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        start()
    })
    .join()
    .unwrap()
}

/// The server and `throng doctor` say the same.
#[test]
fn io_uring_forbidden_by_seccomp() {
    for (errno, name) in [(1, "EPERM"), (38, "ENOSYS")] {
        let folder = TempDir::new().unwrap();
        let start = command(&folder.path().join("data"), free_address(), &Settings::new(1, &[]));
        let (code, text) = filtered(errno, move || told(start));
        assert_eq!(code, Some(4), "{text}");
        assert!([name, "seccomp", "io_uring_setup", "Remedy"].iter().all(|part| text.contains(part)), "{text}");

        let mut doctor = Command::new(env!("CARGO_BIN_EXE_throng"));
        doctor.args(["doctor", "--connections", "10"]).current_dir(folder.path());
        let output = filtered(errno, move || doctor.output().unwrap());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with("problem  io_uring allowed") && text.contains("seccomp filter"), "{text}");
        assert!(text.ends_with("no server starts (io_uring allowed).\n"), "{text}");
    }
}

/// A kernel without io_uring also answers ENOSYS; without a filter it is the kernel that is blamed. Told by unit tests of
/// `plane/ring/setup.rs`, since no such kernel can be had here: what is left to see is that another refusal is no accusation.
#[test]
fn another_refusal_names_what_failed() {
    let folder = TempDir::new().unwrap();
    const EIO: i32 = 5;
    let start = command(&folder.path().join("data"), free_address(), &Settings::new(1, &[]));
    let (code, text) = filtered(EIO, move || told(start));
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("the data ring (io_uring_setup) failed") && !text.contains("seccomp"), "{text}");
}

/// Linux counts rings against the limit since 6.14, for users without CAP_IPC_LOCK. Both rings of a shard are made before the
/// start counts as done: with room for one of them only, the other is refused in the same way.
#[test]
fn little_locked_memory() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> =
        release.split(|c: char| !c.is_ascii_digit()).take(2).map(|part| part.parse().unwrap()).collect();
    let is_counted = version >= vec![6, 14];
    for (limit, ring) in [(65_536, "the data ring"), (900_000, "the host's ring")] {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let mut settings = Settings::new(1, &[]);
        settings.through = vec!["prlimit".into(), format!("--memlock={limit}:{limit}")];
        settings.through.extend(as_nobody());
        let data = folder.path().join("data");
        if !is_counted {
            settings.through.extend(["timeout", "--preserve-status", "3"].map(Into::into));
            let (code, text) = refused(&data, free_address(), &settings);
            assert_eq!(code, Some(0), "drained by the signal of timeout: {text}");
            continue;
        }
        let (code, text) = refused(&data, free_address(), &settings);
        assert_eq!(code, Some(7), "{text}");
        let parts = [ring, "ENOMEM", &format!("RLIMIT_MEMLOCK is {limit}"), "LimitMEMLOCK="];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// A program to be started through, so that it is a user without privileges of whom nobody else runs anything: locked memory is
/// counted by user. Root changes to such a user; anybody else is one.
fn as_nobody() -> Vec<String> {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let user = format!("--reuid={}", 60_000 + std::process::id() % 4_000);
    let words = ["setpriv", &user, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"];
    if is_root { words.map(Into::into).into() } else { Vec::new() }
}

/// 2 GiB of buffers do not fit into 1 GiB of address space.
#[test]
fn no_memory_for_buffers() {
    let folder = TempDir::new().unwrap();
    let buffers = ["plane.receive_buffers=32768", "plane.receive_buffer_bytes=65536"];
    let mut settings = Settings::new(1, &buffers);
    settings.through = vec!["prlimit".into(), format!("--as={}", 1u64 << 30)];
    let (code, text) = refused(&folder.path().join("data"), free_address(), &settings);
    assert_eq!(code, Some(7), "{text}");
    let parts = ["receive buffers", "ENOMEM", "ulimit -v", "plane.receive_buffers"];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

/// Fewer than the smallest table has rows, or so few that none is left for the rings.
#[test]
fn hardly_any_descriptors() {
    for limit in [63, 40, 24] {
        let folder = TempDir::new().unwrap();
        let mut settings = Settings::new(1, &[]);
        settings.through = vec!["prlimit".into(), format!("--nofile={limit}:{limit}")];
        let (code, text) = refused(&folder.path().join("data"), free_address(), &settings);
        assert_eq!(code, Some(7), "{limit}: {text}");
        assert!(text.contains(&format!("RLIMIT_NOFILE = {limit}")) && text.contains("LimitNOFILE="), "{text}");
    }
}

/// Unprivileged users may not have the lowest ports.
#[test]
fn a_privileged_port() {
    let lowest = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert!(lowest.trim().parse::<u16>().unwrap() > 81, "this machine gives every port to everyone");
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let mut settings = Settings::new(1, &[]);
    settings.through = as_nobody();
    let (code, text) = refused(&folder.path().join("data"), "127.0.0.1:81".parse().unwrap(), &settings);
    assert_eq!(code, Some(8), "{text}");
    assert!(text.contains("127.0.0.1:81") && text.contains("privileges"), "{text}");
}

/// A full table refuses the handshake and counts it; a place that becomes free is given to the next.
#[test]
fn a_full_table() {
    let server = Server::start_with(&Settings::new(1, &["plane.connections_per_shard=4"]));
    let mut clients: Vec<Client> = (0..4).map(|number| Client::connect(&server, &format!("user-{number}"))).collect();
    for refused in 1..=3 {
        let stream = connect_from(source_address(0), server.address).expect("accepted, if only to be refused");
        let head = Client::begin(&server, stream, Some("late")).head().expect("an answer");
        assert!(head.starts_with("HTTP/1.1 503 ") && head.to_lowercase().contains("\r\nretry-after: "), "{head}");
        assert_eq!(server.metric(r#"throng_handshakes_refused_total{reason="connections"}"#), refused);
    }
    clients[0].join("lobby", None);
    clients.pop();
    eventually("a free place", || Client::try_connect(&server, "next"));
}

/// A table larger than the limit on descriptors is cut down; never a crash later.
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

#[test]
fn the_manual_lists_every_exit_code() {
    use throng::boot::options as codes;
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATING.md")).unwrap();
    let all = [
        codes::EXIT_USAGE,
        codes::EXIT_DATA,
        codes::EXIT_FORBIDDEN,
        codes::EXIT_PORT_IN_USE,
        codes::EXIT_KERNEL,
        codes::EXIT_RESOURCES,
        codes::EXIT_ADDRESS,
        codes::EXIT_CRASH,
        codes::EXIT_AT_ONCE,
    ];
    for code in all {
        assert!(manual.contains(&format!("\n| {code} | ")), "{code}");
        assert_eq!(all.iter().filter(|other| **other == code).count(), 1, "{code} says one thing");
    }
}
