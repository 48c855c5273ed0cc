//! `/metrics`: which families there are. `docs/metrics.md` lists them; a test holds the two together.
//!
//! Counters and histograms are sums over all shards; what tells a hot shard from a cool one carries a `shard` label. No
//! label names a user or a room (R-OPS-1).
use super::exposition::{Exposition, Kind};
use super::listener::ServiceCounts;
use super::process::Process;
use super::source::{Collected, ShardState};
use crate::telemetry::counters::Counters;
use crate::telemetry::histograms::ShardHistograms;
use crate::telemetry::report::{ShardReport, StoreReport};
use std::sync::atomic::Ordering::Relaxed;

/// Everything that a page of numbers shows.
pub struct Numbers<'a> {
    pub collected: &'a Collected,
    pub services: &'a ServiceCounts,
    pub process: Process,
    pub uptime_s: f64,
    pub is_draining: bool,
}

/// The page's text.
pub fn render(numbers: &Numbers<'_>) -> String {
    let mut page = Exposition::default();
    page.family(Kind::Gauge, "throng_info", "Constant 1, with the version of the server")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.single(Kind::Gauge, "throng_uptime_seconds", "Seconds since the server started", numbers.uptime_s);
    page.single(Kind::Gauge, "throng_draining", "1 while the server drains", u8::from(numbers.is_draining));
    shards(&mut page, &numbers.collected.shards);
    totals(&mut page, numbers.collected);
    if let Some(ends_s) = numbers.collected.reports().filter_map(|report| report.certificate_ends_s).min() {
        let help = "When the certificate in use ends, Unix time; absent without TLS";
        page.single(Kind::Gauge, "throng_tls_certificate_ends_seconds", help, ends_s);
    }
    if let Some(store) = &numbers.collected.store {
        self::store(&mut page, store);
    }
    services(&mut page, numbers.services);
    process(&mut page, &numbers.process);
    page.into_text()
}

/// A gauge of a shard: name, meaning, where it is in the report.
type ShardGauge = (&'static str, &'static str, fn(&ShardReport) -> u64);

const SHARD_GAUGES: [ShardGauge; 7] = [
    ("throng_connections", "Established connections", |report| report.connections),
    ("throng_unauthenticated_connections", "Connections that have not signed in yet", |report| report.unauthenticated),
    ("throng_tls_connections", "Established connections with TLS", |report| report.tls_sessions),
    ("throng_users", "Connected users, each counted on its home shard", |report| report.users),
    ("throng_rooms", "Rooms in memory, each counted on its home shard", |report| report.rooms_in_memory),
    ("throng_queue_bytes", "Bytes that connections still have to be sent", |report| report.queue_bytes),
    ("throng_log_bytes", "Bytes held by broadcast logs", |report| report.log_bytes),
];

fn shards(page: &mut Exposition, shards: &[ShardState]) {
    let responding = "1 if the shard answered this scrape; if 0, its other numbers are those of its last answer";
    let mut family = page.family(Kind::Gauge, "throng_shard_responding", responding);
    for state in shards {
        family.sample(&[("shard", &state.shard.to_string())], u8::from(state.is_responding));
    }
    let mut per_shard = |kind, name, help, value: fn(&ShardReport) -> u64| {
        let mut family = page.family(kind, name, help);
        for state in shards {
            if let Some(report) = &state.report {
                family.sample(&[("shard", &state.shard.to_string())], value(report));
            }
        }
    };
    for (name, help, value) in SHARD_GAUGES {
        per_shard(Kind::Gauge, name, help, value);
    }
    per_shard(Kind::Counter, "throng_turns_total", "Turns of the shard's loop", |report| report.turns);
}

fn totals(page: &mut Exposition, collected: &Collected) {
    let (mut counters, mut histograms) = (Counters::default(), ShardHistograms::default());
    for report in collected.reports() {
        counters.merge(&report.counters);
        histograms.merge(&report.histograms);
    }
    for family in counters.families() {
        let mut text = page.family(Kind::Counter, family.info.name, family.info.help);
        for (label, count) in &family.samples {
            match family.info.label {
                Some(key) => text.sample(&[(key, label)], count),
                None => text.sample(&[], count),
            };
        }
    }
    for (_, name, help, histogram) in histograms.all() {
        page.histogram(name, help, histogram);
    }
}

fn store(page: &mut Exposition, store: &StoreReport) {
    page.histogram("throng_commit_seconds", "One commit of the store: write and fsync of a batch", &store.commit);
    page.single(Kind::Counter, "throng_store_commits_total", "Transactions committed", store.commits);
    page.single(Kind::Counter, "throng_store_jobs_total", "Jobs in committed transactions", store.jobs);
    page.single(Kind::Counter, "throng_store_failures_total", "Jobs that the back end failed", store.failures);
    page.single(Kind::Gauge, "throng_store_queue_jobs", "Jobs waiting for the writer", store.queue_len);
}

fn services(page: &mut Exposition, counts: &ServiceCounts) {
    let mut counter = |name, help, value: u64| page.single(Kind::Counter, name, help, value);
    let dropped = counts.dropped.load(Relaxed);
    counter("throng_services_connections_total", "Connections taken from shards", counts.handed_over.load(Relaxed));
    counter("throng_services_dropped_total", "Connections dropped because the services' queue was full", dropped);
    counter("throng_services_requests_total", "Requests for service pages", counts.requests.load(Relaxed));
}

fn process(page: &mut Exposition, process: &Process) {
    let mut gauge = |name, help, value: u64| page.single(Kind::Gauge, name, help, value);
    gauge("process_resident_memory_bytes", "Resident memory", process.resident_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory", process.virtual_bytes);
    gauge("process_threads", "Threads", process.threads);
    gauge("process_open_fds", "Ordinary descriptors in use; connections in a ring's table use none", process.open_fds);
    gauge("process_max_fds", "Limit of ordinary descriptors, 0 if there is none", process.fds_max);
    page.single(Kind::Counter, "process_cpu_seconds_total", "CPU time, user and system", process.cpu_s);
    page.single(Kind::Gauge, "process_start_time_seconds", "Start, Unix time", process.started_at_s);
}
