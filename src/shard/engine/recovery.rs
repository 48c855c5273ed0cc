//! Connection state recovery: what a lost client was in is kept for a while, and given to whoever comes back with its `pid`.
//!
//! A pid names a row in a table of the shard that made it, whichever shard its client is on. A claim goes there; if the lost
//! connection still seems alive it is ended first. What was missed is not kept but read from the rooms, as by `resume` (R-REC-2):
//! either all of it is there, or the client hears by a new pid that it has to start afresh.
//!
//! A pid is bound to its user and serves one connection at a time. It stays the same as long as recovery succeeds, because clients tell
//! by that whether it did.
use super::track::{Memory, Position};
use crate::ids::{ConnRef, Ulid, UlidSource};
use crate::plane::Plane;
use crate::session::socketio::Namespace;
use crate::shard::Core;
use crate::shard::mail::Mail;
use crate::telemetry::{DropReason, EngineEnd};
use crate::wire::engineio::Sid;
use std::collections::{HashMap, VecDeque};

/// Lost clients whose state one shard keeps. More: the oldest goes, and its client starts afresh. Each takes some hundred bytes, and
/// 16 KiB more if it was in the middle of a stream; a restart of a proxy in front of ten thousand clients is within it.
const KEPT_MAX: usize = 16_384;

/// What is kept of a lost connection.
#[derive(Clone, Debug)]
pub struct Remembered {
    pub session: Ulid,
    pub memory: Memory,
}

/// Mail: somebody wants to go on where this pid was lost.
pub struct Claim {
    pub pid: Sid,
    pub conn: ConnRef,
    pub owner: Owner,
    pub offset: Box<str>,
}

/// Whose a pid is: of no use to anybody else, nor in another namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub user: Box<str>,
    pub namespace: Namespace,
}

/// Mail: the answer to a claim.
pub struct Recovered {
    pub conn: ConnRef,
    pub pid: Sid,
    /// None: it cannot be recovered.
    pub found: Option<(Remembered, Vec<Position>)>,
}

/// The pids that a shard has given out.
#[derive(Default)]
pub struct Recoveries {
    /// By row. Rows are not used again before all have been, so that a restart finds its own free. In boxes: half of a table may be empty.
    entries: HashMap<u32, Box<Entry>>,
    next_row: u32,
    /// Rows of what is kept, oldest first, with the tick at which it goes. Some may have been taken meanwhile.
    kept: VecDeque<(u32, Sid)>,
    count: usize,
}

struct Entry {
    pid: Sid,
    owner: Owner,
    holder: Holder,
    /// Waits for the holder to end.
    claim: Option<Box<Claim>>,
}

enum Holder {
    Live(ConnRef),
    /// Until this tick.
    Kept(Box<Remembered>, u32),
}

impl Recoveries {
    /// A pid for a new connection.
    pub fn add(&mut self, shard: u16, ids: &mut UlidSource, conn: ConnRef, owner: Owner) -> Sid {
        while self.entries.contains_key(&self.next_row) {
            self.next_row = self.next_row.wrapping_add(1);
        }
        let row = self.next_row;
        self.next_row = row.wrapping_add(1);
        let pid = Sid::new(shard, 0, row, ids.random());
        self.entries.insert(row, Box::new(Entry { pid, owner, holder: Holder::Live(conn), claim: None }));
        pid
    }

    /// A client that was lost before a restart; those that go first come first.
    pub fn restore(&mut self, pid: Sid, owner: Owner, remembered: Remembered, deadline: u32) {
        let holder = Holder::Kept(Box::new(remembered), deadline);
        let entry = Entry { pid, owner, holder, claim: None };
        if self.entries.insert(pid.slot, Box::new(entry)).is_none() {
            self.count += 1;
        }
        self.kept.push_back((deadline, pid));
    }

    /// Everything that is kept: pid, whose, what, and the tick until which.
    pub fn kept(&self) -> impl Iterator<Item = (Sid, &Owner, &Remembered, u32)> {
        self.entries.values().filter_map(|entry| match &entry.holder {
            Holder::Kept(remembered, deadline) => Some((entry.pid, &entry.owner, &**remembered, *deadline)),
            Holder::Live(_) => None,
        })
    }

    fn find(&mut self, pid: Sid) -> Option<&mut Entry> {
        self.entries.get_mut(&pid.slot).map(|entry| &mut **entry).filter(|entry| entry.pid.is(pid))
    }

    fn remove(&mut self, pid: Sid) -> Option<Entry> {
        self.find(pid)?;
        let entry = self.entries.remove(&pid.slot)?;
        self.count -= usize::from(matches!(entry.holder, Holder::Kept(..)));
        Some(*entry)
    }

    /// Pids that are known: of connections that live, and of those that are lost and may come back.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

impl<P: Plane> Core<P> {
    /// Somebody wants what a pid stands for.
    pub(in crate::shard) fn claimed(&mut self, claim: Box<Claim>) {
        let Some(entry) = self.engines.recoveries.find(claim.pid).filter(|entry| entry.owner == claim.owner) else {
            return self.answer_claim(&claim, None);
        };
        match entry.holder {
            Holder::Kept(..) => self.hand_over(claim),
            // Only one waits: whoever comes later takes its place.
            Holder::Live(holder) => {
                let before = entry.claim.replace(claim);
                if let Some(before) = before {
                    self.answer_claim(&before, None);
                }
                match holder.shard == self.id {
                    true => self.yield_to_claim(holder),
                    false => self.mesh.post(holder.shard, Mail::EngineYield(holder)),
                }
            }
        }
    }

    /// The client has come back on another connection: this one is lost.
    pub(in crate::shard) fn yield_to_claim(&mut self, conn: ConnRef) {
        // If it is gone already, what it left is on its way.
        if let Some(slot) = self.live(conn) {
            let key = self.engines.session_of(slot);
            self.engine_end(key, EngineEnd::Replaced, None);
        }
    }

    /// A connection of this pid was lost, or ended for good.
    pub(in crate::shard) fn deposited(&mut self, pid: Sid, remembered: Option<Remembered>) {
        let deadline = self.tick.saturating_add(self.settings.recovery_ticks);
        let recoveries = &mut self.engines.recoveries;
        let Some(remembered) = remembered else {
            let claim = recoveries.remove(pid).and_then(|entry| entry.claim);
            if let Some(claim) = claim {
                self.answer_claim(&claim, None);
            }
            return;
        };
        let Some(entry) = recoveries.find(pid) else { return };
        let is_new = matches!(entry.holder, Holder::Live(_));
        entry.holder = Holder::Kept(Box::new(remembered), deadline);
        let claim = entry.claim.take();
        recoveries.count += usize::from(is_new);
        recoveries.kept.push_back((deadline, pid));
        match claim {
            Some(claim) => self.claimed(claim),
            None => self.forget_recoveries(),
        }
    }

    fn hand_over(&mut self, claim: Box<Claim>) {
        let recoveries = &mut self.engines.recoveries;
        let Some(entry) = recoveries.find(claim.pid) else { return };
        let Holder::Kept(remembered, _) = &entry.holder else { return };
        let Some(positions) = remembered.memory.positions(&claim.offset) else {
            return self.answer_claim(&claim, None);
        };
        let before = std::mem::replace(&mut entry.holder, Holder::Live(claim.conn));
        let Holder::Kept(remembered, _) = before else { return };
        recoveries.count -= 1;
        self.answer_claim(&claim, Some((*remembered, positions)));
    }

    fn answer_claim(&mut self, claim: &Claim, found: Option<(Remembered, Vec<Position>)>) {
        let recovered = Recovered { conn: claim.conn, pid: claim.pid, found };
        match claim.conn.shard == self.id {
            true => self.recovered(recovered),
            false => self.mesh.post(claim.conn.shard, Mail::EngineRecovered(Box::new(recovered))),
        }
    }

    /// Lets go of what was kept long enough, and of the oldest if there is too much.
    pub(super) fn forget_recoveries(&mut self) {
        let tick = self.tick;
        let recoveries = &mut self.engines.recoveries;
        while let Some((deadline, pid)) = recoveries.kept.front().copied() {
            let is_over = deadline <= tick;
            if !is_over && recoveries.count <= KEPT_MAX && recoveries.kept.len() <= 2 * KEPT_MAX {
                return;
            }
            recoveries.kept.pop_front();
            // What was taken meanwhile, and perhaps kept again, stands further behind.
            let is_it = |entry: &Entry| matches!(entry.holder, Holder::Kept(_, until) if until == deadline);
            if recoveries.find(pid).is_some_and(|entry| is_it(entry)) {
                recoveries.remove(pid);
                let reason = if is_over { DropReason::RecoveryExpired } else { DropReason::RecoveryFull };
                self.counters.dropped.add(reason, 1);
            }
        }
    }
}
