//! One request of a polling client, from its head to its answer: a task that sleeps on its session.
use super::engine::{Body, Visit, Wanted, checked_token};
use super::stream::Stream;
use super::{Failure, TurnedAway, count, count_address, turned_away};
use crate::limits::HTTP_HEAD_BYTES_MAX;
use crate::plane::os::now;
use crate::shard::engine::{Answer, Ask, Counted, Exchange};
use crate::shard::front_door::Place;
use crate::shard::host::Hosted;
use crate::telemetry::HandshakeRefusal;
use crate::wire::engineio::{RequestError, Revision, Sid};
use crate::wire::http;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Between the packets of a payload.
const PACKET_SEPARATOR: u8 = 0x1e;

/// A connection while it serves one request.
pub(super) struct Exchanging<'a> {
    pub stream: Stream,
    pub received: Vec<u8>,
    pub wanted: Wanted,
    /// What the request speaks.
    pub revision: Revision,
    pub visit: &'a Visit<'a>,
}

impl Exchanging<'_> {
    /// Counts a new session as a connection is counted. With the token of its request, if it brought one.
    pub fn admit(&mut self) -> Result<(Counted, Option<Box<str>>), TurnedAway> {
        if self.visit.shard.shard.borrow().is_leaving() {
            return Err(turned_away(HandshakeRefusal::Draining, Failure::unavailable(1)));
        }
        let token = checked_token(std::mem::replace(&mut self.wanted.token, Ok(None)), self.visit.shard)?;
        let mut place = count(self.visit.door, self.visit.config)?;
        count_address(&mut place, self.wanted.address_key, now().mono_ns)?;
        Ok((Counted { address: place.keep() }, token))
    }

    /// A poll: waits for what comes. False: the connection is over.
    pub async fn get(&mut self, sid: Sid, place: &mut Place) -> bool {
        let Some(pending) = self.ask(sid, Ask::Poll) else { return self.busy().await };
        let Some(answer) = self.answer_or_end(&pending).await else {
            self.abandon(sid, Some(pending.exchange));
            return false;
        };
        match answer {
            Answer::Payload(body) => {
                place.vouch();
                // The last packet says that there will be no more: a drain waits for nothing else on this connection.
                let is_end = body.split(|byte| *byte == PACKET_SEPARATOR).next_back() == Some(b"1");
                self.wanted.is_last |= is_end && self.visit.shard.shard.borrow().is_leaving();
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

    pub async fn post(&mut self, sid: Sid, place: &mut Place) -> bool {
        let bytes_max = self.visit.config.sio.max_payload_bytes as usize;
        let reserved = match self.wanted.body {
            Body::Bytes(len) if len > bytes_max => return self.too_large(sid).await,
            Body::Bytes(len) => len,
            Body::Chunked => bytes_max,
            Body::Unknown => {
                self.wanted.is_last = true;
                return self.answer(501, None, b"").await;
            }
        };
        let shard = self.visit.shard.clone();
        let is_begun = self.received.len() < reserved || matches!(self.wanted.body, Body::Chunked);
        let Some(_room) = BodyRoom::new(&shard, reserved) else {
            self.wanted.is_last |= is_begun;
            return self.busy().await;
        };
        if is_begun {
            match self.begin_post(sid).await {
                Begun::Go => {}
                Begun::Answered => return false,
            }
        }
        let body = match self.wanted.body {
            Body::Chunked => self.read_chunks(bytes_max).await,
            _ => self.read_body(reserved).await,
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                // What follows on this connection is not known, and the session has missed something.
                self.abandon(sid, None);
                self.wanted.is_last = true;
                return match error {
                    None => false,
                    Some(error) => self.refuse(error).await,
                };
            }
        };
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

    /// A body of so many bytes. An error without a refusal: it does not come, or not in time.
    async fn read_body(&mut self, len: usize) -> Result<Vec<u8>, Option<RequestError>> {
        let deadline = Duration::from_millis(self.visit.config.http.head_timeout_ms);
        let reading = async {
            while self.received.len() < len {
                self.stream.read(&mut self.received).await.map_err(|_| None)?;
            }
            Ok(())
        };
        monoio::time::timeout(deadline, reading).await.unwrap_or(Err(None))?;
        let rest = self.received.split_off(len);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    /// The same, of at most so many bytes, in chunks.
    async fn read_chunks(&mut self, bytes_max: usize) -> Result<Vec<u8>, Option<RequestError>> {
        let deadline = Duration::from_millis(self.visit.config.http.head_timeout_ms);
        let (mut chunked, mut body) = (http::Chunked::default(), Vec::new());
        let reading = async {
            loop {
                let used = chunked.read(&self.received, &mut body, bytes_max).map_err(|error| {
                    Some(match error {
                        http::ChunkedError::TooLarge => RequestError::PayloadTooLarge,
                        http::ChunkedError::Malformed => RequestError::Payload,
                    })
                })?;
                self.received.drain(..used);
                if chunked.is_done() {
                    return Ok(());
                }
                self.stream.read(&mut self.received).await.map_err(|_| None)?;
            }
        };
        monoio::time::timeout(deadline, reading).await.unwrap_or(Err(None))?;
        Ok(body)
    }

    /// None: the session's shard is too busy.
    fn ask(&self, sid: Sid, ask: Ask) -> Option<Pending> {
        let exchange = self.visit.shard.shard.borrow_mut().engine_ask(sid, self.revision, ask);
        self.visit.shard.turn();
        Some(Pending { shard: self.visit.shard.clone(), exchange: exchange? })
    }

    fn abandon(&self, sid: Sid, poll: Option<Exchange>) {
        self.visit.shard.shard.borrow_mut().engine_abandon(sid, self.revision, poll);
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
                let mut readable = pin!(self.stream.readable());
                poll_fn(|cx| match answer.as_mut().poll(cx) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending => readable.as_mut().poll(cx).map(|_| None),
                })
                .await
            };
            if answered.is_some() {
                return answered;
            }
            // With TLS a record may have come in part; a client that stops in the middle of one waits for itself.
            self.stream.read(&mut self.received).await.ok()?;
        }
    }

    /// Packets for the client. False: they did not go out.
    pub async fn payload(&mut self, body: &[u8]) -> bool {
        self.answer(200, Some("text/plain; charset=UTF-8"), body).await
    }

    pub async fn refuse(&mut self, error: RequestError) -> bool {
        self.visit.shard.shard.borrow_mut().count_engine_refused(error);
        tracing::debug!(peer = %self.visit.peer, %error, "engine request refused");
        self.wanted.is_last |= self.visit.shard.shard.borrow().is_leaving();
        let content_type = if error.body().is_empty() { None } else { Some("application/json") };
        self.answer(error.status(), content_type, error.body().as_bytes()).await
    }

    async fn busy(&mut self) -> bool {
        let mut response = Vec::new();
        Failure::unavailable(1).write(&mut response);
        self.wanted.is_last = true;
        self.write(response).await
    }

    pub async fn answer(&mut self, status: u16, content_type: Option<&str>, body: &[u8]) -> bool {
        let mut response = Vec::with_capacity(512 + body.len());
        let answer = http::Answer { status, is_last: self.wanted.is_last, content_type, body };
        answer.write(&mut response, &self.wanted.cors);
        self.write(response).await
    }

    /// False: it was not taken in time.
    async fn write(&mut self, response: Vec<u8>) -> bool {
        let deadline = Duration::from_millis(self.visit.config.conn.write_timeout_ms);
        let written = monoio::time::timeout(deadline, self.stream.write_all(response)).await;
        matches!(written, Ok(Ok(())))
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
