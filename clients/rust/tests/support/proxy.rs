//! A network that fails on purpose: a TCP proxy that sees the WebSocket messages that pass, and at a chosen one cuts, tears, mutes or
//! freezes the connection.
use super::next_port;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// Half of its bytes, then nothing more; both ends are cut.
    Tear,
    /// It does not arrive; both ends are cut.
    Lose,
    /// It arrives, and nothing that follows from it comes back.
    DeliverAndCut,
    /// It does not arrive, nor anything else, and nobody is told: half open.
    Freeze,
}

/// Decides on each message: its direction and text.
type Rule = Box<dyn FnMut(Direction, &str) -> Fate + Send>;

pub struct Proxy {
    pub port: u16,
    inner: Arc<Inner>,
}

struct Inner {
    target: u16,
    rule: Mutex<Rule>,
    /// Messages with another fate than `Pass`.
    faults: AtomicUsize,
    connections: AtomicUsize,
    /// Counts the wishes to cut everything.
    cuts: watch::Sender<usize>,
}

impl Proxy {
    /// `target`: port of the server.
    pub async fn start(target: u16) -> Proxy {
        let rule: Mutex<Rule> = Mutex::new(Box::new(|_, _| Fate::Pass));
        let (cuts, _) = watch::channel(0);
        let inner = Inner { target, rule, faults: AtomicUsize::new(0), connections: AtomicUsize::new(0), cuts };
        let inner = Arc::new(inner);
        loop {
            let port = next_port();
            if let Ok(listener) = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await {
                tokio::spawn(accept(listener, inner.clone()));
                return Proxy { port, inner };
            }
        }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }

    pub fn set_rule(&self, rule: impl FnMut(Direction, &str) -> Fate + Send + 'static) {
        *self.inner.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// The next message for which this holds meets that fate; all others pass. The receiver learns when it did.
    pub fn once(
        &self,
        fate: Fate,
        mut is_it: impl FnMut(Direction, &str) -> bool + Send + 'static,
    ) -> tokio::sync::oneshot::Receiver<()> {
        let (tell, met) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        self.set_rule(move |direction, text| {
            if tell.is_none() || !is_it(direction, text) {
                return Fate::Pass;
            }
            let _ = tell.take().expect("not met yet").send(());
            fate
        });
        met
    }

    /// Without a word, wherever the streams stand.
    pub fn cut_all(&self) {
        self.inner.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub fn faults(&self) -> usize {
        self.inner.faults.load(Relaxed)
    }

    pub fn connections(&self) -> usize {
        self.inner.connections.load(Relaxed)
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    while let Ok((client, _)) = listener.accept().await {
        inner.connections.fetch_add(1, Relaxed);
        tokio::spawn(pair(client, inner.clone()));
    }
}

/// How a connection came to its end.
enum End {
    /// Both ends are cut.
    Cut,
    /// One is cut; the other gets what was written before its end.
    Finish(Direction),
    /// Nothing passes any more, and nobody is told.
    Freeze,
}

/// One client's connection and the server's. Both sockets close when this returns.
async fn pair(client: TcpStream, inner: Arc<Inner>) {
    let mut cuts = inner.cuts.subscribe();
    cuts.mark_unchanged();
    let Ok(server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], inner.target))).await else { return };
    for socket in [&client, &server] {
        let _ = socket.set_nodelay(true);
    }
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    let end = tokio::select! {
        end = pass(Direction::Up, &mut client_reads, &mut server_writes, &inner) => end,
        end = pass(Direction::Down, &mut server_reads, &mut client_writes, &inner) => end,
        _ = cuts.changed() => End::Cut,
    };
    match end {
        End::Cut => {}
        End::Freeze => drop(cuts.changed().await),
        End::Finish(Direction::Up) => {
            drop((client_reads, client_writes));
            finish(server_reads, server_writes).await;
        }
        End::Finish(Direction::Down) => {
            drop((server_reads, server_writes));
            finish(client_reads, client_writes).await;
        }
    }
}

/// An end that takes nothing back of what was written, as one with unread bytes would.
async fn finish(mut reads: OwnedReadHalf, mut writes: OwnedWriteHalf) {
    let _ = writes.shutdown().await;
    let mut rest = [0; 4096];
    while matches!(reads.read(&mut rest).await, Ok(1..)) {}
}

async fn pass(direction: Direction, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, inner: &Inner) -> End {
    let mut messages = Messages::default();
    loop {
        while let Some((bytes, text)) = messages.next() {
            let fate = match &text {
                // The handshake, a ping.
                None => Fate::Pass,
                Some(text) => (inner.rule.lock().unwrap_or_else(PoisonError::into_inner))(direction, text),
            };
            if fate != Fate::Pass {
                inner.faults.fetch_add(1, Relaxed);
            }
            let (written, end) = match fate {
                Fate::Pass => (&bytes[..], None),
                Fate::Tear => (&bytes[..bytes.len() / 2], Some(End::Finish(direction))),
                Fate::Lose => (&[][..], Some(End::Cut)),
                Fate::DeliverAndCut => (&bytes[..], Some(End::Finish(direction))),
                Fate::Freeze => (&[][..], Some(End::Freeze)),
            };
            if to.write_all(written).await.is_err() {
                return End::Cut;
            }
            if let Some(end) = end {
                return end;
            }
        }
        if !matches!(from.read_buf(&mut messages.bytes).await, Ok(1..)) {
            return End::Cut;
        }
    }
}

/// Finds the messages in a stream of a WebSocket connection (RFC 6455, section 5.2), behind the HTTP head.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    is_behind_head: bool,
}

impl Messages {
    /// The first complete item, and its text if it is a text message.
    fn next(&mut self) -> Option<(Vec<u8>, Option<String>)> {
        if !self.is_behind_head {
            let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            self.is_behind_head = true;
            return Some((self.bytes.drain(..end).collect(), None));
        }
        let [first, second] = *self.bytes.first_chunk()?;
        let short = second & 0x7f;
        let (length, mask_at) = match short {
            126 => (u16::from_be_bytes(self.bytes.get(2..4)?.try_into().ok()?) as usize, 4),
            127 => (u64::from_be_bytes(self.bytes.get(2..10)?.try_into().ok()?) as usize, 10),
            short => (short as usize, 2),
        };
        let is_masked = second & 0x80 != 0;
        let payload_at = mask_at + if is_masked { 4 } else { 0 };
        if self.bytes.len() < payload_at + length {
            return None;
        }
        let item: Vec<u8> = self.bytes.drain(..payload_at + length).collect();
        let mut payload = item[payload_at..].to_vec();
        if is_masked {
            for (place, byte) in payload.iter_mut().enumerate() {
                *byte ^= item[mask_at + place % 4];
            }
        }
        let text = (first & 0x0f == 1).then(|| String::from_utf8_lossy(&payload).into_owned());
        Some((item, text))
    }
}
