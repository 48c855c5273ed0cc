//! Events, acks and errors → messages to a client (product sections 3.1 to 3.3).
//!
//! The *data object* of a message is the same in every vocabulary; its name and its envelope are not. So the data
//! is written by `data`, and a `Vocabulary` puts the envelope around it: `Native` here, others may follow.
mod acks;
mod data;
mod events;

use crate::base::refusal::Refusal;
use crate::ids::{Prefix, Ulid};
use crate::wire::json::{self, Object};

pub use acks::{PresenceEntry, Resumed};
pub use events::Ready;

/// What goes around every message: a fresh `evt_` id and the server's clock, Unix ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub id: Ulid,
    pub unix_ms: u64,
}

/// What the server tells, apart from acks and errors. Named by a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Ready,
    TokenExpiring,
    ServerClosing,
    Heartbeat,
    Snapshot,
    Message,
    Joined,
    Left,
    Typing,
    Broadcast,
    Question,
    Occupancy,
    MemberAdded,
    MemberRemoved,
    RoleChanged,
    RoomUpdated,
    RoomClosed,
}

impl Kind {
    pub const ALL: [Kind; 17] = [
        Kind::Ready,
        Kind::TokenExpiring,
        Kind::ServerClosing,
        Kind::Heartbeat,
        Kind::Snapshot,
        Kind::Message,
        Kind::Joined,
        Kind::Left,
        Kind::Typing,
        Kind::Broadcast,
        Kind::Question,
        Kind::Occupancy,
        Kind::MemberAdded,
        Kind::MemberRemoved,
        Kind::RoleChanged,
        Kind::RoomUpdated,
        Kind::RoomClosed,
    ];
}

/// How one protocol names and wraps what the server says. Each call appends one whole message.
pub trait Vocabulary {
    /// The event's name on this protocol.
    fn name(&self, kind: Kind) -> &'static str;

    fn event(&self, out: &mut Vec<u8>, stamp: Stamp, kind: Kind, data: impl FnOnce(&mut Object<'_>));

    /// `result` appends the members of the result object.
    fn ack(&self, out: &mut Vec<u8>, stamp: Stamp, request: &str, result: impl FnOnce(&mut Object<'_>));

    /// `error` appends the members of the error object; `request` is none if the message was not readable that far.
    fn error(&self, out: &mut Vec<u8>, stamp: Stamp, request: Option<&str>, error: impl FnOnce(&mut Object<'_>));
}

/// The native protocol: `{id, type, data, timestamp}` (R-ENV-1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Vocabulary for Native {
    fn name(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Ready => "connection_established",
            Kind::TokenExpiring => "token_expiring",
            Kind::ServerClosing => "server_closing",
            Kind::Heartbeat => "heartbeat_response",
            Kind::Snapshot => "room_state",
            Kind::Message => "chat_message",
            Kind::Joined => "user_joined",
            Kind::Left => "user_left",
            Kind::Typing => "typing_indicator",
            Kind::Broadcast => "broadcast",
            Kind::Question => "question",
            Kind::Occupancy => "room_occupancy",
            Kind::MemberAdded => "member_added",
            Kind::MemberRemoved => "member_removed",
            Kind::RoleChanged => "role_changed",
            Kind::RoomUpdated => "room_updated",
            Kind::RoomClosed => "room_closed",
        }
    }

    fn event(&self, out: &mut Vec<u8>, stamp: Stamp, kind: Kind, data: impl FnOnce(&mut Object<'_>)) {
        envelope(out, stamp, self.name(kind), data);
    }

    fn ack(&self, out: &mut Vec<u8>, stamp: Stamp, request: &str, result: impl FnOnce(&mut Object<'_>)) {
        envelope(out, stamp, "ack", |data| _ = data.str("requestId", request).object("result", result));
    }

    fn error(&self, out: &mut Vec<u8>, stamp: Stamp, request: Option<&str>, error: impl FnOnce(&mut Object<'_>)) {
        envelope(out, stamp, "error", |data| {
            error(data);
            match request {
                Some(request) => data.str("requestId", request),
                None => data.null("requestId"),
            };
        });
    }
}

fn envelope(out: &mut Vec<u8>, stamp: Stamp, kind: &str, data: impl FnOnce(&mut Object<'_>)) {
    json::object(out, |message| {
        data::id(message, "id", Prefix::Event, stamp.id);
        message.plain("type", kind, "").object("data", data).num("timestamp", stamp.unix_ms);
    });
}

/// Writes messages in one vocabulary. Methods append to `out` and cannot fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder<V> {
    pub vocabulary: V,
    /// `privacy.expose_email` (R-SEC-6).
    pub expose_email: bool,
}

impl<V: Vocabulary> Encoder<V> {
    /// R-ENV-2, 3.3. `kind` is the message's type and goes with `unknown_type` only.
    pub fn error(&self, out: &mut Vec<u8>, stamp: Stamp, request: Option<&str>, kind: Option<&str>, refusal: &Refusal) {
        self.vocabulary.error(out, stamp, request, |error| {
            let code = refusal.code;
            error.plain("code", code.as_str(), "").plain("message", code.text(), "");
            error.bool("retryable", code.is_retryable()).opt_str("type", kind);
            error.opt_str("field", refusal.field).opt_num("retryAfterMs", refusal.retry_after_ms);
        });
    }
}

#[cfg(test)]
mod tests;
