//! Sans-IO protocols: bytes in, items out; no sockets, no clocks.
pub mod engineio;
pub mod envelope;
pub mod http;
pub mod json;
pub mod raw;
pub mod socketio;
pub mod sse;
pub mod tape;
pub mod ws;
