//! Engine.IO, the transport below Socket.IO: packets, polling payloads, the handshake's query and its refusals.
//!
//! Sources: the Engine.IO protocol, revisions 4 and 3 (github.com/socketio/engine.io-protocol), and where that text is silent what
//! the npm packages `engine.io` and `engine.io-client` do. Sans-IO. What is bounded here: the bytes of a payload and the packets
//! in it, from their headers on; a session id's form.
pub mod error;
pub mod open;
pub mod packet;
pub mod payload;
pub mod query;
pub mod sid;
pub mod upgrade;
pub mod v3;

pub use error::RequestError;
pub use open::{Open, write_open};
pub use packet::{Packet, PacketError, binary_prefix};
pub use payload::{PayloadError, PayloadReader, PayloadWriter};
pub use query::{Request, Transport};
pub use sid::Sid;
pub use upgrade::{Probe, ProbeStep};

/// Which revision of the protocol a client speaks: `EIO` in its query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// Socket.IO 1.x and 2.x: the client pings, payloads are counted.
    V3,
    /// Socket.IO 3.x and 4.x: the server pings.
    V4,
}

impl Revision {
    pub const fn number(self) -> u8 {
        match self {
            Revision::V3 => 3,
            Revision::V4 => 4,
        }
    }
}
