//! What a client may ask, and what becomes of each kind of command (docs/PROTOCOL.md).
use crate::event::Role;
use serde::Deserialize;

/// What the client does with a command; [`Kind::of`] knows it by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Kept while there is no connection, repeated under its first id until answered (R-SDK-4).
    Durable,
    /// Sent now or never. There is no ack: it is done when it is given to the socket.
    Live,
    /// Kept as the wish to be in a room.
    Join,
    /// Ends that wish.
    Leave,
    /// The client does it by itself; an application may not.
    Own,
    /// All others, also those of later servers: sent once, fails with the connection.
    Request,
}

impl Kind {
    /// By the command's type.
    pub fn of(kind: &str) -> Kind {
        // Only what the server recognises as a repeat (R-CHAT-3) may be durable: another command, repeated after a lost ack,
        // would do its work twice, or fail although it was done.
        match kind {
            "chat_message" | "send_message" => Kind::Durable,
            "broadcast" | "answer" | "typing_start" | "typing_stop" | "activity" | "heartbeat" => Kind::Live,
            "join_room" => Kind::Join,
            "leave_room" => Kind::Leave,
            "auth" | "resume" => Kind::Own,
            _ => Kind::Request,
        }
    }
}

/// Result of `chat_message` and `send_message`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ChatResult {
    /// The server's id of the message.
    pub message_id: String,
    /// Its place in the room's stream, from 1.
    pub offset: u64,
    /// The stream in which that offset counts.
    pub epoch: String,
    /// When it was stored, Unix milliseconds by the server's clock.
    pub timestamp: u64,
    /// The server had it already: this command was a repeat whose first answer was lost.
    pub duplicate: bool,
}

/// Result of `join_room`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct JoinResult {
    /// None for who only reads a public room.
    pub role: Option<Role>,
}
