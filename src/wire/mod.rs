//! Sans-IO protocols: bytes in, items out; no sockets, no clocks.
pub mod http;
pub mod ws;
