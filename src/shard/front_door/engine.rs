//! Engine.IO at the front door: polling requests on an HTTP/1.1 connection that stays open, and WebSockets that begin a session or
//! take one over.
//!
//! A polling connection is a task that sleeps on its session's answer. What it was counted for it keeps (`Place`); the session is counted
//! by itself, so that a thousand sessions do not hide behind one connection.
use super::polling::Exchanging;
use super::stream::Stream;
use super::{Door, Failure, Place, TurnedAway, count_address, say, settle, turned_away};
use crate::config::Config;
use crate::session::format::Format;
use crate::shard::Opening;
use crate::shard::engine::refusal;
use crate::shard::host::Hosted;
use crate::telemetry::HandshakeRefusal;
use crate::wire::engineio::{Request, RequestError, Revision, Transport};
use crate::wire::http::{
    self, Head, TokenError, address_key, check, client_address, cors_headers, origin_allowed, parse_head, request_token,
};
use std::net::SocketAddr;
use std::rc::Rc;

/// Where sessions are asked for. As npm `engine.io` has it, what follows the slash is not looked at.
const PATHS: [&str; 2] = ["/socket.io/", "/engine.io/"];

/// What a request is judged by, besides itself.
pub(super) struct Visit<'a> {
    pub peer: SocketAddr,
    pub accepted_at_ns: u64,
    pub shard: &'a Rc<Hosted>,
    pub door: &'a Door,
    pub config: &'a Config,
}

/// A polling connection: a drain waits for its last answer.
pub(super) struct Visitor(Rc<Hosted>);

impl Visitor {
    pub fn new(shard: &Rc<Hosted>) -> Visitor {
        *shard.shard.borrow_mut().engine_visitors() += 1;
        Visitor(shard.clone())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        *self.0.shard.borrow_mut().engine_visitors() -= 1;
    }
}

/// Whether the head at the start of `received` asks for an Engine.IO session.
pub(super) fn is_asked(received: &[u8]) -> bool {
    matches!(parse_head(received), Ok(Some(head)) if PATHS.iter().any(|path| head.path().starts_with(path)))
}

/// What a head says, apart from the bytes it stands in.
pub(super) struct Wanted {
    pub request: Result<Request, RequestError>,
    is_upgrade: bool,
    /// The 101, if it is a good upgrade.
    accept: Option<Vec<u8>>,
    /// What a handshake brought, unverified.
    pub token: Result<Option<Box<str>>, TokenError>,
    is_origin_allowed: bool,
    pub cors: String,
    pub is_last: bool,
    pub body: Body,
    pub is_binary: bool,
    pub expects_continue: bool,
    pub address_key: u64,
    head_bytes: usize,
}

pub(super) enum Body {
    Bytes(usize),
    /// In chunks, as proxies do that do not wait for the whole.
    Chunked,
    /// In some other coding.
    Unknown,
}

impl Wanted {
    fn new(head: &Head<'_>, visit: &Visit<'_>) -> Wanted {
        let config = visit.config;
        let is_upgrade = head.header("upgrade").is_some() && head.has_token("connection", "upgrade");
        let is_origin_allowed =
            origin_allowed(head.header("origin"), head.header("host"), &config.http.allowed_origins);
        let upgrade = check(head).ok();
        let protocols = upgrade.as_ref().map_or(&[][..], |upgrade| &upgrade.protocols);
        let credentials = request_token(head, protocols, config.auth.allow_query_token);
        let protocol = credentials.as_ref().ok().and_then(|credentials| credentials.protocol);
        let token = credentials.map(|credentials| credentials.token.map(|token| token.as_ref().into()));
        let accept = upgrade.map(|upgrade| {
            let mut response = Vec::with_capacity(256);
            http::write_accept(&mut response, &upgrade, protocol);
            response
        });
        let body = match head.header("content-length") {
            Some(length) => Body::Bytes(length.parse().unwrap_or(usize::MAX)),
            None => match head.header("transfer-encoding") {
                None => Body::Bytes(0),
                Some(coding) if coding.eq_ignore_ascii_case("chunked") && head.minor_version() > 0 => Body::Chunked,
                Some(_) => Body::Unknown,
            },
        };
        let is_octets = |kind: &str| kind.get(..24).is_some_and(|k| k.eq_ignore_ascii_case("application/octet-stream"));
        Wanted {
            request: Request::parse(head, is_upgrade, config.sio.eio3),
            is_upgrade,
            accept,
            token,
            is_origin_allowed,
            cors: if is_origin_allowed { cors_headers(head, &config.http.allowed_origins) } else { String::new() },
            is_last: head.minor_version() == 0 || head.has_token("connection", "close"),
            body,
            is_binary: head.header("content-type").is_some_and(is_octets),
            expects_continue: head.has_token("expect", "100-continue"),
            address_key: address_key(client_address(visit.peer.ip(), head, &visit.door.trusted_proxies)),
            head_bytes: head.len(),
        }
    }
}

/// A connection between two requests: what was read of the next, and what it is counted for.
type Open = (Stream, Vec<u8>, Place);

/// Serves one request. The connection comes back if it may bring another one.
pub(super) async fn serve(
    stream: Stream,
    mut received: Vec<u8>,
    mut place: Place,
    visit: &Visit<'_>,
) -> Result<Option<Open>, (Stream, TurnedAway)> {
    let wanted = match parse_head(&received) {
        Ok(Some(head)) => Wanted::new(&head, visit),
        // It was complete a moment ago.
        _ => return Ok(None),
    };
    received.drain(..wanted.head_bytes);
    if place.address.is_none()
        && let Err(away) = count_address(&mut place, wanted.address_key, visit.accepted_at_ns)
    {
        return Err((stream, away));
    }
    let request = match wanted.is_origin_allowed {
        true => wanted.request,
        false => {
            visit.shard.shard.borrow_mut().count_refused(HandshakeRefusal::Origin);
            Err(RequestError::Forbidden)
        }
    };
    if wanted.is_upgrade {
        return web_socket(stream, received, place, request, wanted, visit).await;
    }
    let is_post = matches!(request, Ok(Request::Session { is_post: true, .. }));
    let revision = match request {
        Ok(Request::Session { revision, .. } | Request::Handshake { revision, .. }) => revision,
        Ok(Request::Preflight) | Err(_) => Revision::V4,
    };
    let mut exchanging = Exchanging { stream, received, wanted, revision, visit };
    // A body that nobody reads would be taken for the next request.
    exchanging.wanted.is_last |= !is_post && !matches!(exchanging.wanted.body, Body::Bytes(0));
    let is_open = match request {
        Ok(Request::Handshake { revision, .. }) => match exchanging.admit() {
            Ok((counted, token)) => {
                let body = visit.shard.shard.borrow_mut().engine_handshake(counted, revision, token);
                visit.shard.turn();
                place.vouch();
                exchanging.payload(&body).await
            }
            Err(away) => return Err((exchanging.stream, away)),
        },
        Ok(Request::Session { sid, is_post: false, .. }) => exchanging.get(sid, &mut place).await,
        Ok(Request::Session { sid, is_post: true, .. }) => exchanging.post(sid, &mut place).await,
        Ok(Request::Preflight) => exchanging.answer(204, None, b"").await,
        Err(error) => exchanging.refuse(error).await,
    };
    let Exchanging { stream, received, wanted, .. } = exchanging;
    Ok((is_open && !wanted.is_last).then_some((stream, received, place)))
}

/// An upgrade: a session of its own, or the next transport of one that polls.
async fn web_socket(
    stream: Stream,
    received: Vec<u8>,
    mut place: Place,
    request: Result<Request, RequestError>,
    wanted: Wanted,
    visit: &Visit<'_>,
) -> Result<Option<Open>, (Stream, TurnedAway)> {
    let shard = visit.shard;
    if shard.shard.borrow().is_leaving() {
        return Err((stream, turned_away(HandshakeRefusal::Draining, Failure::unavailable(1))));
    }
    let (request, response) = match (request, wanted.accept) {
        (Ok(request), Some(response)) => (request, response),
        (request, _) => {
            let error = request.err().unwrap_or(RequestError::BadRequest);
            shard.shard.borrow_mut().count_engine_refused(error);
            say(stream, refusal(error)).await;
            return Ok(None);
        }
    };
    let token = match request {
        Request::Handshake { .. } => match checked_token(wanted.token, shard) {
            Ok(token) => token,
            Err(away) => return Err((stream, away)),
        },
        _ => None,
    };
    if let Request::Preflight | Request::Session { transport: Transport::Polling, .. } = request {
        // A polling request does not upgrade.
        say(stream, refusal(RequestError::BadRequest)).await;
        return Ok(None);
    }
    let Some((socket, session)) = stream.into_parts() else { return Ok(None) };
    let is_tls = session.is_some();
    let opening = Opening {
        response,
        identity: None,
        session,
        format: Format::NATIVE,
        received,
        address: place.address,
        accepted_at_ns: visit.accepted_at_ns,
        is_echo: false,
    };
    match request {
        Request::Session { sid, transport: Transport::WebSocket, revision, .. } => {
            // Whoever signs in on it is its session.
            place.vouch();
            let result = shard.shard.borrow_mut().engine_upgrade(sid, revision, socket, opening);
            settle(result, is_tls, place, shard);
        }
        Request::Handshake { revision, .. } => {
            place.unvouch();
            let result = shard.shard.borrow_mut().engine_open(socket, opening, revision, token);
            settle(result, is_tls, place, shard);
        }
        // Turned away above.
        Request::Session { .. } | Request::Preflight => {}
    }
    Ok(None)
}

/// A token that came with a handshake must hold then and there (R-AUTH-1: 401).
pub(super) fn checked_token(
    token: Result<Option<Box<str>>, TokenError>,
    shard: &Rc<Hosted>,
) -> Result<Option<Box<str>>, TurnedAway> {
    let token = token.map_err(|error| turned_away(HandshakeRefusal::BadToken, error.failure()))?;
    match &token {
        Some(token) if shard.shard.borrow_mut().verify(token).is_err() => {
            Err(turned_away(HandshakeRefusal::BadToken, Failure::bad_token()))
        }
        _ => Ok(token),
    }
}
