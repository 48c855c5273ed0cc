//! What a run found out: the one record behind the table, the JSON and the HTML page.
//!
//! Durations are ns in `…_ns`, times since the start of the run; bytes and counts are whole numbers.
use crate::scenario::Scenario;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this record in JSON; counts up when a field changes its meaning.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub format: u32,
    /// When the run began, Unix ms.
    pub started_at: u64,
    /// What was measured: "throng", or the name of a peer; with its version where it tells one.
    pub server_name: String,
    /// How it was called, ready to be repeated.
    pub command: String,
    pub scenario: Scenario,
    pub machine: Machine,
    pub counts: Counts,
    /// By what was timed: see `Timed`.
    pub latency: BTreeMap<Timed, Latency>,
    pub integrity: Integrity,
    /// One entry per second, warm-up and settling included.
    pub series: Vec<Second>,
    pub server: ServerCost,
    pub client: ClientLoad,
    pub witness: Witness,
    /// What plain clients found, if they were asked for (`--verify`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Every figure that a target may bound, by its dotted name (`latency.p99_ms`): see `verdict::metrics`.
    pub metrics: BTreeMap<String, f64>,
    pub verdict: Verdict,
}

/// What a latency is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timed {
    /// From the intended start of a connection to the answer of the upgrade.
    Handshake,
    /// From sending a join to its ack.
    Join,
    /// From the intended time of a heartbeat to its answer.
    Heartbeat,
    /// From the intended time of a live event to its delivery, each delivery a sample.
    Live,
    /// From the intended time of a durable message to its ack.
    Ack,
    /// From the intended time of a durable message to its delivery, each delivery a sample.
    Durable,
}

impl Timed {
    pub const ALL: [Timed; 6] =
        [Timed::Handshake, Timed::Join, Timed::Heartbeat, Timed::Live, Timed::Ack, Timed::Durable];

    pub const fn name(self) -> &'static str {
        match self {
            Timed::Handshake => "handshake",
            Timed::Join => "join",
            Timed::Heartbeat => "heartbeat",
            Timed::Live => "live",
            Timed::Ack => "ack",
            Timed::Durable => "durable",
        }
    }
}

/// A distribution, counted from the intended time; beside it the service time, counted from the actual send. Where the two part,
/// the client or a queue was late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub response: Percentiles,
    pub service: Percentiles,
    /// Points of the percentile curve of `response`: percentile (0 to 100), ns.
    pub curve: Vec<(f64, u64)>,
    /// The whole of `response`, HdrHistogram V2 in base64.
    pub histogram: String,
}

/// All in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
    pub mean: f64,
}

/// Totals. `measured_*` are of the measured window alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub connected: u64,
    pub connect_failed: u64,
    /// Time from the first connect to the last join, ns.
    pub connect_span_ns: u64,
    /// Connections that the scenario broke on purpose.
    pub broken: u64,
    pub reconnected: u64,
    /// From the storm until all were ready again, the slowest worker's, ns; 0: no storm, or not all came back.
    pub storm_span_ns: u64,
    /// From the first goodbye until the last connection had ended, ns.
    pub close_span_ns: u64,
    pub recovered: u64,
    pub not_recovered: u64,
    pub sent: BTreeMap<String, u64>,
    pub delivered: BTreeMap<String, u64>,
    pub acked: u64,
    /// Acks that said `duplicate`: the message was said again after a lost connection, and had arrived the first time.
    pub duplicate_acks: u64,
    /// Errors that the server answered, by code.
    pub refused: BTreeMap<String, u64>,
    /// Connections that ended without the scenario asking for it, by close code (1006: without one).
    pub closed: BTreeMap<u16, u64>,
    pub measured_ns: u64,
    pub measured_sent: u64,
    pub measured_delivered: u64,
    pub measured_acked: u64,
    pub measured_heartbeats: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

/// What the checker found over the whole run. `is_sound` decides whether the run may pass at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Integrity {
    /// Deliveries that had to come.
    pub expected: u64,
    pub delivered: u64,
    /// Durable deliveries that never came, though the server had acked the message.
    pub lost_durable: u64,
    /// Live deliveries that never came.
    pub lost_live: u64,
    /// Of `lost_live`: what the server says it skipped for slow readers.
    pub skipped_live: u64,
    /// Messages sent while their receiver was away, and so neither expected nor lost (of live ones all, of durable ones where the
    /// server did not recover them).
    #[serde(default)]
    pub missed_away: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Deliveries with a stamp nobody sent, or in the wrong room.
    pub foreign: u64,
    /// Slow readers that the server closed with 4101, as it should.
    pub closed_slow: u64,
    /// Heartbeats that no answer came to, though the connection held.
    #[serde(default)]
    pub unanswered: u64,
    /// Durable offsets that did not grow, or changed their epoch. (They may jump: other events take offsets too.)
    pub offset_faults: u64,
    /// The first faults, one sentence each.
    pub examples: Vec<String>,
}

impl Integrity {
    /// Losses without an explanation.
    pub fn unexplained(&self) -> u64 {
        self.lost_durable + self.lost_live.saturating_sub(self.skipped_live)
    }

    pub fn is_sound(&self) -> bool {
        self.unexplained() == 0
            && self.duplicated == 0
            && self.reordered == 0
            && self.foreign == 0
            && self.unanswered == 0
            && self.offset_faults == 0
    }
}

/// One second of the run. Latencies are of the deliveries and answers that came in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Start of the second since the start of the run, s.
    pub t_s: f64,
    pub phase: Phase,
    pub connected: u64,
    pub sent: u64,
    pub delivered: u64,
    pub acked: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    /// Cores used, 1.0 is one whole core.
    pub server_cores: f64,
    pub client_cores: f64,
    pub server_rss_bytes: u64,
    pub client_rss_bytes: u64,
    /// Kernel slab of the whole machine, if readable.
    pub kernel_slab_bytes: Option<u64>,
    /// Worst lag of a send behind its intended time in this second.
    pub lag_max_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Connect,
    Warmup,
    Measure,
    Settle,
}

/// What the server used, from /proc. Of the measured window unless said otherwise; `None`: not readable (a remote server).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerCost {
    pub pid: Option<u32>,
    pub version: Option<String>,
    pub shards: Option<u32>,
    /// Cores it was bound to.
    pub cores: Vec<u32>,
    pub cpu_user_ns: Option<u64>,
    pub cpu_system_ns: Option<u64>,
    /// Busiest thread: name and share of one core.
    pub busiest_thread: Option<(String, f64)>,
    /// Resident before the first connection, and when all were connected and quiet.
    pub rss_before_bytes: Option<u64>,
    pub rss_connected_bytes: Option<u64>,
    pub rss_max_bytes: Option<u64>,
    /// Kernel slab of the machine at the same two moments, by cache where readable: it holds both ends of a loopback connection.
    pub slab_before: BTreeMap<String, u64>,
    pub slab_connected: BTreeMap<String, u64>,
    /// CPU of the connect phase, ns.
    pub cpu_connect_ns: Option<u64>,
}

/// What the load generator itself used, and whether it kept up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientLoad {
    pub workers: Vec<WorkerLoad>,
    pub cores: Vec<u32>,
    pub rss_before_bytes: u64,
    pub rss_connected_bytes: u64,
    /// How far actual sends were behind their intended times, measured window.
    pub lag: Percentiles,
    pub cpu_ns: u64,
}

/// One worker thread, in the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerLoad {
    pub connections: u64,
    /// Share of the window that the thread was on a CPU, 0 to 1.
    pub busy: f64,
    /// Share of the time that it was not waiting for anything to do, 0 to 1, in its worst second.
    pub busy_max: f64,
    /// Bytes that the kernel did not take at once, at most.
    pub unsent_bytes_max: u64,
    pub lag_max_ns: u64,
}

/// What the server says itself, beside what the clients saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// Whether the server exports histograms and counters at all.
    pub is_present: bool,
    /// The server's own histograms over the measured window, by name.
    pub histograms: BTreeMap<String, Percentiles>,
    pub histogram_counts: BTreeMap<String, u64>,
    /// The server's counters over the whole run (end − start) that the verdict uses, by metric name and labels.
    pub counters: BTreeMap<String, f64>,
    /// Where the two contradict each other, one sentence each. Empty: they agree.
    pub contradictions: Vec<String>,
}

/// What the second implementation of the protocol found in its own short run before the load: see `verify`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    pub connections: u32,
    /// Everything sent, heartbeats included.
    pub messages: u64,
    pub acked: u64,
    pub integrity: Integrity,
    /// From the intended time, as `Latency::response`.
    pub latency: BTreeMap<Timed, Percentiles>,
    /// Breaches of the protocol's description, and connections that ended.
    pub faults: u64,
    /// The first of them, one sentence each.
    pub fault_examples: Vec<String>,
    /// Where the load's own client must have overlooked something, one sentence each.
    pub contradictions: Vec<String>,
}

impl Verification {
    pub fn is_sound(&self) -> bool {
        self.integrity.is_sound() && self.faults == 0 && self.contradictions.is_empty()
    }
}

/// Where it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub hostname: String,
    pub kernel: String,
    pub cpu: String,
    pub cores: u32,
    pub memory_bytes: u64,
    pub nofile_limit: u64,
    pub memlock_limit: Option<u64>,
    /// Sysctls that matter, by name.
    pub sysctls: BTreeMap<String, String>,
    pub transparent_hugepages: Option<String>,
    pub clock_source: Option<String>,
    /// Load average of the last minute before the start.
    pub load_average: f64,
    pub is_virtual: Option<bool>,
    /// Commit of the checkout that the load generator was built in, if known.
    pub commit: Option<String>,
    pub loadgen_version: String,
}

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    /// Why the run is invalid, one sentence each.
    pub invalid: Vec<String>,
    /// Bounds that were missed.
    pub misses: Vec<Miss>,
    /// Bounds that were met.
    pub met: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Sound, valid, all targets met.
    #[default]
    Passed,
    /// A target was missed, or a delivery was lost, doubled or reordered. Exit code 1.
    Missed,
    /// The figures say nothing about the server. Exit code 2.
    Invalid,
}

impl Outcome {
    pub const fn exit_code(self) -> u8 {
        match self {
            Outcome::Passed => 0,
            Outcome::Missed => 1,
            Outcome::Invalid => 2,
        }
    }
}

/// A bound and what was measured instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    pub metric: String,
    pub bound: String,
    pub measured: Option<f64>,
}
