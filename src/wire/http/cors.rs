//! Answers that a page of another origin may read (Fetch standard, "CORS protocol"). Who may is the one list of R-CONN-1.
use super::head::Head;
use super::origin::origin_allowed;
use smallvec::SmallVec;
use std::slice;

/// Header names and values.
pub type CorsHeaders<'a> = SmallVec<[(&'static str, &'a str); 3]>;

/// How long a browser may keep the answer to a preflight, s. Browsers cap it: Chromium at two hours.
pub const PREFLIGHT_MAX_AGE: &str = "7200";

/// The headers of an answer to a request whose origin may be served; for any other origin none that would let its page read.
///
/// An origin that is named, or is the server's own, is named in return and may send credentials (a proxy in front may ask for some). One
/// that passes by `*` alone reads, but without credentials.
pub fn headers_for<'a>(head: &Head<'a>, allowed: &[String]) -> CorsHeaders<'a> {
    let mut headers = CorsHeaders::new();
    // What is answered differs by it, so a cache must keep the answers apart.
    headers.push(("Vary", "Origin"));
    let Some(origin) = head.header("origin") else { return headers };
    let mut named = allowed.iter().filter(|entry| *entry != "*");
    if origin_allowed(Some(origin), head.header("host"), &[])
        || named.any(|entry| origin_allowed(Some(origin), None, slice::from_ref(entry)))
    {
        headers.push(("Access-Control-Allow-Origin", origin));
        headers.push(("Access-Control-Allow-Credentials", "true"));
    } else if origin_allowed(Some(origin), None, allowed) {
        headers.push(("Access-Control-Allow-Origin", "*"));
    }
    headers
}

/// Whether this is a browser's question before the real request.
pub fn is_preflight(head: &Head<'_>) -> bool {
    head.method() == "OPTIONS"
        && head.header("origin").is_some()
        && head.header("access-control-request-method").is_some()
}

/// Appends the answer to a preflight: which methods and headers a page may use, both lists with commas.
pub fn write_preflight(out: &mut Vec<u8>, headers: &CorsHeaders<'_>, methods: &str, allow_headers: &str) {
    // 204 has no Content-Length (RFC 9110 8.6).
    out.extend_from_slice(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n");
    let answers = [
        ("Access-Control-Allow-Methods", methods),
        ("Access-Control-Allow-Headers", allow_headers),
        ("Access-Control-Max-Age", PREFLIGHT_MAX_AGE),
    ];
    write_headers(out, headers);
    write_headers(out, &answers);
    out.extend_from_slice(b"\r\n");
}

/// Appends header lines. None of the values may hold a line break: those of a parsed head cannot.
pub fn write_headers(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::parse_head;

    fn with_head<R>(method: &str, lines: &str, check: impl FnOnce(&Head<'_>) -> R) -> R {
        let text = format!("{method} /events HTTP/1.1\r\nHost: chat.example\r\n{lines}\r\n");
        check(&parse_head(text.as_bytes()).unwrap().unwrap())
    }

    /// Allow-Origin and whether credentials are allowed.
    fn allowed(origin: &str, list: &[&str]) -> Option<(String, bool)> {
        let list: Vec<String> = list.iter().map(|entry| entry.to_string()).collect();
        with_head("GET", &format!("Origin: {origin}\r\n"), |head| {
            let headers = headers_for(head, &list);
            let value = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            assert_eq!(value("Vary").as_deref(), Some("Origin"));
            let credentials = value("Access-Control-Allow-Credentials");
            value("Access-Control-Allow-Origin").map(|origin| (origin, credentials.as_deref() == Some("true")))
        })
    }

    #[test]
    fn who_is_named_may_read_and_send_credentials() {
        let app = "https://app.example";
        assert_eq!(allowed(app, &[app]), Some((app.into(), true)));
        assert_eq!(allowed(app, &["*", app]), Some((app.into(), true)));
        assert_eq!(allowed("https://chat.example", &[]), Some(("https://chat.example".into(), true)));
    }

    #[test]
    fn who_passes_by_the_star_has_no_credentials() {
        assert_eq!(allowed("https://app.example", &["*"]), Some(("*".into(), false)));
        assert_eq!(allowed("null", &["*"]), Some(("*".into(), false)));
    }

    #[test]
    fn others_read_nothing() {
        assert_eq!(allowed("https://app.example", &[]), None);
        assert_eq!(allowed("https://app.example", &["https://other.example"]), None);
        assert_eq!(allowed("null", &["https://app.example"]), None);
        with_head("GET", "", |head| assert_eq!(headers_for(head, &["*".into()]).as_slice(), [("Vary", "Origin")]));
    }

    #[test]
    fn a_preflight_is_answered_whole() {
        let lines = "Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n";
        with_head("OPTIONS", lines, |head| {
            assert!(is_preflight(head));
            let mut out = Vec::new();
            write_preflight(&mut out, &headers_for(head, &["*".into()]), "GET", "authorization");
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut response = httparse::Response::new(&mut headers);
            assert_eq!(response.parse(&out).unwrap().unwrap(), out.len());
            let names: Vec<&str> = response.headers.iter().map(|header| header.name).collect();
            assert_eq!((response.code, names.contains(&"Content-Length")), (Some(204), false));
            assert!(names.contains(&"Access-Control-Allow-Headers") && names.contains(&"Access-Control-Max-Age"));
        });
        with_head("OPTIONS", "Origin: https://app.example\r\n", |head| assert!(!is_preflight(head)));
        with_head("GET", lines, |head| assert!(!is_preflight(head)));
    }
}
