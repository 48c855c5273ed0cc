//! Server-sent events, the sending side (WHATWG HTML, section 9.2 "Server-sent events"). Sans-IO.
//!
//! Invariants:
//! * Lines end with LF, and every block with an empty line, which occurs nowhere else: `block_len` finds the end of a block by it.
//! * Whatever bytes a value holds, it cannot end its line: `data` becomes one line for each of its own, and a name or id that would
//!   need two is left out.
use super::http::cors::write_headers;

/// A comment without text in a block of its own: it makes no event, and shows that the way is open.
pub const PING: &[u8] = b":\n\n";

/// Appends one block. Nothing is said before `end`.
pub struct Block<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Block<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Block<'o> {
        Block { out }
    }

    /// The event's type. Without one it is `message`.
    pub fn event(self, name: &[u8]) -> Block<'o> {
        self.line(b"event: ", name)
    }

    /// What a client that reconnects brings in `Last-Event-ID`, from this event on.
    ///
    /// "If the field value does not contain U+0000 NULL, then set the last event ID buffer to the field value. Otherwise, ignore the
    /// field." One that would be ignored is not sent.
    pub fn id(self, id: &[u8]) -> Block<'o> {
        match memchr::memchr(0, id) {
            Some(_) => self,
            None => self.line(b"id: ", id),
        }
    }

    /// An id that `write` appends; it must hold neither NUL nor line end.
    pub fn id_of(self, write: impl FnOnce(&mut Vec<u8>)) -> Block<'o> {
        self.out.extend_from_slice(b"id: ");
        write(self.out);
        self.out.push(b'\n');
        self
    }

    /// How long a client waits before it reconnects, ms; holds until the next one.
    pub fn retry(self, ms: u64) -> Block<'o> {
        self.out.extend_from_slice(b"retry: ");
        crate::wire::json::integer(self.out, ms);
        self.out.push(b'\n');
        self
    }

    /// The payload, in pieces that follow each other. CR, LF and CRLF all end a line, so it is split at all three; the client joins
    /// the lines with LF. The one space behind the colon is not part of the value.
    pub fn data(self, pieces: &[&[u8]]) -> Block<'o> {
        self.out.extend_from_slice(b"data: ");
        let mut is_after_cr = false;
        for piece in pieces {
            let mut rest = *piece;
            // The LF of a CRLF that was cut between two pieces.
            if is_after_cr && rest.first() == Some(&b'\n') {
                rest = &rest[1..];
            }
            is_after_cr = is_after_cr && piece.is_empty();
            while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
                self.out.extend_from_slice(&rest[..at]);
                self.out.extend_from_slice(b"\ndata: ");
                let is_cr = rest[at] == b'\r';
                rest = &rest[at + 1..];
                is_after_cr = is_cr && rest.is_empty();
                if is_cr && rest.first() == Some(&b'\n') {
                    rest = &rest[1..];
                }
            }
            self.out.extend_from_slice(rest);
        }
        self.out.push(b'\n');
        self
    }

    /// The empty line.
    pub fn end(self) {
        self.out.push(b'\n');
    }

    fn line(self, field: &[u8], value: &[u8]) -> Block<'o> {
        if memchr::memchr2(b'\r', b'\n', value).is_none() {
            self.out.extend_from_slice(field);
            self.out.extend_from_slice(value);
            self.out.push(b'\n');
        }
        self
    }
}

/// Length of the block at the start of `bytes`, its empty line included. `None`: it is not all there.
pub fn block_len(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\n\n").map(|at| at + 2)
}

/// The answer that begins an event stream, with further headers (CORS).
///
/// The body has no length and no chunks: it ends with the connection (RFC 9112 6.3), so a room's bytes go out as they are in its
/// log. `no-transform` keeps proxies from compressing, which would delay events; `X-Accel-Buffering` is nginx's word for the same.
pub fn write_head(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store, no-transform\r\n\
          X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n",
    );
    write_headers(out, headers);
    out.extend_from_slice(b"Connection: close\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(write: impl FnOnce(Block<'_>)) -> String {
        let mut out = Vec::new();
        write(Block::new(&mut out));
        assert_eq!(block_len(&out), Some(out.len()), "{:?}", String::from_utf8_lossy(&out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_stand_in_lines() {
        let all = block(|block| block.event(b"x").id(b"e:1").retry(10).data(&[b"one"]).end());
        assert_eq!(all, "event: x\nid: e:1\nretry: 10\ndata: one\n\n");
        assert_eq!(block(|block| block.retry(0).end()), "retry: 0\n\n");
        assert_eq!(block(|block| block.data(&[]).end()), "data: \n\n");
        assert_eq!(block_len(PING), Some(PING.len()));
    }

    #[test]
    fn all_three_line_ends_split_data() {
        for data in ["a\rb", "a\nb", "a\r\nb"] {
            assert_eq!(block(|block| block.data(&[data.as_bytes()]).end()), "data: a\ndata: b\n\n", "{data:?}");
        }
        assert_eq!(block(|block| block.data(&[b"a\n\nb\r\r\n"]).end()), "data: a\ndata: \ndata: b\ndata: \ndata: \n\n");
    }

    #[test]
    fn a_line_end_may_lie_between_two_pieces() {
        for pieces in [&["a\r", "\nb"][..], &["a", "\r", "", "\n", "b"], &["a\r\n", "b"], &["", "a", "\nb"]] {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            assert_eq!(block(|block| block.data(&pieces).end()), "data: a\ndata: b\n\n", "{pieces:?}");
        }
        assert_eq!(block(|block| block.data(&[b"a\r", b"b", b"\nc"]).end()), "data: a\ndata: b\ndata: c\n\n");
    }

    #[test]
    fn names_and_ids_cannot_end_their_line() {
        for bad in [&b"a\nb"[..], b"a\r", b"\r\nid: x"] {
            assert_eq!(block(|block| block.event(bad).id(bad).data(&[b"d"]).end()), "data: d\n\n");
        }
        assert_eq!(block(|block| block.id(b"a\0").data(&[b"d"]).end()), "data: d\n\n");
    }

    #[test]
    fn a_cut_block_has_no_length() {
        let whole = block(|block| block.event(b"x").data(&[b"1\n2"]).end());
        for cut in 0..whole.len() {
            assert_eq!(block_len(&whole.as_bytes()[..cut]), None, "{cut}");
        }
        let two = [whole.as_bytes(), PING].concat();
        assert_eq!(block_len(&two), Some(whole.len()));
    }

    #[test]
    fn the_head_is_a_whole_response() {
        let mut out = Vec::new();
        write_head(&mut out, &[("Vary", "Origin")]);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        assert_eq!(response.parse(&out).unwrap().unwrap(), out.len());
        let value = |name: &str| response.headers.iter().find(|header| header.name == name).map(|header| header.value);
        assert_eq!(response.code, Some(200));
        assert_eq!(value("Content-Type"), Some(&b"text/event-stream"[..]));
        assert_eq!(value("Cache-Control"), Some(&b"no-store, no-transform"[..]));
        assert_eq!((value("X-Accel-Buffering"), value("Connection")), (Some(&b"no"[..]), Some(&b"close"[..])));
        assert_eq!(
            (value("Vary"), value("Content-Length"), value("Transfer-Encoding")),
            (Some(&b"Origin"[..]), None, None)
        );
    }
}
