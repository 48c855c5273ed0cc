//! A result as a flat list of figures, by the names of `METRICS`. A figure that was not measured is not there.
pub use super::names::{METRICS, POINTS, check};
use crate::engine::main_timed;
use crate::result::{Counts, Latency, Percentiles, RunResult};
use crate::server::slab::growth_bytes;
use std::collections::BTreeMap;

/// All that were measured.
pub fn of(result: &RunResult) -> BTreeMap<String, f64> {
    let mut metrics = Metrics(BTreeMap::new());
    metrics.latencies(result);
    metrics.integrity(result);
    metrics.rates(result);
    metrics.server_cpu(result);
    metrics.server_memory(result);
    metrics.client(result);
    metrics.put("contradictions", Some(result.witness.contradictions.len() as f64));
    metrics.0
}

struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn put(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.0.insert(name.into(), value);
        }
    }

    fn count(&mut self, name: &str, count: u64) {
        self.put(name, Some(count as f64));
    }

    fn latencies(&mut self, result: &RunResult) {
        for (timed, latency) in &result.latency {
            self.latency(timed.name(), latency);
        }
        if let Some(latency) = result.latency.get(&main_timed(&result.scenario)) {
            self.latency("latency", latency);
        }
        for (name, percentiles) in &result.witness.histograms {
            if result.witness.histogram_counts.get(name).is_some_and(|count| *count > 0) {
                self.points(&format!("server.{name}"), percentiles);
            }
        }
    }

    fn latency(&mut self, name: &str, latency: &Latency) {
        if latency.count > 0 {
            self.points(name, &latency.response);
            self.put(&format!("{name}.service_p99_ms"), Some(ms(latency.service.p99)));
        }
    }

    fn points(&mut self, name: &str, of: &Percentiles) {
        let values = [of.p50, of.p90, of.p99, of.p999, of.p9999, of.max].map(ms);
        for (point, value) in POINTS.iter().zip(values.into_iter().chain([of.mean / 1e6])) {
            self.put(&format!("{name}.{point}"), Some(value));
        }
    }

    fn integrity(&mut self, result: &RunResult) {
        let (integrity, counts) = (&result.integrity, &result.counts);
        let sum = |counts: &BTreeMap<_, u64>| counts.values().sum();
        self.count("lost", integrity.unexplained());
        self.count("lost_durable", integrity.lost_durable);
        self.count("lost_live", integrity.lost_live);
        self.count("skipped_live", integrity.skipped_live);
        self.count("missed_away", integrity.missed_away);
        self.count("duplicated", integrity.duplicated);
        self.count("reordered", integrity.reordered);
        self.count("foreign", integrity.foreign);
        self.count("unanswered", integrity.unanswered);
        self.count("offset_faults", integrity.offset_faults);
        self.count("closed_slow", integrity.closed_slow);
        self.count("closed", sum(&counts.closed));
        self.count("away_at_end", away_at_end(counts));
        self.count("refused", counts.refused.values().sum());
        if let Some(verification) = &result.verification {
            let found = &verification.integrity;
            let deliveries = found.unexplained() + found.duplicated + found.reordered + found.foreign;
            let faults = verification.faults + deliveries + found.unanswered + found.offset_faults;
            self.count("verify.faults", faults);
        }
        self.count("connected", counts.connected);
        self.count("connect_failed", counts.connect_failed);
        self.count("reconnected", counts.reconnected);
        self.count("recovered", counts.recovered);
        self.count("not_recovered", counts.not_recovered);
    }

    fn rates(&mut self, result: &RunResult) {
        let counts = &result.counts;
        let per_s = |count: u64, ns: u64| (count > 0).then(|| ratio(count as f64, ns as f64 / 1e9)).flatten();
        self.put("connects_per_second", per_s(counts.connected, counts.connect_span_ns));
        if result.scenario.storm.is_some() && counts.storm_span_ns > 0 {
            self.put("storm_s", Some(counts.storm_span_ns as f64 / 1e9));
            // With churn beside it, not all that broke was broken by the storm.
            if result.scenario.churn.is_none() {
                self.put("reconnects_per_second", per_s(counts.broken, counts.storm_span_ns));
            }
        }
        for (name, count) in [
            ("messages_per_second", counts.measured_sent),
            ("deliveries_per_second", counts.measured_delivered),
            ("acks_per_second", counts.measured_acked),
            ("heartbeats_per_second", counts.measured_heartbeats),
        ] {
            self.put(name, per_s(count, counts.measured_ns));
        }
    }

    fn server_cpu(&mut self, result: &RunResult) {
        let (server, counts) = (&result.server, &result.counts);
        let each = |ns: f64, count: u64| ratio(ns / 1e3, count as f64);
        self.put("server.busiest_thread_cores", server.busiest_thread.as_ref().map(|(_, share)| *share));
        self.put("server.cpu_us_per_connect", server.cpu_connect_ns.and_then(|ns| each(ns as f64, counts.connected)));
        let (Some(user), Some(system)) = (server.cpu_user_ns, server.cpu_system_ns) else { return };
        let cpu = (user + system) as f64;
        self.put("server.cores", ratio(cpu, counts.measured_ns as f64));
        self.put("server.cpu_system_ratio", ratio(system as f64, cpu));
        self.put("server.cpu_us_per_delivery", each(cpu, counts.measured_delivered));
        self.put("server.cpu_us_per_message", each(cpu, counts.measured_sent));
        self.put("server.cpu_us_per_ack", each(cpu, counts.measured_acked));
        if result.scenario.traffic.iter().all(|line| line.rate_per_s == 0.0) {
            self.put("server.cpu_us_per_heartbeat", each(cpu, counts.measured_heartbeats));
            let rest = ratio(cpu / 1e3, counts.connected as f64 * counts.measured_ns as f64 / 1e9);
            self.put("server.cpu_us_per_connection_second", rest);
        }
    }

    fn server_memory(&mut self, result: &RunResult) {
        let (server, connected) = (&result.server, result.counts.connected as f64);
        self.put("server.rss_bytes", server.rss_connected_bytes.map(|bytes| bytes as f64));
        self.put("server.rss_max_bytes", server.rss_max_bytes.map(|bytes| bytes as f64));
        let grown = server.rss_before_bytes.zip(server.rss_connected_bytes);
        let rss = grown.and_then(|(before, after)| ratio(after.saturating_sub(before) as f64, connected));
        self.put("server.rss_bytes_per_connection", rss);
        // Of this machine: only if the server is on it.
        let kernel = server.pid.and_then(|_| growth_bytes(&server.slab_before, &server.slab_connected));
        let kernel = kernel.and_then(|bytes| ratio(bytes as f64, 2.0 * connected));
        self.put("server.kernel_bytes_per_connection", kernel);
        self.put("server.bytes_per_connection", rss.zip(kernel).map(|(rss, kernel)| rss + kernel));
    }

    fn client(&mut self, result: &RunResult) {
        let (client, counts) = (&result.client, &result.counts);
        let busy = client.workers.iter().map(|worker| worker.busy).fold(0.0, f64::max);
        let unsent = client.workers.iter().map(|worker| worker.unsent_bytes_max).max().unwrap_or(0);
        let grown = client.rss_connected_bytes.saturating_sub(client.rss_before_bytes) as f64;
        self.put("client.cores", ratio(client.cpu_ns as f64, counts.measured_ns as f64));
        self.put("client.busy_max_ratio", Some(busy));
        self.put("client.lag_p50_ms", Some(ms(client.lag.p50)));
        self.put("client.lag_p99_ms", Some(ms(client.lag.p99)));
        self.put("client.lag_max_ms", Some(ms(client.lag.max)));
        self.count("client.unsent_bytes_max", unsent);
        self.put("client.cpu_us_per_delivery", ratio(client.cpu_ns as f64 / 1e3, counts.measured_delivered as f64));
        self.count("client.rss_bytes", client.rss_connected_bytes);
        self.put("client.rss_bytes_per_connection", ratio(grown, counts.connected as f64));
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn ratio(amount: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| amount / of)
}

/// Clients that lost their connection, by the scenario or without it, and did not come back in time.
pub(super) fn away_at_end(counts: &Counts) -> u64 {
    (counts.broken + counts.closed.values().sum::<u64>()).saturating_sub(counts.reconnected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Timed;
    use crate::scenario::Storm;
    use crate::verdict::tests::good;

    #[test]
    fn figures_are_those_computed_by_hand() {
        let metrics = of(&good());
        for (name, expected) in [
            ("latency.p50_ms", 0.4),
            ("latency.p99_ms", 2.0),
            ("live.max_ms", 6.0),
            ("live.mean_ms", 0.4),
            ("live.service_p99_ms", 1.9),
            ("server.broadcast.p50_ms", 0.3),
            ("lost", 0.0),
            // 1,000 in 0.5 s.
            ("connects_per_second", 2_000.0),
            ("messages_per_second", 100.0),
            ("deliveries_per_second", 99_900.0),
            // 4 s of CPU in 10 s, three of them the kernel's, for 999,000 deliveries of 1,000 messages.
            ("server.cores", 0.4),
            ("server.cpu_system_ratio", 0.75),
            ("server.cpu_us_per_delivery", 4e6 / 999_000.0),
            ("server.cpu_us_per_message", 4_000.0),
            ("server.cpu_us_per_connect", 60.0),
            ("server.busiest_thread_cores", 0.4),
            // 500,000 bytes more for 1,000; 9,000,000 in the kernel for 2,000 ends.
            ("server.rss_bytes_per_connection", 500.0),
            ("server.kernel_bytes_per_connection", 4_500.0),
            ("server.bytes_per_connection", 5_000.0),
            ("client.rss_bytes_per_connection", 400.0),
            ("client.lag_p99_ms", 0.1),
            ("client.cores", 0.5),
            ("client.busy_max_ratio", 0.5),
        ] {
            let value = metrics.get(name).copied();
            assert!(value.is_some_and(|value| (value - expected).abs() < 1e-9), "{name}: {value:?}, not {expected}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_there() {
        let mut result = good();
        result.server = Default::default();
        result.witness = Default::default();
        result.latency.clear();
        let metrics = of(&result);
        for name in
            ["latency.p99_ms", "acks_per_second", "server.cores", "server.kernel_bytes_per_connection", "storm_s"]
        {
            assert!(!metrics.contains_key(name), "{name}");
        }
        assert!(metrics.values().all(|value| value.is_finite()));
    }

    #[test]
    fn rest_and_storm_have_figures_of_their_own() {
        let mut result = good();
        result.scenario.traffic.clear();
        result.scenario.heartbeat_ms = 1_000;
        result.counts.measured_heartbeats = 10_000;
        result.latency = [(Timed::Heartbeat, result.latency[&Timed::Live].clone())].into();
        let metrics = of(&result);
        // 4 s of CPU for 1,000 connections in 10 s, and for 10,000 heartbeats.
        assert_eq!(metrics["server.cpu_us_per_connection_second"], 400.0);
        assert_eq!(metrics["server.cpu_us_per_heartbeat"], 400.0);
        assert_eq!(metrics["latency.p99_ms"], 2.0);
        result.scenario.storm = Some(Storm { at_s: 1.0, fraction: 1.0, jitter_ms: 0 });
        (result.counts.broken, result.counts.storm_span_ns) = (1_000, 2_000_000_000);
        let metrics = of(&result);
        assert_eq!((metrics["storm_s"], metrics["reconnects_per_second"]), (2.0, 500.0));
    }

    /// Whatever can be measured can be bounded, and what is documented exists.
    #[test]
    fn every_figure_has_a_documented_name() {
        let mut result = good();
        result.scenario.storm = Some(Storm { at_s: 1.0, fraction: 1.0, jitter_ms: 0 });
        (result.counts.broken, result.counts.storm_span_ns) = (1_000, 2_000_000_000);
        result.counts.measured_acked = 1;
        result.counts.measured_heartbeats = 1;
        result.server.rss_max_bytes = Some(1);
        result.verification = Some(Default::default());
        let mut metrics = of(&result);
        result.scenario.traffic.clear();
        metrics.extend(of(&result));
        for name in metrics.keys() {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, _) in METRICS {
            assert!(metrics.contains_key(name), "{name}");
        }
    }
}
