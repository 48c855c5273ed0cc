//! Data objects, the same in every vocabulary. Each function writes members into an object that is open.
use super::{Kind, Vocabulary};
use crate::base::user::User;
use crate::ids::{Prefix, Ulid};
use crate::rooms::event::{OnlineUser, Snapshot};
use crate::store::port::{EventKind, EventRow, Role, RoomRow};
use crate::wire::json::{Array, Object};
use serde::Deserialize;
use serde::de::IgnoredAny;

pub fn id(data: &mut Object<'_>, key: &str, prefix: Prefix, id: Ulid) {
    data.plain(key, prefix.as_str(), id.text(&mut [0; Ulid::TEXT_BYTES]));
}

/// `userId`, and `userEmail` where that may be shown (R-SEC-6).
pub fn user(data: &mut Object<'_>, user: &User, expose_email: bool) {
    data.str("userId", user.id()).opt_str("userEmail", user.email().filter(|_| expose_email));
}

/// None is null: in a public room one need not be a member.
pub fn role(data: &mut Object<'_>, role: Option<Role>) {
    match role {
        Some(role) => data.plain("role", role.as_str(), ""),
        None => data.null("role"),
    };
}

/// RoomInfo (R-ROOM-1).
pub fn room_info(data: &mut Object<'_>, row: &RoomRow) {
    data.str("id", &row.id).str("name", &row.name).str("description", &row.description);
    data.num("createdAt", row.created_at_ms).num("memberCount", row.member_count);
    data.plain("type", row.kind.as_str(), "").num("slowModeSeconds", row.slow_mode_s.into());
}

/// ChatMessage (product section 3.2), of a row whose kind is `Message`.
pub fn chat_message(data: &mut Object<'_>, room: &str, epoch: &str, row: &EventRow, expose_email: bool) {
    id(data, "id", Prefix::Message, row.id);
    data.str("roomId", room).str("userId", &row.user_id);
    data.opt_str("userEmail", row.user_email.as_deref().filter(|_| expose_email));
    data.str("message", &row.body).plain("messageType", "text", "");
    data.raw("metadata", row.detail.as_deref().unwrap_or("{}")).num("timestamp", row.at_ms);
    data.bool("edited", false).raw("reactions", "{}").raw("reactionCounts", "{}");
    data.num("offset", row.offset).str("epoch", epoch);
    data.opt_str("clientId", row.client_id.as_deref()).bool("deleted", false);
}

/// A durable event of whatever kind: a ChatMessage, or a change of members or room (R-ROOM-3) as
/// `roomId, offset, epoch, userId, timestamp` and the members of its detail.
///
/// `userId` is who did it, unless the detail names another: then the detail's word stands, as it does for `timestamp`.
pub fn durable(data: &mut Object<'_>, room: &str, epoch: &str, row: &EventRow, expose_email: bool) {
    if row.kind == EventKind::Message {
        return chat_message(data, room, epoch, row, expose_email);
    }
    /// Which of our members the detail has too. A key twice in one object would be read differently by different readers.
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Has {
        user_id: Option<IgnoredAny>,
        timestamp: Option<IgnoredAny>,
    }
    let detail = row.detail.as_deref().unwrap_or("{}");
    // A detail that is no object, which the domain does not write, is left out rather than spoil the message.
    let (detail, has) = match serde_json::from_str::<Has>(detail) {
        Ok(has) => (detail, has),
        Err(_) => ("{}", Has::default()),
    };
    data.str("roomId", room).num("offset", row.offset).str("epoch", epoch);
    if has.user_id.is_none() {
        data.str("userId", &row.user_id);
    }
    if has.timestamp.is_none() {
        data.num("timestamp", row.at_ms);
    }
    data.splice(detail);
}

/// What a durable event is called.
pub fn kind(row: &EventRow) -> Kind {
    match row.kind {
        EventKind::Message => Kind::Message,
        EventKind::MemberAdded => Kind::MemberAdded,
        EventKind::MemberRemoved => Kind::MemberRemoved,
        EventKind::RoleChanged => Kind::RoleChanged,
        EventKind::RoomUpdated => Kind::RoomUpdated,
    }
}

/// Missed durable events as `{type, data}`: without its type one kind could not be told from another.
pub fn missed<V: Vocabulary>(events: &mut Array<'_>, vocabulary: &V, snapshot: &Snapshot<'_>, expose_email: bool) {
    let row = snapshot.row;
    for event in &snapshot.events {
        events.object(|item| {
            item.plain("type", vocabulary.name(kind(event)), "");
            item.object("data", |data| durable(data, &row.id, &row.epoch, event, expose_email));
        });
    }
}

/// Elements of `onlineUsers` (R-ROOM-4).
pub fn online_users(users: &mut Array<'_>, online: &[OnlineUser<'_>], expose_email: bool) {
    for one in online {
        users.object(|data| {
            user(data, one.user, expose_email);
            data.plain("status", one.status.as_str(), "").num("lastActivity", one.last_activity_ms);
        });
    }
}

/// What a joiner gets (R-ROOM-4, R-REC-1). After a full recovery `events` stand instead of `recentMessages`.
pub fn snapshot<V: Vocabulary>(data: &mut Object<'_>, vocabulary: &V, snapshot: &Snapshot<'_>, expose_email: bool) {
    let row = snapshot.row;
    data.str("roomId", &row.id).object("roomInfo", |info| room_info(info, row));
    if snapshot.recovered == Some(true) {
        data.array("events", |events| missed(events, vocabulary, snapshot, expose_email));
    } else {
        data.array("recentMessages", |messages| {
            for message in &snapshot.recent {
                messages.object(|data| chat_message(data, &row.id, &row.epoch, message, expose_email));
            }
        });
    }
    if let Some(recovered) = snapshot.recovered {
        data.bool("recovered", recovered);
    }
    data.array("users", |users| snapshot.online.iter().for_each(|one| _ = users.str(one.user.id())));
    data.array("onlineUsers", |users| online_users(users, &snapshot.online, expose_email));
    data.num("onlineCount", snapshot.online_count);
    role(data, snapshot.role);
    data.str("epoch", &row.epoch).num("offset", snapshot.offset).num("timestamp", snapshot.timestamp_ms);
}
