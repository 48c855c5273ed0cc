//! One connection's place in one room, in 20 bytes, and the table of them.
use super::conn::NONE;
use std::ops::{Index, IndexMut};

/// How a subscription stands to the head of its room's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Its cursor is at the head, or will be when its room's pass has come by.
    Current,
    /// Listed in its room's `behind`.
    Behind,
}

/// One connection's place in one room.
pub struct Subscription {
    /// The connection's slot. NONE: there is no such subscription.
    pub conn: u32,
    /// Its key in `Fanout::rooms`.
    pub room: u32,
    /// Low 32 bits of the position of the first byte not yet offered. Always a frame boundary.
    pub cursor: u32,
    /// Next subscription of the same connection; of a free row, the next free one.
    pub next: u32,
    /// Its index in the room's `members`, below two notes.
    place: u32,
}

const _: () = assert!(size_of::<Subscription>() <= 20, "a million connections hold a million of these");

const BEHIND: u32 = 1 << 31;
const SKIPS: u32 = 1 << 30;

impl Subscription {
    /// One that stands at `cursor`, which is the head.
    pub fn new(conn: u32, room: u32, cursor: u32, next: u32, index: u32) -> Subscription {
        debug_assert!(index < SKIPS);
        Subscription { conn, room, cursor, next, place: index }
    }

    /// Its index in the room's `members`.
    pub fn index(&self) -> u32 {
        self.place & !(BEHIND | SKIPS)
    }

    pub fn set_index(&mut self, index: u32) {
        self.place = self.place & (BEHIND | SKIPS) | index;
    }

    pub fn pace(&self) -> Pace {
        if self.place & BEHIND == 0 { Pace::Current } else { Pace::Behind }
    }

    pub fn set_pace(&mut self, pace: Pace) {
        self.note(BEHIND, pace == Pace::Behind);
    }

    /// The room's `skips` has entries for it.
    pub fn has_skips(&self) -> bool {
        self.place & SKIPS != 0
    }

    pub fn set_has_skips(&mut self, has_skips: bool) {
        self.note(SKIPS, has_skips);
    }

    fn note(&mut self, bit: u32, is_true: bool) {
        self.place = self.place & !bit | if is_true { bit } else { 0 };
    }
}

/// Rows by key; free ones are used again, last in, first out.
pub struct Subscriptions {
    rows: Vec<Subscription>,
    free: u32,
    count: usize,
}

impl Subscriptions {
    /// So many need no further memory.
    pub fn with_capacity(count: usize) -> Subscriptions {
        Subscriptions { rows: Vec::with_capacity(count), free: NONE, count: 0 }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its key.
    pub fn insert(&mut self, subscription: Subscription) -> u32 {
        self.count += 1;
        match self.free {
            NONE => {
                self.rows.push(subscription);
                self.rows.len() as u32 - 1
            }
            key => {
                let row = &mut self.rows[key as usize];
                self.free = row.next;
                *row = subscription;
                key
            }
        }
    }

    /// # Panics
    /// When there is none of that key.
    pub fn remove(&mut self, key: u32) -> Subscription {
        let row = &mut self.rows[key as usize];
        assert!(row.conn != NONE, "no subscription {key}");
        let free = Subscription::new(NONE, NONE, 0, self.free, 0);
        self.free = key;
        self.count -= 1;
        std::mem::replace(row, free)
    }
}

impl Default for Subscriptions {
    fn default() -> Subscriptions {
        Subscriptions::with_capacity(0)
    }
}

impl Index<usize> for Subscriptions {
    type Output = Subscription;

    fn index(&self, key: usize) -> &Subscription {
        &self.rows[key]
    }
}

impl IndexMut<usize> for Subscriptions {
    fn index_mut(&mut self, key: usize) -> &mut Subscription {
        &mut self.rows[key]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_index_do_not_touch_each_other() {
        let mut one = Subscription::new(1, 2, 3, NONE, 7);
        one.set_pace(Pace::Behind);
        one.set_has_skips(true);
        one.set_index(SKIPS - 1);
        assert_eq!((one.index(), one.pace(), one.has_skips()), (SKIPS - 1, Pace::Behind, true));
        one.set_pace(Pace::Current);
        assert_eq!((one.index(), one.pace(), one.has_skips()), (SKIPS - 1, Pace::Current, true));
        one.set_has_skips(false);
        assert_eq!((one.index(), one.pace(), one.has_skips()), (SKIPS - 1, Pace::Current, false));
    }

    #[test]
    fn free_rows_are_used_again() {
        let mut table = Subscriptions::default();
        let keys: Vec<u32> = (0..3).map(|conn| table.insert(Subscription::new(conn, 0, 0, NONE, 0))).collect();
        assert_eq!(keys, [0, 1, 2]);
        assert_eq!((table.remove(0).conn, table.remove(2).conn, table.len()), (0, 2, 1));
        let keys: Vec<u32> = (7..10).map(|conn| table.insert(Subscription::new(conn, 0, 0, NONE, 0))).collect();
        assert_eq!((keys, table.len()), (vec![2, 0, 3], 4));
        assert_eq!([table[2].conn, table[0].conn, table[1].conn], [7, 8, 1]);
    }
}
