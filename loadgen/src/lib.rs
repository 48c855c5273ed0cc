//! Throng's load generator: puts a server under a load that was fixed beforehand, checks every delivery, and says what it cost.
//!
//! ```text
//! cli, commands                   run, compare, capacity, plan, list: what the user asked for, from start to exit code
//! report, verify, peers, planner  results as table, JSON and HTML; the second implementation; other servers; capacity models
//! verdict                         was the client the bottleneck, do the two witnesses agree, were the targets met
//! engine, server                  the load itself on io_uring; the server under test: start it, watch it, ask it
//! result, check, schedule, wire   what was measured; who must have received what; when what is sent; bytes of the protocols
//! scenario, stamp, machine        what to do; the mark that every message carries; where it ran
//! ```
//!
//! Imports point downwards. `wire`, `check`, `schedule`, `stamp` and `planner` read no clock and open no socket.
//!
//! The way of a message: `schedule` says when sender *s* of room *r* is to send number *n*; the worker (`engine`) writes the
//! command with a [`stamp::Stamp`] of room, publisher, number and *intended* time and sends it; whoever receives it hands the
//! stamp to `check` (lost, doubled, out of order?) and records now − intended as its latency. At the end the workers' tallies
//! and histograms are merged, laid beside what the server itself says, judged, and written down as one [`result::RunResult`].

pub mod check;
pub mod cli;
pub mod commands;
pub mod engine;
pub mod machine;
pub mod peers;
pub mod planner;
pub mod report;
pub mod result;
pub mod scenario;
pub mod schedule;
pub mod server;
pub mod slow;
pub mod stamp;
pub mod verdict;
pub mod verify;
pub mod wire;
