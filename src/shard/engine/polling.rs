//! What a polling client asks of its session, on the session's shard.
use super::session::Transport;
use super::{Answer, Ask, Asked, Exchange, Reply};
use crate::plane::Plane;
use crate::shard::mail::Mail;
use crate::shard::{Core, Shard};
use crate::telemetry::{DropReason, EngineEnd};
use crate::wire::engineio::{PayloadReader, RequestError, Revision, Sid};
use std::task::{Poll, Waker};

impl<P: Plane> Shard<P> {
    /// Passes a request of this shard's front door on to its session. `None`: the session's shard takes no more mail for now.
    pub(in crate::shard) fn engine_ask(&mut self, sid: Sid, revision: Revision, ask: Ask) -> Option<Exchange> {
        self.core.now = self.core.plane.now();
        let reply = self.core.engines.exchanges.begin(self.core.id);
        let asked = Asked { sid, revision, ask, reply };
        if sid.shard == self.core.id {
            self.engine_asked(asked);
            self.settle_rooms();
        } else if sid.shard >= self.core.shards {
            self.core.engine_answer(reply, Answer::Refused(RequestError::UnknownSid));
        } else if self.core.mesh.offer(sid.shard, Mail::EngineAsk(Box::new(asked))).is_err() {
            self.core.engines.exchanges.end(reply.exchange());
            self.core.counters.dropped.add(DropReason::MailboxFullEngine, 1);
            return None;
        }
        Some(reply.exchange())
    }

    /// The client of this session let go of a request. What must arrive: its session may be waiting.
    pub(in crate::shard) fn engine_abandon(&mut self, sid: Sid, revision: Revision, exchange: Option<Exchange>) {
        self.core.now = self.core.plane.now();
        let reply = self.core.engines.exchanges.begin(self.core.id);
        self.core.engines.exchanges.end(reply.exchange());
        let poll = exchange.map(|exchange| reply.of(exchange));
        let asked = Asked { sid, revision, ask: Ask::Abandon { poll }, reply };
        if sid.shard == self.core.id {
            self.engine_asked(asked);
            self.settle_rooms();
        } else if sid.shard < self.core.shards {
            self.core.mesh.post(sid.shard, Mail::EngineAsk(Box::new(asked)));
        }
    }

    pub(in crate::shard) fn engine_take(&mut self, exchange: Exchange, waker: &Waker) -> Poll<Answer> {
        self.core.engines.exchanges.poll(exchange, waker)
    }

    pub(in crate::shard) fn engine_done(&mut self, exchange: Exchange) {
        self.core.engines.exchanges.end(exchange);
    }

    /// A polling connection has come, or gone.
    pub(in crate::shard) fn engine_visitors(&mut self) -> &mut usize {
        &mut self.core.engines.exchanges.visitors
    }

    /// Room for the body of a POST, to be released.
    pub(in crate::shard) fn engine_reserve(&mut self, bytes: usize) -> bool {
        self.core.engines.exchanges.reserve(bytes)
    }

    pub(in crate::shard) fn engine_release(&mut self, bytes: usize) {
        self.core.engines.exchanges.release(bytes);
    }

    /// A request that was answered with an error.
    pub(in crate::shard) fn count_engine_refused(&mut self, error: RequestError) {
        self.core.counters.engine_refused.add(error.label(), 1);
    }

    /// A request for a session of this shard.
    pub(in crate::shard) fn engine_asked(&mut self, Asked { sid, revision: spoken, ask, reply }: Asked) {
        let Some(key) = self.core.engines.find(sid) else {
            return self.core.engine_not_there(ask, reply, RequestError::UnknownSid);
        };
        let core = &mut self.core;
        let Some(session) = core.engines.get(key) else { return };
        let (revision, is_closing) = (session.revision, session.closing_since.is_some());
        if spoken != revision {
            return core.engine_not_there(ask, reply, RequestError::BadRequest);
        }
        let Transport::Polling(polling) = &mut session.transport else {
            // The session has moved to a WebSocket: what was let go of is of no more use, and new requests are wrong.
            return core.engine_not_there(ask, reply, RequestError::BadRequest);
        };
        match ask {
            Ask::Check => core.engine_answer(reply, Answer::Proceed),
            Ask::Poll if polling.get.is_some() => core.engine_overlap(key, reply),
            Ask::Poll => {
                polling.get = Some(reply);
                core.answer_poll(key);
                core.schedule_session(key);
            }
            // All is said; the client hears of it when it polls.
            Ask::BeginPost | Ask::Post { .. } if is_closing => core.engine_answer(reply, Answer::Taken),
            Ask::BeginPost if polling.is_posting => core.engine_overlap(key, reply),
            Ask::BeginPost => {
                polling.is_posting = true;
                core.engine_answer(reply, Answer::Proceed);
            }
            Ask::Post { is_begun: false, .. } if polling.is_posting => core.engine_overlap(key, reply),
            Ask::Post { is_binary: true, .. } if revision == Revision::V4 => {
                core.engine_end(key, EngineEnd::TransportError, None);
                core.engine_answer(reply, Answer::Refused(RequestError::ContentType));
            }
            Ask::Post { body, is_binary, .. } => {
                polling.is_posting = false;
                core.counters.bytes_received += body.len() as u64;
                let answer = self.engine_payload(sid, revision, &body, is_binary);
                self.core.engine_answer(reply, answer);
            }
            Ask::Abandon { poll } => {
                if poll.is_some() && polling.get == poll {
                    polling.get = None;
                }
                core.engine_end(key, EngineEnd::TransportError, None);
            }
        }
    }

    /// The packets of a POST. The session may end with any of them.
    fn engine_payload(&mut self, sid: Sid, revision: Revision, body: &[u8], is_binary: bool) -> Answer {
        let mut reader = match is_binary {
            true => PayloadReader::binary_v3(body),
            false => PayloadReader::new(revision, body),
        };
        while let Some(packet) = reader.next_packet() {
            let Some(key) = self.core.engines.find(sid) else { break };
            match packet {
                Ok(packet) => self.engine_packet(key, packet),
                Err(error) => {
                    tracing::debug!(shard = self.core.id, %error, "engine payload");
                    self.core.engine_end(key, EngineEnd::ParseError, None);
                    return Answer::Refused(RequestError::Payload);
                }
            }
        }
        Answer::Taken
    }
}

impl<P: Plane> Core<P> {
    fn engine_not_there(&mut self, ask: Ask, reply: Reply, error: RequestError) {
        if !matches!(ask, Ask::Abandon { .. }) {
            self.engine_answer(reply, Answer::Refused(error));
        }
    }

    /// To the front door where the request came in. Must arrive, or the client waits for nothing.
    pub(in crate::shard) fn engine_answer(&mut self, reply: Reply, answer: Answer) {
        if reply.shard != self.id {
            return self.mesh.post(reply.shard, Mail::EngineAnswer(Box::new((reply, answer))));
        }
        self.engine_answered(reply, answer);
    }

    pub(in crate::shard) fn engine_answered(&mut self, reply: Reply, answer: Answer) {
        if !self.engines.exchanges.answer(reply, answer) {
            // Whoever gave up says so to the session, which ends: nothing is lost that anybody still waits for.
            self.counters.dropped.add(DropReason::Gone, 1);
        }
    }

    /// Two requests of one kind at once: neither the client nor a proxy before it works as it should.
    fn engine_overlap(&mut self, key: u32, reply: Reply) {
        self.engine_end(key, EngineEnd::Overlap, None);
        self.engine_answer(reply, Answer::Refused(RequestError::Overlap));
    }
}
