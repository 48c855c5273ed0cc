//! The judgement of a run: do the figures say anything about the server, do its two witnesses agree, was it good enough.
//!
//! ```text
//! saturation       was the client the bottleneck? Then the run is invalid
//! contradictions   what clients saw against what the server says
//! metrics          every figure that a target may bound, by its name
//! targets          the bounds of a file
//! ```
//!
//! All of it reads the result and nothing else, so that a stored result can be judged again.
pub mod contradictions;
pub mod metrics;
mod names;
pub mod saturation;
pub mod targets;

use crate::result::{Counts, Integrity, Miss, Outcome, RunResult, Verdict, Witness};
use crate::scenario::Scenario;
use crate::server::witness::total;
pub use targets::{Targets, TargetsError};

/// Fills in what the server's counters explain, the contradictions, the metrics and the verdict.
pub fn judge(result: &mut RunResult, targets: Option<&Targets>) {
    explain(&mut result.integrity, &result.witness, &result.scenario, &result.counts);
    result.witness.contradictions = contradictions::find(result);
    // What a comparison has added stays.
    let others = std::mem::take(&mut result.metrics).into_iter().filter(|(name, _)| name.starts_with("vs."));
    let others: Vec<(String, f64)> = others.collect();
    result.metrics = metrics::of(result);
    result.metrics.extend(others);
    result.verdict = verdict(result, targets);
}

/// What the server says about losses and slow readers.
///
/// Skipped live events explain lost ones only where no connection is slow on purpose: the server counts what it skipped, not for
/// whom, and what it skipped for a slow reader must not excuse a loss of another.
pub fn explain(integrity: &mut Integrity, witness: &Witness, scenario: &Scenario, counts: &Counts) {
    let counted = |name: &str| witness.counters.get(name).map_or(0, |count| *count as u64);
    if scenario.slow_readers.is_none() {
        integrity.skipped_live = counted("throng_drops_total{reason=\"live_lagging\"}").min(integrity.lost_live);
    } else {
        integrity.skipped_live = 0;
        // A reader that reads nothing does not see its close. Good readers that were closed as slow are no part of it.
        let others = counts.closed.get(&4101).copied().unwrap_or(0);
        let closed = counted("throng_connections_closed_total{code=\"4101\"}").saturating_sub(others);
        integrity.closed_slow = integrity.closed_slow.max(closed);
    }
}

fn verdict(result: &RunResult, targets: Option<&Targets>) -> Verdict {
    let mut verdict = Verdict { invalid: saturation::reasons(result), ..Verdict::default() };
    if let Some(verification) = &result.verification {
        // Plain clients found what ours did not: then ours prove nothing.
        verdict.invalid.extend(verification.contradictions.iter().cloned());
    }
    if let Some(targets) = targets {
        (verdict.misses, verdict.met) = targets.judge(&result.scenario.name, &result.metrics);
    }
    for miss in faults(&result.metrics) {
        if !verdict.misses.iter().any(|known| known.metric == miss.metric) {
            verdict.misses.push(miss);
        }
    }
    verdict.outcome = match (verdict.invalid.is_empty(), verdict.misses.is_empty()) {
        (false, _) => Outcome::Invalid,
        (true, false) => Outcome::Missed,
        (true, true) => Outcome::Passed,
    };
    verdict
}

/// What no run may have, whatever its targets say.
fn faults(metrics: &std::collections::BTreeMap<String, f64>) -> Vec<Miss> {
    const NEVER: [&str; 9] = [
        "lost",
        "duplicated",
        "reordered",
        "foreign",
        "unanswered",
        "offset_faults",
        "closed",
        "away_at_end",
        "verify.faults",
    ];
    let miss = |name: &&str| {
        let measured = metrics.get(*name).copied().filter(|value| *value > 0.0)?;
        Some(Miss { metric: name.to_string(), bound: "<= 0".into(), measured: Some(measured) })
    };
    NEVER.iter().filter_map(miss).collect()
}

/// A family of the server's counters over the run; `None`: it exports none. A family that did not move is 0.
fn server_total(witness: &Witness, family: &str) -> Option<f64> {
    witness.is_present.then(|| total(&witness.counters, family).unwrap_or(0.0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::result::{ClientLoad, Latency, Percentiles, ServerCost, Timed, Verification, WorkerLoad};
    use crate::server::witness::Between;

    /// 1,000 clients in one room, ten senders, 100 live events a second for 10 s: a run without fault, judged by hand below.
    pub(crate) fn good() -> RunResult {
        let scenario: Scenario = toml::from_str(
            r#"
            name = "fanout"
            about = "x"
            connections = 1000
            time = { warmup_s = 1, measure_s = 10 }
            layer = [{ name = "stage", members = 0 }]
            traffic = [{ kind = "live", layer = "stage", senders = 10, rate_per_s = 10 }]
            "#,
        )
        .expect("a scenario");
        let spread = |p50: u64, p99: u64, max: u64| Percentiles {
            p50,
            p90: (p50 + p99) / 2,
            p99,
            p999: (p99 + max) / 2,
            p9999: max,
            max,
            mean: p50 as f64,
        };
        let latency = Latency {
            count: 999_000,
            response: spread(400_000, 2_000_000, 6_000_000),
            service: spread(390_000, 1_900_000, 5_900_000),
            ..Latency::default()
        };
        let between = Between::default();
        let witness = Witness {
            histograms: [("broadcast".to_string(), spread(300_000, 1_500_000, 5_000_000))].into(),
            histogram_counts: [("broadcast".to_string(), 1_000)].into(),
            counters: [
                ("throng_messages_received_total", 2_100.0),
                ("throng_live_events_published_total", 1_100.0),
                ("throng_frames_delivered_total", 1_598_900.0),
                ("throng_sign_ins_total", 1_000.0),
            ]
            .map(|(name, count)| (name.to_string(), count))
            .into(),
            ..Between::to_witness(&between, &between)
        };
        RunResult {
            format: crate::result::FORMAT,
            started_at: 0,
            server_name: "throng 0.1.0".into(),
            command: String::new(),
            scenario,
            machine: Default::default(),
            counts: Counts {
                connected: 1_000,
                connect_span_ns: 500_000_000,
                sent: [("live".to_string(), 1_100)].into(),
                delivered: [("live".to_string(), 1_098_900)].into(),
                measured_ns: 10_000_000_000,
                measured_sent: 1_000,
                measured_delivered: 999_000,
                ..Counts::default()
            },
            latency: [(Timed::Live, latency)].into(),
            integrity: Integrity { expected: 1_098_900, delivered: 1_098_900, ..Integrity::default() },
            series: Vec::new(),
            server: ServerCost {
                pid: Some(1),
                cpu_user_ns: Some(1_000_000_000),
                cpu_system_ns: Some(3_000_000_000),
                busiest_thread: Some(("shard-0".into(), 0.4)),
                rss_before_bytes: Some(10_000_000),
                rss_connected_bytes: Some(10_500_000),
                cpu_connect_ns: Some(60_000_000),
                slab_before: [("TCP".to_string(), 0)].into(),
                slab_connected: [("TCP".to_string(), 9_000_000)].into(),
                ..ServerCost::default()
            },
            client: ClientLoad {
                workers: vec![WorkerLoad {
                    connections: 1_000,
                    busy: 0.5,
                    busy_max: 0.7,
                    unsent_bytes_max: 0,
                    lag_max_ns: 500_000,
                }],
                lag: spread(20_000, 100_000, 500_000),
                rss_before_bytes: 5_000_000,
                rss_connected_bytes: 5_400_000,
                cpu_ns: 5_000_000_000,
                ..ClientLoad::default()
            },
            witness,
            verification: None,
            metrics: Default::default(),
            verdict: Verdict::default(),
        }
    }

    fn judged(change: impl FnOnce(&mut RunResult)) -> RunResult {
        let mut result = good();
        change(&mut result);
        judge(&mut result, None);
        result
    }

    #[test]
    fn a_run_without_fault_passes() {
        let result = judged(|_| {});
        assert_eq!(result.witness.contradictions, Vec::<String>::new());
        assert_eq!(result.verdict, Verdict::default());
        assert_eq!(result.verdict.outcome, Outcome::Passed);
    }

    #[test]
    fn one_lost_delivery_is_a_miss_whatever_the_targets_say() {
        let result = judged(|result| result.integrity.lost_live = 1);
        let miss = Miss { metric: "lost".into(), bound: "<= 0".into(), measured: Some(1.0) };
        assert_eq!((result.verdict.outcome, result.verdict.misses), (Outcome::Missed, vec![miss]));
        let targets = Targets::parse("[fanout]\nlost = { max = 5 }").unwrap();
        let mut lenient = good();
        lenient.integrity.lost_live = 1;
        judge(&mut lenient, Some(&targets));
        assert_eq!((lenient.verdict.met, lenient.verdict.misses.len()), (1, 1));
    }

    #[test]
    fn skips_explain_losses_unless_a_reader_is_slow_on_purpose() {
        let skipped = |result: &mut RunResult| {
            result.integrity.lost_live = 7;
            result.witness.counters.insert("throng_drops_total{reason=\"live_lagging\"}".into(), 9.0);
        };
        let result = judged(skipped);
        assert_eq!((result.integrity.skipped_live, result.metrics["lost"]), (7, 0.0));
        let result = judged(|result| {
            skipped(result);
            result.scenario.slow_readers = Some(crate::scenario::SlowReaders { count: 5, bytes_per_s: 0 });
            result.counts.closed.insert(4101, 1);
            result.witness.counters.insert("throng_connections_closed_total{code=\"4101\"}".into(), 6.0);
        });
        assert_eq!((result.integrity.skipped_live, result.integrity.closed_slow), (0, 5));
        assert_eq!(result.metrics["lost"], 7.0);
    }

    #[test]
    fn an_invalid_run_never_passes() {
        let result = judged(|result| result.client.workers[0].busy = 0.97);
        assert_eq!(result.verdict.outcome, Outcome::Invalid);
        let result = judged(|result| {
            result.client.workers[0].busy = 0.97;
            result.integrity.duplicated = 1;
        });
        assert_eq!((result.verdict.outcome, result.verdict.misses.len()), (Outcome::Invalid, 1));
    }

    #[test]
    fn plain_clients_have_a_say() {
        let sound = Verification { connections: 8, messages: 400, ..Verification::default() };
        let with = |change: fn(&mut Verification)| {
            let mut verification = sound.clone();
            change(&mut verification);
            judged(|result| result.verification = Some(verification)).verdict
        };
        assert_eq!(with(|_| {}).outcome, Outcome::Passed);
        let missed = with(|verification| (verification.faults, verification.integrity.duplicated) = (1, 2));
        let miss = Miss { metric: "verify.faults".into(), bound: "<= 0".into(), measured: Some(3.0) };
        assert_eq!((missed.outcome, missed.misses), (Outcome::Missed, vec![miss]));
        let invalid = with(|verification| verification.contradictions.push("ours overlooked one".into()));
        assert_eq!((invalid.outcome, invalid.invalid), (Outcome::Invalid, vec!["ours overlooked one".to_string()]));
    }

    #[test]
    fn ratios_of_a_comparison_stay() {
        let result = judged(|result| {
            result.metrics.insert("vs.bun.cpu_ratio".into(), 0.5);
            result.metrics.insert("stale".into(), 1.0);
        });
        assert_eq!(result.metrics["vs.bun.cpu_ratio"], 0.5);
        assert!(!result.metrics.contains_key("stale"));
    }
}
