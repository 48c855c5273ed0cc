//! The opening handshake (RFC 6455 section 4): the request, and whether the answer is a yes.
use memchr::memmem;

/// Fixed, so that a run repeats; the nonce and its answer are those of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An answer whose head does not end by here is no answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Appends the request for the path that `path` makes up.
pub fn request(out: &mut Vec<u8>, path: &[&str], host: &str, token: Option<&str>) {
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("GET ");
    path.iter().for_each(|piece| put(piece));
    put(" HTTP/1.1\r\nHost: ");
    put(host);
    put("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ");
    put(KEY);
    if let Some(token) = token {
        put("\r\nAuthorization: Bearer ");
        put(token);
    }
    put("\r\n\r\n");
}

/// See `Dialect::accepted`.
pub fn answer(data: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memmem::find(data, b"\r\n\r\n") else {
        return if data.len() < HEAD_BYTES_MAX { Ok(None) } else { Err("an answer without an end".into()) };
    };
    let (head, rest) = data.split_at(end + 4);
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii());
    let status = lines.next().unwrap_or_default();
    if !(status.starts_with(b"HTTP/1.1 101") && status.get(12).is_none_or(|byte| *byte == b' ')) {
        let body = &rest[..rest.len().min(300)];
        let text = [status, body].map(String::from_utf8_lossy).join(" ");
        return Err(format!("refused: {}", text.trim()));
    }
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        name.eq_ignore_ascii_case(b"sec-websocket-accept").then_some(value[1..].trim_ascii())
    });
    match values.next() {
        Some(ACCEPT) => Ok(Some(end + 4)),
        Some(other) => Err(format!("accepted with another key: {}", String::from_utf8_lossy(other))),
        None => Err("accepted without Sec-WebSocket-Accept".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Dialect, Identity};
    use tungstenite::handshake::derive_accept_key;

    const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn the_answer_is_the_one_to_our_key() {
        assert_eq!(derive_accept_key(KEY.as_bytes()).as_bytes(), ACCEPT);
    }

    #[test]
    fn every_dialect_asks_in_its_place() {
        let requested = |dialect: Dialect, token| {
            let mut out = Vec::new();
            dialect.upgrade(&mut out, "127.0.0.1:80", &Identity { user: "anna", token }, &["room-1", "room-2"]);
            String::from_utf8(out).unwrap()
        };
        let native = requested(Dialect::Native, Some("a.b.c"));
        assert!(native.starts_with("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"), "{native}");
        assert!(native.ends_with("\r\nAuthorization: Bearer a.b.c\r\n\r\n"), "{native}");
        let socketio = requested(Dialect::SocketIo, Some("a.b.c"));
        assert!(socketio.starts_with("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"), "{socketio}");
        assert!(!socketio.contains("Authorization"), "it goes into CONNECT: {socketio}");
        let nchan = requested(Dialect::Nchan, None);
        assert!(nchan.starts_with("GET /ws/room-1 HTTP/1.1\r\n") && !nchan.contains("Authorization"), "{nchan}");
    }

    #[test]
    fn a_yes_is_taken_once_it_is_whole() {
        for split in 0..YES.len() {
            assert_eq!(answer(&YES.as_bytes()[..split]), Ok(None), "{split}");
        }
        assert_eq!(answer(YES.as_bytes()), Ok(Some(YES.len())));
        assert_eq!(answer(format!("{YES}\u{1}\u{2}first frame").as_bytes()), Ok(Some(YES.len())));
    }

    #[test]
    fn everything_else_is_an_error_that_says_why() {
        let refusal = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n\r\n{\"error\":{\"code\":\"rate_limited\"}}";
        let error = answer(refusal.as_bytes()).unwrap_err();
        assert_eq!(error, "refused: HTTP/1.1 429 Too Many Requests {\"error\":{\"code\":\"rate_limited\"}}");
        assert!(answer(YES.replace("xOo=", "xOp=").as_bytes()).unwrap_err().contains("another key"));
        assert!(answer(YES.replace("accept", "key").as_bytes()).unwrap_err().contains("without"));
        assert!(answer(YES.replace("101 ", "1010 ").as_bytes()).unwrap_err().contains("refused"));
        assert_eq!(answer(&[b'x'; HEAD_BYTES_MAX - 1]), Ok(None));
        assert!(answer(&[b'x'; HEAD_BYTES_MAX]).unwrap_err().contains("without an end"));
    }
}
