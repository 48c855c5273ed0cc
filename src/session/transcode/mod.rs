//! Native messages → what another format puts on the wire.
//!
//! The native encoder's layout is fixed, so a message is cut into its parts without being parsed. A broadcast is transcoded once for
//! each room and format in use on a shard; whatever the number of members.
pub mod socketio;
pub mod sse;

use super::format::{Format, Framing, Vocabulary};
use crate::rooms::effects::Class;
use crate::wire::ws::{self, Deflater, Opcode};

/// What transcoding needs, kept warm. One per shard.
#[derive(Debug, Default)]
pub struct Transcoder {
    pub deflater: Deflater,
    pub socketio: socketio::Scratch,
}

impl Transcoder {
    /// Appends to `out` exactly the bytes that a connection of this format is sent for a native message (its JSON, without a frame
    /// around it). `class` says what was published; `None` is a message for one connection.
    pub fn transcode(&mut self, format: &Format, native: &[u8], class: Option<Class>, out: &mut Vec<u8>) {
        match (&format.vocabulary, &format.framing) {
            // Engine.IO compresses nothing unless it is told to, and the front door tells it nowhere.
            (Vocabulary::SocketIo(to), Framing::WebSocket | Framing::Deflated { .. }) => {
                to.transcode(native, class, &mut self.socketio, out)
            }
            // Of no consequence to what is sent as it is.
            (Vocabulary::Native, Framing::WebSocket) => ws::append_frame(out, Opcode::Text, native),
            (Vocabulary::Native, Framing::Deflated { window_bits }) => {
                self.deflater.append_frame(out, Opcode::Text, native, *window_bits);
            }
            (Vocabulary::Stream { .. }, _) | (_, Framing::Block) => sse::transcode(native, class, out),
        }
    }
}

/// The parts of a native message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    pub id: &'a [u8],
    pub kind: &'a [u8],
    /// The JSON object, braces included.
    pub data: &'a [u8],
    /// Digits: Unix ms.
    pub timestamp: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Cuts a message that our encoder wrote; `None` for anything else.
    pub fn of(native: &'a [u8]) -> Option<Parts<'a>> {
        let rest = native.strip_prefix(b"{\"id\":\"")?;
        let (id, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
        let rest = rest.strip_prefix(b"\",\"type\":\"")?;
        let (kind, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
        let rest = rest.strip_prefix(b"\",\"data\":")?;
        // The time stamp is written last, so the last such mark is it, whatever the data holds.
        const MARK: &[u8] = b",\"timestamp\":";
        let (data, rest) = rest.split_at(memchr::memmem::rfind(rest, MARK)?);
        let timestamp = rest.strip_prefix(MARK)?.strip_suffix(b"}")?;
        Some(Parts { id, kind, data, timestamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ulid;
    use crate::session::encode::{Encoder, Kind, Native, Stamp, Vocabulary as _};

    fn stamp() -> Stamp {
        Stamp { id: Ulid(7), unix_ms: 1_700_000_000_123 }
    }

    #[test]
    fn what_the_encoder_writes_is_cut_where_it_should() {
        let mut native = Vec::new();
        Native.event(&mut native, stamp(), Kind::Broadcast, |data| {
            data.str("event", "a\"b")
                .raw("payload", "{\"timestamp\":1,\"x\":\",\\\"timestamp\\\":9}\"}")
                .num("timestamp", 5);
        });
        let parts = Parts::of(&native).expect("the encoder's layout");
        assert_eq!(parts.kind, b"broadcast");
        assert_eq!(
            std::str::from_utf8(parts.data).unwrap(),
            r#"{"event":"a\"b","payload":{"timestamp":1,"x":",\"timestamp\":9}"},"timestamp":5}"#
        );
        assert_eq!(parts.timestamp, b"1700000000123");
        assert!(parts.id.starts_with(b"evt_") && parts.id.len() == 30);
    }

    #[test]
    fn acks_and_errors_have_the_same_parts() {
        let mut native = Vec::new();
        Native.ack(&mut native, stamp(), "r-1", |result| _ = result.num("offset", 3));
        let parts = Parts::of(&native).expect("the encoder's layout");
        assert_eq!((parts.kind, parts.data), (&b"ack"[..], &br#"{"requestId":"r-1","result":{"offset":3}}"#[..]));
        native.clear();
        Encoder { vocabulary: Native, expose_email: false }.token_expiring(&mut native, stamp(), 9);
        assert_eq!(Parts::of(&native).expect("the encoder's layout").data, br#"{"expiresAt":9}"#);
    }

    #[test]
    fn anything_else_is_not_cut() {
        for other in [&b""[..], b"{}", br#"{"id":"x","type":"y","data":{}}"#, br#"{"type":"y","id":"x"}"#] {
            assert_eq!(Parts::of(other), None);
        }
    }

    #[test]
    fn the_native_format_only_frames() {
        let (mut out, mut transcoder) = (Vec::new(), Transcoder::default());
        transcoder.transcode(&Format::NATIVE, b"{}", None, &mut out);
        assert_eq!(out, [0x81, 2, b'{', b'}']);
        assert_eq!(Format::NATIVE.frame_len(&out), Some(4));
        assert_eq!(Format::NATIVE.frame_len(Format::NATIVE.ping()), Some(2));
    }

    #[test]
    fn the_deflated_format_is_the_native_one_compressed() {
        let native =
            br#"{"id":"evt_1","type":"broadcast","data":{"event":"event event event event event"},"timestamp":1}"#;
        let (mut out, mut transcoder) = (Vec::new(), Transcoder::default());
        let format = Format::deflated(15);
        transcoder.transcode(&format, native, Some(Class::Live), &mut out);
        assert!(out[0] == 0xc1 && out.len() < native.len(), "{out:02x?}");
        assert_eq!((format.frame_len(&out), format.window_bits()), (Some(out.len()), Some(15)));
        let mut message = Vec::new();
        ws::Inflater::default().inflate(ws::payload(&out), &mut message, native.len()).unwrap();
        assert_eq!(message, native);
    }
}
