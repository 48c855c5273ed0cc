//! `GET /events`: from a request to an event stream, or an answer that says why there is none (R-SSE-1).
//!
//! The same limits, origins and tokens as for a WebSocket. There is no way to send a token later, so the request must bring it; a page
//! cannot set headers on an EventSource, so there it is `?token=`, if that is allowed.
use super::super::Opening;
use super::super::host::Hosted;
use super::stream::Stream;
use super::{Place, say, settle};
use crate::auth::Identity;
use crate::base::close::CloseCode;
use crate::base::refusal::Code;
use crate::config::Config;
use crate::limits::STREAM_RETRY_MS;
use crate::session::format::Format;
use crate::session::stream::StreamRequest;
use crate::session::transcode::sse::close;
use crate::telemetry::{AuthFailure, HandshakeRefusal};
use crate::wire::http::cors::{CorsHeaders, headers_for, is_preflight, write_preflight};
use crate::wire::http::{Failure, Head, Upgrade, bearer_token, origin_allowed};
use crate::wire::sse::{Block, write_head};
use socket2::SockRef;
use std::rc::Rc;
use std::time::Duration;

pub const PATH: &str = "/events";

/// Headers that a program in a page may set on its request.
const ALLOWED_HEADERS: &str = "authorization, cache-control, last-event-id";

/// A request that may become a stream.
struct Accepted {
    response: Vec<u8>,
    identity: Identity,
    request: StreamRequest,
}

/// What is answered instead of a stream.
struct Answered {
    response: Vec<u8>,
    /// None: it was what the request wanted.
    refusal: Option<HandshakeRefusal>,
}

/// Opens the stream, or answers and closes. `behind` are the bytes after the head.
pub(super) async fn greet(
    stream: Stream,
    place: Place,
    head: &Head<'_>,
    behind: &[u8],
    accepted_at_ns: u64,
    shard: &Rc<Hosted>,
    config: &Config,
) {
    let Accepted { response, identity, request } = match decide(head, shard, config) {
        Ok(accepted) => accepted,
        Err(Answered { response, refusal }) => {
            drop(place);
            if let Some(reason) = refusal {
                shard.shard.borrow_mut().count_refused(reason);
                tracing::debug!(?reason, "event stream refused");
            }
            return say(stream, response).await;
        }
    };
    let Some((socket, session)) = stream.into_parts() else { return };
    let is_tls = session.is_some();
    if let Err(error) = give_up_after(&SockRef::from(&socket), config.ws.pong_timeout_ms) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT: a peer that is gone is found out late");
    }
    let format = if request.has_several_rooms() { Format::STREAM_OF_SEVERAL } else { Format::STREAM };
    let opening = Opening {
        response,
        identity: Some(identity),
        session,
        format,
        received: behind.to_vec(),
        address: place.address,
        accepted_at_ns,
        is_echo: false,
    };
    let result = shard.shard.borrow_mut().open_stream(socket, opening, &request);
    settle(result, is_tls, place, shard);
}

/// A WebSocket's peer that is gone answers no ping; that of a stream has nothing to answer. So the kernel ends a connection whose peer
/// has not acknowledged what it was sent, the comment that goes out at each interval at the latest, for as long as a pong may take.
fn give_up_after(socket: &SockRef<'_>, pong_timeout_ms: u64) -> std::io::Result<()> {
    socket.set_tcp_user_timeout(Some(Duration::from_millis(pong_timeout_ms)))
}

fn decide(head: &Head<'_>, shard: &Rc<Hosted>, config: &Config) -> Result<Accepted, Answered> {
    let cors = headers_for(head, &config.http.allowed_origins);
    let refuse = |reason, failure: Failure| refused(reason, &failure, &cors);
    if !origin_allowed(head.header("origin"), head.header("host"), &config.http.allowed_origins) {
        return Err(refuse(HandshakeRefusal::Origin, Failure::origin_forbidden()));
    }
    if is_preflight(head) {
        let mut response = Vec::new();
        write_preflight(&mut response, &cors, "GET", ALLOWED_HEADERS);
        return Err(Answered { response, refusal: None });
    }
    if shard.shard.borrow().is_leaving() {
        return Err(match accepts_events(head) {
            true => come_back(&cors),
            false => refuse(HandshakeRefusal::Draining, Failure::unavailable(1)),
        });
    }
    if head.method() != "GET" {
        return Err(refuse(HandshakeRefusal::BadRequest, Failure::new(405, "method_not_allowed", "Only GET")));
    }
    if head.has_body() {
        let failure = Failure::of(400, Code::InvalidFormat, "A request for events has no body");
        return Err(refuse(HandshakeRefusal::BadRequest, failure));
    }
    let last_id = head.header("last-event-id").filter(|id| !id.is_empty()).map(Into::into);
    let last_id = last_id.or_else(|| head.query_param("lastEventId"));
    let request = StreamRequest::new(head.query_params("rooms"), last_id.as_deref())
        .map_err(|bad| refuse(HandshakeRefusal::BadRequest, bad.failure()))?;
    // Nothing is offered: subprotocols are a WebSocket's.
    let nothing_offered = Upgrade { key: "", protocols: Default::default(), deflate: None };
    let credentials = bearer_token(head, &nothing_offered, config.auth.allow_query_token)
        .map_err(|error| refuse(HandshakeRefusal::BadToken, error.failure()))?;
    let Some(token) = credentials.token else {
        shard.shard.borrow_mut().count_auth_failure(AuthFailure::Missing);
        let failure = Failure::of(401, Code::AuthRequired, Code::AuthRequired.text());
        return Err(refuse(HandshakeRefusal::BadToken, failure));
    };
    let identity = shard
        .shard
        .borrow_mut()
        .verify(&token)
        .map_err(|_| refuse(HandshakeRefusal::BadToken, Failure::bad_token()))?;
    let mut response = Vec::with_capacity(256);
    write_head(&mut response, &cors);
    Ok(Accepted { response, identity, request })
}

fn refused(reason: HandshakeRefusal, failure: &Failure, cors: &CorsHeaders<'_>) -> Answered {
    let mut response = Vec::new();
    // Without them a page's program could not tell a bad token from a broken network, and would try for ever.
    failure.write_with(&mut response, cors);
    Answered { response, refusal: Some(reason) }
}

/// An EventSource takes any other status than 200 as final. So one that comes while the server is leaving gets a stream that ends.
fn come_back(cors: &CorsHeaders<'_>) -> Answered {
    let mut response = Vec::new();
    write_head(&mut response, cors);
    Block::new(&mut response).retry(STREAM_RETRY_MS[1]).end();
    close(&mut response, Some(CloseCode::Drain.number()), CloseCode::Drain.reason());
    Answered { response, refusal: Some(HandshakeRefusal::Draining) }
}

fn accepts_events(head: &Head<'_>) -> bool {
    let is_events = |range: &str| range.split(';').next().is_some_and(|kind| kind.trim_end() == "text/event-stream");
    head.list("accept").any(is_events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::parse_head;

    #[test]
    fn an_event_source_says_what_it_takes() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, text/event-stream; q=0.5", true),
            ("*/*", false),
            ("text/event-streams", false),
        ] {
            let text = format!("GET /events HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\n\r\n");
            assert_eq!(accepts_events(&parse_head(text.as_bytes()).unwrap().unwrap()), expected, "{accept}");
        }
    }

    #[test]
    fn the_kernel_gives_a_silent_peer_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = SockRef::from(&stream);
        give_up_after(&socket, 20_000).unwrap();
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
    }
}
