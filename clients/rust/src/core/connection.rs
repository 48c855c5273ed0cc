//! The life of the connection (R-SDK-1 to 3): states, sign-in, resume, heartbeat.
use super::link::{Link, Phase, Session};
use super::output::{Close, LinkId, Output, TokenReason};
use super::reconnect::RetryRange;
use super::timers::Timer;
use super::tokens::{ASK_AGAIN_MS, Tokens};
use super::{Core, HEARTBEAT_MS, State};
use crate::error::Error;
use crate::event::Event;
use serde_json::{Map, Value, json};

/// Connected this long: the back-off begins anew (R-SDK-2).
const STEADY_MS: u64 = 10_000;
/// A connection that is gone without a close frame.
pub(super) const LOST: u16 = 1006;
pub(super) const NORMAL: Close = Close::Frame { code: 1000, reason: "Client disconnecting" };
/// Nothing that does not move for less: a heartbeat each millisecond is a flood already.
const HEARTBEAT_MS_MIN: u64 = 10;

#[derive(Default)]
pub(super) struct Connection {
    pub state: State,
    pub user_id: Option<String>,
    /// Counts the application's wishes.
    pub connects: u64,
    /// None while there is none, or while it waits for a token or for its time.
    pub link: Option<Link>,
    /// The second one of a migration.
    pub next: Option<Link>,
    pub tokens: Tokens,
    /// Of the last connection: what to resume.
    session: Option<Session>,
    /// Retries in a row.
    pub attempt: u32,
    pub range: Option<RetryRange>,
    pub is_waiting: bool,
    link_count: u64,
    /// As the server says.
    heartbeat_ms: Option<u64>,
    /// The `refresh_token` that is under way, and its token.
    pub refresh: Option<(String, String)>,
    /// A connection was lost behind its `resume`, which may take effect all the same, also later.
    pub is_resume_adrift: bool,
}

impl Core {
    // ------------------------------------------------------------ the application's wishes

    pub(super) fn begin_as(&mut self, user_id: &str, has_provider: bool) {
        if self.connection.user_id.as_deref() != Some(user_id) {
            self.connection.session = None;
        }
        self.connection.user_id = Some(user_id.to_owned());
        self.connection.tokens.begin(has_provider);
        self.connection.attempt = 0;
        self.connection.connects += 1;
        self.begin(State::Connecting);
    }

    pub(super) fn end_by_wish(&mut self, is_forgotten: bool) {
        self.close_all();
        self.end(Error::Disconnected, None);
        self.connection.tokens.forget();
        if is_forgotten {
            (self.connection.session, self.connection.user_id) = (None, None);
        }
    }

    // ------------------------------------------------------------ making a connection

    pub(super) fn begin(&mut self, state: State) {
        self.connection.is_waiting = false;
        self.timers.stop(Timer::Retry);
        self.set_state(state, None, None);
        self.start(Timer::Progress, self.settings.progress_ms);
        match self.connection.tokens.usable(self.now.unix_ms) {
            None => self.ask_token(TokenReason::Connect),
            Some(_) => self.open(),
        }
    }

    fn ask_token(&mut self, reason: TokenReason) {
        let (ask, reason) = self.connection.tokens.ask(reason);
        self.outputs.push_back(Output::AskToken { ask, reason });
    }

    fn open(&mut self) {
        self.connection.range = None;
        let url = self.settings.url.clone();
        self.connection.link = Some(self.new_link(url, None));
    }

    pub(super) fn new_link(&mut self, url: String, migration_token: Option<String>) -> Link {
        self.connection.link_count += 1;
        let link = LinkId(self.connection.link_count);
        self.outputs.push_back(Output::Open { link, url });
        Link::new(link, migration_token)
    }

    pub(super) fn token_given(&mut self, token: Option<String>) {
        let link = self.connection.link.as_ref().map(|link| (link.id, link.is_ready()));
        match (link, token) {
            (None, None) => self.stop(4001, "No token", true),
            (None, Some(token)) => {
                self.connection.tokens.put(token);
                self.open();
            }
            (Some(_), None) => {}
            (Some((_, false)), Some(token)) => self.connection.tokens.put(token),
            (Some((link, true)), Some(token)) => {
                // The one in use stays until the server has accepted this.
                let id = self.new_id();
                self.send(link, &id, "refresh_token", &json!({ "token": token }).to_string());
                self.connection.refresh = Some((id, token));
            }
        }
    }

    pub(super) fn token_failed(&mut self, error: Error) {
        let why = error.to_string();
        self.tell(Event::Error(error));
        match self.connection.link {
            Some(_) => self.start(Timer::Refresh, ASK_AGAIN_MS),
            None => self.lost(LOST, &why),
        }
    }

    // The token goes into a first message, not into the handshake, as in the client for browsers: close code 4002 says more than
    // a refused handshake.
    pub(super) fn opened(&mut self, link: LinkId) {
        let Some(token) = self.connection.tokens.usable(self.now.unix_ms).map(str::to_owned) else {
            return self.cut(link, "the token ended while the socket opened");
        };
        let Some(found) = self.find_mut(link) else { return };
        found.phase = Phase::SigningIn;
        let mut data = json!({ "token": token });
        if let Some(migration_token) = &found.migration_token {
            data["migrationToken"] = migration_token.as_str().into();
        }
        let id = self.new_id();
        self.send(link, &id, "auth", &data.to_string());
    }

    pub(super) fn established(&mut self, link: LinkId, data: &Map<String, Value>) {
        if self.find(link).is_none_or(|link| link.phase != Phase::SigningIn) {
            return; // twice
        }
        let user_id = data.get("userId").and_then(Value::as_str).unwrap_or_default();
        if self.connection.user_id.as_deref() != Some(user_id) {
            let expected = self.connection.user_id.clone().unwrap_or_default();
            self.tell(Event::Error(Error::WrongUser { expected, token: user_id.to_owned() }));
            if self.is_next(link) {
                return self.cut(link, "signed in as another user"); // no reason to give up the old server
            }
            return self.stop(4002, "The token is of another user", true);
        }
        self.connection.tokens.accepted(data.get("expiresAt"));
        self.connection.tokens.clock(data.get("timestamp"), self.now.unix_ms);
        if let Some(ms) = data.get("heartbeatMs").and_then(Value::as_u64).filter(|ms| *ms > 0) {
            self.connection.heartbeat_ms = Some(ms);
        }
        let own = Session::read(data);
        let Some(session) = self.connection.session.clone() else {
            return self.ready(link, own, None);
        };
        let (id, rooms) = (self.new_id(), self.resumable());
        let Some(found) = self.find_mut(link) else { return };
        (found.session, found.phase, found.resume_id) = (own, Phase::Resuming, Some(id.clone()));
        let data = json!({"sessionId": session.session_id, "resumeToken": session.resume_token, "rooms": rooms});
        self.send(link, &id, "resume", &data.to_string());
    }

    /// Gives the answer back if it was to nothing of the connection itself.
    pub(super) fn connection_answered(
        &mut self,
        link: LinkId,
        id: &str,
        answer: Result<Value, Error>,
    ) -> Option<Result<Value, Error>> {
        let found = self.find(link)?;
        let is_ready = found.is_ready();
        if found.phase == Phase::Resuming && found.resume_id.as_deref() == Some(id) {
            match answer {
                // The rooms are joined one by one, with their positions.
                Err(_) => self.ready(link, found.session.clone(), None),
                Ok(result) => self.ready(link, self.renewed(&result), Some(result)),
            }
            return None;
        }
        if let Some((_, token)) = self.connection.refresh.take_if(|(refresh, _)| refresh == id) {
            match answer {
                Err(_) => self.start(Timer::Refresh, ASK_AGAIN_MS),
                Ok(result) => self.token_accepted(token, &result),
            }
            return None;
        }
        // Before that, it is to `auth`: connection_established or a close follows.
        is_ready.then_some(answer)
    }

    /// The connection goes on as the old session, under a new secret.
    fn renewed(&self, result: &Value) -> Option<Session> {
        let mut session = self.connection.session.clone()?;
        if let Some(token) = result.get("resumeToken").and_then(Value::as_str) {
            session.resume_token = token.to_owned();
        }
        Some(session)
    }

    pub(super) fn token_accepted(&mut self, token: String, result: &Value) {
        self.connection.tokens.put(token);
        self.connection.tokens.accepted(result.get("expiresAt"));
        self.timers.stop(Timer::Refresh);
    }

    fn ready(&mut self, link: LinkId, session: Option<Session>, resumed: Option<Value>) {
        if self.is_next(link) {
            self.switch();
        }
        if let Some(link) = self.find_mut(link) {
            link.phase = Phase::Ready;
        }
        self.connection.session = session;
        self.timers.stop(Timer::Progress);
        self.start(Timer::Steady, STEADY_MS);
        self.start(Timer::Heartbeat, self.heartbeat_ms());
        self.outputs.push_back(Output::Connected { connect: self.connection.connects, result: Ok(()) });
        self.set_state(State::Connected, None, None);
        self.commands_may_go(resumed);
    }

    // ------------------------------------------------------------ a connection's life

    fn heartbeat_ms(&self) -> u64 {
        let ms = self.settings.heartbeat_ms.or(self.connection.heartbeat_ms).unwrap_or(HEARTBEAT_MS);
        ms.max(HEARTBEAT_MS_MIN)
    }

    pub(super) fn heard(&mut self, link: LinkId) {
        let is_current = self.connection.link.as_ref().is_some_and(|current| current.id == link);
        let Some(found) = self.find_mut(link) else { return };
        let is_ready = found.is_ready();
        if std::mem::take(&mut found.is_heartbeat_out) {
            self.timers.stop(Timer::Answer);
        }
        if is_current && !is_ready {
            self.start(Timer::Progress, self.settings.progress_ms);
        }
    }

    fn heartbeat(&mut self) {
        let Some(link) = &mut self.connection.link else { return };
        let (link, was_out) = (link.id, std::mem::replace(&mut link.is_heartbeat_out, true));
        let (id, timestamp) = (self.new_id(), self.now.unix_ms);
        self.send(link, &id, "heartbeat", &json!({ "timestamp": timestamp }).to_string());
        self.start(Timer::Heartbeat, self.heartbeat_ms());
        if !was_out {
            self.start(Timer::Answer, self.settings.answer_ms);
        }
    }

    pub(super) fn server_closing(&mut self, data: &Map<String, Value>) {
        if let Some(link) = &mut self.connection.link {
            link.is_ending = true;
        }
        self.connection.range = Some(RetryRange::read(data));
    }

    pub(super) fn token_expiring(&mut self) {
        if self.connection.tokens.has_provider {
            self.ask_token(TokenReason::Expiring);
        }
    }

    pub(super) fn connection_fired(&mut self, timer: Timer) {
        let link = self.connection.link.as_ref().map(|link| link.id);
        match (timer, link) {
            (Timer::Retry, _) => self.begin(State::Reconnecting),
            (Timer::Steady, _) => (self.connection.attempt, self.connection.is_resume_adrift) = (0, false),
            (Timer::Heartbeat, _) => self.heartbeat(),
            (Timer::Refresh, _) => self.token_expiring(),
            (Timer::Answer, Some(link)) => self.cut(link, "no answer to the heartbeat"),
            (Timer::Progress, Some(link)) => self.cut(link, "the connection made no progress"),
            (Timer::Progress, None) => self.lost(LOST, "the token provider did not answer"),
            (Timer::Migration, _) => {
                if let Some(next) = self.connection.next.as_ref().map(|link| link.id) {
                    self.cut(next, "the new server did not answer");
                }
            }
            _ => {}
        }
    }

    pub(super) fn cut(&mut self, link: LinkId, why: &str) {
        self.outputs.push_back(Output::Close { link, how: Close::Cut });
        self.closed(link, LOST, why);
    }
}
