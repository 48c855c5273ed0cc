//! The client: one thread, many WebSocket connections, the same code against every peer.
//!
//! Frames are built beforehand, incoming ones are only walked, and nothing is answered that the load does not ask
//! for (pings excepted). What a connection costs between two messages is a slot and its socket.
use crate::frame;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Handshakes under way at once: below any listen backlog.
const HANDSHAKES_MAX: usize = 100;
/// Connections per source address, far below the number of ephemeral ports.
const PER_SOURCE: usize = 4_000;
/// No answer for this long means that a message was lost.
const STALL: Duration = Duration::from_secs(15);
/// The sample nonce of RFC 6455 section 1.3 and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Reacts to messages. `connection` counts from 0 in the order of connecting.
pub trait Load {
    fn message(&mut self, connection: usize, payload: &[u8], outbox: &mut Outbox) -> Result<(), String>;
}

/// Passes everything over.
pub struct Ignore;

impl Load for Ignore {
    fn message(&mut self, _: usize, _: &[u8], _: &mut Outbox) -> Result<(), String> {
        Ok(())
    }
}

/// Frames to send, copied: they are small.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    frames: Vec<(usize, usize)>,
}

impl Outbox {
    pub fn send(&mut self, connection: usize, frame: &[u8]) {
        self.bytes.extend(frame);
        self.frames.push((connection, frame.len()));
    }
}

#[derive(PartialEq)]
enum Phase {
    Connecting,
    Upgrading,
    Open,
}

struct Connection {
    stream: TcpStream,
    phase: Phase,
    /// The start of a frame whose end has not arrived.
    partial: Vec<u8>,
    /// What the socket did not take, or the request until the socket is connected.
    unsent: Vec<u8>,
}

pub struct Swarm {
    server: SocketAddr,
    poll: Poll,
    events: Events,
    ready: Vec<(usize, bool, bool)>,
    connections: Vec<Connection>,
    open: usize,
    buffer: Box<[u8]>,
    outbox: Outbox,
    /// Text messages received since the start.
    pub messages: u64,
    /// Reads that brought them: messages / reads says how many the server had put into one send, or a little more.
    pub reads: u64,
}

impl Swarm {
    pub fn new(server: SocketAddr) -> Result<Swarm, String> {
        Ok(Swarm {
            server,
            poll: Poll::new().map_err(|e| format!("epoll: {e}"))?,
            events: Events::with_capacity(1024),
            ready: Vec::new(),
            connections: Vec::new(),
            open: 0,
            buffer: vec![0; 256 << 10].into_boxed_slice(),
            outbox: Outbox::default(),
            messages: 0,
            reads: 0,
        })
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Opens connections until there are `total`. `headers` gives the extra request headers of a connection, each
    /// ended by CR LF.
    pub fn grow(&mut self, total: usize, path: &str, headers: impl Fn(usize) -> String) -> Result<(), String> {
        let mut progress = (self.open, Instant::now());
        while self.open < total {
            while self.connections.len() < total && self.connections.len() - self.open < HANDSHAKES_MAX {
                let index = self.connections.len();
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{}\r\n",
                    self.server,
                    headers(index)
                );
                self.open_one(index, request).map_err(|e| format!("connection {index}: {e}"))?;
            }
            self.turn(Duration::from_millis(100), &mut Ignore)?;
            match progress {
                (open, since) if open == self.open && since.elapsed() > STALL => {
                    return Err(format!("only {open} of {total} handshakes were answered"));
                }
                (open, _) if open == self.open => {}
                _ => progress = (self.open, Instant::now()),
            }
        }
        Ok(())
    }

    fn open_one(&mut self, index: usize, request: String) -> std::io::Result<()> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // A reset at the end leaves no port in TIME_WAIT for the next round to run into.
        socket.set_linger(Some(Duration::ZERO))?;
        let source = SocketAddr::from(([127, 0, 0, 2 + (index / PER_SOURCE) as u8], 0));
        socket.bind(&source.into())?;
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(e) => return Err(e),
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let (phase, partial, unsent) = (Phase::Connecting, Vec::new(), request.into_bytes());
        self.connections.push(Connection { stream, phase, partial, unsent });
        Ok(())
    }

    /// Hands `load` an outbox outside of a message: how a load begins.
    pub fn start(&mut self, begin: impl FnOnce(&mut Outbox)) -> Result<(), String> {
        begin(&mut self.outbox);
        self.flush()
    }

    /// Turns until `is_done`, which is asked after each turn; fails if no message comes for long.
    pub fn run<L: Load>(&mut self, load: &mut L, mut is_done: impl FnMut(&L) -> bool) -> Result<(), String> {
        let mut progress = (self.messages, Instant::now());
        while !is_done(load) {
            self.turn(Duration::from_millis(5), load)?;
            if self.messages != progress.0 {
                progress = (self.messages, Instant::now());
            } else if progress.1.elapsed() > STALL {
                return Err(format!("no message for {} s, after {}", STALL.as_secs(), self.messages));
            }
        }
        Ok(())
    }

    /// Turns until nothing has arrived for `quiet`: the echoes of the preparations are over.
    pub fn settle(&mut self, quiet: Duration) -> Result<(), String> {
        let (mut last, start) = ((self.messages, Instant::now()), Instant::now());
        while last.1.elapsed() < quiet && start.elapsed() < STALL {
            self.turn(Duration::from_millis(20), &mut Ignore)?;
            if self.messages != last.0 {
                last = (self.messages, Instant::now());
            }
        }
        Ok(())
    }

    /// One poll and everything that it finds.
    pub fn turn(&mut self, timeout: Duration, load: &mut impl Load) -> Result<(), String> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(format!("epoll: {e}")),
            _ => {}
        }
        self.ready.clear();
        self.ready.extend(self.events.iter().map(|event| (event.token().0, event.is_readable(), event.is_writable())));
        for at in 0..self.ready.len() {
            let (index, is_readable, is_writable) = self.ready[at];
            if is_writable {
                self.writable(index).map_err(|e| format!("connection {index}: {e}"))?;
            }
            if is_readable {
                self.read(index, load).map_err(|e| format!("connection {index}: {e}"))?;
                self.flush()?;
            }
        }
        Ok(())
    }

    fn writable(&mut self, index: usize) -> Result<(), String> {
        let connection = &mut self.connections[index];
        if connection.phase == Phase::Connecting {
            match connection.stream.take_error() {
                Ok(None) => connection.phase = Phase::Upgrading,
                Ok(Some(e)) | Err(e) => return Err(format!("connect: {e}")),
            }
        }
        let unsent = std::mem::take(&mut connection.unsent);
        if unsent.is_empty() { Ok(()) } else { connection.send(&unsent) }
    }

    fn read(&mut self, index: usize, load: &mut impl Load) -> Result<(), String> {
        loop {
            let connection = &mut self.connections[index];
            let read = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the server closed it".into()),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(format!("read: {e}")),
            };
            self.reads += 1;
            let mut joined = std::mem::take(&mut connection.partial);
            let data = if joined.is_empty() {
                &self.buffer[..read]
            } else {
                joined.extend(&self.buffer[..read]);
                &joined
            };
            let mut used = 0;
            if connection.phase == Phase::Upgrading {
                used = answered(data)?;
                if used > 0 {
                    connection.phase = Phase::Open;
                    self.open += 1;
                }
            }
            while connection.phase == Phase::Open
                && let Some(frame) = frame::first(&data[used..], false)?
            {
                used += frame.bytes;
                match frame.opcode {
                    frame::TEXT => {
                        self.messages += 1;
                        load.message(index, frame.payload, &mut self.outbox)?;
                    }
                    frame::PING => self.outbox.send(index, &frame::masked(frame::PONG, frame.payload)),
                    frame::CLOSE => return Err(format!("closed by the server: {}", close_text(frame.payload))),
                    other => return Err(format!("unexpected opcode {other}")),
                }
            }
            connection.partial = data[used..].to_vec();
            // A short read emptied the socket, and the next byte makes a new event.
            if read < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        let mut at = 0;
        for (index, len) in self.outbox.frames.drain(..) {
            let frame = &self.outbox.bytes[at..at + len];
            self.connections[index].send(frame).map_err(|e| format!("connection {index}: {e}"))?;
            at += len;
        }
        self.outbox.bytes.clear();
        Ok(())
    }
}

impl Connection {
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while self.unsent.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("write: {e}")),
            }
        }
        self.unsent.extend(bytes);
        Ok(())
    }
}

/// Bytes of a complete and good answer to the handshake, 0 while it is incomplete.
fn answered(data: &[u8]) -> Result<usize, String> {
    let Some(end) = memchr::memmem::find(data, b"\r\n\r\n") else { return Ok(0) };
    let head = &data[..end];
    if !head.starts_with(b"HTTP/1.1 101") || memchr::memmem::find(head, ACCEPT).is_none() {
        return Err(format!("handshake refused: {}", String::from_utf8_lossy(data)));
    }
    Ok(end + 4)
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [a, b, reason @ ..] => format!("{} {}", u16::from_be_bytes([*a, *b]), String::from_utf8_lossy(reason)),
        _ => "no code".into(),
    }
}
