//! Server frames: never masked, never fragmented (RFC 6455 5.1). What is compressed was compressed by the caller.
use super::header::{Opcode, RSV1};
use crate::base::close::CloseCode;

/// Longest header of a server frame: two bytes and a 64-bit length.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;

/// Bytes of a close reason: a control frame less the code.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// A frame built payload first.
///
/// The length of a payload is known when it has been written, and the header's size depends on it. So room for the
/// longest header is kept in front, and the header is put right before the payload, which does not move.
#[derive(Clone, Debug)]
pub struct FrameBuffer {
    /// `SERVER_HEADER_BYTES_MAX` reserved bytes, then the payload.
    bytes: Vec<u8>,
}

impl Default for FrameBuffer {
    fn default() -> FrameBuffer {
        FrameBuffer { bytes: vec![0; SERVER_HEADER_BYTES_MAX] }
    }
}

impl FrameBuffer {
    /// Forgets the payload, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(SERVER_HEADER_BYTES_MAX);
    }

    /// Where to append the payload. What is in it already is not the caller's: append, do not clear or truncate.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub fn payload_len(&self) -> usize {
        self.bytes.len().saturating_sub(SERVER_HEADER_BYTES_MAX)
    }

    /// The payload without the header.
    pub fn payload_bytes(&self) -> &[u8] {
        self.bytes.get(SERVER_HEADER_BYTES_MAX..).unwrap_or_default()
    }

    /// Writes the header; the frame is what is returned. The payload stays and may be finished again.
    pub fn finish(&mut self, opcode: Opcode) -> &[u8] {
        if self.bytes.len() < SERVER_HEADER_BYTES_MAX {
            // Someone cut into the reserve: the frame is empty, which is at least a frame.
            self.bytes.resize(SERVER_HEADER_BYTES_MAX, 0);
        }
        let (header, len) = header(opcode, self.payload_len());
        let start = SERVER_HEADER_BYTES_MAX - len;
        self.bytes[start..SERVER_HEADER_BYTES_MAX].copy_from_slice(&header[..len]);
        &self.bytes[start..]
    }
}

/// Appends a whole frame. A control payload must not exceed 125 bytes.
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    debug_assert!(!opcode.is_control() || payload.len() <= 125, "control frame too long");
    let (header, len) = header(opcode, payload.len());
    out.reserve(len + payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// Appends a whole frame whose payload is a compressed message (RFC 7692 section 6).
pub fn append_deflated_frame(out: &mut Vec<u8>, opcode: Opcode, deflated: &[u8]) {
    let start = out.len();
    append_frame(out, opcode, deflated);
    out[start] |= RSV1;
}

/// Appends a close frame. Without a code the body is empty and the reason dropped, as the RFC has it (5.5.1); a reason
/// that does not fit is cut at a character.
pub fn close_frame(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else { return append_frame(out, Opcode::Close, b"") };
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    out.extend_from_slice(&[0x80 | Opcode::Close as u8, 2 + reason.len() as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// Appends the close frame of one of our own codes, with its reason.
pub fn close_frame_for(out: &mut Vec<u8>, code: CloseCode) {
    close_frame(out, Some(code.number()), code.reason());
}

/// The payload of a whole server frame.
pub fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1).map_or(0, |length| length & 0x7f) {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// Length, header included, of the server frame that starts at `bytes[0]`. `None`: its header is not all there.
///
/// For finding where the next frame starts when a send stopped within one.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? & 0x7f {
        126 => Some(4 + usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?.checked_add(10),
        short => Some(2 + usize::from(short)),
    }
}

/// The header and how much of the array it takes.
fn header(opcode: Opcode, payload_len: usize) -> ([u8; SERVER_HEADER_BYTES_MAX], usize) {
    let mut bytes = [0; SERVER_HEADER_BYTES_MAX];
    bytes[0] = 0x80 | opcode as u8;
    match payload_len {
        ..126 => {
            bytes[1] = payload_len as u8;
            (bytes, 2)
        }
        126..65_536 => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            (bytes, 4)
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            (bytes, 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_6455_5_7() {
        let mut out = Vec::new();
        append_frame(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        append_frame(&mut out, Opcode::Binary, &[0; 256]);
        assert_eq!(&out[..5], [0x82, 0x7e, 0x01, 0x00, 0x00]);
        out.clear();
        append_frame(&mut out, Opcode::Binary, &[0; 65_536]);
        assert_eq!(&out[..11], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn both_ways_of_encoding_agree_at_every_border() {
        let mut buffer = FrameBuffer::default();
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![0x5a; len];
            let mut out = vec![1, 2, 3];
            append_frame(&mut out, Opcode::Binary, &payload);
            buffer.clear();
            buffer.payload().extend_from_slice(&payload);
            assert_eq!(buffer.payload_len(), len);
            assert_eq!(buffer.payload_bytes(), payload);
            assert_eq!(buffer.finish(Opcode::Binary), &out[3..], "{len}");
            assert_eq!(buffer.finish(Opcode::Text)[1..], out[4..], "finishing twice, {len}");
            assert_eq!(frame_len(&out[3..]), Some(out.len() - 3));
            assert_eq!(super::payload(&out[3..]), payload);
        }
    }

    #[test]
    fn frame_len_needs_the_header_only() {
        assert_eq!(frame_len(b""), None);
        assert_eq!(frame_len(&[0x81]), None);
        assert_eq!(frame_len(&[0x81, 0]), Some(2));
        assert_eq!(frame_len(&[0x81, 126, 1]), None);
        assert_eq!(frame_len(&[0x81, 126, 1, 0]), Some(260));
        assert_eq!(frame_len(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0]), None);
        assert_eq!(frame_len(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Some(65_546));
        assert_eq!(frame_len(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }

    #[test]
    fn close_frames_are_short_and_cut_at_a_character() {
        let mut out = Vec::new();
        close_frame(&mut out, None, "ignored");
        assert_eq!(out, [0x88, 0]);
        out.clear();
        close_frame_for(&mut out, CloseCode::Drain);
        assert_eq!(out[..4], [0x88, 16, 0x10, 0x68]);
        assert_eq!(&out[4..], b"Server closing");
        out.clear();
        close_frame(&mut out, Some(1000), &"\u{20ac}".repeat(100));
        assert_eq!(out.len(), 2 + 2 + 123);
        out.clear();
        close_frame(&mut out, Some(1000), &format!("a{}", "\u{20ac}".repeat(100)));
        assert_eq!(out.len(), 2 + 2 + 121);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn every_own_reason_fits() {
        for code in CloseCode::ALL {
            assert!(code.reason().len() <= CLOSE_REASON_BYTES_MAX);
            assert!(super::super::is_valid_close_code(code.number()));
        }
    }
}
