//! What is measured: the workloads, their messages, and the loads that drive them. One rule for all peers.
use crate::client::{Load, Outbox};
use crate::floor::Script;
use crate::frame::{self, Numbered};

/// What one unit of work is, and so what the CPU time is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Each connection has one heartbeat under way. Unit: message answered.
    Echo,
    /// One room; `depth` broadcasts under way, from as many senders, each returned to its sender too. Broadcast
    /// number k is sent by sender k mod depth, when that sender's own connection has received all up to number
    /// k - depth. So the next ones arrive while the server still delivers, and it is never idle; counting instead of
    /// looking for its own message asks the same of a peer that knows no senders. Unit: delivery.
    Fanout,
    /// `rooms` rooms; each connection has `depth` chat messages without ack. Unit: message acked, so committed.
    Chat,
    /// Connections that are silent, each in a room of 100. Unit: connection.
    Idle,
}

#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub kind: Kind,
    pub connections: usize,
    pub depth: usize,
    pub payload_bytes: usize,
    pub rooms: usize,
    pub about: &'static str,
}

pub const FULL: &[Workload] = &[
    workload("echo", Kind::Echo, 200, 1, 0, 0, "heartbeat and answer, 200 connections, depth 1"),
    workload("fanout1", Kind::Fanout, 1_000, 1, 64, 1, "broadcast in a room of 1,000, 64 B, depth 1"),
    workload("fanout8", Kind::Fanout, 1_000, 8, 64, 1, "broadcast in a room of 1,000, 64 B, depth 8"),
    workload("fanout5000", Kind::Fanout, 5_000, 2, 128, 1, "broadcast in a room of 5,000, 128 B, depth 2"),
    workload("chat", Kind::Chat, 1_000, 8, 64, 500, "durable chat, 500 rooms of 2, 8 unacked per connection"),
    workload("idle", Kind::Idle, 18_000, 0, 0, 180, "2,000 to 18,000 idle connections in rooms of 100"),
];

pub const SMOKE: &[Workload] = &[
    workload("echo", Kind::Echo, 20, 1, 0, 0, "heartbeat and answer, 20 connections, depth 1"),
    workload("fanout1", Kind::Fanout, 50, 1, 64, 1, "broadcast in a room of 50, 64 B, depth 1"),
    workload("fanout8", Kind::Fanout, 50, 8, 64, 1, "broadcast in a room of 50, 64 B, depth 8"),
    workload("fanout5000", Kind::Fanout, 100, 2, 128, 1, "broadcast in a room of 100, 128 B, depth 2"),
    workload("chat", Kind::Chat, 20, 4, 64, 10, "durable chat, 10 rooms of 2, 4 unacked per connection"),
    workload("idle", Kind::Idle, 900, 0, 0, 9, "100 to 900 idle connections in rooms of 100"),
];

const fn workload(
    name: &'static str,
    kind: Kind,
    connections: usize,
    depth: usize,
    payload_bytes: usize,
    rooms: usize,
    about: &'static str,
) -> Workload {
    Workload { name, kind, connections, depth, payload_bytes, rooms, about }
}

impl Workload {
    /// Fixed width, so that messages of all connections have the same length.
    pub fn user(index: usize) -> String {
        format!("user-{index:05}")
    }

    /// The room that a connection joins, if the workload has rooms.
    pub fn room(&self, connection: usize) -> Option<String> {
        (self.rooms > 0).then(|| format!("room-{:05}", connection % self.rooms))
    }

    pub fn join_frame(&self, connection: usize) -> Option<Vec<u8>> {
        let room = self.room(connection)?;
        let text = format!(r#"{{"id":"j1","type":"join_room","data":{{"roomId":"{room}"}}}}"#);
        Some(frame::masked(frame::TEXT, text.as_bytes()))
    }

    fn payload(&self) -> String {
        "payload.".chars().cycle().take(self.payload_bytes).collect()
    }

    /// What the floor sends: Throng's events, letter for letter but for ids and times.
    pub fn script(&self) -> Script {
        let event = |kind: &str, data: &str| {
            format!(
                r#"{{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","type":"{kind}","data":{data},"timestamp":1700000000000}}"#
            )
        };
        match self.kind {
            Kind::Fanout => Script {
                reply: event(
                    "broadcast",
                    &format!(
                        r#"{{"roomId":"{}","userId":"{}","event":"move","payload":"{}","timestamp":1700000000000}}"#,
                        self.room(0).unwrap_or_default(),
                        Workload::user(0),
                        self.payload()
                    ),
                ),
                joined: Some(event("ack", r#"{"requestId":"j1","result":{"role":null}}"#)),
            },
            _ => Script {
                reply: event("heartbeat_response", r#"{"timestamp":1700000000000,"clientTimestamp":1}"#),
                joined: None,
            },
        }
    }
}

/// The first `"type":` of an envelope decides. It mostly stands behind an id of the server, `{"id":"evt_` and a ULID.
fn is_type(payload: &[u8], quoted: &[u8]) -> bool {
    const KEY: &[u8] = br#""type":"#;
    const USUAL: usize = r#"{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","#.len();
    let at = match payload.get(USUAL..).is_some_and(|rest| rest.starts_with(KEY)) {
        true => Some(USUAL),
        false => memchr::memmem::find(&payload[..payload.len().min(160)], KEY),
    };
    at.is_some_and(|at| payload[at + KEY.len()..].starts_with(quoted))
}

fn refused(payload: &[u8]) -> Result<(), String> {
    if is_type(payload, br#""error""#) {
        return Err(format!("the server refused: {}", String::from_utf8_lossy(payload)));
    }
    Ok(())
}

/// A load whose work can be counted.
pub trait Counted: Load {
    fn begin(&mut self, outbox: &mut Outbox);
    /// Units of work done.
    fn count(&self) -> u64;
    /// Bytes of the last message that was a unit of work, without frame header.
    fn message_bytes(&self) -> usize;
    /// From now on nothing new is sent.
    fn end(&mut self);
    /// Everything sent has led to all that it must lead to.
    fn is_complete(&self) -> bool;
    /// Once complete: and to no more than that.
    fn check(&self) -> Result<(), String>;
}

/// Joins the rooms, at most `WINDOW` joins under way.
pub struct Join<'a> {
    workload: &'a Workload,
    next: usize,
    total: usize,
    pub done: usize,
}

impl<'a> Join<'a> {
    const WINDOW: usize = 64;

    /// Connections `from..total` join.
    pub fn new(workload: &'a Workload, from: usize, total: usize) -> Join<'a> {
        Join { workload, next: from, total, done: from }
    }

    pub fn begin(&mut self, outbox: &mut Outbox) {
        (0..Self::WINDOW).for_each(|_| self.one(outbox));
    }

    fn one(&mut self, outbox: &mut Outbox) {
        if self.next < self.total
            && let Some(frame) = self.workload.join_frame(self.next)
        {
            outbox.send(self.next, &frame);
            self.next += 1;
        }
    }
}

impl Load for Join<'_> {
    fn message(&mut self, _: usize, payload: &[u8], outbox: &mut Outbox) -> Result<(), String> {
        if is_type(payload, br#""ack""#) {
            self.done += 1;
            self.one(outbox);
        }
        refused(payload)
    }
}

pub struct Echo {
    connections: usize,
    frame: Vec<u8>,
    sent: u64,
    is_ending: bool,
    count: u64,
    message_bytes: usize,
}

impl Echo {
    pub fn new(workload: &Workload) -> Echo {
        let text = r#"{"id":"h1","type":"heartbeat","data":{"timestamp":1}}"#;
        let frame = frame::masked(frame::TEXT, text.as_bytes());
        Echo { connections: workload.connections, frame, sent: 0, is_ending: false, count: 0, message_bytes: 0 }
    }
}

impl Load for Echo {
    fn message(&mut self, connection: usize, payload: &[u8], outbox: &mut Outbox) -> Result<(), String> {
        if !is_type(payload, br#""heartbeat_response""#) {
            return refused(payload);
        }
        self.count += 1;
        self.message_bytes = payload.len();
        if !self.is_ending {
            self.sent += 1;
            outbox.send(connection, &self.frame);
        }
        Ok(())
    }
}

impl Counted for Echo {
    fn begin(&mut self, outbox: &mut Outbox) {
        (0..self.connections).for_each(|connection| outbox.send(connection, &self.frame));
        self.sent += self.connections as u64;
    }

    fn end(&mut self) {
        self.is_ending = true;
    }

    fn is_complete(&self) -> bool {
        self.count >= self.sent
    }

    fn check(&self) -> Result<(), String> {
        if self.count == self.sent { Ok(()) } else { Err(format!("{} answers to {} messages", self.count, self.sent)) }
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn message_bytes(&self) -> usize {
        self.message_bytes
    }
}

pub struct Fanout {
    depth: usize,
    /// Distance between two senders in the row of connections.
    stride: usize,
    frame: Vec<u8>,
    /// Broadcasts received by each connection.
    received: Vec<u64>,
    /// Number of the next broadcast of each sender.
    next: Vec<u64>,
    sent: u64,
    count: u64,
    message_bytes: usize,
    is_ending: bool,
}

impl Fanout {
    pub fn new(workload: &Workload) -> Fanout {
        let (room, payload) = (workload.room(0).expect("a room"), workload.payload());
        let text = format!(
            r#"{{"id":"b1","type":"broadcast","data":{{"roomId":"{room}","event":"move","payload":"{payload}","includeSelf":true}}}}"#
        );
        Fanout {
            depth: workload.depth,
            stride: workload.connections / workload.depth,
            frame: frame::masked(frame::TEXT, text.as_bytes()),
            received: vec![0; workload.connections],
            next: (0..workload.depth as u64).collect(),
            sent: 0,
            count: 0,
            message_bytes: 0,
            is_ending: false,
        }
    }

    fn send(&mut self, sender: usize, outbox: &mut Outbox) {
        outbox.send(sender * self.stride, &self.frame);
        self.next[sender] += self.depth as u64;
        self.sent += 1;
    }
}

impl Load for Fanout {
    fn message(&mut self, connection: usize, payload: &[u8], outbox: &mut Outbox) -> Result<(), String> {
        if !is_type(payload, br#""broadcast""#) {
            return refused(payload);
        }
        self.received[connection] += 1;
        self.count += 1;
        self.message_bytes = payload.len();
        let sender = connection / self.stride;
        let is_sender = connection.is_multiple_of(self.stride) && sender < self.depth;
        if is_sender && !self.is_ending && self.received[connection] + self.depth as u64 > self.next[sender] {
            self.send(sender, outbox);
        }
        Ok(())
    }
}

impl Counted for Fanout {
    fn begin(&mut self, outbox: &mut Outbox) {
        (0..self.depth).for_each(|sender| self.send(sender, outbox));
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    fn end(&mut self) {
        self.is_ending = true;
    }

    fn is_complete(&self) -> bool {
        self.count >= self.sent * self.received.len() as u64
    }

    fn check(&self) -> Result<(), String> {
        match self.received.iter().position(|received| *received != self.sent) {
            None => Ok(()),
            Some(at) => Err(format!("connection {at} received {} of {} broadcasts", self.received[at], self.sent)),
        }
    }
}

pub struct Chat {
    depth: usize,
    per_room: u64,
    frames: Vec<Numbered>,
    sent: u64,
    acked: u64,
    delivered: u64,
    message_bytes: usize,
    is_ending: bool,
}

impl Chat {
    pub fn new(workload: &Workload) -> Chat {
        let payload = workload.payload();
        let frame = |connection| {
            let room = workload.room(connection).expect("a room");
            let text = format!(
                r#"{{"id":"m########","type":"chat_message","data":{{"roomId":"{room}","message":"{payload}"}}}}"#
            );
            Numbered::new(&text, "########")
        };
        Chat {
            depth: workload.depth,
            per_room: (workload.connections / workload.rooms) as u64,
            frames: (0..workload.connections).map(frame).collect(),
            sent: 0,
            acked: 0,
            delivered: 0,
            message_bytes: 0,
            is_ending: false,
        }
    }

    fn send(&mut self, connection: usize, outbox: &mut Outbox) {
        outbox.send(connection, self.frames[connection].with(self.sent));
        self.sent += 1;
    }
}

impl Load for Chat {
    fn message(&mut self, connection: usize, payload: &[u8], outbox: &mut Outbox) -> Result<(), String> {
        if is_type(payload, br#""chat_message""#) {
            self.delivered += 1;
        } else if is_type(payload, br#""ack""#) {
            self.acked += 1;
            self.message_bytes = payload.len();
            if !self.is_ending {
                self.send(connection, outbox);
            }
        } else {
            refused(payload)?;
        }
        Ok(())
    }
}

impl Counted for Chat {
    fn begin(&mut self, outbox: &mut Outbox) {
        for connection in 0..self.frames.len() {
            (0..self.depth).for_each(|_| self.send(connection, outbox));
        }
    }

    fn count(&self) -> u64 {
        self.acked
    }

    fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    fn end(&mut self) {
        self.is_ending = true;
    }

    /// Everything sent was acked, and delivered to the whole room.
    fn is_complete(&self) -> bool {
        self.acked == self.sent && self.delivered >= self.sent * self.per_room
    }

    fn check(&self) -> Result<(), String> {
        match self.delivered == self.sent * self.per_room {
            true => Ok(()),
            false => {
                Err(format!("{} messages to {} each made {} deliveries", self.sent, self.per_room, self.delivered))
            }
        }
    }
}
