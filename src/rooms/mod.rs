//! The domain: rooms, members, presence, typing, durable messages and recovery.
//!
//! Sans-IO: plain functions of state, command and `now`; what is to happen goes out through
//! [`effects::Effects`]. Nothing here knows a wire format, a socket, a clock or a back end.
//! [`Rooms`] is the way in: all rooms whose home is one shard.
mod asks;
pub mod command;
mod create;
pub mod effects;
pub mod event;
mod history;
mod join;
mod live;
mod manage;
mod members;
mod occupancy;
mod online;
mod presence;
#[cfg(test)]
mod property_test;
mod recovery;
mod rights;
#[cfg(test)]
mod rights_test;
mod room;
#[allow(clippy::module_inception)] // The table of rooms is what one looks for under this name.
mod rooms;
mod send;
mod settings;
mod slot;
mod slow_mode;
#[cfg(test)]
mod testing;
mod typing;
mod window;

pub use asks::home_of_ask;
pub use rooms::{Rooms, Stats};
pub use settings::Settings;
