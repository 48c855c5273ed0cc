//! An event of the client → a native message of its connection (product section 3.1, R-SIO-1, R-SIO-2).
//!
//! `["send_message",{…}]` becomes `{"id":"~","type":"send_message","data":{…}}`; native and Socket.IO names both work, on both
//! protocols. With `sio.app_events` an event that is not of the vocabulary becomes a `broadcast` to one room: the one that the first
//! argument's `roomId` names, else the room of the namespace. Its arguments travel as one array. `ask` with the name of such an event
//! before its arguments asks the same room; the ack of a question, whatever it was called, becomes an `answer`.
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
    let argument = elements.clone().next().map_or(&b"{}"[..], |range| &arguments[range]);
    let request = RequestId { ack_id };
    let send = |out: &mut Output, request, kind: &str, data: &dyn Fn(&mut Vec<u8>)| {
        out.command(namespace, |bytes| message(bytes, request, kind, data));
    };
    match &*name {
        // Live: accepted by its room's home, or refused.
        "broadcast" if ack_id.is_some() => {
            send(out, request, "broadcast", &|bytes| with_ack(argument, bytes));
        }
        // Answers to the server's questions are acks; the name is the application's: that of the answer to a call, say.
        "answer" if settings.app_events => {
            relay(settings, namespace, request, "broadcast", &name, arguments, elements, out);
        }
        "ask" if settings.app_events && argument.starts_with(b"\"") => {
            elements.next();
            relay(settings, namespace, request, "ask", &text(argument), arguments, elements, out);
        }
        // Answered by errors or an event only: whoever waits for an ack gets it at once.
        kind if answers_itself(kind) && kind != "broadcast" => {
            send(out, RequestId { ack_id: None }, kind, &|bytes| bytes.extend_from_slice(argument));
            if let Some(id) = ack_id {
                out.send(|bytes| done(bytes, settings.name(namespace), id));
            }
        }
        kind if is_command(kind) || !settings.app_events => {
            send(out, request, kind, &|bytes| bytes.extend_from_slice(argument));
        }
        "join" | "leave" => {
            let kind = if name == "join" { "join_room" } else { "leave_room" };
            send(out, request, kind, &|bytes| match argument {
                [b'"', ..] => {
                    bytes.extend_from_slice(br#"{"roomId":"#);
                    bytes.extend_from_slice(argument);
                    bytes.push(b'}');
                }
                _ => bytes.extend_from_slice(argument),
            });
        }
        name => relay(settings, namespace, request, "broadcast", name, arguments, elements, out),
    }
}

/// An event of an application, as a `broadcast` or an `ask`. `rest` are the event's own arguments, as ranges of `arguments`.
#[allow(clippy::too_many_arguments)] // what an event is made of
fn relay(
    settings: &Settings,
    namespace: Namespace,
    request: RequestId,
    kind: &str,
    event: &str,
    arguments: &[u8],
    mut rest: raw::Elements<'_>,
    out: &mut Output,
) {
    let first = rest.next();
    let room = first.clone().and_then(|first| room_of(&arguments[first]));
    let payload = first.map_or(0..0, |first| first.start..rest.last().map_or(first.end, |last| last.end));
    let data = |bytes: &mut Vec<u8>| {
        bytes.extend_from_slice(br#"{"roomId":"#);
        match room {
            Some(room) => bytes.extend_from_slice(room),
            None => namespace_room(settings.name(namespace), bytes),
        }
        bytes.extend_from_slice(br#","event":"#);
        json::string(bytes, event);
        bytes.extend_from_slice(br#","payload":["#);
        bytes.extend_from_slice(&arguments[payload.clone()]);
        let wants_ack = kind == "broadcast" && request.ack_id.is_some();
        bytes.extend_from_slice(if wants_ack { br#"],"ack":true}"# } else { b"]}" });
    };
    out.command(namespace, |bytes| message(bytes, request, kind, &data));
}

/// The client's ack of a question → `answer`. `arguments` is its checked JSON array; the first one is the answer, as for npm socket.io.
pub(super) fn answer(namespace: Namespace, ask_id: u64, arguments: &[u8], out: &mut Output) {
    let payload = raw::elements(arguments).next().map_or(&b"null"[..], |first| &arguments[first]);
    let data = |bytes: &mut Vec<u8>| {
        bytes.extend_from_slice(br#"{"askId":"#);
        json::integer(bytes, ask_id);
        bytes.extend_from_slice(br#","payload":"#);
        bytes.extend_from_slice(payload);
        bytes.push(b'}');
    };
    out.command(namespace, |bytes| message(bytes, RequestId { ack_id: None }, "answer", &data));
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
