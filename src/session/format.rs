//! How what the server says looks on one kind of connection: which protocol's words, and what is around them.
//!
//! Inside, everything is said once, as a native message. A connection of another format gets what `transcode` makes of it.
use super::transcode::{self, socketio::SocketIo};
use crate::wire::{sse, ws};

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
    /// Server-sent events under native names (R-SSE-1). Of a stream of several rooms the ids are its own: what its members are sent of
    /// one event differs.
    Stream { has_own_ids: bool },
    /// Events under their Socket.IO names, acks by number (R-SIO-1, R-SIO-2). Always in WebSocket frames, whatever the transport:
    /// what goes over polling is taken out of them (`wire::engineio::PayloadWriter::frames`).
    SocketIo(SocketIo),
}

/// What is around a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A WebSocket text frame (RFC 6455).
    WebSocket,
    /// The same with permessage-deflate, and this window to compress with (RFC 7692).
    Deflated { window_bits: u8 },
    /// A block of lines, ended by an empty one.
    Block,
}

impl Format {
    /// What the domain's effects are encoded in, and what a connection on `/ws` gets.
    pub const NATIVE: Format = Format { vocabulary: Vocabulary::Native, framing: Framing::WebSocket };

    /// The native protocol with permessage-deflate.
    pub fn deflated(window_bits: u8) -> Format {
        Format { vocabulary: Vocabulary::Native, framing: Framing::Deflated { window_bits } }
    }

    /// Of permessage-deflate, where it was agreed on.
    pub fn window_bits(&self) -> Option<u8> {
        match self.framing {
            Framing::Deflated { window_bits } => Some(window_bits),
            Framing::WebSocket | Framing::Block => None,
        }
    }

    /// An event stream of one room: its ids are those of the room.
    pub const STREAM: Format =
        Format { vocabulary: Vocabulary::Stream { has_own_ids: false }, framing: Framing::Block };

    /// An event stream of several rooms.
    pub const STREAM_OF_SEVERAL: Format =
        Format { vocabulary: Vocabulary::Stream { has_own_ids: true }, framing: Framing::Block };

    /// Nothing is heard from such a connection, and it ends without its peer's consent.
    pub fn is_stream(&self) -> bool {
        self.framing == Framing::Block
    }

    /// A broadcast cannot be shared: each member is sent bytes of its own.
    pub fn has_own_ids(&self) -> bool {
        self.vocabulary == Vocabulary::Stream { has_own_ids: true }
    }

    /// Bytes of the piece that starts at `bytes[0]`, between which and the next one other pieces may go. `None`: not all of it that
    /// tells is there.
    pub fn frame_len(&self, bytes: &[u8]) -> Option<usize> {
        match (&self.vocabulary, &self.framing) {
            (_, Framing::Block) => sse::block_len(bytes),
            (Vocabulary::SocketIo(_), Framing::WebSocket | Framing::Deflated { .. }) => SocketIo::frame_len(bytes),
            (_, Framing::WebSocket | Framing::Deflated { .. }) => ws::frame_len(bytes),
        }
    }

    /// What proves that the way is open and, where the protocol has an answer, asks for one (R-CONN-3).
    pub fn ping(&self) -> &'static [u8] {
        match self.framing {
            Framing::WebSocket | Framing::Deflated { .. } => &[0x89, 0],
            Framing::Block => sse::PING,
        }
    }

    /// Appends a close with its code and reason: the last piece. Without a code it answers a close that had none.
    pub fn close(&self, out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
        match self.framing {
            Framing::WebSocket | Framing::Deflated { .. } => ws::close_frame(out, code, reason),
            Framing::Block => transcode::sse::close(out, code, reason),
        }
    }
}
