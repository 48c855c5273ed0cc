//! A source of known numbers, and a client that plays the shard: it accepts, reads a little, and hands over.
use crossbeam_channel::Sender;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::time::Duration;
use throng::base::close::CloseCode;
use throng::services::{Services, ServicesOptions, Source, Timeouts};
use throng::telemetry::histograms::latency_histogram;
use throng::telemetry::labels::{DropReason, Ending};
use throng::telemetry::report::{ShardReport, StoreReport};

/// Longer than any test takes.
pub const LONG: Duration = Duration::from_secs(60);

pub struct FakeSource {
    pub shards: u16,
    /// A shard that takes requests and never answers: it keeps what it is asked with.
    pub silent: Option<u16>,
    pub kept: std::sync::Mutex<Vec<Sender<Box<ShardReport>>>>,
    pub is_started: AtomicBool,
    pub is_draining: AtomicBool,
    pub is_ready: AtomicBool,
}

impl FakeSource {
    pub fn new(shards: u16, silent: Option<u16>) -> Arc<FakeSource> {
        let [is_started, is_draining, is_ready] = [true, false, true].map(AtomicBool::new);
        Arc::new(FakeSource { shards, silent, kept: Default::default(), is_started, is_draining, is_ready })
    }
}

impl Source for FakeSource {
    fn shards(&self) -> u16 {
        self.shards
    }

    fn request(&self, shard: u16, reply: Sender<Box<ShardReport>>) -> bool {
        if self.silent == Some(shard) {
            self.kept.lock().unwrap().push(reply);
            return true;
        }
        reply.send(Box::new(shard_report(shard))).is_ok()
    }

    fn store(&self) -> Option<StoreReport> {
        let mut commit = latency_histogram();
        commit.saturating_record(3_000_000);
        Some(StoreReport { commit, commits: 1, jobs: 20, failures: 0, queue_len: 5 })
    }

    fn store_ready(&self) -> bool {
        self.is_ready.load(Relaxed)
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    fn is_started(&self) -> bool {
        self.is_started.load(Relaxed)
    }
}

/// Shard n has 10 + n connections, n + 1 users and as many rooms.
pub fn shard_report(shard: u16) -> ShardReport {
    let number = u64::from(shard);
    let mut report = ShardReport {
        shard,
        connections: 10 + number,
        unauthenticated: 1,
        certificate_ends_s: Some(1_800_000_000),
        users: number + 1,
        rooms_in_memory: number + 1,
        rooms_top: (0..=number).map(|room| (format!("room-{number}-{room}"), 1 + room)).collect(),
        queue_bytes: 100,
        log_bytes: 200,
        turns: 1000,
        uptime_ms: 5000,
        ..ShardReport::default()
    };
    report.counters.accepted = 7;
    report.counters.closed.add(Ending::Code(CloseCode::SlowConsumer), 2);
    report.counters.dropped.add(DropReason::LiveLagging, 3);
    report.counters.domain.add("typing_expired", 1);
    report.counters.engine_refused.add("unknown_sid", 1);
    report.histograms.broadcast.saturating_record_n(80_000, 4);
    report.histograms.turn.saturating_record(2_000_000 * (number + 1));
    report
}

/// The rule of R-CONN-1 in its simplest form: the same host and port, or listed.
fn origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let is_own = |origin: &str| host.is_some_and(|host| origin == format!("http://{host}"));
    origin.is_none_or(|origin| is_own(origin) || allowed.iter().any(|entry| entry == origin))
}

pub fn options(source: Arc<FakeSource>) -> ServicesOptions {
    ServicesOptions {
        admin_listen: None,
        origin_allowed,
        allowed_origins: vec!["https://app.example".into()],
        timeouts: Timeouts { request: LONG, idle: LONG },
        demo: false,
        source,
    }
}

/// Services and a listener before them, where a shard would be.
pub struct Front {
    pub services: Services,
    listener: TcpListener,
}

pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Front {
    pub fn new(options: ServicesOptions) -> Front {
        Front { services: Services::start(options).unwrap(), listener: listen() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// A client's socket whose other end was handed over after `first` had arrived there.
    pub fn connect(&self, first: &[u8], peer: Option<SocketAddr>) -> TcpStream {
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        let (mut server, address) = self.listener.accept().unwrap();
        client.write_all(first).unwrap();
        let mut read_so_far = vec![0; first.len()];
        server.read_exact(&mut read_so_far).unwrap();
        assert!(self.services.hand_over(server, None, read_so_far, peer.unwrap_or(address)));
        client
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[&str], peer: Option<SocketAddr>) -> Answer {
        let head = request(method, path, self.port(), headers);
        read_answer(self.connect(head.as_bytes(), peer))
    }
}

pub fn request(method: &str, path: &str, port: u16, headers: &[&str]) -> String {
    let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n")
}

/// Everything up to the end of the stream, as one answer.
pub fn read_answer(mut client: TcpStream) -> Answer {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    parse_answer(&text)
}

pub fn parse_answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.to_lowercase(), value.into()));
    Answer { status, headers: headers.collect(), body: body.into() }
}

/// True if the other end closed without a byte, in order or not.
pub fn ended_silently(mut client: TcpStream) -> bool {
    match client.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// A listener outside the range of ephemeral ports, so that no other socket's own end is in the way.
pub fn listen() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 10_000) as u16;
    for _ in 0..1000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Relaxed)) % 12_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
    panic!("no free port between 20000 and 32000");
}
