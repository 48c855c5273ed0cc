//! Event streams (R-SSE-1): connections that are told things and are not listened to.
//!
//! An event stream is a connection like others; it is opened together with its joins, which are fed in as if the client had sent them.
//! A stream of one room gets what is in the room's log for its format, so it costs what a WebSocket costs. In a stream of several rooms
//! each durable event carries the positions of all of them, which are no other reader's: it gets its events by its outbox, one copy each.
//!
//! EventSource never stops by itself once it was let in: whatever the stream ends with, it comes back after `retry`.
use super::conn::flag;
use super::connections::Outboxes;
use super::{Core, Opening, Shard};
use crate::base::close::CloseCode;
use crate::ids::ConnRef;
use crate::limits;
use crate::plane::{Plane, SLACK_BYTES, Slot};
use crate::rooms::effects::Class;
use crate::session::stream::{Positions, StreamRequest};
use crate::session::transcode::sse;
use crate::telemetry::DropReason;
use crate::wire::sse::Block;
use crate::wire::ws;
use hashbrown::HashMap;
use std::mem;

/// What may stand unsent before an answer that is to count as the first, bytes: a response's head, `connection_established` and an ack
/// have about 1,000.
const BEFORE_AN_ANSWER_BYTES_MAX: usize = 4_096;

/// What streams of several rooms need beyond their connection's record.
#[derive(Default)]
pub struct Streams {
    positions: HashMap<Slot, Positions>,
    /// The id that is being written.
    id: Vec<u8>,
}

impl Streams {
    /// The connection is gone.
    pub fn forget(&mut self, slot: Slot) {
        self.positions.remove(&slot);
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }
}

impl<P: Plane> Shard<P> {
    /// Takes over a socket whose response head `opening` brings, signs its user in and joins the rooms asked for. Gives the socket back
    /// if the plane's table is full. The next turn sends.
    pub fn open_stream(
        &mut self,
        socket: P::Socket,
        mut opening: Opening,
        request: &StreamRequest,
    ) -> Result<Slot, P::Socket> {
        self.core.now = self.core.plane.now();
        let slot = self.core.adopt(socket, &mut opening)?;
        let conn = self.core.conn_ref(slot);
        self.core.append_retry(slot, limits::STREAM_RETRY_MS);
        if request.has_several_rooms() {
            self.core.streams.positions.insert(slot, request.positions());
        }
        if let Some(identity) = &opening.identity {
            self.core.begin_session(slot, identity);
        }
        for mut join in request.joins() {
            let len = join.len();
            join.resize(len + SLACK_BYTES, 0);
            if self.core.live(conn).is_some() {
                self.message(slot, &mut join, len);
            }
        }
        if !opening.received.is_empty() {
            self.core.ignore_input(slot, opening.received.len());
        }
        self.settle_rooms();
        Ok(slot)
    }
}

impl<P: Plane> Core<P> {
    pub(super) fn is_stream(&self, slot: Slot) -> bool {
        let kind = self.conns[slot as usize].kind;
        !kind.is_native() && self.formats.get(kind.format()).is_stream()
    }

    /// A native message for a stream, by its frame.
    pub(super) fn send_to_stream(&mut self, slot: Slot, frame: &[u8]) {
        let native = ws::payload(frame);
        let mut bytes = mem::take(&mut self.transcoded);
        bytes.clear();
        match self.streams.positions.get_mut(&slot) {
            None => sse::transcode(native, None, &mut bytes),
            Some(positions) => sse::events(native, None, |event| {
                let block = event.begin(&mut bytes);
                match event.position {
                    Some((room, position)) => {
                        positions.advance(room, position);
                        block.id_of(|out| positions.write(out)).end();
                    }
                    None => block.end(),
                }
            }),
        }
        self.outbox(slot).extend_from_slice(&bytes);
        self.one_answer(slot, bytes.len());
        self.transcoded = bytes;
        self.close_if_flooded(slot);
        // A join that failed for now: its room would be missing until the client comes back by itself, which it has no reason to do.
        if sse::is_retryable_error(native) {
            self.close(slot, CloseCode::Overloaded);
        }
    }

    /// The newest private bytes of a stream, so many, are one answer, however many blocks it has: like a large frame of a WebSocket it may
    /// be larger than `conn.out_queue_bytes` while it is being read. One at a time: what already waits behind another one counts.
    fn one_answer(&mut self, slot: Slot, len: usize) {
        let outbox = &mut self.active(slot).outbox;
        if outbox.unsent() - len <= BEFORE_AN_ANSWER_BYTES_MAX {
            outbox.partial = outbox.bytes.len();
        }
    }

    /// A native message to the members of a local room, each of whom is sent bytes of its own.
    pub(super) fn publish_to_each(&mut self, key: u32, frame: &[u8], class: Class, except: &[ConnRef]) {
        let native = ws::payload(frame);
        let (mut bytes, mut id) = (mem::take(&mut self.transcoded), mem::take(&mut self.streams.id));
        bytes.clear();
        let mut position = None;
        sse::events(native, Some(class), |event| {
            event.begin(&mut bytes);
            position = event.position;
        });
        let mut slow = Vec::new();
        for index in 0..self.fanout.rooms[key as usize].members.len() {
            let member = self.fanout.rooms[key as usize].members[index];
            let slot = self.fanout.subscriptions[member as usize].conn;
            if except.iter().any(|conn| self.live(*conn) == Some(slot)) {
                continue;
            }
            if self.has_no_room(slot, bytes.len() as u64) {
                match class {
                    Class::Live | Class::Presence => self.counters.dropped.add(DropReason::LiveLagging, 1),
                    Class::Durable => slow.push(slot),
                }
                continue;
            }
            id.clear();
            if let (Some((room, position)), Some(positions)) = (position, self.streams.positions.get_mut(&slot)) {
                positions.advance(room, position);
                positions.write(&mut id);
            }
            let outbox = self.outbox(slot);
            outbox.extend_from_slice(&bytes);
            if !id.is_empty() {
                outbox.extend_from_slice(b"id: ");
                outbox.extend_from_slice(&id);
                outbox.push(b'\n');
            }
            outbox.push(b'\n');
            self.counters.frames_delivered += 1;
        }
        (self.transcoded, self.streams.id) = (bytes, id);
        for slot in slow {
            self.counters.dropped.add(DropReason::SlowConsumerClosed, 1);
            self.close(slot, CloseCode::SlowConsumer);
        }
    }

    /// A reader that stopped reading has so much unsent that no more may come (R-CONN-5).
    fn has_no_room(&self, slot: Slot, more: u64) -> bool {
        let (conn, limit) = (&self.conns[slot as usize], self.settings.out_queue_bytes);
        let outboxes = Outboxes { actives: &self.actives, formats: &self.formats };
        conn.has(flag::BLOCKED) && limit != 0 && outboxes.waiting(conn, limit) + more > limit
    }

    /// What the client of a stream sends is thrown away, and too much of it ends the stream. Counted where other connections have the
    /// level of their flood bucket.
    pub(super) fn ignore_input(&mut self, slot: Slot, bytes: usize) {
        let conn = &mut self.conns[slot as usize];
        if !conn.is_live() {
            return;
        }
        self.counters.dropped.add(DropReason::StreamInput, 1);
        conn.flood = conn.flood.saturating_add(u16::try_from(bytes).unwrap_or(u16::MAX));
        if conn.flood > limits::STREAM_INPUT_BYTES_MAX {
            self.close(slot, CloseCode::ProtocolError);
        }
    }

    /// Tells a stream's client how long to wait before it comes back: what goes before its last event.
    pub(super) fn append_retry_for(&mut self, slot: Slot, code: CloseCode) {
        let range = match code {
            CloseCode::Internal => limits::STREAM_BACK_OFF_MS,
            _ => match code.number() {
                4100..4200 => limits::STREAM_BACK_OFF_MS,
                4200..4300 => [0, self.settings.retry_max_ms],
                _ => limits::STREAM_TERMINAL_RETRY_MS,
            },
        };
        self.append_retry(slot, range);
    }

    /// A random time of a range, ends included.
    fn append_retry(&mut self, slot: Slot, [min, max]: [u64; 2]) {
        // The lower 80 bits of an id are the operating system's random ones.
        let random = self.ids.next(self.now.unix_ms).0 as u64;
        Block::new(self.outbox(slot)).retry(min + random % (max - min + 1)).end();
    }
}
