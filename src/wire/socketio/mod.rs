//! Socket.IO packets: namespaces, events, acks and attachments inside Engine.IO messages.
//!
//! Sources: the Socket.IO protocol, revision 5 (github.com/socketio/socket.io-protocol), and revision 4 as clients of Socket.IO 2.x
//! speak it over Engine.IO 3. They differ in little: which of the two is spoken follows from [`Revision`], and every function
//! that has to know takes it. What the texts leave open is done as npm `socket.io-parser` does.
pub mod attachments;
pub mod encode;
pub mod error;
pub mod packet;
pub mod payload;

pub use attachments::Assembly;
pub use error::Violation;
pub use packet::{Kind, Packet};
pub use payload::{Json, is_reserved};

pub use crate::wire::engineio::Revision;
