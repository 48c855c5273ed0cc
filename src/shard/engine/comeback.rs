//! Recovery on the shard of a connection: what went into its transport is remembered, kept when it is lost, and taken up by a new one.
//!
//! See `recovery` for the whole. The new connection's CONNECT is answered when all its rooms have said whether they can bring what was
//! missed; until then their logs are held back.
use super::recovery::{Claim, Owner, Recovered, Remembered};
use super::track::{Memory, Position};
use crate::base::hash::home_shard;
use crate::ids::ConnRef;
use crate::plane::{Plane, Slot};
use crate::rooms::effects::Class;
use crate::rooms::event::{Event, Snapshot};
use crate::session::encode::Stamp;
use crate::session::transcode::Parts;
use crate::shard::conn::flag;
use crate::shard::mail::{Mail, Parting, ResumeRoom};
use crate::shard::{Core, Departure};
use crate::wire::engineio::Sid;
use crate::wire::ws::{self, Opcode};
use std::sync::Arc;

/// The request id of a room that is entered again by recovery. No client can send it: theirs have a character at least.
pub const REQUEST: &str = "";

/// A recovery under way, on the shard of the new connection.
pub struct Pending {
    pub pid: Sid,
    pub offset: Box<str>,
    /// What the claim gave, to be kept again if the client is lost once more before it is through.
    remembered: Option<Remembered>,
    positions: Vec<Position>,
    /// Rooms that have not answered.
    remaining: usize,
    is_failed: bool,
    /// Native messages that were missed, as frames, in the order of the rooms.
    missed: Vec<u8>,
}

impl Pending {
    pub fn new(pid: Sid, offset: &str) -> Pending {
        Pending {
            pid,
            offset: offset.into(),
            remembered: None,
            positions: Vec::new(),
            remaining: 0,
            is_failed: false,
            missed: Vec::new(),
        }
    }
}

impl<P: Plane> Core<P> {
    /// Frames of a room go into the transport.
    pub(in crate::shard) fn remember(&mut self, slot: Slot, frames: &[u8]) {
        if self.settings.recovery_ticks > 0
            && let Some(virtual_) = self.engines.virtual_of(slot)
        {
            virtual_.memory.sent(frames);
        }
    }

    /// A native message for a virtual connection alone: a snapshot says where its room stands.
    pub(in crate::shard) fn remember_private(&mut self, slot: Slot, native: &[u8]) {
        if self.settings.recovery_ticks > 0
            && let Some((room, epoch, offset)) = snapshot_position(native)
            && let Some(virtual_) = self.engines.virtual_of(slot)
        {
            virtual_.memory.snapshot(room, epoch, offset);
        }
    }

    pub(in crate::shard) fn forget_room(&mut self, slot: Slot, room: &str) {
        if let Some(virtual_) = self.engines.virtual_of(slot) {
            virtual_.memory.left(room);
        }
    }

    pub(super) fn mark_memories(&mut self, key: u32) {
        self.each_memory(key, Memory::pinged);
    }

    pub(super) fn confirm_memories(&mut self, key: u32) {
        self.each_memory(key, Memory::answered);
    }

    fn each_memory(&mut self, key: u32, act: fn(&mut Memory)) {
        let Some(connections) = self.engines.get(key).map(|session| session.connections.clone()) else { return };
        for slot in connections {
            if let Some(virtual_) = self.engines.virtual_of(slot) {
                act(&mut virtual_.memory);
            }
        }
    }

    /// A connection is lost: its state goes to where its pid is known.
    pub(super) fn keep_memory(&mut self, slot: Slot) {
        let session = self.conns[slot as usize].session();
        let first = self.conns[slot as usize].first_subscription;
        let rooms: Vec<Arc<str>> = self
            .fanout
            .list(first)
            .map(|key| self.fanout.rooms[self.fanout.subscriptions[key as usize].room as usize].id.clone())
            .collect();
        let Some(virtual_) = self.engines.virtual_of(slot) else { return };
        if let Some(pending) = virtual_.pending.take() {
            // Lost again before the recovery was through: what it was given is kept once more.
            if let Some(remembered) = pending.remembered {
                self.deposit(pending.pid, Some(remembered));
            }
            return;
        }
        let Some(pid) = virtual_.pid else { return };
        // A room of which it is not known how far the client is cannot be recovered, and half a recovery is none.
        let is_whole = rooms.iter().all(|room| virtual_.memory.knows(room));
        let remembered = is_whole.then(|| Remembered { session, memory: std::mem::take(&mut virtual_.memory) });
        self.deposit(pid, remembered);
    }

    /// A connection was ended for good.
    pub(super) fn drop_memory(&mut self, slot: Slot) {
        let Some(virtual_) = self.engines.virtual_of(slot) else { return };
        let pids = [virtual_.pid, virtual_.pending.take().filter(|p| p.remembered.is_some()).map(|p| p.pid)];
        for pid in pids.into_iter().flatten() {
            self.deposit(pid, None);
        }
    }

    fn deposit(&mut self, pid: Sid, remembered: Option<Remembered>) {
        match pid.shard == self.id {
            true => self.deposited(pid, remembered),
            false => self.mesh.post(pid.shard, Mail::EngineKeep(Box::new((pid, remembered)))),
        }
    }

    /// To whom a pid of this connection belongs.
    pub(super) fn owner(&mut self, slot: Slot) -> Option<Owner> {
        let user = self.conns[slot as usize].user.as_ref()?.id().into();
        Some(Owner { user, namespace: self.engines.virtual_of(slot)?.namespace })
    }

    /// Asks for what a pid stands for.
    pub(super) fn claim(&mut self, slot: Slot, pid: Sid, offset: Box<str>) {
        let conn = self.conn_ref(slot);
        let Some(owner) = self.owner(slot) else { return };
        let claim = Box::new(Claim { pid, conn, owner, offset });
        if pid.shard == self.id {
            self.claimed(claim);
        } else if pid.shard < self.shards {
            self.mesh.post(pid.shard, Mail::EngineClaim(claim));
        } else {
            self.connect_fresh(slot);
        }
    }

    /// What became of a claim: the rooms are entered again, each from where the client was.
    pub(in crate::shard) fn recovered(&mut self, recovered: Recovered) {
        let Recovered { conn, pid, found } = recovered;
        let slot = self.live(conn).filter(|slot| self.engines.virtual_of(*slot).is_some());
        let (slot, (remembered, positions)) = match (slot, found) {
            (Some(slot), Some(found)) => (slot, found),
            (Some(slot), None) => return self.connect_fresh(slot),
            (None, Some((remembered, _))) => return self.deposit(pid, Some(remembered)),
            (None, None) => return,
        };
        self.conns[slot as usize].flags |= flag::HOLD_LOGS;
        let Some(user) = self.conns[slot as usize].user.clone() else { return };
        let role = self.conns[slot as usize].kind.role();
        let Some(virtual_) = self.engines.virtual_of(slot) else { return };
        let Some(pending) = &mut virtual_.pending else { return };
        pending.remembered = Some(remembered);
        pending.remaining = positions.len();
        pending.positions = positions.clone();
        if positions.is_empty() {
            return self.finish_recovery(slot);
        }
        for position in positions {
            let home = home_shard(&position.room, self.shards);
            let mail = Mail::Resume(Box::new(ResumeRoom {
                from: conn,
                user: user.clone(),
                role,
                request: REQUEST.into(),
                room: position.room,
                epoch: position.epoch,
                offset: position.offset,
                read_at_ns: self.now.mono_ns,
            }));
            match home == self.id {
                true => self.engines.resumes.push(mail),
                false => self.mesh.post(home, mail),
            }
        }
    }

    /// One room has answered.
    pub(in crate::shard) fn room_recovered(&mut self, conn: ConnRef, part: &[u8]) {
        let Some(slot) = self.live(conn) else { return };
        let Some(pending) = self.engines.virtual_of(slot).and_then(|virtual_| virtual_.pending.as_mut()) else {
            return;
        };
        match part {
            [1, missed @ ..] => pending.missed.extend_from_slice(missed),
            _ => pending.is_failed = true,
        }
        pending.remaining = pending.remaining.saturating_sub(1);
        if pending.remaining == 0 {
            self.finish_recovery(slot);
        }
    }

    fn finish_recovery(&mut self, slot: Slot) {
        self.conns[slot as usize].flags &= !flag::HOLD_LOGS;
        self.mark_dirty(slot);
        let Some(virtual_) = self.engines.virtual_of(slot) else { return };
        let Some(mut pending) = virtual_.pending.take() else { return };
        let remembered = pending.remembered.take();
        let (Some(remembered), false) = (remembered, pending.is_failed) else {
            self.leave_rooms(slot);
            self.deposit(pending.pid, None);
            self.counters.engine_recoveries_failed += 1;
            return self.connect_fresh(slot);
        };
        virtual_.pid = Some(pending.pid);
        virtual_.memory = Memory::resumed(&pending.offset, &pending.positions);
        self.conns[slot as usize].set_session(remembered.session);
        self.counters.engine_recovered += 1;
        self.connected(slot);
        let format = self.conns[slot as usize].kind.format();
        let mut missed = &pending.missed[..];
        while let Some(len) = ws::frame_len(missed).filter(|len| *len <= missed.len()) {
            let (frame, rest) = missed.split_at(len);
            let mut bytes = std::mem::take(&mut self.transcoded);
            bytes.clear();
            let format = self.formats.get(format);
            self.transcoder.transcode(format, ws::payload(frame), Some(Class::Durable), &mut bytes);
            self.outbox(slot).extend_from_slice(&bytes);
            self.transcoded = bytes;
            self.counters.frames_delivered += 1;
            missed = rest;
        }
    }

    /// The client starts afresh: it is in no room.
    fn leave_rooms(&mut self, slot: Slot) {
        let conn = self.conn_ref(slot);
        let record = &mut self.conns[slot as usize];
        let Some(user) = record.user.clone() else { return };
        let departures = &mut self.departures;
        self.fanout.unsubscribe_all(&mut record.first_subscription, |room| {
            departures.push(Departure { conn, user: user.clone(), room, parting: Parting::Closed });
        });
    }

    /// A room's answer to a recovery: 1 and what was missed, as native messages in frames; or 0.
    pub(in crate::shard) fn recovery_part(&mut self, room: &str, part: Option<&Snapshot<'_>>, out: &mut Vec<u8>) {
        let Some(snapshot) = part.filter(|snapshot| snapshot.recovered == Some(true)) else { return out.push(0) };
        out.push(1);
        let mut message = Vec::new();
        for row in &snapshot.events {
            let stamp = Stamp { id: self.ids.next(self.now.unix_ms), unix_ms: self.now.unix_ms };
            let event = Event::Durable { epoch: &snapshot.row.epoch, row };
            message.clear();
            self.native.event(&mut message, stamp, room, &event);
            ws::append_frame(out, Opcode::Text, &message);
        }
    }
}

/// Room, epoch and offset of a snapshot, whose layout is the encoder's.
fn snapshot_position(native: &[u8]) -> Option<(&str, &str, u64)> {
    let parts = Parts::of(native).filter(|parts| parts.kind == b"room_state")?;
    let room = parts.data.strip_prefix(b"{\"roomId\":\"")?;
    let room = &room[..memchr::memchr(b'"', room)?];
    const EPOCH: &[u8] = b",\"epoch\":\"";
    // The snapshot's own stands behind those of its messages; in their texts the quotes are escaped.
    let rest = &parts.data[memchr::memmem::rfind(parts.data, EPOCH)? + EPOCH.len()..];
    let (epoch, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
    let digits = rest.strip_prefix(b"\",\"offset\":")?;
    let digits = &digits[..digits.iter().position(|byte| !byte.is_ascii_digit())?];
    Some((str::from_utf8(room).ok()?, str::from_utf8(epoch).ok()?, str::from_utf8(digits).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_says_where_its_room_stands() {
        let native = br#"{"id":"evt_1","type":"room_state","data":{"roomId":"lobby","recentMessages":[{"message":",\"epoch\":\"x\"","offset":3,"epoch":"e1"}],"role":null,"epoch":"e1","offset":17,"timestamp":5},"timestamp":6}"#;
        assert_eq!(snapshot_position(native), Some(("lobby", "e1", 17)));
        for other in [&br#"{"id":"e","type":"chat_message","data":{"roomId":"lobby","epoch":"e","offset":1,"timestamp":5},"timestamp":6}"#[..], b"{}"] {
            assert_eq!(snapshot_position(other), None);
        }
    }
}
