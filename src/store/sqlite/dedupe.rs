//! The idempotency window (R-CHAT-3): which (user, client id) was used lately, and by which stored event.
//!
//! In memory there is a hash and the event's place for each; user, client id and content are compared with the stored
//! row when a hash is met again, which is rare. So an entry takes 24 bytes and a hash collision costs a read, not a
//! wrong answer. Entries live in generations that are dropped whole, the oldest first.
//!
//! On disk there is one journal row per commit with the places that it stored, in the same transaction: after a
//! crash the window is what it was. What belongs to a batch counts as pending until the batch is confirmed.
use super::codes::int;
use super::rows::unsigned;
use crate::store::port::RoomPk;
use hashbrown::HashTable;
use rusqlite::types::Type;
use rusqlite::{Connection, Result};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

/// An event's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub room: RoomPk,
    pub offset: u64,
}

pub struct Window {
    window_ms: u64,
    keys: RandomState,
    /// Oldest first.
    generations: VecDeque<Generation>,
    /// Of the open batch.
    pending: HashTable<Entry>,
    journal: Journal,
}

/// Entries that are forgotten together.
struct Generation {
    /// Unix ms that `Entry::at` counts from.
    base_ms: u64,
    /// Of the youngest entry.
    newest_ms: u64,
    entries: HashTable<Entry>,
}

struct Entry {
    place: Place,
    /// 32 bits choose among millions of entries well enough; what is left over costs a read.
    hash: u32,
    /// Commit time, ms after the generation's base.
    at: u32,
}

const _: () = assert!(size_of::<Entry>() == 24);

struct Journal {
    /// Sequence number of the first row of `at_ms`.
    first_seq: i64,
    /// Commit time of every row in the table, in order.
    at_ms: VecDeque<u64>,
    /// Of the open batch: the row to be, and how many old rows go.
    runs: Vec<Run>,
    expired: usize,
}

/// Consecutive offsets of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    room: RoomPk,
    first: u64,
    count: u64,
}

/// Each commit adds one journal row and takes away at most this many: no commit pays for a long silence.
const ROWS_EXPIRED_PER_COMMIT: usize = 8;

impl Window {
    /// Reads the journal back. `window_ms` 0: nothing is remembered.
    pub fn load(connection: &Connection, window_ms: u64) -> Result<Window> {
        let journal = Journal { first_seq: 1, at_ms: VecDeque::new(), runs: Vec::new(), expired: 0 };
        let (keys, generations, pending) = (RandomState::new(), VecDeque::new(), HashTable::new());
        let mut window = Window { window_ms, keys, generations, pending, journal };
        let mut journal = connection.prepare("SELECT seq, at_ms, places FROM dedupe_journal ORDER BY seq")?;
        let mut events = connection.prepare(
            "SELECT offset, user_id, client_id FROM events
             WHERE room = ?1 AND offset >= ?2 AND offset < ?3 AND client_id IS NOT NULL",
        )?;
        let mut journal = journal.query([])?;
        while let Some(row) = journal.next()? {
            let (seq, at_ms) = (row.get(0)?, unsigned(row, 1)?);
            if window.journal.at_ms.is_empty() {
                window.journal.first_seq = seq;
            }
            window.journal.at_ms.push_back(at_ms);
            let runs = decode(row.get_ref(2)?.as_blob()?).ok_or_else(|| {
                rusqlite::Error::FromSqlConversionFailure(2, Type::Blob, "damaged dedupe_journal row".into())
            })?;
            for run in runs {
                let mut events = events.query((run.room, int(run.first), int(run.first.saturating_add(run.count))))?;
                while let Some(event) = events.next()? {
                    let hash = window.hash(event.get_ref(1)?.as_str()?, event.get_ref(2)?.as_str()?);
                    window.pend(hash, Place { room: run.room, offset: unsigned(event, 0)? });
                }
            }
            window.settle(at_ms);
        }
        Ok(window)
    }

    pub fn hash(&self, user_id: &str, client_id: &str) -> u32 {
        self.keys.hash_one((user_id, client_id)) as u32
    }

    /// Events of the window that may be what was hashed: compare with the rows.
    pub fn find(&self, hash: u32, now_ms: u64) -> SmallVec<[Place; 2]> {
        let of_batch = self.pending.iter_hash(spread(hash)).filter(|entry| entry.hash == hash);
        let mut places: SmallVec<[Place; 2]> = of_batch.map(|entry| entry.place).collect();
        for generation in &self.generations {
            let live =
                |entry: &&Entry| entry.hash == hash && self.is_live(generation.base_ms + u64::from(entry.at), now_ms);
            places.extend(generation.entries.iter_hash(spread(hash)).filter(live).map(|entry| entry.place));
        }
        places
    }

    /// Remembers an event of the open batch. `run` is the caller's memo per room: whatever came out last, or anything.
    pub fn add(&mut self, hash: u32, place: Place, run: &mut usize) {
        if self.window_ms == 0 {
            return;
        }
        self.pend(hash, place);
        match self.journal.runs.get_mut(*run) {
            Some(last) if last.room == place.room && last.first + last.count == place.offset => last.count += 1,
            _ => {
                *run = self.journal.runs.len();
                self.journal.runs.push(Run { room: place.room, first: place.offset, count: 1 });
            }
        }
    }

    /// Writes the open batch's journal row. Call inside its transaction.
    pub fn write_journal(&mut self, connection: &Connection, now_ms: u64) -> Result<()> {
        if self.journal.runs.is_empty() {
            return Ok(());
        }
        let seq = self.journal.first_seq + self.journal.at_ms.len() as i64;
        connection.prepare_cached("INSERT INTO dedupe_journal (seq, at_ms, places) VALUES (?1, ?2, ?3)")?.execute((
            seq,
            int(now_ms),
            encode(&self.journal.runs),
        ))?;
        let expired = self.journal.at_ms.iter().take_while(|at_ms| !self.is_live(**at_ms, now_ms));
        self.journal.expired = expired.take(ROWS_EXPIRED_PER_COMMIT).count();
        if self.journal.expired > 0 {
            connection
                .prepare_cached("DELETE FROM dedupe_journal WHERE seq < ?1")?
                .execute([self.journal.first_seq + self.journal.expired as i64])?;
        }
        Ok(())
    }

    /// The open batch is on disk.
    pub fn confirm(&mut self, now_ms: u64) {
        let journal = &mut self.journal;
        if !journal.runs.is_empty() {
            journal.runs.clear();
            journal.at_ms.push_back(now_ms);
            journal.at_ms.drain(..journal.expired);
            journal.first_seq += journal.expired as i64;
            journal.expired = 0;
        }
        self.settle(now_ms);
    }

    /// The open batch failed: nothing of it was stored.
    pub fn discard(&mut self) {
        self.pending.clear();
        self.journal.runs.clear();
        self.journal.expired = 0;
    }

    /// Absolute, so that entries from a clock that was wrong for a while do not stay.
    fn is_live(&self, at_ms: u64, now_ms: u64) -> bool {
        at_ms.abs_diff(now_ms) < self.window_ms
    }

    fn pend(&mut self, hash: u32, place: Place) {
        self.pending.insert_unique(spread(hash), Entry { place, hash, at: 0 }, |entry| spread(entry.hash));
    }

    /// Moves what is pending into the youngest generation; drops generations that have no live entry.
    fn settle(&mut self, now_ms: u64) {
        while self.generations.front().is_some_and(|oldest| !self.is_live(oldest.newest_ms, now_ms)) {
            self.generations.pop_front();
        }
        if self.pending.is_empty() {
            return;
        }
        // Half a window: at most half as many dead entries as live ones. Also keeps `at` in 32 bits.
        let span_ms = (self.window_ms / 2).clamp(1, u64::from(u32::MAX));
        let fits = |youngest: &Generation| youngest.base_ms <= now_ms && now_ms - youngest.base_ms < span_ms;
        if !self.generations.back().is_some_and(fits) {
            let expected = self.generations.back().map_or(0, |youngest| youngest.entries.len());
            let entries = HashTable::with_capacity(expected);
            self.generations.push_back(Generation { base_ms: now_ms, newest_ms: now_ms, entries });
        }
        let youngest = self.generations.back_mut().expect("pushed if there was none");
        youngest.newest_ms = youngest.newest_ms.max(now_ms);
        let at = (now_ms - youngest.base_ms) as u32;
        for entry in self.pending.drain() {
            youngest.entries.insert_unique(spread(entry.hash), Entry { at, ..entry }, |entry| spread(entry.hash));
        }
    }
}

/// The table takes its bucket from the low bits and its tag from the high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// LEB128: room, first offset and count of every run; about 6 bytes per run.
fn encode(runs: &[Run]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(runs.len() * 8);
    for run in runs {
        for mut value in [run.room as u64, run.first, run.count] {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        }
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Run>> {
    fn number(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    let mut runs = Vec::new();
    while !bytes.is_empty() {
        let (room, first, count) = (number(&mut bytes)?, number(&mut bytes)?, number(&mut bytes)?);
        runs.push(Run { room: room as RoomPk, first, count });
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(window_ms: u64) -> (Connection, Window) {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&mut connection).unwrap();
        let window = Window::load(&connection, window_ms).unwrap();
        (connection, window)
    }

    fn commit(connection: &Connection, window: &mut Window, now_ms: u64) {
        window.write_journal(connection, now_ms).unwrap();
        window.confirm(now_ms);
    }

    #[test]
    fn pending_entries_count_at_once_and_vanish_when_discarded() {
        let (connection, mut window) = window(1000);
        let place = Place { room: 3, offset: 9 };
        window.add(7, place, &mut 0);
        assert_eq!(window.find(7, 0)[..], [place]);
        window.discard();
        assert!(window.find(7, 0).is_empty());
        commit(&connection, &mut window, 0);
        assert!(window.find(7, 0).is_empty() && window.journal.at_ms.is_empty());
    }

    #[test]
    fn entries_of_one_hash_stand_side_by_side() {
        let (connection, mut window) = window(1000);
        window.add(7, Place { room: 1, offset: 1 }, &mut 0);
        window.add(7, Place { room: 2, offset: 1 }, &mut 0);
        commit(&connection, &mut window, 10);
        assert_eq!((window.find(7, 10).len(), window.find(8, 10).len()), (2, 0));
    }

    #[test]
    fn the_window_ends_to_the_millisecond() {
        let (connection, mut window) = window(1000);
        window.add(7, Place { room: 1, offset: 1 }, &mut 0);
        commit(&connection, &mut window, 5000);
        assert_eq!((window.find(7, 5999).len(), window.find(7, 6000).len()), (1, 0));
    }

    #[test]
    fn memory_and_journal_stay_bounded_also_when_the_clock_jumps() {
        let (connection, mut window) = window(1000);
        let jump = |step: u64| if (2000..2100).contains(&step) { 1 << 40 } else { 0 };
        for step in 0..6000 {
            window.add(step as u32, Place { room: 1, offset: step + 1 }, &mut 0);
            commit(&connection, &mut window, 1_000_000 + step * 10 + jump(step));
        }
        // 100 commits per window.
        assert!(window.generations.iter().map(|one| one.entries.len()).sum::<usize>() <= 300);
        assert!(window.journal.at_ms.len() <= 300);
        let rows: i64 = connection.query_row("SELECT count(*) FROM dedupe_journal", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, window.journal.at_ms.len() as i64);
    }

    #[test]
    fn no_window_remembers_nothing() {
        let (connection, mut window) = window(0);
        window.add(7, Place { room: 1, offset: 1 }, &mut 0);
        commit(&connection, &mut window, 0);
        assert!(window.find(7, 0).is_empty() && window.generations.is_empty());
    }

    #[test]
    fn neighbours_share_a_run() {
        let (_connection, mut window) = window(1000);
        let (mut one, mut two) = (0, 0);
        for offset in 1..=3 {
            window.add(0, Place { room: 1, offset }, &mut one);
            window.add(0, Place { room: 2, offset: offset * 2 }, &mut two);
        }
        let lengths: Vec<_> = window.journal.runs.iter().map(|run| (run.room, run.first, run.count)).collect();
        assert_eq!(lengths, [(1, 1, 3), (2, 2, 1), (2, 4, 1), (2, 6, 1)]);
    }

    proptest! {
        #[test]
        fn runs_round_trip(runs in prop::collection::vec((0..i64::MAX, any::<u64>(), any::<u64>()), 0..50)) {
            let runs: Vec<_> = runs.into_iter().map(|(room, first, count)| Run { room, first, count }).collect();
            prop_assert_eq!(decode(&encode(&runs)), Some(runs));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            decode(&bytes);
        }
    }
}
