//! What a client may have missed: which events with an offset went into its transport since the last sign that it got them.
//!
//! A client that comes back names the offset of the last such event it saw (R-SIO-1, connection state recovery). Events of all its
//! rooms reached it in one order, so from that one it follows how far it is in each. What was sent before a ping that was answered has
//! arrived and is remembered only as one position for each room.
use crate::rooms::command;
use crate::session::socketio::Offset;
use crate::wire::ws;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Events remembered at most, each of 16 bytes: what a client gets in 25 s, the time between two pings, at 40 a second. Older ones
/// count as received; a client that has not got them is told so honestly, by ids that it does not know.
const EVENTS_MAX: usize = 1_024;

/// `Point::room` of an event that belongs to no room's stream; `at` is its time then.
const NO_ROOM: u16 = u16::MAX;

/// An event with an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Point {
    /// Index in `Memory::rooms`.
    room: u16,
    at: u64,
}

/// How far a client is in one room, as of the last event that it has certainly seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    /// Empty once it has left: events of it may still be named.
    room: Box<str>,
    epoch: Box<str>,
    offset: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    rooms: Vec<Known>,
    /// The last event that the client has certainly seen; none before the first.
    seen: Option<Point>,
    /// What was sent after it.
    events: VecDeque<Point>,
    /// Events that have left `events` by its front.
    passed: u64,
    /// Events, counted from the first ever, before the ping that is not answered yet.
    pinged_at: Option<u64>,
}

/// A room to be entered again, and from where on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub room: Box<str>,
    pub epoch: Box<str>,
    pub offset: u64,
}

impl Memory {
    /// A client that goes on from an event it named.
    pub fn resumed(offset: &str, positions: &[Position]) -> Memory {
        let known = |at: &Position| Known { room: at.room.clone(), epoch: at.epoch.clone(), offset: at.offset };
        let mut memory = Memory { rooms: positions.iter().map(known).collect(), ..Memory::default() };
        memory.seen = Offset::parse(offset).and_then(|offset| memory.point(&offset));
        memory
    }

    /// The client is sent a room's snapshot, which stands at this position and bears it as its offset.
    pub fn snapshot(&mut self, room: &str, epoch: &str, offset: u64) {
        self.entered(room, epoch, offset);
        self.event(&Offset { unix_ms: 0, at: Some((room, command::Position { epoch, offset })) });
    }

    /// From here on the client hears the room.
    fn entered(&mut self, room: &str, epoch: &str, offset: u64) {
        if !self.rooms.iter().any(|known| &*known.room == room) && self.rooms.len() < usize::from(NO_ROOM) {
            // Most clients are in one room.
            self.rooms.reserve_exact(1);
            self.rooms.push(Known { room: room.into(), epoch: epoch.into(), offset });
        }
    }

    pub fn left(&mut self, room: &str) {
        if let Some(known) = self.rooms.iter_mut().find(|known| &*known.room == room) {
            known.room = "".into();
        }
    }

    /// Whole frames that went into the transport.
    pub fn sent(&mut self, mut frames: &[u8]) {
        while let Some(len) = ws::frame_len(frames).filter(|len| *len <= frames.len()) {
            let (frame, rest) = frames.split_at(len);
            if let Some(offset) = last_text(frame).and_then(Offset::parse) {
                self.event(&offset);
            }
            frames = rest;
        }
    }

    /// A ping follows what was sent so far.
    pub fn pinged(&mut self) {
        self.pinged_at.get_or_insert(self.passed + self.events.len() as u64);
    }

    /// The ping was answered.
    pub fn answered(&mut self) {
        let Some(pinged_at) = self.pinged_at.take() else { return };
        while self.passed < pinged_at && self.pass() {}
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    /// Whether it knows how far the client is in this room.
    pub fn knows(&self, room: &str) -> bool {
        self.rooms.iter().any(|known| &*known.room == room)
    }

    /// How far a client is that has seen everything up to the event of this offset. `None`: that cannot be said.
    pub fn positions(&self, offset: &str) -> Option<Vec<Position>> {
        let point = self.point(&Offset::parse(offset)?)?;
        let count = match self.events.iter().rposition(|event| *event == point) {
            Some(last) => {
                // Events without a room are told apart by their time alone, which several may share.
                let first = self.events.iter().position(|event| *event == point).unwrap_or(last);
                let is_ambiguous = self.events.range(first..last).any(|event| event.room != NO_ROOM);
                if point.room == NO_ROOM && is_ambiguous {
                    return None;
                }
                last + 1
            }
            None if self.seen == Some(point) => 0,
            None => return None,
        };
        let mut offsets: Vec<u64> = self.rooms.iter().map(|known| known.offset).collect();
        for event in self.events.range(..count).filter(|event| event.room != NO_ROOM) {
            offsets[usize::from(event.room)] = event.at;
        }
        let rooms = self.rooms.iter().zip(offsets).filter(|(known, _)| !known.room.is_empty());
        Some(
            rooms
                .map(|(known, offset)| Position { room: known.room.clone(), epoch: known.epoch.clone(), offset })
                .collect(),
        )
    }

    fn event(&mut self, offset: &Offset<'_>) {
        if let Some((room, position)) = offset.at {
            match self.rooms.iter().find(|known| &*known.room == room) {
                Some(known) if *known.epoch == *position.epoch => {}
                // The room's stream began anew: nothing that was remembered of it holds.
                Some(_) => *self = Memory::default(),
                None => {}
            }
            // Whoever hears the room from this event on has missed nothing before it.
            self.entered(room, position.epoch, position.offset.saturating_sub(1));
        }
        let Some(point) = self.point(offset) else { return };
        if self.events.len() >= EVENTS_MAX {
            self.pass();
        }
        self.events.push_back(point);
    }

    /// The oldest event counts as seen; false if there is none.
    fn pass(&mut self) -> bool {
        let Some(point) = self.events.pop_front() else { return false };
        self.passed += 1;
        if let Some(known) = self.rooms.get_mut(usize::from(point.room)) {
            known.offset = point.at;
        }
        self.seen = Some(point);
        true
    }

    fn point(&self, offset: &Offset<'_>) -> Option<Point> {
        match offset.at {
            None => Some(Point { room: NO_ROOM, at: offset.unix_ms }),
            Some((room, position)) => {
                let is_it = |known: &Known| &*known.room == room && &*known.epoch == position.epoch;
                let room = self.rooms.iter().position(is_it)?;
                Some(Point { room: room as u16, at: position.offset })
            }
        }
    }
}

/// The text that is the last argument of an event's frame: no escape in it, as offsets have none. A question has none: the client puts
/// its callback behind what others say there.
fn last_text(frame: &[u8]) -> Option<&str> {
    let text = frame.strip_suffix(b"\"]")?;
    if has_ack_id(ws::payload(frame)) {
        return None;
    }
    let start = memchr::memrchr(b'"', text)?;
    std::str::from_utf8(&text[start + 1..]).ok()
}

/// Whether a packet of ours has one: behind type, number of attachments and namespace.
fn has_ack_id(packet: &[u8]) -> bool {
    let rest = match packet {
        [b'4', b'5' | b'6', rest @ ..] => memchr::memchr(b'-', rest).map_or(rest, |at| &rest[at + 1..]),
        [b'4', _, rest @ ..] => rest,
        _ => return false,
    };
    let rest = match rest {
        [b'/', ..] => memchr::memchr(b',', rest).map_or(rest, |at| &rest[at + 1..]),
        _ => rest,
    };
    rest.first().is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ws::{Opcode, append_frame};

    fn frames(offsets: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for offset in offsets {
            append_frame(&mut out, Opcode::Text, format!(r#"42["x",{{"a":1}},"{offset}"]"#).as_bytes());
            append_frame(&mut out, Opcode::Text, br#"42["live",{"text":"x\"]"}]"#);
        }
        out
    }

    fn at(memory: &Memory, offset: &str) -> Option<Vec<(String, u64)>> {
        let positions = memory.positions(offset)?;
        Some(positions.iter().map(|position| (position.room.to_string(), position.offset)).collect())
    }

    fn expected(a: u64, b: u64) -> Option<Vec<(String, u64)>> {
        Some(vec![("a".into(), a), ("b".into(), b)])
    }

    fn memory() -> Memory {
        let mut memory = Memory::default();
        memory.entered("a", "e", 10);
        memory.entered("b", "f", 20);
        memory.sent(&frames(&["1.11.e.a", "2.21.f.b", "3.12.e.a", "4", "5.22.f.b"]));
        memory
    }

    #[test]
    fn one_offset_says_how_far_each_room_is() {
        let memory = memory();
        assert_eq!(at(&memory, "1.11.e.a"), expected(11, 20));
        assert_eq!(at(&memory, "2.21.f.b"), expected(11, 21));
        assert_eq!(at(&memory, "4"), expected(12, 21));
        assert_eq!(at(&memory, "5.22.f.b"), expected(12, 22));
        for unknown in ["1.10.e.a", "1.11.x.a", "9.1.e.c", "9", "", "x"] {
            assert_eq!(at(&memory, unknown), None, "{unknown}");
        }
    }

    /// What somebody asks must not pass for an offset: no client takes it for one.
    #[test]
    fn a_question_has_no_offset() {
        let mut memory = memory();
        for packet in [r#"42259["x","6.99.other.a"]"#, r#"42/admin,259["x","6.13.e.a"]"#, r#"451-259["x","6.13.e.a"]"#]
        {
            let mut out = Vec::new();
            append_frame(&mut out, Opcode::Text, packet.as_bytes());
            memory.sent(&out);
        }
        assert_eq!((at(&memory, "5.22.f.b"), at(&memory, "6.13.e.a")), (expected(12, 22), None));
        for packet in [r#"42/admin,["x","6.13.e.a"]"#, r#"451-["x","7.14.e.a"]"#] {
            let mut out = Vec::new();
            append_frame(&mut out, Opcode::Text, packet.as_bytes());
            memory.sent(&out);
        }
        assert_eq!(at(&memory, "7.14.e.a"), expected(14, 22));
    }

    #[test]
    fn a_snapshot_is_a_position_too() {
        let mut memory = Memory::default();
        memory.snapshot("a", "e", 10);
        assert_eq!(at(&memory, "5.10.e.a"), Some(vec![("a".into(), 10)]));
        memory.snapshot("b", "f", 0);
        assert_eq!(at(&memory, "5.0.f.b"), expected(10, 0));
        memory.sent(&frames(&["6.11.e.a", "6.12.e.a"]));
        // Once more into a room: it stands at what was sent.
        memory.snapshot("a", "e", 12);
        assert_eq!(at(&memory, "6.11.e.a"), expected(11, 0));
        assert_eq!(at(&memory, "7.12.e.a"), expected(12, 0));
        // It was made anew.
        memory.snapshot("b", "g", 3);
        assert_eq!(at(&memory, "8.3.g.b"), Some(vec![("b".into(), 3)]));
        assert_eq!(at(&memory, "5.0.f.b"), None);
    }

    #[test]
    fn what_was_before_an_answered_ping_is_one_position() {
        let mut memory = memory();
        memory.pinged();
        memory.sent(&frames(&["6.13.e.a"]));
        memory.pinged(); // a further ping proves no more than the first, which is the one that is answered
        memory.answered();
        assert_eq!(memory.events.len(), 1);
        assert_eq!(at(&memory, "5.22.f.b"), expected(12, 22));
        assert_eq!(at(&memory, "6.13.e.a"), expected(13, 22));
        assert_eq!(at(&memory, "3.12.e.a"), None, "it has seen more than that");
        memory.answered();
        assert_eq!(memory.events.len(), 1);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut memory = Memory::default();
        memory.entered("a", "e", 0);
        for offset in 1..=EVENTS_MAX as u64 + 3 {
            memory.sent(&frames(&[&format!("1.{offset}.e.a")]));
        }
        assert_eq!(memory.events.len(), EVENTS_MAX);
        assert_eq!(at(&memory, "1.2.e.a"), None);
        assert_eq!(at(&memory, "1.3.e.a"), Some(vec![("a".into(), 3)]));
        assert_eq!(at(&memory, "1.4.e.a"), Some(vec![("a".into(), 4)]));
    }

    #[test]
    fn rooms_come_go_and_begin_anew() {
        let mut memory = memory();
        memory.left("a");
        assert_eq!(at(&memory, "5.22.f.b"), Some(vec![("b".into(), 22)]));
        assert!(!memory.knows("a") && memory.knows("b"));
        memory.sent(&frames(&["6.40.e.a"]));
        assert_eq!(at(&memory, "5.22.f.b"), Some(vec![("b".into(), 22), ("a".into(), 39)]));
        memory.sent(&frames(&["7.1.other.b"]));
        assert_eq!(at(&memory, "6.40.e.a"), None);
        assert_eq!(at(&memory, "7.1.other.b"), Some(vec![("b".into(), 1)]));
    }

    #[test]
    fn equal_times_with_something_between_are_no_answer() {
        let mut memory = memory();
        memory.sent(&frames(&["9", "9"]));
        assert_eq!(at(&memory, "9"), expected(12, 22));
        memory.sent(&frames(&["9.13.e.a", "9"]));
        assert_eq!(at(&memory, "9"), None);
    }

    #[test]
    fn a_resumed_client_can_be_lost_again() {
        let positions = memory().positions("2.21.f.b").unwrap();
        let mut again = Memory::resumed("2.21.f.b", &positions);
        assert_eq!(at(&again, "2.21.f.b"), expected(11, 21));
        again.sent(&frames(&["3.12.e.a"]));
        assert_eq!(at(&again, "2.21.f.b"), expected(11, 21));
        assert_eq!(at(&again, "3.12.e.a"), expected(12, 21));
    }
}
