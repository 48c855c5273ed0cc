//! A real server is started, watched, asked and ended.
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use throng_loadgen::server::{Attach, Launch, Process, Snapshot, attach, launch};

/// The server of this checkout, built like this test; at once if it is there already.
fn program() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--workspace", "--bin", "throng", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    // What cargo has set for this package would have others built again, which look at it.
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            build.env_remove(variable);
        }
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo").success());
    // target/debug/deps/launch-…
    let own = std::env::current_exe().expect("own path");
    own.ancestors().nth(2).expect("a profile's folder").join("throng")
}

#[test]
fn a_server_lives_for_a_run() {
    let parent = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("folder");
    let options = Launch {
        program: Some(program()),
        connections: 30_000,
        parent: Some(parent.path().to_path_buf()),
        ..Launch::default()
    };
    let (running, target) = launch(&options).expect("a server");
    let address = target.addresses[0];
    assert!(target.name.starts_with("throng "), "{}", target.name);
    assert_eq!((target.pid, target.sources.len()), (Some(running.pid()), 3));
    assert!(target.signer.token("u0").is_some());
    assert!(running.folder().starts_with(parent.path()));

    let process = Process::new(running.pid());
    let before = process.usage().expect("a process");
    let admin = target.admin.expect("pages");
    let earlier = Snapshot::fetch(&admin).expect("pages");
    let later = Snapshot::fetch(&admin).expect("pages");
    assert!(
        later.since(&earlier).total("throng_services_requests_total") >= Some(1.0),
        "the second request is in the difference"
    );
    assert!(later.shards() >= Some(1));
    assert!(["broadcast", "commit", "handshake", "turn"].iter().all(|name| later.histograms.contains_key(*name)));
    assert!(process.usage().expect("a process").since(&before).total_ns() > 0);
    assert!(process.rss_exact_bytes() > Some(1 << 20));

    // The same one, found from outside.
    let secret = running.folder().join("data/dev-secret.key");
    let options = Attach { url: format!("ws://{address}/ws"), secret_file: Some(secret), ..Attach::default() };
    let found = attach(&options).expect("the server");
    assert_eq!((found.pid, found.name), (target.pid, target.name));
    assert_eq!(found.admin, Some(admin));

    let folder = running.folder().to_path_buf();
    running.stop().expect("ends in order");
    assert!(!folder.exists());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_wrong_setting_is_told_in_the_servers_words() {
    let parent = tempfile::Builder::new().tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("folder");
    let mut options =
        Launch { program: Some(program()), parent: Some(parent.path().to_path_buf()), ..Launch::default() };
    options.settings.set.insert("limits.mesages".into(), "1".into());
    let error = launch(&options).err().expect("an error").to_string();
    assert!(error.contains("did not start") && error.contains("did you mean limits.messages?"), "{error}");
}
