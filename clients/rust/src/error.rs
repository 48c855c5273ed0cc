//! Why something failed, and what to do about it.
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// Any error of a library or of the application, kept as the cause of one of ours.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a command, or the connection, failed. [`Error::code`] is the protocol's name of it, the same in every client.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the command, which changed nothing.
    #[error(transparent)]
    Server(ServerError),
    /// Live commands and requests are not kept while there is no connection.
    #[error("not connected: wait for the state `Connected` and repeat it; messages wait by themselves")]
    NotConnected,
    /// The connection broke before the answer to a request, which may have taken effect or not.
    #[error("the connection was lost before the answer: ask the server what is true before repeating it")]
    ConnectionLost,
    /// No answer within 300 s, over all repeats (R-SDK-4). A message may have been stored all the same.
    #[error("no answer within 300 s: look into the room's history before sending it again")]
    Timeout,
    /// So many wait already (R-SDK-4).
    #[error("{max} commands are waiting already: send slower, or raise `queue_max`")]
    QueueFull {
        /// The bound that was reached.
        max: usize,
    },
    /// `disconnect` was called, or the client was dropped; a message that was on its way may have been stored.
    #[error("disconnected by the application: connect again to send")]
    Disconnected,
    /// What can never be sent as a command.
    #[error("not a command that can be sent: {0}")]
    InvalidArgument(String),
    /// It would be over the server's `ws.max_message_bytes`, which ends the connection.
    #[error(
        "the command has {bytes} bytes and the server takes {max}: shorten it, or set `max_message_bytes` as on the server"
    )]
    MessageTooLong {
        /// Length of the whole frame.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The id belongs to a command that was not answered yet.
    #[error("the id {id} is in use: give every command its own, or none")]
    Conflict {
        /// The id.
        id: String,
    },
    /// The token is of another user than the one given to `connect`.
    #[error("the token is of user {token:?}, not {expected:?}: connect as the token's user")]
    WrongUser {
        /// As given to `connect`.
        expected: String,
        /// As the server read the token.
        token: String,
    },
    /// The token provider failed; it is asked again.
    #[error("the token provider failed and will be asked again: {0}")]
    TokenFailed(Cause),
    /// The server ended the session for good, or there were too many attempts; see [`Event::Stopped`](crate::Event::Stopped).
    #[error("the client has stopped ({code} {reason}): mend the cause, then call `connect`")]
    Stopped {
        /// Close code.
        code: u16,
        /// As the server put it.
        reason: String,
    },
    /// The storage failed; commands are kept in memory only.
    #[error("the storage failed, so that waiting commands are in memory only: {0}")]
    StorageFailed(Cause),
    /// The server sent what is no envelope, or a migration to an address that is not acceptable.
    #[error("the server sent something unreadable: {0}")]
    InvalidFormat(String),
}

impl Error {
    /// The protocol's name of the error: one of docs/PROTOCOL.md#errors, or one of the clients' own.
    pub fn code(&self) -> &str {
        match self {
            Error::Server(error) => &error.code,
            Error::NotConnected => "not_connected",
            Error::ConnectionLost => "connection_lost",
            Error::Timeout => "timeout",
            Error::QueueFull { .. } => "queue_full",
            Error::Disconnected => "disconnected",
            Error::InvalidArgument(_) => "invalid_argument",
            Error::MessageTooLong { .. } => "message_too_long",
            Error::Conflict { .. } => "conflict",
            Error::WrongUser { .. } => "wrong_user",
            Error::TokenFailed(_) => "token_failed",
            Error::Stopped { .. } => "stopped",
            Error::StorageFailed(_) => "storage_failed",
            Error::InvalidFormat(_) => "invalid_format",
        }
    }

    /// Whether the same command may succeed later without change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Server(error) => error.retryable,
            Error::NotConnected | Error::ConnectionLost | Error::QueueFull { .. } => true,
            _ => false,
        }
    }

    /// With `invalid_argument` of the server: which field.
    pub fn field(&self) -> Option<&str> {
        match self {
            Error::Server(error) => error.field.as_deref(),
            _ => None,
        }
    }

    /// With `rate_limited`, `slow_mode`, `overloaded`: how long to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Server(error) => error.retry_after,
            _ => None,
        }
    }

    pub(crate) fn not_in_room() -> Error {
        let (code, message) = ("not_in_room".to_owned(), "You are not in this room".to_owned());
        Error::Server(ServerError { code, message, retryable: false, field: None, retry_after: None })
    }
}

/// The `data` of the protocol's `error` (product section 3.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused by the server: {message} ({code}{}); {}", self.details(), self.remedy())]
#[non_exhaustive]
pub struct ServerError {
    /// Stable name.
    pub code: String,
    /// For people.
    pub message: String,
    /// The same command may succeed later without change.
    pub retryable: bool,
    /// With `invalid_argument`.
    pub field: Option<String>,
    /// With `rate_limited`, `slow_mode`, `overloaded`.
    pub retry_after: Option<Duration>,
}

impl ServerError {
    /// Any JSON may come: what is missing gets the meaning that is safest for the application.
    pub(crate) fn read(data: &Map<String, Value>) -> ServerError {
        let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = text("code").unwrap_or_else(|| "internal".to_owned());
        ServerError {
            message: text("message").unwrap_or_else(|| code.clone()),
            retryable: data.get("retryable") == Some(&Value::Bool(true)),
            field: text("field"),
            retry_after: data.get("retryAfterMs").and_then(Value::as_u64).map(Duration::from_millis),
            code,
        }
    }

    fn details(&self) -> String {
        self.field.as_ref().map(|field| format!(", field {field}")).unwrap_or_default()
    }

    fn remedy(&self) -> String {
        match (self.retryable, self.retry_after) {
            (true, Some(wait)) => format!("repeat it in {} ms", wait.as_millis()),
            (true, None) => "repeat it later".to_owned(),
            (false, _) => "repeating it unchanged will not help".to_owned(),
        }
    }
}

/// Why there is no client. Nothing of this can come later.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The address can never work.
    #[error("{url:?} is no ws:// or wss:// address{}: give one like ws://127.0.0.1:8080/ws", self.why())]
    BadUrl {
        /// As given.
        url: String,
        /// What the parser says; may be empty.
        why: String,
    },
    /// A wss:// address needs the crate's feature.
    #[error("{url:?} needs TLS: build throng-client with the feature `tls`")]
    NoTls {
        /// As given.
        url: String,
    },
    /// The trust store could not be read.
    #[error("no trusted certificates were found on this machine ({0}): install them, or give `Options::tls`")]
    NoTrust(String),
    /// The client's task needs a runtime.
    #[error("there is no tokio runtime here: create the client inside of one")]
    NoRuntime,
    /// The operating system gave no randomness, without which ids would not be unique.
    #[error("the operating system gives no random bytes: {0}")]
    NoRandomness(String),
}

impl SetupError {
    fn why(&self) -> String {
        match self {
            SetupError::BadUrl { why, .. } if !why.is_empty() => format!(" ({why})"),
            _ => String::new(),
        }
    }
}
