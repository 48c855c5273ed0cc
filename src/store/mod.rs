//! Durable rooms and messages. `port` is what the rest of the process knows; a back end implements it.
pub mod memory;
mod names;
pub mod port;
pub mod sqlite;
pub mod threads;
