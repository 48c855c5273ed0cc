//! A channel of nginx's nchan over WebSocket: the path names the room, and every message goes as it is to all who are in it.
//!
//! There is no sign-in, no join and no event name: the upgrade is all of them, and the engine takes it for `Ready` and `Joined`.
//! A heartbeat is a WebSocket ping, which nginx answers; it asks less of the server than the JSON of the other dialects.
//!
//! What cannot be measured on it: more than one room per connection; live events without the sender among the receivers (a
//! scenario must say `include_self`); durable messages, recovery, typing, activity, presence; refusals. No JSON is read or
//! written by the server, so what it costs is a lower bound of what the others are asked to do.
use super::{Command, Incoming, frame, padded};
use crate::stamp::Stamp;

/// Appends the frame of a live event or a heartbeat; nothing for other commands.
pub fn write(command: &Command<'_>, out: &mut Vec<u8>) {
    match *command {
        Command::Live { stamp, payload_bytes, .. } => {
            frame::write(frame::TEXT, out, |out| padded(out, stamp, payload_bytes));
        }
        Command::Heartbeat { intended_ns } => frame::masked(frame::PING, &intended_ns.to_be_bytes(), out),
        _ => {}
    }
}

/// Reads a text message.
pub fn read(payload: &[u8]) -> Incoming<'_> {
    Stamp::parse(payload).map_or(Incoming::Other, Incoming::Live)
}

/// Reads the answer to a heartbeat.
pub fn pong(payload: &[u8]) -> Incoming<'_> {
    match payload.try_into() {
        Ok(bytes) => Incoming::HeartbeatAnswer { intended_ns: u64::from_be_bytes(bytes) },
        Err(_) => Incoming::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Dialect;

    #[test]
    fn messages_are_raw() {
        let stamp = Stamp { room: 7, publisher: 1, number: 42, intended_ns: 5 };
        let mut out = Vec::new();
        let live = Command::Live { room: "r", stamp, payload_bytes: 60, include_self: true };
        Dialect::Nchan.write(&live, &mut out);
        let payload: Vec<u8> = out[6..].iter().zip(out[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(payload.len(), 60);
        assert_eq!(Dialect::Nchan.read(frame::TEXT, &payload), Incoming::Live(stamp));
        assert_eq!(Dialect::Nchan.read(frame::TEXT, b"queued messages: 1"), Incoming::Other);
    }

    #[test]
    fn a_heartbeat_is_a_ping() {
        let mut out = Vec::new();
        Dialect::Nchan.write(&Command::Heartbeat { intended_ns: 0x0102_0304 }, &mut out);
        assert_eq!(out[0] & 0x0f, frame::PING);
        let answer = Dialect::Nchan.read(frame::PONG, &[0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(answer, Incoming::HeartbeatAnswer { intended_ns: 0x0102_0304 });
        assert_eq!(Dialect::Nchan.read(frame::PONG, b""), Incoming::Other);
    }

    #[test]
    fn what_it_has_no_word_for_is_not_sent() {
        let mut out = Vec::new();
        for command in
            [Command::Hello { token: None }, Command::Activity, Command::Join { room: "r", request: 1, recover: None }]
        {
            Dialect::Nchan.write(&command, &mut out);
        }
        assert!(out.is_empty());
    }
}
