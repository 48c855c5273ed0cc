//! How workers and coordinator keep in step: stages that all must reach, one start, one record of everything that was sent.
use super::clock::seconds;
use crate::check::Sent;
use crate::scenario::{Scenario, Time};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// Points at which every worker reports.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// All its clients are signed in and in their rooms.
    Connected,
    /// Has told what it sent.
    HandedIn,
    /// Everything that had to come has come, or it has waited long enough.
    Settled,
}

/// When traffic begins, the measured window begins, and both end; ns since the start.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub go_ns: u64,
    pub measure_ns: u64,
    pub until_ns: u64,
}

pub struct Signals {
    workers: u32,
    arrived: [AtomicU32; 3],
    /// 0: not yet.
    go_ns: AtomicU64,
    is_aborted: AtomicBool,
    handed_in: Mutex<Option<Sent>>,
    all_sent: OnceLock<Sent>,
}

impl Signals {
    pub fn new(workers: u32, scenario: &Scenario) -> Signals {
        Signals {
            workers,
            arrived: Default::default(),
            go_ns: AtomicU64::new(0),
            is_aborted: AtomicBool::new(false),
            handed_in: Mutex::new(Some(Sent::new(scenario))),
            all_sent: OnceLock::new(),
        }
    }

    pub fn arrive(&self, stage: Stage) {
        self.arrived[stage as usize].fetch_add(1, Ordering::AcqRel);
    }

    pub fn have_arrived(&self, stage: Stage) -> bool {
        self.arrived[stage as usize].load(Ordering::Acquire) >= self.workers
    }

    /// Traffic begins at `go_ns`, a moment ahead, for all.
    pub fn go(&self, go_ns: u64) {
        self.go_ns.store(go_ns.max(1), Ordering::Release);
    }

    pub fn go_ns(&self) -> Option<u64> {
        Some(self.go_ns.load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    pub fn times(&self, time: &Time) -> Option<Times> {
        let go_ns = self.go_ns()?;
        let measure_ns = go_ns + seconds(time.warmup_s);
        Some(Times { go_ns, measure_ns, until_ns: measure_ns + seconds(time.measure_s) })
    }

    pub fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
    }

    pub fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Acquire)
    }

    /// The last one to hand in makes the sum known to all.
    pub fn hand_in(&self, sent: Sent) {
        let mut sum = self.handed_in.lock().expect("no holder panics");
        if let Some(all) = sum.as_mut() {
            all.merge(&sent);
        }
        self.arrive(Stage::HandedIn);
        if self.have_arrived(Stage::HandedIn)
            && let Some(all) = sum.take()
        {
            let _ = self.all_sent.set(all);
        }
    }

    pub fn all_sent(&self) -> Option<&Sent> {
        self.all_sent.get()
    }
}
