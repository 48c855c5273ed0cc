//! The frame header of a client, judged byte by byte (RFC 6455 5.2).
//!
//! Every rule is applied as soon as the byte that breaks it is there, in the order of the bytes. So the verdict does
//! not depend on how the network cut the stream.
use super::deflate;
use super::error::{Misbehaviour, WsError};
use crate::limits::FRAGMENTS_MAX;

/// Longest header of a client: two bytes, a 64-bit length, the mask.
pub const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// Messages are never larger than this, whatever the configured limit: lengths are kept in 32 bits.
pub const MESSAGE_BYTES_CEILING: usize = u32::MAX as usize;

const CONTROL_BYTES_MAX: u64 = 125;

/// The bits that have a meaning only where an extension gives them one, and the one to which RFC 7692 does.
const RESERVED: u8 = 0x70;
/// On the first frame of a compressed message.
pub const RSV1: u8 = 0x40;

const _: () = assert!(FRAGMENTS_MAX < u16::MAX as u32, "the decoder counts fragments in 16 bits");

/// What a frame is (RFC 6455 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }

    const fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }
}

/// Where the connection stands in its current message.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// 0 between messages; within one, 1 and its empty continuations.
    pub fragments: u16,
    /// Payload bytes of those frames.
    pub assembled_bytes: usize,
    /// Most payload bytes of a message, within a compressed one as compressed.
    pub message_bytes_max: usize,
}

/// A frame that is allowed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub opcode: Opcode,
    pub is_final: bool,
    pub key: [u8; 4],
    /// Payload bytes.
    pub payload_bytes: u32,
    /// Bytes of the header itself.
    pub header_bytes: u8,
}

/// Reads the header at the start of `bytes`. `None`: there is more of it to come, and no objection so far. `DEFLATE`:
/// permessage-deflate was agreed on.
pub fn parse<const DEFLATE: bool>(bytes: &[u8], context: Context) -> Result<Option<Header>, WsError> {
    let [first, ..] = *bytes else { return Ok(None) };
    let is_compressed = first & RESERVED != 0;
    if is_compressed && !(DEFLATE && first & RESERVED == RSV1 && matches!(first & 0x0f, 1 | 2)) {
        return Err(Misbehaviour::ReservedBit.into());
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(Misbehaviour::UnknownOpcode)?;
    let is_final = first & 0x80 != 0;
    check_order(opcode, is_final, context.fragments)?;

    let [_, second, ..] = *bytes else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Misbehaviour::NotMasked.into());
    }
    let (payload_bytes, length_end) = match second & 0x7f {
        _ if opcode.is_control() && u64::from(second & 0x7f) > CONTROL_BYTES_MAX => {
            return Err(Misbehaviour::ControlTooLong.into());
        }
        126 => {
            let Some(length) = bytes.get(2..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
            (minimal(u64::from(u16::from_be_bytes(*length)), 126)?, 4)
        }
        127 => {
            if bytes.get(2).is_some_and(|top| top & 0x80 != 0) {
                return Err(Misbehaviour::LengthTopBit.into());
            }
            let Some(length) = bytes.get(2..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
            (minimal(u64::from_be_bytes(*length), 65_536)?, 10)
        }
        short => (u64::from(short), 2),
    };
    let payload_bytes = match DEFLATE && is_compressed {
        false => check_size(opcode, payload_bytes, context)?,
        true => {
            let message_bytes_max = deflate::compressed_bytes_max(context.message_bytes_max);
            check_size(opcode, payload_bytes, Context { message_bytes_max, ..context })?
        }
    };
    let Some(key) = bytes.get(length_end..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
    Ok(Some(Header { opcode, is_final, key: *key, payload_bytes, header_bytes: length_end as u8 + 4 }))
}

/// "The minimal number of bytes MUST be used to encode the length" (5.2).
fn minimal(length: u64, at_least: u64) -> Result<u64, Misbehaviour> {
    if length < at_least { Err(Misbehaviour::LengthNotMinimal) } else { Ok(length) }
}

/// Which frames may follow which (5.4, 5.5).
fn check_order(opcode: Opcode, is_final: bool, fragments: u16) -> Result<(), Misbehaviour> {
    if opcode.is_control() {
        return if is_final { Ok(()) } else { Err(Misbehaviour::ControlFragmented) };
    }
    match (opcode, fragments) {
        (Opcode::Continuation, 0) => Err(Misbehaviour::ContinuationWithoutStart),
        (Opcode::Continuation, n) if u32::from(n) >= FRAGMENTS_MAX => Err(Misbehaviour::TooManyFragments),
        (Opcode::Text | Opcode::Binary, 1..) => Err(Misbehaviour::InterleavedMessage),
        _ => Ok(()),
    }
}

/// The limit holds for the message, so a fragment has what its predecessors left.
fn check_size(opcode: Opcode, payload_bytes: u64, context: Context) -> Result<u32, WsError> {
    let bytes_max = context.message_bytes_max.min(MESSAGE_BYTES_CEILING);
    let left =
        if opcode.is_control() { CONTROL_BYTES_MAX } else { bytes_max.saturating_sub(context.assembled_bytes) as u64 };
    match u32::try_from(payload_bytes) {
        Ok(bytes) if payload_bytes <= left => Ok(bytes),
        _ => Err(WsError::TooBig { bytes_max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Context = Context { fragments: 0, assembled_bytes: 0, message_bytes_max: 1 << 20 };
    const INSIDE: Context = Context { fragments: 1, assembled_bytes: 10, message_bytes_max: 20 };

    /// The verdict at the first prefix that has one; all shorter prefixes must be undecided.
    fn verdict(bytes: &[u8], context: Context) -> (usize, Result<Header, WsError>) {
        verdict_of::<false>(bytes, context)
    }

    fn verdict_of<const DEFLATE: bool>(bytes: &[u8], context: Context) -> (usize, Result<Header, WsError>) {
        for len in 0..=bytes.len() {
            match parse::<DEFLATE>(&bytes[..len], context) {
                Ok(None) => {}
                Ok(Some(header)) => return (len, Ok(header)),
                Err(e) => return (len, Err(e)),
            }
        }
        panic!("undecided: {bytes:02x?}");
    }

    fn refused(bytes: &[u8], context: Context) -> (usize, WsError) {
        let (len, result) = verdict(bytes, context);
        (len, result.unwrap_err())
    }

    #[test]
    fn reads_the_three_lengths() {
        let (len, header) = verdict(&[0x81, 0x85, 1, 2, 3, 4], START);
        let expected =
            Header { opcode: Opcode::Text, is_final: true, key: [1, 2, 3, 4], payload_bytes: 5, header_bytes: 6 };
        assert_eq!((len, header), (6, Ok(expected)));
        let (len, header) = verdict(&[0x02, 0xfe, 0, 126, 1, 2, 3, 4], START);
        let expected =
            Header { opcode: Opcode::Binary, is_final: false, payload_bytes: 126, header_bytes: 8, ..expected };
        assert_eq!((len, header), (8, Ok(expected)));
        let (len, header) = verdict(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], START);
        assert_eq!((len, header.map(|h| h.payload_bytes)), (CLIENT_HEADER_BYTES_MAX, Ok(65_536)));
    }

    #[test]
    fn refuses_at_the_byte_that_is_wrong() {
        use Misbehaviour::*;
        let misbehaved = |m: Misbehaviour| WsError::PeerMisbehaved(m);
        for first in [0xc1, 0xa1, 0x91, 0xf1, 0xc9, 0xc0] {
            assert_eq!(refused(&[first], START), (1, misbehaved(ReservedBit)), "{first:02x}");
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(refused(&[0x80 | opcode], START), (1, misbehaved(UnknownOpcode)), "{opcode}");
        }
        for opcode in [8, 9, 10] {
            assert_eq!(refused(&[opcode], START), (1, misbehaved(ControlFragmented)));
            assert_eq!(refused(&[0x80 | opcode, 0xfe], START), (2, misbehaved(ControlTooLong)));
            assert_eq!(refused(&[0x80 | opcode, 0xff], START), (2, misbehaved(ControlTooLong)));
        }
        assert_eq!(refused(&[0x80], START), (1, misbehaved(ContinuationWithoutStart)));
        assert_eq!(refused(&[0x81], INSIDE), (1, misbehaved(InterleavedMessage)));
        assert_eq!(refused(&[0x02], INSIDE), (1, misbehaved(InterleavedMessage)));
        assert_eq!(refused(&[0x81, 0x05], START), (2, misbehaved(NotMasked)));
        assert_eq!(refused(&[0x81, 0xfe, 0, 125], START), (4, misbehaved(LengthNotMinimal)));
        assert_eq!(refused(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], START), (10, misbehaved(LengthNotMinimal)));
        assert_eq!(refused(&[0x81, 0xff, 0x80], START), (3, misbehaved(LengthTopBit)));
    }

    /// RFC 7692 section 6.
    #[test]
    fn rsv1_is_for_the_first_frame_of_a_data_message_where_it_was_agreed_on() {
        for first in [0xc1, 0xc2, 0x41, 0x42] {
            assert!(verdict_of::<true>(&[first, 0x80, 1, 2, 3, 4], START).1.is_ok(), "{first:02x}");
        }
        let refused = |bytes: &[u8], context| verdict_of::<true>(bytes, context).1.unwrap_err();
        for first in [0xc0, 0x40] {
            assert_eq!(refused(&[first], INSIDE), Misbehaviour::ReservedBit.into(), "{first:02x}");
        }
        for first in [0xc8, 0xc9, 0xca, 0xc3, 0xcb, 0xa1, 0x91, 0xe1, 0xd2, 0xf1] {
            assert_eq!(refused(&[first], START), Misbehaviour::ReservedBit.into(), "{first:02x}");
        }
    }

    #[test]
    fn the_size_limit_counts_all_fragments() {
        assert!(verdict(&[0x80, 0x80 | 10, 0, 0, 0, 0], INSIDE).1.is_ok());
        assert_eq!(refused(&[0x80, 0x80 | 11], INSIDE), (2, WsError::TooBig { bytes_max: 20 }));
        // A ping is not part of the message.
        assert!(verdict(&[0x89, 0x80 | 125, 0, 0, 0, 0], INSIDE).1.is_ok());
    }

    #[test]
    fn lengths_beyond_32_bits_are_too_big_even_without_a_limit() {
        let unlimited = Context { message_bytes_max: usize::MAX, ..START };
        let at = [0x82, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(verdict(&at, unlimited).1.map(|h| h.payload_bytes), Ok(u32::MAX));
        let beyond = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(refused(&beyond, unlimited), (10, WsError::TooBig { bytes_max: MESSAGE_BYTES_CEILING }));
    }

    #[test]
    fn the_fragment_limit_and_one_more() {
        let last = Context { fragments: FRAGMENTS_MAX as u16 - 1, ..START };
        assert!(verdict(&[0x00, 0x80, 0, 0, 0, 0], last).1.is_ok());
        let beyond = Context { fragments: FRAGMENTS_MAX as u16, ..START };
        assert_eq!(refused(&[0x00], beyond), (1, Misbehaviour::TooManyFragments.into()));
    }
}
