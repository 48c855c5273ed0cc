//! Short ways to write jobs down.
use throng::ids::{Ulid, UlidSource};
use throng::store::port::*;

/// Ids whose random part counts up: different for each, equal in each run.
pub fn counting_ids(mut next: u64) -> UlidSource {
    UlidSource::new(Box::new(move |bytes| {
        for chunk in bytes.chunks_mut(10) {
            next += 1;
            chunk[2..].copy_from_slice(&next.to_be_bytes());
        }
    }))
}

/// Ids whose random part is always the same.
pub fn equal_ids() -> UlidSource {
    UlidSource::new(Box::new(|bytes| bytes.fill(1)))
}

pub fn job(write: Write) -> Box<WriteJob> {
    let waiter = Waiter { shard: 0, room_key: 0, conn: None, request: "".into(), user: None, read_at_ns: 0 };
    Box::new(WriteJob { waiter, write })
}

pub fn event(kind: EventKind, user: &str, body: &str) -> EventRow {
    EventRow {
        offset: 0,
        kind,
        id: Ulid(77 << 80 | body.len() as u128),
        user_id: user.into(),
        user_email: None,
        client_id: None,
        body: body.into(),
        detail: None,
        at_ms: 1000,
    }
}

/// A message without a client id.
pub fn message(room: RoomPk, user: &str, body: &str) -> Append {
    Append { room, event: event(EventKind::Message, user, body), make_member: false, probe: false }
}

/// A message with one.
pub fn named(room: RoomPk, user: &str, client_id: &str, body: &str) -> Append {
    let mut append = message(room, user, body);
    append.event.client_id = Some(client_id.into());
    append
}

pub fn room(id: &str, kind: RoomType, members: &[(&str, Role)]) -> CreateRoom {
    let row = RoomRow {
        pk: 0,
        id: id.into(),
        kind,
        name: "A name".into(),
        description: "".into(),
        created_at_ms: 5,
        slow_mode_s: 0,
        epoch: "".into(),
        last_offset: 0,
        member_count: 0,
    };
    CreateRoom { row, members: members.iter().map(|(user, role)| ((*user).into(), *role)).collect(), pair: None }
}

pub fn direct(id: &str, one: &str, other: &str) -> CreateRoom {
    let create = room(id, RoomType::Direct, &[(one, Role::Member), (other, Role::Member)]);
    CreateRoom { pair: Some((one.into(), other.into())), ..create }
}

pub fn set_member(room: RoomPk, user: &str, role: Option<Role>, told: bool) -> Write {
    let event = told.then(|| event(EventKind::RoleChanged, user, ""));
    Write::SetMember(SetMember { room, user_id: user.into(), role, event })
}
