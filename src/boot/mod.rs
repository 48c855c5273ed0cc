//! From the command line to running threads, and back.
pub mod cli;
pub mod dev;
pub mod keys;
pub mod serve;
