//! The one writer: a batch of jobs is a transaction; its COMMIT is the fsync that everybody waits for.
//!
//! What it knows of rooms (newest offset, member count) and of client ids is a cache of the database. A batch that
//! fails for any reason, a panic included, is rolled back and the caches are dropped, so the next one starts clean.
use super::checkpoint::Checkpointer;
use super::codes::{int, role_code, room_type_code};
use super::dedupe::{Place, Window};
use super::housekeeping::Housekeeping;
use super::{Options, rows};
use crate::ids::UlidSource;
use crate::store::names::{direct_key, new_epoch};
use crate::store::port::{
    Append, CreateRoom, EventRow, Outcome, Role, RoomImage, RoomPk, SetMember, UpdateRoom, Write, WriteJob, Writer,
};
use rusqlite::{Connection, OptionalExtension, Result};
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

pub struct SqliteWriter {
    // Before `connection`: the last one to close checkpoints everything.
    checkpointer: Checkpointer,
    pub(super) connection: Connection,
    rooms: HashMap<RoomPk, RoomState>,
    window: Window,
    ids: UlidSource,
    pub(super) housekeeping: Housekeeping,
    /// A transaction was begun and not ended: still set at the next one if this one failed.
    unfinished: bool,
    /// The data folder stays locked as long as the writer lives.
    _lock: Arc<File>,
}

/// What is cached of a room.
#[derive(Clone, Copy)]
struct RoomState {
    last_offset: u64,
    member_count: u64,
    /// `Window::add`'s memo.
    run: usize,
}

/// Rooms in the cache; a larger one is emptied between batches. 64 bytes each.
const ROOMS_CACHED_MAX: usize = 1 << 18;

impl SqliteWriter {
    pub(super) fn new(
        connection: Connection,
        checkpointer: Checkpointer,
        lock: Arc<File>,
        options: Options,
    ) -> Result<SqliteWriter> {
        let window_ms = options.dedupe_s.saturating_mul(1000);
        Ok(SqliteWriter {
            window: Window::load(&connection, window_ms)?,
            housekeeping: Housekeeping::new(options.retention_days, window_ms),
            checkpointer,
            connection,
            rooms: HashMap::new(),
            ids: options.ids,
            unfinished: false,
            _lock: lock,
        })
    }

    /// Runs `work` in a transaction that is on disk when this returns Ok. Else nothing of it is.
    pub(super) fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.abandon()?;
        self.unfinished = true;
        let changes_before = self.connection.total_changes();
        self.execute("BEGIN IMMEDIATE")?;
        let result = work(self).and_then(|value| self.execute("COMMIT").map(|()| value));
        match result {
            Ok(_) => {
                self.unfinished = false;
                self.checkpointer.committed(self.connection.total_changes() - changes_before);
            }
            // Now rather than with the next batch, which may be long in coming: an open transaction holds the log.
            Err(_) => self.abandon()?,
        }
        result
    }

    /// Ends a transaction that failed, however far it came.
    fn abandon(&mut self) -> Result<()> {
        if !self.unfinished {
            return Ok(());
        }
        self.rooms.clear();
        self.window.discard();
        // Some errors, a full disk among them, have rolled back already.
        if !self.connection.is_autocommit() {
            self.execute("ROLLBACK")?;
        }
        self.unfinished = false;
        Ok(())
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn apply(&mut self, write: &Write, now_ms: u64) -> Result<Outcome> {
        match write {
            Write::Append(append) => self.append(append, now_ms),
            Write::CreateRoom(create) => self.create(create, now_ms),
            Write::SetMember(change) => self.set_member(change),
            Write::UpdateRoom(change) => self.update_room(change),
            Write::DeleteRoom(room) => self.delete_room(*room),
        }
    }

    fn append(&mut self, append: &Append, now_ms: u64) -> Result<Outcome> {
        let Some(mut state) = self.room(append.room)? else { return Ok(Outcome::NoRoom) };
        let event = &append.event;
        let key = event.client_id.as_deref().map(|client_id| self.window.hash(&event.user_id, client_id));
        if let Some(used) = key.map(|key| self.used(key, append, now_ms)).transpose()?.flatten() {
            return Ok(used);
        }
        if append.probe {
            return Ok(Outcome::Unused);
        }
        let became_member = append.make_member && self.make_member(append.room, &event.user_id)?;
        if became_member {
            state.member_count += 1;
            self.store_member_count(append.room, state.member_count)?;
        }
        state.last_offset += 1;
        self.insert_event(append.room, state.last_offset, event)?;
        if let Some(key) = key {
            self.window.add(key, Place { room: append.room, offset: state.last_offset }, &mut state.run);
        }
        self.rooms.insert(append.room, state);
        Ok(Outcome::Appended { offset: state.last_offset, became_member })
    }

    /// `Duplicate` or `Conflict` if the author used the client id within the window (R-CHAT-3).
    fn used(&mut self, key: u32, append: &Append, now_ms: u64) -> Result<Option<Outcome>> {
        let event = &append.event;
        for place in self.window.find(key, now_ms) {
            // What a deleted room held is forgotten, though its rows may still be there.
            if self.room(place.room)?.is_none() {
                continue;
            }
            let mut stored = self.connection.prepare_cached(
                "SELECT user_id, client_id, kind, body, detail, id, at_ms FROM events WHERE room = ?1 AND offset = ?2",
            )?;
            let mut stored = stored.query((place.room, int(place.offset)))?;
            let Some(row) = stored.next()? else { continue };
            let is_same_key = row.get_ref(0)?.as_str()? == &*event.user_id
                && row.get_ref(1)?.as_str_or_null()? == event.client_id.as_deref();
            if !is_same_key {
                continue;
            }
            let is_same = place.room == append.room
                && rows::event_kind(row, 2)? == event.kind
                && row.get_ref(3)?.as_str()? == &*event.body
                && row.get_ref(4)?.as_str_or_null()? == event.detail.as_deref();
            return Ok(Some(if is_same {
                Outcome::Duplicate { offset: place.offset, id: rows::ulid(row, 5)?, at_ms: rows::unsigned(row, 6)? }
            } else {
                Outcome::Conflict
            }));
        }
        Ok(None)
    }

    fn create(&mut self, create: &CreateRoom, now_ms: u64) -> Result<Outcome> {
        let row = &create.row;
        let direct_key = create.pair.as_ref().map(|(one, other)| direct_key(one, other));
        if let Some(key) = &direct_key {
            let existing = self
                .connection
                .prepare_cached("SELECT pk FROM rooms WHERE direct_key = ?1")?
                .query_row([key], |found| found.get(0))
                .optional()?;
            if let Some(pk) = existing {
                return self.created(pk, false);
            }
        }
        if self.connection.prepare_cached("SELECT 1 FROM rooms WHERE id = ?1")?.exists([&row.id])? {
            return Ok(Outcome::Conflict);
        }
        self.connection
            .prepare_cached(
                "INSERT INTO rooms (id, kind, name, description, created_at_ms, slow_mode_s, epoch, direct_key, member_count)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0)",
            )?
            .execute((
                &row.id,
                room_type_code(row.kind),
                &row.name,
                &row.description,
                int(row.created_at_ms),
                row.slow_mode_s,
                new_epoch(&mut self.ids, now_ms),
                &direct_key,
            ))?;
        let pk = self.connection.last_insert_rowid();
        for (user_id, role) in &create.members {
            self.put_member(pk, user_id, *role)?;
        }
        self.connection
            .prepare_cached(
                "UPDATE rooms SET member_count = (SELECT count(*) FROM members WHERE room = ?1 AND role >= 1) WHERE pk = ?1",
            )?
            .execute([pk])?;
        self.created(pk, true)
    }

    fn created(&self, pk: RoomPk, is_new: bool) -> Result<Outcome> {
        let image: RoomImage =
            rows::image_by_pk(&self.connection, pk, 0)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        Ok(Outcome::Created { image: Box::new(image), is_new })
    }

    fn set_member(&mut self, change: &SetMember) -> Result<Outcome> {
        let Some(mut state) = self.room(change.room)? else { return Ok(Outcome::NoRoom) };
        let before = self
            .connection
            .prepare_cached("SELECT role FROM members WHERE room = ?1 AND user_id = ?2")?
            .query_row((change.room, &change.user_id), |row| rows::role(row, 0))
            .optional()?;
        match change.role {
            Some(role) => self.put_member(change.room, &change.user_id, role)?,
            None => drop(
                self.connection
                    .prepare_cached("DELETE FROM members WHERE room = ?1 AND user_id = ?2")?
                    .execute((change.room, &change.user_id))?,
            ),
        }
        let counts = |role: Option<Role>| u64::from(role.is_some_and(|role| role >= Role::Member));
        let member_count = state.member_count + counts(change.role) - counts(before);
        if member_count != state.member_count {
            state.member_count = member_count;
            self.store_member_count(change.room, member_count)?;
        }
        let mut offset = 0;
        if let Some(event) = &change.event {
            state.last_offset += 1;
            offset = state.last_offset;
            self.insert_event(change.room, offset, event)?;
        }
        self.rooms.insert(change.room, state);
        Ok(Outcome::Changed { offset, member_count })
    }

    fn update_room(&mut self, change: &UpdateRoom) -> Result<Outcome> {
        let Some(mut state) = self.room(change.room)? else { return Ok(Outcome::NoRoom) };
        self.connection
            .prepare_cached(
                "UPDATE rooms SET name = coalesce(?2, name), description = coalesce(?3, description),
                     slow_mode_s = coalesce(?4, slow_mode_s) WHERE pk = ?1",
            )?
            .execute((change.room, &change.name, &change.description, change.slow_mode_s))?;
        state.last_offset += 1;
        self.insert_event(change.room, state.last_offset, &change.event)?;
        self.rooms.insert(change.room, state);
        Ok(Outcome::Changed { offset: state.last_offset, member_count: state.member_count })
    }

    /// The room is gone with its row. Its members and its stream may be large: housekeeping clears them away later.
    fn delete_room(&mut self, room: RoomPk) -> Result<Outcome> {
        self.rooms.remove(&room);
        if self.connection.prepare_cached("DELETE FROM rooms WHERE pk = ?1")?.execute([room])? == 0 {
            return Ok(Outcome::NoRoom);
        }
        self.connection.prepare_cached("INSERT INTO deleted_rooms (room) VALUES (?1)")?.execute([room])?;
        self.housekeeping.rooms_deleted();
        Ok(Outcome::Deleted)
    }

    /// From the cache, else from the database. None: there is no such room.
    fn room(&mut self, room: RoomPk) -> Result<Option<RoomState>> {
        if let Some(state) = self.rooms.get(&room) {
            return Ok(Some(*state));
        }
        let loaded = self
            .connection
            .prepare_cached(
                "SELECT max(trimmed_offset, coalesce((SELECT max(offset) FROM events WHERE room = ?1), 0)), member_count
                 FROM rooms WHERE pk = ?1",
            )?
            .query_row([room], |row| {
                Ok(RoomState { last_offset: rows::unsigned(row, 0)?, member_count: rows::unsigned(row, 1)?, run: 0 })
            })
            .optional()?;
        if let Some(state) = loaded {
            self.rooms.insert(room, state);
        }
        Ok(loaded)
    }

    fn insert_event(&self, room: RoomPk, offset: u64, event: &EventRow) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO events (room, offset, kind, id, user_id, user_email, client_id, body, detail, at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute((
                room,
                int(offset),
                event.kind as u8,
                event.id.0.to_be_bytes(),
                &event.user_id,
                &event.user_email,
                &event.client_id,
                &event.body,
                &event.detail,
                int(event.at_ms),
            ))?;
        Ok(())
    }

    /// True if the user was no member: unknown, or invited only. Roles 0 and 1 are invited and member.
    fn make_member(&self, room: RoomPk, user_id: &str) -> Result<bool> {
        let changed = self
            .connection
            .prepare_cached(
                "INSERT INTO members (room, user_id, role) VALUES (?1, ?2, 1)
                 ON CONFLICT (room, user_id) DO UPDATE SET role = 1 WHERE role = 0",
            )?
            .execute((room, user_id))?;
        Ok(changed > 0)
    }

    fn put_member(&self, room: RoomPk, user_id: &str, role: Role) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO members (room, user_id, role) VALUES (?1, ?2, ?3)
                 ON CONFLICT (room, user_id) DO UPDATE SET role = excluded.role",
            )?
            .execute((room, user_id, role_code(role)))?;
        Ok(())
    }

    fn store_member_count(&self, room: RoomPk, member_count: u64) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE rooms SET member_count = ?2 WHERE pk = ?1")?
            .execute((room, int(member_count)))?;
        Ok(())
    }
}

impl Writer for SqliteWriter {
    fn commit(&mut self, jobs: &[Box<WriteJob>], now_ms: u64, outcomes: &mut Vec<Outcome>) {
        if self.rooms.len() > ROOMS_CACHED_MAX {
            self.rooms.clear();
        }
        let before = outcomes.len();
        let committed = self.transaction(|writer| {
            for job in jobs {
                let outcome = writer.apply(&job.write, now_ms)?;
                outcomes.push(outcome);
            }
            writer.window.write_journal(&writer.connection, now_ms)
        });
        match committed {
            Ok(()) => self.window.confirm(now_ms),
            Err(error) => {
                tracing::error!(%error, jobs = jobs.len(), "a batch of writes failed, nothing of it is stored");
                outcomes.truncate(before);
                outcomes.extend(jobs.iter().map(|_| Outcome::Failed));
            }
        }
    }

    fn probe(&mut self) -> bool {
        let written = self.transaction(|writer| writer.execute("UPDATE probe SET count = count + 1"));
        written.inspect_err(|error| tracing::warn!(%error, "the database accepts no write")).is_ok()
    }

    fn housekeep(&mut self, now_ms: u64) -> bool {
        self.housekeeping_step(now_ms)
    }
}
