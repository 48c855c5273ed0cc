//! The WebSocket opening handshake, server side (RFC 6455 4.2).
use super::head::Head;
use super::response::Failure;
use crate::base::refusal::Code;
use crate::wire::ws::extensions::Deflate;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;
use thiserror::Error;
use tungstenite::handshake::derive_accept_key;

/// A request that may become a WebSocket.
#[derive(Clone, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The client's nonce, 16 bytes in base64.
    pub key: &'a str,
    /// Subprotocols on offer, most preferred first. One of them may hold a token: never log them (R-SEC-1).
    pub protocols: SmallVec<[&'a str; 4]>,
    /// The compression that was agreed on, none at first: what is offered is `offered_deflate`'s to say.
    pub deflate: Option<Deflate>,
}

/// Why a request cannot become a WebSocket; the client is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("method is not GET")]
    Method,
    #[error("HTTP/1.0 knows no upgrade")]
    HttpVersion,
    #[error("no Host")]
    Host,
    /// A plain request to an address that only speaks WebSocket.
    #[error("no upgrade to websocket asked for")]
    NotAnUpgrade,
    /// Bytes of a body would be taken for frames (or the reverse, by a proxy).
    #[error("upgrade request with a body")]
    Body,
    #[error("Sec-WebSocket-Version is not 13")]
    Version,
    #[error("Sec-WebSocket-Key is not 16 bytes in base64")]
    Key,
    #[error("Sec-WebSocket-Protocol is not a list of tokens")]
    Protocol,
}

impl Refused {
    /// The answer.
    pub fn failure(self) -> Failure {
        let bad = |message| Failure::of(400, Code::InvalidFormat, message);
        match self {
            Refused::Method => Failure::new(405, "method_not_allowed", "Only GET can be upgraded"),
            Refused::HttpVersion => bad("HTTP/1.1 required"),
            Refused::Host => bad("Host required"),
            Refused::NotAnUpgrade => Failure::new(426, "upgrade_required", "WebSocket upgrade required"),
            Refused::Body => bad("An upgrade request has no body"),
            Refused::Version => Failure::new(426, "upgrade_required", "WebSocket version 13 required"),
            Refused::Key => bad("Invalid Sec-WebSocket-Key"),
            Refused::Protocol => bad("Invalid Sec-WebSocket-Protocol"),
        }
    }
}

/// Whether the request is a valid opening handshake (RFC 6455 4.2.1). Origin and token are separate questions.
pub fn check<'a>(head: &Head<'a>) -> Result<Upgrade<'a>, Refused> {
    if head.method() != "GET" {
        return Err(Refused::Method);
    }
    if head.minor_version() < 1 {
        return Err(Refused::HttpVersion);
    }
    if head.header("host").is_none_or(str::is_empty) {
        return Err(Refused::Host);
    }
    if !head.has_token("upgrade", "websocket") || !head.has_token("connection", "upgrade") {
        return Err(Refused::NotAnUpgrade);
    }
    if head.has_body() {
        return Err(Refused::Body);
    }
    if head.header("sec-websocket-version") != Some("13") {
        return Err(Refused::Version);
    }
    let key = head.header("sec-websocket-key").filter(|key| is_nonce(key)).ok_or(Refused::Key)?;
    let protocols: SmallVec<[&str; 4]> = head.list("sec-websocket-protocol").collect();
    if !protocols.iter().all(|protocol| is_token(protocol)) {
        return Err(Refused::Protocol);
    }
    Ok(Upgrade { key, protocols, deflate: None })
}

/// The first of the client's offers of permessage-deflate that the server can keep (RFC 7692 section 7.1).
pub fn offered_deflate(head: &Head<'_>) -> Option<Deflate> {
    Deflate::negotiate(head.headers("sec-websocket-extensions"))
}

/// Appends the 101. A protocol that the client did not offer is left out: a client must fail on one (RFC 6455 4.1).
pub fn write_accept(out: &mut Vec<u8>, upgrade: &Upgrade<'_>, protocol: Option<&str>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    out.extend_from_slice(b"Sec-WebSocket-Accept: ");
    out.extend_from_slice(derive_accept_key(upgrade.key.as_bytes()).as_bytes());
    if let Some(protocol) = protocol.filter(|protocol| upgrade.protocols.contains(protocol)) {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    if let Some(deflate) = &upgrade.deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        deflate.write(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

fn is_nonce(key: &str) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// The base64url and the dots of a JWT are token characters.
fn is_token(text: &str) -> bool {
    text.bytes().all(is_token_byte)
}

/// RFC 9110 5.6.2.
pub(in crate::wire) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::parse_head;

    const SAMPLE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
                          Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn verdict(text: &str) -> Result<String, Refused> {
        let head = parse_head(text.as_bytes()).unwrap().unwrap();
        check(&head).map(|upgrade| upgrade.protocols.join(" "))
    }

    fn changed(from: &str, to: &str) -> Result<String, Refused> {
        assert!(SAMPLE.contains(from));
        verdict(&SAMPLE.replace(from, to))
    }

    #[test]
    fn the_example_of_rfc_6455_1_3() {
        let head = parse_head(SAMPLE.as_bytes()).unwrap().unwrap();
        let upgrade = check(&head).unwrap();
        assert_eq!(upgrade.protocols[..], ["chat", "superchat"]);
        let mut out = Vec::new();
        write_accept(&mut out, &upgrade, Some("chat"));
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_protocol_that_was_not_offered_is_not_answered() {
        let head = parse_head(SAMPLE.as_bytes()).unwrap().unwrap();
        let upgrade = check(&head).unwrap();
        for protocol in [None, Some("throng.v1")] {
            let mut out = Vec::new();
            write_accept(&mut out, &upgrade, protocol);
            assert!(!String::from_utf8(out).unwrap().contains("Sec-WebSocket-Protocol"));
        }
    }

    #[test]
    fn compression_is_answered_once_it_is_agreed_on() {
        let offers = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n\
                      Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n";
        let text = SAMPLE.replace("Sec-WebSocket-Protocol", &format!("{offers}Sec-WebSocket-Protocol"));
        let head = parse_head(text.as_bytes()).unwrap().unwrap();
        let mut upgrade = check(&head).unwrap();
        let answer = |upgrade: &Upgrade<'_>| {
            let mut out = Vec::new();
            write_accept(&mut out, upgrade, None);
            String::from_utf8(out).unwrap()
        };
        assert!(!answer(&upgrade).contains("Extensions"));
        upgrade.deflate = offered_deflate(&head);
        let expected = "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                        client_no_context_takeover; server_max_window_bits=10\r\n\r\n";
        assert!(answer(&upgrade).ends_with(expected), "{}", answer(&upgrade));
    }

    #[test]
    fn variants_that_real_clients_send() {
        assert!(changed("Connection: Upgrade", "Connection: keep-alive, upgrade").is_ok());
        assert!(changed("Upgrade: websocket", "upgrade: h2c, WebSocket").is_ok());
        assert!(changed("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade").is_ok());
        assert!(changed("Host:", "Content-Length: 0\r\nHost:").is_ok());
        let two_headers = changed("chat, superchat", "chat\r\nSec-WebSocket-Protocol:superchat ,x");
        assert_eq!(two_headers.unwrap(), "chat superchat x");
        assert_eq!(changed("Sec-WebSocket-Protocol: chat, superchat\r\n", "").unwrap(), "");
    }

    #[test]
    fn each_rule() {
        assert_eq!(changed("GET", "POST"), Err(Refused::Method));
        assert_eq!(changed("HTTP/1.1", "HTTP/1.0"), Err(Refused::HttpVersion));
        assert_eq!(changed("Host: server.example.com", "Host:"), Err(Refused::Host));
        assert_eq!(changed("Upgrade: websocket\r\n", ""), Err(Refused::NotAnUpgrade));
        assert_eq!(changed("Connection: Upgrade", "Connection: close"), Err(Refused::NotAnUpgrade));
        assert_eq!(changed("Host:", "Content-Length: 5\r\nHost:"), Err(Refused::Body));
        assert_eq!(changed("Host:", "Transfer-Encoding: chunked\r\nHost:"), Err(Refused::Body));
        assert_eq!(changed("Version: 13", "Version: 8"), Err(Refused::Version));
        assert_eq!(changed("Sec-WebSocket-Version: 13\r\n", ""), Err(Refused::Version));
        assert_eq!(changed("chat, superchat", "ch(at"), Err(Refused::Protocol));
        for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZQ=!", "AAAA"] {
            let line = format!("Sec-WebSocket-Key: {key}");
            assert_eq!(changed("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", &line), Err(Refused::Key), "{key}");
        }
    }

    #[test]
    fn answers() {
        assert_eq!(Refused::Version.failure().status, 426);
        assert_eq!(Refused::NotAnUpgrade.failure().status, 426);
        assert_eq!(Refused::Method.failure().status, 405);
        for refused in [Refused::HttpVersion, Refused::Host, Refused::Body, Refused::Key, Refused::Protocol] {
            assert_eq!(refused.failure().status, 400, "{refused}");
        }
    }
}
