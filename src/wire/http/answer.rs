//! Answers after which the connection may serve another request, and the headers by which pages of other origins may read them.
use super::cors;
use super::head::Head;
use super::response::reason_phrase;
use std::fmt::Write as _;

/// A whole response.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    /// The connection ends with it.
    pub is_last: bool,
    /// None goes with an empty body.
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// Appends the response. `cors` is what [`Cors::write`] has written, or nothing.
    pub fn write(&self, out: &mut Vec<u8>, cors: &str) {
        let mut head = String::with_capacity(256 + cors.len());
        let _ = write!(head, "HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        head.push_str(if self.is_last { "Connection: close\r\n" } else { "Connection: keep-alive\r\n" });
        if let Some(content_type) = self.content_type {
            let _ = write!(head, "Content-Type: {content_type}\r\n");
        }
        // 204 has no body and must not say how long it is (RFC 9110 8.6).
        if self.status != 204 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head.push_str("Cache-Control: no-store\r\n");
        head.push_str(cors);
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.body);
    }
}

/// Longest `Access-Control-Request-Headers` that is granted, bytes. Browsers name a handful of headers.
const REQUEST_HEADERS_BYTES_MAX: usize = 1_024;

/// Header lines by which a page of another origin may read the answer; of a preflight, also what it may send. See [`cors`].
pub fn cors_headers(head: &Head<'_>, allowed: &[String]) -> String {
    let mut lines = Vec::new();
    cors::write_headers(&mut lines, &cors::headers_for(head, allowed));
    if head.method() == "OPTIONS" {
        let wanted = head.header("access-control-request-headers").filter(|wanted| is_header_list(wanted));
        let answers = [
            ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
            // An application adds headers of its own to polls (`extraHeaders`): there is no list to choose from.
            ("Access-Control-Allow-Headers", wanted.unwrap_or("authorization, content-type")),
            ("Access-Control-Max-Age", cors::PREFLIGHT_MAX_AGE),
        ];
        cors::write_headers(&mut lines, &answers);
    }
    String::from_utf8(lines).unwrap_or_default()
}

/// Header names, commas, spaces.
fn is_header_list(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(&byte);
    (1..=REQUEST_HEADERS_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::parse_head;

    fn cors(method: &str, headers: &str) -> String {
        let text = format!("{method} /socket.io/ HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        cors_headers(&parse_head(text.as_bytes()).unwrap().unwrap(), &["https://a.example".into()])
    }

    #[test]
    fn answers_say_whether_the_connection_goes_on() {
        let mut out = Vec::new();
        let answer = Answer { status: 200, is_last: false, content_type: Some("text/html"), body: b"ok" };
        answer.write(&mut out, "Vary: Origin\r\n");
        Answer { status: 204, is_last: true, content_type: None, body: b"" }.write(&mut out, "");
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\
             Cache-Control: no-store\r\nVary: Origin\r\n\r\nok\
             HTTP/1.1 204 No Content\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n"
        );
    }

    #[test]
    fn a_preflight_is_told_what_it_asked_for() {
        let simple = cors("POST", "Origin: https://a.example\r\n");
        assert!(simple.contains("Access-Control-Allow-Origin: https://a.example\r\n"), "{simple}");
        assert!(
            simple.contains("Access-Control-Allow-Credentials: true\r\n") && !simple.contains("Methods"),
            "{simple}"
        );
        let headers = "Origin: https://a.example\r\nAccess-Control-Request-Headers: ";
        for (wanted, granted) in [("x-a, content-type", "x-a, content-type"), ("a\"b", "authorization, content-type")] {
            let preflight = cors("OPTIONS", &format!("{headers}{wanted}\r\n"));
            assert!(preflight.contains(&format!("Access-Control-Allow-Headers: {granted}\r\n")), "{preflight}");
            assert!(preflight.contains("Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"), "{preflight}");
        }
    }
}
