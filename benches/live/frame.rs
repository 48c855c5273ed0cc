//! WebSocket frames as a client sees them (RFC 6455 section 5): builds masked ones, walks unmasked ones.

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Any but zero: an unmasking that skips zero keys would be measured wrongly.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];

/// A complete masked frame, ready for the socket.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        n @ 0..=125 => frame.push(0x80 | n as u8),
        n @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A complete unmasked frame, as a server sends it.
pub fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        n @ 0..=125 => frame.push(n as u8),
        n => {
            frame.push(126);
            frame.extend(u16::try_from(n).expect("below 64 KiB").to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A masked text frame with a decimal number in it that can be replaced in place.
#[derive(Clone)]
pub struct Numbered {
    frame: Vec<u8>,
    payload_at: usize,
    digits_at: usize,
    digits: usize,
}

impl Numbered {
    /// `marker` is the run of `#` in `payload` that stands for the number.
    pub fn new(payload: &str, marker: &str) -> Numbered {
        let frame = masked(TEXT, payload.as_bytes());
        let payload_at = frame.len() - payload.len();
        let digits_at = payload.find(marker).expect("the payload holds the marker");
        Numbered { frame, payload_at, digits_at, digits: marker.len() }
    }

    pub fn with(&mut self, mut number: u64) -> &[u8] {
        for at in (self.digits_at..self.digits_at + self.digits).rev() {
            self.frame[self.payload_at + at] = (b'0' + (number % 10) as u8) ^ MASK[at % 4];
            number /= 10;
        }
        &self.frame
    }
}

/// One frame at the start of a buffer.
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Bytes of header and payload.
    pub bytes: usize,
}

/// The first frame of `data`, `None` while it is incomplete. `is_masked`: who sent it, a client or a server.
/// Fragments and extensions are errors: no peer of this comparison sends them.
pub fn first(data: &[u8], is_masked: bool) -> Result<Option<Frame<'_>>, String> {
    let [head, length, ..] = *data else { return Ok(None) };
    if head & 0xf0 != 0x80 || (length & 0x80 != 0) != is_masked {
        return Err(format!("unexpected frame header {head:02x} {length:02x}"));
    }
    let (length, mut at) = match length & 0x7f {
        126 => match data.get(2..4) {
            Some(bytes) => (u16::from_be_bytes([bytes[0], bytes[1]]) as usize, 4),
            None => return Ok(None),
        },
        127 => match data.get(2..10) {
            Some(bytes) => (u64::from_be_bytes(bytes.try_into().expect("eight bytes")) as usize, 10),
            None => return Ok(None),
        },
        short => (short as usize, 2),
    };
    at += 4 * is_masked as usize;
    let Some(payload) = data.get(at..at.saturating_add(length)) else { return Ok(None) };
    Ok(Some(Frame { opcode: head & 0x0f, payload, bytes: at + length }))
}
