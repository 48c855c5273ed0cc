//! The server as a process of its own: started, killed, and started again on the same data and port.
use super::{PATIENCE, next_port};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;
use tempfile::TempDir;

/// The server's exit code for a port in use.
const PORT_IN_USE: i32 = 5;
const LOG: &str = "stderr.log";

/// `THRONG_BIN`, or the server of this checkout, built like this test; at once if it is there already.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("THRONG_BIN") {
            return PathBuf::from(given);
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--bin", "throng", "--manifest-path"]);
        build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"));
        // What cargo has set for this package would have others built again, which look at it.
        for (variable, _) in std::env::vars_os() {
            if variable
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
            {
                build.env_remove(variable);
            }
        }
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo").success());
        // target/debug/deps/moments-…
        let own = std::env::current_exe().expect("own path");
        own.ancestors().nth(2).expect("a profile's folder").join("throng")
    })
}

#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    folder: TempDir,
    settings: Vec<String>,
    state: Mutex<State>,
}

struct State {
    process: Option<Child>,
    port: u16,
}

impl Server {
    /// In development mode, without limits on rates. `settings`: `section.key=value`. Ready for connections when it returns.
    pub fn start(settings: &[&str]) -> Server {
        let folder = TempDir::new().expect("a folder");
        let generous = [
            "limits.messages=0",
            "limits.commands=0",
            "limits.connections_per_ip=0",
            "limits.handshakes_per_ip=0",
            "plane.connections_per_shard=2048",
        ];
        let settings = generous.iter().chain(settings).map(|setting| setting.to_string()).collect();
        let inner = Inner { folder, settings, state: Mutex::new(State { process: None, port: 0 }) };
        while inner.state().process.is_none() {
            let port = next_port();
            let process = inner.spawn(port);
            *inner.state() = State { process, port };
        }
        Server { inner: Arc::new(inner) }
    }

    pub fn port(&self) -> u16 {
        self.inner.state().port
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port())
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.aside(Inner::kill).await;
    }

    /// SIGTERM; its exit code.
    pub async fn drain(&self) -> Option<i32> {
        self.aside(Inner::drain).await
    }

    /// After `kill` or `drain`, on the same data and port.
    pub async fn start_again(&self) {
        self.aside(Inner::start_again).await;
    }

    /// Clients and network go on meanwhile.
    async fn aside<T: Send + 'static>(&self, act: fn(&Inner) -> T) -> T {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || act(&inner)).await.expect("no panic")
    }

    pub fn token(&self, user: &str) -> String {
        self.token_for(user, "1h")
    }

    pub fn token_for(&self, user: &str, ttl: &str) -> String {
        let mut command = Command::new(program());
        command.args(["token", "--user", user, "--ttl", ttl, "--data-dir"]).arg(self.inner.folder.path());
        let output = command.stderr(Stdio::null()).output().expect("the built binary");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("a token").trim().to_owned()
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn kill(&self) {
        let mut process = self.state().process.take().expect("a running server");
        process.kill().expect("a process");
        process.wait().expect("its end");
        self.check_log();
    }

    fn drain(&self) -> Option<i32> {
        let mut process = self.state().process.take().expect("a running server");
        let status = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().expect("kill");
        assert!(status.success());
        let code = process.wait().expect("its end").code();
        self.check_log();
        code
    }

    fn start_again(&self) {
        let port = self.state().port;
        // The kernel gives a killed process's rings back after its end, and the listener with them: the port is free a little later.
        let mut again = (0..200).map(|_| {
            let process = self.spawn(port);
            if process.is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
            process
        });
        let process = again.find_map(|process| process).expect("the port is free again");
        self.state().process = Some(process);
    }

    /// None: the port is taken.
    fn spawn(&self, port: u16) -> Option<Child> {
        let log = self.folder.path().join(LOG);
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let mut command = Command::new(program());
        command.args(["serve", "--dev", "--shards", "2", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]);
        command.arg(self.folder.path());
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = command.spawn().expect("the built binary");
        let (is_ready, ready) = mpsc::channel();
        let stdout = process.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.contains("is ready") {
                    let _ = is_ready.send(());
                }
            }
        });
        if ready.recv_timeout(PATIENCE).is_ok() {
            return Some(process);
        }
        let _ = process.kill();
        let status = process.wait().expect("its end");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert_eq!(status.code(), Some(PORT_IN_USE), "the server did not start: {log}");
        None
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default()
    }

    fn check_log(&self) {
        let log = self.log();
        assert!(!log.contains("panicked"), "the server panicked:\n{log}");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(mut process) = self.state().process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        } else {
            self.check_log();
        }
    }
}
