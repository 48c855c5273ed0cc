//! The flush: everything that a turn produced leaves in as few sends as possible.
//!
//! One send per connection and round: private bytes first (an ack precedes the event it caused), then the range between the
//! cursor and the head of one room's log, straight from the log's memory. A round is planned, sent as one batch, and settled;
//! rounds repeat until nothing can be sent, or the turn has offered frames to as many members as it may: then rooms go on where they
//! stopped, in the next turn. A send that stops inside a frame moves that frame's rest into the outbox, so a
//! cursor always stands at a frame boundary and other bytes never get between the halves of a frame.
use super::Core;
use super::conn::{NONE, Stage, flag};
use super::connections::Outboxes;
use super::conns::is_virtual;
use super::fanout::Pace;
use crate::base::close::CloseCode;
use crate::limits;
use crate::plane::{Plane, Shortfall, Slot};
use crate::telemetry::DropReason;
use crate::tls::{Exhausted, Session};
use std::ops::Range;

/// One send of a round.
#[derive(Clone, Copy)]
struct Planned {
    slot: Slot,
    /// NONE: the outbox of `key` (an `Active` index), or a ping if that is NONE too; SEALED: what the connection's session has sealed;
    /// else a subscription, and `key` its room.
    subscription: u32,
    key: u32,
    len: u32,
    /// Position in the log, or the outbox's `sent`.
    from: u64,
}

/// The flush's working lists, reused from turn to turn.
#[derive(Default)]
pub struct Deliveries {
    /// Connections with something to send besides the frames of dirty rooms.
    dirty: Vec<Slot>,
    pub round: u8,
    plan: Vec<Planned>,
    shortfalls: Vec<Shortfall>,
    /// Connections whose TLS keys are used up. They end when the rooms have been walked, whose lists they are taken out of.
    used_up: Vec<Slot>,
    pub offers: Offers,
    /// Broadcasts that were not offered to everyone yet.
    pub marks: Vec<Mark>,
}

impl Deliveries {
    /// Keeps room for so many.
    pub fn trim(&mut self, kept: usize) {
        self.dirty.shrink_to(kept);
        self.plan.shrink_to(kept);
        self.shortfalls.shrink_to(kept);
        self.marks.shrink_to(kept);
    }
}

/// How many members the rooms may look at in a turn.
pub struct Offers {
    pub per_turn: usize,
    left: usize,
}

impl Default for Offers {
    fn default() -> Offers {
        Offers { per_turn: limits::OFFERS_PER_TURN, left: 0 }
    }
}

impl Offers {
    /// A turn begins.
    pub fn renew(&mut self) {
        self.left = self.per_turn;
    }

    /// Of one room, before it is another's turn: a room of thousands must not keep the many of ten waiting.
    fn slice(&self) -> usize {
        self.left.min((self.per_turn / 8).max(1))
    }
}

/// For the histogram of broadcasts.
pub struct Mark {
    pub room: u32,
    /// Head of the room's log before the frame.
    pub from: u64,
    /// When the command was read.
    pub read_at_ns: u64,
}

/// No subscription: slabs hold fewer.
const SEALED: u32 = NONE - 1;

/// Connections of the dirty list that are served in one round. With the members of rooms that a turn looks at, the plan has at most
/// 16,384 sends, 512 KiB. More: more memory. Fewer: smaller batches when thousands are pinged or told to go.
const CONNECTIONS_PER_ROUND: usize = (16 << 10) - limits::OFFERS_PER_TURN;

/// Private bytes up to this many take a small room range with them in one send.
const GATHER_BYTES_MAX: usize = 4096;

impl Deliveries {
    /// A send of so many bytes that a session has sealed.
    pub(super) fn plan_records(&mut self, slot: Slot, len: u32) {
        self.plan.push(Planned { slot, subscription: SEALED, key: NONE, len, from: 0 });
    }
}

impl<P: Plane> Core<P> {
    /// Lists a connection for the next flush.
    pub(super) fn mark_dirty(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        if !conn.has(flag::DIRTY) {
            conn.flags |= flag::DIRTY;
            self.deliveries.dirty.push(slot);
        }
    }

    pub(super) fn flush(&mut self) {
        loop {
            self.deliveries.round = self.deliveries.round.wrapping_add(1);
            self.deliveries.plan.clear();
            self.plan_connections();
            self.plan_rooms();
            while let Some(slot) = self.deliveries.used_up.pop() {
                self.counters.tls_record_faults += 1;
                self.hang_up(slot);
            }
            if !self.deliveries.plan.is_empty() {
                self.send_planned();
                self.settle_planned();
            } else if self.deliveries.dirty.is_empty() {
                // An answered poll makes room for more.
                self.answer_polls();
                if self.deliveries.dirty.is_empty() {
                    break;
                }
            }
        }
        while let Some(room) = self.fanout.unsettled.pop() {
            // A room may have gone meanwhile, and its key may belong to another: settling that one is harmless.
            if self.fanout.rooms.contains(room as usize) {
                self.fanout.settle(room);
            }
        }
        if !self.deliveries.marks.is_empty() {
            let now_ns = self.plane.now().mono_ns;
            self.deliveries.marks.retain(|mark| {
                let is_offered = self.fanout.is_offered(mark.room, mark.from);
                if is_offered {
                    self.histograms.broadcast.saturating_record(now_ns.saturating_sub(mark.read_at_ns));
                }
                !is_offered
            });
        }
    }

    /// Outboxes, and room ranges of connections that could not be served with their room.
    fn plan_connections(&mut self) {
        let mut dirty = std::mem::take(&mut self.deliveries.dirty);
        // The plan stays small: who is left has the next round.
        let from = dirty.len().saturating_sub(CONNECTIONS_PER_ROUND);
        for slot in dirty.drain(from..) {
            let conn = &mut self.conns[slot as usize];
            conn.flags &= !flag::DIRTY;
            if matches!(conn.stage, Stage::Free | Stage::Lingering | Stage::Closed) {
                continue;
            }
            if conn.has(flag::BLOCKED) {
                self.close_if_over_limit(slot);
                continue;
            }
            if is_virtual(slot) {
                self.flush_virtual(slot);
                continue;
            }
            conn.round = self.deliveries.round;
            let is_ping_due = conn.has(flag::PING_DUE);
            conn.flags &= !flag::PING_DUE;
            if conn.kind.is_tls() {
                if self.plan_records(slot, is_ping_due) == Err(Exhausted) {
                    self.deliveries.used_up.push(slot);
                }
            } else if conn.active != NONE && !self.actives[conn.active as usize].outbox.is_empty() {
                if is_ping_due {
                    let ping = self.formats.get(conn.kind.format()).ping();
                    self.actives[conn.active as usize].outbox.bytes.extend_from_slice(ping);
                }
                self.gather(slot);
                let conn = &self.conns[slot as usize];
                let outbox = &self.actives[conn.active as usize].outbox;
                self.deliveries.plan.push(Planned {
                    slot,
                    subscription: NONE,
                    key: conn.active,
                    len: outbox.unsent() as u32,
                    from: outbox.sent as u64,
                });
            } else if conn.has(flag::LAST_WORDS) {
                self.linger(slot);
            } else if is_ping_due {
                // Without a side record: a quiet server pings thousands of connections in one turn.
                self.deliveries.plan.push(Planned {
                    slot,
                    subscription: NONE,
                    key: NONE,
                    len: self.formats.get(self.conns[slot as usize].kind.format()).ping().len() as u32,
                    from: 0,
                });
                self.mark_dirty(slot);
            } else if !conn.has(flag::HOLD_LOGS) {
                self.plan_one_room(slot);
            } else {
                continue;
            }
        }
        // `mark_dirty` may have listed some again for the next round.
        dirty.append(&mut self.deliveries.dirty);
        self.deliveries.dirty = dirty;
    }

    /// Private bytes that a blocked reader lets pile up are bounded like a room's (R-CONN-5).
    fn close_if_over_limit(&mut self, slot: Slot) {
        let limit = self.settings.out_queue_bytes;
        if limit != 0 && self.private_bytes(slot, limit) > limit {
            self.counters.dropped.add(DropReason::SlowConsumerClosed, 1);
            self.close(slot, CloseCode::SlowConsumer);
        }
    }

    /// The same within a turn: a client can ask for more in one packet than memory holds.
    pub(super) fn close_if_flooded(&mut self, slot: Slot) {
        let limit = self.settings.out_queue_bytes + limits::SOCKET_SEND_BYTES_MAX;
        if self.settings.out_queue_bytes != 0 && self.private_bytes(slot, limit) > limit {
            self.counters.dropped.add(DropReason::SlowConsumerClosed, 1);
            self.close(slot, CloseCode::SlowConsumer);
        }
    }

    /// Private bytes of a live connection that count towards `limit`.
    pub(super) fn private_bytes(&self, slot: Slot, limit: u64) -> u64 {
        let conn = &self.conns[slot as usize];
        let outboxes = Outboxes { actives: &self.actives, formats: &self.formats };
        if conn.is_live() { outboxes.waiting(conn, limit) } else { 0 }
    }

    /// The next range of the first of a connection's rooms that has one.
    fn plan_one_room(&mut self, slot: Slot) {
        let mut key = self.conns[slot as usize].first_subscription;
        while key != NONE {
            if let Some((from, len)) = self.fanout.sendable(key) {
                self.plan_range(slot, key, from, len);
                self.mark_dirty(slot); // perhaps there is more: the next round looks
                return;
            }
            key = self.fanout.subscriptions[key as usize].next;
        }
    }

    /// Members of the rooms that have new frames, a slice of each in turn, as many as the turn may look at.
    fn plan_rooms(&mut self) {
        if self.deliveries.offers.left == 0 && self.fanout.is_pressed() {
            self.deliveries.offers.renew();
        }
        let mut rooms = std::mem::take(&mut self.fanout.dirty);
        let mut looked_at = 0;
        while self.deliveries.offers.left > 0
            && let Some(&room) = rooms.get(looked_at)
        {
            looked_at += 1;
            let slice = self.fanout.slice(room, self.deliveries.offers.slice());
            self.deliveries.offers.left -= slice.len();
            self.plan_members(room, slice);
            if !self.fanout.end_slice(room) {
                rooms.push(room);
            }
        }
        rooms.drain(..looked_at);
        self.fanout.dirty = rooms;
    }

    /// What these members of a room have not got.
    fn plan_members(&mut self, room: u32, places: Range<usize>) {
        if self.is_carried_room(room) {
            return self.plan_carried_members(room, places);
        }
        let head = self.fanout.rooms[room as usize].log.head();
        for place in places {
            let key = self.fanout.rooms[room as usize].members[place];
            let subscription = &self.fanout.subscriptions[key as usize];
            if subscription.cursor == head as u32 {
                continue; // it is the sender, or its private bytes took the frames along
            }
            let slot = subscription.conn;
            let conn = &mut self.conns[slot as usize];
            let is_free = conn.round != self.deliveries.round
                && conn.flags & (flag::BLOCKED | flag::HOLD_LOGS | flag::LAST_WORDS | flag::DIRTY) == 0;
            if !is_free {
                self.fanout.fall_behind(key);
                self.mark_dirty(slot);
                continue;
            }
            if conn.kind.is_tls() {
                conn.round = self.deliveries.round;
                match self.plan_records(slot, false) {
                    Err(Exhausted) => self.deliveries.used_up.push(slot),
                    Ok(()) if self.fanout.subscriptions[key as usize].cursor == head as u32 => {}
                    Ok(()) => {
                        self.fanout.fall_behind(key);
                        self.mark_dirty(slot);
                    }
                }
                continue;
            }
            let Some((from, len)) = self.fanout.sendable(key) else { continue };
            conn.round = self.deliveries.round;
            if self.plan_range(slot, key, from, len) != head {
                self.fanout.fall_behind(key);
                self.mark_dirty(slot);
            }
        }
    }

    /// Plans a range and moves the cursor behind it; the new position.
    pub(super) fn plan_range(&mut self, slot: Slot, key: u32, from: u64, len: usize) -> u64 {
        let subscription = &mut self.fanout.subscriptions[key as usize];
        let to = from + len as u64;
        subscription.cursor = to as u32;
        let room = subscription.room;
        if subscription.pace() == Pace::Behind {
            self.fanout.touch(room);
        }
        self.deliveries.plan.push(Planned { slot, subscription: key, key: room, len: len as u32, from });
        to
    }

    /// A small range behind small private bytes joins them: one send instead of two.
    fn gather(&mut self, slot: Slot) {
        let conn = &self.conns[slot as usize];
        if conn.flags & (flag::HOLD_LOGS | flag::LAST_WORDS) != 0 {
            return;
        }
        let (active, mut key) = (conn.active as usize, conn.first_subscription);
        while key != NONE && self.actives[active].outbox.unsent() <= GATHER_BYTES_MAX {
            match self.fanout.sendable(key) {
                Some((from, len)) if len <= GATHER_BYTES_MAX => {
                    let subscription = &mut self.fanout.subscriptions[key as usize];
                    let room = &self.fanout.rooms[subscription.room as usize];
                    let bytes = &room.log.readable(from)[..len];
                    self.actives[active].outbox.bytes.extend_from_slice(bytes);
                    subscription.cursor = (from + len as u64) as u32;
                    let room = subscription.room;
                    self.fanout.touch(room);
                }
                Some(_) => break,
                None => key = self.fanout.subscriptions[key as usize].next,
            }
        }
        // Whatever did not join goes in the next round.
        if key != NONE {
            self.mark_dirty(slot);
        }
    }

    fn send_planned(&mut self) {
        let (rooms, actives, conns, formats) = (&self.fanout.rooms, &self.actives, &self.conns, &self.formats);
        let secured = &self.secured;
        // Members of one room mostly get the same range: look it up once.
        let mut last: (u32, u64, &[u8]) = (NONE, 0, &[]);
        let mut bytes_sent = 0;
        let mut sends = self.deliveries.plan.iter().map(|send| {
            bytes_sent += u64::from(send.len);
            if send.subscription == NONE && send.key == NONE {
                return (send.slot, formats.get(conns[send.slot as usize].kind.format()).ping());
            }
            if send.subscription == NONE {
                return (send.slot, &actives[send.key as usize].outbox.bytes[send.from as usize..]);
            }
            if send.subscription == SEALED {
                return (send.slot, secured.get(send.slot).map_or(&[], Session::unsent));
            }
            if (last.0, last.1) != (send.key, send.from) {
                last = (send.key, send.from, rooms[send.key as usize].log.readable(send.from));
            }
            (send.slot, &last.2[..send.len as usize])
        });
        self.deliveries.shortfalls.clear();
        self.plane.send_batch(&mut sends, &mut self.deliveries.shortfalls);
        self.counters.bytes_sent += bytes_sent;
    }

    fn settle_planned(&mut self) {
        let shortfalls = std::mem::take(&mut self.deliveries.shortfalls);
        for shortfall in &shortfalls {
            let planned = &mut self.deliveries.plan[shortfall.index as usize];
            let (send, taken) = (*planned, shortfall.taken);
            // Not an outbox that went out whole.
            planned.len = 0;
            self.counters.bytes_sent -= u64::from(send.len - taken.unwrap_or(0));
            match taken {
                Ok(taken) => self.fell_short(send, taken),
                Err(errno) => self.transport_failed(send.slot, errno),
            }
        }
        self.deliveries.shortfalls = shortfalls;
        for i in 0..self.deliveries.plan.len() {
            let send = self.deliveries.plan[i];
            if send.subscription == NONE && send.key != NONE && send.len > 0 {
                self.outbox_is_out(send.slot);
            } else if send.subscription == SEALED && send.len > 0 {
                self.records_taken(send.slot, send.len);
                self.records_are_out(send.slot);
            }
        }
    }

    /// The kernel took only the first bytes of a send: wait for room.
    fn fell_short(&mut self, send: Planned, taken: u32) {
        let slot = send.slot;
        if send.subscription == NONE && send.key == NONE {
            let format = self.conns[slot as usize].kind.format();
            let active = super::connections::activate(&mut self.actives, &mut self.conns[slot as usize]);
            active.outbox.bytes.extend_from_slice(self.formats.get(format).ping());
            active.outbox.sent = taken as usize;
        } else if send.subscription == NONE {
            self.actives[send.key as usize].outbox.sent += taken as usize;
        } else if send.subscription == SEALED {
            self.records_taken(slot, taken);
        } else {
            // Frames begin where the send began; find the end of the one that was cut.
            let room = &self.fanout.rooms[send.key as usize];
            let (sent, format) = (&room.log.readable(send.from)[..send.len as usize], self.formats.get(room.format));
            let mut boundary = 0;
            while boundary < taken as usize {
                boundary += format.frame_len(&sent[boundary..]).expect("the log holds whole frames");
            }
            let rest = &sent[taken as usize..boundary];
            let active = super::connections::activate(&mut self.actives, &mut self.conns[slot as usize]);
            debug_assert!(active.outbox.is_empty(), "private bytes go first");
            active.outbox.bytes.clear();
            active.outbox.bytes.extend_from_slice(rest);
            (active.outbox.sent, active.outbox.partial) = (0, rest.len());
            self.fanout.subscriptions[send.subscription as usize].cursor = (send.from + boundary as u64) as u32;
            self.fanout.fall_behind(send.subscription);
            self.fanout.touch(send.key);
        }
        let tick = self.tick;
        let active = super::connections::activate(&mut self.actives, &mut self.conns[slot as usize]);
        active.blocked_since = match (active.blocked_since, taken) {
            (0, _) | (_, 1..) => tick.max(1),
            (since, 0) => since,
        };
        self.conns[slot as usize].flags |= flag::BLOCKED;
        self.plane.want_writable(slot);
        self.schedule(slot);
    }

    /// All private bytes of a connection were taken.
    fn outbox_is_out(&mut self, slot: Slot) {
        let conn = &self.conns[slot as usize];
        if conn.active == NONE {
            return;
        }
        let outbox = &mut self.actives[conn.active as usize].outbox;
        (outbox.sent, outbox.partial) = (0, 0);
        self.buffers.give_back(std::mem::take(&mut outbox.bytes));
        if conn.has(flag::LAST_WORDS) {
            self.linger(slot);
        } else {
            let is_carrier = conn.stage == Stage::Carrier;
            self.retire_active(slot);
            if is_carrier {
                self.carrier_drained(slot);
            }
        }
    }

    /// There is room again.
    pub(super) fn writable(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        if matches!(conn.stage, Stage::Free | Stage::Closed) {
            return;
        }
        conn.flags &= !flag::BLOCKED;
        if conn.active != NONE {
            // A writable socket takes something, which is what the write timeout waits for.
            self.actives[conn.active as usize].blocked_since = 0;
        }
        let is_carrier = conn.stage == Stage::Carrier;
        self.mark_dirty(slot);
        if is_carrier {
            self.carrier_drained(slot);
        }
    }
}

#[cfg(test)]
mod tests;
