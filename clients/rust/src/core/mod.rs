//! The client without input and output. Three kinds of method, as in any protocol core of this style:
//!
//! * wishes: [`connect`](Core::connect), [`disconnect`](Core::disconnect), [`command`](Core::command), …
//! * what happened: `handle_…`
//! * what is to be done: [`poll_output`](Core::poll_output), and [`deadline`](Core::deadline) for the next
//!   [`handle_timeout`](Core::handle_timeout).
//!
//! After each wish and each happening, take the outputs until there is none, do them in their order, then wait for whatever
//! comes first. [`Now`] never goes back on its monotonic side. The core reads no clock and no randomness of its own: the same
//! inputs give the same outputs.
//!
//! Invariants: at most one connection, but for a migration's second one; one retry timer; one heartbeat. Every durable event of
//! a joined room is told once, in order, or a snapshot replaces it. Every command is settled exactly once.
mod connection;
mod ending;
mod envelope;
mod link;
mod migration;
mod outbox;
mod output;
mod receive;
pub mod reconnect;
mod recovery;
mod rooms;
#[cfg(test)]
mod tests;
mod timers;
mod tokens;
mod traffic;

pub use envelope::MESSAGE_BYTES_MAX;
pub use output::{Ask, Close, LinkId, Output, StoredCommand, TokenReason};

use crate::error::Error;
use crate::event::Event;
pub use crate::event::Position;
use connection::Connection;
use link::Link;
use outbox::Outbox;
use recovery::Recovery;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use timers::{Timer, Timers};
use traffic::Pending;

/// R-SDK-1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// The first state, and the one after `disconnect` or a close code that says stop.
    #[default]
    Disconnected,
    /// For the first time.
    Connecting,
    /// Signed in and recovered.
    Connected,
    /// A connection was lost; the next one is waited for or made.
    Reconnecting,
}

/// Both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back, from any origin. Deadlines count on it.
    pub mono_ms: u64,
    /// Unix milliseconds. Ages count on it, too: it goes on while the machine sleeps, and over processes.
    pub unix_ms: u64,
}

/// The server's interval if it names none (R-SDK-3).
pub const HEARTBEAT_MS: u64 = 30_000;
/// No frame so long after a heartbeat: the link is dead (R-SDK-3).
pub const ANSWER_MS: u64 = 10_000;
/// A connection that is being made must get on within this: a handshake over a bad line takes seconds, and a user does not wait
/// much longer.
pub const PROGRESS_MS: u64 = 15_000;
/// Durable commands that wait at most (R-SDK-4); as many requests, and as many live commands not written yet.
pub const QUEUE_MAX: usize = 1000;

/// What a core is told at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `ws://…` or `wss://…`.
    pub url: String,
    /// None: unlimited.
    pub max_reconnect_attempts: Option<u32>,
    /// [`QUEUE_MAX`].
    pub queue_max: usize,
    /// [`MESSAGE_BYTES_MAX`].
    pub message_bytes_max: usize,
    /// None: as the server says.
    pub heartbeat_ms: Option<u64>,
    /// [`ANSWER_MS`].
    pub answer_ms: u64,
    /// [`PROGRESS_MS`].
    pub progress_ms: u64,
}

impl Settings {
    /// The defaults of the product's specification.
    pub fn new(url: impl Into<String>) -> Settings {
        Settings {
            url: url.into(),
            max_reconnect_attempts: None,
            queue_max: QUEUE_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
            heartbeat_ms: None,
            answer_ms: ANSWER_MS,
            progress_ms: PROGRESS_MS,
        }
    }
}

/// Numbers in [0, 1): the jitter of the back-off.
pub type Random = Box<dyn FnMut() -> f64 + Send>;

/// See the [module](self).
pub struct Core {
    settings: Settings,
    random: Random,
    /// Unlike that of any other client, in this process or elsewhere: the server recognises repeats by ids.
    id_prefix: String,
    id_count: u64,
    now: Now,
    timers: Timers,
    outputs: VecDeque<Output>,
    connection: Connection,
    recovery: Recovery,
    outbox: Outbox,
    /// Commands whose answer is waited for and that are not in the outbox, oldest first.
    pending: VecDeque<Pending>,
    /// Numbers durable commands.
    order: u64,
    /// Frames that the socket has not taken yet, as far as is known.
    unsent: usize,
    is_backlogged: bool,
    /// Events that were not told since the backlog began.
    missed: u64,
}

impl Core {
    /// `id_prefix`: 1 to 32 characters that no other client has.
    pub fn new(settings: Settings, id_prefix: impl Into<String>, random: Random, now: Now) -> Core {
        Core {
            outbox: Outbox::new(settings.queue_max),
            settings,
            random,
            id_prefix: id_prefix.into(),
            id_count: 0,
            now,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            connection: Connection::default(),
            recovery: Recovery::default(),
            pending: VecDeque::new(),
            order: 0,
            unsent: 0,
            is_backlogged: false,
            missed: 0,
        }
    }

    // ------------------------------------------------------------ getters

    /// R-SDK-1.
    pub fn state(&self) -> State {
        self.connection.state
    }

    /// Durable commands that were not answered yet, in order.
    pub fn pending(&self) -> impl Iterator<Item = &StoredCommand> {
        self.outbox.commands()
    }

    /// Whether a command of this id was not answered yet.
    pub fn is_used(&self, id: &str) -> bool {
        self.outbox.has(id) || self.pending.iter().any(|pending| pending.id == id)
    }

    /// Never the same twice.
    pub fn new_id(&mut self) -> String {
        self.id_count += 1;
        format!("{}-{}", self.id_prefix, self.id_count)
    }

    // ------------------------------------------------------------ wishes

    /// Only in state `Disconnected`; else nothing. `stored`: what earlier processes of this user left. A token is asked for
    /// first, whether there is a provider or a fixed one. Returns the number by which [`Output::Connected`] answers.
    pub fn connect(&mut self, user_id: &str, has_provider: bool, stored: Vec<StoredCommand>, now: Now) -> u64 {
        if self.connection.state != State::Disconnected {
            return self.connection.connects;
        }
        self.time(now);
        if self.connection.user_id.as_deref().is_some_and(|previous| previous != user_id) {
            self.abandon(true);
        }
        self.begin_as(user_id, has_provider);
        self.restore(stored);
        self.connection.connects
    }

    /// Closes with 1000, stops all timers. All that waits fails with `disconnected`. Rooms, positions and the session are kept
    /// for the same user's next `connect`, unless they are to be forgotten.
    pub fn disconnect(&mut self, is_forgotten: bool, now: Now) {
        self.time(now);
        self.abandon(is_forgotten);
        self.end_by_wish(is_forgotten);
    }

    /// Ends the wait of `Reconnecting`: the network is back, or the user is impatient.
    pub fn retry_now(&mut self, now: Now) {
        self.time(now);
        if self.connection.is_waiting {
            self.begin(State::Reconnecting);
        }
    }

    /// A command; its answer comes as [`Output::Settled`]. `id` must not be [used](Core::is_used). Null data is none.
    pub fn command(&mut self, id: &str, kind: &str, data: Value, now: Now) {
        self.time(now);
        self.give(id, kind, data);
    }

    // ------------------------------------------------------------ what happened; links that are no more are ignored

    /// The provider's answer; `Ok(None)`: there is no token, and asking again is no use.
    pub fn handle_token(&mut self, ask: Ask, answer: Result<Option<String>, Error>, now: Now) {
        self.time(now);
        if self.connection.tokens.is_answer(ask) {
            match answer {
                Ok(token) => self.token_given(token),
                Err(error) => self.token_failed(error),
            }
        }
    }

    /// The WebSocket is open.
    pub fn handle_opened(&mut self, link: LinkId, now: Now) {
        self.time(now);
        if self.find(link).is_some_and(|link| link.phase == link::Phase::Opening) {
            self.opened(link);
        }
    }

    /// The WebSocket has ended, or could not be opened (1006). `reason`: of the close frame, or what the system says.
    pub fn handle_closed(&mut self, link: LinkId, code: u16, reason: &str, now: Now) {
        self.time(now);
        if self.find(link).is_some() {
            self.closed(link, code, reason);
        }
    }

    /// A text message; anything else that is no envelope may be given as an empty one.
    pub fn handle_received(&mut self, link: LinkId, text: &str, now: Now) {
        self.time(now);
        if self.find(link).is_none() {
            return;
        }
        self.heard(link);
        match envelope::decode(text) {
            Ok(frame) => self.received(link, &frame.kind, frame.data),
            Err(why) => self.tell(Event::Error(Error::InvalidFormat(why))),
        }
    }

    /// The application takes no events for now, or takes them again. Meanwhile what can be fetched later is left out, and what is
    /// live is lost, as for any slow reader; [`Event::Missed`] counts it.
    pub fn handle_backlog(&mut self, is_backlogged: bool, now: Now) {
        self.time(now);
        self.is_backlogged = is_backlogged;
        if !is_backlogged {
            let count = std::mem::take(&mut self.missed);
            if count > 0 {
                self.tell(Event::Missed { count });
            }
            self.join_due();
        }
    }

    /// So many events found no place at all.
    pub fn handle_missed(&mut self, events: u64) {
        self.missed += events;
    }

    /// So many frames were given out and not written yet. Live commands are refused when there are too many.
    pub fn handle_unsent(&mut self, frames: usize) {
        self.unsent = frames;
    }

    /// The storage or something else outside failed.
    pub fn handle_error(&mut self, error: Error) {
        self.tell(Event::Error(error));
    }

    /// The [deadline](Core::deadline) has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.time(now);
        while let Some(timer) = self.timers.take_due(self.now.mono_ms) {
            self.fired(timer);
        }
    }

    // ------------------------------------------------------------ what is to be done

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Core::handle_timeout) is due, on the monotonic clock.
    pub fn deadline(&self) -> Option<u64> {
        self.timers.next()
    }

    // ------------------------------------------------------------ inside

    fn time(&mut self, now: Now) {
        self.now = Now { mono_ms: now.mono_ms.max(self.now.mono_ms), ..now };
    }

    fn start(&mut self, timer: Timer, in_ms: u64) {
        self.timers.start(timer, self.now.mono_ms.saturating_add(in_ms));
    }

    fn stop_timers(&mut self, timers: &[Timer]) {
        for timer in timers {
            self.timers.stop(*timer);
        }
    }

    fn tell(&mut self, event: Event) {
        if self.is_backlogged && event.is_passing() {
            self.missed += 1;
            return;
        }
        self.outputs.push_back(Output::Event(event));
    }

    fn dispatch(&mut self, kind: &str, data: Map<String, Value>) {
        self.tell(Event::read(kind, data));
    }

    /// `data` is JSON.
    fn send(&mut self, link: LinkId, id: &str, kind: &str, data: &str) {
        let text = envelope::encode(id, kind, data, self.now.unix_ms);
        self.outputs.push_back(Output::Send { link, text });
    }

    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Expiry => self.expire(),
            Timer::Resend => self.flush(),
            Timer::Rejoin => self.join_due(),
            _ => self.connection_fired(timer),
        }
    }

    /// Commands may go. `resumed`: result of the `resume`, or None if the rooms have to be joined.
    fn commands_may_go(&mut self, resumed: Option<Value>) {
        self.resumed(resumed);
        // A deadline may have passed unnoticed while the machine slept.
        self.expire();
    }

    fn find(&self, id: LinkId) -> Option<&Link> {
        [&self.connection.link, &self.connection.next].into_iter().flatten().find(|link| link.id == id)
    }

    fn find_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        let Connection { link, next, .. } = &mut self.connection;
        [link, next].into_iter().flatten().find(|link| link.id == id)
    }

    /// The connection on which commands may go.
    fn ready_link(&self) -> Option<LinkId> {
        self.connection.link.as_ref().filter(|link| link.is_ready()).map(|link| link.id)
    }
}
