//! What the client's handles and its task have in common: the core, and who waits for what.
use crate::core::{Core, LinkId, Now, State};
use crate::error::Error;
use crate::socket::Outgoing;
use crate::storage::CommandStorage;
use crate::token::Token;
use serde_json::Value;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What the client's handles and its task have in common.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    storage: Mutex<Option<Box<dyn CommandStorage>>>,
    /// The core may have something to be done.
    pub wake: Notify,
    pub began: Instant,
}

pub(crate) struct Inner {
    pub core: Core,
    pub answers: HashMap<String, Answer<Value>>,
    /// By the number of their `connect`.
    pub connecting: Vec<(u64, Answer<()>)>,
    /// The newest.
    pub connect: u64,
    pub closing: Vec<oneshot::Sender<()>>,
    pub token: Option<Token>,
    pub sockets: HashMap<LinkId, Socket>,
    /// The command that the task is taking out of the storage.
    pub unstoring: Option<String>,
    /// What `connect` has promised is kept: later callers have it at once.
    pub was_connected: bool,
    /// The last handle is gone.
    pub is_over: bool,
    /// The task is gone: nobody will answer.
    pub is_dead: bool,
}

pub(crate) struct Socket {
    pub outgoing: mpsc::Sender<Outgoing>,
    pub task: AbortHandle,
}

impl Shared {
    pub fn new(storage: Option<Box<dyn CommandStorage>>, core: impl FnOnce(Now) -> Core) -> Shared {
        let began = Instant::now();
        let inner = Inner {
            core: core(now(began)),
            answers: HashMap::new(),
            connecting: Vec::new(),
            connect: 0,
            closing: Vec::new(),
            token: None,
            sockets: HashMap::new(),
            unstoring: None,
            was_connected: false,
            is_over: false,
            is_dead: false,
        };
        Shared { inner: Mutex::new(inner), storage: Mutex::new(storage), wake: Notify::new(), began }
    }

    // Nothing is done under the lock that could leave it half done: a panic elsewhere is no reason to stop.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Now {
        now(self.began)
    }

    pub fn connect(&self, user_id: &str, token: Token) -> oneshot::Receiver<Result<(), Error>> {
        let (give, answer) = oneshot::channel();
        let mut inner = self.lock();
        if inner.core.state() == State::Disconnected && !inner.is_dead {
            // Under the lock: what the task is taking out of the storage just now must not be found in it.
            let mut stored = self.stored(|storage| storage.load(user_id)).unwrap_or_else(|error| {
                inner.core.handle_error(error);
                Vec::new()
            });
            stored.retain(|command| inner.unstoring.as_ref() != Some(&command.id));
            inner.was_connected = false;
            let is_provider = token.is_provider();
            inner.token = Some(token);
            // Who waited for the end waits no longer: there is a new beginning.
            inner.closing.clear();
            inner.connect = inner.core.connect(user_id, is_provider, stored, self.now());
            let number = inner.connect;
            inner.connecting.push((number, give));
        } else if inner.was_connected {
            let _ = give.send(Ok(()));
        } else if !inner.is_dead {
            let number = inner.connect;
            inner.connecting.push((number, give));
        }
        drop(inner);
        self.wake.notify_one();
        answer
    }

    pub fn disconnect(&self, is_forgotten: bool) -> oneshot::Receiver<()> {
        let (give, answer) = oneshot::channel();
        let mut inner = self.lock();
        inner.core.disconnect(is_forgotten, self.now());
        if !inner.is_dead {
            inner.closing.push(give);
        }
        drop(inner);
        self.wake.notify_one();
        answer
    }

    pub fn command(&self, id: &str, kind: &str, data: Value, answer: Answer<Value>) {
        let mut inner = self.lock();
        if inner.answers.contains_key(id) || inner.core.is_used(id) {
            let _ = answer.send(Err(Error::Conflict { id: id.to_owned() }));
        } else if !inner.is_dead {
            inner.answers.insert(id.to_owned(), answer);
            let unsent = inner.unsent();
            inner.core.handle_unsent(unsent);
            inner.core.command(id, kind, data, self.now());
            drop(inner);
            self.wake.notify_one();
        }
    }

    pub fn retry_now(&self) {
        self.lock().core.retry_now(self.now());
        self.wake.notify_one();
    }

    /// The last handle is gone.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.core.disconnect(false, self.now());
        inner.is_over = true;
        drop(inner);
        self.wake.notify_one();
    }

    pub fn stored<T: Default>(&self, ask: impl FnOnce(&mut dyn CommandStorage) -> io::Result<T>) -> Result<T, Error> {
        match self.storage.lock().unwrap_or_else(PoisonError::into_inner).as_deref_mut() {
            Some(storage) => ask(storage).map_err(|error| Error::StorageFailed(Arc::new(error))),
            None => Ok(T::default()),
        }
    }
}

impl Inner {
    /// Frames that were given to sockets and not taken yet.
    fn unsent(&self) -> usize {
        self.sockets.values().map(|socket| socket.outgoing.max_capacity() - socket.outgoing.capacity()).sum()
    }
}

fn now(began: Instant) -> Now {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // A clock before 1970 is like one that says 1970.
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: ms(began.elapsed()), unix_ms: ms(unix) }
}
