//! Engine.IO at the front door: polling requests on an HTTP/1.1 connection that stays open, and WebSockets that begin a session or
//! take one over.
//!
//! A polling connection is a task that sleeps on its session's answer. What it was counted for it keeps (`Place`); the session is counted
//! by itself, so that a thousand sessions do not hide behind one connection.
use super::{Door, Failure, Place, READ_BYTES, TurnedAway, count, count_address, table_full, turned_away};
use crate::config::Config;
use crate::limits::HTTP_HEAD_BYTES_MAX;
use crate::plane::host::into_owned_fd;
use crate::plane::os::now;
use crate::session::format::Format;
use crate::shard::Opening;
use crate::shard::engine::{Answer, Ask, Counted, Exchange, refuse};
use crate::shard::host::Hosted;
use crate::telemetry::HandshakeRefusal;
use crate::wire::engineio::{Request, RequestError, Sid, Transport};
use crate::wire::http::{
    self, Head, TokenError, address_key, check, client_address, cors_headers, origin_allowed, parse_head, request_token,
};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Where sessions are asked for. As npm `engine.io` has it, what follows the slash is not looked at.
const PATHS: [&str; 2] = ["/socket.io/", "/engine.io/"];

/// Between the packets of a payload.
const PACKET_SEPARATOR: u8 = 0x1e;

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
struct Wanted {
    request: Result<Request, RequestError>,
    is_upgrade: bool,
    /// The 101, if it is a good upgrade.
    accept: Option<Vec<u8>>,
    /// What a handshake brought, unverified.
    token: Result<Option<Box<str>>, TokenError>,
    is_origin_allowed: bool,
    cors: String,
    is_last: bool,
    body: Body,
    is_binary: bool,
    expects_continue: bool,
    address_key: u64,
    head_bytes: usize,
}

enum Body {
    Bytes(usize),
    /// Chunked, which no client of these protocols sends.
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
            None if head.header("transfer-encoding").is_some() => Body::Unknown,
            None => Body::Bytes(0),
        };
        let is_octets = |kind: &str| kind.get(..24).is_some_and(|k| k.eq_ignore_ascii_case("application/octet-stream"));
        Wanted {
            request: Request::parse(head, is_upgrade, config.sio.eio3),
            is_upgrade,
            accept,
            token,
            is_origin_allowed,
            cors: if is_origin_allowed { cors_headers(head) } else { String::new() },
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
type Open = (TcpStream, Vec<u8>, Place);

/// One polling connection, while it serves one request.
struct Exchanging<'a> {
    stream: TcpStream,
    received: Vec<u8>,
    wanted: Wanted,
    visit: &'a Visit<'a>,
}

/// Serves one request. The connection comes back if it may bring another one.
pub(super) async fn serve(
    stream: TcpStream,
    mut received: Vec<u8>,
    mut place: Place,
    visit: &Visit<'_>,
) -> Result<Option<Open>, (TcpStream, TurnedAway)> {
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
        return web_socket(stream, received, place, request, wanted, visit);
    }
    let mut exchanging = Exchanging { stream, received, wanted, visit };
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
fn web_socket(
    stream: TcpStream,
    received: Vec<u8>,
    mut place: Place,
    request: Result<Request, RequestError>,
    wanted: Wanted,
    visit: &Visit<'_>,
) -> Result<Option<Open>, (TcpStream, TurnedAway)> {
    let shard = visit.shard;
    if shard.shard.borrow().is_leaving() {
        return Err((stream, turned_away(HandshakeRefusal::Draining, Failure::unavailable(1))));
    }
    let (request, response) = match (request, wanted.accept) {
        (Ok(request), Some(response)) => (request, response),
        (request, _) => {
            let error = request.err().unwrap_or(RequestError::BadRequest);
            shard.shard.borrow_mut().count_engine_refused(error);
            refuse(into_owned_fd(stream), error);
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
    let opening = Opening {
        response,
        identity: None,
        format: Format::NATIVE,
        received,
        address: place.address,
        accepted_at_ns: visit.accepted_at_ns,
        is_echo: false,
    };
    let socket = into_owned_fd(stream);
    match request {
        Request::Session { sid, transport: Transport::WebSocket, .. } => {
            // Whoever signs in on it is its session.
            place.vouch();
            let result = shard.shard.borrow_mut().engine_upgrade(sid, socket, opening);
            match result {
                Ok(()) => _ = place.keep(),
                Err((socket, _)) => table_full(socket, shard),
            }
        }
        Request::Handshake { revision, .. } => {
            place.unvouch();
            let result = shard.shard.borrow_mut().engine_open(socket, opening, revision, token);
            match result {
                Ok(()) => _ = place.keep(),
                Err(socket) => table_full(socket, shard),
            }
        }
        // A polling request does not upgrade.
        Request::Session { .. } | Request::Preflight => refuse(socket, RequestError::BadRequest),
    }
    shard.turn();
    Ok(None)
}

/// A token that came with a handshake must hold then and there (R-AUTH-1: 401).
fn checked_token(
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

impl Exchanging<'_> {
    /// Counts a new session as a connection is counted. With the token of its request, if it brought one.
    fn admit(&mut self) -> Result<(Counted, Option<Box<str>>), TurnedAway> {
        if self.visit.shard.shard.borrow().is_leaving() {
            return Err(turned_away(HandshakeRefusal::Draining, Failure::unavailable(1)));
        }
        let token = checked_token(std::mem::replace(&mut self.wanted.token, Ok(None)), self.visit.shard)?;
        let mut place = count(self.visit.door, self.visit.config)?;
        count_address(&mut place, self.wanted.address_key, now().mono_ns)?;
        Ok((Counted { address: place.keep() }, token))
    }

    /// A poll: waits for what comes. False: the connection is over.
    async fn get(&mut self, sid: Sid, place: &mut Place) -> bool {
        if !matches!(self.wanted.body, Body::Bytes(0)) {
            self.wanted.is_last = true;
            return self.refuse(RequestError::BadRequest).await;
        }
        let Some(pending) = self.ask(sid, Ask::Poll) else { return self.busy().await };
        let Some(answer) = self.answer_or_end(&pending).await else {
            self.abandon(sid, Some(pending.exchange));
            return false;
        };
        match answer {
            Answer::Payload(body) => {
                place.vouch();
                // The last packet says that there will be no more.
                self.wanted.is_last |= body.split(|byte| *byte == PACKET_SEPARATOR).next_back() == Some(b"1");
                let is_open = self.payload(&body).await;
                if !is_open {
                    // It did not get what has left its session.
                    self.abandon(sid, Some(pending.exchange));
                }
                is_open
            }
            Answer::Refused(error) => self.refuse(error).await,
            Answer::Taken | Answer::Proceed => false,
        }
    }

    async fn post(&mut self, sid: Sid, place: &mut Place) -> bool {
        let Body::Bytes(len) = self.wanted.body else {
            self.wanted.is_last = true;
            return self.answer(411, None, b"").await;
        };
        if len > self.visit.config.sio.max_payload_bytes as usize {
            return self.too_large(sid).await;
        }
        let shard = self.visit.shard.clone();
        let Some(_room) = BodyRoom::new(&shard, len) else {
            self.wanted.is_last |= self.received.len() < len;
            return self.busy().await;
        };
        let is_begun = self.received.len() < len;
        if is_begun {
            match self.begin_post(sid).await {
                Begun::Go => {}
                Begun::Answered => return false,
            }
            if !self.read_body(len).await {
                self.abandon(sid, None);
                return false;
            }
        }
        let rest = self.received.split_off(len);
        let body = std::mem::replace(&mut self.received, rest);
        let is_binary = self.wanted.is_binary;
        let Some(pending) = self.ask(sid, Ask::Post { body, is_binary, is_begun }) else {
            if is_begun {
                self.abandon(sid, None);
            }
            return self.busy().await;
        };
        match pending.answer().await {
            Answer::Taken => {
                place.vouch();
                self.answer(200, Some("text/html"), b"ok").await
            }
            Answer::Refused(error) => self.refuse(error).await,
            Answer::Payload(_) | Answer::Proceed => false,
        }
    }

    /// 413 to a session that exists; it lives on, the connection with the unread body does not.
    async fn too_large(&mut self, sid: Sid) -> bool {
        self.wanted.is_last = true;
        let Some(pending) = self.ask(sid, Ask::Check) else { return self.busy().await };
        let error = match pending.answer().await {
            Answer::Refused(error) => error,
            _ => RequestError::PayloadTooLarge,
        };
        self.refuse(error).await
    }

    /// Says that a POST is coming whose body was not read yet.
    async fn begin_post(&mut self, sid: Sid) -> Begun {
        let Some(pending) = self.ask(sid, Ask::BeginPost) else {
            self.wanted.is_last = true;
            self.busy().await;
            return Begun::Answered;
        };
        match pending.answer().await {
            Answer::Proceed => {}
            Answer::Refused(error) => {
                self.wanted.is_last = true;
                self.refuse(error).await;
                return Begun::Answered;
            }
            // The session is ending, and the client will hear of it.
            _ => {
                self.wanted.is_last = true;
                self.answer(200, Some("text/html"), b"ok").await;
                return Begun::Answered;
            }
        }
        if self.wanted.expects_continue && !self.write(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await {
            self.abandon(sid, None);
            return Begun::Answered;
        }
        Begun::Go
    }

    /// Reads until the body is there; false if it does not come in time.
    async fn read_body(&mut self, len: usize) -> bool {
        let deadline = Duration::from_millis(self.visit.config.http.head_timeout_ms);
        let reading = async {
            while self.received.len() < len {
                let wanted = (len - self.received.len()).clamp(READ_BYTES, 64 << 10);
                let (result, buffer) = self.stream.read(Vec::with_capacity(wanted)).await;
                match result {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => self.received.extend_from_slice(&buffer),
                }
            }
            true
        };
        monoio::time::timeout(deadline, reading).await.unwrap_or(false)
    }

    /// None: the session's shard is too busy.
    fn ask(&self, sid: Sid, ask: Ask) -> Option<Pending> {
        let exchange = self.visit.shard.shard.borrow_mut().engine_ask(sid, ask);
        self.visit.shard.turn();
        Some(Pending { shard: self.visit.shard.clone(), exchange: exchange? })
    }

    fn abandon(&self, sid: Sid, poll: Option<Exchange>) {
        self.visit.shard.shard.borrow_mut().engine_abandon(sid, poll);
        self.visit.shard.turn();
    }

    /// Waits for the answer, and looks whether the client is still there; none if it is not.
    async fn answer_or_end(&mut self, pending: &Pending) -> Option<Answer> {
        let mut answer = pin!(pending.answer());
        loop {
            // A client that sends ahead that much is not looked at any more.
            if self.received.len() > HTTP_HEAD_BYTES_MAX {
                return Some(answer.await);
            }
            let answered = {
                let mut readable = pin!(self.stream.readable(false));
                poll_fn(|cx| match answer.as_mut().poll(cx) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending => readable.as_mut().poll(cx).map(|_| None),
                })
                .await
            };
            if answered.is_some() {
                return answered;
            }
            let (result, buffer) = self.stream.read(Vec::with_capacity(READ_BYTES)).await;
            match result {
                Ok(0) | Err(_) => return None,
                Ok(_) => self.received.extend_from_slice(&buffer),
            }
        }
    }

    /// Packets for the client. False: they did not go out.
    async fn payload(&mut self, body: &[u8]) -> bool {
        self.answer(200, Some("text/plain; charset=UTF-8"), body).await
    }

    async fn refuse(&mut self, error: RequestError) -> bool {
        self.visit.shard.shard.borrow_mut().count_engine_refused(error);
        tracing::debug!(peer = %self.visit.peer, %error, "engine request refused");
        // A body that was not read would be taken for the next request.
        let is_read = matches!(self.wanted.body, Body::Bytes(0)) || self.wanted.request.is_ok();
        self.wanted.is_last |= !is_read || self.visit.shard.shard.borrow().is_leaving();
        let content_type = if error.body().is_empty() { None } else { Some("application/json") };
        self.answer(error.status(), content_type, error.body().as_bytes()).await
    }

    async fn busy(&mut self) -> bool {
        let mut response = Vec::new();
        Failure::unavailable(1).write(&mut response);
        self.wanted.is_last = true;
        self.write(response).await
    }

    async fn answer(&mut self, status: u16, content_type: Option<&str>, body: &[u8]) -> bool {
        let mut response = Vec::with_capacity(512 + body.len());
        let answer = http::Answer { status, is_last: self.wanted.is_last, content_type, body };
        answer.write(&mut response, &self.wanted.cors);
        self.write(response).await
    }

    /// False: it was not taken in time.
    async fn write(&mut self, response: Vec<u8>) -> bool {
        let deadline = Duration::from_millis(self.visit.config.conn.write_timeout_ms);
        let written = monoio::time::timeout(deadline, self.stream.write_all(response)).await;
        matches!(written, Ok((Ok(_), _)))
    }
}

enum Begun {
    /// The body may come.
    Go,
    /// The client has its answer; the connection is over.
    Answered,
}

/// An exchange that the front door waits for; ended when dropped.
struct Pending {
    shard: Rc<Hosted>,
    exchange: Exchange,
}

impl Pending {
    async fn answer(&self) -> Answer {
        poll_fn(|cx| self.shard.shard.borrow_mut().engine_take(self.exchange, cx.waker())).await
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shard.shard.borrow_mut().engine_done(self.exchange);
    }
}

/// Room for a body among those that the shard holds at once.
struct BodyRoom {
    shard: Rc<Hosted>,
    bytes: usize,
}

impl BodyRoom {
    fn new(shard: &Rc<Hosted>, bytes: usize) -> Option<BodyRoom> {
        let is_room = shard.shard.borrow_mut().engine_reserve(bytes);
        is_room.then(|| BodyRoom { shard: shard.clone(), bytes })
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.shard.shard.borrow_mut().engine_release(self.bytes);
    }
}
