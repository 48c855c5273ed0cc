//! Where the pages get their numbers, and how they ask without ever hanging.
use super::flight::Flight;
use crate::telemetry::report::{ShardReport, StoreReport};
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The rest of the process, as the services see it. Boot implements it over the mailboxes. All methods are called from
/// threads that may block for a moment; none may block without bound.
pub trait Source: Send + Sync + 'static {
    /// Shards are numbered 0 to `shards` − 1.
    fn shards(&self) -> u16;
    /// Asks one shard for a report, to be sent once. False if its mailbox is full.
    fn request(&self, shard: u16, reply: Sender<Box<ShardReport>>) -> bool;
    /// None before there is a store.
    fn store(&self) -> Option<StoreReport>;
    /// Whether the store accepts a write now. Answers within a bounded time.
    fn store_ready(&self) -> bool;
    /// True from the moment a drain begins (R-CONN-6).
    fn is_draining(&self) -> bool;
    /// True once listeners accept and all back ends are connected.
    fn is_started(&self) -> bool;
}

/// How long a report may take. A shard's turn is a few milliseconds; one that does not answer in this time is stuck.
pub const REPORT_DEADLINE: Duration = Duration::from_millis(500);

/// Upper bound for one collection or probe, everything included. Beyond it the page says so.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// How long `/readyz` believes an earlier probe: anyone may ask, and each probe is a write to the disk.
pub const PROBE_MAX_AGE: Duration = Duration::from_secs(1);

/// The newest that is known of one shard.
#[derive(Clone)]
pub struct ShardState {
    pub shard: u16,
    /// False if it did not answer this time.
    pub is_responding: bool,
    /// Its newest report. One from an earlier collection stands in for a missing one: sums that fell and rose again
    /// would look to Prometheus like a restart, and count everything twice.
    pub report: Option<Arc<ShardReport>>,
}

/// One round of reports.
pub struct Collected {
    pub shards: Vec<ShardState>,
    pub store: Option<StoreReport>,
}

impl Collected {
    /// All reports there are.
    pub fn reports(&self) -> impl Iterator<Item = &ShardReport> {
        self.shards.iter().filter_map(|state| state.report.as_deref())
    }
}

/// Asks, one round at a time: requests that come while a round runs share the next one.
pub struct Collector {
    source: Arc<dyn Source>,
    reports: Flight<Arc<Collected>>,
    probe: Flight<bool>,
}

impl Collector {
    pub fn new(source: Arc<dyn Source>) -> Collector {
        Collector { source, reports: Flight::new(), probe: Flight::new() }
    }

    /// A round of reports that began after this call. None if it did not end within `ANSWER_DEADLINE`.
    pub async fn collect(&self) -> Option<Arc<Collected>> {
        let source = self.source.clone();
        let round = move |previous: Option<Arc<Collected>>| Arc::new(gather(&*source, previous.as_deref()));
        self.reports.get(Duration::ZERO, ANSWER_DEADLINE, round).await
    }

    /// Why the server is not ready: constant words, none when it is (R-OPS-2).
    pub async fn unready_reasons(&self) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if !self.source.is_started() {
            reasons.push("starting");
        }
        if self.source.is_draining() {
            reasons.push("draining");
        }
        let source = self.source.clone();
        match self.probe.get(PROBE_MAX_AGE, ANSWER_DEADLINE, move |_| source.store_ready()).await {
            Some(true) => {}
            Some(false) => reasons.push("store_refuses_writes"),
            None => reasons.push("store_does_not_answer"),
        }
        reasons
    }
}

fn gather(source: &dyn Source, previous: Option<&Collected>) -> Collected {
    let count = source.shards();
    // Room for one report of each shard, so none of them can ever wait here.
    let (reply, reports) = crossbeam_channel::bounded(usize::from(count).max(1));
    let asked = (0..count).filter(|shard| source.request(*shard, reply.clone())).count();
    drop(reply);
    let mut shards: Vec<ShardState> =
        (0..count).map(|shard| ShardState { shard, is_responding: false, report: None }).collect();
    let deadline = Instant::now() + REPORT_DEADLINE;
    for _ in 0..asked {
        // An error is the deadline, or that all who were asked are gone.
        let Ok(report) = reports.recv_deadline(deadline) else { break };
        if let Some(state) = shards.get_mut(usize::from(report.shard)) {
            state.is_responding = true;
            state.report = Some(Arc::from(report));
        }
    }
    for state in shards.iter_mut().filter(|state| !state.is_responding) {
        state.report = previous.and_then(|old| old.shards.get(usize::from(state.shard))?.report.clone());
    }
    Collected { shards, store: source.store() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shard 0 answers, shard 1 drops the request, shard 2 has a full mailbox.
    struct Half {
        is_whole: std::sync::atomic::AtomicBool,
    }

    impl Source for Half {
        fn shards(&self) -> u16 {
            3
        }
        fn request(&self, shard: u16, reply: Sender<Box<ShardReport>>) -> bool {
            if shard == 0 || self.is_whole.load(std::sync::atomic::Ordering::Relaxed) {
                let report = ShardReport { shard, connections: 10 + u64::from(shard), ..Default::default() };
                return reply.send(Box::new(report)).is_ok();
            }
            shard == 1
        }
        fn store(&self) -> Option<StoreReport> {
            None
        }
        fn store_ready(&self) -> bool {
            true
        }
        fn is_draining(&self) -> bool {
            false
        }
        fn is_started(&self) -> bool {
            true
        }
    }

    #[test]
    fn shards_that_do_not_answer_are_marked_and_their_last_report_stands_in() {
        let source = Half { is_whole: true.into() };
        let seen = |round: &Collected| -> Vec<(bool, Option<u64>)> {
            let of = |state: &ShardState| (state.is_responding, state.report.as_ref().map(|report| report.connections));
            round.shards.iter().map(of).collect()
        };
        let whole = gather(&source, None);
        assert_eq!(seen(&whole), [(true, Some(10)), (true, Some(11)), (true, Some(12))]);
        source.is_whole.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(seen(&gather(&source, None)), [(true, Some(10)), (false, None), (false, None)]);
        assert_eq!(seen(&gather(&source, Some(&whole))), [(true, Some(10)), (false, Some(11)), (false, Some(12))]);
    }
}
