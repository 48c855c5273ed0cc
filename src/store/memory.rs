//! A back end in memory: for simulation, and the model that the durable one is tested against. Nothing is kept over a
//! restart, nothing is deleted by age.
use super::names::{direct_key, new_epoch};
use super::port::{
    Append, CreateRoom, EventKind, EventRow, HistoryFrom, Outcome, Read, Reader, Role, RoomImage, RoomPk, RoomRow,
    RoomType, SetMember, UpdateRoom, Write, WriteJob, Writer,
};
use crate::ids::UlidSource;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The store. Clones share one content.
#[derive(Clone)]
pub struct Memory {
    content: Arc<Mutex<Content>>,
}

/// The writing side. All writers of one `Memory` see the same content.
pub struct MemoryWriter(Memory);

/// The reading side.
pub struct MemoryReader(Memory);

struct Content {
    rooms: BTreeMap<RoomPk, Room>,
    /// Never used again, also after deletion.
    last_pk: RoomPk,
    /// (user, client id) → the event that it named last.
    client_ids: HashMap<(Box<str>, Box<str>), Use>,
    dedupe_ms: u64,
    /// When to look for client ids outside the window, Unix ms.
    next_cleaning_ms: u64,
    ids: UlidSource,
    is_failing: bool,
}

struct Room {
    /// `last_offset` and `member_count` are not kept up to date in here.
    row: RoomRow,
    direct_key: Option<String>,
    members: BTreeMap<Box<str>, Role>,
    /// The event of offset n at index n - 1.
    events: Vec<EventRow>,
}

#[derive(Clone, Copy)]
struct Use {
    room: RoomPk,
    offset: u64,
    at_ms: u64,
}

impl Memory {
    /// `dedupe_s`: `chat.dedupe_s`. `ids`: randomness for epochs; a seeded one makes everything repeatable.
    pub fn new(dedupe_s: u64, ids: UlidSource) -> Memory {
        let content = Content {
            rooms: BTreeMap::new(),
            last_pk: 0,
            client_ids: HashMap::new(),
            dedupe_ms: dedupe_s.saturating_mul(1000),
            next_cleaning_ms: 0,
            ids,
            is_failing: false,
        };
        Memory { content: Arc::new(Mutex::new(content)) }
    }

    pub fn writer(&self) -> MemoryWriter {
        MemoryWriter(self.clone())
    }

    pub fn reader(&self) -> MemoryReader {
        MemoryReader(self.clone())
    }

    /// From now on every job fails, as on a broken disk, until set to false.
    pub fn set_failing(&self, is_failing: bool) {
        self.lock().is_failing = is_failing;
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        // Whoever panicked held it for one job; jobs change the content last, all at once.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer for MemoryWriter {
    fn commit(&mut self, jobs: &[Box<WriteJob>], now_ms: u64, outcomes: &mut Vec<Outcome>) {
        let mut content = self.0.lock();
        content.clean(now_ms);
        for job in jobs {
            outcomes.push(match content.is_failing {
                true => Outcome::Failed,
                false => content.apply(&job.write, now_ms),
            });
        }
    }

    fn probe(&mut self) -> bool {
        !self.0.lock().is_failing
    }
}

impl Reader for MemoryReader {
    fn read(&mut self, read: &Read) -> Outcome {
        let content = self.0.lock();
        if content.is_failing {
            return Outcome::Failed;
        }
        match read {
            Read::Room { id, recent } => {
                let room = content.rooms.values().find(|room| room.row.id == *id);
                Outcome::Room(room.map(|room| Box::new(room.image(*recent))))
            }
            Read::History { room, from, limit } => match content.rooms.get(room) {
                Some(room) => room.history(*from, *limit as usize),
                None => Outcome::NoRoom,
            },
            Read::Events { room, after, limit } => match content.rooms.get(room) {
                Some(room) => {
                    let events = room.events.iter().filter(|event| event.offset > *after);
                    page(events.cloned().collect(), *limit as usize)
                }
                None => Outcome::NoRoom,
            },
        }
    }
}

impl Content {
    fn apply(&mut self, write: &Write, now_ms: u64) -> Outcome {
        match write {
            Write::Append(append) => self.append(append, now_ms),
            Write::CreateRoom(create) => self.create(create, now_ms),
            Write::SetMember(change) => self.set_member(change),
            Write::UpdateRoom(change) => self.update_room(change),
            Write::DeleteRoom(pk) => match self.rooms.remove(pk) {
                Some(_) => Outcome::Deleted,
                None => Outcome::NoRoom,
            },
        }
    }

    fn append(&mut self, append: &Append, now_ms: u64) -> Outcome {
        if !self.rooms.contains_key(&append.room) {
            return Outcome::NoRoom;
        }
        let event = &append.event;
        let key = event.client_id.as_ref().map(|client_id| (event.user_id.clone(), client_id.clone()));
        let used = key.as_ref().and_then(|key| self.client_ids.get(key)).copied();
        if let Some(used) = used.filter(|used| used.at_ms.abs_diff(now_ms) < self.dedupe_ms)
            && let Some(room) = self.rooms.get(&used.room)
        {
            let first = &room.events[used.offset as usize - 1];
            let is_same = used.room == append.room
                && (first.kind, &first.body, &first.detail) == (event.kind, &event.body, &event.detail);
            return match is_same {
                true => Outcome::Duplicate { offset: first.offset, id: first.id, at_ms: first.at_ms },
                false => Outcome::Conflict,
            };
        }
        if append.probe {
            return Outcome::Unused;
        }
        let room = self.rooms.get_mut(&append.room).expect("looked up above");
        let became_member =
            append.make_member && room.members.get(&event.user_id).is_none_or(|role| *role == Role::Invited);
        if became_member {
            room.members.insert(event.user_id.clone(), Role::Member);
        }
        let offset = room.push(event);
        if let Some(key) = key {
            self.client_ids.insert(key, Use { room: append.room, offset, at_ms: now_ms });
        }
        Outcome::Appended { offset, became_member }
    }

    fn create(&mut self, create: &CreateRoom, now_ms: u64) -> Outcome {
        let direct_key = create.pair.as_ref().map(|(one, other)| direct_key(one, other));
        if direct_key.is_some()
            && let Some(room) = self.rooms.values().find(|room| room.direct_key == direct_key)
        {
            return Outcome::Created { image: Box::new(room.image(0)), is_new: false };
        }
        if self.rooms.values().any(|room| room.row.id == create.row.id) {
            return Outcome::Conflict;
        }
        self.last_pk += 1;
        let row = RoomRow { pk: self.last_pk, epoch: new_epoch(&mut self.ids, now_ms), ..create.row.clone() };
        let room = Room { row, direct_key, members: create.members.iter().cloned().collect(), events: Vec::new() };
        let image = Box::new(room.image(0));
        self.rooms.insert(self.last_pk, room);
        Outcome::Created { image, is_new: true }
    }

    fn set_member(&mut self, change: &SetMember) -> Outcome {
        let Some(room) = self.rooms.get_mut(&change.room) else { return Outcome::NoRoom };
        match change.role {
            Some(role) => room.members.insert(change.user_id.clone(), role),
            None => room.members.remove(&change.user_id),
        };
        let offset = change.event.as_ref().map_or(0, |event| room.push(event));
        Outcome::Changed { offset, member_count: room.member_count() }
    }

    fn update_room(&mut self, change: &UpdateRoom) -> Outcome {
        let Some(room) = self.rooms.get_mut(&change.room) else { return Outcome::NoRoom };
        if let Some(name) = &change.name {
            room.row.name = name.clone();
        }
        if let Some(description) = &change.description {
            room.row.description = description.clone();
        }
        if let Some(slow_mode_s) = change.slow_mode_s {
            room.row.slow_mode_s = slow_mode_s;
        }
        Outcome::Changed { offset: room.push(&change.event), member_count: room.member_count() }
    }

    fn clean(&mut self, now_ms: u64) {
        if now_ms >= self.next_cleaning_ms {
            let dedupe_ms = self.dedupe_ms;
            self.client_ids.retain(|_, used| used.at_ms.abs_diff(now_ms) < dedupe_ms);
            self.next_cleaning_ms = now_ms.saturating_add(dedupe_ms);
        }
    }
}

impl Room {
    fn push(&mut self, event: &EventRow) -> u64 {
        let offset = self.events.len() as u64 + 1;
        self.events.push(EventRow { offset, ..event.clone() });
        offset
    }

    fn member_count(&self) -> u64 {
        self.members.values().filter(|role| **role >= Role::Member).count() as u64
    }

    fn image(&self, recent: u32) -> RoomImage {
        let least = if self.row.kind == RoomType::Public { Role::Moderator } else { Role::Invited };
        let roles = self.members.iter().filter(|(_, role)| **role >= least);
        let first_recent = self.events.len().saturating_sub(recent as usize);
        RoomImage {
            row: RoomRow {
                last_offset: self.events.len() as u64,
                member_count: self.member_count(),
                ..self.row.clone()
            },
            roles: roles.map(|(user_id, role)| (user_id.clone(), *role)).collect(),
            recent: self.events[first_recent..].to_vec(),
        }
    }

    fn history(&self, from: HistoryFrom, limit: usize) -> Outcome {
        let messages = self.events.iter().filter(|event| event.kind == EventKind::Message);
        let before = match from {
            HistoryFrom::After(offset) => {
                return page(messages.filter(|event| event.offset > offset).cloned().collect(), limit);
            }
            HistoryFrom::Before(offset) => offset,
            HistoryFrom::End => u64::MAX,
        };
        let mut rows: Vec<_> = messages.filter(|event| event.offset < before).cloned().collect();
        let surplus = rows.len().saturating_sub(limit);
        rows.drain(..surplus);
        Outcome::Page { rows, has_more: surplus > 0 }
    }
}

/// The first `limit` rows.
fn page(mut rows: Vec<EventRow>, limit: usize) -> Outcome {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    Outcome::Page { rows, has_more }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_is_failing_until_it_is_not() {
        let store = Memory::new(300, UlidSource::new(Box::new(|bytes| bytes.fill(1))));
        let (mut writer, mut reader) = (store.writer(), store.reader());
        store.set_failing(true);
        assert!(!writer.probe());
        assert!(matches!(reader.read(&Read::Room { id: "x".into(), recent: 0 }), Outcome::Failed));
        store.set_failing(false);
        assert!(writer.probe());
        assert!(matches!(reader.read(&Read::Room { id: "x".into(), recent: 0 }), Outcome::Room(None)));
    }
}
