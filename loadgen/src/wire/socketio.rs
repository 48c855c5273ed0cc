//! Engine.IO 4 and Socket.IO 5 over WebSocket alone, with the events and data of the native protocol.
//!
//! `0{…}` opens, `40` and its answer connect the namespace, `42["name",{…}]` is an event, `42N[…]` one that is answered by
//! `43N[…]`, and the server's `2` is answered by `3`. Long-polling and the change to WebSocket are not spoken.
//!
//! What cannot be measured on it: durable messages and recovery (the peer stores nothing; a join's position is not sent, and no
//! `room_state` comes), so chat scenarios; and refusals of single live events, which have no id here.
use super::{Command, Incoming, Reply, decimal, event, frame, native};
use memchr::memchr;

/// Appends the frame of a command; nothing for a durable message.
pub fn write(command: &Command<'_>, out: &mut Vec<u8>) {
    let (name, request) = match *command {
        Command::Hello { token: None } => return frame::masked(frame::TEXT, b"40", out),
        Command::Hello { token: Some(token) } => {
            return frame::write(frame::TEXT, out, |out| {
                [r#"40{"token":""#, token, "\"}"].iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
            });
        }
        Command::Reply(Reply::Alive) => return frame::masked(frame::TEXT, b"3", out),
        Command::Join { request, .. } => ("join_room", Some(request)),
        Command::Live { .. } => ("broadcast", None),
        Command::Heartbeat { .. } => ("heartbeat", None),
        Command::Typing { .. } => ("typing_start", None),
        Command::Activity => ("activity", None),
        Command::Durable { .. } | Command::Reply(_) | Command::Close { .. } => return,
    };
    frame::write(frame::TEXT, out, |out| {
        out.extend_from_slice(b"42");
        if let Some(request) = request {
            decimal(out, request.into());
        }
        out.extend_from_slice(b"[\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\",");
        match *command {
            // Recovery is no part of it.
            Command::Join { room, request, .. } => native::data(&Command::Join { room, request, recover: None }, out),
            _ => native::data(command, out),
        }
        out.push(b']');
    });
}

/// Reads a text message.
pub fn read(payload: &[u8]) -> Incoming<'_> {
    match payload {
        [b'4', b'2', b'[', b'"', rest @ ..] => match memchr(b'"', rest) {
            Some(end) => event::read(&rest[..end], &rest[end..], payload),
            None => Incoming::Other,
        },
        [b'4', b'3', rest @ ..] => ack(rest).unwrap_or(Incoming::Other),
        [b'2'] => Incoming::Reply(Reply::Alive),
        [b'4', b'0', ..] => Incoming::Ready,
        [b'4', b'4', ..] => {
            Incoming::Refused { code: "connect_error", stamp: None, request: None, retry_after_ms: None }
        }
        [b'1'] | [b'4', b'1', ..] => Incoming::ServerClosing,
        _ => Incoming::Other,
    }
}

/// `N[{"ok":true,"result":…}]`, or a refusal: `N[{"ok":false,"error":{"code":…}}]`. Joins alone ask for one.
fn ack(rest: &[u8]) -> Option<Incoming<'_>> {
    let request = event::number_at(rest)?.try_into().ok()?;
    let answer = &rest[memchr(b'[', rest)?..];
    if answer.starts_with(br#"[{"ok":false"#) {
        return Some(event::refused_request(answer, request));
    }
    Some(Incoming::Joined { request })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;
    use crate::wire::Dialect;

    const STAMP: Stamp = Stamp { room: 7, publisher: 1, number: 42, intended_ns: 5_000_000_000 };

    fn written(command: &Command<'_>) -> String {
        let mut out = Vec::new();
        Dialect::SocketIo.write(command, &mut out);
        // Masked and below 126 bytes, or with a length of two bytes.
        let at = if out[1] & 0x7f == 126 { 8 } else { 6 };
        let (head, payload) = out.split_at(at);
        let payload = payload.iter().zip(head[at - 4..].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        String::from_utf8(payload).unwrap()
    }

    fn read(text: &str) -> Incoming<'_> {
        Dialect::SocketIo.read(frame::TEXT, text.as_bytes())
    }

    #[test]
    fn packets_out() {
        assert_eq!(written(&Command::Hello { token: None }), "40");
        assert_eq!(written(&Command::Hello { token: Some("a.b.c") }), r#"40{"token":"a.b.c"}"#);
        assert_eq!(written(&Command::Reply(Reply::Alive)), "3");
        let join = Command::Join { room: "r", request: 12, recover: Some(("e", 1)) };
        assert_eq!(written(&join), r#"4212["join_room",{"roomId":"r"}]"#);
        assert_eq!(written(&Command::Heartbeat { intended_ns: 7 }), r#"42["heartbeat",{"timestamp":7}]"#);
        assert_eq!(written(&Command::Activity), r#"42["activity",{}]"#);
        let live = written(&Command::Live { room: "r", stamp: STAMP, payload_bytes: 50, include_self: true });
        let stamp = String::from_utf8(STAMP.to_text().to_vec()).unwrap();
        let expected =
            format!(r#"42["broadcast",{{"roomId":"r","event":"move","payload":"{stamp}..","includeSelf":true}}]"#);
        assert_eq!(live, expected);
    }

    #[test]
    fn packets_in() {
        assert_eq!(read(r#"0{"sid":"x","upgrades":[],"pingInterval":25000}"#), Incoming::Other);
        assert_eq!(read(r#"40{"sid":"x"}"#), Incoming::Ready);
        assert_eq!(read("2"), Incoming::Reply(Reply::Alive));
        assert_eq!(read(r#"4312[{"ok":true,"result":{"role":null}}]"#), Incoming::Joined { request: 12 });
        let refused = r#"4312[{"ok":false,"error":{"code":"access_denied","message":"no","retryable":false}}]"#;
        let expected =
            Incoming::Refused { code: "access_denied", stamp: None, request: Some(12), retry_after_ms: None };
        assert_eq!(read(refused), expected);
        assert_eq!((read("43[]"), read("4312")), (Incoming::Other, Incoming::Other));
        let refused = r#"42["error",{"code":"rate_limited","retryAfterMs":5,"requestId":null}]"#;
        let expected = Incoming::Refused { code: "rate_limited", stamp: None, request: None, retry_after_ms: Some(5) };
        assert_eq!(read(refused), expected);
        let stamp = String::from_utf8(STAMP.to_text().to_vec()).unwrap();
        let live = format!(r#"42["broadcast",{{"roomId":"r","userId":"u","event":"move","payload":"{stamp}.."}}]"#);
        assert_eq!(read(&live), Incoming::Live(STAMP));
        // Recovery adds a position as last argument.
        assert_eq!(read(&live.replace("}]", "},\"offset\"]")), Incoming::Live(STAMP));
        let answer = r#"42["heartbeat_response",{"timestamp":1700000000000,"clientTimestamp":9}]"#;
        assert_eq!(read(answer), Incoming::HeartbeatAnswer { intended_ns: 9 });
        assert!(matches!(read(r#"44{"message":"no"}"#), Incoming::Refused { code: "connect_error", .. }));
        assert_eq!(read("1"), Incoming::ServerClosing);
        assert_eq!(read(r#"42["user_joined",{}]"#), Incoming::Other);
        assert_eq!(read(r#"42["broadcast"#), Incoming::Other);
    }
}
