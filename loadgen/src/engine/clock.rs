//! The run's clock: ns since its start, the same for all threads.
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// The run begins now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// For threads that pace themselves with `Instant`s.
    pub fn instant(&self, at_ns: u64) -> Instant {
        self.start + Duration::from_nanos(at_ns)
    }
}

/// CPU time of the calling thread, ns.
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// Seconds as a scenario writes them.
pub fn seconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}
