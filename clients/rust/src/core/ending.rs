//! How a connection ends, and what follows: coming back as the close code asks for, or stopping (R-SDK-2).
use super::connection::{LOST, NORMAL};
use super::link::Phase;
use super::output::{LinkId, Output};
use super::reconnect::{AfterClose, RetryRange, after_close, back_off_ms};
use super::timers::Timer;
use super::{Core, State};
use crate::error::Error;
use crate::event::Event;

/// Another connection has resumed this session.
const RESUMED_ELSEWHERE: u16 = 4009;

impl Core {
    pub(super) fn closed(&mut self, link: LinkId, code: u16, reason: &str) {
        // The other connection may have been our own: a migration's, or one before this whose `resume` came late. Once, since else
        // two clients of one session would take it from each other for ever.
        let is_own_doing = code == RESUMED_ELSEWHERE && std::mem::take(&mut self.connection.is_resume_adrift);
        let code = if is_own_doing { LOST } else { code };
        if self.find(link).is_some_and(|link| link.phase == Phase::Resuming) {
            self.connection.is_resume_adrift = true;
        }
        if self.is_next(link) {
            self.connection.next = None;
            self.timers.stop(Timer::Migration);
            // The old connection goes on, unless it has ended meanwhile.
            if self.connection.link.is_none() {
                self.lost(code, reason);
            }
        } else if self.connection.next.is_some() {
            self.link_ends();
            // The new server's connection is on its way already.
            self.set_state(State::Reconnecting, None, Some(why(code, reason)));
        } else {
            self.lost(code, reason);
        }
    }

    /// The link is no more: nothing of it may go on.
    pub(super) fn link_ends(&mut self) {
        self.stop_timers(&[Timer::Progress, Timer::Steady, Timer::Heartbeat, Timer::Answer, Timer::Refresh]);
        self.connection.link = None;
        self.connection.refresh = None;
        self.connection.tokens.stop_asking();
        self.commands_lost();
    }

    pub(super) fn lost(&mut self, code: u16, reason: &str) {
        self.link_ends();
        let after = after_close(code);
        if after == AfterClose::NewToken {
            self.connection.tokens.rejected();
        }
        match after {
            AfterClose::Stop => return self.stop(code, reason, false),
            AfterClose::NewToken if !self.connection.tokens.has_provider => return self.stop(code, reason, true),
            _ => {}
        }
        let attempts = self.connection.attempt;
        if self.settings.max_reconnect_attempts.is_some_and(|max| attempts >= max) {
            self.stop(code, reason, false);
            return self.tell(Event::MaxReconnectAttempts { attempts });
        }
        self.connection.attempt += 1;
        let random = (self.random)();
        let wait_ms = match (self.connection.range, after) {
            (Some(range), _) => range.wait_ms(random),
            (None, AfterClose::Range) => RetryRange::default().wait_ms(random),
            (None, _) => back_off_ms(self.connection.attempt, random),
        };
        self.connection.is_waiting = true;
        self.start(Timer::Retry, wait_ms);
        self.set_state(State::Reconnecting, Some(wait_ms), Some(why(code, reason)));
    }

    /// Not to be tried again without the application.
    pub(super) fn stop(&mut self, code: u16, reason: &str, is_token_needed: bool) {
        self.close_all();
        let error = Error::Stopped { code, reason: reason.to_owned() };
        self.end(error, Some(why(code, reason)));
        self.tell(Event::Stopped { code, reason: reason.to_owned(), is_token_needed });
    }

    pub(super) fn close_all(&mut self) {
        for link in [&self.connection.link, &self.connection.next].into_iter().flatten() {
            self.outputs.push_back(Output::Close { link: link.id, how: NORMAL });
        }
    }

    pub(super) fn end(&mut self, error: Error, why: Option<String>) {
        self.stop_timers(&[Timer::Retry, Timer::Migration]);
        self.connection.next = None;
        self.connection.is_waiting = false;
        self.connection.range = None;
        self.link_ends();
        self.connection.attempt = 0;
        self.outputs.push_back(Output::Connected { connect: self.connection.connects, result: Err(error) });
        self.set_state(State::Disconnected, None, why);
    }

    pub(super) fn set_state(&mut self, state: State, retry_in_ms: Option<u64>, why: Option<String>) {
        if state == self.connection.state && state != State::Reconnecting {
            return;
        }
        self.connection.state = state;
        self.outputs.push_back(Output::state(state, self.connection.attempt, retry_in_ms, why));
    }
}

/// For people.
fn why(code: u16, reason: &str) -> String {
    match (code, reason) {
        (LOST, "") => "the connection was lost".to_owned(),
        (LOST, _) => reason.to_owned(),
        (_, "") => format!("closed with {code}"),
        _ => format!("closed with {code}: {reason}"),
    }
}
