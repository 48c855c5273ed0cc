//! Results of commands (product section 3.1).
use super::{Encoder, Stamp, Vocabulary, data};
use crate::ids::{Prefix, Ulid};
use crate::rooms::event::{Ack, Snapshot, Status};
use crate::wire::json;

/// What a `resume` as a whole brings (R-REC-2).
#[derive(Clone, Copy, Debug)]
pub struct Resumed<'a> {
    pub connection_id: Ulid,
    /// For the next `resume`.
    pub resume_token: &'a str,
}

/// One user of a `get_presence` answer.
#[derive(Clone, Copy, Debug)]
pub struct PresenceEntry<'a> {
    pub user_id: &'a str,
    pub status: Status,
    /// Unix ms; none if nothing is known, as for who is offline.
    pub last_activity_ms: Option<u64>,
}

impl<V: Vocabulary> Encoder<V> {
    /// The result of a room's command.
    pub fn ack(&self, out: &mut Vec<u8>, stamp: Stamp, request: &str, room: &str, ack: &Ack<'_>) {
        self.vocabulary.ack(out, stamp, request, |result| match *ack {
            Ack::Done => {}
            Ack::Joined { role } => data::role(result, role),
            Ack::Sent { id, offset, epoch, timestamp_ms, is_duplicate } => {
                data::id(result, "messageId", Prefix::Message, id);
                result.num("offset", offset).str("epoch", epoch).num("timestamp", timestamp_ms);
                result.bool("duplicate", is_duplicate);
            }
            // Begins as `transcode::socketio` knows it by.
            Ack::Asked { ask_id, asked, answers, dropped, is_complete } => {
                result.num("askId", ask_id).num("asked", asked);
                result.array("answers", |list| {
                    for answer in answers {
                        list.object(|one| _ = one.str("userId", answer.user.id()).raw("payload", &answer.payload));
                    }
                });
                result.num("dropped", dropped).bool("isComplete", is_complete);
            }
            Ack::Room(row) => data::room_info(result, row),
            Ack::History { epoch, rows, has_more } => {
                result.array("messages", |messages| {
                    for row in rows {
                        messages.object(|data| data::chat_message(data, room, epoch, row, self.expose_email));
                    }
                });
                result.bool("hasMore", has_more).str("epoch", epoch);
            }
            Ack::OnlineUsers { users, next_cursor, online_count } => {
                result.array("onlineUsers", |list| data::online_users(list, users, self.expose_email));
                result.opt_str("nextCursor", next_cursor).num("onlineCount", online_count);
            }
        });
    }

    /// Of `auth`.
    pub fn signed_in(&self, out: &mut Vec<u8>, stamp: Stamp, request: &str, user_id: &str, expires_at_ms: u64) {
        self.vocabulary.ack(out, stamp, request, |result| {
            result.str("userId", user_id).num("expiresAt", expires_at_ms);
        });
    }

    /// Of `refresh_token` (R-AUTH-4).
    pub fn refreshed(&self, out: &mut Vec<u8>, stamp: Stamp, request: &str, expires_at_ms: u64) {
        self.vocabulary.ack(out, stamp, request, |result| _ = result.num("expiresAt", expires_at_ms));
    }

    /// One element of `rooms` in a `resume` result, to be kept until all rooms have answered. A room that could not be
    /// resumed at all has neither epoch nor offset: the session is not subscribed to it.
    pub fn resume_part(&self, out: &mut Vec<u8>, room: &str, part: Option<&Snapshot<'_>>) {
        json::object(out, |data| {
            data.str("roomId", room);
            match part {
                Some(snapshot) => {
                    data.bool("recovered", snapshot.recovered == Some(true));
                    data.str("epoch", &snapshot.row.epoch).num("offset", snapshot.offset);
                    data.array("events", |events| {
                        data::missed(events, &self.vocabulary, snapshot, self.expose_email);
                    });
                }
                None => _ = data.bool("recovered", false).null("epoch").null("offset").raw("events", "[]"),
            }
        });
    }

    /// Of `resume`; `parts` were written by `resume_part`.
    pub fn resumed(
        &self,
        out: &mut Vec<u8>,
        stamp: Stamp,
        request: &str,
        resumed: &Resumed<'_>,
        parts: impl IntoIterator<Item: AsRef<[u8]>>,
    ) {
        self.vocabulary.ack(out, stamp, request, |result| {
            data::id(result, "connectionId", Prefix::Connection, resumed.connection_id);
            result.str("resumeToken", resumed.resume_token);
            result.array("rooms", |rooms| parts.into_iter().for_each(|part| _ = rooms.raw(part.as_ref())));
        });
    }

    /// Of `get_presence` (R-PRES-4).
    pub fn presence<'a>(
        &self,
        out: &mut Vec<u8>,
        stamp: Stamp,
        request: &str,
        users: impl IntoIterator<Item = PresenceEntry<'a>>,
    ) {
        self.vocabulary.ack(out, stamp, request, |result| {
            result.array("users", |list| {
                for user in users {
                    list.object(|data| {
                        data.str("userId", user.user_id).plain("status", user.status.as_str(), "");
                        data.opt_num("lastActivity", user.last_activity_ms);
                    });
                }
            });
        });
    }
}
