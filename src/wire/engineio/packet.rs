//! One packet, as a WebSocket message carries it: a type digit and text, or binary.
use super::Revision;
use thiserror::Error;

/// A packet of either side. Texts and bytes are borrowed from the message or payload it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// From the server only: the handshake, JSON.
    Open(&'a str),
    Close,
    /// Its text comes back in the pong; `probe` while a transport is being upgraded.
    Ping(&'a str),
    Pong(&'a str),
    /// A Socket.IO packet, or whatever else is spoken above.
    Text(&'a str),
    /// An attachment.
    Binary(&'a [u8]),
    Upgrade,
    Noop,
}

/// What is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    #[error("an empty packet")]
    Empty,
    /// The first character is none of `0` to `6`.
    #[error("an unknown packet type")]
    Type,
    /// `b` and something else than base64.
    #[error("binary that is no base64")]
    Base64,
    /// Revision 3: a binary packet of another type than message.
    #[error("a binary packet that is no message")]
    BinaryType,
}

/// The type byte before a binary message of revision 3; nothing stands there in revision 4.
pub const fn binary_prefix(revision: Revision) -> &'static [u8] {
    match revision {
        Revision::V3 => &[4],
        Revision::V4 => &[],
    }
}

impl<'a> Packet<'a> {
    /// A text message of a WebSocket, or a text packet of a payload. `b` + base64 is the payload's business.
    pub fn from_text(text: &'a str) -> Result<Packet<'a>, PacketError> {
        let kind = text.as_bytes().first().ok_or(PacketError::Empty)?;
        // The first character is ASCII in every arm that cuts it off.
        let rest = || &text[1..];
        Ok(match kind {
            b'0' => Packet::Open(rest()),
            b'1' => Packet::Close,
            b'2' => Packet::Ping(rest()),
            b'3' => Packet::Pong(rest()),
            b'4' => Packet::Text(rest()),
            b'5' => Packet::Upgrade,
            b'6' => Packet::Noop,
            _ => return Err(PacketError::Type),
        })
    }

    /// A binary message of a WebSocket.
    pub fn from_binary(revision: Revision, bytes: &'a [u8]) -> Result<Packet<'a>, PacketError> {
        match (revision, bytes) {
            (Revision::V4, _) => Ok(Packet::Binary(bytes)),
            (Revision::V3, []) => Err(PacketError::Empty),
            (Revision::V3, [4, data @ ..]) => Ok(Packet::Binary(data)),
            (Revision::V3, _) => Err(PacketError::BinaryType),
        }
    }

    /// Appends the packet as one WebSocket message; true if that message is a binary one.
    pub fn write(self, revision: Revision, out: &mut Vec<u8>) -> bool {
        let (kind, rest) = match self {
            Packet::Open(text) => (b'0', text),
            Packet::Close => (b'1', ""),
            Packet::Ping(text) => (b'2', text),
            Packet::Pong(text) => (b'3', text),
            Packet::Text(text) => (b'4', text),
            Packet::Upgrade => (b'5', ""),
            Packet::Noop => (b'6', ""),
            Packet::Binary(bytes) => {
                out.extend_from_slice(binary_prefix(revision));
                out.extend_from_slice(bytes);
                return true;
            }
        };
        out.push(kind);
        out.extend_from_slice(rest.as_bytes());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of the protocol's text, revision 4, "Packet encoding".
    #[test]
    fn every_type() {
        for (text, packet) in [
            ("0{\"sid\":\"x\"}", Packet::Open("{\"sid\":\"x\"}")),
            ("1", Packet::Close),
            ("2", Packet::Ping("")),
            ("2probe", Packet::Ping("probe")),
            ("3probe", Packet::Pong("probe")),
            ("4hello", Packet::Text("hello")),
            ("4€", Packet::Text("€")),
            ("4", Packet::Text("")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
        ] {
            assert_eq!(Packet::from_text(text), Ok(packet));
            let mut out = Vec::new();
            assert!(!packet.write(Revision::V4, &mut out));
            assert_eq!(out, text.as_bytes());
        }
        // What follows a type that carries nothing is ignored, as the reference does.
        assert_eq!(Packet::from_text("1x"), Ok(Packet::Close));
    }

    #[test]
    fn what_is_no_packet() {
        assert_eq!(Packet::from_text(""), Err(PacketError::Empty));
        for bad in ["7", "bAQIDBA==", "€", " 4", "-1", "x4"] {
            assert_eq!(Packet::from_text(bad), Err(PacketError::Type), "{bad}");
        }
        assert_eq!(Packet::from_binary(Revision::V3, &[]), Err(PacketError::Empty));
        assert_eq!(Packet::from_binary(Revision::V3, &[2, 1]), Err(PacketError::BinaryType));
        assert_eq!(Packet::from_binary(Revision::V3, b"4x"), Err(PacketError::BinaryType));
    }

    #[test]
    fn binary_has_a_type_byte_in_revision_3_only() {
        for (revision, wire) in [(Revision::V4, &[1, 2, 3][..]), (Revision::V3, &[4, 1, 2, 3])] {
            let mut out = Vec::new();
            assert!(Packet::Binary(&[1, 2, 3]).write(revision, &mut out));
            assert_eq!(out, wire);
            assert_eq!(Packet::from_binary(revision, wire), Ok(Packet::Binary(&[1, 2, 3])));
        }
        assert_eq!(Packet::from_binary(Revision::V4, &[]), Ok(Packet::Binary(&[])));
    }

    proptest! {
        /// R-SEC-13.
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(packet) = Packet::from_text(&text) {
                let mut out = Vec::new();
                packet.write(Revision::V4, &mut out);
                prop_assert!(text.as_bytes().starts_with(&out));
            }
        }
    }
}
