//! Work that nobody waits for, in steps of a few milliseconds, each a transaction of its own: clearing away what deleted
//! rooms left, and `history.retention_days`.
//!
//! Retention deletes a prefix of a room's stream and writes down how far (`rooms.trimmed_offset`), so that the
//! remaining stream has no hole and an emptied one goes on counting. It looks at every room in turn, once per
//! `SWEEP_INTERVAL_MS`.
use super::codes::int;
use super::rows::unsigned;
use super::writer::SqliteWriter;
use crate::store::port::RoomPk;
use rusqlite::{Connection, OptionalExtension, Result};

pub(super) struct Housekeeping {
    /// Age at which events go, ms. None: never.
    retention_ms: Option<u64>,
    may_have_leftovers: bool,
    sweep: Sweep,
}

enum Sweep {
    /// Rooms up to this one are done.
    Behind(RoomPk),
    /// Nothing to do before this Unix time, ms.
    Until(u64),
}

/// Rows deleted in one step: one to three milliseconds of the writer.
const ROWS_PER_STEP: usize = 500;
/// Rooms looked at in one step.
const ROOMS_PER_STEP: usize = 200;
/// Retention is counted in days; an hour late is early enough.
const SWEEP_INTERVAL_MS: u64 = 3_600_000;

impl Housekeeping {
    /// An event is not deleted while its client id is remembered (`window_ms`).
    pub fn new(retention_days: u64, window_ms: u64) -> Housekeeping {
        let retention_ms = retention_days.saturating_mul(86_400_000).max(window_ms);
        Housekeeping {
            retention_ms: (retention_days > 0).then_some(retention_ms),
            may_have_leftovers: true,
            sweep: Sweep::Behind(0),
        }
    }

    pub fn rooms_deleted(&mut self) {
        self.may_have_leftovers = true;
    }
}

impl SqliteWriter {
    /// True: there is more to do at once.
    pub(super) fn housekeeping_step(&mut self, now_ms: u64) -> bool {
        let done = if self.housekeeping.may_have_leftovers { self.clear_leftovers() } else { self.trim(now_ms) };
        done.unwrap_or_else(|error| {
            tracing::warn!(%error, "housekeeping failed, will try again");
            false
        })
    }

    fn clear_leftovers(&mut self) -> Result<bool> {
        let leftover =
            self.connection.prepare_cached("SELECT room FROM deleted_rooms LIMIT 1")?.query_row([], |row| row.get(0));
        let Some(room) = leftover.optional()? else {
            self.housekeeping.may_have_leftovers = false;
            return Ok(self.housekeeping.retention_ms.is_some());
        };
        self.transaction(|writer| clear(&writer.connection, room))?;
        Ok(true)
    }

    fn trim(&mut self, now_ms: u64) -> Result<bool> {
        let Some(retention_ms) = self.housekeeping.retention_ms else { return Ok(false) };
        let after = match self.housekeeping.sweep {
            Sweep::Behind(room) => room,
            // A clock that was set back must not stop retention for longer than one interval.
            Sweep::Until(next_ms) if now_ms < next_ms && next_ms - now_ms <= SWEEP_INTERVAL_MS => return Ok(false),
            Sweep::Until(_) => 0,
        };
        let rooms = self
            .connection
            .prepare_cached("SELECT pk FROM rooms WHERE pk > ?1 ORDER BY pk LIMIT ?2")?
            .query_map((after, ROOMS_PER_STEP as i64), |row| row.get(0))?
            .collect::<Result<Vec<RoomPk>>>()?;
        let oldest_ms = now_ms.saturating_sub(retention_ms);
        for room in &rooms {
            let (count, upto) = expired(&self.connection, *room, oldest_ms)?;
            if count > 0 {
                self.transaction(|writer| forget(&writer.connection, *room, upto))?;
                // This room again if it may have more.
                let done = if count == ROWS_PER_STEP { room - 1 } else { *room };
                self.housekeeping.sweep = Sweep::Behind(done);
                return Ok(true);
            }
        }
        let is_end = rooms.len() < ROOMS_PER_STEP;
        self.housekeeping.sweep = match rooms.last() {
            Some(last) if !is_end => Sweep::Behind(*last),
            _ => Sweep::Until(now_ms.saturating_add(SWEEP_INTERVAL_MS)),
        };
        Ok(!is_end)
    }
}

/// Some rows of a deleted room; when there is none left, the note that it was deleted.
fn clear(connection: &Connection, room: RoomPk) -> Result<()> {
    let few = ROWS_PER_STEP as i64;
    let events = connection
        .prepare_cached(
            "DELETE FROM events WHERE room = ?1 AND offset <=
                 (SELECT max(offset) FROM (SELECT offset FROM events WHERE room = ?1 ORDER BY offset LIMIT ?2))",
        )?
        .execute((room, few))?;
    if events > 0 {
        return Ok(());
    }
    let members = connection
        .prepare_cached(
            "DELETE FROM members WHERE room = ?1 AND user_id <=
                 (SELECT max(user_id) FROM (SELECT user_id FROM members WHERE room = ?1 ORDER BY user_id LIMIT ?2))",
        )?
        .execute((room, few))?;
    if members == 0 {
        connection.prepare_cached("DELETE FROM deleted_rooms WHERE room = ?1")?.execute([room])?;
    }
    Ok(())
}

/// How many events at the start of the stream are older than `oldest_ms`, `ROWS_PER_STEP` at most, and the last one's offset.
fn expired(connection: &Connection, room: RoomPk, oldest_ms: u64) -> Result<(usize, u64)> {
    let mut stream = connection.prepare_cached("SELECT offset, at_ms FROM events WHERE room = ?1 ORDER BY offset")?;
    let mut stream = stream.query([room])?;
    let (mut count, mut upto) = (0, 0);
    while count < ROWS_PER_STEP
        && let Some(row) = stream.next()?
        && unsigned(row, 1)? < oldest_ms
    {
        (count, upto) = (count + 1, unsigned(row, 0)?);
    }
    Ok((count, upto))
}

fn forget(connection: &Connection, room: RoomPk, upto: u64) -> Result<()> {
    connection.prepare_cached("UPDATE rooms SET trimmed_offset = ?2 WHERE pk = ?1")?.execute((room, int(upto)))?;
    connection.prepare_cached("DELETE FROM events WHERE room = ?1 AND offset <= ?2")?.execute((room, int(upto)))?;
    Ok(())
}
