//! Single facts of a result, in figures and words: what the tables, the page and its summary are made of.
use super::metric;
use super::units::{bytes, count, utc};
use crate::result::{Integrity, Latency, Miss, Outcome, RunResult, Timed};

/// Most of the figures below are of the measured window; this is its length.
pub(super) fn measured_s(result: &RunResult) -> f64 {
    result.counts.measured_ns as f64 / 1e9
}

/// Per second of the measured window; NaN if there was none.
pub(super) fn per_second(result: &RunResult, events: u64) -> f64 {
    if result.counts.measured_ns == 0 { f64::NAN } else { events as f64 / measured_s(result) }
}

/// What the targets are judged by is what is shown; what the verdict did not work out is worked out here.
pub(super) fn known(result: &RunResult, name: &str, else_by: impl FnOnce() -> Option<f64>) -> Option<f64> {
    result.metrics.get(name).copied().or_else(else_by).filter(|value| value.is_finite())
}

pub(super) fn over(amount: f64, events: u64) -> Option<f64> {
    (events > 0).then(|| amount / events as f64)
}

pub(super) fn server_cpu_ns(result: &RunResult) -> Option<f64> {
    Some((result.server.cpu_user_ns? + result.server.cpu_system_ns?) as f64)
}

pub(super) fn cpu_ns_per_delivery(result: &RunResult) -> Option<f64> {
    let own = || over(server_cpu_ns(result)?, result.counts.measured_delivered);
    // The metric is in µs, as its name says.
    known(result, "server.cpu_us_per_delivery", || own().map(|ns| ns / 1e3)).map(|us| us * 1e3)
}

pub(super) fn server_cores(result: &RunResult) -> Option<f64> {
    let cpu_ns = server_cpu_ns(result)?;
    over(cpu_ns, result.counts.measured_ns)
}

pub(super) fn rss_per_connection(result: &RunResult) -> Option<f64> {
    let server = &result.server;
    known(result, "server.rss_bytes_per_connection", || {
        let grown = server.rss_connected_bytes?.saturating_sub(server.rss_before_bytes?);
        over(grown as f64, result.counts.connected)
    })
}

pub(super) fn kernel_per_connection(result: &RunResult) -> Option<f64> {
    known(result, "server.kernel_bytes_per_connection", || {
        let (before, after) = (result.server.slab_before.get("Slab")?, result.server.slab_connected.get("Slab")?);
        over(after.saturating_sub(*before) as f64, result.counts.connected)
    })
}

/// PASSED, MISSED or INVALID.
pub(super) const fn verdict_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "PASSED",
        Outcome::Missed => "MISSED",
        Outcome::Invalid => "INVALID",
    }
}

/// Why the verdict is what it is, the gravest first.
pub(super) fn reasons(result: &RunResult) -> Vec<String> {
    let verdict = &result.verdict;
    let mut reasons = verdict.invalid.clone();
    let integrity = &result.integrity;
    if !integrity.is_sound() {
        reasons.push(format!("deliveries are not sound: {}", integrity_line(result)));
    }
    let measured =
        |miss: &Miss| miss.measured.map_or("not measured".to_owned(), |value| metric::figure(&miss.metric, value));
    reasons.extend(verdict.misses.iter().map(|miss| {
        format!("{} is {}, bound {}", miss.metric, measured(miss), metric::bound(&miss.metric, &miss.bound))
    }));
    reasons.extend(
        result.witness.contradictions.iter().map(|contradiction| format!("the witnesses contradict: {contradiction}")),
    );
    reasons
}

/// What of a run is worth a target of its own: the delivery that was measured most often.
pub(super) fn main_latency(result: &RunResult) -> Option<(Timed, &Latency)> {
    let measured =
        |timed: Timed| result.latency.get(&timed).filter(|latency| latency.count > 0).map(|latency| (timed, latency));
    let deliveries = [Timed::Live, Timed::Durable].into_iter().filter_map(measured);
    deliveries
        .max_by_key(|(_, latency)| latency.count)
        .or_else(|| [Timed::Heartbeat, Timed::Ack, Timed::Join, Timed::Handshake].into_iter().find_map(measured))
}

/// In words: what was timed.
pub(super) const fn timed_words(timed: Timed) -> &'static str {
    match timed {
        Timed::Handshake => "connections",
        Timed::Join => "joins",
        Timed::Heartbeat => "heartbeat answers",
        Timed::Live => "live deliveries",
        Timed::Ack => "acknowledgements",
        Timed::Durable => "durable deliveries",
    }
}

/// What ran where, one line each: name and value.
pub(super) fn setting(result: &RunResult) -> Vec<(&'static str, String)> {
    let (scenario, machine, server) = (&result.scenario, &result.machine, &result.server);
    let shards = server.shards.map_or(String::new(), |shards| format!(", {shards} shards"));
    let bound =
        |cores: &[u32]| if cores.is_empty() { "any core".to_owned() } else { format!("cores {}", ranges(cores)) };
    vec![
        ("server", format!("{}{shards}, on {}", server_name(result), bound(&server.cores))),
        (
            "client",
            format!(
                "throng-loadgen {}, {} workers, on {}",
                machine.loadgen_version,
                result.client.workers.len(),
                bound(&result.client.cores)
            ),
        ),
        (
            "load",
            format!(
                "{} connections; {} s warm-up, {} s measured",
                count(scenario.connections.into()),
                scenario.time.warmup_s,
                (measured_s(result) * 10.0).round() / 10.0
            ),
        ),
        (
            "machine",
            format!(
                "{}: {}, {} cores, {}, {}",
                machine.hostname,
                machine.cpu,
                machine.cores,
                bytes(machine.memory_bytes as f64),
                machine.kernel
            ),
        ),
        ("begun", utc(result.started_at)),
    ]
}

pub(super) fn server_name(result: &RunResult) -> String {
    match &result.server.version {
        Some(version) if !result.server_name.contains(version.as_str()) => format!("{} {version}", result.server_name),
        _ => result.server_name.clone(),
    }
}

/// `0-3,6`.
fn ranges(cores: &[u32]) -> String {
    let runs = cores.chunk_by(|a, b| a + 1 == *b);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// Deliveries that were not as they had to be.
pub(super) fn faults(integrity: &Integrity) -> u64 {
    let misplaced = integrity.duplicated + integrity.reordered + integrity.foreign + integrity.offset_faults;
    integrity.unexplained() + misplaced + integrity.unanswered
}

/// One line: were all deliveries right?
pub(super) fn integrity_line(result: &RunResult) -> String {
    let integrity = &result.integrity;
    let mut parts = vec![format!("{} of {} deliveries came", count(integrity.delivered), count(integrity.expected))];
    let faults =
        [(integrity.unexplained(), "lost"), (integrity.duplicated, "twice"), (integrity.reordered, "out of order")];
    parts.extend(faults.iter().map(|(number, word)| format!("{} {word}", count(*number))));
    let rare = [
        (integrity.unanswered, "heartbeats unanswered"),
        (integrity.foreign, "that nobody sent"),
        (integrity.offset_faults, "with a wrong offset"),
        (integrity.skipped_live, "skipped for slow readers"),
        (integrity.missed_away, "not due because the receiver was away"),
        (integrity.closed_slow, "slow readers closed"),
    ];
    parts.extend(
        rare.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{} {word}", count(*number))),
    );
    parts.join(", ")
}
