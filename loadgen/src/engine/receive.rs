//! What comes in: bytes to frames to messages, each to whoever judges it.
use super::link::State;
use super::worker::Worker;
use crate::result::Timed;
use crate::stamp::Stamp;
use crate::wire::{Command, Incoming, frame, recovered_events};
use throng::plane::{Received, Slot};

const OP_CONTINUATION: u8 = 0;
const OP_CLOSE: u8 = 8;

impl Worker<'_> {
    pub(super) fn received(&mut self, slot: Slot, mut buffer: impl Received) {
        let connection = self.owners.get(slot as usize).copied().unwrap_or(u32::MAX);
        if connection == u32::MAX {
            return;
        }
        let now = self.shared.clock.now_ns();
        let len = buffer.len();
        let bytes = &buffer.bytes()[..len];
        self.counts.bytes_received += len as u64;
        if self.partial.is_empty() || !self.partial.contains_key(&slot) {
            let taken = self.take(connection, slot, bytes, now);
            self.keep(connection, slot, &bytes[taken..]);
        } else if let Some(mut partial) = self.partial.remove(&slot) {
            partial.extend_from_slice(bytes);
            let taken = self.take(connection, slot, &partial, now);
            self.keep(connection, slot, &partial[taken..]);
        }
    }

    /// Bytes whose end has not come, unless their client has gone meanwhile.
    fn keep(&mut self, connection: u32, slot: Slot, rest: &[u8]) {
        if !rest.is_empty() && self.owners[slot as usize] == connection {
            self.partial.insert(slot, rest.to_vec());
        }
    }

    /// Handles what is complete and says how much that was.
    fn take(&mut self, connection: u32, slot: Slot, bytes: &[u8], now: u64) -> usize {
        let mut at = 0;
        if self.link(connection).state == State::Upgrading {
            match self.shared.target.dialect.accepted(bytes) {
                Ok(None) => return 0,
                Ok(Some(head)) => {
                    at = head;
                    self.upgraded(connection, now);
                }
                Err(reason) => {
                    self.fail_attempt(connection, &reason);
                    return bytes.len();
                }
            }
        }
        while self.owners[slot as usize] == connection {
            match frame::first(&bytes[at..]) {
                Ok(Some(frame)) => {
                    at += frame.bytes;
                    self.framed(connection, slot, frame, now);
                }
                Ok(None) => return at,
                Err(error) => {
                    tracing::warn!(connection, %error, "the server broke the WebSocket protocol");
                    self.lost(connection, 1002);
                    return bytes.len();
                }
            }
        }
        bytes.len()
    }

    fn framed(&mut self, connection: u32, slot: Slot, frame: frame::Frame, now: u64) {
        match frame.opcode {
            OP_CLOSE => self.closed(connection, frame::close_code(frame.payload)),
            opcode if opcode > OP_CLOSE || (frame.is_final && opcode != OP_CONTINUATION) => {
                self.message(connection, opcode, frame.payload, now);
            }
            opcode => {
                let (first, whole) = self.fragments.entry(slot).or_default();
                if opcode != OP_CONTINUATION {
                    *first = opcode;
                }
                whole.extend_from_slice(frame.payload);
                if frame.is_final
                    && let Some((opcode, whole)) = self.fragments.remove(&slot)
                {
                    self.message(connection, opcode, &whole, now);
                }
            }
        }
    }

    fn message(&mut self, connection: u32, opcode: u8, payload: &[u8], now: u64) {
        match self.shared.target.dialect.read(opcode, payload) {
            Incoming::Live(stamp) => {
                self.checker.live(connection, &stamp);
                self.delivered(Timed::Live, &stamp, now);
            }
            Incoming::Durable { stamp, offset, epoch } => {
                self.checker.durable(connection, &stamp, offset, epoch);
                self.applied(connection, &stamp, offset);
                self.delivered(Timed::Durable, &stamp, now);
            }
            Incoming::Acked { stamp, is_duplicate } => self.acked(connection, &stamp, is_duplicate, now),
            Incoming::HeartbeatAnswer { intended_ns } => {
                let link = self.link(connection);
                link.unanswered = link.unanswered.saturating_sub(1);
                let lag_ns = u64::from(link.heartbeat_lag_us) * 1_000;
                let response_ns = now.saturating_sub(intended_ns);
                self.recorder.sample(Timed::Heartbeat, response_ns, Some(response_ns.saturating_sub(lag_ns)));
                self.recorder.acked();
                self.counts.measured_heartbeats += u64::from(self.is_measured(now));
            }
            Incoming::Ready => self.signed_in(connection, now),
            Incoming::Joined { request } => {
                if (request as usize) < self.shared.scenario.layers.len() {
                    self.joined(connection, request as usize, now);
                }
            }
            Incoming::RoomState { room, recovered, epoch, offset, body } => {
                self.room_state(connection, room, recovered, (epoch, offset), body);
            }
            Incoming::Refused { code, stamp, request, .. } => self.refused(connection, code, stamp, request),
            Incoming::Reply(reply) => self.write(connection, &Command::Reply(reply)),
            Incoming::ServerClosing | Incoming::Other => {}
        }
    }

    fn delivered(&mut self, timed: Timed, stamp: &Stamp, now: u64) {
        let response_ns = now.saturating_sub(stamp.intended_ns);
        let service_ns = self.lag_of(stamp).map(|lag_ns| response_ns.saturating_sub(lag_ns));
        self.recorder.sample(timed, response_ns, service_ns);
        self.recorder.delivered();
        self.counts.measured_delivered += u64::from(self.is_measured(now));
        match timed {
            Timed::Live => self.delivered_live += 1,
            _ => self.delivered_durable += 1,
        }
    }

    /// A durable event is the client's new position.
    fn applied(&mut self, connection: u32, stamp: &Stamp, offset: u64) {
        let local = (connection - self.connections.start) as usize;
        if let Some((layer, _)) = self.shared.scenario.room_place(stamp.room)
            && let Some(own) = self.offsets[layer].get_mut(local)
        {
            *own = (*own).max(offset);
        }
    }

    fn acked(&mut self, connection: u32, stamp: &Stamp, is_duplicate: bool, now: u64) {
        if self.take_unacked(connection, stamp).is_none() {
            return;
        }
        self.sent.acked(stamp.room, stamp.publisher, stamp.number);
        self.counts.acked += 1;
        self.counts.duplicate_acks += u64::from(is_duplicate);
        self.counts.measured_acked += u64::from(self.is_measured(now));
        let response_ns = now.saturating_sub(stamp.intended_ns);
        let service_ns = self.lag_of(stamp).map(|lag_ns| response_ns.saturating_sub(lag_ns));
        self.recorder.sample(Timed::Ack, response_ns, service_ns);
        self.recorder.acked();
    }

    /// What a join brings: where the room stands, and what was missed.
    fn room_state(
        &mut self,
        connection: u32,
        room: &str,
        recovered: Option<bool>,
        (epoch, offset): (&str, u64),
        body: &[u8],
    ) {
        let layers = 0..self.shared.scenario.layers.len();
        let Some(layer) = layers.into_iter().find(|layer| self.room_name(*layer, connection) == room) else { return };
        if self.offsets[layer].is_empty() {
            return;
        }
        let number = self.shared.scenario.room_number(layer, connection);
        let local = (connection - self.connections.start) as usize;
        if self.link(connection).is_return {
            self.checker.back(connection, number, recovered);
            match recovered {
                Some(true) => self.counts.recovered += 1,
                _ => self.counts.not_recovered += 1,
            }
            if recovered == Some(true) {
                let (checker, counts) = (&mut self.checker, &mut self.delivered_durable);
                recovered_events(body, |stamp, offset| {
                    checker.durable(connection, &stamp, offset, epoch);
                    *counts += 1;
                });
            } else {
                self.checker.positioned(connection, number, epoch, offset);
            }
        } else {
            self.checker.positioned(connection, number, epoch, offset);
        }
        self.offsets[layer][local] = offset;
        if self.epochs.get(&number).is_none_or(|known| known.as_ref() != epoch) {
            self.epochs.insert(number, epoch.into());
        }
    }

    fn refused(&mut self, connection: u32, code: &str, stamp: Option<Stamp>, request: Option<u32>) {
        *self.counts.refused.entry(code.to_owned()).or_default() += 1;
        if let Some(stamp) = stamp {
            self.take_unacked(connection, &stamp);
            self.sent.refused(stamp.room, stamp.publisher, stamp.number);
        } else if request.is_some() && self.link(connection).state == State::Joining {
            let reason = format!("the server refused to let it into a room: {code}");
            self.fail_attempt(connection, &reason);
        }
    }
}
