//! What both peers share: the rooms, and the work on JSON. What they do is said in `../README.md`.
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;

/// What one connection has still to send. Unbounded, as is usual: who does not read costs memory.
pub type Outbox = UnboundedSender<Bytes>;

/// Members by the number of their connection.
#[derive(Default)]
pub struct Rooms(Mutex<HashMap<String, HashMap<u64, Outbox>>>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<u64, Outbox>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, room: &str, number: u64, outbox: &Outbox) {
        self.lock().entry(room.into()).or_default().insert(number, outbox.clone());
    }

    fn publish(&self, room: &str, event: &Bytes, except: Option<u64>) {
        let rooms = self.lock();
        for (number, outbox) in rooms.get(room).into_iter().flatten() {
            if Some(*number) != except {
                // Closed: the connection ends, and `leave` is on its way.
                let _ = outbox.send(event.clone());
            }
        }
    }

    fn leave(&self, joined: &[String], number: u64) {
        let mut rooms = self.lock();
        for room in joined {
            if let Some(members) = rooms.get_mut(room) {
                members.remove(&number);
                if members.is_empty() {
                    rooms.remove(room);
                }
            }
        }
    }
}

/// One connection: takes messages, puts answers and events into outboxes.
pub struct Session<'a> {
    rooms: &'a Rooms,
    number: u64,
    outbox: Outbox,
    joined: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Join<'a> {
    #[serde(borrow, rename = "roomId")]
    room: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Heartbeat {
    timestamp: u64,
}

#[derive(Deserialize)]
struct Broadcast<'a> {
    #[serde(borrow, rename = "roomId")]
    room: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(default, rename = "includeSelf")]
    include_self: bool,
}

impl<'a> Session<'a> {
    pub fn new(rooms: &'a Rooms, outbox: Outbox) -> Session<'a> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let session = Session { rooms, number: COUNT.fetch_add(1, Ordering::Relaxed), outbox, joined: Vec::new() };
        let now = now_ms();
        let data = format!(r#"{{"userId":"user-00000","heartbeatMs":30000,"timestamp":{now}}}"#);
        session.answer("connection_established", &data, now);
        session
    }

    /// One text message. An error ends the connection.
    pub fn message(&mut self, text: &[u8]) -> Result<(), serde_json::Error> {
        let envelope: Envelope<'_> = serde_json::from_slice(text)?;
        let data = envelope.data.map_or("{}", RawValue::get);
        let now = now_ms();
        match &*envelope.r#type {
            "heartbeat" => {
                let Heartbeat { timestamp } = serde_json::from_str(data)?;
                let data = format!(r#"{{"timestamp":{now},"clientTimestamp":{timestamp}}}"#);
                self.answer("heartbeat_response", &data, now);
            }
            "broadcast" => {
                let Broadcast { room, event, payload, include_self } = serde_json::from_str(data)?;
                let data = format!(
                    r#"{{"roomId":{},"userId":"user-00000","event":{},"payload":{},"timestamp":{now}}}"#,
                    Quoted(&room),
                    Quoted(&event),
                    payload.get()
                );
                let except = (!include_self).then_some(self.number);
                self.rooms.publish(&room, &written("broadcast", &data, now), except);
            }
            "join_room" => {
                let Join { room } = serde_json::from_str(data)?;
                self.rooms.join(&room, self.number, &self.outbox);
                self.joined.push(room.into_owned());
                let data = format!(r#"{{"requestId":{},"result":{{"role":null}}}}"#, Quoted(&envelope.id));
                self.answer("ack", &data, now);
            }
            "activity" => {}
            unknown => {
                let (kind, id) = (Quoted(unknown), Quoted(&envelope.id));
                let data = format!(r#"{{"code":"unknown_type","retryable":false,"type":{kind},"requestId":{id}}}"#);
                self.answer("error", &data, now);
            }
        }
        Ok(())
    }

    fn answer(&self, kind: &str, data: &str, now: u64) {
        let _ = self.outbox.send(written(kind, data, now));
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.rooms.leave(&self.joined, self.number);
    }
}

/// The envelope. Ids have Throng's length and come from a counter instead of a ULID: cheaper, so in the peers' favour.
fn written(kind: &str, data: &str, now: u64) -> Bytes {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut text = String::with_capacity(data.len() + kind.len() + 96);
    let _ = write!(text, r#"{{"id":"evt_01J{count:023}","type":"{kind}","data":{data},"timestamp":{now}}}"#);
    text.into()
}

/// A string as JSON.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&serde_json::to_string(self.0).map_err(|_| std::fmt::Error)?)
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Runs `serve` for every connection to the port in the arguments. One core: one thread; several: one thread each.
pub fn run<F: Future<Output = ()> + Send + 'static>(serve: fn(TcpStream, &'static Rooms) -> F) -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let Some(port) = port else { return Err(std::io::Error::other("usage: PORT")) };
    let runtime = match std::thread::available_parallelism().map_or(1, |cores| cores.get()) {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        cores => tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?,
    };
    runtime.block_on(async {
        let rooms: &'static Rooms = Box::leak(Box::default());
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: those who are here stay, and some may leave.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, rooms));
        }
    })
}
