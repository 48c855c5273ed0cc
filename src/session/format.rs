//! How what the server says looks on one kind of connection: which protocol's words, and what is around them.
//!
//! Inside, everything is said once, as a native message. A connection of another format gets what `transcode` makes of it.
use super::transcode::socketio::SocketIo;
use crate::wire::ws;

/// What a connection's outgoing bytes look like. Connections of one format share the encoding of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    pub vocabulary: Vocabulary,
    pub framing: Framing,
}

/// Whose names and envelopes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// `{id, type, data, timestamp}` (R-ENV-1).
    Native,
    /// Events under their Socket.IO names, acks by number (R-SIO-1, R-SIO-2). Always in WebSocket frames, whatever the transport:
    /// what goes over polling is taken out of them (`wire::engineio::PayloadWriter::frames`).
    SocketIo(SocketIo),
}

/// What is around a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A WebSocket text frame (RFC 6455).
    WebSocket,
}

impl Format {
    /// What the domain's effects are encoded in, and what a connection on `/ws` gets.
    pub const NATIVE: Format = Format { vocabulary: Vocabulary::Native, framing: Framing::WebSocket };

    /// Bytes of the piece that starts at `bytes[0]`, between which and the next one other pieces may go. `None`: not all of it that
    /// tells is there.
    pub fn frame_len(&self, bytes: &[u8]) -> Option<usize> {
        match (&self.vocabulary, &self.framing) {
            (Vocabulary::SocketIo(_), Framing::WebSocket) => SocketIo::frame_len(bytes),
            (Vocabulary::Native, Framing::WebSocket) => ws::frame_len(bytes),
        }
    }

    /// What proves that the way is open and, where the protocol has an answer, asks for one (R-CONN-3).
    pub fn ping(&self) -> &'static [u8] {
        match self.framing {
            Framing::WebSocket => &[0x89, 0],
        }
    }

    /// Appends a close with its code and reason: the last piece. Without a code it answers a close that had none.
    pub fn close(&self, out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
        match self.framing {
            Framing::WebSocket => ws::close_frame(out, code, reason),
        }
    }
}
