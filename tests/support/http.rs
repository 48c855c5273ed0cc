//! HTTP as bytes: requests that a library would not send, and answers as they came.
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};

/// An answer that ended its connection.
#[derive(Debug)]
pub struct Response {
    /// 0: closed without an answer.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    /// The value of a header, by any case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The code of the error object of product section 3.3, whose form is checked.
    pub fn error_code(&self) -> String {
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["retryable"].is_boolean(), "{self:?}");
        error["code"].as_str().unwrap().to_string()
    }

    pub fn parse(bytes: &[u8]) -> Response {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Response { status, head: head.into(), body: body.into() }
    }
}

pub(super) fn request(path: &str, port: u16, headers: &[(&str, &str)]) -> String {
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("Host: 127.0.0.1:{port}\r\n");
    }
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    text + "\r\n"
}

/// A good upgrade request of `/ws` (RFC 6455 1.3's sample key), with further headers.
pub fn upgrade_request(path: &str, port: u16, headers: &[(&str, &str)]) -> String {
    let upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    request(path, port, &[&upgrade, headers].concat())
}

/// Sends the bytes and reads to the end, within the timeout of the stream.
pub(super) fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Response {
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}; so far {:?}", String::from_utf8_lossy(&bytes)),
    }
    Response::parse(&bytes)
}
