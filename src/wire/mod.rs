//! Sans-IO protocols: bytes in, items out; no sockets, no clocks.
pub mod envelope;
pub mod http;
pub mod json;
pub mod sse;
pub mod tape;
pub mod ws;
