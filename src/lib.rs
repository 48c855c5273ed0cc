//! Throng: a self-hosted real-time connection server for Linux.
//!
//! Layers, top to bottom; a module imports only what stands below it (`docs/ARCHITECTURE.md`):
//!
//! ```text
//! boot       configuration → threads → start and stop order; the command line
//! services   HTTP service pages (metrics, health, demo page), JWKS refresh; off the hot path
//! shard      the turn: connections, broadcast logs, timers, mesh mailboxes
//! session    one connection's vocabulary: messages → commands, events → frames
//! rooms      the domain: rooms, members, presence, typing, recovery; plain functions
//! store      durable rooms and messages: the port (traits) and SQLite
//! auth       token verification, resume tokens
//! wire       sans-IO protocols: HTTP heads, WebSocket frames, envelopes
//! tls        sans-IO TLS: handshakes and records, by rustls
//! plane      the only syscalls on sockets and the only unsafe: io_uring, and a simulation
//! telemetry  counters and histograms
//! config, limits, ids, base   know nothing above them
//! ```
pub mod auth;
pub mod base;
pub mod boot;
pub mod config;
pub mod ids;
pub mod limits;
pub mod plane;
pub mod rooms;
pub mod services;
pub mod session;
pub mod shard;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod wire;
