//! TLS on the plane: what a connection with a session receives is opened before it is read, and what it is sent is sealed.
//!
//! Such a connection is never sent to straight from a log. The flush visits it by itself, seals private bytes and then room ranges, a
//! bounded amount a round, and sends what was sealed; what the kernel does not take stays with the session. So cursors and outbox stand
//! behind what was *sealed*, and both are still where other bytes may go between.
use super::conn::{NONE, Stage, flag};
use super::{Core, Shard};
use crate::plane::{Plane, SLACK_BYTES, Slot};
use crate::telemetry::{TlsFailure, TlsHandshake};
use crate::tls::{ASSEMBLED_SLACK_BYTES, Acceptor, Exhausted, Opened, Session};
use smallvec::SmallVec;
use std::sync::Arc;

const _: () = assert!(ASSEMBLED_SLACK_BYTES >= SLACK_BYTES, "plaintext is read like a receive buffer");

/// Plaintext sealed for one connection in one round, unless a single frame is longer: four full records. Smaller: more system calls for
/// a bulk of bytes. Larger: a reader that does not read holds as much sealed for it alone, on top of `conn.out_queue_bytes`, which counts
/// plaintext.
const SEALED_BYTES_MAX: usize = 64 << 10;

/// Sessions of this shard, by slot.
#[derive(Default)]
pub struct Secured {
    /// What new connections shake hands by; None: no TLS.
    pub acceptor: Option<Arc<Acceptor>>,
    /// As long as the highest slot that ever had one; empty without TLS.
    sessions: Vec<Option<Box<Session>>>,
    count: usize,
}

impl Secured {
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes sealed for a connection that the kernel has not taken.
    pub fn unsent(&self, slot: Slot) -> usize {
        self.get(slot).map_or(0, |session| session.unsent().len())
    }

    pub fn get(&self, slot: Slot) -> Option<&Session> {
        self.sessions.get(slot as usize)?.as_deref()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        self.sessions.get_mut(slot as usize)?.as_deref_mut()
    }

    fn take(&mut self, slot: Slot) -> Option<Box<Session>> {
        let session = self.sessions.get_mut(slot as usize)?.take();
        self.count -= usize::from(session.is_some());
        session
    }

    fn put(&mut self, slot: Slot, session: Box<Session>, slots_max: u32) {
        let index = slot as usize;
        if self.sessions.capacity() == 0 {
            // Reserved whole, like the other tables of connections.
            self.sessions.reserve(slots_max as usize);
        }
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        debug_assert!(self.sessions[index].is_none());
        self.sessions[index] = Some(session);
        self.count += 1;
    }

    /// With the connection.
    pub fn remove(&mut self, slot: Slot) {
        drop(self.take(slot));
    }
}

impl<P: Plane> Shard<P> {
    /// Other certificates for the connections that come; None: no TLS.
    pub fn set_acceptor(&mut self, acceptor: Option<Arc<Acceptor>>) {
        self.core.secured.acceptor = acceptor;
    }

    /// What a new connection shakes hands by.
    pub fn acceptor(&self) -> Option<&Acceptor> {
        self.core.secured.acceptor.as_deref()
    }

    /// Counts a handshake that has ended.
    pub fn count_handshake(&mut self, outcome: Result<TlsHandshake, TlsFailure>) {
        match outcome {
            Ok(kind) => self.core.counters.tls_handshakes.add(kind, 1),
            Err(failure) => self.core.counters.tls_failures.add(failure, 1),
        }
    }

    /// Opens the records in `input[..end]`, behind which there is slack, and reads what is in them.
    pub(super) fn read_records(&mut self, slot: Slot, input: &mut [u8], end: usize) {
        let conn = &mut self.core.conns[slot as usize];
        // A piece of a record is a sign of life, as a piece of a frame is.
        conn.heard = self.core.tick;
        conn.flags &= !flag::PINGED;
        let Some(mut session) = self.core.secured.take(slot) else { return };
        let mut cursor = 0;
        let is_over = loop {
            match session.open(input, &mut cursor, end) {
                Ok(None) => break false,
                Ok(Some(Opened::Input(range))) => self.read(slot, &mut input[range.start..], range.len()),
                Ok(Some(Opened::Assembled(len))) => self.read(slot, session.assembled(), len),
                Ok(Some(Opened::End)) => break true,
                Err(fault) => {
                    self.core.counters.tls_record_faults += 1;
                    tracing::debug!(shard = self.core.id, slot, ?fault, "TLS record fault");
                    break true;
                }
            }
        };
        let has_unsent = !session.unsent().is_empty();
        self.core.keep_session(slot, session);
        if is_over {
            self.core.hang_up(slot);
        } else if has_unsent {
            self.core.mark_dirty(slot);
        }
    }
}

impl<P: Plane> Core<P> {
    /// Gives a session its place, unless its connection has ended meanwhile.
    pub(super) fn keep_session(&mut self, slot: Slot, session: Box<Session>) {
        if !matches!(self.conns[slot as usize].stage, Stage::Free | Stage::Closed) {
            self.secured.put(slot, session, self.plane.capacity());
        }
    }

    /// The flush's visit to one connection: plans a send of what is sealed, and seals more before if nothing is.
    pub(super) fn plan_records(&mut self, slot: Slot, is_ping_due: bool) -> Result<(), Exhausted> {
        let Some(mut session) = self.secured.take(slot) else { return Ok(()) };
        if is_ping_due {
            // Until there is room for it.
            self.conns[slot as usize].flags |= flag::PING_DUE;
        }
        let sealed = match session.unsent().is_empty() && !session.is_silent() {
            true => self.seal_next(slot, &mut session),
            // What is behind it waits until it is gone.
            false => Ok(!session.is_silent()),
        };
        let (unsent, is_silent) = (session.unsent().len(), session.is_silent());
        self.keep_session(slot, session);
        if unsent > 0 {
            self.deliveries.plan_records(slot, unsent as u32);
        } else if is_silent && self.conns[slot as usize].has(flag::LAST_WORDS) {
            self.linger(slot);
        }
        if sealed? {
            self.mark_dirty(slot); // there is more: the next round looks
        }
        Ok(())
    }

    /// Seals what comes next: private bytes, a ping, then the rooms' frames. At the end of everything, `close_notify`. True: there is more.
    fn seal_next(&mut self, slot: Slot, session: &mut Session) -> Result<bool, Exhausted> {
        let conn = &mut self.conns[slot as usize];
        let (flags, active, mut key) = (conn.flags, conn.active, conn.first_subscription);
        let format = self.formats.get(conn.kind.format());
        let outbox = (active != NONE).then(|| &self.actives[active as usize].outbox);
        let private = outbox.map_or(&[][..], |outbox| &outbox.bytes[outbox.sent..]);
        let taken = private.len().min(SEALED_BYTES_MAX);
        let is_all_private = taken == private.len();
        let mut len = taken;

        let mut is_more = !is_all_private;
        let mut ranges = SmallVec::<[(u32, u64, usize); 6]>::new();
        if is_all_private && flags & (flag::HOLD_LOGS | flag::LAST_WORDS) == 0 {
            while key != NONE {
                match self.fanout.sendable(key) {
                    Some((from, more)) if len == 0 || len + more <= SEALED_BYTES_MAX => {
                        let subscription = &mut self.fanout.subscriptions[key as usize];
                        subscription.cursor = (from + more as u64) as u32;
                        let room = subscription.room;
                        ranges.push((room, from, more));
                        self.fanout.touch(room);
                        len += more;
                    }
                    Some(_) => {
                        is_more = true;
                        break;
                    }
                    None => key = self.fanout.subscriptions[key as usize].next,
                }
            }
        }
        let mut chunks = SmallVec::<[&[u8]; 8]>::new();
        chunks.push(&private[..taken]);
        if is_all_private && flags & flag::PING_DUE != 0 {
            conn.flags &= !flag::PING_DUE;
            chunks.push(format.ping());
        }
        let room_bytes =
            |(room, from, len): &(u32, u64, usize)| &self.fanout.rooms[*room as usize].log.readable(*from)[..*len];
        chunks.extend(ranges.iter().map(room_bytes));
        session.seal(&chunks)?;
        drop(chunks);

        if active != NONE {
            let outbox = &mut self.actives[active as usize].outbox;
            outbox.sent += taken;
            if is_all_private {
                (outbox.sent, outbox.partial) = (0, 0);
                self.buffers.give_back(std::mem::take(&mut outbox.bytes));
            }
        }
        if is_all_private && flags & flag::LAST_WORDS != 0 {
            session.end();
        }
        Ok(is_more)
    }

    /// The kernel took so many bytes of what was sealed.
    pub(super) fn records_taken(&mut self, slot: Slot, bytes: u32) {
        if let Some(session) = self.secured.get_mut(slot) {
            session.took(bytes as usize);
        }
    }

    /// Everything sealed was taken.
    pub(super) fn records_are_out(&mut self, slot: Slot) {
        let is_silent = self.secured.get(slot).is_some_and(Session::is_silent);
        match self.conns[slot as usize].has(flag::LAST_WORDS) {
            true if is_silent => self.linger(slot),
            true => self.mark_dirty(slot),
            false => {
                self.retire_active(slot);
                if self.conns[slot as usize].stage == Stage::Carrier {
                    self.carrier_drained(slot);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
