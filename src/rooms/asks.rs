//! Questions of one session to all others in its room, and their answers (R-LIVE-1): `ask`, `question`, `answer`.
//!
//! A question is a live event, sent at most once and never stored. The asker's ack is held back until all that were asked have answered
//! or are gone, or the time is over. Who was asked is known by session, so each answers once; event streams, which cannot answer, hear
//! the question and are not asked. All of it lives here, at the room's home, and only while a question is open.
use super::command::Caller;
use super::effects::{Class, Effects, Requester};
use super::event::{Ack, Answer, Event};
use super::room::{Cx, Room};
use crate::base::refusal::{Code, Refusal};
use crate::base::user::UserRef;
use crate::ids::{ConnRef, is_short_id};
use crate::limits::{ANSWER_BYTES_MAX, ANSWERS_MAX, ASKED_MAX, ASKS_OF_ROOM_MAX, ASKS_OF_SESSION_MAX, SHARDS_MAX};
use hashbrown::HashMap;

/// Lowest bits of a question's id: the shard that is its room's home. An answer that names no room finds it by them.
const SHARD_BITS: u32 = 8;
const _: () = assert!(SHARDS_MAX as u32 <= 1 << SHARD_BITS);

/// The shard on which a question of this id would be open, if there is such a shard and such a question.
pub fn home_of_ask(id: u64) -> u16 {
    (id & ((1 << SHARD_BITS) - 1)) as u16
}

/// The questions open on one shard, by id: which room each is in.
#[derive(Debug)]
pub(super) struct Register {
    shard: u16,
    last: u64,
    rooms: HashMap<u64, u32>,
}

impl Register {
    pub fn new(shard: u16) -> Register {
        Register { shard, last: 0, rooms: HashMap::new() }
    }

    /// Key of the room in which this question is open.
    pub fn room(&self, id: u64) -> Option<u32> {
        self.rooms.get(&id).copied()
    }

    /// A fresh id: unique in the process, and below 2^53 for the first 2^45 questions of a shard.
    fn open(&mut self, room_key: u32) -> u64 {
        self.last += 1;
        let id = self.last << SHARD_BITS | u64::from(self.shard);
        self.rooms.insert(id, room_key);
        id
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    fn close(&mut self, id: u64) {
        self.rooms.remove(&id);
        if self.rooms.is_empty() && self.rooms.capacity() > ASKS_OF_ROOM_MAX {
            self.rooms = HashMap::new();
        }
    }
}

/// The questions of one room that are not over; none is no memory (`Room::asks`).
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: Vec<Ask>,
}

/// A question that is waited for.
#[derive(Debug)]
struct Ask {
    id: u64,
    asker: ConnRef,
    request: Box<str>,
    /// Monotonic ms.
    until_ms: u64,
    /// Sessions that were asked.
    asked: u32,
    /// Those of them that are still here: whether each has answered.
    members: HashMap<ConnRef, bool>,
    /// How many of these have not.
    waiting: u32,
    /// In the order in which they came, as many as there is room for.
    answers: Vec<Answer>,
    bytes: usize,
    /// Answers that came when there was no more room.
    dropped: u32,
}

impl Ask {
    /// Takes an answer; true if it was the last that was waited for.
    fn answer(&mut self, conn: ConnRef, user: &UserRef, payload: &str) -> Result<bool, Code> {
        match self.members.get_mut(&conn) {
            None => return Err(Code::Forbidden),
            Some(true) => return Err(Code::Conflict),
            Some(has_answered) => *has_answered = true,
        }
        self.waiting -= 1;
        let bytes = user.id().len() + payload.len();
        if self.answers.len() < ANSWERS_MAX && self.bytes + bytes <= ANSWER_BYTES_MAX {
            self.bytes += bytes;
            self.answers.push(Answer { user: user.clone(), payload: payload.into() });
        } else {
            self.dropped += 1;
        }
        Ok(self.waiting == 0)
    }

    fn is_complete(&self) -> bool {
        self.answers.len() as u64 + u64::from(self.dropped) == u64::from(self.asked)
    }
}

impl Asks {
    /// Whether this session may ask one more question.
    fn admit(&self, asker: ConnRef, now_ms: u64) -> Result<(), Refusal> {
        // When at the latest the first of these is over.
        let wait_ms = |is_counted: &dyn Fn(&&Ask) -> bool| {
            let until_ms = self.open.iter().filter(is_counted).map(|ask| ask.until_ms).min();
            until_ms.map_or(0, |until_ms| until_ms.saturating_sub(now_ms).max(1))
        };
        let is_own = |ask: &&Ask| ask.asker == asker;
        if self.open.iter().filter(is_own).count() >= ASKS_OF_SESSION_MAX {
            return Err(Refusal::after_ms(Code::RateLimited, wait_ms(&is_own)));
        }
        if self.open.len() >= ASKS_OF_ROOM_MAX {
            return Err(Refusal::after_ms(Code::Overloaded, wait_ms(&|_| true)));
        }
        Ok(())
    }

    /// Takes an answer; the question, if that was the last.
    fn answer(&mut self, id: u64, conn: ConnRef, user: &UserRef, payload: &str) -> Result<Option<Ask>, Code> {
        let at = self.open.iter().position(|ask| ask.id == id).ok_or(Code::NotFound)?;
        let is_over = self.open[at].answer(conn, user, payload)?;
        Ok(is_over.then(|| self.open.swap_remove(at)))
    }

    /// A session is gone: nobody waits for it any more. Calls back with what is over by that.
    fn part(&mut self, conn: ConnRef, mut over: impl FnMut(Ask)) {
        for ask in self.open.extract_if(.., |ask| {
            if ask.members.remove(&conn) == Some(false) {
                ask.waiting -= 1;
            }
            ask.asker == conn || ask.waiting == 0
        }) {
            over(ask);
        }
    }

    /// Calls back with what is over because its time is.
    fn expire(&mut self, now_ms: u64, mut over: impl FnMut(Ask)) {
        self.open.extract_if(.., |ask| ask.until_ms <= now_ms).for_each(&mut over);
    }

    fn next_ms(&self) -> Option<u64> {
        self.open.iter().map(|ask| ask.until_ms).min()
    }
}

impl Room {
    /// The ack comes when the question is over.
    pub(super) fn ask<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        event: &str,
        payload: &str,
        timeout_ms: Option<u64>,
    ) -> Result<(), Refusal> {
        self.subscribed(caller)?;
        if !is_short_id(event) {
            return Err(Refusal::field("event"));
        }
        let timeout_ms = timeout_ms.unwrap_or(cx.settings.ask_timeout_ms);
        if !(1..=cx.settings.ask_timeout_ms).contains(&timeout_ms) {
            return Err(Refusal::field("timeoutMs"));
        }
        if self.online.session_count() > ASKED_MAX as u64 + 1 {
            return Err(Code::LimitReached.into());
        }
        let asks = self.asks.get_or_insert_default();
        asks.admit(caller.conn, cx.now_ms())?;
        let others = self.online.all_sessions().filter(|conn| *conn != caller.conn && !conn.is_listener());
        let members: HashMap<ConnRef, bool> = others.map(|conn| (conn, false)).collect();
        let asked = members.len() as u32;
        let id = cx.asks.open(cx.meta.key);
        let until_ms = cx.now_ms() + timeout_ms;
        let ask = Ask {
            id,
            asker: caller.conn,
            request: caller.request.into(),
            until_ms,
            asked,
            members,
            waiting: asked,
            answers: Vec::new(),
            bytes: 0,
            dropped: 0,
        };
        cx.fx.count("questions");
        let question = Event::Question { user: caller.user, event, payload, ask_id: id, timestamp_ms: cx.now.unix_ms };
        self.publish(cx, &question, Class::Live, &[caller.conn], caller.read_at_ns);
        if asked == 0 {
            cx.end_ask(&ask);
        } else if let Some(asks) = &mut self.asks {
            asks.open.push(ask);
            cx.arm(until_ms);
        }
        self.forget_asks();
        Ok(())
    }

    /// An answer has no ack (R-ENV-2).
    ///
    /// # Errors
    /// `not_found`: the question is over, or there was none. `conflict`: it was answered before. `forbidden`: this session was not asked.
    pub(super) fn answer<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        ask_id: u64,
        payload: &str,
    ) -> Result<(), Refusal> {
        self.subscribed(caller)?;
        let asks = self.asks.as_mut().ok_or(Code::NotFound)?;
        if let Some(ask) = asks.answer(ask_id, caller.conn, caller.user, payload)? {
            cx.end_ask(&ask);
            self.forget_asks();
        }
        Ok(())
    }

    /// A session is no longer subscribed. Its own questions are over: it is told what came so far.
    pub(super) fn part_asks<E: Effects>(&mut self, cx: &mut Cx<'_, E>, conn: ConnRef) {
        if let Some(asks) = &mut self.asks {
            asks.part(conn, |ask| cx.end_ask(&ask));
            self.forget_asks();
        }
    }

    /// A connection is gone, and its questions with it.
    pub(super) fn drop_asks_of<E: Effects>(&mut self, cx: &mut Cx<'_, E>, asker: ConnRef) {
        if let Some(asks) = &mut self.asks {
            asks.open.extract_if(.., |ask| ask.asker == asker).for_each(|ask| cx.asks.close(ask.id));
            self.forget_asks();
        }
    }

    pub(super) fn expire_asks<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        let Some(asks) = &mut self.asks else { return };
        asks.expire(cx.now_ms(), |ask| {
            cx.fx.count("questions_timed_out");
            cx.end_ask(&ask);
        });
        if let Some(next_ms) = asks.next_ms() {
            cx.arm(next_ms);
        }
        self.forget_asks();
    }

    /// The room is gone: all questions are over.
    pub(super) fn end_asks<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        if let Some(asks) = self.asks.take() {
            asks.open.iter().for_each(|ask| cx.end_ask(ask));
        }
    }

    fn forget_asks(&mut self) {
        if self.asks.as_ref().is_some_and(|asks| asks.open.is_empty()) {
            self.asks = None;
        }
    }
}

impl<E: Effects> Cx<'_, E> {
    /// Tells the asker what came.
    fn end_ask(&mut self, ask: &Ask) {
        self.asks.close(ask.id);
        for _ in 0..ask.dropped {
            self.fx.count("answers_dropped");
        }
        let ack = Ack::Asked {
            ask_id: ask.id,
            asked: ask.asked.into(),
            answers: &ask.answers,
            dropped: ask.dropped.into(),
            is_complete: ask.is_complete(),
        };
        self.ack(Requester { conn: ask.asker, request: &ask.request }, &ack);
    }
}

#[cfg(test)]
mod tests;
