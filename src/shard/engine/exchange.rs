//! HTTP requests of polling clients, on their way to a session and back.
//!
//! The front door begins an exchange and sleeps on it; the session's shard, which may be another, answers it. Both ways are mail
//! then. An exchange that was given up is not there any more when its answer comes: what the answer held is lost like any response
//! that a client did not read, and the session ends, because whoever gave up says so (`Ask::Abandon`).
use crate::wire::engineio::{RequestError, Revision, Sid};
use slab::Slab;
use std::task::{Poll, Waker};

/// What a request asks of its session.
pub enum Ask {
    /// Is there such a session, and is it on polling? Nothing happens.
    Check,
    /// GET: what there is, or what comes.
    Poll,
    /// The head of a POST whose body is still to be read.
    BeginPost,
    /// A POST's body. `is_begun`: `BeginPost` went before it.
    Post { body: Vec<u8>, is_binary: bool, is_begun: bool },
    /// The client let go of a GET (which waits for `poll`, if it still does) or POST before it was through. Nobody waits for an answer.
    Abandon { poll: Option<Reply> },
}

/// What a session answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The body of a GET.
    Payload(Vec<u8>),
    /// The POST was read.
    Taken,
    /// `Check` or `BeginPost`: go on.
    Proceed,
    Refused(RequestError),
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub shard: u16,
    exchange: Exchange,
}

/// Mail: a request for a session of another shard.
pub struct Asked {
    pub sid: Sid,
    /// What the request speaks.
    pub revision: Revision,
    pub ask: Ask,
    pub reply: Reply,
}

/// One exchange of this shard's front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    row: u32,
    /// Tells exchanges apart that use a row one after the other.
    serial: u32,
}

#[derive(Default)]
struct Waiting {
    serial: u32,
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// The exchanges of one shard's front door: as many as there are HTTP connections that wait, which `limits.connections` bounds.
#[derive(Default)]
pub struct Exchanges {
    waiting: Slab<Waiting>,
    serial: u32,
    /// Bytes of bodies that are being read or passed on.
    body_bytes: usize,
    /// HTTP connections that have asked for a session.
    pub visitors: usize,
}

/// Bytes of POST bodies that one shard's front door holds at once: 64 of the largest by default, or tens of thousands of usual ones,
/// which are below 1 KiB. More: 503.
const BODY_BYTES_MAX: usize = 64 << 20;

impl Exchanges {
    pub fn begin(&mut self, shard: u16) -> Reply {
        self.serial = self.serial.wrapping_add(1);
        let row = self.waiting.insert(Waiting { serial: self.serial, ..Waiting::default() }) as u32;
        Reply { shard, exchange: Exchange { row, serial: self.serial } }
    }

    /// The answer to an exchange of this shard. False: it was given up.
    pub fn answer(&mut self, reply: Reply, answer: Answer) -> bool {
        let Some(waiting) = self.find(reply.exchange) else { return false };
        waiting.answer = Some(answer);
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
        true
    }

    /// Takes the answer if it is there; else `waker` is called when it is.
    pub fn poll(&mut self, exchange: Exchange, waker: &Waker) -> Poll<Answer> {
        // Whoever polls has not given it up.
        let Some(waiting) = self.find(exchange) else { return Poll::Pending };
        match waiting.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                waiting.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// The front door is done with it.
    pub fn end(&mut self, exchange: Exchange) {
        if self.find(exchange).is_some() {
            self.waiting.remove(exchange.row as usize);
        }
    }

    /// Requests under way.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Room for a body; false if there is none. To be released.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let is_room = self.body_bytes + bytes <= BODY_BYTES_MAX;
        if is_room {
            self.body_bytes += bytes;
        }
        is_room
    }

    pub fn release(&mut self, bytes: usize) {
        self.body_bytes -= bytes;
    }

    fn find(&mut self, exchange: Exchange) -> Option<&mut Waiting> {
        self.waiting.get_mut(exchange.row as usize).filter(|waiting| waiting.serial == exchange.serial)
    }
}

impl Reply {
    /// The reply of another exchange of the same front door.
    pub fn of(self, exchange: Exchange) -> Reply {
        Reply { shard: self.shard, exchange }
    }

    pub fn exchange(self) -> Exchange {
        self.exchange
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_reach_their_exchange_only() {
        let mut exchanges = Exchanges::default();
        let (first, second) = (exchanges.begin(0), exchanges.begin(0));
        let waker = Waker::noop();
        assert!(exchanges.poll(first.exchange, waker).is_pending());
        assert!(exchanges.answer(second, Answer::Taken));
        assert!(exchanges.poll(first.exchange, waker).is_pending());
        assert_eq!(exchanges.poll(second.exchange, waker), Poll::Ready(Answer::Taken));
        exchanges.end(first.exchange);
        let third = exchanges.begin(0);
        assert!(!exchanges.answer(first, Answer::Taken), "given up; its row is another's");
        assert!(exchanges.poll(third.exchange, waker).is_pending());
        exchanges.end(second.exchange);
        exchanges.end(third.exchange);
        assert_eq!(exchanges.len(), 0);
    }

    #[test]
    fn bodies_are_bounded_together() {
        let mut exchanges = Exchanges::default();
        assert!(exchanges.reserve(BODY_BYTES_MAX - 1) && exchanges.reserve(1) && !exchanges.reserve(1));
        exchanges.release(1);
        assert!(exchanges.reserve(1));
    }
}
