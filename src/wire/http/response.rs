//! Answers that end a connection: refusals with a JSON body.
//!
//! Every response closes. The front door serves one request per connection: upgrades become WebSockets, and what
//! belongs to the services is handed over before an answer.
use crate::base::refusal::Code;
use smallvec::SmallVec;
use std::fmt::Write as _;

/// A refusal of a request: status, and the error object of product section 3.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub status: u16,
    /// Machine-readable name; one of [`Code`]'s where one fits.
    pub code: &'static str,
    /// For people. Never contains what the client sent.
    pub message: &'static str,
    /// Whether the same request may succeed later.
    pub is_retryable: bool,
    /// `Retry-After`, seconds; meant for 429 and 503.
    pub retry_after_s: Option<u32>,
}

impl Failure {
    /// A failure with a name of its own, not worth repeating.
    pub const fn new(status: u16, code: &'static str, message: &'static str) -> Failure {
        Failure { status, code, message, is_retryable: false, retry_after_s: None }
    }

    /// A failure that has a place in the table of refusals.
    pub const fn of(status: u16, code: Code, message: &'static str) -> Failure {
        let is_retryable = code.is_retryable();
        Failure { status, code: code.as_str(), message, is_retryable, retry_after_s: None }
    }

    /// 403: the origin is not allowed (R-CONN-1).
    pub const fn origin_forbidden() -> Failure {
        Failure::of(403, Code::Forbidden, "Origin not allowed")
    }

    /// 401: the token is not good (R-AUTH-1). Which check failed is not said.
    pub const fn bad_token() -> Failure {
        Failure::of(401, Code::AuthFailed, Code::AuthFailed.text())
    }

    /// 404: nothing lives at this path.
    pub const fn not_found() -> Failure {
        Failure::of(404, Code::NotFound, Code::NotFound.text())
    }

    /// 408: the head did not arrive in `http.head_timeout_ms` (R-CONN-2).
    pub const fn head_timeout() -> Failure {
        Failure { is_retryable: true, ..Failure::new(408, "timeout", "Request not received in time") }
    }

    /// 400: HTTP where TLS is spoken.
    pub const fn tls_required() -> Failure {
        Failure::new(400, "tls_required", "This port speaks TLS: use https:// or wss://")
    }

    /// 429: this address has too many connections or handshakes (R-CONN-2).
    pub const fn too_many_requests(retry_after_s: u32) -> Failure {
        let failure = Failure::of(429, Code::RateLimited, "Too many connections from this address");
        Failure { retry_after_s: Some(retry_after_s), ..failure }
    }

    /// 503: the server is full or draining (R-CONN-2, R-CONN-6).
    pub const fn unavailable(retry_after_s: u32) -> Failure {
        let failure = Failure::of(503, Code::Overloaded, Code::Overloaded.text());
        Failure { retry_after_s: Some(retry_after_s), ..failure }
    }

    /// Appends the whole response.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_with(out, &[]);
    }

    /// The same with further headers.
    pub fn write_with(&self, out: &mut Vec<u8>, further: &[(&str, &str)]) {
        // The texts are ours, but a quote in one of them must not break the body.
        let message = serde_json::Value::from(self.message).to_string();
        let body =
            format!(r#"{{"error":{{"code":"{}","message":{message},"retryable":{}}}}}"#, self.code, self.is_retryable);
        let seconds = self.retry_after_s.map(|s| s.to_string());
        let mut headers: SmallVec<[(&str, &str); 6]> = SmallVec::from_slice(further);
        headers.extend(required_header(self.status));
        headers.extend(seconds.as_deref().map(|seconds| ("Retry-After", seconds)));
        write_response(out, self.status, &headers, "application/json", body.as_bytes());
    }
}

/// Headers without which a status is not valid: RFC 9110 15.5.2, 15.5.6; RFC 6455 4.4.
const fn required_header(status: u16) -> Option<(&'static str, &'static str)> {
    match status {
        401 => Some(("WWW-Authenticate", "Bearer")),
        405 => Some(("Allow", "GET")),
        426 => Some(("Sec-WebSocket-Version", "13")),
        _ => None,
    }
}

/// Appends a response that closes the connection. Header names and values must not contain line breaks; one that does
/// is left out, since it would end the head early.
pub fn write_response(out: &mut Vec<u8>, status: u16, headers: &[(&str, &str)], content_type: &str, body: &[u8]) {
    let mut head = String::with_capacity(256);
    let _ = write!(head, "HTTP/1.1 {status} {}\r\n", reason_phrase(status));
    // An upgrade that we demand must be named, and named as meant for this hop (RFC 9110 7.8, 15.5.22).
    head.push_str(if status == 426 {
        "Connection: close, Upgrade\r\nUpgrade: websocket\r\n"
    } else {
        "Connection: close\r\n"
    });
    for (name, value) in headers.iter().filter(|(name, value)| !has_line_break(name) && !has_line_break(value)) {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(
        head,
        "Cache-Control: no-store\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

fn has_line_break(text: &str) -> bool {
    text.contains(['\r', '\n'])
}

pub(super) const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        // "A client SHOULD ignore the reason-phrase content" (RFC 9112 4): empty is valid.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a response by an independent parser: status, headers, body.
    fn parsed(bytes: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let len = response.parse(bytes).unwrap().unwrap();
        let headers = response.headers.iter();
        let headers = headers.map(|h| (h.name.to_string(), String::from_utf8(h.value.to_vec()).unwrap())).collect();
        (response.code.unwrap(), headers, bytes[len..].to_vec())
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn failures_are_complete_responses() {
        for failure in [
            Failure::of(400, Code::InvalidFormat, "a \"quoted\" text"),
            Failure::bad_token(),
            Failure::origin_forbidden(),
            Failure::not_found(),
            Failure::new(405, "method_not_allowed", "GET only"),
            Failure::head_timeout(),
            Failure::tls_required(),
            Failure::new(426, "upgrade_required", "x"),
            Failure::too_many_requests(1),
            Failure::new(431, "head_too_large", "x"),
            Failure::unavailable(5),
        ] {
            let mut out = Vec::new();
            failure.write(&mut out);
            let (status, headers, body) = parsed(&out);
            assert_eq!(status, failure.status);
            assert!(value(&headers, "Connection").unwrap().starts_with("close"));
            assert_eq!(value(&headers, "Content-Length").unwrap(), body.len().to_string());
            assert_eq!(value(&headers, "Content-Type"), Some("application/json"));
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let expected = serde_json::json!({
                "error": {"code": failure.code, "message": failure.message, "retryable": failure.is_retryable}
            });
            assert_eq!(json, expected);
            assert!(!reason_phrase(status).is_empty());
        }
    }

    #[test]
    fn headers_that_a_status_needs() {
        for (failure, name, expected) in [
            (Failure::bad_token(), "WWW-Authenticate", "Bearer"),
            (Failure::new(405, "m", "m"), "Allow", "GET"),
            (Failure::new(426, "u", "u"), "Sec-WebSocket-Version", "13"),
            (Failure::new(426, "u", "u"), "Upgrade", "websocket"),
            (Failure::too_many_requests(7), "Retry-After", "7"),
            (Failure::unavailable(30), "Retry-After", "30"),
        ] {
            let mut out = Vec::new();
            failure.write(&mut out);
            assert_eq!(value(&parsed(&out).1, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn retryable_as_the_table_of_refusals_says() {
        assert!(Failure::too_many_requests(1).is_retryable);
        assert!(Failure::unavailable(1).is_retryable);
        assert!(Failure::head_timeout().is_retryable);
        assert!(!Failure::bad_token().is_retryable);
        assert!(!Failure::origin_forbidden().is_retryable);
    }

    #[test]
    fn a_header_cannot_smuggle_another() {
        let mut out = Vec::new();
        write_response(&mut out, 200, &[("A", "b\r\nC: d"), ("E", "f")], "text/plain", b"hi");
        let (_, headers, body) = parsed(&out);
        assert_eq!((value(&headers, "A"), value(&headers, "C"), value(&headers, "E")), (None, None, Some("f")));
        assert_eq!(body, b"hi");
    }
}
