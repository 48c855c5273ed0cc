//! Events: what happens in rooms (section 3.2), and what the server says of the connection itself (section 4).
use super::{Encoder, Kind, Stamp, Vocabulary, data};
use crate::ids::{Prefix, Ulid};
use crate::rooms::event::Event;
use crate::wire::json::Object;

/// The first message after sign-in: `connection_established`.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    pub connection_id: Ulid,
    pub session_id: Ulid,
    pub resume_token: &'a str,
    pub user_id: &'a str,
    /// When the token ends, Unix ms (R-AUTH-4).
    pub expires_at_ms: u64,
    /// How often the client is to send `heartbeat` (R-CONN-3).
    pub heartbeat_ms: u64,
}

impl<V: Vocabulary> Encoder<V> {
    /// An event of `room`. Live and durable ones look alike but for offset and epoch.
    pub fn event(&self, out: &mut Vec<u8>, stamp: Stamp, room: &str, event: &Event<'_>) {
        match *event {
            Event::Joined { user, timestamp_ms } => self.in_room(out, stamp, room, Kind::Joined, |data| {
                data::user(data, user, self.expose_email);
                data.num("timestamp", timestamp_ms);
            }),
            Event::Left { user, timestamp_ms } => self.in_room(out, stamp, room, Kind::Left, |data| {
                data::user(data, user, self.expose_email);
                data.num("timestamp", timestamp_ms);
            }),
            Event::Typing { user, is_typing, timestamp_ms } => self.in_room(out, stamp, room, Kind::Typing, |data| {
                data::user(data, user, self.expose_email);
                data.bool("isTyping", is_typing).num("timestamp", timestamp_ms);
            }),
            Event::Broadcast { user, event, payload, timestamp_ms } => {
                self.in_room(out, stamp, room, Kind::Broadcast, |data| {
                    data.str("userId", user.id()).str("event", event).raw("payload", payload);
                    data.num("timestamp", timestamp_ms);
                })
            }
            Event::Question { user, event, payload, ask_id, timestamp_ms } => {
                self.in_room(out, stamp, room, Kind::Question, |data| {
                    data.str("userId", user.id()).str("event", event).raw("payload", payload);
                    data.num("askId", ask_id).num("timestamp", timestamp_ms);
                })
            }
            Event::Occupancy { online, members } => {
                self.in_room(out, stamp, room, Kind::Occupancy, |data| {
                    _ = data.num("online", online).num("members", members)
                });
            }
            Event::Closed { reason } => {
                self.in_room(out, stamp, room, Kind::RoomClosed, |data| _ = data.str("reason", reason))
            }
            Event::Durable { epoch, row } => self.vocabulary.event(out, stamp, data::kind(row), |data| {
                data::durable(data, room, epoch, row, self.expose_email);
            }),
            Event::Snapshot(snapshot) => self.vocabulary.event(out, stamp, Kind::Snapshot, |data| {
                data::snapshot(data, &self.vocabulary, snapshot, self.expose_email);
            }),
        }
    }

    pub fn ready(&self, out: &mut Vec<u8>, stamp: Stamp, ready: &Ready<'_>) {
        self.vocabulary.event(out, stamp, Kind::Ready, |data| {
            data::id(data, "connectionId", Prefix::Connection, ready.connection_id);
            data::id(data, "sessionId", Prefix::Session, ready.session_id);
            data.str("resumeToken", ready.resume_token).str("userId", ready.user_id);
            data.num("expiresAt", ready.expires_at_ms).num("heartbeatMs", ready.heartbeat_ms);
            data.num("timestamp", stamp.unix_ms);
        });
    }

    /// R-CONN-3. `client_timestamp` is what the client sent along.
    pub fn heartbeat(&self, out: &mut Vec<u8>, stamp: Stamp, client_timestamp: Option<u64>) {
        self.vocabulary.event(out, stamp, Kind::Heartbeat, |data| {
            data.num("timestamp", stamp.unix_ms).opt_num("clientTimestamp", client_timestamp);
        });
    }

    /// R-AUTH-4: 60 s before the token ends.
    pub fn token_expiring(&self, out: &mut Vec<u8>, stamp: Stamp, expires_at_ms: u64) {
        self.vocabulary.event(out, stamp, Kind::TokenExpiring, |data| _ = data.num("expiresAt", expires_at_ms));
    }

    /// R-CONN-6: the range of time in which the client is to reconnect.
    pub fn server_closing(&self, out: &mut Vec<u8>, stamp: Stamp, retry_min_ms: u64, retry_max_ms: u64) {
        self.vocabulary.event(out, stamp, Kind::ServerClosing, |data| {
            data.num("retryMinMs", retry_min_ms).num("retryMaxMs", retry_max_ms);
        });
    }

    fn in_room(&self, out: &mut Vec<u8>, stamp: Stamp, room: &str, kind: Kind, write: impl FnOnce(&mut Object<'_>)) {
        self.vocabulary.event(out, stamp, kind, |data| {
            data.str("roomId", room);
            write(data);
        });
    }
}
