//! What a client can ask for (product section 3.1), checked in form but not in rights.
use crate::rooms::command::{Position, RoomCommand};
use crate::wire::tape::{Items, Object};

/// One decoded message. Borrows from the envelope and the decoder's scratch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command<'a> {
    /// R-AUTH-1: the first message of a connection that brought no token.
    Auth { token: &'a str },
    /// R-AUTH-4.
    RefreshToken { token: &'a str },
    /// R-REC-2. Session id and token are unchecked: whatever is wrong with them is `not_found`.
    Resume { session_id: &'a str, resume_token: &'a str, rooms: ResumeRooms<'a> },
    /// R-CONN-3: the client's own clock, to be sent back.
    Heartbeat { timestamp: Option<u64> },
    /// R-PRES-4: the user did something.
    Activity,
    /// R-PRES-4: at most `limits::PRESENCE_QUERY_MAX` users.
    GetPresence { user_ids: UserIds<'a> },
    /// A command to one room. `room_token` only with a join; the grant of the join is set once it is verified (R-ROOM-2).
    Room { room: &'a str, command: RoomCommand<'a>, room_token: Option<&'a str> },
    /// `RoomCommand::Answer` that names its question alone: the room is where that is open.
    Answer { ask_id: u64, payload: &'a str },
    /// `RoomCommand::Create`, to be addressed to this name or, if there is none, to a fresh server id (R-ROOM-1).
    Create { room_id: Option<&'a str>, command: RoomCommand<'a> },
}

/// Which commands get no ack: a heartbeat has its own answer, the others are answered by errors only (R-ENV-2).
pub fn answers_itself(kind: &str) -> bool {
    matches!(kind, "heartbeat" | "typing_start" | "typing_stop" | "activity" | "broadcast" | "answer")
}

/// The `rooms` of a `resume`: an iterator over checked members of the message, at most
/// `limits::RESUME_ROOMS_MAX`. No room comes twice: of equal keys the last one counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResumeRooms<'a>(Object<'a, 'a>);

/// One room of a `resume`, with the position up to which the client has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeRoom<'a> {
    pub room: &'a str,
    pub recover: Position<'a>,
}

impl<'a> ResumeRooms<'a> {
    /// `rooms` has been checked: its keys are room ids, its values positions.
    pub(super) fn new(rooms: Object<'a, 'a>) -> ResumeRooms<'a> {
        ResumeRooms(rooms)
    }
}

impl<'a> Iterator for ResumeRooms<'a> {
    type Item = ResumeRoom<'a>;

    fn next(&mut self) -> Option<ResumeRoom<'a>> {
        loop {
            let (room, value) = self.0.next()?;
            let mut later = self.0;
            if !later.any(|(key, _)| key == room) {
                return Some(ResumeRoom { room, recover: super::decode::position(value.as_object()?)? });
            }
        }
    }
}

/// The `userIds` of a `get_presence`: an iterator over checked elements of the message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UserIds<'a>(Items<'a, 'a>);

impl<'a> UserIds<'a> {
    /// `ids` has been checked: all are user ids.
    pub(super) fn new(ids: Items<'a, 'a>) -> UserIds<'a> {
        UserIds(ids)
    }
}

impl<'a> Iterator for UserIds<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0.next()?.as_str()
    }
}
