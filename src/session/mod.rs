//! The native protocol's vocabulary: messages of a client become commands, events of the domain become messages.
//!
//! Sans-IO: no socket, no clock, no state of a connection. `wire` knows how bytes are framed, `rooms` what
//! commands do; here stands only what each is called and how it looks.
pub mod command;
pub mod decode;
pub mod encode;
pub mod stream;
