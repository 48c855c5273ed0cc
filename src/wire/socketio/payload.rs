//! The JSON of a packet: parsed with the house's tape, checked for what the packet's kind demands.
use super::{Kind, Violation};
use crate::limits::SOCKETIO_DEPTH_MAX;
use crate::wire::tape::Value;
use simd_json::{Buffers, ErrorType, Tape};
use std::mem;

/// Names that are never sent as events: libraries raise them themselves.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether an event may not have this name.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Parses payloads, one at a time, in a copy: a payload is small and its bytes are needed as they came. One per shard; once the
/// largest payload so far has passed, it allocates nothing.
pub struct Json {
    buffers: Buffers,
    /// Empty between two payloads, kept for its allocation.
    tape: Tape<'static>,
    copy: Vec<u8>,
}

impl Default for Json {
    fn default() -> Json {
        // The bound holds while the tape is built, and that loop does not recurse (see `wire::envelope`).
        let buffers = Buffers::with_max_depth(0, SOCKETIO_DEPTH_MAX);
        Json { buffers, tape: Tape(Vec::new()), copy: Vec::new() }
    }
}

impl Json {
    /// Parses `text` and hands the value to `read`.
    pub fn parse<R>(&mut self, text: &str, read: impl FnOnce(Value<'_, '_>) -> R) -> Result<R, Violation> {
        self.copy.clear();
        self.copy.extend_from_slice(text.as_bytes());
        self.copy.resize(text.len() + simd_json::INPUT_PADDING, 0);
        let mut tape = mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let parsed = simd_json::fill_tape_padded(&mut self.copy, text.len(), &mut self.buffers, &mut tape);
        let result = match parsed {
            Err(error) if *error.error() == ErrorType::DepthLimitExceeded => Err(Violation::Depth),
            Err(_) => Err(Violation::Json),
            Ok(()) => Value::first(&tape.0).map(read).ok_or(Violation::Json),
        };
        self.tape = tape.reset();
        result
    }

    /// Parses the payload of a packet of this kind; `read` gets none if there is no payload, which only some kinds may lack.
    pub fn payload<R>(
        &mut self,
        kind: Kind,
        text: &str,
        read: impl FnOnce(Option<Value<'_, '_>>) -> R,
    ) -> Result<R, Violation> {
        if text.is_empty() {
            check(kind, None)?;
            return Ok(read(None));
        }
        self.parse(text, |value| check(kind, Some(value)).map(|()| read(Some(value))))?
    }
}

/// The protocol's text, "Packet types"; where it is silent, `isPayloadValid` of npm `socket.io-parser`.
fn check(kind: Kind, payload: Option<Value<'_, '_>>) -> Result<(), Violation> {
    let holds = match (kind, payload) {
        (Kind::Connect, None) | (Kind::Disconnect, None) => true,
        (Kind::Connect, Some(value)) => value.as_object().is_some(),
        (Kind::Disconnect, Some(_)) => false,
        (Kind::Event | Kind::BinaryEvent, value) => {
            let first = value.and_then(Value::as_array).and_then(|mut items| items.next());
            if first.and_then(Value::as_str).is_some_and(is_reserved) {
                return Err(Violation::ReservedEvent);
            }
            first.is_some_and(|name| name.as_str().is_some() || name.is_number())
        }
        (Kind::Ack | Kind::BinaryAck, value) => value.is_some_and(|value| value.as_array().is_some()),
        (Kind::ConnectError, value) => {
            value.is_some_and(|value| value.as_str().is_some() || value.as_object().is_some())
        }
    };
    if holds { Ok(()) } else { Err(Violation::Payload) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tape::tests::any_json;
    use proptest::prelude::*;

    fn checked(kind: Kind, text: &str) -> Result<(), Violation> {
        Json::default().payload(kind, text, |_| ())
    }

    #[test]
    fn each_kind_has_its_payload() {
        for (kind, good, bad) in [
            (Kind::Connect, &["", "{}", r#"{"token":"x"}"#][..], &["[]", "1", "null", "\"x\""][..]),
            (Kind::Disconnect, &[""], &["{}", "[]", "null"]),
            (
                Kind::Event,
                &[r#"["a"]"#, r#"["a",1,null]"#, "[1]", "[-2.5,{}]", r#"[""]"#],
                &["", "[]", "{}", "[{}]", "[null]", "[true]", "[[\"a\"]]", "\"a\""],
            ),
            (Kind::BinaryEvent, &[r#"["a",{"_placeholder":true,"num":0}]"#], &["", "[]", "{}"]),
            (Kind::Ack, &["[]", "[1]", r#"["connect"]"#], &["", "{}", "1", "null"]),
            (Kind::BinaryAck, &["[]"], &["", "{}"]),
            (Kind::ConnectError, &["\"x\"", "{}"], &["", "[]", "1"]),
        ] {
            for text in good {
                assert_eq!(checked(kind, text), Ok(()), "{kind:?} {text}");
            }
            for text in bad {
                assert_eq!(checked(kind, text), Err(Violation::Payload), "{kind:?} {text}");
            }
        }
        for name in RESERVED {
            assert_eq!(checked(Kind::Event, &format!("[\"{name}\",1]")), Err(Violation::ReservedEvent));
        }
        assert_eq!(checked(Kind::Event, r#"["\u0063onnect"]"#), Err(Violation::ReservedEvent));
        for text in ["[", "[\"a\"", "[\"a\"]]", "[\"a\"]x", "{'a':1}", "undefined", "[\"\u{1}\"]"] {
            assert_eq!(checked(Kind::Event, text), Err(Violation::Json), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_on_both_sides() {
        let nested = |depth: usize| format!("[\"a\",{}{}]", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(checked(Kind::Event, &nested(SOCKETIO_DEPTH_MAX)), Ok(()));
        assert_eq!(checked(Kind::Event, &nested(SOCKETIO_DEPTH_MAX + 1)), Err(Violation::Depth));
        assert_eq!(checked(Kind::Event, &"[".repeat(100_000)), Err(Violation::Depth));
    }

    #[test]
    fn a_warm_parser_keeps_its_allocation() {
        let mut json = Json::default();
        let text = r#"["event",{"a":[1,2,3,"four"]}]"#;
        json.payload(Kind::Event, text, |_| ()).unwrap();
        let before = (json.tape.0.as_ptr(), json.copy.as_ptr());
        for text in [text, "[", "{}", "[1]", text] {
            let _ = json.payload(Kind::Event, text, |_| ());
            assert_eq!((json.tape.0.as_ptr(), json.copy.as_ptr()), before);
        }
    }

    proptest! {
        /// R-SEC-13.
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}|[\\[\\]{}\",:0-9a\\\\]{0,40}") {
            let mut json = Json::default();
            for kind in [Kind::Connect, Kind::Disconnect, Kind::Event, Kind::Ack, Kind::ConnectError, Kind::BinaryAck] {
                let _ = json.payload(kind, &text, |_| ());
            }
        }

        #[test]
        fn any_json_is_an_argument(value in any_json()) {
            prop_assert_eq!(checked(Kind::Event, &serde_json::json!(["a", value]).to_string()), Ok(()));
        }
    }
}
