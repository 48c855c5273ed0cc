//! TLS 1.2 and 1.3, sans-IO (RFC 5246, RFC 8446; R-SEC-15): bytes of the network in, plaintext out, and back.
//!
//! rustls shakes hands, derives keys and holds every cipher; what is here carries records by them, because an idle connection of
//! rustls is half as large again and copies what it receives:
//! `acceptor` (certificate and ticket keys, shared by all shards) → `handshake` (until the keys are there) → `session` (records,
//! for as long as the connection lives).
//!
//! Bytes of the peer are opened where they lie, so that what reads plaintext reads the receive buffer as it would without TLS.
//! No cryptography is written here, and no secret is printed: nothing here is `Debug`.
mod acceptor;
mod handshake;
mod session;

#[cfg(test)]
pub(crate) mod tests;

pub use acceptor::{Acceptor, Fault, Tickets, Validity};
pub use handshake::{Established, Handshake, Progress, looks_like_http};
pub use session::{ASSEMBLED_SLACK_BYTES, Exhausted, Opened, RecordFault, Session};
