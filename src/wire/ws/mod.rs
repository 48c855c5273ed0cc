//! WebSocket frames, server side, after RFC 6455. Sans-IO: bytes in, items out, and the reverse.
//!
//! Invariants:
//! * What a peer does wrong is known from the frame header, before a byte of payload is kept.
//! * No more of a message is ever kept than the caller's limit, whatever the headers promise.
//! * The decoder never copies a message that lies whole in the receive buffer.
//! * Nothing the server sends is masked or fragmented, and nothing compressed that was not agreed to be (RFC 7692).
//! * No context of compression belongs to a connection.
pub mod close;
pub mod decode;
pub mod deflate;
pub mod encode;
pub mod error;
pub mod extensions;
pub mod header;
pub mod mask;
pub mod utf8;

pub use close::is_valid_close_code;
pub use decode::{Control, Decoder, Item, Place};
pub use deflate::{Deflater, Inflater};
pub use encode::{FrameBuffer, append_deflated_frame, append_frame, close_frame, close_frame_for, frame_len, payload};
pub use error::{Misbehaviour, WsError};
pub use header::Opcode;
