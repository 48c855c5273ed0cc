//! Vocabularies: messages of a client become commands, events of the domain become messages.
//!
//! Sans-IO: no socket, no clock, no state of a connection. `wire` knows how bytes are framed, `rooms` what
//! commands do; here stands only what each is called and how it looks. The native protocol is the inner language; `transcode` turns
//! what was said in it into other formats.
pub mod command;
pub mod decode;
pub mod encode;
pub mod format;
pub mod socketio;
pub mod stream;
pub mod transcode;
