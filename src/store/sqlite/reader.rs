//! The reading side. A reader has a connection of its own and sees committed data only.
use super::codes::int;
use super::rows::{self, event_columns};
use crate::store::port::{EventRow, HistoryFrom, Outcome, Read, Reader, RoomPk};
use rusqlite::{Connection, Result};
use std::fs::File;
use std::sync::Arc;

pub struct SqliteReader {
    connection: Connection,
    /// The data folder stays locked as long as a reader lives.
    _lock: Arc<File>,
}

impl SqliteReader {
    pub(super) fn new(connection: Connection, lock: Arc<File>) -> SqliteReader {
        SqliteReader { connection, _lock: lock }
    }

    fn answer(&mut self, read: &Read) -> Result<Outcome> {
        // One transaction: a room, its roles and its events belong to the same moment.
        let transaction = self.connection.transaction()?;
        match read {
            Read::Room { id, recent } => Ok(Outcome::Room(rows::image_by_id(&transaction, id, *recent)?.map(Box::new))),
            Read::History { room, .. } | Read::Events { room, .. } if !exists(&transaction, *room)? => {
                Ok(Outcome::NoRoom)
            }
            Read::History { room, from, limit } => history(&transaction, *room, *from, *limit),
            Read::Events { room, after, limit } => {
                let sql = concat!(
                    "SELECT ",
                    event_columns!(),
                    " FROM events WHERE room = ?1 AND offset > ?2 ORDER BY offset LIMIT ?3"
                );
                let found = rows::events(&transaction, sql, (room, int(*after), i64::from(*limit) + 1))?;
                Ok(page(found, *limit, false))
            }
        }
    }
}

impl Reader for SqliteReader {
    fn read(&mut self, read: &Read) -> Outcome {
        self.answer(read).unwrap_or_else(|error| {
            tracing::error!(%error, "reading from the database failed");
            Outcome::Failed
        })
    }
}

fn exists(connection: &Connection, room: RoomPk) -> Result<bool> {
    connection.prepare_cached("SELECT 1 FROM rooms WHERE pk = ?1")?.exists([room])
}

fn history(connection: &Connection, room: RoomPk, from: HistoryFrom, limit: u32) -> Result<Outcome> {
    // Kind 1 is EventKind::Message.
    let backwards = concat!(
        "SELECT ",
        event_columns!(),
        " FROM events WHERE room = ?1 AND offset < ?2 AND kind = 1 ORDER BY offset DESC LIMIT ?3"
    );
    let forwards = concat!(
        "SELECT ",
        event_columns!(),
        " FROM events WHERE room = ?1 AND offset > ?2 AND kind = 1 ORDER BY offset LIMIT ?3"
    );
    let (sql, offset, newest_first) = match from {
        HistoryFrom::End => (backwards, u64::MAX, true),
        HistoryFrom::Before(offset) => (backwards, offset, true),
        HistoryFrom::After(offset) => (forwards, offset, false),
    };
    let found = rows::events(connection, sql, (room, int(offset), i64::from(limit) + 1))?;
    Ok(page(found, limit, newest_first))
}

/// Queries ask for one row more than wanted, to know whether there is more.
fn page(mut rows: Vec<EventRow>, limit: u32, newest_first: bool) -> Outcome {
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    if newest_first {
        rows.reverse();
    }
    Outcome::Page { rows, has_more }
}
