//! Native messages → Socket.IO packets, as WebSocket frames: names of product sections 3.1 and 3.2, acks, errors, attachments, and the
//! offsets of connection state recovery.
//!
//! A binary event is several frames, which belong together: [`SocketIo::frame_len`] counts them as one.
use super::Parts;
use crate::base::close::CloseCode;
use crate::base::refusal::Code;
use crate::limits::ATTACHMENTS_MAX;
use crate::rooms::effects::Class;
use crate::session::encode::{Kind, Native, Vocabulary as _};
use crate::session::socketio::{NAMESPACE_ROOM_PREFIX, RequestId};
use crate::wire::engineio::{Revision, binary_prefix};
use crate::wire::socketio::{attachments, encode, is_reserved};
use crate::wire::ws::{self, FrameBuffer, Opcode, append_frame};
use crate::wire::{json, raw};
use smallvec::SmallVec;

/// How one kind of Socket.IO connection is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketIo {
    pub namespace: Box<str>,
    pub revision: Revision,
    /// Connection state recovery (R-REC-3): CONNECT replies carry a `pid`, durable events an offset.
    pub has_recovery: bool,
    /// `sio.app_events`: a live event goes out under its own name.
    pub app_events: bool,
}

/// What transcoding to Socket.IO needs, kept warm.
#[derive(Debug, Default)]
pub struct Scratch {
    frame: FrameBuffer,
    arguments: Vec<u8>,
    split: Vec<u8>,
    attachments: Vec<u8>,
    ends: SmallVec<[u32; ATTACHMENTS_MAX]>,
}

/// An event's name on Socket.IO.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "new_message",
        Kind::Snapshot => "room_joined",
        Kind::Typing => "user_typing",
        other => Native.name(other),
    }
}

fn name_of(native: &[u8]) -> &[u8] {
    match native {
        b"chat_message" => name(Kind::Message).as_bytes(),
        b"room_state" => name(Kind::Snapshot).as_bytes(),
        b"typing_indicator" => name(Kind::Typing).as_bytes(),
        other => other,
    }
}

/// Whether an event of this name is the server's own. An application's must not pass for one.
///
/// Not so `question`: where applications define events, questions go by the names of these.
fn is_server_event(event: &str) -> bool {
    event == "error"
        || event != "question" && Kind::ALL.iter().any(|kind| event == name(*kind) || event == Native.name(*kind))
}

impl SocketIo {
    /// Appends what a connection of this kind is sent for a native message: no frame, one, or several.
    ///
    /// `connection_established` becomes the CONNECT reply and the event. Acks of requests that nobody waits for, and what happens in
    /// the room of a namespace apart from messages and live events, are not sent.
    pub fn transcode(&self, native: &[u8], class: Option<Class>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let Some(parts) = Parts::of(native) else {
            debug_assert!(false, "a message that the encoder did not write");
            return;
        };
        match parts.kind {
            b"ack" => self.ack(parts.data, scratch, out),
            b"error" => self.error(parts.data, scratch, out),
            b"broadcast" => self.live(&parts, None, scratch, out),
            // The same id for all, so that one packet serves them; their acks bring it back.
            b"question" => self.live(&parts, member(parts.data, b"\"askId\"").and_then(number), scratch, out),
            b"connection_established" => {
                self.connect(parts.data, scratch, out);
                self.event(&parts, class, scratch, out);
            }
            _ if self.app_events && is_in_namespace_room(parts.data) => {}
            _ => self.event(&parts, class, scratch, out),
        }
    }

    /// Bytes of the packet that starts at `bytes[0]`: its frame and those of its attachments, between which nothing may go.
    pub fn frame_len(bytes: &[u8]) -> Option<usize> {
        let mut len = ws::frame_len(bytes)?;
        // `45` or `46`, the number of attachments, `-`.
        if let [b'4', b'5' | b'6', rest @ ..] = ws::payload(&bytes[..len.min(bytes.len())]) {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            let count = digits.fold(0_usize, |sum, digit| sum.saturating_mul(10) + usize::from(digit - b'0'));
            for _ in 0..count.min(ATTACHMENTS_MAX) {
                len += ws::frame_len(bytes.get(len..)?)?;
            }
        }
        Some(len)
    }

    /// The end of a namespace that this close code asks for (R-SIO-2). True: the client was told by `error` and DISCONNECT, and stays
    /// away. False: nothing was appended; drop the transport without a DISCONNECT, so that the client comes back.
    pub fn part(&self, code: CloseCode, scratch: &mut Scratch, out: &mut Vec<u8>) -> bool {
        let Some(refusal) = terminal(code) else { return false };
        if code != CloseCode::Normal {
            self.text(scratch, out, |packet| {
                encode::event(packet, &self.namespace, 0, None);
                packet.extend_from_slice(b"[\"error\",");
                json::object(packet, |error| closed(error, code, refusal));
                packet.push(b']');
            });
        }
        self.text(scratch, out, |packet| encode::disconnect(packet, &self.namespace));
        true
    }

    /// The answer to a CONNECT whose connection was closed with this code before it was signed in.
    pub fn refuse(&self, code: CloseCode, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        json::object(&mut data, |error| closed(error, code, terminal(code).unwrap_or(Code::Overloaded)));
        // Its parts are texts of ours.
        let data = str::from_utf8(&data).unwrap_or("{}");
        self.text(scratch, out, |packet| {
            encode::connect_error(packet, self.revision, &self.namespace, code.reason(), Some(data));
        });
    }

    /// `{"requestId":"~7","result":{…}}` → `437[{"ok":true,"result":{…}}]`.
    fn ack(&self, data: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) {
        let cut = || {
            let rest = data.strip_prefix(b"{\"requestId\":\"")?;
            let (id, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
            Some((id, rest.strip_prefix(b"\",\"result\":")?.strip_suffix(b"}")?))
        };
        let Some((id, result)) = cut() else { return };
        let Some(ack_id) = RequestId::parse(id).and_then(|request| request.ack_id) else { return };
        // Answers, in which clients may have sent binary; nothing else that is acked has any.
        if result.starts_with(b"{\"askId\":") {
            let mut payload = std::mem::take(&mut scratch.arguments);
            payload.clear();
            payload.extend_from_slice(br#"[{"ok":true,"result":"#);
            payload.extend_from_slice(result);
            payload.extend_from_slice(b"}]");
            self.with_attachments(&payload, scratch, out, |packet, count| {
                encode::ack(packet, &self.namespace, count, ack_id);
            });
            scratch.arguments = payload;
            return;
        }
        self.text(scratch, out, |packet| {
            encode::ack(packet, &self.namespace, 0, ack_id);
            packet.extend_from_slice(br#"[{"ok":true,"result":"#);
            packet.extend_from_slice(result);
            packet.extend_from_slice(b"}]");
        });
    }

    /// An ack that says no, if one is waited for, else the event `error`. The request's id, made here, goes to nobody.
    fn error(&self, data: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) {
        // The encoder writes it last.
        const MARK: &[u8] = b",\"requestId\":";
        let (members, id) = match memchr::memmem::rfind(data, MARK) {
            Some(at) => (&data[..at], &data[at + MARK.len()..data.len() - 1]),
            None => (data.strip_suffix(b"}").unwrap_or(data), &b"null"[..]),
        };
        let id = id.strip_prefix(b"\"").and_then(|id| id.strip_suffix(b"\""));
        let ack_id = id.and_then(RequestId::parse).and_then(|request| request.ack_id);
        self.text(scratch, out, |packet| match ack_id {
            Some(id) => {
                encode::ack(packet, &self.namespace, 0, id);
                packet.extend_from_slice(br#"[{"ok":false,"error":"#);
                packet.extend_from_slice(members);
                packet.extend_from_slice(b"}}]");
            }
            None => {
                encode::event(packet, &self.namespace, 0, None);
                packet.extend_from_slice(b"[\"error\",");
                packet.extend_from_slice(members);
                packet.extend_from_slice(b"}]");
            }
        });
    }

    /// The client's public id is its session's, which survives a recovery as it does a resume; the private one proves that it is its.
    fn connect(&self, data: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) {
        let sid = member(data, b"\"sessionId\"").and_then(unquoted).unwrap_or_default();
        let token = member(data, b"\"resumeToken\"").and_then(unquoted).unwrap_or_default();
        let pid = self.has_recovery.then(|| format!("{sid}.{token}"));
        self.text(scratch, out, |packet| {
            encode::connect(packet, self.revision, &self.namespace, sid, pid.as_deref());
        });
    }

    /// `42["new_message",{…}]`, with an offset behind it if it can be missed and recovered.
    fn event(&self, parts: &Parts<'_>, class: Option<Class>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        self.text(scratch, out, |packet| {
            encode::event(packet, &self.namespace, 0, None);
            packet.extend_from_slice(b"[\"");
            packet.extend_from_slice(name_of(parts.kind));
            packet.extend_from_slice(b"\",");
            match parts.kind {
                b"room_state" => snapshot(parts.data, packet),
                _ => packet.extend_from_slice(parts.data),
            }
            // A snapshot bears its room's position: who was in a room where nothing was said yet can come back to it, too.
            let is_position = class == Some(Class::Durable) || parts.kind == b"room_state";
            if self.has_recovery && is_position {
                offset(parts, packet);
            }
            packet.push(b']');
        });
    }

    /// A live event or a question, which has an id: under its own name with its own arguments where applications define events, else as
    /// `broadcast` or `question`.
    fn live(&self, parts: &Parts<'_>, ask_id: Option<u64>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let mut arguments = std::mem::take(&mut scratch.arguments);
        arguments.clear();
        // A question's last argument is the callback, which is never taken for an offset.
        let may_end_as_offset = self.has_recovery && ask_id.is_none();
        if !(self.app_events && own_event(parts, may_end_as_offset, &mut arguments)) {
            arguments.clear();
            arguments.extend_from_slice(b"[\"");
            arguments.extend_from_slice(if self.app_events { &b"broadcast"[..] } else { parts.kind });
            arguments.extend_from_slice(b"\",");
            arguments.extend_from_slice(parts.data);
            arguments.push(b']');
        }
        self.with_attachments(&arguments, scratch, out, |packet, count| {
            encode::event(packet, &self.namespace, count, ask_id);
        });
        scratch.arguments = arguments;
    }

    /// A packet whose head `open` writes. Binary in its payload becomes attachments.
    fn with_attachments(
        &self,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
        open: impl FnOnce(&mut Vec<u8>, usize),
    ) {
        let mut split = std::mem::take(&mut scratch.split);
        split.clear();
        if attachments::split_binary(payload, &mut split, &mut scratch.attachments, &mut scratch.ends) {
            let count = scratch.ends.len();
            self.text(scratch, out, |packet| {
                open(packet, count);
                packet.extend_from_slice(&split);
            });
            let mut start = 0;
            for end in &scratch.ends {
                let end = *end as usize;
                // The type byte of revision 3 and the attachment are one message.
                split.clear();
                split.extend_from_slice(binary_prefix(self.revision));
                split.extend_from_slice(&scratch.attachments[start..end]);
                append_frame(out, Opcode::Binary, &split);
                start = end;
            }
        } else {
            self.text(scratch, out, |packet| {
                open(packet, 0);
                packet.extend_from_slice(payload);
            });
        }
        scratch.split = split;
    }

    fn text(&self, scratch: &mut Scratch, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        scratch.frame.clear();
        write(scratch.frame.payload());
        out.extend_from_slice(scratch.frame.finish(Opcode::Text));
    }
}

/// The error (product section 3.3) that says what a terminal close code does; none of a code after which clients come back.
fn terminal(code: CloseCode) -> Option<Code> {
    Some(match code {
        CloseCode::Normal | CloseCode::Revoked | CloseCode::AuthFailed | CloseCode::TokenExpired => Code::AuthFailed,
        CloseCode::TokenRequired => Code::AuthRequired,
        CloseCode::ProtocolError | CloseCode::Unsupported | CloseCode::InvalidText | CloseCode::Abuse => {
            Code::InvalidFormat
        }
        CloseCode::TooBig => Code::MessageTooLong,
        CloseCode::TooManyConnections => Code::LimitReached,
        CloseCode::Disconnected | CloseCode::Banned | CloseCode::ResumedElsewhere => Code::Forbidden,
        CloseCode::Internal
        | CloseCode::Overloaded
        | CloseCode::SlowConsumer
        | CloseCode::Stale
        | CloseCode::NoPong
        | CloseCode::Flood
        | CloseCode::Drain
        | CloseCode::Migrated => return None,
    })
}

fn closed(error: &mut json::Object<'_>, close: CloseCode, code: Code) {
    error.plain("code", code.as_str(), "").str("message", close.reason()).bool("retryable", code.is_retryable());
    error.num("closeCode", close.number().into());
}

/// Appends `["moved",1,{…}]` made of a live event's `event` and `payload`; false if it has to stay a `broadcast`, since its name is the
/// server's or the library's. A payload that is no array is the only argument.
fn own_event(parts: &Parts<'_>, may_end_as_offset: bool, out: &mut Vec<u8>) -> bool {
    let (Some(event), Some(payload)) = (member(parts.data, b"\"event\""), member(parts.data, b"\"payload\"")) else {
        return false;
    };
    // A name that had to be escaped is none of those.
    if unquoted(event).is_none_or(|event| is_reserved(event) || is_server_event(event)) {
        return false;
    }
    out.push(b'[');
    out.extend_from_slice(event);
    let arguments = payload.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(payload);
    if !arguments.is_empty() {
        out.push(b',');
        out.extend_from_slice(arguments);
    }
    // A client takes any text at the end for an offset once it has a pid. This one tells the time at least. A payload is compact
    // JSON, so what ends in a quote ends in a text; the name alone is no argument.
    if may_end_as_offset && arguments.ends_with(b"\"") {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(parts.timestamp);
        out.push(b'"');
    }
    out.push(b']');
    true
}

/// Appends `,"<Unix ms>.<offset>.<epoch>.<room>"` of a durable event: see `session::socketio::Offset`.
fn offset(parts: &Parts<'_>, out: &mut Vec<u8>) {
    let (mut room, mut offset, mut epoch) = (None, None, None);
    for (key, value) in raw::members(parts.data) {
        let place = match &parts.data[key] {
            b"\"roomId\"" => &mut room,
            b"\"offset\"" => &mut offset,
            b"\"epoch\"" => &mut epoch,
            _ => continue,
        };
        place.get_or_insert(&parts.data[value]);
    }
    out.extend_from_slice(b",\"");
    out.extend_from_slice(parts.timestamp);
    if let (Some(room), Some(offset), Some(epoch)) = (room.and_then(unquoted), offset, epoch.and_then(unquoted)) {
        for piece in [offset, epoch.as_bytes(), room.as_bytes()] {
            out.push(b'.');
            out.extend_from_slice(piece);
        }
    }
    out.push(b'"');
}

/// A snapshot's data: the missed events in it have their Socket.IO names too.
fn snapshot(data: &[u8], out: &mut Vec<u8>) {
    let events = raw::members(data).find(|(key, _)| &data[key.clone()] == b"\"events\"");
    let Some((_, events)) = events else { return out.extend_from_slice(data) };
    out.extend_from_slice(&data[..events.start]);
    json::array(out, |list| {
        for range in raw::elements(&data[events.clone()]) {
            let event = &data[events.clone()][range];
            let cut = event.strip_prefix(b"{\"type\":\"").and_then(|rest| {
                let at = memchr::memchr(b'"', rest)?;
                Some(rest.split_at(at))
            });
            let item = list.item();
            match cut {
                Some((kind, rest)) => {
                    item.extend_from_slice(b"{\"type\":\"");
                    item.extend_from_slice(name_of(kind));
                    item.extend_from_slice(rest);
                }
                None => item.extend_from_slice(event),
            }
        }
    });
    out.extend_from_slice(&data[events.end..]);
}

/// Live events and snapshots of a room begin with its id.
fn is_in_namespace_room(data: &[u8]) -> bool {
    let room = data.strip_prefix(b"{\"roomId\":\"");
    room.is_some_and(|room| room.starts_with(NAMESPACE_ROOM_PREFIX.as_bytes()))
}

fn member<'a>(object: &'a [u8], quoted_key: &[u8]) -> Option<&'a [u8]> {
    raw::members(object).find(|(key, _)| &object[key.clone()] == quoted_key).map(|(_, value)| &object[value])
}

fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// What stands between the quotes, as it is.
fn unquoted(string: &[u8]) -> Option<&str> {
    str::from_utf8(string.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()
}

#[cfg(test)]
mod tests;
