//! A signed-in user, shared by all connections of that user on all shards.
use super::rate::SharedBucket;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// One per user with at least one connection (and, after that, until its buckets are full again).
/// Made and found by the user's home shard; shards share it by `Arc` and touch only the atomics.
#[derive(Debug, Default)]
pub struct User {
    /// The id, then the e-mail address if there is one: one allocation for both.
    text: Box<str>,
    /// Characters of a user id: at most 128, so at most 512 bytes.
    id_bytes: u16,
    /// `limits.messages`, shared by everything that makes a message (R-CHAT-5).
    pub messages: SharedBucket,
    /// `limits.commands`, all other commands (R-CHAT-5).
    pub commands: SharedBucket,
    /// `limits.rooms_created` (R-ROOM-1).
    pub rooms_created: SharedBucket,
    /// Unix seconds of the last message, typing or `activity`; 0 = none since sign-in (R-PRES-4).
    pub last_active_s: AtomicU32,
    /// Live connections; only the home shard of the user changes it (`limits.connections_per_user`).
    pub connections: AtomicU32,
    /// Listed by the home shard among users without connections. Home shard only.
    pub is_lingering: AtomicBool,
    /// The user's only connection as `ConnRef::to_bits`, 0 for none or several. Home shard only.
    pub sole_connection: AtomicU64,
}

impl User {
    pub fn new(id: &str, email: Option<&str>) -> User {
        let text = [id, email.unwrap_or("")].concat().into_boxed_str();
        User { text, id_bytes: id.len() as u16, ..User::default() }
    }

    pub fn id(&self) -> &str {
        &self.text[..usize::from(self.id_bytes)]
    }

    /// Shown to others only if `privacy.expose_email` is on (R-SEC-6).
    pub fn email(&self) -> Option<&str> {
        let email = &self.text[usize::from(self.id_bytes)..];
        (!email.is_empty()).then_some(email)
    }
}

/// What the token's `role` claim grants server-wide (R-ID-3). Ordered by power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GlobalRole {
    #[default]
    None,
    Moderator,
    Admin,
}
