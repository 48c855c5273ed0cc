//! What the server tells, and what the client tells of itself.
//!
//! Types and fields that this version does not know are no error: an unknown type, or a known one of another shape, comes as
//! [`Event::Unknown`]; unknown fields are left out, missing ones have their empty value.
mod records;

pub use records::{
    Broadcast, ChatMessage, Established, HeartbeatResponse, MemberChange, Occupancy, OnlineUser, Position, Presence,
    Role, RoomClosed, RoomInfo, RoomState, RoomType, RoomUpdated, Status, Typing,
};

use crate::core::State;
use crate::error::Error;
use serde::Deserialize;
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
