//! Connection records and their timers by slot: those of sockets, whose slots the plane gives, and above them those of *virtual*
//! connections, which share a transport with others (`engine`). What takes a slot works for both.
use super::conn::{Conn, NONE};
use super::wheel::Wheel;
use crate::limits;
use crate::plane::Slot;
use std::ops::{Index, IndexMut};

/// Slots from here on are virtual; a plane's lie below.
pub const VIRTUAL_BASE: Slot = 1 << 31;

const _: () = assert!(limits::RINGS_MAX as u64 * limits::TABLE_ROWS_MAX as u64 <= VIRTUAL_BASE as u64);

/// Virtual connections of one shard. More: a namespace is refused as `overloaded`. The bound keeps slots below `NONE`; memory and
/// `limits.connections`, which counts the transports, end long before it.
const VIRTUALS_MAX: usize = (NONE - VIRTUAL_BASE) as usize;

pub const fn is_virtual(slot: Slot) -> bool {
    slot >= VIRTUAL_BASE
}

/// The records of both kinds.
pub struct Conns {
    /// By the plane's slot.
    sockets: Vec<Conn>,
    /// By slot less `VIRTUAL_BASE`.
    virtuals: Vec<Conn>,
    free: Vec<Slot>,
}

impl Conns {
    /// For this many sockets; virtual ones take memory when they come.
    pub fn new(capacity: usize) -> Conns {
        Conns { sockets: Vec::with_capacity(capacity), virtuals: Vec::new(), free: Vec::new() }
    }

    /// Makes sure that the plane's slot has a record.
    pub fn reach(&mut self, slot: Slot) {
        while self.sockets.len() <= slot as usize {
            self.sockets.push(Conn::vacant(1));
        }
    }

    /// A vacant record for a virtual connection, `None` if all slots are taken. It is given back by `free`.
    pub fn take_virtual(&mut self) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.virtuals.len() >= VIRTUALS_MAX {
            return None;
        }
        self.virtuals.push(Conn::vacant(1));
        Some(VIRTUAL_BASE + (self.virtuals.len() - 1) as u32)
    }

    pub fn free(&mut self, slot: Slot) {
        debug_assert!(is_virtual(slot));
        self.free.push(slot);
    }

    /// Virtual connections in use.
    pub fn virtual_count(&self) -> usize {
        self.virtuals.len() - self.free.len()
    }

    pub fn get(&self, slot: usize) -> Option<&Conn> {
        match slot.checked_sub(VIRTUAL_BASE as usize) {
            None => self.sockets.get(slot),
            Some(row) => self.virtuals.get(row),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.sockets.iter().chain(&self.virtuals)
    }

    /// Records of both kinds, vacant ones too.
    pub fn len(&self) -> usize {
        self.virtuals.len() + self.sockets.len()
    }

    /// The slot of the `position`th record. Virtual ones come first: while nothing new is let in their number stands, and that of
    /// sockets may still grow.
    pub fn slot_at(&self, position: usize) -> Slot {
        match position.checked_sub(self.virtuals.len()) {
            None => VIRTUAL_BASE + position as u32,
            Some(socket) => socket as u32,
        }
    }
}

impl Index<usize> for Conns {
    type Output = Conn;

    #[inline]
    fn index(&self, slot: usize) -> &Conn {
        match slot < VIRTUAL_BASE as usize {
            true => &self.sockets[slot],
            false => &self.virtuals[slot - VIRTUAL_BASE as usize],
        }
    }
}

impl IndexMut<usize> for Conns {
    #[inline]
    fn index_mut(&mut self, slot: usize) -> &mut Conn {
        match slot < VIRTUAL_BASE as usize {
            true => &mut self.sockets[slot],
            false => &mut self.virtuals[slot - VIRTUAL_BASE as usize],
        }
    }
}

/// One timer for each connection of both kinds; see `Wheel`.
pub struct Timers {
    sockets: Wheel,
    virtuals: Wheel,
}

impl Timers {
    pub fn new(buckets: usize, capacity: usize) -> Timers {
        Timers { sockets: Wheel::new(buckets, capacity), virtuals: Wheel::new(buckets, 0) }
    }

    pub fn set(&mut self, slot: Slot, deadline: u32) {
        match slot.checked_sub(VIRTUAL_BASE) {
            None => self.sockets.set(slot, deadline),
            Some(row) => self.virtuals.set(row, deadline),
        }
    }

    pub fn cancel(&mut self, slot: Slot) {
        match slot.checked_sub(VIRTUAL_BASE) {
            None => self.sockets.cancel(slot),
            Some(row) => self.virtuals.cancel(row),
        }
    }

    /// Appends the slots whose deadline has come.
    pub fn expire(&mut self, now: u32, expired: &mut Vec<Slot>) {
        self.sockets.expire(now, expired);
        let first = expired.len();
        self.virtuals.expire(now, expired);
        expired[first..].iter_mut().for_each(|row| *row += VIRTUAL_BASE);
    }

    pub fn len(&self) -> usize {
        self.sockets.len() + self.virtuals.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_have_records_of_their_own() {
        let mut conns = Conns::new(4);
        conns.reach(1);
        let (first, second) = (conns.take_virtual().unwrap(), conns.take_virtual().unwrap());
        assert_eq!((first, second, conns.len(), conns.virtual_count()), (VIRTUAL_BASE, VIRTUAL_BASE + 1, 4, 2));
        (conns[1].heard, conns[first as usize].heard, conns[second as usize].heard) = (1, 2, 3);
        assert_eq!((conns[1].heard, conns[first as usize].heard, conns[second as usize].heard), (1, 2, 3));
        assert!(conns.get(2).is_none() && conns.get(second as usize + 1).is_none());
        let slots: Vec<Slot> = (0..conns.len()).map(|position| conns.slot_at(position)).collect();
        assert_eq!(slots, [first, second, 0, 1]);
        conns.free(first);
        assert_eq!((conns.virtual_count(), conns.take_virtual()), (1, Some(first)));
    }

    #[test]
    fn timers_of_both_kinds_expire_under_their_slots() {
        let (mut timers, mut expired) = (Timers::new(8, 0), Vec::new());
        timers.set(3, 5);
        timers.set(VIRTUAL_BASE + 3, 5);
        timers.set(VIRTUAL_BASE + 4, 6);
        timers.cancel(VIRTUAL_BASE + 4);
        assert_eq!(timers.len(), 2);
        timers.expire(5, &mut expired);
        assert_eq!((expired, timers.len()), (vec![3, VIRTUAL_BASE + 3], 0));
    }
}
