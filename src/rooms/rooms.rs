//! The table of the rooms whose home is one shard, and the way in: commands, finished store jobs, ended connections, timers.
//!
//! Invariants:
//! * A room has one row here or none, and only this shard changes it: one writer per room.
//! * A row stays while anyone is online in the room or a store job of it is on its way; so a job always finds its room.
//! * Every command is answered once: by `ack`, `refuse`, `resumed` or `presence`; typing, broadcasts and answers only by `refuse`.
//! * Every `Handled::Later` is followed by a `retry` of that key.
use super::asks::Register;
use super::command::{Caller, RoomCommand};
use super::effects::{Effects, Handled, RoomTimer};
use super::room::{Cx, Meta, to};
use super::settings::Settings;
use super::slot::{Slot, State, needs_subscription, refuse_unknown};
use crate::base::clock::Now;
use crate::base::hash::name_hash;
use crate::base::refusal::Code;
use crate::base::user::UserRef;
use crate::ids::ConnRef;
use crate::limits::TOP_ROOMS_MAX;
use crate::store::port::Done;
use hashbrown::HashTable;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

pub struct Rooms {
    shard: u16,
    settings: Settings,
    slots: Slab<Slot>,
    /// Keys of `slots`, by room id.
    index: HashTable<u32>,
    /// Of the row made last.
    generation: u32,
    asks: Register,
}

/// For `/stats` (R-OPS-1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rooms in memory.
    pub rooms: usize,
    /// Rooms by subscribed connections, most first, at most `TOP_ROOMS_MAX`; none without connections.
    pub top: Vec<(Arc<str>, u64)>,
}

impl Rooms {
    pub fn new(shard: u16, settings: Settings) -> Rooms {
        Rooms {
            shard,
            settings,
            slots: Slab::new(),
            index: HashTable::new(),
            generation: 0,
            asks: Register::new(shard),
        }
    }

    /// After a reload of the configuration. Rooms in memory keep the length of their windows.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Runs a command of a signed-in session. `room` is a valid room id (`ids::is_room_id`) whose home is this shard.
    ///
    /// What to do with `Handled::Later` is said there.
    pub fn command(
        &mut self,
        caller: &Caller<'_>,
        room: &str,
        command: &RoomCommand<'_>,
        now: Now,
        fx: &mut impl Effects,
    ) -> Handled {
        let key = match self.find(room) {
            Some(key) => key,
            None if needs_subscription(command) => {
                refuse_unknown(fx, room, caller, command, Code::NotInRoom.into());
                return Handled::Done;
            }
            None => self.insert(room),
        };
        let handled = self.enter(key, now, fx, |state, cx| state.command(cx, caller, command));
        handled.unwrap_or(Handled::Done)
    }

    /// Runs an answer that names its question alone; this shard is its home (`home_of_ask`). Who is not in the question's room learns
    /// no more than that of a question that there is not.
    pub fn answer(
        &mut self,
        caller: &Caller<'_>,
        ask_id: u64,
        payload: &str,
        now: Now,
        fx: &mut impl Effects,
    ) -> Handled {
        if let Some(key) = self.asks.room(ask_id)
            && let Some(State::Ready(room)) = self.slots.get(key as usize).map(|slot| &slot.state)
            && room.subscribed(caller).is_ok()
        {
            let command = RoomCommand::Answer { ask_id, payload };
            let handled = self.enter(key, now, fx, |state, cx| state.command(cx, caller, &command));
            return handled.unwrap_or(Handled::Done);
        }
        fx.refuse(to(caller), Code::NotFound.into());
        Handled::Done
    }

    /// A store job came back.
    pub fn finished(&mut self, done: Done, now: Now, fx: &mut impl Effects) {
        let key = done.waiter().room_key;
        self.enter(key, now, fx, |state, cx| {
            cx.meta.jobs = cx.meta.jobs.saturating_sub(1);
            match done {
                Done::Read { job, outcome } => state.read_done(cx, *job, outcome),
                Done::Write { job, outcome } => state.write_done(cx, *job, outcome),
            }
        });
    }

    /// A subscription ended without a command, or a joiner that is not answered yet is gone. `is_abnormal`: anything but close 1000,
    /// so that the user may come back within the leave grace (R-PRES-2). Also the answer to a `subscribe` for a connection that was
    /// gone already.
    pub fn disconnected(
        &mut self,
        conn: ConnRef,
        user: &UserRef,
        room: &str,
        is_abnormal: bool,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(key) = self.find(room) else { return };
        self.enter(key, now, fx, |state, cx| match state {
            State::Ready(room) => room.disconnected(cx, conn, user, is_abnormal),
            _ => state.drop_creator(conn),
        });
    }

    /// Ends the subscription of a session that goes on without this room, and tells it why.
    pub fn evict(&mut self, conn: ConnRef, user: &UserRef, room: &str, reason: &str, now: Now, fx: &mut impl Effects) {
        let Some(key) = self.find(room) else { return };
        self.enter(key, now, fx, |state, cx| {
            if let State::Ready(room) = state {
                room.evict(cx, conn, user, reason);
            }
        });
    }

    /// A timer came. Never before its time.
    pub fn timer(&mut self, timer: RoomTimer, now: Now, fx: &mut impl Effects) {
        let RoomTimer::Room { room_key, room_generation } = timer;
        let Some(slot) = self.slots.get_mut(room_key as usize) else { return };
        // A later one than the earliest set: that one came and set what was needed.
        if slot.meta.generation != room_generation || now.mono_ms() < slot.meta.armed_ms {
            return;
        }
        slot.meta.armed_ms = u64::MAX;
        self.enter(room_key, now, fx, |state, cx| {
            if let State::Ready(room) = state {
                room.tick(cx);
            }
            if cx.now_ms() < cx.meta.linger_until_ms {
                cx.arm(cx.meta.linger_until_ms);
            }
        });
    }

    pub fn stats(&self) -> Stats {
        let mut top = BinaryHeap::new();
        let mut rooms = 0;
        for (key, slot) in &self.slots {
            let State::Ready(room) = &slot.state else { continue };
            rooms += 1;
            let count = room.online.session_count();
            if count > 0 {
                top.push(Reverse((count, key)));
                if top.len() > TOP_ROOMS_MAX {
                    top.pop();
                }
            }
        }
        let top = top.into_sorted_vec();
        let top = top.into_iter().map(|Reverse((count, key))| (self.slots[key].id.clone(), count)).collect();
        Stats { rooms, top }
    }

    /// Rows in the table, rooms or not: 0 when nothing is under way.
    pub fn row_count(&self) -> usize {
        self.slots.len()
    }

    /// Questions that are open.
    #[cfg(test)]
    pub(super) fn open_asks(&self) -> usize {
        self.asks.len()
    }

    fn find(&self, room: &str) -> Option<u32> {
        self.index.find(name_hash(room), |&key| *self.slots[key as usize].id == *room).copied()
    }

    fn insert(&mut self, room: &str) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let key = entry.key() as u32;
        entry.insert(Slot {
            id: room.into(),
            meta: Meta { key, generation: self.generation, jobs: 0, armed_ms: u64::MAX, linger_until_ms: 0 },
            state: State::Empty,
        });
        let slots = &self.slots;
        self.index.insert_unique(name_hash(room), key, |&key| name_hash(&slots[key as usize].id));
        key
    }

    /// Lets `run` work on a room, then forgets it if nothing keeps it.
    fn enter<E: Effects, T>(
        &mut self,
        key: u32,
        now: Now,
        fx: &mut E,
        run: impl FnOnce(&mut State, &mut Cx<'_, E>) -> T,
    ) -> Option<T> {
        let slot = self.slots.get_mut(key as usize)?;
        let mut cx = Cx {
            settings: &self.settings,
            shard: self.shard,
            now,
            id: &slot.id,
            meta: &mut slot.meta,
            asks: &mut self.asks,
            fx,
        };
        let result = run(&mut slot.state, &mut cx);
        let is_kept = slot.meta.jobs > 0 || now.mono_ms() < slot.meta.linger_until_ms || !slot.state.is_idle();
        if !is_kept {
            let hash = name_hash(&slot.id);
            self.slots.remove(key as usize);
            if let Ok(entry) = self.index.find_entry(hash, |&other| other == key) {
                entry.remove();
            }
        }
        Some(result)
    }
}
