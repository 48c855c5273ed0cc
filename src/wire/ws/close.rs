//! The body of a close frame (RFC 6455 5.5.1, 7.4).
use super::error::{Misbehaviour, WsError};
use super::utf8;

/// Whether a peer may send this code: those defined by RFC 6455 and the IANA registry for use on the wire, and the
/// ranges for libraries (3000–3999) and applications (4000–4999).
pub const fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Code and reason of a received close body; an empty body has no code.
pub fn parse_body(body: &[u8]) -> Result<(Option<u16>, &[u8]), WsError> {
    match body {
        [] => Ok((None, body)),
        [_] => Err(Misbehaviour::CloseBodyTooShort.into()),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_valid_close_code(code) {
                return Err(Misbehaviour::InvalidCloseCode.into());
            }
            if !utf8::is_valid(reason) {
                return Err(WsError::InvalidText);
            }
            Ok((Some(code), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::coding::CloseCode;

    #[test]
    fn codes_that_suites_send() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(is_valid_close_code(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!is_valid_close_code(code), "{code}");
        }
    }

    /// tungstenite knows the same table, but for 1014 (bad gateway), which the IANA registry lists.
    #[test]
    fn agrees_with_tungstenite_on_every_code() {
        for code in 0..=u16::MAX {
            let theirs = CloseCode::from(code).is_allowed();
            assert_eq!(is_valid_close_code(code), theirs || code == 1014, "{code}");
        }
    }

    #[test]
    fn bodies() {
        assert_eq!(parse_body(b""), Ok((None, &b""[..])));
        assert_eq!(parse_body(b"\x03"), Err(Misbehaviour::CloseBodyTooShort.into()));
        assert_eq!(parse_body(b"\x03\xe8"), Ok((Some(1000), &b""[..])));
        assert_eq!(parse_body(b"\x0f\xa0bye"), Ok((Some(4000), &b"bye"[..])));
        assert_eq!(parse_body(b"\x03\xec"), Err(Misbehaviour::InvalidCloseCode.into()));
        assert_eq!(parse_body(b"\x03\xe8\xff"), Err(WsError::InvalidText));
        assert_eq!(parse_body(b"\x03\xe8\xe2\x82"), Err(WsError::InvalidText));
    }
}
