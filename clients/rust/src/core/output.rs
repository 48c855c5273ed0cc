//! What the core wants done. It does nothing itself: it opens no socket, reads no clock, calls no one.
use super::{Position, State};
use crate::error::Error;
use crate::event::{Event, StateChange};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// One connection, from its opening on. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(super) u64);

/// One question for a token. Only the newest one's answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ask(pub(super) u64);

/// Why a token is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenReason {
    /// To connect.
    Connect,
    /// The one in use ends soon.
    Expiring,
    /// The server accepted the one in use no longer.
    Rejected,
}

/// How a connection is to be ended. Nothing of it may be reported any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Without a word: the other side does not answer.
    Cut,
    /// With a close frame.
    Frame {
        /// 1000.
        code: u16,
        /// For people.
        reason: &'static str,
    },
}

/// A durable command as the storage keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCommand {
    /// The server recognises repeats by it.
    pub id: String,
    /// The command's type.
    pub kind: String,
    /// Its data as JSON: as it was when it was sent first.
    pub data: String,
    /// When the application gave it, Unix milliseconds.
    pub since_ms: u64,
    /// Among those of the same millisecond.
    pub order: u64,
}

/// To be done in the order in which they come.
#[derive(Clone)]
pub enum Output {
    /// Open a WebSocket with the subprotocol `throng.v1`; report `opened` or `closed`.
    Open {
        /// Its name from now on.
        link: LinkId,
        /// Where to.
        url: String,
    },
    /// Send a text message.
    Send {
        /// On which.
        link: LinkId,
        /// One envelope. May hold a token: not for logs.
        text: String,
    },
    /// End a connection.
    Close {
        /// Which.
        link: LinkId,
        /// How.
        how: Close,
    },
    /// Ask the provider for a token; report it with the same `ask`.
    AskToken {
        /// Names the question.
        ask: Ask,
        /// For the provider.
        reason: TokenReason,
    },
    /// For the application.
    Event(Event),
    /// What [`connect`](super::Core::connect) has promised: the first connection, or that there will be none.
    Connected {
        /// The number of that `connect`.
        connect: u64,
        /// May come more than once; the first counts.
        result: Result<(), Error>,
    },
    /// A command's answer.
    Settled {
        /// The command's.
        id: String,
        /// Result of its ack.
        result: Result<Value, Error>,
    },
    /// Keep a durable command until `Unstore`.
    Store {
        /// Whose.
        user_id: String,
        /// What.
        command: StoredCommand,
    },
    /// It has its answer.
    Unstore {
        /// Whose.
        user_id: String,
        /// Its id.
        id: String,
    },
}

impl Output {
    pub(super) fn state(state: State, attempt: u32, retry_in_ms: Option<u64>, why: Option<String>) -> Output {
        let retry_in = retry_in_ms.map(Duration::from_millis);
        Output::Event(Event::State(StateChange { state, attempt, retry_in, why }))
    }
}

/// The `rooms` of a `resume`.
pub(super) type Positions = BTreeMap<String, Position>;
