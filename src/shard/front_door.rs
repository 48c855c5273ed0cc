//! The front door: from an accepted socket to an open connection, a service page, or a clear refusal.
//!
//! Bounded before anything is believed: the number of connections, those not signed in, per address, the size of a head and the time
//! for it (R-CONN-2). Whatever was counted is released again by `Place` unless the connection is opened.
mod engine;
mod events;
mod polling;
mod stream;

use super::host::Hosted;
use super::{Addresses, Opening, Refused, Totals};
use crate::config::Config;
use crate::plane::os::now;
use crate::session::format::Format;
use crate::telemetry::HandshakeRefusal;
use crate::tls::{Acceptor, Session};
use crate::wire::http::{
    Failure, Head, address_key, bearer_token, check, client_address, offered_deflate, origin_allowed, parse_head,
    write_accept,
};
use crate::{limits, wire};
use ipnet::IpNet;
use monoio::net::TcpStream;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use stream::{ReadError, Stream};

/// Bytes asked for at once. A browser's upgrade request is under 1 KiB.
const READ_BYTES: usize = 2_048;

/// Time for a refusal to be taken by the peer's socket, which is empty.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to the services, which this layer does not know. With TLS the session goes along.
pub type HandOver = Box<dyn Fn(std::net::TcpStream, Option<Box<Session>>, Vec<u8>, SocketAddr) -> bool + Send>;

/// What handshakes are decided by.
pub struct Door {
    pub trusted_proxies: Vec<IpNet>,
    pub addresses: Arc<Addresses>,
    pub totals: Arc<Totals>,
    /// Connections that all shards together can hold.
    pub capacity: u64,
    /// Takes connections whose path is no WebSocket's, with the bytes read so far; false if it is too busy.
    pub services: HandOver,
    /// `/echo` exists.
    pub is_dev: bool,
    /// What handshakes are made with at first; a shard gets later ones by mail. None: no TLS.
    pub acceptor: Option<Arc<Acceptor>>,
}

/// What a newcomer was counted for, given back when dropped.
struct Place {
    totals: Arc<Totals>,
    addresses: Arc<Addresses>,
    /// The entry that counts the address, once it does.
    address: Option<u32>,
    /// It serves a session that is counted, so it is nobody unknown any more.
    is_vouched: bool,
}

impl Place {
    /// The connection counts from now on, and is released by its shard.
    fn keep(self) -> Option<u32> {
        let address = self.address;
        // Only the shares are dropped, not the count.
        let place = std::mem::ManuallyDrop::new(self);
        debug_assert!(place.address == address);
        address
    }

    fn vouch(&mut self) {
        if !std::mem::replace(&mut self.is_vouched, true) {
            self.totals.signed_in();
        }
    }

    fn unvouch(&mut self) {
        if std::mem::take(&mut self.is_vouched) {
            self.totals.signing_in();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_vouched {
            self.totals.signed_in();
        }
        self.totals.closed();
        if let Some(entry) = self.address {
            self.addresses.release(entry);
        }
    }
}

/// Why a connection is turned away.
struct TurnedAway {
    reason: HandshakeRefusal,
    failure: Failure,
}

fn turned_away(reason: HandshakeRefusal, failure: Failure) -> TurnedAway {
    TurnedAway { reason, failure }
}

/// Counts an accepted connection and gives it a task of its own.
pub(super) fn admit(tcp: TcpStream, is_tls: bool, peer: SocketAddr, shard: &Rc<Hosted>, door: &Rc<Door>) {
    let accepted_at_ns = now().mono_ns;
    let (shard, door) = (shard.clone(), door.clone());
    shard.shard.borrow_mut().count_accepted();
    let config = shard.shard.borrow().config();
    let place = place(&door, &config, peer, accepted_at_ns);
    let stream = match (is_tls, shard.shard.borrow().acceptor()) {
        (false, _) => Stream::plain(tcp),
        (true, Some(acceptor)) => Stream::tls(tcp, acceptor),
        // There is no listener for TLS without an acceptor.
        (true, None) => return,
    };
    monoio::spawn(async move {
        let result = match place {
            Ok(place) => greet(stream, peer, place, accepted_at_ns, &shard, &door, &config).await,
            Err(away) => Err((stream, away)),
        };
        if let Err((stream, away)) = result {
            shard.shard.borrow_mut().count_refused(away.reason);
            tracing::debug!(%peer, reason = ?away.reason, "handshake refused");
            turn_away(stream, &away.failure).await;
        }
    });
}

fn place(door: &Door, config: &Config, peer: SocketAddr, now_ns: u64) -> Result<Place, TurnedAway> {
    let mut place = count(door, config)?;
    // Behind a trusted proxy the address is in the head, which has not been read.
    if !door.trusted_proxies.iter().any(|network| network.contains(&peer.ip().to_canonical())) {
        count_address(&mut place, address_key(peer.ip()), now_ns)?;
    }
    Ok(place)
}

fn count(door: &Door, config: &Config) -> Result<Place, TurnedAway> {
    door.totals.admit(&config.limits, door.capacity).map_err(|full| match full {
        super::totals::Full::Connections => turned_away(HandshakeRefusal::Connections, Failure::unavailable(5)),
        super::totals::Full::Unauthenticated => turned_away(HandshakeRefusal::Unauthenticated, Failure::unavailable(1)),
    })?;
    let (totals, addresses) = (door.totals.clone(), door.addresses.clone());
    Ok(Place { totals, addresses, address: None, is_vouched: false })
}

fn count_address(place: &mut Place, key: u64, now_ns: u64) -> Result<(), TurnedAway> {
    place.address = place.addresses.admit(key, now_ns / 1_000_000).map_err(|refused| match refused {
        Refused::TooFast { retry_after_ms } => {
            let seconds = retry_after_ms.div_ceil(1_000) as u32;
            turned_away(HandshakeRefusal::AddressRate, Failure::too_many_requests(seconds.max(1)))
        }
        Refused::TooManyConnections => turned_away(HandshakeRefusal::AddressCount, Failure::too_many_requests(30)),
        Refused::TableFull => turned_away(HandshakeRefusal::AddressCount, Failure::unavailable(5)),
    })?;
    Ok(())
}

type Greeted = Result<(), (Stream, TurnedAway)>;

/// Reads the head and goes where it points.
async fn greet(
    mut stream: Stream,
    peer: SocketAddr,
    mut place: Place,
    accepted_at_ns: u64,
    shard: &Rc<Hosted>,
    door: &Rc<Door>,
    config: &Config,
) -> Greeted {
    let mut received = Vec::new();
    let deadline = Duration::from_millis(config.http.head_timeout_ms);
    let mut is_first = true;
    let mut visitor = None;
    // One request after the other, as long as they are polls.
    loop {
        let read = monoio::time::timeout(deadline, read_head(&mut stream, &mut received)).await;
        if let Some(outcome) = stream.outcome().filter(|_| is_first) {
            shard.shard.borrow_mut().count_handshake(outcome);
        }
        match read {
            Ok(Ok(())) => {}
            // The peer went away: there is nobody to tell.
            Ok(Err(None)) => return Ok(()),
            Ok(Err(Some(away))) => return Err((stream, away)),
            // An answered connection that stays silent has done nothing wrong.
            Err(_) if !is_first && received.is_empty() => return Ok(()),
            Err(_) => return Err((stream, turned_away(HandshakeRefusal::HeadTimeout, Failure::head_timeout()))),
        }
        if !engine::is_asked(&received) {
            break;
        }
        visitor.get_or_insert_with(|| engine::Visitor::new(shard));
        let visit = engine::Visit { peer, accepted_at_ns, shard, door, config };
        match engine::serve(stream, received, place, &visit).await? {
            Some(next) => (stream, received, place) = next,
            None => return Ok(()),
        }
        is_first = false;
    }
    drop(visitor);
    let Ok(Some(head)) = parse_head(&received) else { return Ok(()) };
    let is_echo = door.is_dev && head.path() == "/echo";
    if head.path() != "/ws" && head.path() != events::PATH && !is_echo {
        drop(place);
        let Some((socket, session)) = stream.into_parts() else { return Ok(()) };
        if !(door.services)(std::net::TcpStream::from(socket), session, received, peer) {
            tracing::debug!(%peer, "the services are busy: connection dropped");
        }
        return Ok(());
    }
    place.unvouch();
    if place.address.is_none() {
        let client = client_address(peer.ip(), &head, &door.trusted_proxies);
        if let Err(away) = count_address(&mut place, address_key(client), accepted_at_ns) {
            return Err((stream, away));
        }
    }
    if head.path() == events::PATH {
        events::greet(stream, place, &head, &received[head.len()..], accepted_at_ns, shard, config).await;
        return Ok(());
    }
    let (response, format, identity) = match upgrade(&head, is_echo, shard, config) {
        Ok(upgraded) => upgraded,
        Err(away) => return Err((stream, away)),
    };
    let Some((socket, session)) = stream.into_parts() else { return Ok(()) };
    let is_tls = session.is_some();
    let opening = Opening {
        response,
        identity,
        session,
        received: received[head.len()..].to_vec(),
        address: place.address,
        accepted_at_ns,
        format,
        is_echo,
    };
    let result = shard.shard.borrow_mut().open(socket, opening);
    settle(result, is_tls, place, shard);
    Ok(())
}

/// The shard has taken a connection over, or given its socket back.
fn settle<T>(opened: Result<T, OwnedFd>, is_tls: bool, place: Place, shard: &Rc<Hosted>) {
    match opened {
        Ok(_) => {
            place.keep();
            shard.turn();
        }
        // Its session is gone, and nothing may be said without it.
        Err(_) if is_tls => shard.shard.borrow_mut().count_refused(HandshakeRefusal::Connections),
        Err(socket) => table_full(socket, shard),
    }
}

/// Reads until the head is complete. `None`: the peer closed.
async fn read_head(stream: &mut Stream, received: &mut Vec<u8>) -> Result<(), Option<TurnedAway>> {
    // What came behind an earlier request may be all of this one.
    let mut is_read = !received.is_empty();
    loop {
        if !std::mem::take(&mut is_read) {
            stream.read(received).await.map_err(|error| match error {
                ReadError::Gone => None,
                ReadError::Tls => Some(turned_away(HandshakeRefusal::Tls, Failure::tls_required())),
            })?;
        }
        match parse_head(received) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if received.len() > limits::HTTP_HEAD_BYTES_MAX => {
                let error = wire::http::HeadError::TooLarge;
                return Err(Some(turned_away(HandshakeRefusal::HeadTooBig, error.failure())));
            }
            Ok(None) => {}
            Err(error) => {
                let reason = match error {
                    wire::http::HeadError::TooLarge => HandshakeRefusal::HeadTooBig,
                    _ => HandshakeRefusal::BadRequest,
                };
                return Err(Some(turned_away(reason, error.failure())));
            }
        }
    }
}

/// Checks an upgrade request: its form, its origin, its token.
fn upgrade(
    head: &Head<'_>,
    is_echo: bool,
    shard: &Rc<Hosted>,
    config: &Config,
) -> Result<(Vec<u8>, Format, Option<crate::auth::Identity>), TurnedAway> {
    if shard.shard.borrow().is_leaving() {
        return Err(turned_away(HandshakeRefusal::Draining, Failure::unavailable(1)));
    }
    let mut upgrade = check(head).map_err(|refused| turned_away(HandshakeRefusal::BadRequest, refused.failure()))?;
    if !origin_allowed(head.header("origin"), head.header("host"), &config.http.allowed_origins) {
        return Err(turned_away(HandshakeRefusal::Origin, Failure::origin_forbidden()));
    }
    if config.ws.deflates(head.query_param("deflate").is_some_and(|value| value == "1")) {
        upgrade.deflate = offered_deflate(head);
    }
    let format = upgrade.deflate.map_or(Format::NATIVE, |deflate| Format::deflated(deflate.window_bits));
    let mut response = Vec::with_capacity(256);
    if is_echo {
        write_accept(&mut response, &upgrade, None);
        return Ok((response, format, None));
    }
    let credentials = bearer_token(head, &upgrade, config.auth.allow_query_token)
        .map_err(|error| turned_away(HandshakeRefusal::BadToken, error.failure()))?;
    let identity = match &credentials.token {
        None => None,
        Some(token) => match shard.shard.borrow_mut().verify(token) {
            Ok(identity) => Some(identity),
            Err(_) => return Err(turned_away(HandshakeRefusal::BadToken, Failure::bad_token())),
        },
    };
    write_accept(&mut response, &upgrade, credentials.protocol);
    Ok((response, format, identity))
}

/// Says why and closes.
async fn turn_away(stream: Stream, failure: &Failure) {
    let mut response = Vec::new();
    failure.write(&mut response);
    say(stream, response).await;
}

/// Answers and closes.
async fn say(mut stream: Stream, response: Vec<u8>) {
    let farewell = async {
        let _ = stream.write_all(response).await;
        let _ = stream.shutdown().await;
        // What the peer had still sent would turn the close into a reset, which can overtake the response.
        let _ = stream.read(&mut Vec::new()).await;
    };
    let _ = monoio::time::timeout(REFUSAL_TIMEOUT, farewell).await;
}

/// The plane has no row for it, although the totals had room: another shard has.
fn table_full(socket: OwnedFd, shard: &Rc<Hosted>) {
    shard.shard.borrow_mut().count_refused(HandshakeRefusal::Connections);
    let mut response = Vec::new();
    Failure::unavailable(1).write(&mut response);
    let socket = socket2::Socket::from(socket);
    // A fresh socket takes a few hundred bytes at once or is broken.
    let _ = socket.send_with_flags(&response, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}
