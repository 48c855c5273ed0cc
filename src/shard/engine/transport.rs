//! The way out: from the outbox and the logs of a virtual connection to its session's transport.
//!
//! What waits for a client waits in one place each: broadcasts in their room's log, private messages in the outbox of their virtual
//! connection. Only so much goes into the transport that it does not run dry; a virtual connection that finds it full is `BLOCKED`
//! until it has drained, falls behind in its rooms, and is judged as any slow reader (R-CONN-5).
use super::session::Transport;
use crate::base::close::CloseCode;
use crate::limits::SOCKET_SEND_BYTES_MAX;
use crate::plane::{Plane, Slot};
use crate::shard::Core;
use crate::shard::conn::{NONE, Stage, flag};
use crate::shard::conns::is_virtual;
use crate::telemetry::{DropReason, EngineEnd};
use crate::wire::engineio::PayloadWriter;
use crate::wire::ws::{self, Opcode};
use std::ops::Range;

/// Bytes in a transport from which on it is full. Less: a slow client's socket runs dry between two turns. More: bytes are copied
/// early that could still be skipped, and a session holds as many. One message may go beyond it.
const TRANSPORT_BYTES: usize = 64 << 10;

/// Most bytes of one answer to a GET, about: what waits at most, and a message beyond it.
const PAYLOAD_BYTES: usize = 1 << 20;

/// Bytes of a row of WebSocket frames without the first.
fn behind_the_first(frames: &[u8]) -> u64 {
    frames.len().saturating_sub(ws::frame_len(frames).unwrap_or(0)) as u64
}

impl<P: Plane> Core<P> {
    /// Appends frames that are the session's own business (pings, refusals, the last word) to its transport.
    pub(super) fn engine_push(&mut self, key: u32, frames: &[u8]) {
        let Some(session) = self.engines.get(key) else { return };
        match &mut session.transport {
            Transport::Polling(polling) => {
                polling.buffer.extend_from_slice(frames);
                if polling.get.is_some() {
                    self.engines.answerable.push(key);
                }
            }
            Transport::Carrier(slot) => {
                let slot = *slot;
                if self.conns[slot as usize].stage == Stage::Carrier {
                    self.outbox(slot).extend_from_slice(frames);
                }
            }
        }
    }

    /// One packet as a text frame.
    pub(super) fn engine_push_text(&mut self, key: u32, packet: &str) {
        let mut frame = std::mem::take(&mut self.transcoded);
        frame.clear();
        ws::append_frame(&mut frame, Opcode::Text, packet.as_bytes());
        if let Some(Transport::Polling(polling)) = self.engines.get(key).map(|session| &mut session.transport) {
            polling.own_bytes += frame.len();
        }
        self.engine_push(key, &frame);
        self.transcoded = frame;
    }

    /// Whether the transport takes no more for now.
    pub(super) fn is_transport_full(&self, key: u32) -> bool {
        let Some(session) = self.engines.sessions.get(key as usize) else { return true };
        match &session.transport {
            Transport::Polling(polling) => polling.buffer.len() >= TRANSPORT_BYTES,
            Transport::Carrier(slot) => {
                let conn = &self.conns[*slot as usize];
                let unsent = match conn.active {
                    NONE => 0,
                    active => self.actives[active as usize].outbox.unsent(),
                };
                conn.stage != Stage::Carrier || conn.has(flag::BLOCKED) || unsent >= TRANSPORT_BYTES
            }
        }
    }

    /// A client that makes the session itself talk and does not listen (R-CONN-5). A carrier is looked at by the flush.
    pub(super) fn end_if_over_limit(&mut self, key: u32) {
        let limit = self.settings.out_queue_bytes;
        let Some(session) = self.engines.get(key) else { return };
        let is_over = match session.transport {
            // One answer may be larger than the limit, and stands before what the session says.
            Transport::Polling(ref polling) => {
                polling.own_bytes as u64 > limit || behind_the_first(&polling.buffer) > limit + SOCKET_SEND_BYTES_MAX
            }
            Transport::Carrier(slot) => {
                let limit = limit + SOCKET_SEND_BYTES_MAX;
                self.private_bytes(slot, limit) > limit
            }
        };
        if limit != 0 && is_over {
            self.counters.dropped.add(DropReason::SlowConsumerClosed, 1);
            self.engine_end(key, EngineEnd::Server, Some(CloseCode::SlowConsumer));
        }
    }

    /// Moves what a virtual connection has for its client into the transport: private bytes first, then room by room.
    pub(in crate::shard) fn flush_virtual(&mut self, slot: Slot) {
        let key = self.engines.session_of(slot);
        if self.is_transport_full(key) {
            return self.block_virtual(slot);
        }
        self.copy_outbox(slot, key);
        if self.conns[slot as usize].has(flag::HOLD_LOGS) {
            return;
        }
        let mut subscription = self.conns[slot as usize].first_subscription;
        while subscription != NONE {
            let Some((from, len)) = self.fanout.sendable(subscription) else {
                subscription = self.fanout.subscriptions[subscription as usize].next;
                continue;
            };
            if self.is_transport_full(key) {
                return self.block_virtual(slot);
            }
            let room = self.fanout.subscriptions[subscription as usize].room;
            let mut bytes = self.buffers.take();
            bytes.extend_from_slice(&self.fanout.rooms[room as usize].log.readable(from)[..len]);
            self.remember(slot, &bytes);
            self.engine_push(key, &bytes);
            self.buffers.give_back(bytes);
            self.fanout.subscriptions[subscription as usize].cursor = (from + len as u64) as u32;
            self.fanout.touch(room);
        }
    }

    /// Moves a virtual connection's private bytes into the transport, full or not: they are bounded by themselves.
    pub(super) fn copy_outbox(&mut self, slot: Slot, key: u32) {
        let active = self.conns[slot as usize].active;
        if active == NONE {
            return;
        }
        let outbox = &mut self.actives[active as usize].outbox;
        if !outbox.is_empty() {
            let bytes = std::mem::take(&mut outbox.bytes);
            (outbox.sent, outbox.partial) = (0, 0);
            // What a recovery replays stands in the outbox.
            self.remember(slot, &bytes);
            self.engine_push(key, &bytes);
            self.buffers.give_back(bytes);
        }
        self.retire_active(slot);
    }

    /// It waits until the transport has drained.
    fn block_virtual(&mut self, slot: Slot) {
        self.conns[slot as usize].flags |= flag::BLOCKED;
        let mut subscription = self.conns[slot as usize].first_subscription;
        while subscription != NONE {
            let of = &self.fanout.subscriptions[subscription as usize];
            let (room, next) = (of.room, of.next);
            if of.cursor != self.fanout.rooms[room as usize].log.head() as u32 {
                self.fanout.fall_behind(subscription);
            }
            subscription = next;
        }
    }

    /// The transport has room again: whoever waited for it goes on in the next round.
    pub(in crate::shard) fn transport_drained(&mut self, key: u32) {
        let Some(session) = self.engines.get(key) else { return };
        let waiting: smallvec::SmallVec<[Slot; 8]> = session.connections.iter().copied().collect();
        for slot in waiting {
            if self.conns[slot as usize].has(flag::BLOCKED) {
                self.writable(slot);
            }
        }
    }

    /// All bytes of a carrier were taken, or it can be written to again.
    pub(in crate::shard) fn carrier_drained(&mut self, slot: Slot) {
        let key = self.conns[slot as usize].carried();
        let is_transport = self.engines.get(key).is_some_and(|session| session.carrier() == Some(slot));
        if is_transport && !self.conns[slot as usize].has(flag::BLOCKED) {
            self.transport_drained(key);
        }
    }

    /// The carrier of a virtual connection; none if it is on polling.
    fn carrier_of(&self, slot: Slot) -> Option<Slot> {
        let session = self.engines.sessions.get(self.engines.session_of(slot) as usize)?;
        session.carrier()
    }

    /// Whether a room's members are virtual connections. Members of one log have one format, so they all are or none is.
    pub(in crate::shard) fn is_carried_room(&self, room: u32) -> bool {
        let first = self.fanout.rooms[room as usize].members.first();
        first.is_some_and(|key| is_virtual(self.fanout.subscriptions[*key as usize].conn))
    }

    /// Plans what these members of a room get through their carriers, straight from its log.
    pub(in crate::shard) fn plan_carried_members(&mut self, room: u32, places: Range<usize>) {
        for place in places {
            let key = self.fanout.rooms[room as usize].members[place];
            let subscription = &self.fanout.subscriptions[key as usize];
            if subscription.cursor == self.fanout.rooms[room as usize].log.head() as u32 {
                continue;
            }
            let slot = subscription.conn;
            if !self.plan_carried(slot, key, room) {
                self.fanout.fall_behind(key);
                self.mark_dirty(slot);
            }
        }
    }

    /// One range of a room for one virtual connection, as a send of its carrier. False: not in this way, or not all of it.
    fn plan_carried(&mut self, slot: Slot, subscription: u32, room: u32) -> bool {
        if self.conns[slot as usize].flags & (flag::BLOCKED | flag::HOLD_LOGS | flag::DIRTY) != 0 {
            return false;
        }
        let Some(carrier) = self.carrier_of(slot) else { return false };
        let conn = &self.conns[carrier as usize];
        let is_free = conn.stage == Stage::Carrier
            && conn.round != self.deliveries.round
            && conn.flags & (flag::BLOCKED | flag::LAST_WORDS | flag::DIRTY) == 0
            // What is sealed goes out by way of the carrier's outbox.
            && !conn.kind.is_tls();
        if !is_free {
            return false;
        }
        let Some((from, len)) = self.fanout.sendable(subscription) else { return true };
        if self.settings.recovery_ticks > 0
            && let Some(virtual_) = self.engines.virtual_of(slot)
        {
            virtual_.memory.sent(&self.fanout.rooms[room as usize].log.readable(from)[..len]);
        }
        self.conns[carrier as usize].round = self.deliveries.round;
        self.plan_range(carrier, subscription, from, len) == self.fanout.rooms[room as usize].log.head()
    }

    /// At the end of a flush: answers the polls for which there is something now.
    pub(in crate::shard) fn answer_polls(&mut self) {
        let mut answerable = std::mem::take(&mut self.engines.answerable);
        for key in answerable.drain(..) {
            self.answer_poll(key);
        }
        answerable.append(&mut self.engines.answerable);
        self.engines.answerable = answerable;
    }

    /// Answers a session's poll, if one waits and there is something for it.
    pub(super) fn answer_poll(&mut self, key: u32) {
        let Some(session) = self.engines.get(key) else { return };
        let revision = session.revision;
        let is_closing = session.closing_since.is_some();
        let Transport::Polling(polling) = &mut session.transport else { return };
        if polling.buffer.is_empty() {
            return;
        }
        let Some(reply) = polling.get.take() else { return };
        let mut body = Vec::with_capacity(polling.buffer.len() + polling.buffer.len() / 8);
        let taken = PayloadWriter::new(revision, &mut body).frames(&polling.buffer, PAYLOAD_BYTES);
        polling.buffer.drain(..taken);
        let is_empty = polling.buffer.is_empty();
        if is_empty {
            polling.own_bytes = 0;
        }
        if is_empty && polling.buffer.capacity() > TRANSPORT_BYTES {
            polling.buffer = Vec::new();
        }
        self.counters.bytes_sent += body.len() as u64;
        self.engine_answer(reply, super::Answer::Payload(body));
        match is_closing && is_empty {
            true => self.forget_session(key),
            false => self.transport_drained(key),
        }
    }
}
