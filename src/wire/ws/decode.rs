//! The frame machine: received bytes → messages and control frames, unmasked in place.
//!
//! Where bytes live:
//! * A message that lies whole in the receive buffer stays there; the item is its range.
//! * Everything else is collected in `assembly`, a `Vec` that the caller owns. Between messages it is empty, so a
//!   connection needs one only while [`Decoder::is_idle`] is false, and it can come from a pool.
//! * The beginning of a control frame that the buffer cuts off waits at the *end* of `assembly`, behind the message
//!   that it interrupts (RFC 6455 5.4 lets it), and is taken off again when the frame is complete:
//!   `assembly = message so far ++ control_bytes of the control frame`.
//! * At most `message_bytes_max` + 125 bytes are in `assembly`. Headers promise lengths; memory follows bytes received.
//! * A compressed message is put together as it comes (of an eighth more bytes, `deflate::compressed_bytes_max`) and handed out
//!   compressed: what inflates it belongs to the shard, not to the connection, and so does the check of its text.
use super::deflate::compressed_bytes_max;
use super::error::WsError;
use super::header::{self, CLIENT_HEADER_BYTES_MAX, Context, Header, Opcode, RSV1};
use super::{close, mask, utf8};
use std::fmt;
use std::ops::Range;

/// Payload bytes of a control frame (RFC 6455 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// `assembly` grows at most to the message limit and this much more, so that the caller can put the padding of a
/// vectorising parser behind a message without moving it.
pub const ASSEMBLY_SLACK_BYTES: usize = 64;

/// One per connection; see the module for what else belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    phase: Phase,
    /// 0 between messages; within one, 1 and its empty continuations.
    fragments: u16,
    /// What the current message is. Meaningful while `fragments > 0`.
    kind: Kind,
    /// Bytes of an unfinished control frame at the end of `assembly`.
    control_bytes: u8,
    /// Bytes of an unfinished code point at the end of the message in `assembly`, 0 to 3.
    utf8_carry: u8,
}

// A million idle connections hold a million of these.
const _: () = assert!(size_of::<Decoder>() <= 24);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Binary,
    Text,
    DeflatedBinary,
    DeflatedText,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Before or within a frame header, of which `len` bytes came at the end of earlier inputs.
    Header { bytes: [u8; CLIENT_HEADER_BYTES_MAX - 1], len: u8 },
    /// Within a payload; `remaining > 0` between calls, `key` is rotated to the next byte.
    Payload { opcode: Opcode, is_final: bool, key: [u8; 4], remaining: u32 },
    /// After a close frame or an error: what still comes is ignored (RFC 6455 5.5.1).
    Finished,
}

impl Default for Phase {
    fn default() -> Phase {
        Phase::Header { bytes: [0; CLIENT_HEADER_BYTES_MAX - 1], len: 0 }
    }
}

/// What the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole text message, checked to be UTF-8.
    Text(Place),
    /// A whole binary message.
    Binary(Place),
    /// A whole compressed message (RFC 7692), not yet inflated; if it is text, its UTF-8 is yet to be checked.
    Deflated { is_text: bool, place: Place },
    /// To be answered by a pong with the same payload (5.5.2).
    Ping(Control),
    /// Sign of life; an unasked one is fine (5.5.3).
    Pong(Control),
    /// The peer closes. `code` is `None` for an empty body. Nothing comes after it: the decoder ignores further input.
    Close { code: Option<u16>, reason: Control },
}

/// Where a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the input, unmasked.
    Input(Range<usize>),
    /// All of `assembly`. The caller reads it and clears it before the next call.
    Assembly,
}

impl Place {
    /// The message, where both of them are.
    pub fn bytes<'a>(&self, input: &'a [u8], assembly: &'a [u8]) -> &'a [u8] {
        match self {
            Place::Input(range) => &input[range.clone()],
            Place::Assembly => assembly,
        }
    }
}

/// Payload of a control frame; of a close frame, the reason (UTF-8).
#[derive(Clone, Copy)]
pub struct Control {
    len: u8,
    bytes: [u8; CONTROL_BYTES_MAX],
}

impl Control {
    /// The first 125 bytes of `payload`, which a control frame never exceeds.
    pub fn new(payload: &[u8]) -> Control {
        let len = payload.len().min(CONTROL_BYTES_MAX);
        let mut bytes = [0; CONTROL_BYTES_MAX];
        bytes[..len].copy_from_slice(&payload[..len]);
        Control { len: len as u8, bytes }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// As text, which the reason of a close frame always is; `None` for the payload of a ping that is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }
}

impl PartialEq for Control {
    fn eq(&self, other: &Control) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Control {}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({:?})", self.as_bytes().escape_ascii().to_string())
    }
}

impl Decoder {
    /// Reads `input[*cursor..end]` up to and including the next item, and moves `cursor` behind what was read.
    ///
    /// `Ok(None)`: all was read and no item is complete. `Ok(Some(_))`: act on it, then call again. After an error the
    /// connection must be closed with its close code; `assembly` is then empty, and so after [`Item::Close`].
    ///
    /// `message_bytes_max` bounds one message over all its fragments; it may change between calls (it is smaller
    /// before sign-in, R-AUTH-1).
    pub fn next(
        &mut self,
        input: &mut [u8],
        cursor: &mut usize,
        end: usize,
        assembly: &mut Vec<u8>,
        message_bytes_max: usize,
    ) -> Result<Option<Item>, WsError> {
        self.read::<false>(input, cursor, end, assembly, message_bytes_max)
    }

    /// The same for a connection on which permessage-deflate was agreed on. `message_bytes_max` then bounds what a compressed message
    /// inflates to, and by that, loosely, itself.
    pub fn next_deflate(
        &mut self,
        input: &mut [u8],
        cursor: &mut usize,
        end: usize,
        assembly: &mut Vec<u8>,
        message_bytes_max: usize,
    ) -> Result<Option<Item>, WsError> {
        self.read::<true>(input, cursor, end, assembly, message_bytes_max)
    }

    /// `DEFLATE` is a constant, so that what is agreed on with few costs the others nothing.
    #[inline(always)]
    fn read<const DEFLATE: bool>(
        &mut self,
        input: &mut [u8],
        cursor: &mut usize,
        end: usize,
        assembly: &mut Vec<u8>,
        message_bytes_max: usize,
    ) -> Result<Option<Item>, WsError> {
        let result = self.advance::<DEFLATE>(input, cursor, end, assembly, message_bytes_max);
        if matches!(result, Err(_) | Ok(Some(Item::Close { .. }))) {
            *self = Decoder { phase: Phase::Finished, ..Decoder::default() };
            assembly.clear();
        }
        result
    }

    /// Nothing is buffered, neither here nor in `assembly`: the next byte starts a message, or is ignored because the
    /// decoder has finished.
    pub fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Header { len, .. } => len == 0 && self.fragments == 0,
            Phase::Payload { .. } => false,
            Phase::Finished => true,
        }
    }

    /// A close frame or an error ended the conversation; further input is ignored.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    fn advance<const DEFLATE: bool>(
        &mut self,
        input: &mut [u8],
        cursor: &mut usize,
        end: usize,
        assembly: &mut Vec<u8>,
        message_bytes_max: usize,
    ) -> Result<Option<Item>, WsError> {
        debug_assert!(!self.is_idle() || assembly.is_empty(), "assembly holds something that was not taken");
        loop {
            if let Phase::Header { .. } = self.phase {
                let context = Context {
                    fragments: self.fragments,
                    assembled_bytes: assembly.len(),
                    message_bytes_max: self.assembled_bytes_max::<DEFLATE>(message_bytes_max),
                };
                let is_compressed = DEFLATE && self.first_byte(&input[*cursor..end]) & RSV1 != 0;
                match self.read_header::<DEFLATE>(&input[*cursor..end], cursor, context)? {
                    Some(header) => self.begin_frame::<DEFLATE>(header, is_compressed),
                    None => return Ok(None),
                }
            }
            let Phase::Payload { opcode, is_final, key, remaining } = self.phase else {
                *cursor = end;
                return Ok(None);
            };
            let take = (remaining as usize).min(end - *cursor);
            let piece = *cursor..*cursor + take;
            *cursor = piece.end;
            mask::apply(&mut input[piece.clone()], key);
            let remaining = remaining - take as u32;
            self.phase = match remaining {
                0 => Phase::default(),
                _ => Phase::Payload { opcode, is_final, key: mask::rotated(key, take), remaining },
            };
            let item = if opcode.is_control() {
                self.control_piece::<DEFLATE>(opcode, &input[piece], remaining == 0, assembly, message_bytes_max)?
            } else {
                self.data_piece::<DEFLATE>(input, piece, remaining == 0, is_final, assembly, message_bytes_max)?
            };
            if item.is_some() || remaining > 0 {
                return Ok(item);
            }
        }
    }

    /// The header at the cursor, of which earlier inputs may have brought the beginning.
    fn read_header<const DEFLATE: bool>(
        &mut self,
        unread: &[u8],
        cursor: &mut usize,
        context: Context,
    ) -> Result<Option<Header>, WsError> {
        let Phase::Header { bytes, len } = &mut self.phase else { return Ok(None) };
        let kept = usize::from(*len);
        if kept == 0 {
            let header = header::parse::<DEFLATE>(unread, context)?;
            match header {
                Some(header) => *cursor += usize::from(header.header_bytes),
                None => {
                    bytes[..unread.len()].copy_from_slice(unread);
                    *len = unread.len() as u8;
                    *cursor += unread.len();
                }
            }
            return Ok(header);
        }
        // Rare: the header is split. Join what there is; it is complete or still short of one.
        let mut joined = [0; CLIENT_HEADER_BYTES_MAX];
        let fresh = unread.len().min(CLIENT_HEADER_BYTES_MAX - kept);
        joined[..kept].copy_from_slice(&bytes[..kept]);
        joined[kept..kept + fresh].copy_from_slice(&unread[..fresh]);
        let header = header::parse::<DEFLATE>(&joined[..kept + fresh], context)?;
        match header {
            Some(header) => *cursor += usize::from(header.header_bytes) - kept,
            None => {
                bytes[..kept + fresh].copy_from_slice(&joined[..kept + fresh]);
                *len += fresh as u8;
                *cursor += fresh;
            }
        }
        Ok(header)
    }

    /// Of the header at the cursor, if there is one.
    fn first_byte(&self, unread: &[u8]) -> u8 {
        match self.phase {
            Phase::Header { bytes, len: 1.. } => bytes[0],
            _ => unread.first().copied().unwrap_or_default(),
        }
    }

    fn begin_frame<const DEFLATE: bool>(&mut self, header: Header, is_compressed: bool) {
        let Header { opcode, is_final, key, payload_bytes, .. } = header;
        if !opcode.is_control() {
            if self.fragments == 0 {
                self.kind = match (opcode, DEFLATE && is_compressed) {
                    (Opcode::Text, false) => Kind::Text,
                    (Opcode::Text, true) => Kind::DeflatedText,
                    (_, false) => Kind::Binary,
                    (_, true) => Kind::DeflatedBinary,
                };
                self.fragments = 1;
            } else if payload_bytes == 0 {
                // Fragments that carry something are bounded by the message's size.
                self.fragments += 1;
            }
        }
        self.phase = Phase::Payload { opcode, is_final, key, remaining: payload_bytes };
    }

    fn data_piece<const DEFLATE: bool>(
        &mut self,
        input: &[u8],
        piece: Range<usize>,
        ends_frame: bool,
        is_final: bool,
        assembly: &mut Vec<u8>,
        message_bytes_max: usize,
    ) -> Result<Option<Item>, WsError> {
        let ends_message = ends_frame && is_final;
        let place = if ends_message && assembly.is_empty() {
            if self.kind == Kind::Text && !utf8::is_valid(&input[piece.clone()]) {
                return Err(WsError::InvalidText);
            }
            Place::Input(piece)
        } else {
            let unchecked = assembly.len() - usize::from(self.utf8_carry);
            append(assembly, &input[piece], self.assembled_bytes_max::<DEFLATE>(message_bytes_max));
            if self.kind == Kind::Text {
                self.utf8_carry = utf8::check_prefix(&assembly[unchecked..]).map_err(|_| WsError::InvalidText)?;
                if ends_message && self.utf8_carry > 0 {
                    return Err(WsError::InvalidText);
                }
            }
            Place::Assembly
        };
        if !ends_message {
            return Ok(None);
        }
        self.fragments = 0;
        Ok(Some(match self.kind {
            Kind::DeflatedText if DEFLATE => Item::Deflated { is_text: true, place },
            Kind::DeflatedBinary if DEFLATE => Item::Deflated { is_text: false, place },
            Kind::Text | Kind::DeflatedText => Item::Text(place),
            Kind::Binary | Kind::DeflatedBinary => Item::Binary(place),
        }))
    }

    /// What may be in `assembly` of the current message.
    fn assembled_bytes_max<const DEFLATE: bool>(&self, message_bytes_max: usize) -> usize {
        match DEFLATE && self.fragments > 0 && matches!(self.kind, Kind::DeflatedBinary | Kind::DeflatedText) {
            false => message_bytes_max,
            true => compressed_bytes_max(message_bytes_max),
        }
    }

    fn control_piece<const DEFLATE: bool>(
        &mut self,
        opcode: Opcode,
        piece: &[u8],
        ends_frame: bool,
        assembly: &mut Vec<u8>,
        message_bytes_max: usize,
    ) -> Result<Option<Item>, WsError> {
        if ends_frame && self.control_bytes == 0 {
            return control_item(opcode, piece);
        }
        append(assembly, piece, self.assembled_bytes_max::<DEFLATE>(message_bytes_max));
        self.control_bytes += piece.len() as u8;
        if !ends_frame {
            return Ok(None);
        }
        let message_bytes = assembly.len() - usize::from(self.control_bytes);
        let item = control_item(opcode, &assembly[message_bytes..]);
        assembly.truncate(message_bytes);
        self.control_bytes = 0;
        item
    }
}

fn control_item(opcode: Opcode, payload: &[u8]) -> Result<Option<Item>, WsError> {
    Ok(Some(match opcode {
        Opcode::Ping => Item::Ping(Control::new(payload)),
        Opcode::Pong => Item::Pong(Control::new(payload)),
        _ => {
            let (code, reason) = close::parse_body(payload)?;
            Item::Close { code, reason: Control::new(reason) }
        }
    }))
}

/// Grows by doubling, but not beyond what a message may need.
fn append(assembly: &mut Vec<u8>, bytes: &[u8], message_bytes_max: usize) {
    let needed = assembly.len() + bytes.len();
    if needed > assembly.capacity() {
        let ceiling = message_bytes_max.saturating_add(ASSEMBLY_SLACK_BYTES);
        let target = (assembly.capacity() * 2).min(ceiling).max(needed);
        assembly.reserve_exact(target - assembly.len());
    }
    assembly.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
