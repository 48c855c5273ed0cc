//! The rooms that the application wants to be in, and how far it has read each (R-SDK-5). Positions decide what is applied: each
//! durable event once, in order, none left out unnoticed.
use super::output::Positions;
use crate::event::Position;
use serde_json::{Map, Value};

/// The server takes at most so many in one `resume`.
pub(super) const RESUME_ROOMS_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoomPhase {
    /// Not subscribed on this connection.
    Apart,
    /// Asked.
    Joining,
    /// Commands may follow.
    Joined,
}

pub(super) struct Room {
    pub id: String,
    /// `roomType` and `roomToken` of the join, for the next one.
    pub data: Map<String, Value>,
    /// The last durable event that was applied; None before the first snapshot.
    pub position: Option<Position>,
    pub phase: RoomPhase,
    /// The `join_room` that is under way, if any.
    pub join_id: Option<String>,
    /// Commands of the application that this join answers.
    pub waiters: Vec<String>,
    /// Not joined again before this on the monotonic clock.
    pub retry_at_ms: u64,
    /// Something was missed: durable events are left out until the `room_state` that was asked for.
    pub is_lagging: bool,
    /// The application has been told whether this interruption was bridged.
    pub is_reported: bool,
}

/// What an event of a stream means to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    Double,
    Gap,
}

pub(super) fn compare(at: &Position, event: &Position) -> Step {
    if event.epoch != at.epoch {
        Step::Gap
    } else if event.offset <= at.offset {
        Step::Double
    } else if event.offset - at.offset == 1 {
        Step::Next
    } else {
        Step::Gap
    }
}

/// Epoch and offset of an event, a snapshot or an answer; None if it has none.
pub(super) fn position_of(data: &Map<String, Value>) -> Option<Position> {
    let (epoch, offset) = (data.get("epoch")?.as_str()?, data.get("offset")?.as_u64()?);
    Some(Position { epoch: epoch.to_owned(), offset })
}

pub(super) fn room_id_of(data: &Map<String, Value>) -> &str {
    data.get("roomId").and_then(Value::as_str).unwrap_or_default()
}

/// In the order of their joins. A session has few (`limits.rooms_per_session` = 128): a list is searched as fast as a table.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
}

impl Rooms {
    pub fn get(&self, id: &str) -> Option<&Room> {
        self.rooms.iter().find(|room| room.id == id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|room| room.id == id)
    }

    pub fn ids(&self) -> Vec<String> {
        self.rooms.iter().map(|room| room.id.clone()).collect()
    }

    /// The application joins, for the first time or again.
    pub fn want(&mut self, id: &str, mut data: Map<String, Value>, waiter: String) {
        data.remove("roomId");
        let recover = data.remove("recover");
        if self.get(id).is_none() {
            self.rooms.push(Room {
                id: id.to_owned(),
                data: Map::new(),
                position: None,
                phase: RoomPhase::Apart,
                join_id: None,
                waiters: Vec::new(),
                retry_at_ms: 0,
                is_lagging: false,
                is_reported: true,
            });
        }
        let Some(room) = self.get_mut(id) else { return };
        room.data = data;
        if let Some(position) = recover.as_ref().and_then(Value::as_object) {
            room.position = position_of(position);
        }
        room.waiters.push(waiter);
    }

    pub fn forget(&mut self, id: &str) -> Option<Room> {
        let place = self.rooms.iter().position(|room| room.id == id)?;
        Some(self.rooms.remove(place))
    }

    pub fn clear(&mut self) {
        self.rooms.clear();
    }

    /// The connection is lost, and with it all subscriptions.
    pub fn link_lost(&mut self) {
        for room in &mut self.rooms {
            room.phase = RoomPhase::Apart;
            room.join_id = None;
            room.retry_at_ms = 0;
            room.is_lagging = false;
            room.is_reported &= room.position.is_none();
        }
    }

    /// The `rooms` of a `resume`: those with a position.
    pub fn resumable(&self) -> Positions {
        let read = self.rooms.iter().filter_map(|room| Some((room.id.clone(), room.position.clone()?)));
        read.take(RESUME_ROOMS_MAX).collect()
    }

    /// Whether commands for a room may go. They wait while it is wanted, but not joined yet. Those of an earlier process wait for this
    /// one to want it, too: they would come back with `not_in_room`.
    pub fn is_open(&self, id: &str, is_restored: bool) -> bool {
        match self.get(id) {
            Some(room) => room.phase == RoomPhase::Joined,
            None => !is_restored || id.is_empty(),
        }
    }

    /// Whether a room_state is awaited.
    pub fn is_any_joining(&self) -> bool {
        self.rooms.iter().any(|room| room.join_id.is_some())
    }

    /// Whether nothing is missing: each room is joined and has its position.
    pub fn are_all_here(&self) -> bool {
        let is_here = |room: &Room| room.phase == RoomPhase::Joined && room.position.is_some() && !room.is_lagging;
        self.rooms.iter().all(is_here)
    }

    /// Ids of those to be joined now, and when to look again if something waits for its time. `with_lagging`: what was missed can
    /// be taken.
    pub fn due(&self, now_ms: u64, with_lagging: bool) -> (Vec<String>, Option<u64>) {
        let is_waiting = |room: &&Room| {
            let is_lagging = room.is_lagging && with_lagging;
            (room.phase == RoomPhase::Apart || is_lagging || !room.waiters.is_empty()) && room.join_id.is_none()
        };
        let (due, later): (Vec<&Room>, Vec<&Room>) =
            self.rooms.iter().filter(is_waiting).partition(|room| room.retry_at_ms <= now_ms);
        (due.iter().map(|room| room.id.clone()).collect(), later.iter().map(|room| room.retry_at_ms).min())
    }
}
