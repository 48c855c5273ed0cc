//! The prices of the model: what each kind of work costs in CPU, and what connections and rooms cost in memory.
//!
//! CPU of a server is the sum of
//!
//! | feature | price |
//! |---|---|
//! | deliveries | handing one event to one member, without the send that carries it |
//! | sends | one send of the ring: shared by all deliveries gathered in it, see [`super::gather`] |
//! | payload bytes delivered | copying and checksums |
//! | messages received | reading, checking, publishing |
//! | durable messages | the same, and storing and acknowledging, without the commit |
//! | commits | one transaction, synced: shared by all messages gathered in it, see [`super::commits`] |
//! | heartbeats | read and answered |
//! | connections | timers and pings of those that are quiet |
//! | shards | what an idle server burns |
use super::commits::CommitLaw;
use super::fit::{Coefficient, Feature, Prices};
use super::gather::GatherLaw;
use super::linear::t95;
use super::work::{MeasuredPoint, Work};

pub const DELIVERY: &str = "delivery";
pub const SEND: &str = "send";
pub const PAYLOAD_BYTE: &str = "payload byte delivered";
pub const RECEIVED: &str = "message received";
pub const DURABLE: &str = "durable message";
pub const COMMIT: &str = "commit";
pub const HEARTBEAT: &str = "heartbeat";
pub const IDLE: &str = "idle connection and second";
pub const SHARD: &str = "idle shard and second";

const CPU: [Feature; 9] = [
    (DELIVERY, "µs"),
    (SEND, "µs"),
    (PAYLOAD_BYTE, "µs"),
    (RECEIVED, "µs"),
    (DURABLE, "µs"),
    (HEARTBEAT, "µs"),
    (IDLE, "µs"),
    (SHARD, "µs"),
    // Behind the others: models of before it was known are read, too.
    (COMMIT, "µs"),
];

pub const CONNECTION: &str = "connection";
pub const ACTIVE_CONNECTION: &str = "connection with traffic";
pub const DURABLE_ROOM: &str = "durable room";
pub const EVENT_KEPT: &str = "durable event kept";
pub const MAILBOX: &str = "mailbox between shards";
pub const PROCESS: &str = "process";

const RSS: [Feature; 6] = [
    (CONNECTION, "bytes"),
    (PROCESS, "bytes"),
    (ACTIVE_CONNECTION, "bytes more"),
    (DURABLE_ROOM, "bytes"),
    (MAILBOX, "bytes"),
    (EVENT_KEPT, "bytes"),
];

const KERNEL: [Feature; 1] = [(CONNECTION, "bytes")];

/// One mailbox between two shards, from docs/OPERATING.md ("Sizing"): what counts where only one number of shards was measured.
pub const MAILBOX_BYTES: f64 = 0.55e6;

/// CPU below this, in cores, is measured too coarsely to weigh by its share.
const CPU_CORES_SMALL: f64 = 0.02;
const MEMORY_BYTES_SMALL: f64 = 4e6;

/// A handshake's price needs as many at least, in a run.
const HANDSHAKES_MIN: f64 = 200.0;

fn cpu_features(work: &Work, sends_per_s: f64, commits_per_s: f64) -> Vec<f64> {
    vec![
        work.deliveries_per_s,
        sends_per_s,
        work.payload_bytes_per_s,
        work.received_per_s,
        work.durable_per_s,
        work.heartbeats_per_s,
        work.connections,
        work.shards,
        commits_per_s,
    ]
}

fn rss_features(work: &Work) -> Vec<f64> {
    vec![
        work.connections,
        1.0,
        work.active_connections,
        work.durable_rooms,
        (work.shards + 1.0) * work.shards,
        work.events_kept,
    ]
}

/// CPU in µs per second. `efficiency` gives what share of a shard's time is not lost to the others: the points of several shard
/// counts are brought to one before they are fitted.
pub fn fit_cpu(
    points: &[MeasuredPoint],
    gather: Option<&GatherLaw>,
    commits: Option<&CommitLaw>,
    efficiency: impl Fn(f64) -> f64,
) -> Prices {
    let sends = |point: &MeasuredPoint| match (point.sends_per_s(), gather) {
        (Some(sends), Some(_)) => sends,
        (None, Some(law)) => law.sends_per_s(&point.work, point.utilisation()),
        // Not known how far they were gathered: a delivery's price is then that of the load it was measured at.
        (_, None) => point.work.deliveries_per_s,
    };
    // Not known: a durable message's price is that of the rate it was measured at, its commit included.
    let shared = |point: &MeasuredPoint| {
        commits.map_or(0.0, |law| point.commits_per_s.unwrap_or_else(|| law.commits_per_s(&point.work)))
    };
    let rows: Vec<Vec<f64>> =
        points.iter().map(|point| cpu_features(&point.work, sends(point), shared(point))).collect();
    let used: Vec<f64> = points.iter().map(|point| point.cpu_cores * 1e6 * efficiency(point.work.shards)).collect();
    Prices::fit(&CPU, &rows, &used, CPU_CORES_SMALL * 1e6)
}

pub fn cpu_cores(prices: &Prices, work: &Work, sends_per_s: f64, commits_per_s: f64) -> super::fit::Estimate {
    let used = prices.at(&cpu_features(work, sends_per_s, commits_per_s));
    super::fit::Estimate { value: used.value / 1e6, margin: used.margin.map(|margin| margin / 1e6) }
}

/// `None`: no point has the server's memory.
pub fn fit_rss(points: &[MeasuredPoint]) -> Option<Prices> {
    let known: Vec<(Vec<f64>, f64)> =
        points.iter().filter_map(|point| Some((rss_features(&point.work), point.rss_bytes?))).collect();
    let (rows, measured): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    (!rows.is_empty()).then(|| Prices::fit(&RSS, &rows, &measured, MEMORY_BYTES_SMALL))
}

/// Resident memory. Mailboxes are added by the documented size where the points do not tell it; `shards_measured` is how many
/// shards the process had whose memory was measured.
pub fn rss_bytes(prices: &Prices, work: &Work, shards_measured: f64) -> super::fit::Estimate {
    let mut estimate = prices.at(&rss_features(work));
    if prices.find(MAILBOX).is_some_and(|price| price.value.is_none()) {
        let mailboxes = |shards: f64| (shards + 1.0) * shards;
        estimate.value += MAILBOX_BYTES * (mailboxes(work.shards) - mailboxes(shards_measured)).max(0.0);
    }
    estimate
}

/// `None`: the kernel's slab is not readable there.
pub fn fit_kernel(points: &[MeasuredPoint]) -> Option<Prices> {
    let known: Vec<(Vec<f64>, f64)> = points
        .iter()
        .filter(|point| point.work.connections > 0.0)
        .filter_map(|point| Some((vec![point.work.connections], point.kernel_bytes?)))
        .collect();
    let (rows, measured): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    (!rows.is_empty()).then(|| Prices::fit(&KERNEL, &rows, &measured, MEMORY_BYTES_SMALL))
}

/// CPU of a handshake with sign-in and joins: median over the runs, and how far they scatter.
pub fn fit_handshake(points: &[MeasuredPoint]) -> Option<Coefficient> {
    let enough = points.iter().filter(|point| point.handshakes >= HANDSHAKES_MIN);
    let mut costs: Vec<f64> = enough.filter_map(|point| point.handshake_cpu_us).collect();
    costs.sort_by(f64::total_cmp);
    let n = costs.len();
    let median = *costs.get(n / 2)?;
    let mean = costs.iter().sum::<f64>() / n as f64;
    let variance = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / (n.max(2) - 1) as f64;
    Some(Coefficient {
        name: "handshake".into(),
        unit: "µs".into(),
        value: Some(median),
        error: (n > 1).then(|| variance.sqrt()),
        points: n,
        note: (n > 1).then(|| format!("median; 95 % of single runs within ± {:.0} µs", t95(n - 1) * variance.sqrt())),
    })
}
