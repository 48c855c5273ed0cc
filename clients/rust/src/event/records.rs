//! The data of events, as the protocol has it (docs/PROTOCOL.md).
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
