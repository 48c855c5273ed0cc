//! The client's half of RFC 6455: masked frames out, unmasked and whole frames in.
use throng::plane::SimRng;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// One masked frame.
pub fn frame(rng: &mut SimRng, opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::from(is_final) << 7 | opcode];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let mut key = [0; 4];
    rng.fill(&mut key);
    out.extend(key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// A text message in several fragments, perhaps of no bytes. What `between` makes goes between them.
pub fn fragmented(rng: &mut SimRng, payload: &[u8], mut between: impl FnMut(&mut SimRng) -> Vec<u8>) -> Vec<u8> {
    let (count, mut rest, mut out) = (2 + rng.below(3), payload, Vec::new());
    for index in 0..count {
        let is_last = index + 1 == count;
        let (piece, behind) = rest.split_at(if is_last { rest.len() } else { rng.below(rest.len() + 1) });
        rest = behind;
        out.extend(frame(rng, if index == 0 { TEXT } else { 0 }, is_last, piece));
        if !is_last {
            out.extend(between(rng));
        }
    }
    out
}

#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Text(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// What the server sends on one connection: an HTTP response, then frames.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
    has_head: bool,
}

impl Reader {
    pub fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether part of a frame is there.
    pub fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next frame, or what is wrong with it.
    pub fn next(&mut self) -> Result<Option<Frame>, String> {
        if !self.has_head {
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
            let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
            if head != super::server::RESPONSE {
                return Err(format!("the response was changed: {}", head.escape_ascii()));
            }
            self.has_head = true;
        }
        let [first, second, ..] = self.buffer[..] else { return Ok(None) };
        if first & 0xf0 != 0x80 || second & 0x80 != 0 {
            return Err(format!("the server sent a frame that begins {first:02x} {second:02x}"));
        }
        let wide = |range: std::ops::Range<usize>| {
            let bytes = self.buffer.get(range)?;
            Some(bytes.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)))
        };
        let (start, len) = match second {
            126 => (4, wide(2..4)),
            127 => (10, wide(2..10)),
            len => (2, Some(usize::from(len))),
        };
        let Some(len) = len.filter(|len| self.buffer.len() >= start + len) else { return Ok(None) };
        if (second == 126 && len < 126) || (second == 127 && len < 65_536) {
            return Err(format!("a length of {len} is not in its shortest form"));
        }
        let payload = self.buffer[start..start + len].to_vec();
        self.buffer.drain(..start + len);
        match first & 0x0f {
            TEXT => Ok(Some(Frame::Text(payload))),
            PING => Ok(Some(Frame::Ping(payload))),
            PONG => Ok(Some(Frame::Pong(payload))),
            CLOSE if payload.is_empty() => Ok(Some(Frame::Close(None))),
            CLOSE if payload.len() >= 2 => Ok(Some(Frame::Close(Some(u16::from_be_bytes([payload[0], payload[1]]))))),
            opcode => Err(format!("the server sent a frame of opcode {opcode} and {len} bytes")),
        }
    }
}
