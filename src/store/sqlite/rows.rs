//! Rows of the tables as the port's types: what the writer and the readers both load.
use super::codes::{int, role_of, room_type_of};
use crate::ids::Ulid;
use crate::store::port::{EventKind, EventRow, Role, RoomImage, RoomPk, RoomRow, RoomType};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Result, Row};

/// The columns of `event`, in its order.
macro_rules! event_columns {
    () => {
        "offset, kind, id, user_id, user_email, client_id, body, detail, at_ms"
    };
}
pub(super) use event_columns;

/// Finds what `room` reads.
macro_rules! select_room {
    () => {
        "SELECT pk, id, kind, name, description, created_at_ms, slow_mode_s, epoch, member_count,
             max(trimmed_offset, coalesce((SELECT max(offset) FROM events WHERE room = rooms.pk), 0))
         FROM rooms "
    };
}

/// Loads a room by key with its newest events. Several statements: call it inside a transaction.
pub fn image_by_pk(connection: &Connection, pk: RoomPk, recent: u32) -> Result<Option<RoomImage>> {
    let sql = concat!(select_room!(), "WHERE pk = ?1");
    image(connection, connection.prepare_cached(sql)?.query_row([pk], room).optional()?, recent)
}

/// Loads a room by id.
pub fn image_by_id(connection: &Connection, id: &str, recent: u32) -> Result<Option<RoomImage>> {
    let sql = concat!(select_room!(), "WHERE id = ?1");
    image(connection, connection.prepare_cached(sql)?.query_row([id], room).optional()?, recent)
}

/// Runs a query over `event_columns!()`.
pub fn events(connection: &Connection, sql: &str, params: impl Params) -> Result<Vec<EventRow>> {
    connection.prepare_cached(sql)?.query_map(params, event)?.collect()
}

/// A stored number that stands for nothing known: the file is damaged or was written by something else.
pub fn unknown_code(column: usize, code: i64) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, format!("unknown code {code}").into())
}

pub fn unsigned(row: &Row, column: usize) -> Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub fn ulid(row: &Row, column: usize) -> Result<Ulid> {
    Ok(Ulid(u128::from_be_bytes(row.get(column)?)))
}

pub fn event_kind(row: &Row, column: usize) -> Result<EventKind> {
    let code: i64 = row.get(column)?;
    u8::try_from(code).ok().and_then(EventKind::from_u8).ok_or_else(|| unknown_code(column, code))
}

pub fn role(row: &Row, column: usize) -> Result<Role> {
    let code = row.get(column)?;
    role_of(code).ok_or_else(|| unknown_code(column, code))
}

fn room(row: &Row) -> Result<RoomRow> {
    let kind = row.get(2)?;
    Ok(RoomRow {
        pk: row.get(0)?,
        id: row.get(1)?,
        kind: room_type_of(kind).ok_or_else(|| unknown_code(2, kind))?,
        name: row.get(3)?,
        description: row.get(4)?,
        created_at_ms: unsigned(row, 5)?,
        slow_mode_s: row.get(6)?,
        epoch: row.get(7)?,
        member_count: unsigned(row, 8)?,
        last_offset: unsigned(row, 9)?,
    })
}

fn event(row: &Row) -> Result<EventRow> {
    Ok(EventRow {
        offset: unsigned(row, 0)?,
        kind: event_kind(row, 1)?,
        id: ulid(row, 2)?,
        user_id: row.get(3)?,
        user_email: row.get(4)?,
        client_id: row.get(5)?,
        body: row.get(6)?,
        detail: row.get(7)?,
        at_ms: unsigned(row, 8)?,
    })
}

fn image(connection: &Connection, row: Option<RoomRow>, recent: u32) -> Result<Option<RoomImage>> {
    let Some(row) = row else { return Ok(None) };
    // A public room may have any number of members; `members_staff` finds those who matter.
    let roles = match row.kind {
        RoomType::Public => "SELECT user_id, role FROM members WHERE room = ?1 AND role >= 2 ORDER BY user_id",
        RoomType::Private | RoomType::Direct => "SELECT user_id, role FROM members WHERE room = ?1 ORDER BY user_id",
    };
    let roles = connection
        .prepare_cached(roles)?
        .query_map([row.pk], |member| Ok((member.get(0)?, role(member, 1)?)))?
        .collect::<Result<Vec<_>>>()?;
    let newest = concat!("SELECT ", event_columns!(), " FROM events WHERE room = ?1 ORDER BY offset DESC LIMIT ?2");
    let mut recent = events(connection, newest, (row.pk, int(recent.into())))?;
    recent.reverse();
    Ok(Some(RoomImage { row, roles, recent }))
}
