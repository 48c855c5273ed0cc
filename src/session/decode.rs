//! Envelope → command: names and forms of fields (product section 3.1). Unknown fields are ignored, null is
//! absent, and what is wrong is named as it is called in JSON.
use super::command::{Command, ResumeRooms, UserIds};
use crate::base::refusal::{Code, Refusal};
use crate::ids::{is_app_room_name, is_room_id, is_short_id, is_user_id};
use crate::limits;
use crate::rooms::command::{Metadata, Position, RoomCommand};
use crate::store::port::{HistoryFrom, Role, RoomType};
use crate::wire::envelope::Envelope;
use crate::wire::tape::{Object, Value};

/// Room for the JSON fields that are passed on as text; one per shard, reused for every message.
#[derive(Debug, Default)]
pub struct Scratch {
    payload: Vec<u8>,
    metadata: Vec<u8>,
}

/// Says what a message asks for. No allocation once `scratch` has grown.
///
/// # Errors
/// `unknown_type`, or `invalid_argument` with the field at fault.
pub fn decode<'a>(envelope: &'a Envelope<'_, '_>, scratch: &'a mut Scratch) -> Result<Command<'a>, Refusal> {
    let data: Data<'a> = envelope.data();
    match envelope.kind() {
        "chat_message" | "send_message" => to_room(data, send(data, &mut scratch.metadata)?),
        "heartbeat" => Ok(Command::Heartbeat { timestamp: data.u64("timestamp")? }),
        "broadcast" => to_room(data, broadcast(data, &mut scratch.payload)?),
        "ask" => to_room(data, ask(data, &mut scratch.payload)?),
        "answer" => answer(data, &mut scratch.payload),
        "typing_start" => to_room(data, RoomCommand::Typing { is_typing: true }),
        "typing_stop" => to_room(data, RoomCommand::Typing { is_typing: false }),
        "activity" => Ok(Command::Activity),
        "join_room" => join(data),
        "leave_room" => to_room(data, RoomCommand::Leave { permanent: data.bool("permanent")?.unwrap_or(false) }),
        "get_history" => to_room(data, history(data)?),
        "get_online_users" => to_room(data, online_users(data)?),
        "get_presence" => presence(data),
        "auth" => Ok(Command::Auth { token: required(data, "token")? }),
        "refresh_token" => Ok(Command::RefreshToken { token: required(data, "token")? }),
        "resume" => resume(data),
        "create_room" => create(data),
        "update_room" => to_room(data, update(data)?),
        "delete_room" => to_room(data, RoomCommand::Delete),
        "invite_member" => to_room(data, RoomCommand::Invite { user_id: user_id(data, "userId")? }),
        "remove_member" => to_room(data, RoomCommand::Remove { user_id: user_id(data, "userId")? }),
        "set_role" => to_room(data, RoomCommand::SetRole { user_id: user_id(data, "userId")?, role: role(data)? }),
        _ => Err(Refusal::new(Code::UnknownType)),
    }
}

/// The names that `decode` knows, by which an application's own events are told from commands.
const COMMANDS: [&str; 23] = [
    "chat_message",
    "send_message",
    "heartbeat",
    "broadcast",
    "ask",
    "answer",
    "typing_start",
    "typing_stop",
    "activity",
    "join_room",
    "leave_room",
    "get_history",
    "get_online_users",
    "get_presence",
    "auth",
    "refresh_token",
    "resume",
    "create_room",
    "update_room",
    "delete_room",
    "invite_member",
    "remove_member",
    "set_role",
];

/// Whether this is the name of a command.
pub fn is_command(kind: &str) -> bool {
    COMMANDS.contains(&kind)
}

type Data<'a> = Object<'a, 'a>;

fn to_room<'a>(data: Data<'a>, command: RoomCommand<'a>) -> Result<Command<'a>, Refusal> {
    Ok(Command::Room { room: room_id(data)?, command, room_token: None })
}

fn send<'a>(data: Data<'a>, scratch: &'a mut Vec<u8>) -> Result<RoomCommand<'a>, Refusal> {
    let metadata = match data.value("metadata") {
        None => None,
        Some(value) => Some(Metadata { is_object: value.as_object().is_some(), json: compact(value, scratch)? }),
    };
    Ok(RoomCommand::Send {
        message: required(data, "message")?,
        message_type: data.str("messageType")?,
        metadata,
        client_id: checked(data.str("clientId")?, is_short_id, "clientId")?,
    })
}

/// R-LIVE-1. An absent payload is null. `ack` asks for what live events do not have by themselves.
fn broadcast<'a>(data: Data<'a>, scratch: &'a mut Vec<u8>) -> Result<RoomCommand<'a>, Refusal> {
    Ok(RoomCommand::Broadcast {
        event: event(data)?,
        payload: payload(data, scratch)?,
        include_self: data.bool("includeSelf")?.unwrap_or(false),
        wants_ack: data.bool("ack")?.unwrap_or(false),
    })
}

/// How long the server allows is the domain's to know.
fn ask<'a>(data: Data<'a>, scratch: &'a mut Vec<u8>) -> Result<RoomCommand<'a>, Refusal> {
    Ok(RoomCommand::Ask { event: event(data)?, timeout_ms: data.u64("timeoutMs")?, payload: payload(data, scratch)? })
}

/// The room may be left out.
fn answer<'a>(data: Data<'a>, scratch: &'a mut Vec<u8>) -> Result<Command<'a>, Refusal> {
    let ask_id = data.u64("askId")?.ok_or(Refusal::field("askId"))?;
    let payload = payload(data, scratch)?;
    match data.str("roomId")? {
        Some(_) => to_room(data, RoomCommand::Answer { ask_id, payload }),
        None => Ok(Command::Answer { ask_id, payload }),
    }
}

/// R-ROOM-2, R-REC-1.
fn join<'a>(data: Data<'a>) -> Result<Command<'a>, Refusal> {
    let room_type = data.str("roomType")?.map(|text| RoomType::parse(text).ok_or(Refusal::field("roomType")));
    let recover = data.object("recover")?.map(|recover| position(recover).ok_or(Refusal::field("recover")));
    let command = RoomCommand::Join { room_type: room_type.transpose()?, grant: None, recover: recover.transpose()? };
    Ok(Command::Room { room: room_id(data)?, command, room_token: data.str("roomToken")? })
}

/// R-CHAT-6.
fn history<'a>(data: Data<'a>) -> Result<RoomCommand<'a>, Refusal> {
    let from = match (data.u64("before")?, data.u64("after")?) {
        (None, None) => HistoryFrom::End,
        (Some(offset), None) => HistoryFrom::Before(offset),
        (None, Some(offset)) => HistoryFrom::After(offset),
        (Some(_), Some(_)) => return Err(Refusal::field("after")),
    };
    Ok(RoomCommand::History { from, limit: limit(data, limits::HISTORY_PAGE_DEFAULT, limits::HISTORY_PAGE_MAX)? })
}

/// R-ROOM-4. The cursor is the domain's own.
fn online_users<'a>(data: Data<'a>) -> Result<RoomCommand<'a>, Refusal> {
    let page = limits::SNAPSHOT_ONLINE_MAX as u32;
    Ok(RoomCommand::OnlineUsers { cursor: data.str("cursor")?, limit: limit(data, page, page)? })
}

/// R-PRES-4.
fn presence<'a>(data: Data<'a>) -> Result<Command<'a>, Refusal> {
    let field = Refusal::field("userIds");
    let ids = data.array("userIds")?.ok_or(field)?;
    let mut good = ids;
    if ids.count() > limits::PRESENCE_QUERY_MAX || !good.all(|id| id.as_str().is_some_and(is_user_id)) {
        return Err(field);
    }
    Ok(Command::GetPresence { user_ids: UserIds::new(ids) })
}

/// R-REC-2.
fn resume<'a>(data: Data<'a>) -> Result<Command<'a>, Refusal> {
    let field = Refusal::field("rooms");
    let rooms = data.object("rooms")?.ok_or(field)?;
    let mut good = rooms;
    let is_good = |(room, value): (&str, Value<'a, 'a>)| {
        is_room_id(room) && value.as_object().is_some_and(|object| position(object).is_some())
    };
    if rooms.count() > limits::RESUME_ROOMS_MAX || !good.all(is_good) {
        return Err(field);
    }
    Ok(Command::Resume {
        session_id: required(data, "sessionId")?,
        resume_token: required(data, "resumeToken")?,
        rooms: ResumeRooms::new(rooms),
    })
}

/// R-ROOM-1. A client names a room as R-ID-2 says; server ids are the server's to give.
fn create<'a>(data: Data<'a>) -> Result<Command<'a>, Refusal> {
    let kind = RoomType::parse(required(data, "type")?).ok_or(Refusal::field("type"))?;
    let recipient_id = match kind {
        RoomType::Direct => Some(user_id(data, "recipientId")?),
        RoomType::Public | RoomType::Private => None,
    };
    let name = match kind {
        // Its two users see each other's name; the room needs none.
        RoomType::Direct => room_name(data)?.unwrap_or(""),
        RoomType::Public | RoomType::Private => room_name(data)?.ok_or(Refusal::field("name"))?,
    };
    let description = room_description(data)?.unwrap_or("");
    Ok(Command::Create {
        room_id: checked(data.str("roomId")?, is_app_room_name, "roomId")?,
        command: RoomCommand::Create { name, description, kind, recipient_id },
    })
}

/// R-ROOM-3. An update of nothing lacks a field.
fn update<'a>(data: Data<'a>) -> Result<RoomCommand<'a>, Refusal> {
    let (name, description) = (room_name(data)?, room_description(data)?);
    let slow_mode_s = match data.u64("slowModeSeconds")? {
        None => None,
        Some(seconds) if seconds <= limits::SLOW_MODE_S_MAX.into() => Some(seconds as u32),
        Some(_) => return Err(Refusal::field("slowModeSeconds")),
    };
    if name.is_none() && description.is_none() && slow_mode_s.is_none() {
        return Err(Refusal::field("name"));
    }
    Ok(RoomCommand::Update { name, description, slow_mode_s })
}

/// A position in a stream; none if a part is missing or of the wrong form.
pub(super) fn position<'a>(data: Data<'a>) -> Option<Position<'a>> {
    let epoch = data.str("epoch").ok()??;
    let offset = data.u64("offset").ok()??;
    (characters(epoch) <= limits::EPOCH_CHARS_MAX).then_some(Position { epoch, offset })
}

/// The name of a live event.
fn event<'a>(data: Data<'a>) -> Result<&'a str, Refusal> {
    let event = required(data, "event")?;
    if is_short_id(event) { Ok(event) } else { Err(Refusal::field("event")) }
}

/// Any JSON, as text.
fn payload<'a>(data: Data<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a str, Refusal> {
    match data.value("payload") {
        None => Ok("null"),
        Some(value) => compact(value, scratch),
    }
}

fn room_id<'a>(data: Data<'a>) -> Result<&'a str, Refusal> {
    let id = required(data, "roomId")?;
    if is_room_id(id) { Ok(id) } else { Err(Refusal::field("roomId")) }
}

fn user_id<'a>(data: Data<'a>, field: &'static str) -> Result<&'a str, Refusal> {
    let id = required(data, field)?;
    if is_user_id(id) { Ok(id) } else { Err(Refusal::field(field)) }
}

/// Being invited is no role that one can give: `invite_member` does that.
fn role(data: Data<'_>) -> Result<Role, Refusal> {
    match Role::parse(required(data, "role")?) {
        None | Some(Role::Invited) => Err(Refusal::field("role")),
        Some(role) => Ok(role),
    }
}

fn room_name<'a>(data: Data<'a>) -> Result<Option<&'a str>, Refusal> {
    checked(data.str("name")?, |name| (1..=limits::ROOM_NAME_CHARS_MAX).contains(&characters(name)), "name")
}

fn room_description<'a>(data: Data<'a>) -> Result<Option<&'a str>, Refusal> {
    let fits = |text: &str| characters(text) <= limits::ROOM_DESCRIPTION_CHARS_MAX;
    checked(data.str("description")?, fits, "description")
}

/// A page size from 1 to `max`.
fn limit(data: Data<'_>, default: u32, max: u32) -> Result<u32, Refusal> {
    match data.u64("limit")? {
        None => Ok(default),
        Some(limit) if (1..=u64::from(max)).contains(&limit) => Ok(limit as u32),
        Some(_) => Err(Refusal::field("limit")),
    }
}

fn required<'a>(data: Data<'a>, field: &'static str) -> Result<&'a str, Refusal> {
    data.str(field)?.ok_or(Refusal::field(field))
}

fn checked<'a>(
    text: Option<&'a str>,
    is_good: impl Fn(&str) -> bool,
    field: &'static str,
) -> Result<Option<&'a str>, Refusal> {
    if text.is_none_or(is_good) { Ok(text) } else { Err(Refusal::field(field)) }
}

/// A character is a code point.
fn characters(text: &str) -> usize {
    text.chars().count()
}

/// The value as compact JSON text, in `scratch`.
fn compact<'a>(value: Value<'_, '_>, scratch: &'a mut Vec<u8>) -> Result<&'a str, Refusal> {
    scratch.clear();
    value.write(scratch);
    // What is written is made of parsed text and ASCII; that it is UTF-8 cannot be said without a look.
    str::from_utf8(scratch).map_err(|_| Refusal::new(Code::Internal))
}

#[cfg(test)]
mod tests;
