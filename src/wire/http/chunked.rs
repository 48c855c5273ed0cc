//! Bodies whose length is not known beforehand: `Transfer-Encoding: chunked` (RFC 9112, section 7.1).
//!
//! Browsers and clients of Engine.IO give a length; a proxy between them and the server may not. Extensions and trailers say nothing
//! here and are read over.
use crate::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};
use memchr::memmem;

/// How far the body has been read.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of trailers so far.
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The line with the next chunk's size.
    #[default]
    Size,
    /// So many bytes of the chunk are to come.
    Data(usize),
    /// The line break behind them.
    DataEnd,
    Trailers,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    #[error("a chunk that is none")]
    Malformed,
    #[error("the body is too large")]
    TooLarge,
}

impl Chunked {
    /// Appends to `body`, which may have `bytes_max` bytes in the end, what is in `input` of it, and says how many bytes of `input` it has
    /// used. The rest is to come again, with more behind it, or belongs to the next request.
    ///
    /// # Errors
    /// Nothing more can be read from the connection after one.
    pub fn read(&mut self, input: &[u8], body: &mut Vec<u8>, bytes_max: usize) -> Result<usize, ChunkedError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Size => {
                    let Some(line) = line(rest, CHUNK_LINE_BYTES_MAX)? else { break };
                    let size = chunk_size(line)?;
                    if size > bytes_max.saturating_sub(body.len()) {
                        return Err(ChunkedError::TooLarge);
                    }
                    used += line.len() + 2;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    let taken = left.min(rest.len());
                    body.extend_from_slice(&rest[..taken]);
                    used += taken;
                    if taken < left {
                        self.state = State::Data(left - taken);
                        break;
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(ChunkedError::Malformed),
                },
                State::Trailers => {
                    let Some(line) = line(rest, TRAILER_BYTES_MAX - self.trailers)? else { break };
                    used += line.len() + 2;
                    self.trailers += line.len();
                    if line.is_empty() {
                        self.state = State::Done;
                    }
                }
                State::Done => break,
            }
        }
        Ok(used)
    }

    /// The whole body has been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// A line without its break; none if it is not there yet.
fn line(input: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, ChunkedError> {
    match memmem::find(input, b"\r\n") {
        Some(end) if end <= bytes_max => Ok(Some(&input[..end])),
        None if input.len() <= bytes_max + 1 => Ok(None),
        _ => Err(ChunkedError::Malformed),
    }
}

/// Hexadecimal digits, and perhaps an extension behind them.
fn chunk_size(line: &[u8]) -> Result<usize, ChunkedError> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, behind) = line.split_at(end);
    if !matches!(behind, [] | [b';' | b' ' | b'\t', ..]) {
        return Err(ChunkedError::Malformed);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| ChunkedError::Malformed)?;
    // Digits only, so what does not parse is none at all or too many.
    match usize::from_str_radix(digits, 16) {
        Ok(size) => Ok(size),
        Err(_) if digits.is_empty() => Err(ChunkedError::Malformed),
        Err(_) => Err(ChunkedError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A body, and what stands behind it.
    type Whole = (Vec<u8>, Vec<u8>);

    /// Body and what follows it.
    fn read(input: &[u8], bytes_max: usize) -> Result<Option<Whole>, ChunkedError> {
        let (mut chunked, mut body) = (Chunked::default(), Vec::new());
        let used = chunked.read(input, &mut body, bytes_max)?;
        Ok(chunked.is_done().then(|| (body, input[used..].to_vec())))
    }

    #[test]
    fn bodies() {
        for (input, body, rest) in [
            (&b"0\r\n\r\n"[..], &b""[..], &b""[..]),
            (b"1\r\n3\r\n0\r\n\r\n", b"3", b""),
            (b"3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\nGET /", b"abc0123456789", b"GET /"),
            (b"2;name=\"value\"\r\n\r\n\r\n0;last\r\nX-Sum: 1\r\nY: 2\r\n\r\n", b"\r\n", b""),
        ] {
            assert_eq!(read(input, 13), Ok(Some((body.to_vec(), rest.to_vec()))));
        }
    }

    #[test]
    fn what_is_none() {
        let long = [b"1;".to_vec(), vec![b'x'; CHUNK_LINE_BYTES_MAX]].concat();
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(TRAILER_BYTES_MAX / 4 + 1)].concat();
        for input in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"1x\r\na\r\n",
            b"+1\r\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            &long,
            &trailers,
        ] {
            assert_eq!(read(input, 100), Err(ChunkedError::Malformed), "{:?}", String::from_utf8_lossy(input));
        }
        for input in [&b"b\r\n"[..], b"5\r\nabcde\r\n6\r\n", b"fffffffffffffffffff\r\n"] {
            assert_eq!(read(input, 10), Err(ChunkedError::TooLarge));
        }
        for input in [&b""[..], b"1", b"1\r", b"1\r\n", b"1\r\na", b"1\r\na\r", b"0\r\n", b"0\r\nx: y\r\n"] {
            assert_eq!(read(input, 100), Ok(None));
        }
    }

    proptest! {
        /// However it is cut, by the sender into chunks and on its way into pieces.
        #[test]
        fn any_cut_gives_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            pieces in prop::collection::vec(1_usize..20, 1..200),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\nbehind");
            let (mut chunked, mut body, mut held) = (Chunked::default(), Vec::new(), Vec::new());
            let mut sizes = pieces.iter().cycle();
            let mut left = &wire[..];
            while !left.is_empty() {
                let (piece, rest) = left.split_at((*sizes.next().unwrap()).min(left.len()));
                left = rest;
                held.extend_from_slice(piece);
                let used = chunked.read(&held, &mut body, 1_000).unwrap();
                held.drain(..used);
            }
            prop_assert!(chunked.is_done());
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(held, b"behind");
        }
    }
}
