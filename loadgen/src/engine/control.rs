//! What other threads may say to a running load, and what they may see of it while it runs.
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Shared by the command, the coordinator and the workers. Everything is a hint that may be a moment old.
#[derive(Debug, Default)]
pub struct Control {
    /// Set by whoever wants the run to end early: traffic stops, what is under way is awaited, the outcome says `interrupted`.
    pub stop: AtomicBool,
    pub progress: Progress,
}

/// For progress bars.
#[derive(Debug, Default)]
pub struct Progress {
    /// `result::Phase` as a number: 0 connect, 1 warm-up, 2 measure, 3 settle.
    pub phase: AtomicU8,
    /// Connections that are signed in and in their rooms.
    pub ready: AtomicU64,
    /// Stamped messages and heartbeats sent, and what was delivered or answered, since the start.
    pub sent: AtomicU64,
    pub delivered: AtomicU64,
    /// p99 of the last whole second, ns.
    pub p99_ns: AtomicU64,
    /// When the present phase began and is to end, ns since the start; end 0: not known.
    pub phase_from_ns: AtomicU64,
    pub phase_until_ns: AtomicU64,
}

impl Control {
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
