//! An event stream (R-SSE-1): what its request asks for, and the id that lets it go on where it broke off.
//!
//! A client keeps one id, the last that it saw, and brings nothing else when it comes back. So an id holds the position in *every* room
//! of the stream: `epoch:offset` for each, in the order of the request's `rooms`, between commas; `-` is a room whose snapshot had not
//! come. Ids of a stream of one room are therefore the same for all its readers, those of a stream of several rooms its own.
//!
//! An epoch belongs to one room for ever. An id that is brought to other rooms than its own, or in another order, is recognised by that,
//! and recovers nothing rather than something wrong.
use crate::base::refusal::Code;
use crate::ids::is_room_id;
use crate::limits::{EPOCH_CHARS_MAX, STREAM_ROOMS_MAX};
use crate::wire::http::Failure;
use crate::wire::json;

/// Where a reader is in a room's stream of durable events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    epoch: [u8; EPOCH_CHARS_MAX],
    epoch_len: u8,
    pub offset: u64,
}

impl Position {
    /// None if it is no epoch of the server's: 1 to 16 letters and digits.
    pub fn new(epoch: &[u8], offset: u64) -> Option<Position> {
        let is_epoch = (1..=EPOCH_CHARS_MAX).contains(&epoch.len()) && epoch.iter().all(u8::is_ascii_alphanumeric);
        is_epoch.then(|| {
            let mut bytes = [0; EPOCH_CHARS_MAX];
            bytes[..epoch.len()].copy_from_slice(epoch);
            Position { epoch: bytes, epoch_len: epoch.len() as u8, offset }
        })
    }

    pub fn epoch(&self) -> &[u8] {
        &self.epoch[..usize::from(self.epoch_len)]
    }

    /// Appends `epoch:offset`: the whole id in a stream of one room.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.epoch());
        out.push(b':');
        json::integer(out, self.offset);
    }

    fn parse(text: &str) -> Option<Position> {
        let (epoch, offset) = text.split_once(':')?;
        let is_number = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
        let offset = offset.parse().ok().filter(|offset| is_number && *offset < JSON_INTEGER_END)?;
        Position::new(epoch.as_bytes(), offset)
    }
}

/// Integers of the protocol are below it (product section 2).
const JSON_INTEGER_END: u64 = 1 << 53;

/// What the request's id says of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nothing: the reader was not there.
    Nothing,
    At(Position),
    /// Something, but no position. The reader is told that it was not recovered.
    Unreadable,
}

/// A request for an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    rooms: Vec<(Box<str>, Before)>,
}

/// Why there is no stream; the client is to blame, and the same request never succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    #[error("no rooms")]
    NoRooms,
    #[error("too many rooms")]
    TooManyRooms,
    #[error("no room id")]
    RoomId,
}

impl BadRequest {
    /// The answer.
    pub fn failure(self) -> Failure {
        let message = match self {
            BadRequest::NoRooms => "The query needs rooms=a,b",
            BadRequest::TooManyRooms => "Too many rooms for one event stream",
            BadRequest::RoomId => "Invalid room id in rooms",
        };
        Failure::of(400, Code::InvalidArgument, message)
    }
}

impl StreamRequest {
    /// `lists`: the values of `rooms`, each a list with commas; a room named twice counts once. `last_id`: of the last event that the
    /// client saw, if it says so. One that cannot be read does not spoil the request, for which a browser would give up the stream.
    pub fn new<S: AsRef<str>>(
        lists: impl IntoIterator<Item = S>,
        last_id: Option<&str>,
    ) -> Result<StreamRequest, BadRequest> {
        let mut rooms: Vec<(Box<str>, Before)> = Vec::new();
        for list in lists {
            for room in list.as_ref().split(',').filter(|room| !room.is_empty()) {
                if !is_room_id(room) {
                    return Err(BadRequest::RoomId);
                }
                if rooms.iter().any(|(known, _)| &**known == room) {
                    continue;
                }
                if rooms.len() == STREAM_ROOMS_MAX {
                    return Err(BadRequest::TooManyRooms);
                }
                rooms.push((room.into(), Before::Nothing));
            }
        }
        if rooms.is_empty() {
            return Err(BadRequest::NoRooms);
        }
        if let Some(id) = last_id.filter(|id| !id.is_empty()) {
            let mut entries = id.split(',');
            for (_, before) in &mut rooms {
                *before = match entries.next() {
                    Some("-") => Before::Nothing,
                    Some(entry) => Position::parse(entry).map_or(Before::Unreadable, Before::At),
                    None => Before::Unreadable,
                };
            }
        }
        Ok(StreamRequest { rooms })
    }

    /// Its ids are its own.
    pub fn has_several_rooms(&self) -> bool {
        self.rooms.len() > 1
    }

    /// The commands that the client would have sent for it: a `join_room` for each room, under the ids `join-0`, `join-1` and so on.
    pub fn joins(&self) -> impl Iterator<Item = Vec<u8>> {
        self.rooms.iter().enumerate().map(|(index, (room, before))| {
            let mut command = Vec::with_capacity(160);
            json::object(&mut command, |message| {
                let id = message.key("id");
                id.extend_from_slice(b"\"join-");
                json::integer(id, index as u64);
                id.push(b'"');
                message.plain("type", "join_room", "").object("data", |data| {
                    data.str("roomId", room);
                    let (epoch, offset) = match before {
                        Before::Nothing => return,
                        Before::At(position) => (position.epoch(), position.offset),
                        // No room has this epoch, so the answer is `recovered: false`.
                        Before::Unreadable => (&b"-"[..], 0),
                    };
                    data.object("recover", |recover| {
                        let text = recover.key("epoch");
                        text.push(b'"');
                        text.extend_from_slice(epoch);
                        text.push(b'"');
                        recover.num("offset", offset);
                    });
                });
            });
            command
        })
    }

    /// Where the reader is before anything was sent.
    pub fn positions(&self) -> Positions {
        let places = self.rooms.iter().map(|(room, before)| {
            let position = match before {
                Before::At(position) => Some(*position),
                Before::Nothing | Before::Unreadable => None,
            };
            (room.clone(), position)
        });
        Positions { places: places.collect() }
    }
}

/// The position in each room of a stream of several rooms, in the order of its request: what its next id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    places: Box<[(Box<str>, Option<Position>)]>,
}

impl Positions {
    /// An event of this room goes out. A room that the request did not name has no place in its ids.
    pub fn advance(&mut self, room: &[u8], to: Position) {
        if let Some((_, position)) = self.places.iter_mut().find(|(known, _)| known.as_bytes() == room) {
            *position = Some(to);
        }
    }

    /// Appends the id of the event that goes out now.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (index, (_, position)) in self.places.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match position {
                Some(position) => position.write(out),
                None => out.push(b'-'),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::command::{self, RoomCommand};
    use crate::session::command::Command;
    use crate::session::decode::{Scratch, decode};
    use crate::wire::envelope::{PADDING_BYTES, Parser};
    use proptest::prelude::*;

    fn request(rooms: &str, id: Option<&str>) -> StreamRequest {
        StreamRequest::new([rooms], id).unwrap()
    }

    fn at(epoch: &str, offset: u64) -> Position {
        Position::new(epoch.as_bytes(), offset).unwrap()
    }

    /// Epoch and offset.
    type Recover = Option<(String, u64)>;

    /// Id, room and position asked for of each join, as the decoder reads them.
    fn joins(request: &StreamRequest) -> Vec<(String, String, Recover)> {
        let joins = request.joins().map(|mut message| {
            let len = message.len();
            message.resize(len + PADDING_BYTES, 0);
            let (mut parser, mut scratch) = (Parser::default(), Scratch::default());
            let envelope = parser.parse(&mut message, len).unwrap();
            let Ok(Command::Room { room, command, room_token: None }) = decode(&envelope, &mut scratch) else {
                panic!("no room command")
            };
            let RoomCommand::Join { room_type: None, grant: None, recover } = command else { panic!("no join") };
            let recover = recover.map(|command::Position { epoch, offset }| (epoch.to_owned(), offset));
            (envelope.id().to_owned(), room.to_owned(), recover)
        });
        joins.collect()
    }

    fn recover(request: &StreamRequest) -> Vec<Recover> {
        joins(request).into_iter().map(|(.., recover)| recover).collect()
    }

    fn id_of(positions: &Positions) -> String {
        let mut out = Vec::new();
        positions.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rooms_come_in_their_order_and_once() {
        let request = StreamRequest::new(["b,a", "", "a,,c.d:e_f-g,"], None).unwrap();
        let expected = [("join-0", "b"), ("join-1", "a"), ("join-2", "c.d:e_f-g")];
        assert_eq!(joins(&request), expected.map(|(id, room)| (id.to_owned(), room.to_owned(), None)));
        assert!(request.has_several_rooms() && !self::request("a,a", None).has_several_rooms());
    }

    #[test]
    fn rooms_that_are_none() {
        for (rooms, expected) in [
            ("", BadRequest::NoRooms),
            (",", BadRequest::NoRooms),
            ("a b", BadRequest::RoomId),
            ("a,msg_x", BadRequest::RoomId),
        ] {
            assert_eq!(StreamRequest::new([rooms], None), Err(expected), "{rooms}");
        }
        assert_eq!(StreamRequest::new(Vec::<String>::new(), None), Err(BadRequest::NoRooms));
        let names = |count: usize| (0..count).map(|n| format!("r{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(joins(&request(&names(STREAM_ROOMS_MAX), None)).len(), STREAM_ROOMS_MAX);
        assert_eq!(StreamRequest::new([names(STREAM_ROOMS_MAX + 1)], None), Err(BadRequest::TooManyRooms));
    }

    #[test]
    fn an_id_tells_the_position_in_every_room() {
        let request = request("a,b,c", Some("E1:5,-,E3:0"));
        assert_eq!(recover(&request), [Some(("E1".into(), 5)), None, Some(("E3".into(), 0))]);
        assert_eq!(id_of(&request.positions()), "E1:5,-,E3:0");
    }

    /// R-REC-1: who brings an id that tells nothing is not recovered, and is told so.
    #[test]
    fn an_id_that_cannot_be_read_recovers_nothing() {
        let nothing = Some(("-".to_owned(), 0));
        let long = "A".repeat(17) + ":1";
        for id in
            ["x", "E1", "E1:", "E1:-1", "E1:+1", "E1:1.0", ":1", "E 1:1", "E1:9007199254740992", &long, "E\"1:1", "é:1"]
        {
            let request = request("a", Some(id));
            assert_eq!(recover(&request), std::slice::from_ref(&nothing), "{id}");
            assert_eq!(id_of(&request.positions()), "-", "{id}");
        }
        assert_eq!(recover(&request("a,b", Some("E1:7"))), [Some(("E1".into(), 7)), nothing]);
        assert_eq!(recover(&request("a", Some("E1:7,E2:8"))), [Some(("E1".into(), 7))]);
        assert_eq!(recover(&request("a", Some("E1:9007199254740991"))), [Some(("E1".into(), 9007199254740991))]);
        assert_eq!(recover(&request("a", Some(""))), [None]);
    }

    #[test]
    fn a_longest_id_fits_into_a_head_with_its_rooms() {
        let one = EPOCH_CHARS_MAX + ":9007199254740991,".len();
        // "/events?rooms=", names and commas, "Last-Event-ID: " and a token of some kilobytes.
        assert!(STREAM_ROOMS_MAX * (129 + one) + 8_192 < crate::limits::HTTP_HEAD_BYTES_MAX);
    }

    proptest! {
        /// Whatever was sent in whatever order, the last id brings exactly the last position of each room.
        #[test]
        fn the_last_id_restores_every_position(
            count in 1..STREAM_ROOMS_MAX,
            sent in prop::collection::vec((0..STREAM_ROOMS_MAX, 0..JSON_INTEGER_END), 0..50),
        ) {
            let names: Vec<String> = (0..count).map(|n| format!("room.{n}")).collect();
            let list = names.join(",");
            let mut positions = request(&list, None).positions();
            let mut expected = vec![None; count];
            for (room, offset) in sent {
                positions.advance(format!("room.{room}").as_bytes(), at(&format!("E{room}"), offset));
                if room < count {
                    expected[room] = Some((format!("E{room}"), offset));
                }
            }
            prop_assert_eq!(recover(&request(&list, Some(&id_of(&positions)))), expected);
        }

        #[test]
        fn any_id_is_read_without_harm(id in any::<String>(), rooms in "[a-c,]{1,8}") {
            if let Ok(request) = StreamRequest::new([rooms], Some(&id)) {
                // "a,b,c,aa": more names do not fit.
                prop_assert!(joins(&request).len() <= 4);
            }
        }
    }
}
