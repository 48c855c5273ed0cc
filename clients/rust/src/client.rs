//! What an application holds: the client, its events, and the answers to come.
use crate::command::{ChatResult, JoinResult};
use crate::core::{Core, Now, State, StoredCommand};
use crate::driver::Driver;
use crate::error::{Error, SetupError};
use crate::event::Event;
use crate::options::Options;
use crate::shared::Shared;
use crate::socket::Tls;
use crate::token::Token;
use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// A client of one server. Clones are handles of the same one; when the last is dropped, it disconnects.
///
/// All methods return at once; what they return may be awaited or dropped, without changing what happens.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Client {
    /// Does not connect yet. Events come in the order in which they happen; who takes none and drops them loses nothing else.
    ///
    /// Fails for an address that can never work, or outside of a tokio runtime.
    pub fn new(mut options: Options) -> Result<(Client, Events), SetupError> {
        let settings = options.settings()?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| SetupError::NoRuntime)?;
        let tls = tls(&mut options)?;
        let mut random_bytes = [0; 18];
        getrandom::fill(&mut random_bytes).map_err(|error| SetupError::NoRandomness(error.to_string()))?;
        let (seed, prefix) = random_bytes.split_at(8);
        let id_prefix: String = prefix.iter().map(|byte| format!("{byte:02x}")).collect();
        let random = options.random.take().unwrap_or_else(|| {
            let seed = seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
            let mut random = fastrand::Rng::with_seed(seed);
            Box::new(move || random.f64())
        });
        let (give, take) = mpsc::channel(options.events_max.max(1));
        let queue_max = settings.queue_max;
        let shared = Arc::new(Shared::new(options.storage, |now: Now| Core::new(settings, id_prefix, random, now)));
        runtime.spawn(Driver::new(shared.clone(), tls, give, queue_max).run());
        Ok((Client { handle: Arc::new(Handle { shared }) }, Events { take }))
    }

    /// Connects, and stays connected until `disconnect` or a close code that says stop. Does nothing if it does so already. The
    /// answer comes with the first connection; it fails if the client stops before.
    ///
    /// `user_id` must be the token's user. Another user than the last one begins anew: nothing of the other's is sent.
    pub fn connect(&self, user_id: &str, token: impl Into<Token>) -> Connecting {
        Connecting { answer: self.shared().connect(user_id, token.into()) }
    }

    /// Closes with 1000; no timer is left. All that waits fails with `disconnected`. Rooms and positions are kept for the next
    /// `connect` of the same user. The answer comes when the socket is closed.
    pub fn disconnect(&self) -> Closed {
        Closed { answer: self.shared().disconnect(false) }
    }

    /// The same, and forgets rooms, positions and session: for a sign-out.
    pub fn sign_out(&self) -> Closed {
        Closed { answer: self.shared().disconnect(true) }
    }

    /// Sends a command of docs/PROTOCOL.md; the answer is the result of its ack. Messages are kept while there is no connection, and
    /// repeated until answered; live commands and requests fail with `not_connected`. `()` is no data.
    pub fn send_message(&self, kind: &str, data: impl Serialize) -> Ack {
        let id = self.new_id();
        self.send_message_as(&id, kind, data)
    }

    /// The same under an id of the application's choice, 1 to 64 characters that were never used before: the server knows a
    /// repeated message by it.
    pub fn send_message_as(&self, id: &str, kind: &str, data: impl Serialize) -> Ack {
        let (give, answer) = oneshot::channel();
        match serde_json::to_value(data) {
            Ok(data) => self.shared().command(id, kind, data, give),
            Err(error) => {
                let _ = give.send(Err(Error::InvalidArgument(error.to_string())));
            }
        }
        Ack { id: id.to_owned(), answer, shape: PhantomData }
    }

    /// `join_room`: kept as a wish over lost connections.
    pub fn join_room(&self, room_id: &str) -> Ack<JoinResult> {
        self.send_message("join_room", json!({ "roomId": room_id })).of()
    }

    /// `chat_message`: durable.
    pub fn chat_message(&self, room_id: &str, message: &str) -> Ack<ChatResult> {
        self.send_message("chat_message", json!({"roomId": room_id, "message": message})).of()
    }

    /// For `send_message_as`, by who needs the id before: unlike any other, on this and every other machine.
    pub fn new_id(&self) -> String {
        self.shared().lock().core.new_id()
    }

    /// R-SDK-1.
    pub fn connection_state(&self) -> State {
        self.shared().lock().core.state()
    }

    /// Whether commands go out now.
    pub fn is_connected(&self) -> bool {
        self.connection_state() == State::Connected
    }

    /// Ends the wait of `Reconnecting`: for when the network is back, or for an impatient user.
    pub fn retry_now(&self) {
        self.shared().retry_now();
    }

    /// Durable commands that were not answered yet, in order.
    pub fn pending(&self) -> Vec<StoredCommand> {
        self.shared().lock().core.pending().cloned().collect()
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

#[cfg(feature = "tls")]
fn tls(options: &mut Options) -> Result<Tls, SetupError> {
    let is_needed = options.url.to_ascii_lowercase().starts_with("wss:");
    match options.tls.take() {
        None if is_needed => Ok(Tls { config: Some(Tls::of_machine()?) }),
        // A migration may still lead from ws to wss.
        None => Ok(Tls { config: Tls::of_machine().ok() }),
        config => Ok(Tls { config }),
    }
}

#[cfg(not(feature = "tls"))]
fn tls(_: &mut Options) -> Result<Tls, SetupError> {
    Ok(Tls::default())
}

/// Without what it holds: tokens are secrets.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.connection_state()).finish_non_exhaustive()
    }
}

/// Everything that happens, in order. Also a [`Stream`]. Ends when the client is dropped.
///
/// Who takes none for long (`Options::events_max`) is spared what is live, is told so by [`Event::Missed`], and gets what is durable
/// when he takes them again. Answers do not wait for that.
#[derive(Debug)]
pub struct Events {
    take: mpsc::Receiver<Event>,
}

impl Events {
    /// The next one; None at the end.
    pub async fn next(&mut self) -> Option<Event> {
        self.take.recv().await
    }

    /// The next one if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.take.try_recv().ok()
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.take.poll_recv(context)
    }
}

/// The answer to a command: the result of its ack, as JSON or [of a type](Ack::of).
#[derive(Debug)]
pub struct Ack<T = Value> {
    id: String,
    answer: oneshot::Receiver<Result<Value, Error>>,
    shape: PhantomData<fn() -> T>,
}

impl<T> Ack<T> {
    /// The command's.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same answer, read as a `U`.
    pub fn of<U>(self) -> Ack<U> {
        Ack { id: self.id, answer: self.answer, shape: PhantomData }
    }
}

impl<T: DeserializeOwned> Future for Ack<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, Error>> {
        // Never answered: the client's task has ended with its runtime.
        let answer = ready!(Pin::new(&mut self.answer).poll(context)).unwrap_or(Err(Error::Disconnected));
        let read = |result| serde_json::from_value(result).map_err(|error| Error::InvalidFormat(error.to_string()));
        Poll::Ready(answer.and_then(read))
    }
}

/// The first connection, or why there will be none.
#[derive(Debug)]
pub struct Connecting {
    answer: oneshot::Receiver<Result<(), Error>>,
}

impl Future for Connecting {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or(Err(Error::Disconnected)))
    }
}

/// The end of the socket.
#[derive(Debug)]
pub struct Closed {
    answer: oneshot::Receiver<()>,
}

impl Future for Closed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.answer).poll(context).map(|_| ())
    }
}
