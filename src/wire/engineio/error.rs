//! What a request is refused with. Codes, texts and statuses are those of npm `engine.io`, on which clients rely.
use thiserror::Error;

/// Why a request on `/socket.io/` or `/engine.io/` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum RequestError {
    #[error("Transport unknown")]
    UnknownTransport,
    #[error("Session ID unknown")]
    UnknownSid,
    /// A handshake not by GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// Malformed; `transport=websocket` without an upgrade; a polling request on an upgraded session.
    #[error("Bad request")]
    BadRequest,
    /// By policy: origin, address limits.
    #[error("Forbidden")]
    Forbidden,
    /// `EIO` is missing or not 4, nor 3 where that is allowed.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
    /// A second GET, or a second POST, while one is open. The session ends.
    #[error("two requests at once")]
    Overlap,
    /// A POST above `sio.max_payload_bytes`. The session lives on, unless the length was not known beforehand.
    #[error("payload too large")]
    PayloadTooLarge,
    /// A POST of a type that this revision does not have: binary in revision 4. The session ends.
    #[error("unexpected content type")]
    ContentType,
    /// A POST whose body is no payload. The session ends.
    #[error("malformed payload")]
    Payload,
}

impl RequestError {
    pub const ALL: [RequestError; 10] = [
        RequestError::UnknownTransport,
        RequestError::UnknownSid,
        RequestError::BadHandshakeMethod,
        RequestError::BadRequest,
        RequestError::Forbidden,
        RequestError::UnsupportedVersion,
        RequestError::Overlap,
        RequestError::PayloadTooLarge,
        RequestError::ContentType,
        RequestError::Payload,
    ];

    /// The `code` in the body; none where the body is empty.
    pub const fn code(self) -> Option<u8> {
        match self {
            RequestError::UnknownTransport => Some(0),
            RequestError::UnknownSid => Some(1),
            RequestError::BadHandshakeMethod => Some(2),
            RequestError::BadRequest => Some(3),
            RequestError::Forbidden => Some(4),
            RequestError::UnsupportedVersion => Some(5),
            RequestError::Overlap
            | RequestError::PayloadTooLarge
            | RequestError::ContentType
            | RequestError::Payload => None,
        }
    }

    /// HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            RequestError::Forbidden => 403,
            RequestError::PayloadTooLarge => 413,
            _ => 400,
        }
    }

    /// The body of the answer, `application/json`; may be empty.
    pub const fn body(self) -> &'static str {
        match self {
            RequestError::UnknownTransport => r#"{"code":0,"message":"Transport unknown"}"#,
            RequestError::UnknownSid => r#"{"code":1,"message":"Session ID unknown"}"#,
            RequestError::BadHandshakeMethod => r#"{"code":2,"message":"Bad handshake method"}"#,
            RequestError::BadRequest => r#"{"code":3,"message":"Bad request"}"#,
            RequestError::Forbidden => r#"{"code":4,"message":"Forbidden"}"#,
            RequestError::UnsupportedVersion => r#"{"code":5,"message":"Unsupported protocol version"}"#,
            RequestError::Overlap
            | RequestError::PayloadTooLarge
            | RequestError::ContentType
            | RequestError::Payload => "",
        }
    }

    /// Status and `text/plain` body of the answer to a WebSocket upgrade; the connection ends with it.
    pub const fn upgrade_answer(self) -> (u16, &'static str) {
        let text = match self {
            RequestError::UnknownTransport => "Transport unknown",
            RequestError::UnknownSid => "Session ID unknown",
            RequestError::BadHandshakeMethod => "Bad handshake method",
            RequestError::Forbidden => "Forbidden",
            RequestError::UnsupportedVersion => "Unsupported protocol version",
            _ => "Bad request",
        };
        (400, text)
    }

    /// Whether the session that the request named ends.
    pub const fn ends_session(self) -> bool {
        matches!(self, RequestError::Overlap | RequestError::ContentType | RequestError::Payload)
    }

    /// A name for counters.
    pub const fn label(self) -> &'static str {
        match self {
            RequestError::UnknownTransport => "unknown_transport",
            RequestError::UnknownSid => "unknown_sid",
            RequestError::BadHandshakeMethod => "bad_handshake_method",
            RequestError::BadRequest => "bad_request",
            RequestError::Forbidden => "forbidden",
            RequestError::UnsupportedVersion => "unsupported_version",
            RequestError::Overlap => "overlap",
            RequestError::PayloadTooLarge => "payload_too_large",
            RequestError::ContentType => "content_type",
            RequestError::Payload => "payload",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_say_code_and_text() {
        for error in RequestError::ALL {
            let Some(code) = error.code() else {
                assert_eq!(error.body(), "");
                continue;
            };
            let body: serde_json::Value = serde_json::from_str(error.body()).unwrap();
            assert_eq!(body, serde_json::json!({"code": code, "message": error.to_string()}));
            assert_eq!(error.upgrade_answer().1, error.to_string());
            assert!(!error.ends_session());
        }
    }

    #[test]
    fn statuses() {
        let odd: Vec<_> = RequestError::ALL.into_iter().filter(|error| error.status() != 400).collect();
        assert_eq!(odd, [RequestError::Forbidden, RequestError::PayloadTooLarge]);
        assert_eq!(RequestError::PayloadTooLarge.status(), 413);
        assert!(!RequestError::PayloadTooLarge.ends_session());
    }
}
