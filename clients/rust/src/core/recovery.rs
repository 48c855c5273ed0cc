//! Rooms over lost connections: resume, or join again, and everything that a room tells in between. After each interruption every
//! room is reported once, as recovered (the missed events follow) or not (a snapshot follows).
use super::Core;
use super::outbox::RETRY_MS;
use super::output::Positions;
use super::rooms::{RoomPhase, Rooms, Step, compare, position_of, room_id_of};
use super::timers::Timer;
use crate::error::Error;
use crate::event::Event;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// After so many connections in a row that ended before all rooms were back, they are joined one by one: on a slow line the answer
/// to a resume of everything may be more than the server keeps for a reader (close 4101).
const ONE_BY_ONE: u32 = 2;
/// And after so many without what was missed.
const SNAPSHOTS: u32 = 4;

#[derive(Default)]
pub(super) struct Recovery {
    pub rooms: Rooms,
    /// On this connection rooms were asked for.
    has_asked: bool,
    failures: u32,
    /// `join_room` under way → its room.
    joins: HashMap<String, String>,
}

impl Core {
    // ------------------------------------------------------------ joining

    /// Sends every join that is due; called whenever one may have become so.
    pub(super) fn join_due(&mut self) {
        let Some(link) = self.ready_link() else { return };
        let (mut join, look_at_ms) = self.recovery.rooms.due(self.now.mono_ms, !self.is_backlogged);
        if self.recovery.failures >= ONE_BY_ONE {
            let is_busy = !self.recovery.joins.is_empty() || self.recovery.rooms.is_any_joining();
            join.truncate(usize::from(!is_busy));
        }
        for room_id in join {
            let id = self.new_id();
            let with_position = self.recovery.failures < SNAPSHOTS;
            let Some(room) = self.recovery.rooms.get_mut(&room_id) else { continue };
            room.join_id = Some(id.clone());
            if room.phase == RoomPhase::Apart {
                room.phase = RoomPhase::Joining;
            }
            let mut data = room.data.clone();
            data.insert("roomId".to_owned(), room_id.as_str().into());
            if let Some(position) = room.position.as_ref().filter(|_| with_position) {
                data.insert("recover".to_owned(), json!(position));
            }
            self.recovery.has_asked = true;
            self.recovery.joins.insert(id.clone(), room_id);
            self.send(link, &id, "join_room", &Value::Object(data).to_string());
        }
        if let Some(at_ms) = look_at_ms {
            self.timers.start(Timer::Rejoin, at_ms);
        }
    }

    /// Gives the answer back if it was to no join.
    pub(super) fn join_answered(&mut self, id: &str, answer: Result<Value, Error>) -> Option<Result<Value, Error>> {
        let Some(room_id) = self.recovery.joins.remove(id) else { return Some(answer) };
        let room = self.recovery.rooms.get_mut(&room_id).filter(|room| room.join_id.as_deref() == Some(id));
        let room = room?; // left meanwhile
        match answer {
            Ok(result) => {
                room.phase = RoomPhase::Joined; // `join_id` stays until the room_state, which follows
                self.settle_waiters(&room_id, &Ok(result));
            }
            Err(error) => {
                room.join_id = None;
                if room.phase == RoomPhase::Joining {
                    room.phase = RoomPhase::Apart;
                }
                self.join_refused(&room_id, error);
            }
        }
        None
    }

    fn join_refused(&mut self, room_id: &str, error: Error) {
        let Some(room) = self.recovery.rooms.get_mut(room_id) else { return };
        if error.is_retryable() {
            let wait = error.retry_after().unwrap_or(Duration::from_millis(RETRY_MS)).as_millis();
            room.retry_at_ms = self.now.mono_ms.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX));
            return self.join_due();
        }
        let is_news = room.position.is_some() || room.waiters.is_empty();
        self.settle_waiters(room_id, &Err(error.clone()));
        self.recovery.rooms.forget(room_id);
        if is_news {
            self.tell(Event::RoomLost { room_id: room_id.to_owned(), error });
        }
    }

    fn settle_waiters(&mut self, room_id: &str, answer: &Result<Value, Error>) {
        let Some(room) = self.recovery.rooms.get_mut(room_id) else { return };
        for id in std::mem::take(&mut room.waiters) {
            self.settle(&id, answer.clone());
        }
    }

    /// The application leaves, or is put out.
    pub(super) fn leave(&mut self, room_id: &str) {
        self.settle_waiters(room_id, &Err(Error::not_in_room()));
        self.recovery.rooms.forget(room_id);
    }

    /// All waiting joins fail; if they are to be forgotten, the rooms and their positions are gone, too.
    pub(super) fn abandon_rooms(&mut self, error: &Error, is_forgotten: bool) {
        for room_id in self.recovery.rooms.ids() {
            self.settle_waiters(&room_id, &Err(error.clone()));
            // Who never was in the room does not want it any more: its join has failed.
            if self.recovery.rooms.get(&room_id).is_some_and(|room| room.position.is_none()) {
                self.recovery.rooms.forget(&room_id);
            }
        }
        if is_forgotten {
            self.recovery.rooms.clear();
        }
    }

    /// A join waited too long. Who was told so must not find himself in the room later.
    pub(super) fn join_expired(&mut self, waiter: &str) {
        for room_id in self.recovery.rooms.ids() {
            let Some(room) = self.recovery.rooms.get_mut(&room_id) else { continue };
            let before = room.waiters.len();
            room.waiters.retain(|id| id != waiter);
            if room.waiters.len() < before && room.waiters.is_empty() && room.position.is_none() {
                self.recovery.rooms.forget(&room_id);
            }
        }
    }

    pub(super) fn rooms_lost(&mut self) {
        let recovery = &mut self.recovery;
        if recovery.has_asked {
            recovery.failures = if recovery.rooms.are_all_here() { 0 } else { recovery.failures.saturating_add(1) };
        }
        recovery.has_asked = false;
        recovery.joins.clear();
        recovery.rooms.link_lost();
    }

    // ------------------------------------------------------------ resuming

    /// The `rooms` of a `resume`.
    pub(super) fn resumable(&mut self) -> Positions {
        self.recovery.has_asked = true;
        if self.recovery.failures < ONE_BY_ONE { self.recovery.rooms.resumable() } else { Positions::new() }
    }

    /// The result of `resume`: rooms that are back, and those that have to be joined.
    pub(super) fn resumed(&mut self, result: Option<Value>) {
        if let Some(Value::Array(rooms)) = result.and_then(|mut result| result.get_mut("rooms").map(Value::take)) {
            for room in rooms {
                if let Value::Object(room) = room {
                    self.room_resumed(room);
                }
            }
        }
        self.join_due();
    }

    fn room_resumed(&mut self, mut answer: Map<String, Value>) {
        let room_id = room_id_of(&answer).to_owned();
        let position = position_of(&answer);
        let is_recovered = answer.get("recovered") == Some(&Value::Bool(true));
        let Some(room) = self.recovery.rooms.get_mut(&room_id) else {
            // Left while the resume was under way.
            if let (Some(_), Some(link)) = (position, self.ready_link()) {
                let id = self.new_id();
                self.send(link, &id, "leave_room", &json!({ "roomId": room_id }).to_string());
            }
            return;
        };
        if position.is_none() {
            return; // not subscribed: the join will tell why
        }
        if is_recovered && self.is_backlogged {
            // No room for what was missed: it is fetched from the old position when there is.
            (room.phase, room.is_lagging) = (RoomPhase::Joined, true);
        } else if is_recovered {
            room.phase = RoomPhase::Joined;
            self.report(&room_id, true);
            self.replay(&room_id, answer.remove("events"));
            self.set_position(&room_id, position);
        } else {
            room.position = None; // a plain join: its snapshot takes the place of what was missed
            self.report(&room_id, false);
        }
    }

    fn set_position(&mut self, room_id: &str, position: Option<crate::event::Position>) {
        if let Some(room) = self.recovery.rooms.get_mut(room_id) {
            room.position = position;
        }
    }

    fn report(&mut self, room_id: &str, recovered: bool) {
        if let Some(room) = self.recovery.rooms.get_mut(room_id) {
            room.is_reported = true;
        }
        self.tell(Event::Recovered { room_id: room_id.to_owned(), recovered });
    }

    fn replay(&mut self, room_id: &str, events: Option<Value>) {
        let Some(Value::Array(events)) = events else { return };
        for mut event in events {
            let Some(Value::Object(data)) = event.get_mut("data").map(Value::take) else { continue };
            let (Some(kind), Some(position)) = (event.get("type").and_then(Value::as_str), position_of(&data)) else {
                continue;
            };
            let Some(room) = self.recovery.rooms.get_mut(room_id) else { return };
            // What the server replays has no gap; a double may be what came on the connection before.
            if room.position.as_ref().is_some_and(|at| compare(at, &position) == Step::Double) {
                continue;
            }
            room.position = Some(position);
            self.deliver(kind, data);
        }
    }

    // ------------------------------------------------------------ events

    pub(super) fn room_state(&mut self, mut data: Map<String, Value>) {
        let room_id = room_id_of(&data).to_owned();
        let Some(room) = self.recovery.rooms.get_mut(&room_id) else { return self.dispatch("room_state", data) };
        room.join_id = None;
        room.phase = RoomPhase::Joined;
        room.is_lagging = false;
        let is_reported = room.is_reported;
        let recovered = data.get("recovered").and_then(Value::as_bool);
        if !is_reported || recovered.is_some() {
            self.report(&room_id, recovered == Some(true));
        }
        let (events, position) = (data.remove("events"), position_of(&data));
        let recent = data.get("recentMessages").cloned();
        self.dispatch("room_state", data);
        if recovered == Some(true) {
            self.replay(&room_id, events);
        } else if let Some(Value::Array(messages)) = recent {
            for message in &messages {
                if let Value::Object(message) = message {
                    self.saw_message(message);
                }
            }
        }
        self.set_position(&room_id, position);
        self.join_due();
        self.flush();
    }

    pub(super) fn room_closed(&mut self, data: Map<String, Value>) {
        self.leave(room_id_of(&data));
        self.dispatch("room_closed", data);
        self.flush();
    }

    /// Any other event.
    pub(super) fn room_event(&mut self, kind: &str, data: Map<String, Value>) {
        let Some(position) = position_of(&data) else { return self.dispatch(kind, data) };
        let Some(room) = self.recovery.rooms.get_mut(room_id_of(&data)) else { return self.deliver(kind, data) };
        let Some(at) = room.position.as_ref().filter(|_| !room.is_lagging) else {
            return; // before a snapshot, everything is in the snapshot
        };
        match compare(at, &position) {
            Step::Next if !self.is_backlogged => {
                room.position = Some(position);
                self.deliver(kind, data);
                self.flush();
            }
            Step::Next | Step::Gap => {
                room.is_lagging = true;
                room.is_reported = false;
                self.join_due();
            }
            Step::Double => {}
        }
    }

    fn deliver(&mut self, kind: &str, data: Map<String, Value>) {
        if kind == "chat_message" {
            self.saw_message(&data);
        }
        self.dispatch(kind, data);
    }
}
