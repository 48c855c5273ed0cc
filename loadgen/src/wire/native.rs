//! Throng's own protocol (docs/PROTOCOL.md): `{"id", "type", "data", "timestamp"}` in a text message each.
//!
//! Ids say what they belong to, so that an answer needs no table: `j7` is join 7, `v1.2.3` the third live event of publisher 2 in
//! room 1, a stamp the durable message that carries it; heartbeats, typing and activity need none.
use super::{Command, Incoming, Reply, decimal, event, frame, padded};
use memchr::{memchr, memmem};

/// Appends the frame of a command.
pub fn write(command: &Command<'_>, out: &mut Vec<u8>) {
    match *command {
        Command::Hello { .. } | Command::Reply(Reply::Alive) => return,
        // The same in every dialect, and written by it.
        Command::Reply(Reply::Pong(_) | Reply::Close(_)) | Command::Close { .. } => return,
        _ => {}
    }
    frame::write(frame::TEXT, out, |out| message(command, out));
}

fn message(command: &Command<'_>, out: &mut Vec<u8>) {
    match *command {
        Command::Join { request, .. } => {
            put(out, r#"{"id":"j"#);
            decimal(out, request.into());
            put(out, r#"","type":"join_room","data":"#);
        }
        Command::Live { stamp, .. } => {
            put(out, r#"{"id":""#);
            event::write_live_id(out, stamp);
            put(out, r#"","type":"broadcast","data":"#);
        }
        Command::Durable { stamp, .. } => {
            put(out, r#"{"id":""#);
            out.extend_from_slice(&stamp.to_text());
            put(out, r#"","type":"chat_message","data":"#);
        }
        Command::Heartbeat { .. } => put(out, r#"{"id":"h","type":"heartbeat","data":"#),
        Command::Typing { .. } => put(out, r#"{"id":"t","type":"typing_start","data":"#),
        _ => put(out, r#"{"id":"a","type":"activity","data":"#),
    }
    data(command, out);
    out.push(b'}');
}

/// The data object of a command, `{}` for those that have none.
pub fn data(command: &Command<'_>, out: &mut Vec<u8>) {
    match *command {
        Command::Join { room, recover, .. } => {
            in_room(out, room);
            if let Some((epoch, offset)) = recover {
                put(out, r#","recover":{"epoch":""#);
                put(out, epoch);
                put(out, r#"","offset":"#);
                decimal(out, offset);
                out.push(b'}');
            }
        }
        Command::Live { room, stamp, payload_bytes, include_self } => {
            in_room(out, room);
            put(out, r#","event":"move","payload":""#);
            padded(out, stamp, payload_bytes);
            put(out, if include_self { r#"","includeSelf":true"# } else { "\"" });
        }
        Command::Durable { room, stamp, text_bytes } => {
            in_room(out, room);
            put(out, r#","message":""#);
            padded(out, stamp, text_bytes);
            out.push(b'"');
        }
        Command::Heartbeat { intended_ns } => {
            put(out, r#"{"timestamp":"#);
            decimal(out, intended_ns);
        }
        Command::Typing { room } => in_room(out, room),
        _ => out.push(b'{'),
    }
    out.push(b'}');
}

fn in_room(out: &mut Vec<u8>, room: &str) {
    put(out, r#"{"roomId":""#);
    put(out, room);
    out.push(b'"');
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Reads a text message. The first `"type":` of the envelope decides. It mostly stands behind an id of the server's, `evt_` and
/// a ULID.
pub fn read(payload: &[u8]) -> Incoming<'_> {
    const KEY: &[u8] = br#""type":""#;
    const USUAL: usize = r#"{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","#.len();
    let at = match payload.get(USUAL..).is_some_and(|rest| rest.starts_with(KEY)) {
        true => USUAL,
        false => match memmem::find(&payload[..payload.len().min(160)], KEY) {
            Some(at) => at,
            None => return Incoming::Other,
        },
    };
    let rest = &payload[at + KEY.len()..];
    match memchr(b'"', rest) {
        Some(end) => event::read(&rest[..end], &rest[end..], payload),
        None => Incoming::Other,
    }
}

#[cfg(test)]
mod tests;
