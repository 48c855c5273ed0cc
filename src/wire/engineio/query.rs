//! What a request on the Engine.IO path asks for. The order of the checks is that of npm `engine.io`: a client sees the same error.
use super::{RequestError, Revision, Sid};
use crate::wire::http::Head;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Polling,
    WebSocket,
}

/// A request that is well formed. Whether its session exists, and is on that transport, says the shard that the sid names.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// No `sid`: a new session.
    Handshake { transport: Transport, revision: Revision },
    /// A poll, a POST, or with a WebSocket an upgrade. `is_post`: whether it brings packets; else it fetches them. `revision` must be
    /// the session's.
    Session { sid: Sid, transport: Transport, is_post: bool, revision: Revision },
    /// OPTIONS: the CORS preflight of a polling request. Its query is not looked at.
    Preflight,
}

impl Request {
    /// `is_upgrade`: the head asks for a WebSocket. `has_v3`: `sio.eio3`.
    ///
    /// The sid of another server, or none of ours: `UnknownSid`.
    pub fn parse(head: &Head<'_>, is_upgrade: bool, has_v3: bool) -> Result<Request, RequestError> {
        if head.method() == "OPTIONS" && !is_upgrade {
            return Ok(Request::Preflight);
        }
        let param = |name| head.query_param(name);
        let transport = match param("transport").as_deref() {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(RequestError::UnknownTransport),
        };
        // JSONP, for browsers that cannot ask another origin in any other way: there are none any more.
        if param("j").is_some() {
            return Err(RequestError::BadRequest);
        }
        if let Some(sid) = param("sid").filter(|sid| !sid.is_empty()) {
            let sid = Sid::parse(&sid).ok_or(RequestError::UnknownSid)?;
            // As the reference reads it: what is not 4 is 3.
            let revision = match param("EIO").as_deref() {
                Some("4") => Revision::V4,
                _ => Revision::V3,
            };
            return match (transport, is_upgrade, head.method()) {
                (Transport::WebSocket, true, "GET") | (Transport::Polling, false, "GET") => {
                    Ok(Request::Session { sid, transport, is_post: false, revision })
                }
                (Transport::Polling, false, "POST") => Ok(Request::Session { sid, transport, is_post: true, revision }),
                _ => Err(RequestError::BadRequest),
            };
        }
        if head.method() != "GET" {
            return Err(RequestError::BadHandshakeMethod);
        }
        if (transport == Transport::WebSocket) != is_upgrade {
            return Err(RequestError::BadRequest);
        }
        let revision = match param("EIO").as_deref() {
            Some("4") => Revision::V4,
            Some("3") if has_v3 => Revision::V3,
            _ => return Err(RequestError::UnsupportedVersion),
        };
        Ok(Request::Handshake { transport, revision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::parse_head;

    fn parse(method: &str, query: &str, is_upgrade: bool, has_v3: bool) -> Result<Request, RequestError> {
        let bytes = format!("{method} /socket.io/?{query} HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = parse_head(bytes.as_bytes()).unwrap().unwrap();
        Request::parse(&head, is_upgrade, has_v3)
    }

    fn sid() -> String {
        Sid::new(1, 2, 3, *b"secret-bytes").text(&mut [0; Sid::TEXT_BYTES]).to_owned()
    }

    #[test]
    fn handshakes() {
        for (query, is_upgrade, expected) in [
            ("EIO=4&transport=polling", false, (Transport::Polling, Revision::V4)),
            ("EIO=4&transport=polling&t=abc.0&sid=", false, (Transport::Polling, Revision::V4)),
            ("transport=websocket&EIO=4", true, (Transport::WebSocket, Revision::V4)),
            ("EIO=3&transport=websocket", true, (Transport::WebSocket, Revision::V3)),
        ] {
            let Ok(Request::Handshake { transport, revision }) = parse("GET", query, is_upgrade, true) else {
                panic!("{query}");
            };
            assert_eq!((transport, revision), expected, "{query}");
        }
    }

    #[test]
    fn requests_of_a_session() {
        for (method, transport, is_upgrade, expected) in [
            ("GET", "polling", false, (Transport::Polling, false)),
            ("POST", "polling", false, (Transport::Polling, true)),
            ("GET", "websocket", true, (Transport::WebSocket, false)),
        ] {
            let query = format!("EIO=4&transport={transport}&sid={}", sid());
            let Ok(Request::Session { sid, transport, is_post, revision }) = parse(method, &query, is_upgrade, false)
            else {
                panic!("{query}");
            };
            assert_eq!((transport, is_post, revision), (expected.0, expected.1, Revision::V4));
            assert!(sid.is(Sid::new(1, 2, 3, *b"secret-bytes")));
        }
        for query in ["EIO=3&transport=polling", "transport=polling"] {
            let request = parse("GET", &format!("{query}&sid={}", sid()), false, false);
            assert!(matches!(request, Ok(Request::Session { revision: Revision::V3, .. })), "{query}");
        }
        assert!(matches!(parse("OPTIONS", "", false, false), Ok(Request::Preflight)));
    }

    /// Every row of the reference server's answers, and the order of its checks.
    #[test]
    fn refusals() {
        let known = sid();
        for (method, query, is_upgrade, has_v3, expected) in [
            ("GET", "EIO=4", false, true, RequestError::UnknownTransport),
            ("GET", "EIO=4&transport=webtransport", false, true, RequestError::UnknownTransport),
            ("POST", "EIO=9&transport=&sid=x", false, true, RequestError::UnknownTransport),
            ("GET", "EIO=4&transport=polling&sid=x", false, true, RequestError::UnknownSid),
            ("GET", "EIO=4&transport=polling&sid=FKSw1H1eWlJcYJ7HAAAA", false, true, RequestError::UnknownSid),
            ("POST", "EIO=4&transport=polling", false, true, RequestError::BadHandshakeMethod),
            ("PUT", "EIO=5&transport=websocket", false, true, RequestError::BadHandshakeMethod),
            ("GET", "EIO=4&transport=websocket", false, true, RequestError::BadRequest),
            ("GET", "EIO=4&transport=polling", true, true, RequestError::BadRequest),
            ("GET", "EIO=4&transport=polling&j=0", false, true, RequestError::BadRequest),
            ("GET", &format!("transport=polling&sid={known}"), true, true, RequestError::BadRequest),
            ("GET", &format!("transport=websocket&sid={known}"), false, true, RequestError::BadRequest),
            ("DELETE", &format!("transport=polling&sid={known}"), false, true, RequestError::BadRequest),
            ("GET", "transport=polling", false, true, RequestError::UnsupportedVersion),
            ("GET", "EIO=abc&transport=polling", false, true, RequestError::UnsupportedVersion),
            ("GET", "EIO=5&transport=websocket", true, true, RequestError::UnsupportedVersion),
            ("GET", "EIO=3&transport=polling", false, false, RequestError::UnsupportedVersion),
        ] {
            assert_eq!(parse(method, query, is_upgrade, has_v3).err(), Some(expected), "{method} {query}");
        }
    }
}
