//! What the server knows about itself: counters, gauges and latency histograms.
//!
//! Each shard owns its [`counters::Counters`] and [`histograms::ShardHistograms`] outright and records with plain
//! additions: no lock, no atomic, no allocation. Whoever wants to read them asks the shard by message and gets a
//! [`report::ShardReport`], a copy; merging and rendering are the reader's work.
pub mod counters;
pub mod histograms;
pub mod labels;
pub mod report;

pub use counters::Counters;
pub use histograms::ShardHistograms;
pub use labels::{AuthFailure, DropReason, Ending, EngineEnd, HandshakeRefusal, Recovered, TlsFailure, TlsHandshake};
pub use report::{ShardReport, StoreReport};
