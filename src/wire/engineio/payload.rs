//! Bodies of polling requests: several packets in one text.
//!
//! Revision 4 joins them by the byte 0x1e, and binary is `b` + base64. Revision 3 counts them; see [`super::v3`].
use super::{Packet, PacketError, Revision, v3};
use crate::limits::ENGINE_PAYLOAD_PACKETS_MAX;
use crate::wire::ws::{Opcode, frame_len};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// Between two packets of revision 4: the ASCII record separator, which JSON never holds unescaped.
const SEPARATOR: u8 = 0x1e;

/// What is no payload. The session ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PayloadError {
    #[error("not UTF-8")]
    Utf8,
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Revision 3: a length that is no number, or goes beyond the body.
    #[error("a wrong length")]
    Length,
    /// Above `limits::ENGINE_PAYLOAD_PACKETS_MAX`.
    #[error("too many packets")]
    TooMany,
}

/// Reads the packets of a body one after the other. After an error there are none.
pub struct PayloadReader<'a> {
    rest: Rest<'a>,
    count: usize,
    /// The binary packet that was read last.
    decoded: Vec<u8>,
}

enum Rest<'a> {
    /// Revision 4. None: the last packet has been read.
    Joined(Option<&'a str>),
    /// Revision 3, `text/plain`.
    Counted(&'a str),
    /// Revision 3, `application/octet-stream`.
    Binary(&'a [u8]),
    Failed(PayloadError),
}

impl<'a> PayloadReader<'a> {
    /// A body of `text/plain` (any charset but UTF-8 does not exist here). Its size is the caller's to bound, before it is read.
    pub fn new(revision: Revision, body: &'a [u8]) -> PayloadReader<'a> {
        let rest = match (simdutf8::basic::from_utf8(body), revision) {
            (Err(_), _) => Rest::Failed(PayloadError::Utf8),
            (Ok(text), Revision::V4) => Rest::Joined(Some(text)),
            (Ok(text), Revision::V3) => Rest::Counted(text),
        };
        PayloadReader { rest, count: 0, decoded: Vec::new() }
    }

    /// A body of `application/octet-stream`, which only clients of revision 3 send.
    pub fn binary_v3(body: &'a [u8]) -> PayloadReader<'a> {
        PayloadReader { rest: Rest::Binary(body), count: 0, decoded: Vec::new() }
    }

    /// The next packet, or none at the end of a good body.
    pub fn next_packet(&mut self) -> Option<Result<Packet<'_>, PayloadError>> {
        if self.count == ENGINE_PAYLOAD_PACKETS_MAX && !self.is_at_end() {
            self.rest = Rest::Failed(PayloadError::TooMany);
        }
        self.count += 1;
        let found = match &mut self.rest {
            Rest::Joined(rest) => {
                let text = (*rest)?;
                let (packet, after) = match memchr::memchr(SEPARATOR, text.as_bytes()) {
                    Some(at) => (&text[..at], Some(&text[at + 1..])),
                    None => (text, None),
                };
                *rest = after;
                Ok(v3::Counted::Text(packet))
            }
            Rest::Counted("") | Rest::Binary([]) => return None,
            Rest::Counted(rest) => v3::next_text(rest),
            Rest::Binary(rest) => v3::next_binary(rest),
            Rest::Failed(error) => Err(*error),
        };
        let revision = if matches!(self.rest, Rest::Joined(_)) { Revision::V4 } else { Revision::V3 };
        let packet = match found {
            Ok(v3::Counted::Text(text)) => match text.strip_prefix('b') {
                Some(base64) => decode_base64(revision, base64, &mut self.decoded),
                None => Packet::from_text(text),
            },
            Ok(v3::Counted::Binary(bytes)) => Packet::from_binary(revision, bytes),
            Err(error) => {
                self.rest = Rest::Failed(error);
                return Some(Err(error));
            }
        };
        if let Err(error) = packet {
            self.rest = Rest::Failed(error.into());
        }
        Some(packet.map_err(PayloadError::from))
    }

    fn is_at_end(&self) -> bool {
        matches!(self.rest, Rest::Joined(None) | Rest::Counted("") | Rest::Binary([]))
    }
}

/// Revision 4 has no type in front of base64, revision 3 a message's `4`.
fn decode_base64<'d>(revision: Revision, text: &str, decoded: &'d mut Vec<u8>) -> Result<Packet<'d>, PacketError> {
    let text = match revision {
        Revision::V4 => text,
        Revision::V3 => text.strip_prefix('4').ok_or(PacketError::BinaryType)?,
    };
    decoded.clear();
    STANDARD.decode_vec(text, decoded).map_err(|_| PacketError::Base64)?;
    Ok(Packet::Binary(decoded))
}

/// Writes the body that answers a GET: appends packets to `out` as long as the caller has some.
pub struct PayloadWriter<'o> {
    out: &'o mut Vec<u8>,
    revision: Revision,
    is_first: bool,
}

impl<'o> PayloadWriter<'o> {
    /// What is in `out` already, such as room for a head, stays.
    pub fn new(revision: Revision, out: &'o mut Vec<u8>) -> PayloadWriter<'o> {
        PayloadWriter { out, revision, is_first: true }
    }

    /// A text packet, type digit included.
    pub fn text(&mut self, packet: &str) {
        match self.revision {
            Revision::V4 => self.separate(),
            Revision::V3 => v3::write_length(self.out, packet),
        }
        self.out.extend_from_slice(packet.as_bytes());
    }

    /// A binary message, without a type byte.
    pub fn binary(&mut self, bytes: &[u8]) {
        let base64_len = base64::encoded_len(bytes.len(), true).unwrap_or_default();
        match self.revision {
            Revision::V4 => {
                self.separate();
                self.out.push(b'b');
            }
            Revision::V3 => {
                v3::write_ascii_length(self.out, base64_len + 2);
                self.out.extend_from_slice(b"b4");
            }
        }
        let start = self.out.len();
        self.out.resize(start + base64_len, 0);
        let written = STANDARD.encode_slice(bytes, &mut self.out[start..]);
        debug_assert_eq!(written, Ok(base64_len));
    }

    /// Packets that wait as server WebSocket frames, as a session keeps them whatever its transport is.
    ///
    /// Takes whole frames from the front of `frames` as long as the body stays below `bytes_max`, about; the first is taken
    /// whatever its size. Returns how many bytes of `frames` were taken; 0 if no whole frame is there.
    pub fn frames(&mut self, frames: &[u8], bytes_max: usize) -> usize {
        let (start, mut taken) = (self.out.len(), 0);
        while let Some(len) = frame_len(&frames[taken..]).filter(|len| *len <= frames.len() - taken) {
            if taken > 0 && self.out.len() - start + len > bytes_max {
                break;
            }
            self.frame(&frames[taken..taken + len]);
            taken += len;
        }
        taken
    }

    fn frame(&mut self, frame: &[u8]) {
        let header_len = match frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let payload = &frame[header_len..];
        match frame[0] & 0x0f {
            opcode if opcode == Opcode::Binary as u8 => {
                self.binary(payload.strip_prefix(super::binary_prefix(self.revision)).unwrap_or(payload));
            }
            opcode if opcode == Opcode::Text as u8 => {
                // What the server frames as text is text.
                self.text(str::from_utf8(payload).unwrap_or_default());
            }
            // Control frames of the WebSocket below mean nothing here.
            _ => {}
        }
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(SEPARATOR);
        }
    }
}

#[cfg(test)]
mod tests;
