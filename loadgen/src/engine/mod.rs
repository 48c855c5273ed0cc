//! The load itself: workers on io_uring, each with a part of the clients, and the coordinator that keeps them in step.
//!
//! ```text
//! mod (run)   splits the clients over workers, starts them, watches stages and seconds, adds everything up
//! worker      one thread and its rings: what is due, what has come, what is sent; asleep in between
//! stages      connect, traffic, settle, as a worker goes through them
//! connect     clients come, are lost, come back      traffic   what is due            receive   what comes in
//! disturb     storm and churn                        outbox    one send per turn      record    histograms
//! signals     stages, start, end                     control   stop, progress         link      one client, 12 bytes
//! ```
//!
//! A run goes through the stages connect → warm-up → measure → settle → leave. Every clock reading is ns since the start.
mod clock;
mod connect;
pub mod control;
mod disturb;
mod link;
mod names;
mod outbox;
mod receive;
pub mod record;
mod signals;
mod split;
mod stages;
mod traffic;
mod watch;
mod worker;

pub use clock::Clock;
pub use control::Control;
pub use names::Names;
pub use watch::Watched;

use self::record::{Seconds, Totals};
use self::signals::Signals;
use self::worker::{Shared, Worker, WorkerOutcome};
use crate::result::{ClientLoad, Counts, Integrity, Latency, Timed};
use crate::scenario::{Kind, Scenario};
use crate::server::Target;
use std::collections::BTreeMap;

/// What to run, and with what.
pub struct EngineOptions<'a> {
    pub scenario: &'a Scenario,
    pub target: &'a Target,
    /// Worker threads; `None`: one per core.
    pub workers: Option<u32>,
    /// Cores that the workers may use; empty: all.
    pub cores: Vec<u32>,
    pub seed: u64,
    /// Makes the names of users and rooms of this run its own.
    pub salt: u64,
}

/// What the engine fills in of a `RunResult`.
pub struct EngineOutcome {
    pub counts: Counts,
    pub latency: BTreeMap<Timed, Latency>,
    pub integrity: Integrity,
    pub client: ClientLoad,
    /// Seconds, the server's cost and its own words.
    pub watched: Watched,
    /// Ended early by `Control::stop`.
    pub is_interrupted: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{0}")]
    Usage(String),
    #[error("cannot set up a ring for the clients: {0}")]
    Ring(throng::plane::SetupError),
    #[error("{0}")]
    Failed(String),
    /// Another worker has failed and says why.
    #[error("the run was ended")]
    Aborted,
}

/// The kind of latency that stands for a scenario: what its plots over time show, and `latency.*` of its targets.
pub fn main_timed(scenario: &Scenario) -> Timed {
    let has = |kind| scenario.traffic.iter().any(|line| line.kind == kind && line.rate_per_s > 0.0);
    match () {
        () if has(Kind::Live) => Timed::Live,
        () if has(Kind::Durable) => Timed::Durable,
        () if scenario.storm.is_some() || scenario.churn.is_some() => Timed::Handshake,
        () if scenario.heartbeat_ms > 0 => Timed::Heartbeat,
        () => Timed::Handshake,
    }
}

/// Whether messages of the layer's rooms are durable: then clients that come back recover.
fn is_durable(scenario: &Scenario, layer: usize) -> bool {
    let name = &scenario.layers[layer].name;
    scenario.traffic.iter().any(|line| line.kind == Kind::Durable && &line.layer == name)
}

/// Runs a scenario against a server, from the first connect to the last goodbye.
pub fn run(options: &EngineOptions, control: &Control) -> Result<EngineOutcome, EngineError> {
    throng::plane::os::raise_nofile_limit();
    let parts = split::parts(options.scenario, options.workers, options.cores.len())?;
    let workers = parts.len() as u32;
    let shared = Shared {
        scenario: options.scenario,
        target: options.target,
        clock: Clock::start(),
        names: Names::new(options.salt),
        seed: options.seed,
        control,
        signals: Signals::new(workers, options.scenario),
        seconds: Seconds::default(),
        workers,
        main: main_timed(options.scenario),
    };
    let run_worker = |index: u32, part: std::ops::Range<u32>| {
        let outcome = crate::server::cores::bind(&options.cores)
            .map_err(EngineError::Failed)
            .and_then(|()| Worker::new(&shared, index, part))
            .and_then(Worker::run);
        if outcome.is_err() {
            shared.signals.abort();
        }
        outcome
    };
    let watch = watch::Watch::new(&shared);
    std::thread::scope(|scope| {
        let spawn = |(index, part): (usize, &std::ops::Range<u32>)| {
            let (run_worker, part) = (&run_worker, part.clone());
            let builder = std::thread::Builder::new().name(format!("load-{index}"));
            builder.spawn_scoped(scope, move || run_worker(index as u32, part)).map_err(|error| {
                shared.signals.abort();
                EngineError::Failed(format!("cannot start a worker thread: {error}"))
            })
        };
        let threads: Vec<_> = parts.iter().enumerate().map(spawn).collect();
        let watched = watch.run();
        let mut sum = WorkerOutcome::default();
        let (mut loads, mut integrities) = (Vec::new(), Vec::new());
        let mut failure = None;
        for thread in threads {
            match thread.and_then(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))) {
                Ok(outcome) => {
                    loads.push(outcome.load);
                    add(&mut sum.counts, outcome.counts);
                    integrities.push(outcome.integrity);
                    sum.totals.merge(outcome.totals);
                }
                // The first cause rather than its consequence.
                Err(error) => {
                    if matches!(failure, None | Some(EngineError::Aborted)) {
                        failure = Some(error);
                    }
                }
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        sum.integrity = crate::check::total(integrities);
        Ok(outcome(options, sum, loads, watched?, control.is_stopped()))
    })
}

fn outcome(
    options: &EngineOptions,
    sum: WorkerOutcome,
    workers: Vec<crate::result::WorkerLoad>,
    watched: Watched,
    is_interrupted: bool,
) -> EngineOutcome {
    let totals: Totals = sum.totals;
    let client = ClientLoad {
        workers,
        cores: options.cores.clone(),
        rss_before_bytes: watched.client_rss_before_bytes,
        rss_connected_bytes: watched.client_rss_connected_bytes,
        lag: totals.lag(),
        cpu_ns: watched.client_cpu_ns,
    };
    let mut counts = sum.counts;
    counts.measured_ns = watched.measured_ns;
    EngineOutcome { counts, latency: totals.latency(), integrity: sum.integrity, client, watched, is_interrupted }
}

fn add(sum: &mut Counts, part: Counts) {
    fn add_map<K: Ord>(sum: &mut BTreeMap<K, u64>, part: BTreeMap<K, u64>) {
        part.into_iter().for_each(|(key, count)| *sum.entry(key).or_default() += count);
    }
    sum.connected += part.connected;
    sum.connect_failed += part.connect_failed;
    sum.connect_span_ns = sum.connect_span_ns.max(part.connect_span_ns);
    sum.broken += part.broken;
    sum.reconnected += part.reconnected;
    sum.storm_span_ns = sum.storm_span_ns.max(part.storm_span_ns);
    sum.close_span_ns = sum.close_span_ns.max(part.close_span_ns);
    sum.recovered += part.recovered;
    sum.not_recovered += part.not_recovered;
    add_map(&mut sum.sent, part.sent);
    add_map(&mut sum.delivered, part.delivered);
    sum.acked += part.acked;
    sum.duplicate_acks += part.duplicate_acks;
    add_map(&mut sum.refused, part.refused);
    add_map(&mut sum.closed, part.closed);
    sum.measured_sent += part.measured_sent;
    sum.measured_delivered += part.measured_delivered;
    sum.measured_acked += part.measured_acked;
    sum.measured_heartbeats += part.measured_heartbeats;
    sum.bytes_sent += part.bytes_sent;
    sum.bytes_received += part.bytes_received;
}
