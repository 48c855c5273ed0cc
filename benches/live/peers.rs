//! The servers under comparison: how each is started, on which core, and how it ends.
use crate::workload::Workload;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const SERVER_CORE: &str = "0";
pub const CLIENT_CORE: &str = "1";
/// Below the ephemeral range, so that no client's own port can be in the way.
const PORTS: std::ops::Range<u16> = 21_000..29_000;
const START: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Throng,
    Bun,
    Floor,
}

impl Peer {
    pub const ALL: [Peer; 3] = [Peer::Throng, Peer::Bun, Peer::Floor];

    pub const fn name(self) -> &'static str {
        match self {
            Peer::Throng => "throng",
            Peer::Bun => "bun",
            Peer::Floor => "floor",
        }
    }
}

/// Where the programs are.
pub struct Programs {
    pub throng: PathBuf,
    pub bun: PathBuf,
    /// Whether servers and client get a core each.
    pub is_pinned: bool,
}

/// A running server; ends with this value.
pub struct Server {
    pub peer: Peer,
    pub address: SocketAddr,
    child: Child,
    /// Database and keys of Throng, its log beside them.
    folder: tempfile::TempDir,
}

impl Server {
    pub fn start(programs: &Programs, peer: Peer, workload: &Workload) -> Result<Server, String> {
        // Beside the build, not in /tmp, which may be memory: a commit must reach a disk.
        let folder = tempfile::Builder::new().prefix("live-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.map_err(|e| format!("{}: {e}", env!("CARGO_TARGET_TMPDIR")))?;
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = match peer {
            Peer::Throng => {
                let mut command = programs.command(&programs.throng);
                command.args(["serve", "--dev", "--shards", "1", "--listen", &address.to_string(), "--data-dir"]);
                command.arg(folder.path().join("data"));
                for limit in LIMITS_OFF {
                    command.args(["--set", &format!("limits.{limit}=0")]);
                }
                command
            }
            Peer::Bun => {
                let mut command = programs.command(&programs.bun);
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/loadgen/peers/bun.js")).arg(port.to_string());
                command
            }
            Peer::Floor => {
                let own = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
                let script = workload.script();
                let mut command = programs.command(&own);
                command.args(["--floor-server", &port.to_string(), &script.reply]).args(script.joined);
                command
            }
        };
        let log = std::fs::File::create(folder.path().join("log")).map_err(|e| format!("log: {e}"))?;
        let errors = log.try_clone().map_err(|e| format!("log: {e}"))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let mut server = Server { peer, address, child, folder };
        server.await_listening()?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// An error with what the server had to say about it.
    pub fn explain(&mut self, error: String) -> String {
        let state = match self.child.try_wait() {
            Ok(Some(status)) => format!("; the server had ended, {status}"),
            _ => String::new(),
        };
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(12).collect();
        let tail: String = tail.iter().rev().map(|line| format!("\n    | {line}")).collect();
        format!("{}: {error}{state}{tail}", self.peer.name())
    }

    fn await_listening(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) || start.elapsed() > START {
                return Err(self.explain("did not start".into()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Limits against abuse: a load generator is what they are made to stop.
const LIMITS_OFF: [&str; 6] =
    ["commands", "live", "messages", "connections_per_ip", "handshakes_per_ip", "connections_per_user"];

impl Programs {
    /// A program on the server's core that does not outlive us. Both tools replace themselves by the program, so the
    /// process id is the server's own.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.is_pinned {
            command.args(["taskset", "-c", SERVER_CORE]);
        }
        command.arg(program);
        command
    }

    /// Two cores and `taskset`: otherwise server and client share what there is.
    pub fn can_pin() -> bool {
        std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2)
            && Command::new("taskset").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

fn free_port() -> Result<u16, String> {
    // Start at another place each time: a port just left may still be closing.
    let offset = (std::process::id() as u16).wrapping_add(elapsed_salt()) % PORTS.len() as u16;
    let mut ports = (0..PORTS.len() as u16).map(|n| PORTS.start + (offset + n) % PORTS.len() as u16);
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).ok_or("no free port".into())
}

fn elapsed_salt() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static STARTED: AtomicU16 = AtomicU16::new(0);
    STARTED.fetch_add(17, Ordering::Relaxed)
}
