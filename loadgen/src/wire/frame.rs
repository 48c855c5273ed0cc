//! WebSocket frames as a client has to do with them (RFC 6455 section 5): builds masked ones, walks unmasked ones.
use thiserror::Error;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Longer frames are refused on their header: no message of a scenario comes near, and waiting for one would never end.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Fixed, so that a run repeats. Not zero: a server that skips unmasking for zero keys would be measured wrongly.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];

/// One frame at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub is_final: bool,
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Header and payload.
    pub bytes: usize,
}

/// What a server must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a frame with reserved bits, though no extension was agreed")]
    Reserved,
    #[error("a frame with the unknown opcode {0}")]
    Opcode(u8),
    #[error("a masked frame from a server")]
    Masked,
    #[error("a control frame that is fragmented or longer than 125 bytes")]
    Control,
    #[error("a frame of {0} bytes")]
    Length(u64),
}

/// The first frame of `data`; `None` while it is incomplete. Errors are found on the header.
pub fn first(data: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let [head, short, ..] = *data else { return Ok(None) };
    let (is_final, opcode) = (head & 0x80 != 0, head & 0x0f);
    if head & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    if short & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    match opcode {
        CONTINUATION | TEXT | BINARY => {}
        CLOSE | PING | PONG if is_final && short <= 125 => {}
        CLOSE | PING | PONG => return Err(FrameError::Control),
        _ => return Err(FrameError::Opcode(opcode)),
    }
    let (length, at) = match (short, data) {
        (126, &[_, _, a, b, ..]) => (u16::from_be_bytes([a, b]).into(), 4),
        (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
        (126 | 127, _) => return Ok(None),
        _ => (short.into(), 2),
    };
    if length > PAYLOAD_BYTES_MAX as u64 {
        return Err(FrameError::Length(length));
    }
    let bytes = at + length as usize;
    let Some(payload) = data.get(at..bytes) else { return Ok(None) };
    Ok(Some(Frame { is_final, opcode, payload, bytes }))
}

/// Code of a close frame's payload; 1005 if it gives none.
pub fn close_code(payload: &[u8]) -> u16 {
    match *payload {
        [a, b, ..] => u16::from_be_bytes([a, b]),
        _ => 1005,
    }
}

/// Appends a complete masked frame.
pub fn masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    write(opcode, out, |out| out.extend_from_slice(payload));
}

/// Appends a complete masked frame around what `payload` appends.
pub fn write(opcode: u8, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    /// Room for the length of most messages; put right once it is known.
    const USUAL: usize = 8;
    let start = out.len();
    out.extend_from_slice(&[0; USUAL]);
    payload(out);
    let length = out.len() - start - USUAL;
    let mut head = [0; 14];
    head[0] = 0x80 | opcode;
    let header = match length {
        0..=125 => {
            head[1] = 0x80 | length as u8;
            out.copy_within(start + USUAL.., start + 6);
            out.truncate(start + 6 + length);
            6
        }
        126..=65_535 => {
            head[1] = 0x80 | 126;
            head[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            USUAL
        }
        _ => {
            head[1] = 0x80 | 127;
            head[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            out.extend_from_slice(&[0; 6]);
            out.copy_within(start + USUAL..start + USUAL + length, start + 14);
            14
        }
    };
    head[header - 4..header].copy_from_slice(&MASK);
    out[start..start + header].copy_from_slice(&head[..header]);
    mask(&mut out[start + header..]);
}

fn mask(payload: &mut [u8]) {
    let wide = u64::from_ne_bytes(std::array::from_fn(|at| MASK[at % 4]));
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

    fn unmasked(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = FrameHeader { is_final, ..FrameHeader::default() };
        header.opcode = OpCode::from(opcode);
        let mut frame = Vec::new();
        header.format(payload.len() as u64, &mut frame).unwrap();
        frame.extend_from_slice(payload);
        frame
    }

    /// Every length form, at both of its ends.
    const LENGTHS: [usize; 8] = [0, 1, 125, 126, 127, 65_535, 65_536, 70_001];

    #[test]
    fn frames_come_out_at_every_split() {
        for length in LENGTHS {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let frame = unmasked(length % 2 == 0, TEXT, &payload);
            let step = (frame.len() / 500).max(1);
            for split in (0..frame.len()).step_by(step).chain(0..frame.len().min(20)) {
                assert_eq!(first(&frame[..split]), Ok(None), "{length}, {split}");
            }
            let expected = Frame { is_final: length % 2 == 0, opcode: TEXT, payload: &payload, bytes: frame.len() };
            assert_eq!(first(&frame), Ok(Some(expected)));
            assert_eq!(first(&[frame.as_slice(), b"\x81\x05next"].concat()), Ok(Some(expected)));
        }
    }

    #[test]
    fn another_implementation_reads_what_we_write() {
        for length in LENGTHS {
            let payload: Vec<u8> = (0..length).map(|at| b'a' + (at % 23) as u8).collect();
            let mut out = b"before".to_vec();
            masked(TEXT, &payload, &mut out);
            assert!(out.starts_with(b"before"));
            assert_eq!(read_by_tungstenite(&out[6..]), [(OpCode::from(TEXT), payload)]);
        }
    }

    /// Frames as tungstenite takes them apart and unmasks them.
    pub fn read_by_tungstenite(data: &[u8]) -> Vec<(OpCode, Vec<u8>)> {
        let mut cursor = std::io::Cursor::new(data);
        let mut frames = Vec::new();
        while (cursor.position() as usize) < data.len() {
            let (header, length) = FrameHeader::parse(&mut cursor).unwrap().expect("a whole header");
            let mask = header.mask.expect("masked");
            assert_ne!(mask, [0; 4]);
            assert!(header.is_final && !header.rsv1);
            let at = cursor.position() as usize;
            let payload = &data[at..at + length as usize];
            let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            frames.push((header.opcode, payload));
            cursor.set_position((at + length as usize) as u64);
        }
        frames
    }

    #[test]
    fn breaches_are_found_on_the_header() {
        assert_eq!(first(&[0xc1, 0]), Err(FrameError::Reserved));
        assert_eq!(first(&[0x81, 0x80]), Err(FrameError::Masked));
        assert_eq!(first(&[0x83, 0]), Err(FrameError::Opcode(3)));
        assert_eq!(first(&[0x09, 0]), Err(FrameError::Control));
        assert_eq!(first(&[0x88, 126]), Err(FrameError::Control));
        let length = PAYLOAD_BYTES_MAX as u64 + 1;
        let frame = [&[0x81, 127], length.to_be_bytes().as_slice()].concat();
        assert_eq!(first(&frame), Err(FrameError::Length(length)));
        let frame = [&[0x81, 127], (length - 1).to_be_bytes().as_slice()].concat();
        assert_eq!(first(&frame), Ok(None));
        assert_eq!((close_code(b""), close_code(b"\x03"), close_code(b"\x03\xe8bye")), (1005, 1005, 1000));
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_frame_as_the_whole(payload in prop::collection::vec(any::<u8>(), 0..300), cut: usize) {
            let cut = cut % (payload.len() + 1);
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            masked(TEXT, &payload, &mut whole);
            write(TEXT, &mut pieces, |out| {
                out.extend_from_slice(&payload[..cut]);
                out.extend_from_slice(&payload[cut..]);
            });
            prop_assert_eq!(&whole, &pieces);
            prop_assert_eq!(read_by_tungstenite(&whole), [(OpCode::from(TEXT), payload)]);
        }

        #[test]
        fn noise_is_a_frame_an_error_or_too_short(data in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some(frame)) = first(&data) {
                prop_assert!(frame.bytes <= data.len() && frame.payload.len() < frame.bytes);
            }
        }
    }
}
