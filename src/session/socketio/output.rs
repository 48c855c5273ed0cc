//! What a session wants done: a list of actions over one arena of bytes. One per shard, reused.
use super::{Close, Namespace};
use crate::wire::envelope::PADDING_BYTES;
use std::ops::Range;

/// In the order in which they are to be done. Ranges are of the [`Output`] they stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The client wants into a namespace that exists: sign it in, then say [`Session::connected`](super::Session::connected), or
    /// [`Session::ended`](super::Session::ended) after a CONNECT_ERROR.
    Connect { namespace: Namespace, auth: Auth },
    /// A native message `{"id","type","data"}` of the namespace's connection; see [`Output::message`].
    Command { namespace: Namespace, message: Range<usize> },
    /// The client left the namespace; its connection ends as by close 1000, and nothing is kept for recovery.
    Disconnect { namespace: Namespace },
    /// An Engine.IO packet for the client, text: a ping, a pong, a refusal, an ack. Goes before what the actions behind it cause.
    Send { packet: Range<usize> },
    /// The session ends with its transport: the last action ever.
    Close { why: Close },
}

/// The payload of a CONNECT: what it said of itself, unchecked. Texts of other types than string are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// R-AUTH-1. Absent: what the handshake's request brought.
    pub token: Option<Range<usize>>,
    /// R-REC-3: both are there if the client tries to recover.
    pub pid: Option<Range<usize>>,
    pub offset: Option<Range<usize>>,
}

#[derive(Debug, Default)]
pub struct Output {
    actions: Vec<Action>,
    bytes: Vec<u8>,
}

impl Output {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.actions.clear();
        self.bytes.clear();
    }

    /// Takes the actions out, so that the bytes can be changed meanwhile; give them back with [`Output::give_back`].
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The vector of `take_actions`, for its memory. Also clears the bytes.
    pub fn give_back(&mut self, actions: Vec<Action>) {
        self.actions = actions;
        self.clear();
    }

    /// What a range stands for.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    pub fn text(&self, range: &Range<usize>) -> &str {
        str::from_utf8(self.bytes(range)).unwrap_or_default()
    }

    /// The message of a `Command`, with the slack behind it that the parser asks for (`wire::envelope::PADDING_BYTES`): the whole
    /// slice, and the length of the message in it.
    pub fn message(&mut self, range: &Range<usize>) -> (&mut [u8], usize) {
        let len = range.len();
        (self.bytes.get_mut(range.start..range.end + PADDING_BYTES).unwrap_or_default(), len)
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Writes bytes and says where they are.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.bytes.len();
        write(&mut self.bytes);
        start..self.bytes.len()
    }

    pub(super) fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let packet = self.write(write);
        self.push(Action::Send { packet });
    }

    pub(super) fn command(&mut self, namespace: Namespace, write: impl FnOnce(&mut Vec<u8>)) {
        let message = self.write(write);
        self.bytes.resize(message.end + PADDING_BYTES, 0);
        self.push(Action::Command { namespace, message });
    }
}
