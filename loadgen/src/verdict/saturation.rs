//! Was the client the bottleneck? Then its figures say nothing about the server, and the run is invalid.
//!
//! Each threshold stands with its reason. All are about the measured window, except whether everyone was connected at all.
use crate::engine::main_timed;
use crate::result::RunResult;
use crate::scenario::Scenario;
use crate::scenario::figures::Figures;

/// A worker that is busy for this share of the time keeps its next message waiting for nine times as long as it works on one
/// (ρ / (1 − ρ) of a single queue): what is measured then is the client's own queue.
const BUSY_MAX: f64 = 0.9;

/// A second without a pause: the worker was behind in all of it. Only together with a lag that can be seen in the figures.
const BUSY_SECOND_MAX: f64 = 0.98;

/// The client's lateness is part of each latency. A tenth of it is what three digits of a figure can bear.
const LAG_SHARE_MAX: f64 = 0.1;

/// In the far tail, of which less is claimed, half.
const LAG_TAIL_SHARE_MAX: f64 = 0.5;

/// Less than this is what a scheduler of an idle machine does to any process, ns.
const LAG_NS: u64 = 1_000_000;

/// The same for one in a thousand messages, ns: two time slices.
const LAG_TAIL_NS: u64 = 10_000_000;

/// Of the messages that the schedule holds at the edges of the window.
const SENT_SHARE_MISSING_MAX: f64 = 0.01;

/// Standard deviations of a Poisson schedule around its mean: more is chance once in some million runs.
const SENT_DEVIATIONS: f64 = 5.0;

/// A worker's bytes that the kernel did not take. Below, a burst met a full socket buffer.
const UNSENT_BYTES: u64 = 256 << 10;

/// A thread of the server that is this busy explains why nobody reads.
const SERVER_BUSY: f64 = 0.9;

/// Part of the window that must have been measured.
const WINDOW_SHARE_MIN: f64 = 0.95;

/// Why the run is invalid, a sentence each; none: the client kept up.
pub fn reasons(result: &RunResult) -> Vec<String> {
    let mut reasons = Vec::new();
    incomplete(result, &mut reasons);
    busy(result, &mut reasons);
    lag(result, &mut reasons);
    unsent(result, &mut reasons);
    reasons
}

/// The run was not the one that the scenario describes.
fn incomplete(result: &RunResult, reasons: &mut Vec<String>) {
    let (scenario, counts) = (&result.scenario, &result.counts);
    if counts.connected < u64::from(scenario.connections) {
        let (connected, all, failed) = (counts.connected, scenario.connections, counts.connect_failed);
        reasons.push(format!("{connected} of {all} connections stood ({failed} attempts failed)"));
    }
    let (measured_s, wanted_s) = (counts.measured_ns as f64 / 1e9, scenario.time.measure_s);
    if measured_s < wanted_s * WINDOW_SHARE_MIN {
        reasons.push(format!("{measured_s:.1} s were measured of {wanted_s:.1} s"));
        // What follows from that need not be said.
        return;
    }
    let has_samples = result.latency.values().any(|latency| latency.count > 0);
    if !has_samples {
        reasons.push("no latency was measured at all".into());
    }
    if let Some(scheduled) = scheduled(scenario) {
        let missing = scheduled - counts.measured_sent as f64;
        let allowed = (scheduled * SENT_SHARE_MISSING_MAX).max(SENT_DEVIATIONS * scheduled.sqrt());
        if missing > allowed {
            reasons.push(format!(
                "the schedule was not sent in full: {} of {scheduled:.0} messages in the measured window",
                counts.measured_sent
            ));
        }
    }
}

fn busy(result: &RunResult, reasons: &mut Vec<String>) {
    let response = main_response(result).map_or(0, |response| response.p99);
    for (index, worker) in result.client.workers.iter().enumerate() {
        if worker.busy > BUSY_MAX {
            reasons.push(format!(
                "client worker {index} used {:.0} % of a core, more than {:.0} %: messages waited for it, not for the server",
                worker.busy * 100.0,
                BUSY_MAX * 100.0
            ));
        } else if worker.busy_max > BUSY_SECOND_MAX && is_late(worker.lag_max_ns, response, LAG_SHARE_MAX, LAG_TAIL_NS)
        {
            reasons.push(format!(
                "client worker {index} had no pause in its worst second and sent up to {} late",
                show(worker.lag_max_ns)
            ));
        }
    }
}

fn lag(result: &RunResult, reasons: &mut Vec<String>) {
    let Some(response) = main_response(result) else { return };
    let lag = &result.client.lag;
    let late = |share: f64| format!("more than {:.0} % of the latency that was measured", share * 100.0);
    if is_late(lag.p99, response.p99, LAG_SHARE_MAX, LAG_NS) {
        reasons.push(format!(
            "the client sent late: p99 of its lag is {}, {} ({})",
            show(lag.p99),
            late(LAG_SHARE_MAX),
            show(response.p99)
        ));
    } else if is_late(lag.p999, response.p999, LAG_TAIL_SHARE_MAX, LAG_TAIL_NS) {
        reasons.push(format!(
            "the client sent late: p99.9 of its lag is {}, {} ({})",
            show(lag.p999),
            late(LAG_TAIL_SHARE_MAX),
            show(response.p999)
        ));
    }
}

/// A queue in the client is the server's fault if the server is too busy to read, and the client's or the network's if not.
fn unsent(result: &RunResult, reasons: &mut Vec<String>) {
    let Some((thread, share)) = &result.server.busiest_thread else { return };
    let most = result.client.workers.iter().map(|worker| worker.unsent_bytes_max).max().unwrap_or(0);
    if most > UNSENT_BYTES && *share < SERVER_BUSY {
        reasons.push(format!(
            "up to {} KiB waited in a client worker's queue, though the server's busiest thread ({thread}) used {:.0} % of a core",
            most >> 10,
            share * 100.0
        ));
    }
}

fn is_late(lag_ns: u64, response_ns: u64, share: f64, least_ns: u64) -> bool {
    lag_ns > least_ns && lag_ns as f64 > response_ns as f64 * share
}

fn main_response(result: &RunResult) -> Option<&crate::result::Percentiles> {
    result.latency.get(&main_timed(&result.scenario)).map(|latency| &latency.response)
}

/// Messages of the measured window by the schedule; `None` where a storm keeps an unknown part of the senders away.
fn scheduled(scenario: &Scenario) -> Option<f64> {
    if scenario.storm.is_some() {
        return None;
    }
    let per_s = Figures::of(scenario).messages_per_s();
    // Who is away sends nothing; coming back takes as long again at most.
    let away = scenario.churn.map_or(0.0, |churn| churn.per_s * churn.away_ms as f64 * 2.0 / 1_000.0);
    let there = 1.0 - (away / f64::from(scenario.connections.max(1))).min(1.0);
    Some(per_s * scenario.time.measure_s * there)
}

/// A duration of about three digits.
pub(super) fn show(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Churn, Storm};
    use crate::verdict::tests::good;

    fn reasons_of(change: impl FnOnce(&mut RunResult)) -> Vec<String> {
        let mut result = good();
        change(&mut result);
        reasons(&result)
    }

    /// Exactly one reason, with these words in it.
    fn told(words: &[&str], change: impl FnOnce(&mut RunResult)) {
        let reasons = reasons_of(change);
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(words.iter().all(|word| reasons[0].contains(word)), "{reasons:?}");
    }

    #[test]
    fn each_limit_and_one_step_beyond() {
        assert_eq!(reasons_of(|result| result.client.workers[0].busy = 0.9), Vec::<String>::new());
        told(&["worker 0 used 91 % of a core"], |result| result.client.workers[0].busy = 0.91);
        // 10 % of 20 ms.
        let lag = |lag: u64| {
            move |result: &mut RunResult| {
                result.latency.values_mut().for_each(|latency| latency.response.p99 = 20_000_000);
                result.client.lag.p99 = lag;
            }
        };
        assert_eq!(reasons_of(lag(2_000_000)), Vec::<String>::new());
        told(&["p99 of its lag is 2.00 ms, more than 10 %", "(20.00 ms)"], lag(2_001_000));
        assert_eq!(reasons_of(|result| result.client.lag.p99 = 1_000_000), Vec::<String>::new(), "an idle machine's");
        told(&["1.00 ms"], |result| result.client.lag.p99 = 1_001_000);
        told(&["p99.9 of its lag is 11.00 ms"], |result| result.client.lag.p999 = 11_000_000);
        assert_eq!(
            reasons_of(|result| {
                result.client.lag.p999 = 11_000_000;
                result.latency.values_mut().for_each(|latency| latency.response.p999 = 30_000_000);
            }),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_full_second_counts_with_its_lag_alone() {
        assert_eq!(reasons_of(|result| result.client.workers[0].busy_max = 1.0), Vec::<String>::new());
        told(&["no pause in its worst second", "12.00 ms late"], |result| {
            result.client.workers[0].busy_max = 1.0;
            result.client.workers[0].lag_max_ns = 12_000_000;
        });
    }

    #[test]
    fn what_was_not_sent_is_told() {
        // 1,000 scheduled: five deviations are 158.1.
        assert_eq!(reasons_of(|result| result.counts.measured_sent = 842), Vec::<String>::new());
        told(&["841 of 1000 messages"], |result| result.counts.measured_sent = 841);
        told(&["999 of 1000 connections stood (3 attempts failed)"], |result| {
            (result.counts.connected, result.counts.connect_failed) = (999, 3);
        });
        told(&["4.0 s were measured of 10.0 s"], |result| {
            (result.counts.measured_ns, result.counts.measured_sent) = (4_000_000_000, 400);
        });
        told(&["no latency"], |result| result.latency.clear());
    }

    #[test]
    fn a_queue_is_the_clients_only_if_the_server_is_not_busy() {
        let queue = |share: f64| {
            move |result: &mut RunResult| {
                result.client.workers[0].unsent_bytes_max = 1 << 20;
                result.server.busiest_thread = Some(("shard-0".into(), share));
            }
        };
        told(&["up to 1024 KiB", "(shard-0) used 40 %"], queue(0.4));
        assert_eq!(reasons_of(queue(0.95)), Vec::<String>::new());
    }

    #[test]
    fn schedules_add_up() {
        let mut scenario = good().scenario;
        assert_eq!(scheduled(&scenario), Some(1_000.0));
        scenario.heartbeat_ms = 500;
        assert_eq!(scheduled(&scenario), Some(21_000.0));
        // Rooms of 300: three full ones and one of 100. Senders are members 0, 30, 60 … 270; of the last room 0 to 90.
        scenario.heartbeat_ms = 0;
        scenario.layers[0].members = 300;
        assert_eq!(scheduled(&scenario), Some((3.0 * 100.0 + 40.0) * 10.0));
        // 10 a second for 5 s, twice: 100 of 1,000 are away.
        scenario.churn = Some(Churn { per_s: 10.0, away_ms: 5_000, is_orderly: false });
        assert!((scheduled(&scenario).unwrap() - 3_060.0).abs() < 1e-6);
        scenario.storm = Some(Storm { at_s: 1.0, fraction: 1.0, jitter_ms: 0 });
        assert_eq!(scheduled(&scenario), None);
    }
}
