//! A server of the test's own, in a folder of its own.
use super::{PATIENCE, eventually};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use throng::boot::dev::{Claims, DevKey};

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shards: u16,
    /// `key=value`, as for `--set`.
    pub set: Vec<String>,
    /// The built binary, unless another is given.
    pub binary: PathBuf,
    /// Programs to be started through, for example `prlimit`, with their arguments.
    pub through: Vec<String>,
}

/// Limits that stand in the way of tests which are not about them.
const UNLIMITED: [&str; 9] = [
    "limits.connections_per_ip=0",
    "limits.handshakes_per_ip=0",
    "limits.unauthenticated=0",
    "limits.connections_per_user=0",
    "limits.rooms_created=0",
    "limits.live=0",
    "limits.messages=0",
    "limits.commands=0",
    "server.log=warn",
];

impl Settings {
    /// Without limits.
    pub fn new(shards: u16, set: &[&str]) -> Settings {
        Settings {
            shards,
            set: UNLIMITED.iter().chain(set).map(|text| (*text).into()).collect(),
            binary: env!("CARGO_BIN_EXE_throng").into(),
            through: Vec::new(),
        }
    }
}

pub struct Server {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where numbers are served, out of the way of connection limits.
    pub admin: SocketAddr,
    key: DevKey,
    folder: Arc<TempDir>,
    log: PathBuf,
}

impl Server {
    /// A server with one shard per core of the usual test machine and without limits.
    pub fn start(set: &[&str]) -> Server {
        Server::start_with(&Settings::new(2, set))
    }

    pub fn start_with(settings: &Settings) -> Server {
        Server::start_in(Arc::new(TempDir::new().unwrap()), settings)
    }

    /// Starts on the data of an earlier server, and waits until it is ready.
    pub fn start_in(folder: Arc<TempDir>, settings: &Settings) -> Server {
        for _ in 0..50 {
            if let Some(server) = Server::try_start(&folder, settings) {
                return server;
            }
        }
        panic!("no free port");
    }

    /// None if somebody else was faster to take the port.
    fn try_start(folder: &Arc<TempDir>, settings: &Settings) -> Option<Server> {
        let (address, admin) = (free_address(), free_address());
        let log = folder.path().join(format!("log-{}", address.port()));
        let child = command(&data_of(folder), address, settings)
            .arg("--set")
            .arg(format!("admin.listen={admin}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut child = Guard(Some(child));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.0.as_mut().unwrap().try_wait().unwrap() {
                let text = fs::read_to_string(&log).unwrap();
                assert_eq!(status.code(), Some(5), "the server did not start: {text}");
                return None;
            }
            if get(admin, "/readyz").is_some_and(|(status, _)| status == 200) {
                break;
            }
            assert!(Instant::now() < deadline, "never ready: {}", fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        let key = DevKey::load(&data_of(folder)).unwrap();
        Some(Server { child: child.0.take().unwrap(), address, admin, key, folder: folder.clone(), log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder with its data, which outlives the server as long as somebody holds it.
    pub fn folder(&self) -> Arc<TempDir> {
        self.folder.clone()
    }

    pub fn data_dir(&self) -> PathBuf {
        data_of(&self.folder)
    }

    /// A sign-in token, valid for an hour.
    pub fn token(&self, user: &str) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.key.sign(&Claims { user_id: user, ..Claims::default() }, now_s, 3_600).unwrap()
    }

    /// Sends signals, one right after the other.
    pub fn signal(&self, names: &[&str]) {
        let script: Vec<String> = names.iter().map(|name| format!("kill -{name} {}", self.pid())).collect();
        assert!(Command::new("sh").arg("-c").arg(script.join(" && ")).status().unwrap().success());
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended. Call it after a signal that ends it.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the server's end", || self.child.try_wait().unwrap())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Status and body of an operator's page; none if there was no answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.admin, path)
    }

    /// One number of `/metrics`, named with its labels as it stands there; for a gauge by shard, the sum over all.
    pub fn metric(&self, name: &str) -> u64 {
        let (status, text) = self.get("/metrics").expect("metrics");
        assert_eq!(status, 200, "{text}");
        let values = text.lines().filter_map(|line| {
            let (found, value) = line.rsplit_once(' ')?;
            (found == name || found.strip_prefix(name)?.starts_with("{shard=")).then(|| value.parse::<f64>().unwrap())
        });
        let values: Vec<f64> = values.collect();
        assert!(!values.is_empty(), "no {name} in {text}");
        values.iter().sum::<f64>() as u64
    }

    pub fn stats(&self) -> Value {
        serde_json::from_str(&self.get("/stats").expect("stats").1).unwrap()
    }

    /// A number of `/stats` summed over all shards.
    pub fn shard_sum(&self, key: &str) -> u64 {
        self.stats()["shards"].as_array().unwrap().iter().map(|shard| shard[key].as_u64().expect(key)).sum()
    }

    /// Anonymous resident bytes: the process's own, as the file-backed ones come and go with the page cache.
    pub fn memory_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    /// The most that was ever resident.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ordinary descriptors in use.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("--- the server's log, last lines ---\n{}", &log[log.len() - log.len().min(4_000)..]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a child that never became a server.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn data_of(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

/// `throng serve --dev` with these settings, not yet started; for tests of starts that fail.
pub fn command(data: &Path, address: SocketAddr, settings: &Settings) -> Command {
    let mut words: Vec<OsString> = settings.through.iter().map(Into::into).collect();
    words.push(settings.binary.clone().into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["serve", "--dev", "--listen", &address.to_string(), "--data-dir"]).arg(data);
    command.args(["--shards", &settings.shards.to_string()]);
    settings.set.iter().for_each(|pair| _ = command.args(["--set", pair]));
    // The environment is configuration.
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// An address that nobody listens on, with a port below those that the system gives to connecting sockets.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Relaxed) * 131);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, (20_000 + number % 12_000) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
