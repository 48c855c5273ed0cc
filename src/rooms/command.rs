//! What a session can ask of a room. Borrowed from the message it came in: no allocation to route it.
use crate::base::user::{GlobalRole, UserRef};
use crate::ids::ConnRef;
use crate::store::port::{HistoryFrom, Role, RoomType};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub conn: ConnRef,
    pub user: &'a UserRef,
    /// From the token, as it stands now.
    pub role: GlobalRole,
    /// The envelope's id: goes into the ack, and is the client id of a message that names none.
    pub request: &'a str,
    /// Monotonic nanoseconds when the command was read from the socket.
    pub read_at_ns: u64,
}

/// A position in a room's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    pub epoch: &'a str,
    pub offset: u64,
}

/// What a verified `roomToken` grants (R-ROOM-2); made by the session layer, which checks the signature, the user and the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomGrant {
    pub role: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RoomCommand<'a> {
    /// `room_type`: what the client believes; a differing stored type is refused.
    Join {
        room_type: Option<RoomType>,
        grant: Option<RoomGrant>,
        recover: Option<Position<'a>>,
    },
    /// One room of a `resume` command: like a join, but answered by `Effects::resumed`.
    Resume {
        recover: Position<'a>,
    },
    Leave {
        permanent: bool,
    },
    /// `message_type` and texts are unchecked; `metadata` is JSON text of whatever type the client sent.
    Send {
        message: &'a str,
        message_type: Option<&'a str>,
        metadata: Option<Metadata<'a>>,
        client_id: Option<&'a str>,
    },
    /// `payload` is JSON text. `wants_ack`: tell the caller when it was accepted; live events have no ack unless asked for.
    Broadcast {
        event: &'a str,
        payload: &'a str,
        include_self: bool,
        wants_ack: bool,
    },
    /// A `Broadcast` that the others answer; the ack has the answers. `timeout_ms` `None`: as long as they may take.
    Ask {
        event: &'a str,
        payload: &'a str,
        timeout_ms: Option<u64>,
    },
    /// What the caller says to a question. `payload` is JSON text.
    Answer {
        ask_id: u64,
        payload: &'a str,
    },
    Typing {
        is_typing: bool,
    },
    /// `None`: 50.
    History {
        from: HistoryFrom,
        limit: u32,
    },
    OnlineUsers {
        cursor: Option<&'a str>,
        limit: u32,
    },
    Invite {
        user_id: &'a str,
    },
    Remove {
        user_id: &'a str,
    },
    SetRole {
        user_id: &'a str,
        role: Role,
    },
    Update {
        name: Option<&'a str>,
        description: Option<&'a str>,
        slow_mode_s: Option<u32>,
    },
    Delete,
    /// The room's id is the one the command is addressed to: the application's name, or a fresh server id.
    Create {
        name: &'a str,
        description: &'a str,
        kind: RoomType,
        recipient_id: Option<&'a str>,
    },
    /// Answered by `Effects::presence`: which of these are online in this room (`get_presence`, one room's share of it).
    Presence {
        user_ids: &'a [&'a str],
    },
}

/// The `metadata` field as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    pub is_object: bool,
    /// Compact JSON text.
    pub json: &'a str,
}
