//! Socket.IO on one Engine.IO session: which namespaces are connected, what a packet asks for, when somebody is late.
//!
//! Sans-IO, one [`Session`] per client whatever its transport: decoded Engine.IO packets and `now` come in, [`Action`]s go out. What a
//! namespace's events do is the native protocol's business: each becomes a native message (`command`), and the answers come back
//! through `session::transcode`. The state here is a hundred bytes; what all sessions share is in [`Settings`] and [`Tools`].
mod command;
mod heartbeat;
mod output;
mod request_id;
mod session;

pub mod recovery;

pub use heartbeat::Heartbeat;
pub use output::{Action, Auth, Output};
pub use recovery::Offset;
pub use request_id::RequestId;
pub use session::{Close, Session};

use crate::wire::socketio::Json;

/// Index of a namespace in [`Settings::namespaces`], below `limits::NAMESPACES_MAX`.
pub type Namespace = u8;

/// What the sessions of a server have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `sio.namespaces`.
    pub namespaces: Box<[Box<str>]>,
    /// `sio.ping_interval_ms`.
    pub ping_interval_ms: u64,
    /// `sio.ping_timeout_ms`.
    pub ping_timeout_ms: u64,
    /// `sio.connect_timeout_ms`: without a namespace the session ends.
    pub connect_timeout_ms: u64,
    /// `sio.max_payload_bytes`: one packet with its attachments.
    pub packet_bytes_max: usize,
    /// `sio.app_events`.
    pub app_events: bool,
}

impl Settings {
    /// The index of a namespace that exists.
    pub fn namespace(&self, name: &str) -> Option<Namespace> {
        self.namespaces.iter().position(|known| &**known == name).map(|index| index as Namespace)
    }

    pub fn name(&self, namespace: Namespace) -> &str {
        self.namespaces.get(usize::from(namespace)).map_or("", |name| name)
    }
}

/// What reading packets needs, kept warm. One per shard.
#[derive(Default)]
pub struct Tools {
    json: Json,
    /// The arguments of a packet with its attachments in them.
    arguments: Vec<u8>,
}

/// How the id of a namespace's room begins: the room that application events without a `roomId` go to, and that everyone in the namespace
/// is in with `sio.app_events`.
pub const NAMESPACE_ROOM_PREFIX: &str = "ns:";

#[cfg(test)]
mod tests;
