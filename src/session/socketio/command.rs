//! An event of the client → a native message of its connection (product section 3.1, R-SIO-1, R-SIO-2).
//!
//! `["send_message",{…}]` becomes `{"id":"~","type":"send_message","data":{…}}`; native and Socket.IO names both work, on both
//! protocols. With `sio.app_events` an event that is not of the vocabulary becomes a `broadcast` to one room: the one that the first
//! argument's `roomId` names, else the room of the namespace. Its arguments travel as one array.
use super::request_id::RequestId;
use super::{NAMESPACE_ROOM_PREFIX, Namespace, Output, Settings};
use crate::session::command::answers_itself;
use crate::session::decode::is_command;
use crate::wire::socketio::encode;
use crate::wire::{json, raw};
use std::borrow::Cow;
use std::ops::Range;

/// `arguments` is the event's checked JSON array: its name, then what goes with it.
pub(super) fn event(
    settings: &Settings,
    namespace: Namespace,
    arguments: &[u8],
    ack_id: Option<u64>,
    out: &mut Output,
) {
    let mut elements = raw::elements(arguments);
    let name = elements.next().map_or(Cow::Borrowed(""), |name| text(&arguments[name]));
    let first = elements.clone().next();
    let argument = first.clone().map_or(&b"{}"[..], |range| &arguments[range]);
    let request = RequestId { ack_id };
    let mut send = |request, kind: &str, data: &dyn Fn(&mut Vec<u8>)| {
        out.command(namespace, |bytes| message(bytes, request, kind, data));
    };
    match &*name {
        // Live: accepted by its room's home, or refused.
        "broadcast" if ack_id.is_some() => {
            send(request, "broadcast", &|bytes| with_ack(argument, bytes));
        }
        // Answered by errors or an event only: whoever waits for an ack gets it at once.
        kind if answers_itself(kind) && kind != "broadcast" => {
            send(RequestId { ack_id: None }, kind, &|bytes| bytes.extend_from_slice(argument));
            if let Some(id) = ack_id {
                out.send(|bytes| done(bytes, settings.name(namespace), id));
            }
        }
        kind if is_command(kind) || !settings.app_events => {
            send(request, kind, &|bytes| bytes.extend_from_slice(argument));
        }
        "join" | "leave" => {
            let kind = if name == "join" { "join_room" } else { "leave_room" };
            send(request, kind, &|bytes| match argument {
                [b'"', ..] => {
                    bytes.extend_from_slice(br#"{"roomId":"#);
                    bytes.extend_from_slice(argument);
                    bytes.push(b'}');
                }
                _ => bytes.extend_from_slice(argument),
            });
        }
        name => {
            let payload = first.map_or(0..0, |first| first.start..elements.last().map_or(first.end, |last| last.end));
            send(request, "broadcast", &|bytes| {
                bytes.extend_from_slice(br#"{"roomId":"#);
                match room_of(argument) {
                    Some(room) => bytes.extend_from_slice(room),
                    None => namespace_room(settings.name(namespace), bytes),
                }
                bytes.extend_from_slice(br#","event":"#);
                json::string(bytes, name);
                bytes.extend_from_slice(br#","payload":["#);
                bytes.extend_from_slice(&arguments[payload.clone()]);
                bytes.extend_from_slice(if ack_id.is_some() { br#"],"ack":true}"# } else { b"]}" });
            });
        }
    }
}

/// With `sio.app_events`: everyone in a namespace is in its room. Nobody waits for the answer.
pub(super) fn join_namespace_room(namespace: &str, out: &mut Vec<u8>) {
    message(out, RequestId { ack_id: None }, "join_room", &|bytes| {
        bytes.extend_from_slice(br#"{"roomId":"#);
        namespace_room(namespace, bytes);
        bytes.push(b'}');
    });
}

/// Appends the id of a namespace's room as a JSON string: `ns:` and the name without its slash. Names need no escaping.
fn namespace_room(namespace: &str, out: &mut Vec<u8>) {
    for piece in ["\"", NAMESPACE_ROOM_PREFIX, namespace.trim_start_matches('/'), "\""] {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn message(out: &mut Vec<u8>, request: RequestId, kind: &str, data: &dyn Fn(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"id\":\"");
    request.write(out);
    out.extend_from_slice(b"\",\"type\":");
    json::string(out, kind);
    out.extend_from_slice(b",\"data\":");
    data(out);
    out.push(b'}');
}

/// The ack of what cannot fail, or tells of it otherwise.
fn done(out: &mut Vec<u8>, namespace: &str, ack_id: u64) {
    encode::ack(out, namespace, 0, ack_id);
    out.extend_from_slice(br#"[{"ok":true,"result":{}}]"#);
}

/// The data object of a `broadcast` with `"ack":true` in it. What is no object is the decoder's to refuse.
fn with_ack(argument: &[u8], out: &mut Vec<u8>) {
    let Some(members) = argument.strip_prefix(b"{") else { return out.extend_from_slice(argument) };
    out.extend_from_slice(br#"{"ack":true"#);
    if members.trim_ascii() != b"}" {
        out.push(b',');
    }
    out.extend_from_slice(members);
}

/// The JSON string that the member `roomId` of an object is.
fn room_of(object: &[u8]) -> Option<&[u8]> {
    let room = raw::members(object).filter(|(key, _)| &object[key.clone()] == br#""roomId""#).last();
    room.map(|(_, value): (_, Range<usize>)| &object[value]).filter(|value| value.starts_with(b"\""))
}

/// The text of a JSON string; of anything else, its JSON.
fn text(json: &[u8]) -> Cow<'_, str> {
    let plain = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match plain {
        Some(plain) if memchr::memchr(b'\\', plain).is_none() => String::from_utf8_lossy(plain),
        Some(_) => serde_json::from_slice::<String>(json).map_or(Cow::Borrowed(""), Cow::Owned),
        None => String::from_utf8_lossy(json),
    }
}
