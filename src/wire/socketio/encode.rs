//! What the server says, each as the text of an Engine.IO message: the type digit `4`, then the Socket.IO packet.
//!
//! Texts go out as they are; where JSON is asked for, it must be one valid value.
use super::Revision;
use crate::wire::json;

/// The answer to a good CONNECT: the client's public id and, with recovery, its private one. Revision 4 of the protocol (over
/// Engine.IO 3) has no payload here.
pub fn connect(out: &mut Vec<u8>, revision: Revision, namespace: &str, sid: &str, pid: Option<&str>) {
    head(out, b'0', None, namespace, None);
    if revision == Revision::V4 {
        json::object(out, |data| _ = data.str("sid", sid).opt_str("pid", pid));
    }
}

/// The answer to a bad CONNECT. `data` is JSON, for programs. In revision 4 the payload is the message alone.
pub fn connect_error(out: &mut Vec<u8>, revision: Revision, namespace: &str, message: &str, data: Option<&str>) {
    head(out, b'4', None, namespace, None);
    match revision {
        Revision::V3 => json::string(out, message),
        Revision::V4 => json::object(out, |error| {
            error.str("message", message);
            if let Some(data) = data {
                error.raw("data", data);
            }
        }),
    }
}

/// The server ends a namespace: clients do not come back by themselves.
pub fn disconnect(out: &mut Vec<u8>, namespace: &str) {
    head(out, b'1', None, namespace, None);
}

/// Opens an EVENT, or a BINARY_EVENT if attachments follow; whoever calls it appends the JSON array.
pub fn event(out: &mut Vec<u8>, namespace: &str, attachments: usize, ack_id: Option<u64>) {
    match attachments {
        0 => head(out, b'2', None, namespace, ack_id),
        count => head(out, b'5', Some(count), namespace, ack_id),
    }
}

/// Opens an ACK, or a BINARY_ACK if attachments follow; whoever calls it appends the JSON array.
pub fn ack(out: &mut Vec<u8>, namespace: &str, attachments: usize, ack_id: u64) {
    match attachments {
        0 => head(out, b'3', None, namespace, Some(ack_id)),
        count => head(out, b'6', Some(count), namespace, Some(ack_id)),
    }
}

fn head(out: &mut Vec<u8>, kind: u8, attachments: Option<usize>, namespace: &str, ack_id: Option<u64>) {
    out.extend_from_slice(&[b'4', kind]);
    if let Some(count) = attachments {
        json::integer(out, count as u64);
        out.push(b'-');
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = ack_id {
        json::integer(out, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::socketio::{Kind, Packet};
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The examples of the protocol's text, each behind the `4` of Engine.IO.
    #[test]
    fn packets() {
        let v4 = Revision::V4;
        for (expected, text) in [
            (r#"40{"sid":"wZX3oN0bSVIhsaknAAAI"}"#, written(|out| connect(out, v4, "/", "wZX3oN0bSVIhsaknAAAI", None))),
            (r#"40/admin,{"sid":"a","pid":"b"}"#, written(|out| connect(out, v4, "/admin", "a", Some("b")))),
            ("40", written(|out| connect(out, Revision::V3, "/", "a", None))),
            ("40/admin,", written(|out| connect(out, Revision::V3, "/admin", "a", None))),
            (r#"44{"message":"Not authorized"}"#, written(|out| connect_error(out, v4, "/", "Not authorized", None))),
            (
                r#"44/x,{"message":"Invalid namespace","data":{"a":1}}"#,
                written(|out| connect_error(out, v4, "/x", "Invalid namespace", Some(r#"{"a":1}"#))),
            ),
            (r#"44"No\"""#, written(|out| connect_error(out, Revision::V3, "/", "No\"", Some("{}")))),
            ("41", written(|out| disconnect(out, "/"))),
            ("41/admin,", written(|out| disconnect(out, "/admin"))),
            ("42", written(|out| event(out, "/", 0, None))),
            ("42/admin,13", written(|out| event(out, "/admin", 0, Some(13)))),
            ("451-", written(|out| event(out, "/", 1, None))),
            ("452-/admin,7", written(|out| event(out, "/admin", 2, Some(7)))),
            ("437", written(|out| ack(out, "/", 0, 7))),
            ("461-/admin,456", written(|out| ack(out, "/admin", 1, 456))),
        ] {
            assert_eq!(text, expected);
        }
    }

    proptest! {
        #[test]
        fn round_trip(namespace in "/[a-z.:-]{0,10}", attachments in 0_usize..=10, ack_id in proptest::option::of(0..1_u64 << 53)) {
            let text = written(|out| event(out, &namespace, attachments, ack_id)) + "[\"a\"]";
            let packet = Packet::parse(Revision::V4, &text[1..]).unwrap();
            let kind = if attachments > 0 { Kind::BinaryEvent } else { Kind::Event };
            let expected = Packet { kind, attachments, namespace: &namespace, query: None, ack_id, payload: "[\"a\"]" };
            prop_assert_eq!(packet, expected);
        }
    }
}
