//! From the command line to running threads, and back.
pub mod cli;
mod control;
pub mod dev;
mod key_watch;
pub mod keys;
mod reload;
pub mod serve;
mod source;
mod welcome;
