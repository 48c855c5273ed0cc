//! The slot rows: what the ring must remember of a connection, and which slots are free.
use crate::limits::TABLE_ROWS_MAX;
use crate::plane::Slot;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Open,
    /// `Ended` was reported; the shard has yet to close.
    Ended,
    /// The shard closed; waiting until no request holds the file any more.
    Closing,
    /// The Close request for the table row is on its way.
    Releasing,
}

/// How a connection waits for input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// A poll; 263 kernel bytes.
    Idle,
    /// A multishot receive; 862 kernel bytes, and a tenth less CPU a message.
    Hot,
    /// The multishot receive is being cancelled.
    Demoting,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Nothing armed outlives its generation, so it has only to differ from the last.
    pub generation: u16,
    /// Tick of the last receive. While free, the low half of the next free slot.
    pub stamp: u16,
    /// Requests that hold this row's file, sends excepted: those never outlive the call that makes them. While free, the upper part
    /// of the next free slot.
    pub armed: u8,
    pub phase: Phase,
    pub tier: Tier,
    /// `hits`, and one bit each of `Note`.
    notes: u8,
}

// A million rows are 8 MB beside the 4 KB that each socket takes in the kernel.
const _: () = assert!(size_of::<Row>() <= 8);

/// What else is remembered of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Note {
    /// In the ring's list of hot slots, perhaps on account of an earlier generation.
    Listed = 4,
    /// A poll for room is armed.
    AwaitsRoom = 8,
}

const HITS: u8 = 3;

impl Row {
    /// Receives in a row that followed each other closely, at most 3; meaningful in the idle tier.
    pub fn hits(&self) -> u8 {
        self.notes & HITS
    }

    pub fn set_hits(&mut self, hits: u8) {
        self.notes = self.notes & !HITS | hits.min(HITS);
    }

    /// Makes a note, or crosses it out; whether it was there.
    pub fn note(&mut self, note: Note, is_true: bool) -> bool {
        let was_true = self.notes & note as u8 != 0;
        self.notes = self.notes & !(note as u8) | if is_true { note as u8 } else { 0 };
        was_true
    }

    /// Next in the list of free slots. It lies in fields that mean nothing while a row is free.
    fn next_free(&self) -> u32 {
        u32::from(self.stamp) | u32::from(self.armed) << 16
    }

    fn set_next_free(&mut self, slot: u32) {
        (self.stamp, self.armed) = (slot as u16, (slot >> 16) as u8);
    }
}

/// No slot: more than any table has.
const NONE: u32 = 0xff_ffff;
const _: () = assert!(TABLE_ROWS_MAX < NONE);

/// Rows come into being as slots are first used, and free slots are used again last in, first out: the rows of a
/// large table that serves few connections stay few and close together.
pub(super) struct Table {
    rows: Vec<Row>,
    free: u32,
    slots: u32,
}

impl Table {
    pub fn new(slots: u32) -> Table {
        assert!(slots < NONE, "slots are bounded by the descriptor limit");
        // Reserved whole: untouched memory is not resident, and the table never has to move.
        Table { rows: Vec::with_capacity(slots as usize), free: NONE, slots }
    }

    pub fn slots(&self) -> u32 {
        self.slots
    }

    pub fn is_full(&self) -> bool {
        self.free == NONE && self.rows.len() == self.slots as usize
    }

    /// Opens a free slot, if there is one, with a new generation.
    pub fn open(&mut self) -> Option<Slot> {
        let slot = match self.free {
            NONE if self.rows.len() < self.slots as usize => {
                let mut row = Row { generation: 0, stamp: 0, armed: 0, phase: Phase::Free, tier: Tier::Idle, notes: 0 };
                row.set_next_free(NONE);
                self.rows.push(row);
                self.rows.len() as u32 - 1
            }
            NONE => return None,
            slot => slot,
        };
        let row = &mut self.rows[slot as usize];
        debug_assert!(row.phase == Phase::Free);
        self.free = row.next_free();
        *row = Row {
            generation: row.generation.wrapping_add(1),
            stamp: 0,
            armed: 0,
            phase: Phase::Open,
            tier: Tier::Idle,
            notes: row.notes & Note::Listed as u8,
        };
        Some(slot)
    }

    pub fn release(&mut self, slot: Slot) {
        let row = &mut self.rows[slot as usize];
        debug_assert!(row.phase != Phase::Free && row.armed == 0);
        row.phase = Phase::Free;
        row.set_next_free(self.free);
        self.free = slot;
    }

    /// None for a slot that was never used.
    pub fn get(&mut self, slot: Slot) -> Option<&mut Row> {
        self.rows.get_mut(slot as usize)
    }

    /// The row of a slot that is known to have been opened.
    pub fn row(&mut self, slot: Slot) -> &mut Row {
        &mut self.rows[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_reused_with_a_new_generation() {
        let mut table = Table::new(3);
        let slots: Vec<Slot> = (0..3).map(|_| table.open().expect("room")).collect();
        assert_eq!(slots, [0, 1, 2]);
        assert!(table.is_full());
        assert_eq!(table.open(), None);
        let before = table.row(1).generation;
        table.release(1);
        table.release(2);
        assert!(!table.is_full());
        assert_eq!((table.open(), table.open(), table.open()), (Some(2), Some(1), None));
        assert_ne!(table.row(1).generation, before);
    }

    #[test]
    fn generations_wrap() {
        let mut table = Table::new(1);
        let slot = table.open().expect("room");
        table.row(slot).generation = u16::MAX;
        table.release(slot);
        table.open().expect("room");
        assert_eq!(table.row(slot).generation, 0);
    }
}
