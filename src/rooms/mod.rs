//! The domain: rooms, members, presence, typing, durable messages and recovery.
//!
//! Sans-IO: plain functions of state, command and `now`; what is to happen goes out through
//! [`effects::Effects`]. Nothing here knows a wire format, a socket, a clock or a back end.
pub mod command;
pub mod effects;
pub mod event;
