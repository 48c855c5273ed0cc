//! The built server as a process of its own, and clients that speak to it over real sockets.
//!
//! What a client reads is checked on the way in: the envelope of every message (R-ENV-1), the shape and text of every error
//! (product section 3.3). Waiting ends by a message or by a generous timeout, never by a guess at how long something takes.
#![allow(dead_code, reason = "each test file uses its part")]
mod client;
mod engine;
mod errors;
mod http;
mod tls;
mod tokens;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use {
    client::{Client, frame, text_frame},
    engine::{EIO, Http, Packets, Socket, polling},
    errors::check_error,
    http::{Response, upgrade_request},
    tls::{Certificate, Tls, free_port, secure},
    tokens::{TokenFault, now_s},
};

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;
use throng::boot::dev::{Claims, DevKey};

/// Nothing here takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// No limits on rates: for tests that are about something else.
pub const UNLIMITED: [&str; 2] = ["limits.messages=0", "limits.commands=0"];

/// A running server; killed, and searched for signs of a panic, when dropped.
pub struct Server {
    process: Child,
    pub port: u16,
    shards: u16,
    settings: Vec<String>,
    folder: TempDir,
    key: DevKey,
    /// It was asked to end, and has.
    has_ended: bool,
}

impl Server {
    /// Two shards, in development mode. `settings`: `section.key=value`. The limits per address are off unless named, since all
    /// clients have the same one.
    pub fn start(settings: &[&str]) -> Server {
        Server::with_shards(2, settings)
    }

    /// See `start`; no limits on messages and commands.
    pub fn unlimited(settings: &[&str]) -> Server {
        Server::start(&[settings, &UNLIMITED].concat())
    }

    pub fn with_shards(shards: u16, settings: &[&str]) -> Server {
        let folder = TempDir::new().unwrap();
        let mut settings: Vec<String> = settings.iter().map(|setting| setting.to_string()).collect();
        for key in ["limits.connections_per_ip", "limits.handshakes_per_ip"] {
            if !settings.iter().any(|setting| setting.split('=').next() == Some(key)) {
                settings.push(format!("{key}=0"));
            }
        }
        loop {
            let port = next_port();
            if let Some(process) = spawn(port, shards, &settings, folder.path()) {
                let key = DevKey::load(folder.path()).unwrap();
                return Server { process, port, shards, settings, folder, key, has_ended: false };
            }
        }
    }

    /// Kills the server (SIGKILL) and starts another one on the same data and port.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.start_again();
    }

    /// The same, in order: SIGTERM, and a wait for its end.
    pub fn restart_in_order(&mut self) {
        self.signal("-TERM");
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
        self.start_again();
    }

    fn start_again(&mut self) {
        self.process.wait().unwrap();
        self.check_log();
        // The kernel gives the killed process's rings back after its end, and the listener with them: the port is free a little later.
        let mut again = (0..100).map(|_| {
            let process = spawn(self.port, self.shards, &self.settings, self.folder.path());
            if process.is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
            process
        });
        self.process = again.find_map(|process| process).expect("the port is free again");
    }

    /// A token of this user, valid for an hour.
    pub fn token(&self, user: &str) -> String {
        self.sign(&Claims { user_id: user, ..Claims::default() })
    }

    /// With a `role` claim (R-ID-3).
    pub fn token_as(&self, user: &str, role: &str) -> String {
        self.sign(&Claims { user_id: user, role: Some(role), ..Claims::default() })
    }

    /// R-ROOM-2.
    pub fn room_token(&self, user: &str, room: &str, role: Option<&str>) -> String {
        self.sign(&Claims { user_id: user, room_id: Some(room), role, ..Claims::default() })
    }

    pub fn sign(&self, claims: &Claims) -> String {
        self.key.sign(claims, now_s(), 3_600).unwrap()
    }

    /// A token with exactly these claims, signed under the development key.
    pub fn sign_raw(&self, claims: &Value) -> String {
        tokens::sign(&self.secret(), &tokens::header("HS256", Some("dev")), claims)
    }

    pub fn secret(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join(DevKey::FILE)).unwrap().trim_ascii().to_vec()
    }

    /// A signed-in client that has read its `connection_established`.
    pub fn client(&self, user: &str) -> Client {
        self.client_by(&self.token(user))
    }

    pub fn client_as(&self, user: &str, role: &str) -> Client {
        self.client_by(&self.token_as(user, role))
    }

    pub fn client_by(&self, token: &str) -> Client {
        let mut client = self.stranger_with(&[("Authorization", &format!("Bearer {token}"))]);
        client.greet();
        client
    }

    /// A connection without a token.
    pub fn stranger(&self) -> Client {
        self.stranger_with(&[])
    }

    /// A connection whose upgrade request had these headers; nothing was read.
    pub fn stranger_with(&self, headers: &[(&str, &str)]) -> Client {
        match Client::open(self.tcp(), self.port, "/ws", headers) {
            Ok(client) => client,
            Err(response) => panic!("not upgraded: {response:?}"),
        }
    }

    /// An upgrade of this path with these headers: a connection, or the refusal.
    pub fn try_open(&self, path: &str, headers: &[(&str, &str)]) -> Result<Client, Response> {
        Client::open(self.tcp(), self.port, path, headers)
    }

    /// The same from 127.0.0.`host`.
    pub fn try_open_from(&self, host: u8, headers: &[(&str, &str)]) -> Result<Client, Response> {
        Client::open(self.tcp_from(host), self.port, "/ws", headers)
    }

    pub fn tcp(&self) -> TcpStream {
        self.tcp_from(1)
    }

    pub fn tcp_from(&self, host: u8) -> TcpStream {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address = |host, port| SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), port));
        if host != 1 {
            socket.bind(&address(host, 0).into()).unwrap();
        }
        socket.connect(&address(1, self.port).into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One HTTP exchange: these bytes, then whatever comes back.
    pub fn exchange(&self, request: &[u8]) -> Response {
        http::exchange(self.tcp(), request)
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.exchange(http::request(path, self.port, headers).as_bytes())
    }

    /// A sample of `/metrics`, 0 if it is not there. `name` with its labels, as exposed.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics", &[]);
        assert_eq!(page.status, 200);
        let found = page.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal, for example `-HUP`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap().success());
    }

    /// Waits for a server that was asked to end.
    pub fn ended(mut self) {
        let status = self.process.wait().unwrap();
        self.has_ended = true;
        assert!(status.success(), "{status}");
    }

    /// What the server wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default()
    }

    fn check_log(&self) {
        let log = self.log();
        assert!(!log.contains("panicked"), "the server panicked:\n{log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.process.try_wait();
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
            return;
        }
        self.check_log();
        assert!(self.has_ended || matches!(ended, Ok(None)), "the server ended by itself: {ended:?}\n{}", self.log());
    }
}

const LOG: &str = "stderr.log";

/// Below the ephemeral ports; different for tests that run at the same time.
fn next_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 100) as u16 * 120;
    FIRST + (start + TAKEN.fetch_add(1, Relaxed)) % COUNT
}

/// None: the port is taken.
fn spawn(port: u16, shards: u16, settings: &[String], folder: &Path) -> Option<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join(LOG)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
    command.args(["serve", "--dev", "--shards", &shards.to_string()]);
    command.args(["--listen", &format!("127.0.0.1:{port}")]).arg("--data-dir").arg(folder);
    // A table for each of 20,000 descriptors makes many servers at once slow to start.
    command.args(["--set", "plane.connections_per_shard=2048"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut process =
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("the built binary");
    let (is_ready, ready) = mpsc::channel();
    let stdout = process.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.contains("is ready") {
                let _ = is_ready.send(());
            }
        }
    });
    match ready.recv_timeout(PATIENCE) {
        Ok(()) => Some(process),
        Err(_) => {
            let _ = process.kill();
            let status = process.wait().unwrap();
            let log = std::fs::read_to_string(folder.join(LOG)).unwrap_or_default();
            assert_eq!(status.code(), Some(5), "the server did not start: {log}");
            None
        }
    }
}
