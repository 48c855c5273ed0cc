//! The end of a session: its namespaces leave, its transport closes, and what it was counted for is given back.
use super::session::{Counted, Polling, Session, Transport};
use crate::base::close::CloseCode;
use crate::plane::{Plane, Slot};
use crate::shard::Core;
use crate::telemetry::{Ending, EngineEnd};

impl EngineEnd {
    /// Whether the client may take up its namespaces again: the connection was lost, not ended by either side.
    fn is_loss(self) -> bool {
        match self {
            EngineEnd::ClientClosed
            | EngineEnd::TransportClosed
            | EngineEnd::TransportError
            | EngineEnd::Overlap
            | EngineEnd::PingTimeout
            | EngineEnd::Server
            | EngineEnd::Replaced => true,
            EngineEnd::ParseError | EngineEnd::NoNamespace => false,
        }
    }

    /// Whether what was said last may still reach the client.
    fn has_last_words(self) -> bool {
        matches!(self, EngineEnd::ParseError | EngineEnd::NoNamespace | EngineEnd::PingTimeout | EngineEnd::Server)
    }
}

impl<P: Plane> Core<P> {
    /// Ends a session and all that is on it. `code` says why in the close frame of its carrier and in the counts.
    pub(in crate::shard) fn engine_end(&mut self, key: u32, end: EngineEnd, code: Option<CloseCode>) {
        let tick = self.tick;
        let Some(session) = self.engines.get(key) else { return };
        if session.closing_since.is_some() {
            return;
        }
        session.closing_since = Some(tick);
        let candidate = session.candidate.take();
        let connections = std::mem::take(&mut session.connections);
        self.counters.engine_ended.add(end, 1);
        let ending = match (code, end) {
            (Some(code), _) => Ending::Code(code),
            (None, EngineEnd::ClientClosed) => Ending::Code(CloseCode::Normal),
            (None, _) => Ending::Lost,
        };
        for slot in connections {
            if end.has_last_words() && code != Some(CloseCode::SlowConsumer) {
                self.copy_outbox(slot, key);
            }
            self.part_virtual(slot, ending, end.is_loss());
        }
        if let Some(candidate) = candidate {
            self.drop_carrier(candidate.slot, CloseCode::Normal);
        }
        let Some(session) = self.engines.get(key) else { return };
        match &mut session.transport {
            Transport::Carrier(slot) => {
                let slot = *slot;
                self.drop_carrier(slot, code.unwrap_or(CloseCode::Normal));
                self.forget_session(key);
            }
            Transport::Polling(polling) => {
                polling.is_posting = false;
                // A client that says `1` has its own poll ended by a `6`.
                let word = if end == EngineEnd::ClientClosed { "6" } else { "1" };
                // What the server ends it says to the next poll at the latest; after an error a sid is unknown at once.
                let is_held = matches!(end, EngineEnd::Server | EngineEnd::NoNamespace | EngineEnd::ParseError);
                self.engine_push_text(key, word);
                self.answer_poll(key);
                match is_held {
                    true => self.schedule_session(key),
                    false => self.forget_session(key),
                }
            }
        }
    }

    /// A drain has come to a carrier: if nobody is on it, there is nobody to tell.
    pub(in crate::shard) fn drain_carrier(&mut self, slot: Slot) {
        let key = self.conns[slot as usize].carried();
        match self.engines.get(key) {
            Some(session) if session.connections.is_empty() => {
                self.engine_end(key, EngineEnd::Server, Some(CloseCode::Drain));
            }
            Some(_) => {}
            None => self.close(slot, CloseCode::Drain),
        }
    }

    /// A drain has come to the end: sessions on which nobody is end too.
    pub(in crate::shard) fn drain_sessions(&mut self) {
        let is_empty = |(_, session): &(usize, &Session)| session.connections.is_empty();
        let empty: Vec<u32> = self.engines.sessions.iter().filter(is_empty).map(|(key, _)| key as u32).collect();
        for key in empty {
            self.engine_end(key, EngineEnd::Server, Some(CloseCode::Drain));
        }
    }

    /// A carrier is not, or no longer, a session's: it closes by itself.
    pub(super) fn drop_carrier(&mut self, slot: Slot, code: CloseCode) {
        self.conns[slot as usize].set_carried(crate::shard::conn::NONE);
        self.close(slot, code);
    }

    /// The session is over; nothing of it is left.
    pub(super) fn forget_session(&mut self, key: u32) {
        let Some(session) = self.engines.sessions.try_remove(key as usize) else { return };
        self.engines.timers.cancel(key);
        debug_assert!(session.connections.is_empty());
        if let Transport::Polling(Polling { get: Some(reply), .. }) = session.transport {
            let gone = crate::wire::engineio::RequestError::UnknownSid;
            self.engine_answer(reply, super::Answer::Refused(gone));
        }
        if let Some(counted) = session.counted {
            self.release_counted(counted);
        }
        if session.is_unauthenticated {
            self.totals.signed_in();
        }
    }

    /// A session on polling counts no more, because it has ended or because its carrier counts from now on.
    pub(super) fn release_counted(&mut self, counted: Counted) {
        self.totals.closed();
        if let Some(entry) = counted.address {
            self.addresses.release(entry);
        }
    }
}
