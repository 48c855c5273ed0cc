//! The store as its port describes it, in plain maps: no thread, no disk, and it fails when told to.
use crate::store::port::*;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Store {
    pub rooms: BTreeMap<RoomPk, StoredRoom>,
    last_pk: RoomPk,
    /// (user, client id) → where it was used, with what.
    used: BTreeMap<(String, String), (RoomPk, EventRow)>,
    /// So many of the next jobs fail.
    pub failures: u32,
}

pub struct StoredRoom {
    pub row: RoomRow,
    pub members: BTreeMap<String, Role>,
    pub rows: Vec<EventRow>,
    pair: Option<(String, String)>,
}

impl StoredRoom {
    fn append(&mut self, mut event: EventRow) -> u64 {
        self.row.last_offset += 1;
        event.offset = self.row.last_offset;
        self.rows.push(event);
        self.row.last_offset
    }

    fn image(&self, recent: usize) -> Box<RoomImage> {
        let mut row = self.row.clone();
        row.member_count = self.members.values().filter(|role| **role > Role::Invited).count() as u64;
        let is_public = row.kind == RoomType::Public;
        let listed = |role: &Role| !is_public || *role > Role::Member;
        let roles = self.members.iter().filter(|(_, role)| listed(role));
        Box::new(RoomImage {
            row,
            roles: roles.map(|(user, role)| (user.as_str().into(), *role)).collect(),
            recent: self.rows[self.rows.len().saturating_sub(recent)..].to_vec(),
        })
    }
}

impl Store {
    pub fn by_name(&mut self, name: &str) -> Option<&mut StoredRoom> {
        self.rooms.values_mut().find(|room| *room.row.id == *name)
    }

    fn is_failing(&mut self) -> bool {
        let is_failing = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        is_failing
    }

    pub fn write(&mut self, write: &Write) -> Outcome {
        if self.is_failing() {
            return Outcome::Failed;
        }
        match write {
            Write::Append(append) => self.append(append),
            Write::CreateRoom(create) => self.create(create),
            Write::DeleteRoom(pk) => self.rooms.remove(pk).map_or(Outcome::NoRoom, |_| Outcome::Deleted),
            Write::SetMember(set) => {
                let Some(room) = self.rooms.get_mut(&set.room) else { return Outcome::NoRoom };
                match set.role {
                    Some(role) => drop(room.members.insert(set.user_id.to_string(), role)),
                    None => drop(room.members.remove(&*set.user_id)),
                }
                let offset = set.event.clone().map_or(0, |event| room.append(event));
                Outcome::Changed { offset, member_count: room.image(0).row.member_count }
            }
            Write::UpdateRoom(update) => {
                let Some(room) = self.rooms.get_mut(&update.room) else { return Outcome::NoRoom };
                let UpdateRoom { name, description, slow_mode_s, event, .. } = update.clone();
                room.row.name = name.unwrap_or(room.row.name.clone());
                room.row.description = description.unwrap_or(room.row.description.clone());
                room.row.slow_mode_s = slow_mode_s.unwrap_or(room.row.slow_mode_s);
                let offset = room.append(event);
                Outcome::Changed { offset, member_count: room.image(0).row.member_count }
            }
        }
    }

    fn append(&mut self, append: &Append) -> Outcome {
        let event = &append.event;
        let key = event.client_id.as_deref().map(|client_id| (event.user_id.to_string(), client_id.to_string()));
        if let Some((room, first)) = key.as_ref().and_then(|key| self.used.get(key)) {
            let is_same = *room == append.room && first.body == event.body && first.detail == event.detail;
            return match is_same {
                true => Outcome::Duplicate { offset: first.offset, id: first.id, at_ms: first.at_ms },
                false => Outcome::Conflict,
            };
        }
        if append.probe {
            return Outcome::Unused;
        }
        let Some(room) = self.rooms.get_mut(&append.room) else { return Outcome::NoRoom };
        let offset = room.append(event.clone());
        let became_member = append.make_member && !room.members.contains_key(&*event.user_id);
        if became_member {
            room.members.insert(event.user_id.to_string(), Role::Member);
        }
        if let Some(key) = key {
            self.used.insert(key, (append.room, EventRow { offset, ..event.clone() }));
        }
        Outcome::Appended { offset, became_member }
    }

    fn create(&mut self, create: &CreateRoom) -> Outcome {
        let pair = create.pair.as_ref().map(|(a, b)| (a.min(b).to_string(), a.max(b).to_string()));
        if let Some(room) = self.rooms.values().find(|room| pair.is_some() && room.pair == pair) {
            return Outcome::Created { image: room.image(usize::MAX), is_new: false };
        }
        if self.by_name(&create.row.id).is_some() {
            return Outcome::Conflict;
        }
        self.last_pk += 1;
        let row = RoomRow { pk: self.last_pk, ..create.row.clone() };
        let members = create.members.iter().map(|(user, role)| (user.to_string(), *role)).collect();
        let room = StoredRoom { row, members, rows: vec![], pair };
        let image = room.image(0);
        self.rooms.insert(self.last_pk, room);
        Outcome::Created { image, is_new: true }
    }

    pub fn read(&mut self, read: &Read) -> Outcome {
        if self.is_failing() {
            return Outcome::Failed;
        }
        match read {
            Read::Room { id, recent } => Outcome::Room(self.by_name(id).map(|room| room.image(*recent as usize))),
            Read::History { room, from, limit } => {
                let Some(room) = self.rooms.get(room) else { return Outcome::NoRoom };
                let limit = *limit as usize;
                let messages = room.rows.iter().filter(|row| row.kind == EventKind::Message);
                let mut rows: Vec<EventRow> = match *from {
                    HistoryFrom::After(after) => messages.filter(|row| row.offset > after).cloned().collect(),
                    HistoryFrom::Before(before) => messages.filter(|row| row.offset < before).cloned().collect(),
                    HistoryFrom::End => messages.cloned().collect(),
                };
                let has_more = rows.len() > limit;
                match from {
                    HistoryFrom::After(_) => rows.truncate(limit),
                    _ => drop(rows.drain(..rows.len().saturating_sub(limit))),
                }
                Outcome::Page { rows, has_more }
            }
            Read::Events { room, after, limit } => {
                let Some(room) = self.rooms.get(room) else { return Outcome::NoRoom };
                let rows = room.rows.iter().filter(|row| row.offset > *after).take(*limit as usize).cloned();
                Outcome::Page { rows: rows.collect(), has_more: false }
            }
        }
    }
}
