//! What time does to a session: ping and pong, a client that joins nothing, a last word that nobody fetches.
use super::session::Transport;
use crate::base::close::CloseCode;
use crate::limits::TICK_MS;
use crate::plane::Plane;
use crate::session::socketio::{Action, Close};
use crate::shard::Core;
use crate::shard::liveness::ticks;
use crate::telemetry::EngineEnd;
use crate::wire::engineio::Probe;

/// How long the last word is kept for a client that polls, ms: `closeTimeout` of npm `engine.io`.
const CLOSE_HOLD_MS: u64 = 30_000;

impl<P: Plane> Core<P> {
    /// Sets the session's timer to its nearest deadline.
    pub(super) fn schedule_session(&mut self, key: u32) {
        if self.engines.sessions.contains(key as usize) {
            let deadline = self.session_deadline(key);
            self.engines.timers.set(key, deadline);
        }
    }

    /// Acts on sessions whose timer has run out.
    pub(in crate::shard) fn expire_sessions(&mut self) {
        let mut expired = std::mem::take(&mut self.engines.expired);
        self.engines.timers.expire(self.tick, &mut expired);
        for key in expired.drain(..) {
            self.session_due(key);
        }
        self.engines.expired = expired;
        self.forget_recoveries();
    }

    fn session_deadline(&self, key: u32) -> u32 {
        let Some(session) = self.engines.sessions.get(key as usize) else { return u32::MAX / 2 };
        if let Some(since) = session.closing_since {
            // A drain may begin meanwhile, and waits for nobody that long.
            let hold = ticks(CLOSE_HOLD_MS).min(self.settings.close_timeout);
            return if self.is_last_word_over(since) { self.tick } else { since.max(self.tick).saturating_add(hold) };
        }
        let deadline = u32::try_from(session.protocol.deadline_ms().div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2);
        match session.is_waiting_for_pause() {
            true => deadline.min(self.tick + 1),
            false => deadline,
        }
    }

    /// Whether the last word was kept long enough for a client that does not poll.
    fn is_last_word_over(&self, since: u32) -> bool {
        let hold = if self.drain.is_some() { self.settings.close_timeout } else { ticks(CLOSE_HOLD_MS) };
        self.tick >= since.saturating_add(hold)
    }

    fn session_due(&mut self, key: u32) {
        self.end_pending_poll(key);
        let Some(session) = self.engines.sessions.get(key as usize) else { return };
        if self.session_deadline(key) > self.tick {
            return self.schedule_session(key);
        }
        if session.closing_since.is_some_and(|since| self.is_last_word_over(since)) {
            return self.forget_session(key);
        }
        let now_ms = self.now.mono_ms();
        let (engines, settings) = (&mut self.engines, &self.settings.sio);
        let Some(session) = engines.sessions.get_mut(key as usize) else { return };
        let sid = session.sid;
        let mut output = std::mem::take(&mut engines.output);
        session.protocol.expire(settings, now_ms, &mut output);
        let actions = output.take_actions();
        for action in &actions {
            match action {
                Action::Send { packet } => {
                    self.engine_push_text(key, output.text(packet));
                    // A pong proves that what was sent before the ping has arrived.
                    self.counters.pings_sent += 1;
                    self.mark_memories(key);
                }
                Action::Close { why } => self.engine_closed(key, *why),
                // Time alone brings nothing else.
                Action::Connect { .. } | Action::Command { .. } | Action::Disconnect { .. } => {}
            }
        }
        output.give_back(actions);
        self.engines.output = output;
        if self.engines.find(sid).is_some() {
            self.schedule_session(key);
        }
    }

    /// The protocol has ended the session.
    pub(super) fn engine_closed(&mut self, key: u32, why: Close) {
        match why {
            Close::Client => self.engine_end(key, EngineEnd::ClientClosed, None),
            Close::PingTimeout => self.engine_end(key, EngineEnd::PingTimeout, Some(CloseCode::NoPong)),
            Close::ConnectTimeout => self.engine_end(key, EngineEnd::NoNamespace, None),
            Close::HeartbeatDirection | Close::Violation(_) => {
                tracing::debug!(shard = self.id, session = key, ?why, "socket.io protocol broken");
                self.engine_end(key, EngineEnd::ParseError, None);
            }
        }
    }

    /// The client gave its sign of life: a pong, or in revision 3 a ping.
    pub(super) fn engine_heard(&mut self, key: u32) {
        let tick = self.tick;
        let Some(session) = self.engines.get(key) else { return };
        let connections = session.connections.clone();
        for slot in connections {
            let conn = &mut self.conns[slot as usize];
            (conn.heard, conn.spoke) = (tick, tick);
        }
        self.confirm_memories(key);
        self.schedule_session(key);
    }

    /// While a WebSocket is about to take over, a poll that waits is ended by a `6`, so that the client can stop polling.
    pub(super) fn end_pending_poll(&mut self, key: u32) {
        let is_waiting = self.engines.get(key).is_some_and(|session| session.is_waiting_for_pause());
        if is_waiting {
            self.engine_push_text(key, "6");
            self.answer_poll(key);
        }
    }
}

impl super::session::Session {
    /// An upgrade is under way, its probe was answered, and a poll waits.
    fn is_waiting_for_pause(&self) -> bool {
        let is_probed = self.candidate.as_ref().is_some_and(|candidate| candidate.probe == Probe::Answered);
        is_probed && matches!(&self.transport, Transport::Polling(polling) if polling.get.is_some())
    }
}
