//! What the server tells, and what the client tells of itself.
//!
//! Types and fields that this version does not know are no error: an unknown type, or a known one of another shape, comes as
//! [`Event::Unknown`]; unknown fields are left out, missing ones have their empty value.
use crate::core::State;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// One thing that happened, in the order in which it did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    // Of the client itself.
    /// The connection's state changed, or a wait or an attempt of `Reconnecting` begins.
    State(StateChange),
    /// Once per room after a lost connection or a gap. False: something is missing, and a [`Event::RoomState`] follows whose
    /// messages replace what is shown.
    Recovered {
        /// Which room.
        room_id: String,
        /// Whether everything that was missed follows.
        recovered: bool,
    },
    /// A room is left against the application's will: it may not be joined any more.
    RoomLost {
        /// Which room.
        room_id: String,
        /// Why.
        error: Error,
    },
    /// A message was refused for a while and will be sent again, such as by `rate_limited`.
    Delayed {
        /// The command's id.
        id: String,
        /// The refusal.
        error: Error,
        /// When it goes again.
        retry_in: Duration,
    },
    /// A durable command has its result, also one of an earlier process that the storage brought.
    Settled {
        /// The command's id.
        id: String,
        /// Its type.
        kind: String,
        /// Its data, as sent.
        data: Map<String, Value>,
        /// What its [`Ack`](crate::Ack) gets.
        result: Result<Value, Error>,
    },
    /// The client will not connect again by itself.
    Stopped {
        /// Close code.
        code: u16,
        /// As the server put it.
        reason: String,
        /// Connecting again needs another token.
        is_token_needed: bool,
    },
    /// The bound `max_reconnect_attempts` is reached.
    MaxReconnectAttempts {
        /// How many there were.
        attempts: u32,
    },
    /// The application took no events for a while (`Options::events_max`): so many live ones, and of the client's own, were left
    /// out. Rooms are recovered: what they missed follows, as after a lost connection.
    Missed {
        /// How many.
        count: u64,
    },
    /// What no answer tells: a refused live command, a failing token provider or storage, an unreadable frame.
    Error(Error),

    // Of the server, by type.
    /// Signed in.
    ConnectionEstablished(Established),
    /// A snapshot, or with `recovered: true` the end of a gap: then what was missed comes as single events behind it.
    RoomState(Box<RoomState>),
    /// A message, durable.
    ChatMessage(Box<ChatMessage>),
    /// An application's live event.
    Broadcast(Broadcast),
    /// Somebody writes, or no longer does.
    TypingIndicator(Typing),
    /// A user's first session came.
    UserJoined(Presence),
    /// A user's last session went.
    UserLeft(Presence),
    /// How full a room is.
    RoomOccupancy(Occupancy),
    /// This session is no longer subscribed.
    RoomClosed(RoomClosed),
    /// Name, description or slow mode changed, durable.
    RoomUpdated(RoomUpdated),
    /// Durable.
    MemberAdded(MemberChange),
    /// Durable.
    MemberRemoved(MemberChange),
    /// Durable.
    RoleChanged(MemberChange),
    /// The token ends soon; the token provider is asked by itself.
    TokenExpiring {
        /// Unix milliseconds by the server's clock.
        expires_at: u64,
    },
    /// The server is being stopped; the client comes back in this range by itself.
    ServerClosing {
        /// Not before.
        retry_min: Duration,
        /// Not later.
        retry_max: Duration,
    },
    /// The answer to a heartbeat.
    HeartbeatResponse(HeartbeatResponse),
    /// The client is asked to another server, and goes by itself.
    Migrate {
        /// Where to.
        new_server_url: String,
    },
    /// An event of a type, or of a shape, that this version does not know.
    Unknown {
        /// The event's type.
        kind: String,
        /// As it came.
        data: Map<String, Value>,
    },
}

/// What [`Event::State`] tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StateChange {
    /// The new one.
    pub state: State,
    /// Retries in a row.
    pub attempt: u32,
    /// While reconnecting: how long until the next attempt; none during an attempt.
    pub retry_in: Option<Duration>,
    /// Why a connection was lost, for people.
    pub why: Option<String>,
}

/// Where a room's reader stands: the stream's epoch and the last durable event that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Changes only if the log was lost or restored.
    pub epoch: String,
    /// From 1 in steps of 1; 0 before the first event.
    pub offset: u64,
}

/// What a user may do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// All.
    Owner,
    /// Acts on members.
    Moderator,
    /// Writes.
    Member,
    /// Of a later server, or an invitation.
    #[serde(other)]
    Other,
}

/// Who may join a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RoomType {
    /// Everyone.
    #[default]
    Public,
    /// Members.
    Private,
    /// Its two users.
    Direct,
    /// Of a later server.
    #[serde(other)]
    Other,
}

/// Whether a user is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// Active.
    Online,
    /// For 300 s nothing but heartbeats.
    Idle,
    /// No session.
    #[default]
    Offline,
    /// Of a later server.
    #[serde(other)]
    Other,
}

/// Defines records of the protocol: camelCase on the wire, every field optional there.
macro_rules! records {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)* })*) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[non_exhaustive]
        pub struct $name { $($(#[doc = $field_doc])+ pub $field: $type,)* }
    )*};
}

records! {
    /// Of `connection_established`; the session's secrets stay inside the client.
    Established {
        /// This connection.
        connection_id: String,
        /// The session that a resume continues.
        session_id: String,
        /// Whose token it was.
        user_id: String,
        /// When the token ends, Unix milliseconds.
        expires_at: u64,
        /// The interval that the server wants.
        heartbeat_ms: u64,
        /// The server's clock, Unix milliseconds.
        timestamp: u64,
    }

    /// A room's description.
    RoomInfo {
        /// Its id.
        id: String,
        /// For people.
        name: String,
        /// For people.
        description: String,
        /// Unix milliseconds.
        created_at: u64,
        /// Members, not those who are there.
        member_count: u64,
        /// Who may join.
        r#type: RoomType,
        /// Wait between two messages of a member; 0 is off.
        slow_mode_seconds: u64,
    }

    /// A message.
    ChatMessage {
        /// The server's id.
        id: String,
        /// Where.
        room_id: String,
        /// Who.
        user_id: String,
        /// Only if the server exposes it.
        user_email: Option<String>,
        /// Plain text.
        message: String,
        /// text, image, file, voice, system or bot.
        message_type: String,
        /// The application's.
        metadata: Map<String, Value>,
        /// When it was stored, Unix milliseconds.
        timestamp: u64,
        /// Whether the text is not the first one.
        edited: bool,
        /// Unix milliseconds.
        edited_at: Option<u64>,
        /// Whether it is an empty place.
        deleted: bool,
        /// Emoji to users.
        reactions: Map<String, Value>,
        /// Emoji to count.
        reaction_counts: Map<String, Value>,
        /// The sender's id of the message.
        client_id: Option<String>,
        /// The thread that it began.
        thread_id: Option<String>,
        /// Its place in the stream.
        offset: u64,
        /// The stream.
        epoch: String,
    }

    /// Someone who is in the room.
    OnlineUser {
        /// Who.
        user_id: String,
        /// Only if the server exposes it.
        user_email: Option<String>,
        /// Whether active.
        status: Status,
        /// Unix milliseconds.
        last_activity: u64,
    }

    /// A snapshot of a room (R-ROOM-4).
    RoomState {
        /// Which room.
        room_id: String,
        /// Its description.
        room_info: RoomInfo,
        /// Oldest first. None with `recovered: true`: keep what is shown.
        recent_messages: Option<Vec<ChatMessage>>,
        /// Ids of `online_users`.
        users: Vec<String>,
        /// At most 200; the rest by `get_online_users`.
        online_users: Vec<OnlineUser>,
        /// How many in all.
        online_count: u64,
        /// The own one.
        role: Option<Role>,
        /// Only if the join asked for recovery.
        recovered: Option<bool>,
        /// The stream.
        epoch: String,
        /// Live delivery starts behind it.
        offset: u64,
        /// Unix milliseconds.
        timestamp: u64,
    }

    /// An application's live event.
    Broadcast {
        /// Where.
        room_id: String,
        /// Who.
        user_id: String,
        /// The application's name of it.
        event: String,
        /// Any JSON.
        payload: Value,
        /// Unix milliseconds.
        timestamp: u64,
    }

    /// Somebody writes, or no longer does.
    Typing {
        /// Where.
        room_id: String,
        /// Who.
        user_id: String,
        /// Only if the server exposes it.
        user_email: Option<String>,
        /// Whether.
        is_typing: bool,
        /// Unix milliseconds.
        timestamp: u64,
    }

    /// Somebody came or went.
    Presence {
        /// Where.
        room_id: String,
        /// Who.
        user_id: String,
        /// Only if the server exposes it.
        user_email: Option<String>,
        /// Unix milliseconds.
        timestamp: u64,
    }

    /// How full a room is.
    Occupancy {
        /// Which room.
        room_id: String,
        /// Users who are there.
        online: u64,
        /// Members.
        members: u64,
    }

    /// The subscription ended.
    RoomClosed {
        /// Which room.
        room_id: String,
        /// removed, left, deleted or limit_reached.
        reason: String,
    }

    /// What was changed, and by whom.
    RoomUpdated {
        /// Which room.
        room_id: String,
        /// Who did it.
        updated_by: String,
        /// The new one.
        name: Option<String>,
        /// The new one.
        description: Option<String>,
        /// The new one.
        slow_mode_seconds: Option<u64>,
        /// The stream.
        epoch: String,
        /// The place in it.
        offset: u64,
        /// Unix milliseconds.
        timestamp: u64,
    }

    /// Of `member_added`, `member_removed` and `role_changed`.
    MemberChange {
        /// Which room.
        room_id: String,
        /// Whom it is about.
        user_id: String,
        /// The new role; none if removed.
        role: Option<Role>,
        /// Who did it.
        added_by: Option<String>,
        /// Who did it.
        removed_by: Option<String>,
        /// Who did it.
        changed_by: Option<String>,
        /// The stream.
        epoch: String,
        /// The place in it.
        offset: u64,
        /// Unix milliseconds.
        timestamp: u64,
    }

    /// The answer to a heartbeat.
    HeartbeatResponse {
        /// The server's clock, Unix milliseconds.
        timestamp: u64,
        /// As sent.
        client_timestamp: Option<u64>,
    }
}

impl Event {
    /// May be left out for who takes no events: what is live, and what an [`Ack`](crate::Ack) tells, too.
    pub(crate) fn is_passing(&self) -> bool {
        use Event::*;
        match self {
            Settled { .. }
            | Delayed { .. }
            | Error(_)
            | Broadcast(_)
            | TypingIndicator(_)
            | UserJoined(_)
            | UserLeft(_) => true,
            RoomOccupancy(_) | HeartbeatResponse(_) | Unknown { .. } => true,
            State(_)
            | Recovered { .. }
            | RoomLost { .. }
            | Stopped { .. }
            | MaxReconnectAttempts { .. }
            | Missed { .. } => false,
            ConnectionEstablished(_) | RoomState(_) | ChatMessage(_) | RoomClosed(_) | RoomUpdated(_) => false,
            MemberAdded(_)
            | MemberRemoved(_)
            | RoleChanged(_)
            | TokenExpiring { .. }
            | ServerClosing { .. }
            | Migrate { .. } => false,
        }
    }

    /// An event of the server.
    pub(crate) fn read(kind: &str, data: Map<String, Value>) -> Event {
        let data = Value::Object(data);
        match known(kind, &data) {
            Some(event) => event,
            None => {
                let Value::Object(data) = data else { unreachable!("made above") };
                Event::Unknown { kind: kind.to_owned(), data }
            }
        }
    }
}

/// None: this version does not know the type or the shape.
fn known(kind: &str, data: &Value) -> Option<Event> {
    fn record<'a, T: Deserialize<'a>>(data: &'a Value) -> Option<T> {
        T::deserialize(data).ok()
    }
    let ms = |name: &str| data.get(name).and_then(Value::as_u64).map(Duration::from_millis);
    Some(match kind {
        "connection_established" => Event::ConnectionEstablished(record(data)?),
        "room_state" => Event::RoomState(record(data)?),
        "chat_message" => Event::ChatMessage(record(data)?),
        "broadcast" => Event::Broadcast(record(data)?),
        "typing_indicator" => Event::TypingIndicator(record(data)?),
        "user_joined" => Event::UserJoined(record(data)?),
        "user_left" => Event::UserLeft(record(data)?),
        "room_occupancy" => Event::RoomOccupancy(record(data)?),
        "room_closed" => Event::RoomClosed(record(data)?),
        "room_updated" => Event::RoomUpdated(record(data)?),
        "member_added" => Event::MemberAdded(record(data)?),
        "member_removed" => Event::MemberRemoved(record(data)?),
        "role_changed" => Event::RoleChanged(record(data)?),
        "token_expiring" => Event::TokenExpiring { expires_at: data.get("expiresAt")?.as_u64()? },
        "server_closing" => Event::ServerClosing { retry_min: ms("retryMinMs")?, retry_max: ms("retryMaxMs")? },
        "heartbeat_response" => Event::HeartbeatResponse(record(data)?),
        "migrate" => Event::Migrate { new_server_url: data.get("newServerUrl")?.as_str()?.to_owned() },
        _ => return None,
    })
}
