//! Does what the core wants, with sockets, timers, storage and channels: one task, which nobody waits for.
use crate::core::{Ask, Close, LinkId, Output, State};
use crate::error::{Cause, Error};
use crate::event::Event;
use crate::shared::{Shared, Socket};
use crate::socket::{self, Outgoing, Report, Tls};
use crate::storage::CommandStorage;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// Reports of sockets that wait for the driver. Small: what is not taken stays in the network, which slows the server.
const REPORTS_MAX: usize = 16;
/// Events beyond `events_max`: what one frame brings at most, a resume of 128 rooms with 300 events each, and as much again of what is
/// never left out (states, snapshots).
const UNDELIVERED_MAX: usize = 2 * 128 * 300;
/// Beyond the application's commands: joins, heartbeats, sign-in.
const OWN_FRAMES_MAX: usize = 256;

enum Happened {
    /// The core may have something to be done.
    Woken,
    Reported(LinkId, Report),
    Answered(Ask, Result<Option<String>, Error>),
    TimedOut,
    /// The application has taken events again.
    HasRoom,
}

/// The task.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    tls: Tls,
    frames_max: usize,
    /// The sockets' tasks, also of those that are closing.
    tasks: JoinSet<()>,
    reports: mpsc::Receiver<(LinkId, Report)>,
    report: mpsc::Sender<(LinkId, Report)>,
    /// Questions to the token provider.
    asked: JoinSet<(Ask, Result<Option<String>, Error>)>,
    events: mpsc::Sender<Event>,
    /// Events that the application had no room for; then the core is told.
    undelivered: VecDeque<Event>,
    is_backlogged: bool,
}

impl Driver {
    pub fn new(shared: Arc<Shared>, tls: Tls, events: mpsc::Sender<Event>, queue_max: usize) -> Driver {
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        Driver {
            shared,
            tls,
            // Durable commands, requests and live commands, `queue_max` of each.
            frames_max: queue_max
                .saturating_mul(3)
                .saturating_add(OWN_FRAMES_MAX)
                .min(tokio::sync::Semaphore::MAX_PERMITS),
            tasks: JoinSet::new(),
            reports,
            report,
            asked: JoinSet::new(),
            events,
            undelivered: VecDeque::new(),
            is_backlogged: false,
        }
    }

    pub async fn run(mut self) {
        loop {
            self.perform();
            if self.is_over() {
                return;
            }
            match self.next().await {
                Happened::Woken => {}
                Happened::Reported(link, report) => self.reported(link, report),
                Happened::Answered(ask, token) => {
                    let now = self.shared.now();
                    self.shared.lock().core.handle_token(ask, token, now);
                }
                Happened::TimedOut => {
                    let now = self.shared.now();
                    self.shared.lock().core.handle_timeout(now);
                }
                Happened::HasRoom => self.backlog(false),
            }
        }
    }

    /// Waits for whatever comes first.
    async fn next(&mut self) -> Happened {
        let deadline = self.shared.lock().core.deadline();
        let deadline = deadline.map(|ms| self.shared.began + Duration::from_millis(ms));
        let is_waiting = !self.undelivered.is_empty();
        let half = self.events.max_capacity().div_ceil(2);
        tokio::select! {
            _ = self.shared.wake.notified() => Happened::Woken,
            Some((link, report)) = self.reports.recv() => Happened::Reported(link, report),
            room = self.events.reserve(), if is_waiting => {
                match (room, self.undelivered.pop_front()) {
                    (Ok(room), Some(event)) => room.send(event),
                    // The application does not want events any more.
                    _ => self.undelivered.clear(),
                }
                Happened::Woken
            }
            // Not at the first place that is free: what was missed needs more.
            _ = self.events.reserve_many(half), if self.is_backlogged && !is_waiting => Happened::HasRoom,
            Some(answer) = self.asked.join_next() => match answer {
                Ok((ask, token)) => Happened::Answered(ask, token),
                Err(_) => Happened::Woken, // the runtime ends
            },
            Some(_) = self.tasks.join_next() => Happened::Woken,
            _ = sleep_until(deadline.unwrap_or(self.shared.began)), if deadline.is_some() => Happened::TimedOut,
        }
    }

    fn is_over(&mut self) -> bool {
        let mut inner = self.shared.lock();
        let is_closed = inner.core.state() == State::Disconnected && inner.sockets.is_empty() && self.tasks.is_empty();
        if is_closed {
            for waiter in inner.closing.drain(..) {
                let _ = waiter.send(());
            }
        }
        is_closed && inner.is_over && self.undelivered.is_empty()
    }

    fn reported(&mut self, link: LinkId, report: Report) {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        match report {
            Report::Opened => inner.core.handle_opened(link, now),
            Report::Text(text) => inner.core.handle_received(link, &text, now),
            Report::Unreadable => inner.core.handle_received(link, "", now),
            Report::Closed { code, reason } => {
                inner.sockets.remove(&link);
                inner.core.handle_closed(link, code, &reason, now);
            }
        }
    }

    /// Does everything that is to be done, in order; that may bring more.
    fn perform(&mut self) {
        loop {
            let mut inner = self.shared.lock();
            let output = inner.core.poll_output();
            inner.unstoring = match &output {
                Some(Output::Unstore { id, .. }) => Some(id.clone()),
                _ => None,
            };
            drop(inner);
            match output {
                Some(output) => self.perform_one(output),
                None => return,
            }
        }
    }

    fn perform_one(&mut self, output: Output) {
        match output {
            Output::Open { link, url } => self.open(link, url),
            Output::Send { link, text } => self.give(link, Outgoing::Text(text)),
            Output::Close { link, how: Close::Frame { code, reason } } => {
                self.give(link, Outgoing::Close { code, reason });
                self.shared.lock().sockets.remove(&link);
            }
            Output::Close { link, how: Close::Cut } => self.cut(link),
            Output::AskToken { ask, reason } => {
                let Some(token) = self.shared.lock().token.clone() else { return };
                self.asked.spawn(async move {
                    // In a task of its own: a provider that panics is one that failed.
                    let given = tokio::spawn(token.get(reason)).await;
                    let failed = |cause: Cause| Error::TokenFailed(cause);
                    let given = given.map_err(|panic| failed(Arc::new(panic)));
                    (ask, given.and_then(|given| given.map_err(failed)))
                });
            }
            Output::Event(event) => self.tell(event),
            Output::Connected { connect, result } => {
                let mut inner = self.shared.lock();
                if connect == inner.connect {
                    inner.was_connected = result.is_ok();
                }
                // Not those who have begun anew meanwhile.
                for (_, waiter) in inner.connecting.extract_if(.., |(number, _)| *number == connect) {
                    let _ = waiter.send(result.clone());
                }
            }
            Output::Settled { id, result } => {
                if let Some(answer) = self.shared.lock().answers.remove(&id) {
                    let _ = answer.send(result);
                }
            }
            Output::Store { user_id, command } => self.keep(|storage| storage.store(&user_id, &command)),
            Output::Unstore { user_id, id } => self.keep(|storage| storage.remove(&user_id, &id)),
        }
    }

    fn open(&mut self, link: LinkId, url: String) {
        let (outgoing, take) = mpsc::channel(self.frames_max);
        let task = self.tasks.spawn(socket::run(link, url, self.tls.clone(), take, self.report.clone()));
        self.shared.lock().sockets.insert(link, Socket { outgoing, task });
    }

    fn give(&mut self, link: LinkId, what: Outgoing) {
        let mut inner = self.shared.lock();
        let Some(socket) = inner.sockets.get(&link) else { return };
        // Closed: its end is reported already. Full: nothing has gone out for thousands of frames.
        if let Err(mpsc::error::TrySendError::Full(_)) = socket.outgoing.try_send(what) {
            socket.task.abort();
            inner.sockets.remove(&link);
            inner.core.handle_closed(link, 1006, "the network takes nothing any more", self.shared.now());
        }
    }

    fn cut(&mut self, link: LinkId) {
        if let Some(socket) = self.shared.lock().sockets.remove(&link) {
            socket.task.abort();
        }
    }

    fn tell(&mut self, event: Event) {
        if self.undelivered.len() >= UNDELIVERED_MAX {
            return self.shared.lock().core.handle_missed(1);
        }
        if !self.undelivered.is_empty() {
            return self.undelivered.push_back(event);
        }
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            self.undelivered.push_back(event);
            self.backlog(true);
        }
    }

    fn backlog(&mut self, is_backlogged: bool) {
        self.is_backlogged = is_backlogged;
        let now = self.shared.now();
        self.shared.lock().core.handle_backlog(is_backlogged, now);
    }

    fn keep(&mut self, ask: impl FnOnce(&mut dyn CommandStorage) -> io::Result<()>) {
        if let Err(error) = self.shared.stored(ask) {
            self.shared.lock().core.handle_error(error);
        }
    }
}

/// The runtime ends, or all handles are gone: whoever waits learns it.
impl Drop for Driver {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.is_dead = true;
        inner.answers.clear();
        inner.connecting.clear();
        inner.closing.clear();
        inner.sockets.clear();
    }
}
