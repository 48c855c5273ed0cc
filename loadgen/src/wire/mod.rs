//! The client side of the protocols, sans-IO: commands become bytes, bytes become what the engine has to know.
//!
//! ```text
//! upgrade              the HTTP request and its answer
//! frame                WebSocket frames: masked out, unmasked in
//! native               Throng's own envelope, also spoken by most peers
//! socketio             Engine.IO 4 and Socket.IO 5: Throng's /socket.io/, and a peer
//! nchan                what a peer speaks instead
//! event                what stands in an event, the same in `native` and `socketio`
//! ```
//!
//! Nothing here builds a JSON tree. A message is decided by its first bytes and read at the places where the server is known to
//! write its keys; all else is `Incoming::Other`. Keys are searched for together with their quotation marks, which inside a
//! JSON string would be escaped, so that no text can pass for a key.
mod event;
pub mod frame;
mod native;
mod nchan;
mod socketio;
mod upgrade;

use crate::stamp::Stamp;
pub use event::recovered_events;

/// What is spoken behind the upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `docs/PROTOCOL.md`.
    #[default]
    Native,
    /// Engine.IO 4 and Socket.IO 5 over WebSocket alone, with the events and data of the native protocol: to Throng and to the
    /// peer alike. Not measurable on it: durable messages and recovery, for the peer stores nothing; refusals of single live
    /// events, which have no id there.
    SocketIo,
    /// Raw messages through a channel of nginx with nchan. Not measurable on it: more than one room per connection; live events
    /// without the sender among the receivers (a scenario must say `include_self`); durable messages, recovery, typing,
    /// activity, refusals. A heartbeat is a WebSocket ping. The server reads and writes no JSON, so what it costs is a lower
    /// bound of what the others are asked to do.
    Nchan,
}

/// Who connects.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub user: &'a str,
    /// Goes into `Authorization`, unless the dialect says it in `Command::Hello`.
    pub token: Option<&'a str>,
}

/// What a client sends. Names of rooms hold nothing that JSON or a URL would have to escape.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// What the dialect must say after the upgrade; often nothing. The token is that of the `Identity`.
    Hello {
        token: Option<&'a str>,
    },
    /// `request` comes back in `Incoming::Joined`. `recover`: epoch and offset of the last durable message that came.
    Join {
        room: &'a str,
        request: u32,
        recover: Option<(&'a str, u64)>,
    },
    /// A payload of the stamp and padding, `payload_bytes` long, but at least `Stamp::BYTES`.
    Live {
        room: &'a str,
        stamp: Stamp,
        payload_bytes: u32,
        include_self: bool,
    },
    /// A text of the stamp and padding. The stamp alone is also the id by which the server knows a repeat.
    Durable {
        room: &'a str,
        stamp: Stamp,
        text_bytes: u32,
    },
    /// `intended_ns` comes back in `Incoming::HeartbeatAnswer`.
    Heartbeat {
        intended_ns: u64,
    },
    Typing {
        room: &'a str,
    },
    Activity,
    /// What `Incoming::Reply` asked for.
    Reply(Reply<'a>),
    Close {
        code: u16,
    },
}

/// What the protocol demands of a client at once, without a decision of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// To a WebSocket ping, with its payload.
    Pong(&'a [u8]),
    /// To the ping of Engine.IO.
    Alive,
    /// The server closes with this code (1005: it gave none), and this is the echo. Nothing may be sent after it.
    Close(u16),
}

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Incoming<'a> {
    /// Signed in; commands may be sent.
    Ready,
    Joined {
        request: u32,
    },
    /// `body` is the whole message, for `recovered_events`. Its stamps are no deliveries.
    RoomState {
        room: &'a str,
        recovered: Option<bool>,
        epoch: &'a str,
        offset: u64,
        body: &'a [u8],
    },
    Acked {
        stamp: Stamp,
        is_duplicate: bool,
    },
    HeartbeatAnswer {
        intended_ns: u64,
    },
    Live(Stamp),
    Durable {
        stamp: Stamp,
        offset: u64,
        epoch: &'a str,
    },
    /// `stamp` of a refused durable message or live event, `request` of a refused join. A live event's stamp comes back without
    /// its intended time, which is 0: to send it along would make every event longer.
    Refused {
        code: &'a str,
        stamp: Option<Stamp>,
        request: Option<u32>,
        retry_after_ms: Option<u64>,
    },
    Reply(Reply<'a>),
    ServerClosing,
    Other,
}

impl Dialect {
    /// As `--protocol` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Native => "native",
            Dialect::SocketIo => "socketio",
            Dialect::Nchan => "nchan",
        }
    }

    /// Whether it has a word for durable messages.
    pub const fn is_durable(self) -> bool {
        matches!(self, Dialect::Native)
    }

    /// Whether the token is said after the upgrade, in `Command::Hello`.
    pub const fn signs_in_late(self) -> bool {
        matches!(self, Dialect::SocketIo)
    }

    /// Appends the HTTP request. `rooms` are those that a dialect without joins has to name now; it takes the first.
    pub fn upgrade(self, out: &mut Vec<u8>, host: &str, identity: &Identity<'_>, rooms: &[&str]) {
        let path: [&str; 2] = match self {
            Dialect::Native => ["/ws", ""],
            Dialect::SocketIo => ["/socket.io/?EIO=4&transport=websocket", ""],
            Dialect::Nchan => ["/ws/", rooms.first().unwrap_or(&"none")],
        };
        upgrade::request(out, &path, host, identity.token.filter(|_| !self.signs_in_late()));
    }

    /// Whether the server accepted, and how many bytes of `head` its answer took; what follows are frames. `None` while the
    /// answer is incomplete; an error with status and reason if it refused.
    pub fn accepted(self, head: &[u8]) -> Result<Option<usize>, String> {
        upgrade::answer(head)
    }

    /// Whether the server says `Incoming::Ready` by itself, once it knows who has come.
    pub const fn greets(self) -> bool {
        !matches!(self, Dialect::Nchan)
    }

    /// Whether rooms are joined by commands; otherwise the request has named the room.
    pub const fn joins(self) -> bool {
        !matches!(self, Dialect::Nchan)
    }

    /// Appends complete masked frames; none where the dialect has no word for the command.
    pub fn write(self, command: &Command<'_>, out: &mut Vec<u8>) {
        match (command, self) {
            (Command::Reply(Reply::Pong(payload)), _) => frame::masked(frame::PONG, payload, out),
            (Command::Reply(Reply::Close(1005)), _) => frame::masked(frame::CLOSE, b"", out),
            (Command::Reply(Reply::Close(code)) | Command::Close { code }, _) => {
                frame::masked(frame::CLOSE, &code.to_be_bytes(), out);
            }
            (_, Dialect::Native) => native::write(command, out),
            (_, Dialect::SocketIo) => socketio::write(command, out),
            (_, Dialect::Nchan) => nchan::write(command, out),
        }
    }

    /// Reads one whole message, or a control frame.
    pub fn read(self, opcode: u8, payload: &[u8]) -> Incoming<'_> {
        match (opcode, self) {
            (frame::TEXT, Dialect::Native) => native::read(payload),
            (frame::TEXT, Dialect::SocketIo) => socketio::read(payload),
            (frame::TEXT, Dialect::Nchan) => nchan::read(payload),
            (frame::PING, _) => Incoming::Reply(Reply::Pong(payload)),
            (frame::CLOSE, _) => Incoming::Reply(Reply::Close(frame::close_code(payload))),
            (frame::PONG, Dialect::Nchan) => nchan::pong(payload),
            _ => Incoming::Other,
        }
    }
}

/// Appends a number in decimal.
fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Appends the stamp and padding up to `bytes`.
fn padded(out: &mut Vec<u8>, stamp: Stamp, bytes: u32) {
    let end = out.len() + Stamp::BYTES.max(bytes as usize);
    out.extend_from_slice(&stamp.to_text());
    out.resize(end, b'.');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_frames_are_answered_alike_everywhere() {
        for dialect in [Dialect::Native, Dialect::SocketIo, Dialect::Nchan] {
            assert_eq!(dialect.read(frame::PING, b"abc"), Incoming::Reply(Reply::Pong(b"abc")));
            assert_eq!(dialect.read(frame::CLOSE, &[16, 5, b'x']), Incoming::Reply(Reply::Close(4101)));
            assert_eq!(dialect.read(frame::CLOSE, b""), Incoming::Reply(Reply::Close(1005)));
            assert_eq!(dialect.read(2, b"{}"), Incoming::Other);
            let mut out = Vec::new();
            dialect.write(&Command::Reply(Reply::Close(1005)), &mut out);
            assert_eq!(out[..2], [0x88, 0x80], "no code, no code back");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_usual(value: u64) {
            let mut out = b"x".to_vec();
            decimal(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("x{value}"));
        }

        /// Whatever comes in, reading it ends without a panic.
        #[test]
        fn nothing_that_is_read_is_fatal(noise in ".{0,80}", opcode in 0_u8..16, cut in 0_usize..400, kind in 0_usize..6) {
            let shapes = [
                r#"{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","type":"chat_message","data":{"id":"msg_1","message":"tl1|00000000|"#,
                r#"{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","type":"room_state","data":{"roomId":"lobby","epoch":"x","offset":"#,
                r#"{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","type":"ack","data":{"requestId":"v1.2"#,
                r#"{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","type":"error","data":{"code":""#,
                r#"42["broadcast",{"payload":"tl1|"#,
                "43",
            ];
            let text = shapes[kind];
            let payload = [&text.as_bytes()[..cut.min(text.len())], noise.as_bytes()].concat();
            for dialect in [Dialect::Native, Dialect::SocketIo, Dialect::Nchan] {
                if let Incoming::RoomState { body, .. } = dialect.read(opcode, &payload) {
                    recovered_events(body, |_, _| {});
                }
            }
        }
    }
}
