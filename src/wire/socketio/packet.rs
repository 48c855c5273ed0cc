//! A packet's header, read without allocation: `<type>[<attachments>-][<namespace>,][<ack id>][JSON]`.
use super::{Revision, Violation};
use crate::limits::{ATTACHMENTS_MAX, NAMESPACE_BYTES_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
    BinaryEvent,
    BinaryAck,
}

impl Kind {
    pub const fn is_binary(self) -> bool {
        matches!(self, Kind::BinaryEvent | Kind::BinaryAck)
    }

    fn of(digit: u8) -> Option<Kind> {
        Some(match digit {
            b'0' => Kind::Connect,
            b'1' => Kind::Disconnect,
            b'2' => Kind::Event,
            b'3' => Kind::Ack,
            b'4' => Kind::ConnectError,
            b'5' => Kind::BinaryEvent,
            b'6' => Kind::BinaryAck,
            _ => return None,
        })
    }
}

/// A packet as it stands in a text message. Its payload is unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub kind: Kind,
    /// How many binary messages follow; 0 unless the kind is a binary one.
    pub attachments: usize,
    /// `/` if the packet names none. Revision 4: without its query.
    pub namespace: &'a str,
    /// Revision 4: what follows the `?` of a namespace.
    pub query: Option<&'a str>,
    pub ack_id: Option<u64>,
    /// The JSON text, empty if there is none.
    pub payload: &'a str,
}

/// The largest ack id: every JavaScript client counts in numbers that are exact up to here.
const ACK_ID_MAX: u64 = (1 << 53) - 1;

impl<'a> Packet<'a> {
    /// Reads the text of an Engine.IO message, without its leading `4`.
    pub fn parse(revision: Revision, text: &'a str) -> Result<Packet<'a>, Violation> {
        let kind = text.as_bytes().first().and_then(|digit| Kind::of(*digit)).ok_or(Violation::Type)?;
        let mut rest = &text[1..];
        let mut attachments = 0;
        if kind.is_binary() {
            let (count, after) = number(rest, ATTACHMENTS_MAX as u64).map_err(|()| Violation::Attachments)?;
            // The reference takes none for no number, too.
            attachments = count.filter(|count| *count > 0).ok_or(Violation::Attachments)? as usize;
            rest = after.strip_prefix('-').ok_or(Violation::Attachments)?;
        }
        let (mut namespace, mut query) = ("/", None);
        if rest.starts_with('/') {
            // Without a comma all that follows is the namespace, as the reference reads it.
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
            if revision == Revision::V3
                && let Some((path, after)) = namespace.split_once('?')
            {
                (namespace, query) = (path, Some(after));
            }
            if namespace.len() > NAMESPACE_BYTES_MAX {
                return Err(Violation::Namespace);
            }
        }
        let (ack_id, payload) = number(rest, ACK_ID_MAX).map_err(|()| Violation::AckId)?;
        Ok(Packet { kind, attachments, namespace, query, ack_id, payload })
    }
}

/// The decimal number at the start, if there is one, and what follows. An error: it is above `max`.
fn number(text: &str, max: u64) -> Result<(Option<u64>, &str), ()> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(digits);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse() {
        Ok(value) if value <= max => Ok((Some(value), rest)),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet<'a>(kind: Kind, namespace: &'a str, ack_id: Option<u64>, payload: &'a str) -> Packet<'a> {
        Packet { kind, attachments: 0, namespace, query: None, ack_id, payload }
    }

    /// The examples of the protocol's text, "Packet encoding", and its edges.
    #[test]
    fn headers() {
        for (text, expected) in [
            ("0", packet(Kind::Connect, "/", None, "")),
            (r#"0{"token":"123"}"#, packet(Kind::Connect, "/", None, r#"{"token":"123"}"#)),
            ("0/admin,", packet(Kind::Connect, "/admin", None, "")),
            (r#"0/admin,{"sid":"o"}"#, packet(Kind::Connect, "/admin", None, r#"{"sid":"o"}"#)),
            ("1/admin,", packet(Kind::Disconnect, "/admin", None, "")),
            ("1/admin", packet(Kind::Disconnect, "/admin", None, "")),
            (r#"2["foo"]"#, packet(Kind::Event, "/", None, r#"["foo"]"#)),
            (r#"2/admin,["bar"]"#, packet(Kind::Event, "/admin", None, r#"["bar"]"#)),
            (r#"212["foo"]"#, packet(Kind::Event, "/", Some(12), r#"["foo"]"#)),
            ("3/admin,13[]", packet(Kind::Ack, "/admin", Some(13), "[]")),
            (
                r#"4{"message":"Not authorized"}"#,
                packet(Kind::ConnectError, "/", None, r#"{"message":"Not authorized"}"#),
            ),
            ("2", packet(Kind::Event, "/", None, "")),
            ("2007[]", packet(Kind::Event, "/", Some(7), "[]")),
            ("29007199254740991[]", packet(Kind::Event, "/", Some((1 << 53) - 1), "[]")),
        ] {
            assert_eq!(Packet::parse(Revision::V4, text), Ok(expected), "{text}");
        }
        for (text, attachments, ack_id) in [
            (r#"51-["baz",{"_placeholder":true,"num":0}]"#, 1, None),
            (r#"52-/admin,17["baz"]"#, 2, Some(17)),
            (r#"61-1[]"#, 1, Some(1)),
            ("510-[]", 10, None),
        ] {
            let packet = Packet::parse(Revision::V4, text).unwrap();
            assert!(packet.kind.is_binary());
            assert_eq!((packet.attachments, packet.ack_id), (attachments, ack_id), "{text}");
        }
    }

    #[test]
    fn a_query_on_a_namespace_is_cut_off_in_revision_4_of_the_protocol_only() {
        let text = r#"0/admin?token=1&x=2,"#;
        let old = Packet::parse(Revision::V3, text).unwrap();
        assert_eq!((old.namespace, old.query), ("/admin", Some("token=1&x=2")));
        assert_eq!(Packet::parse(Revision::V4, text).unwrap().namespace, "/admin?token=1&x=2");
    }

    #[test]
    fn what_is_no_header() {
        let long = |len: usize| format!("0/{},", "x".repeat(len - 1));
        for (text, violation) in [
            ("", Violation::Type),
            ("7", Violation::Type),
            ("x", Violation::Type),
            ("€", Violation::Type),
            ("5", Violation::Attachments),
            ("5[]", Violation::Attachments),
            ("5-[]", Violation::Attachments),
            ("50-[]", Violation::Attachments),
            (r#"600-1[]"#, Violation::Attachments),
            ("51[]", Violation::Attachments),
            ("5/admin,[]", Violation::Attachments),
            ("511-[]", Violation::Attachments),
            ("6999999999999999999999-[]", Violation::Attachments),
            ("29007199254740992[]", Violation::AckId),
            ("299999999999999999999999[]", Violation::AckId),
            (&long(NAMESPACE_BYTES_MAX + 1), Violation::Namespace),
        ] {
            assert_eq!(Packet::parse(Revision::V4, text), Err(violation), "{text}");
        }
        assert!(Packet::parse(Revision::V4, &long(NAMESPACE_BYTES_MAX)).is_ok());
    }

    proptest! {
        /// R-SEC-13.
        #[test]
        fn any_text_is_read_or_refused(text in "[0-7]?[0-9]{0,3}-?(/[a-z?,]{0,5})?.{0,20}") {
            for revision in [Revision::V3, Revision::V4] {
                if let Ok(packet) = Packet::parse(revision, &text) {
                    prop_assert!(text.ends_with(packet.payload));
                }
            }
        }
    }
}
