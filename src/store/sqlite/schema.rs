//! The tables, and how an older file becomes a current one.
//!
//! `PRAGMA user_version` counts the migrations that a file has seen. Each runs once, together with its count, in one
//! transaction. A published migration is never edited; a change is a new one at the end.
use super::OpenError;
use rusqlite::{Connection, TransactionBehavior};

const MIGRATIONS: &[&str] = &[
    // 1: rooms, members, streams.
    //
    // rooms.pk is never reused (AUTOINCREMENT): a job on its way to a deleted room finds no room, and rows of deleted
    // rooms may be cleared away later. rooms.trimmed_offset: events up to here were deleted by age; a stream that is
    // empty for that reason still goes on counting. members.role and the kinds: see `codes`.
    // events and members hold their rows in key order (WITHOUT ROWID): a page of history is one run of pages.
    // dedupe_journal: one row per commit, the places of the client ids stored by it (`dedupe`).
    "CREATE TABLE rooms (
         pk INTEGER PRIMARY KEY AUTOINCREMENT,
         id TEXT NOT NULL UNIQUE,
         kind INTEGER NOT NULL,
         name TEXT NOT NULL,
         description TEXT NOT NULL,
         created_at_ms INTEGER NOT NULL,
         slow_mode_s INTEGER NOT NULL,
         epoch TEXT NOT NULL,
         direct_key TEXT UNIQUE,
         member_count INTEGER NOT NULL,
         trimmed_offset INTEGER NOT NULL DEFAULT 0
     ) STRICT;
     CREATE TABLE members (
         room INTEGER NOT NULL,
         user_id TEXT NOT NULL,
         role INTEGER NOT NULL,
         PRIMARY KEY (room, user_id)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX members_staff ON members (room, role) WHERE role >= 2;
     CREATE TABLE events (
         room INTEGER NOT NULL,
         offset INTEGER NOT NULL,
         kind INTEGER NOT NULL,
         id BLOB NOT NULL,
         user_id TEXT NOT NULL,
         user_email TEXT,
         client_id TEXT,
         body TEXT NOT NULL,
         detail TEXT,
         at_ms INTEGER NOT NULL,
         PRIMARY KEY (room, offset)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE deleted_rooms (room INTEGER PRIMARY KEY) STRICT;
     CREATE TABLE dedupe_journal (
         seq INTEGER PRIMARY KEY,
         at_ms INTEGER NOT NULL,
         places BLOB NOT NULL
     ) STRICT;
     CREATE TABLE probe (one INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT;
     INSERT INTO probe VALUES (1, 0);",
];

pub fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let known = MIGRATIONS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if !(0..=known).contains(&found) {
        return Err(OpenError::TooNew { found, known });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.execute("INSERT INTO deleted_rooms VALUES (7)", []).unwrap();
        migrate(&mut connection).unwrap();
        let kept: i64 = connection.query_row("SELECT room FROM deleted_rooms", [], |row| row.get(0)).unwrap();
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!((kept, version), (7, MIGRATIONS.len() as i64));
    }

    #[test]
    fn a_negative_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", -1).unwrap();
        assert!(matches!(migrate(&mut connection), Err(OpenError::TooNew { found: -1, .. })));
    }
}
