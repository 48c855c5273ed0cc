//! The native protocol's envelope, `{id, type, data, timestamp}` (R-ENV-1), parsed in the buffer it came in.
//!
//! One `Parser` per shard keeps what parsing needs; after the largest message so far has passed, it allocates
//! nothing. The client's `timestamp` is not looked at: the server's clock counts.
use super::tape::{Object, Value};
use crate::base::refusal::{Code, Refusal};
use crate::ids::is_short_id;
use crate::limits::JSON_DEPTH_MAX;
use simd_json::{Buffers, ErrorType, Tape};
use std::mem;

/// Bytes behind a message that the parser may read (not write): vector loads run past its end.
pub const PADDING_BYTES: usize = simd_json::INPUT_PADDING;

/// Parses envelopes, one at a time.
pub struct Parser {
    buffers: Buffers,
    /// Empty between two messages, kept for its allocation.
    tape: Tape<'static>,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// Nodes of a usual message: six for the envelope, two for each field.
    const USUAL_NODES: usize = 64;

    pub fn new() -> Parser {
        // The depth bound holds while the tape is built, and that loop does not recurse: neither the stack nor
        // the tape depends on how deep a client nests.
        let buffers = Buffers::with_max_depth(0, JSON_DEPTH_MAX);
        Parser { buffers, tape: Tape(Vec::with_capacity(Self::USUAL_NODES)) }
    }

    /// Parses `padded[..len]`; at least `PADDING_BYTES` of whatever content must follow.
    ///
    /// Strings are unescaped in place, and that is all that is ever written: **a message without a backslash is
    /// left as it was, whether it parses or not**, so that the same bytes can be handed on and parsed again.
    ///
    /// # Errors
    /// `invalid_format` (R-ENV-3), with the envelope's id if that much was readable.
    pub fn parse<'p, 'm>(
        &'p mut self,
        padded: &'m mut [u8],
        len: usize,
    ) -> Result<Envelope<'p, 'm>, EnvelopeError<'m>> {
        debug_assert!(padded.len() >= len + PADDING_BYTES, "the caller pads");
        let mut tape = mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let parsed = simd_json::fill_tape_padded(padded, len, &mut self.buffers, &mut tape);
        // From here on the tape finds its way back by `Drop`, whatever comes.
        let mut envelope = Envelope { tape, home: &mut self.tape, id: "", kind: "", data_at: None };
        if let Err(error) = parsed {
            let is_deep = *error.error() == ErrorType::DepthLimitExceeded;
            return Err(EnvelopeError { id: None, fault: if is_deep { Fault::TooDeep } else { Fault::NotJson } });
        }
        envelope.read()?;
        Ok(envelope)
    }
}

/// A well-formed message of a client. Texts live as long as its bytes (`'m`).
#[derive(Debug)]
pub struct Envelope<'p, 'm> {
    tape: Tape<'m>,
    home: &'p mut Tape<'static>,
    id: &'m str,
    kind: &'m str,
    /// Index of the data object's node.
    data_at: Option<usize>,
}

impl<'m> Envelope<'_, 'm> {
    /// 1–64 characters, chosen by the client.
    pub fn id(&self) -> &'m str {
        self.id
    }

    /// The `type`, 1–64 characters: the name of a command, known or not.
    pub fn kind(&self) -> &'m str {
        self.kind
    }

    /// The `data` object; empty if there was none.
    pub fn data(&self) -> Object<'_, 'm> {
        let value = self.data_at.and_then(|at| Value::first(&self.tape.0[at..]));
        value.and_then(Value::as_object).unwrap_or_default()
    }

    /// Finds the three fields in one pass; of equal keys the last one counts.
    fn read(&mut self) -> Result<(), EnvelopeError<'m>> {
        let fail = |id, fault| Err(EnvelopeError { id, fault });
        let Some(members) = Value::first(&self.tape.0).and_then(Value::as_object) else {
            return fail(None, Fault::NotAnObject);
        };
        let (mut id, mut kind, mut data_at, mut data_is_wrong) = (None, None, None, false);
        // The object's own node is 0; each member is a key node, then its value.
        let mut at = 1;
        for (key, value) in members {
            match key {
                "id" => id = value.as_str().filter(|id| is_short_id(id)),
                "type" => kind = value.as_str().filter(|kind| is_short_id(kind)),
                "data" => {
                    data_at = value.as_object().map(|_| at + 1);
                    data_is_wrong = data_at.is_none() && !value.is_null();
                }
                _ => {}
            }
            at += 1 + value.nodes();
        }
        let Some(id) = id else { return fail(None, Fault::Id) };
        let Some(kind) = kind else { return fail(Some(id), Fault::Type) };
        if data_is_wrong {
            return fail(Some(id), Fault::Data);
        }
        (self.id, self.kind, self.data_at) = (id, kind, data_at);
        Ok(())
    }
}

impl Drop for Envelope<'_, '_> {
    fn drop(&mut self) {
        *self.home = mem::replace(&mut self.tape, Tape(Vec::new())).reset();
    }
}

/// A message that is no envelope; always `invalid_format` to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeError<'m> {
    /// For `requestId`, if it was readable.
    pub id: Option<&'m str>,
    pub fault: Fault,
}

/// What was wrong, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    NotJson,
    /// Nested deeper than `limits::JSON_DEPTH_MAX`.
    TooDeep,
    NotAnObject,
    /// `id` missing, no string, or not 1–64 characters.
    Id,
    /// The same of `type`.
    Type,
    /// `data` is there but no object.
    Data,
}

impl From<EnvelopeError<'_>> for Refusal {
    fn from(_: EnvelopeError<'_>) -> Refusal {
        Refusal::new(Code::InvalidFormat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tape::tests::any_json;
    use proptest::prelude::*;

    fn padded(text: &[u8]) -> Vec<u8> {
        [text, &[b'7'; PADDING_BYTES]].concat()
    }

    /// What became of it: id, type and data as JSON, or the error.
    fn parse(parser: &mut Parser, text: &[u8]) -> Result<(String, String, String), (Option<String>, Fault)> {
        let mut bytes = padded(text);
        match parser.parse(&mut bytes, text.len()) {
            Ok(envelope) => {
                let mut data = Vec::new();
                if let Some(at) = envelope.data_at {
                    Value::first(&envelope.tape.0[at..]).unwrap().write(&mut data);
                }
                Ok((envelope.id().into(), envelope.kind().into(), String::from_utf8(data).unwrap()))
            }
            Err(error) => Err((error.id.map(String::from), error.fault)),
        }
    }

    #[test]
    fn good_envelopes() {
        let long = "ü".repeat(64);
        let edge = format!(r#"{{"id":"{long}","type":"{long}"}}"#);
        for (text, (id, kind, data)) in [
            (r#"{"id":"1","type":"x","data":{"a":[1,{"b":2}]},"timestamp":5}"#, ("1", "x", r#"{"a":[1,{"b":2}]}"#)),
            (r#"{"timestamp":{"any":[]},"data":{},"extra":[[]],"type":"x","id":"1"}"#, ("1", "x", "{}")),
            (r#"{"id":"1","type":"x"}"#, ("1", "x", "")),
            (r#"{"id":"1","type":"x","data":null}"#, ("1", "x", "")),
            (r#"{"id":7,"id":"1","data":[],"type":"y","type":"x","data":{"z":1}}"#, ("1", "x", r#"{"z":1}"#)),
            (r#"{"data":{"z":1},"id":"1","type":"x","data":null}"#, ("1", "x", "")),
            (r#"  {"\u0069d":"a\n", "type":"x"}  "#, ("a\n", "x", "")),
            (&edge, (&long, &long, "")),
        ] {
            let expected = (id.into(), kind.into(), data.into());
            assert_eq!(parse(&mut Parser::new(), text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_envelopes_keep_a_readable_id() {
        let long = "x".repeat(65);
        let (long_id, long_type) =
            (format!(r#"{{"id":"{long}","type":"x"}}"#), format!(r#"{{"id":"1","type":"{long}"}}"#));
        for (text, id, fault) in [
            ("", None, Fault::NotJson),
            ("{", None, Fault::NotJson),
            (r#"{"id":"1","type":"x""#, None, Fault::NotJson),
            (r#"{"id":"1","type":"x"}}"#, None, Fault::NotJson),
            (r#"{"id":"1","type":"x"}{"#, None, Fault::NotJson),
            ("{'id':1}", None, Fault::NotJson),
            (r#"{"id":"1","type":"x","data":{"n":1e999}}"#, None, Fault::NotJson),
            ("[1]", None, Fault::NotAnObject),
            ("7", None, Fault::NotAnObject),
            ("null", None, Fault::NotAnObject),
            (r#"{}"#, None, Fault::Id),
            (r#"{"id":1,"type":"x"}"#, None, Fault::Id),
            (r#"{"id":"","type":"x"}"#, None, Fault::Id),
            (r#"{"id":"1","id":null,"type":"x"}"#, None, Fault::Id),
            (&long_id, None, Fault::Id),
            (r#"{"id":"1"}"#, Some("1"), Fault::Type),
            (r#"{"type":{},"id":"1"}"#, Some("1"), Fault::Type),
            (r#"{"type":"","id":"1"}"#, Some("1"), Fault::Type),
            (&long_type, Some("1"), Fault::Type),
            (r#"{"data":[],"id":"1","type":"x"}"#, Some("1"), Fault::Data),
            (r#"{"data":{},"id":"1","type":"x","data":"no"}"#, Some("1"), Fault::Data),
        ] {
            let expected = Err((id.map(String::from), fault));
            assert_eq!(parse(&mut Parser::new(), text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_on_both_sides() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
            format!(r#"{{"id":"1","type":"x","data":{{"a":{open}{close}}}}}"#)
        };
        let mut parser = Parser::new();
        assert!(parse(&mut parser, nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(parse(&mut parser, nested(JSON_DEPTH_MAX + 1).as_bytes()), Err((None, Fault::TooDeep)));
        assert_eq!(parse(&mut parser, &b"[".repeat(65_536)), Err((None, Fault::TooDeep)));
        assert_eq!(parse(&mut parser, &br#"{"a":"#.repeat(13_000)), Err((None, Fault::TooDeep)));
    }

    #[test]
    fn a_warm_parser_keeps_its_allocation() {
        let text = br#"{"id":"1","type":"x","data":{"a":[1,2,3,"four"]}}"#;
        let mut parser = Parser::new();
        let before = (parser.tape.0.as_ptr(), parser.tape.0.capacity());
        for bad in [&text[..20], b"[]", &text[..], b""] {
            let _ = parse(&mut parser, bad);
            assert!(parser.tape.0.is_empty());
            assert_eq!((parser.tape.0.as_ptr(), parser.tape.0.capacity()), before);
        }
    }

    #[test]
    fn invalid_utf8_is_refused() {
        assert_eq!(parse(&mut Parser::new(), b"{\"id\":\"\xff\",\"type\":\"x\"}"), Err((None, Fault::NotJson)));
    }

    proptest! {
        /// R-SEC-13.
        #[test]
        fn random_bytes_never_panic(texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..4)) {
            let mut parser = Parser::new();
            for text in texts {
                let _ = parse(&mut parser, &text);
            }
        }

        /// R-SEC-13: bytes that look like JSON get further in.
        #[test]
        fn random_punctuation_never_panics(text in r#"\{("id"|"type"|"data"|[\{\}\[\]:,"\\ueE0-9.tfn \-]){0,40}"#) {
            let _ = parse(&mut Parser::new(), text.as_bytes());
        }

        /// The shard hands the same bytes to another core: they must not have changed.
        #[test]
        fn without_a_backslash_the_bytes_stay(value in any_json(), cut in 0_usize..400, is_envelope: bool) {
            let whole = if is_envelope {
                serde_json::json!({"id": "1", "type": "x", "data": {"v": value}}).to_string()
            } else {
                value.to_string()
            };
            let text: Vec<u8> = whole.bytes().take(cut).filter(|byte| *byte != b'\\').collect();
            let mut bytes = padded(&text);
            let before = bytes.clone();
            let mut parser = Parser::new();
            let first = parser.parse(&mut bytes, text.len()).map(|envelope| envelope.id().len()).map_err(|e| e.fault);
            prop_assert_eq!(&bytes, &before);
            let second = parser.parse(&mut bytes, text.len()).map(|envelope| envelope.id().len()).map_err(|e| e.fault);
            prop_assert_eq!(first, second);
        }
    }
}
