//! From the command line to running threads, and back.
pub mod cli;
mod control;
pub mod dev;
pub mod keys;
mod reload;
pub mod serve;
mod source;
mod welcome;
