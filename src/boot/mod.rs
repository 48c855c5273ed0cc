//! From the command line to running threads, and back.
pub mod certificate;
pub mod cli;
mod control;
pub mod dev;
pub mod doctor;
mod key_watch;
pub mod keys;
mod lost_clients;
pub mod options;
mod post;
mod reload;
pub mod serve;
mod source;
pub mod tables;
mod threads;
mod welcome;
