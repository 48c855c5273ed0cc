//! What rooms tell sessions: events, acks and snapshots, free of any wire format.
use crate::base::user::{User, UserRef};
use crate::store::port::{EventRow, Role, RoomRow};

/// R-PRES-4. Offline users are simply not listed, save in `get_presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Online,
    Idle,
    Offline,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Online => "online",
            Status::Idle => "idle",
            Status::Offline => "offline",
        }
    }
}

/// One entry of `onlineUsers`.
#[derive(Clone, Debug)]
pub struct OnlineUser<'a> {
    pub user: &'a UserRef,
    pub status: Status,
    pub last_activity_ms: u64,
}

/// What a joiner gets (R-ROOM-4), or one room's part of a resume (R-REC-2).
#[derive(Debug)]
pub struct Snapshot<'a> {
    pub row: &'a RoomRow,
    /// Messages, oldest first. Empty if `recovered` is `Some(true)`.
    pub recent: Vec<&'a EventRow>,
    /// Set if the join asked for recovery. True: `events` is everything that was missed.
    pub recovered: Option<bool>,
    /// Missed durable events, in order.
    pub events: Vec<&'a EventRow>,
    /// At most 200.
    pub online: Vec<OnlineUser<'a>>,
    pub online_count: u64,
    pub role: Option<Role>,
    /// Live delivery starts at this offset + 1.
    pub offset: u64,
    pub timestamp_ms: u64,
}

#[derive(Debug)]
pub enum Event<'a> {
    /// A durable event: a message or a change of members or room. `epoch` is the room's.
    Durable {
        epoch: &'a str,
        row: &'a EventRow,
    },
    Joined {
        user: &'a User,
        timestamp_ms: u64,
    },
    Left {
        user: &'a User,
        timestamp_ms: u64,
    },
    Typing {
        user: &'a User,
        is_typing: bool,
        timestamp_ms: u64,
    },
    Broadcast {
        user: &'a User,
        event: &'a str,
        payload: &'a str,
        timestamp_ms: u64,
    },
    /// A `Broadcast` that waits for an answer.
    Question {
        user: &'a User,
        event: &'a str,
        payload: &'a str,
        ask_id: u64,
        timestamp_ms: u64,
    },
    Occupancy {
        online: u64,
        members: u64,
    },
    /// To one session: the snapshot after a join.
    Snapshot(&'a Snapshot<'a>),
    /// To one session: it no longer receives the room.
    Closed {
        reason: &'a str,
    },
}

/// What one session said to a question.
#[derive(Clone, Debug)]
pub struct Answer {
    pub user: UserRef,
    /// JSON text.
    pub payload: Box<str>,
}

/// The result of a command.
#[derive(Debug)]
pub enum Ack<'a> {
    /// Leave, invite and the like: an empty result.
    Done,
    Joined {
        role: Option<Role>,
    },
    Sent {
        id: crate::ids::Ulid,
        offset: u64,
        epoch: &'a str,
        timestamp_ms: u64,
        is_duplicate: bool,
    },
    /// A question is over: `asked` sessions got it, of whose answers `dropped` found no room.
    Asked {
        ask_id: u64,
        asked: u64,
        answers: &'a [Answer],
        dropped: u64,
        /// Every one of them has answered.
        is_complete: bool,
    },
    Room(&'a RoomRow),
    History {
        epoch: &'a str,
        rows: &'a [EventRow],
        has_more: bool,
    },
    OnlineUsers {
        users: &'a [OnlineUser<'a>],
        next_cursor: Option<&'a str>,
        online_count: u64,
    },
}
