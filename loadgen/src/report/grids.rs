//! The sections of a result as small tables, which the text and the HTML page both show.
use super::facts::{
    cpu_ns_per_delivery, kernel_per_connection, known, over, per_second, rss_per_connection, server_cores,
    server_cpu_ns,
};
use super::metric;
use super::units::{Unit, bytes, count, duration, rate};
use crate::result::{Percentiles, RunResult, Timed, Verification, WorkerLoad};
use std::collections::BTreeMap;

/// A small table. The first column holds names, the others figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    pub title: &'static str,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    /// What the reader must know to read it right.
    pub note: String,
}

impl Grid {
    fn new(title: &'static str, head: &[&'static str]) -> Grid {
        Grid { title, head: head.to_vec(), ..Grid::default() }
    }

    fn row<const N: usize>(&mut self, name: &str, figures: [String; N]) {
        self.rows.push([name.to_owned()].into_iter().chain(figures).collect());
    }
}

pub(super) fn rates(result: &RunResult) -> Grid {
    let counts = &result.counts;
    let mut grid = Grid::new("Rates", &["", "per second", "measured window", "whole run"]);
    let mut row = |name: &str, measured: u64, whole: u64| {
        if measured + whole > 0 {
            let per_second = if measured > 0 { rate(per_second(result, measured)) } else { "–".to_owned() };
            grid.row(name, [per_second, count(measured), count(whole)]);
        }
    };
    row("sent", counts.measured_sent, counts.sent.values().sum());
    row("delivered", counts.measured_delivered, counts.delivered.values().sum());
    row("acknowledged", counts.measured_acked, counts.acked);
    if counts.measured_heartbeats > 0 {
        grid.row(
            "heartbeats",
            [rate(per_second(result, counts.measured_heartbeats)), count(counts.measured_heartbeats), "–".into()],
        );
    }
    let span_s = counts.connect_span_ns as f64 / 1e9;
    if span_s > 0.0 && counts.connected > 0 {
        let per_second =
            known(result, "connects_per_second", || Some(counts.connected as f64 / span_s)).unwrap_or(f64::NAN);
        grid.row("connected", [rate(per_second), "–".into(), count(counts.connected)]);
    }
    let by_kind = |kinds: &BTreeMap<String, u64>| {
        kinds.iter().map(|(kind, number)| format!("{} {kind}", count(*number))).collect::<Vec<_>>().join(", ")
    };
    let mut notes = Vec::new();
    if counts.sent.len() > 1 || counts.delivered.len() > 1 {
        notes.push(format!("sent: {}; delivered: {}", by_kind(&counts.sent), by_kind(&counts.delivered)));
    }
    notes.push(format!(
        "{} sent and {} received over the wire",
        bytes(counts.bytes_sent as f64),
        bytes(counts.bytes_received as f64)
    ));
    if counts.broken > 0 {
        let over = if counts.storm_span_ns > 0 {
            format!(", all back after {}", duration(counts.storm_span_ns as f64))
        } else {
            String::new()
        };
        notes.push(format!("{} connections broken on purpose{over}", count(counts.broken)));
    }
    if counts.reconnected > 0 {
        notes.push(format!(
            "{} reconnected ({} with what they missed, {} without)",
            count(counts.reconnected),
            count(counts.recovered),
            count(counts.not_recovered)
        ));
    }
    if counts.connect_failed > 0 {
        notes.push(format!("{} connections failed", count(counts.connect_failed)));
    }
    if counts.duplicate_acks > 0 {
        notes.push(format!(
            "{} messages said again after a lost connection had arrived the first time",
            count(counts.duplicate_acks)
        ));
    }
    notes.extend((!counts.refused.is_empty()).then(|| format!("refused: {}", by_kind(&counts.refused))));
    let closed =
        counts.closed.iter().map(|(code, number)| format!("{} with {code}", count(*number))).collect::<Vec<_>>();
    notes.extend((!closed.is_empty()).then(|| format!("ended unasked: {}", closed.join(", "))));
    grid.note = notes.join("\n");
    grid
}

pub(super) fn latency(result: &RunResult) -> Grid {
    let mut grid = Grid::new("Latency", &["", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"]);
    let mut has_service = false;
    for timed in Timed::ALL {
        let Some(latency) = result.latency.get(&timed).filter(|latency| latency.count > 0) else { continue };
        let figures = |p: &Percentiles| [p.p50, p.p90, p.p99, p.p999, p.p9999, p.max].map(|ns| duration(ns as f64));
        let row = |name: &str, number: String, p: &Percentiles| {
            [name.to_owned(), number].into_iter().chain(figures(p)).collect()
        };
        grid.rows.push(row(timed.name(), count(latency.count), &latency.response));
        if latency.service != Percentiles::default() && differ(&latency.response, &latency.service) {
            has_service = true;
            grid.rows.push(row("  service", String::new(), &latency.service));
        }
    }
    grid.note = "counted from the intended time".to_owned();
    if has_service {
        grid.note.push_str("; service: from the actual send, where that differs by more than 5 %");
    }
    grid
}

fn differ(a: &Percentiles, b: &Percentiles) -> bool {
    let pairs = [(a.p50, b.p50), (a.p90, b.p90), (a.p99, b.p99), (a.p999, b.p999), (a.p9999, b.p9999), (a.max, b.max)];
    pairs.iter().any(|&(a, b)| a.abs_diff(b) * 20 > a.max(b))
}

pub(super) fn cost(result: &RunResult) -> Grid {
    let (counts, server, client) = (&result.counts, &result.server, &result.client);
    let mut grid = Grid::new("Cost", &["", "server", "client"]);
    let or_dash = |value: Option<f64>, unit: Unit| value.map_or("–".to_owned(), |value| unit.figure(value));
    let of = |used: Option<f64>, cores: &[u32]| match used {
        Some(used) if !cores.is_empty() => format!("{used:.2} of {}", cores.len()),
        used => or_dash(used, Unit::Cores),
    };
    let client_cpu = client.cpu_ns as f64;
    grid.row(
        "cores used",
        [of(server_cores(result), &server.cores), of(over(client_cpu, counts.measured_ns), &client.cores)],
    );
    if let (Some(user), Some(system)) = (server.cpu_user_ns, server.cpu_system_ns) {
        let share = |part: u64| 100.0 * part as f64 / (user + system).max(1) as f64;
        grid.row("user / kernel", [format!("{:.0} % / {:.0} %", share(user), share(system)), "–".into()]);
    }
    let worst = client.workers.iter().map(|worker| worker.busy).fold(0.0, f64::max);
    let busiest = server
        .busiest_thread
        .as_ref()
        .map_or("–".to_owned(), |(name, share)| format!("{name} {:.0} %", share * 100.0));
    grid.row("busiest thread", [busiest, format!("{:.0} %", worst * 100.0)]);
    if counts.measured_delivered > 0 {
        let own = over(client_cpu, counts.measured_delivered);
        grid.row(
            "CPU per delivery",
            [or_dash(cpu_ns_per_delivery(result), Unit::Duration), or_dash(own, Unit::Duration)],
        );
    }
    let messages = counts.measured_sent + counts.measured_heartbeats;
    if messages > 0 {
        let server = server_cpu_ns(result).and_then(|cpu| over(cpu, messages));
        grid.row(
            "CPU per message sent",
            [or_dash(server, Unit::Duration), or_dash(over(client_cpu, messages), Unit::Duration)],
        );
    }
    if let Some(cpu) = server.cpu_connect_ns.and_then(|cpu| over(cpu as f64, counts.connected)) {
        grid.row("CPU per connect and join", [duration(cpu), "–".into()]);
    }
    let client_rss = over(client.rss_connected_bytes.saturating_sub(client.rss_before_bytes) as f64, counts.connected);
    grid.row(
        "memory per connection",
        [or_dash(rss_per_connection(result), Unit::Bytes), or_dash(client_rss, Unit::Bytes)],
    );
    grid.row("kernel memory per connection", [or_dash(kernel_per_connection(result), Unit::Bytes), "–".into()]);
    let most = result.series.iter().map(|second| second.client_rss_bytes).max();
    grid.row(
        "resident at most",
        [or_dash(server.rss_max_bytes.map(|b| b as f64), Unit::Bytes), or_dash(most.map(|b| b as f64), Unit::Bytes)],
    );
    if server.cpu_user_ns.is_none() {
        grid.note = "the server's process cannot be read from here".to_owned();
    } else {
        grid.note = "kernel memory is the growth of the machine's slab: both ends of a connection where client and server share it".to_owned();
    }
    grid
}

/// Did the client keep up?
pub(super) fn client_load(result: &RunResult) -> Grid {
    let client = &result.client;
    let mut grid = Grid::new("Client", &["", "p50", "p99", "p99.9", "max"]);
    let lag = &client.lag;
    grid.row("lag behind the schedule", [lag.p50, lag.p99, lag.p999, lag.max].map(|ns| duration(ns as f64)));
    let most = |of: fn(&WorkerLoad) -> f64| client.workers.iter().map(of).fold(0.0, f64::max);
    let mean = client.workers.iter().map(|worker| worker.busy).sum::<f64>() / client.workers.len().max(1) as f64;
    grid.note = format!(
        "{} workers, busy {:.0} % on average, {:.0} % in the worst second of one; at most {} waited for the kernel",
        client.workers.len(),
        mean * 100.0,
        most(|worker| worker.busy_max) * 100.0,
        bytes(most(|worker| worker.unsent_bytes_max as f64))
    );
    grid
}

/// What clients saw beside what the server says of the same.
pub(super) fn witnesses(result: &RunResult) -> Grid {
    let mut grid = Grid::new("Two witnesses", &["", "count", "p50", "p99", "p99.9", "max"]);
    let witness = &result.witness;
    let plain = result.verification.as_ref().map(verification);
    if !witness.is_present {
        let note = "this server tells nothing about itself: only the clients' figures exist".to_owned();
        grid.note = [note].into_iter().chain(plain).collect::<Vec<_>>().join("\n");
        return grid;
    }
    let number = |name: &str| witness.histogram_counts.get(name).copied().unwrap_or(0);
    let mut row = |name: String, number: u64, p: &Percentiles| {
        let figures = [p.p50, p.p99, p.p999, p.max].map(|ns| duration(ns as f64));
        grid.rows.push([name, count(number)].into_iter().chain(figures).collect());
    };
    // Names as in the server's /histograms.
    let pairs: [(&str, &[Timed]); 3] =
        [("handshake", &[Timed::Handshake]), ("broadcast", &[Timed::Live, Timed::Durable]), ("commit", &[Timed::Ack])];
    for (name, timed) in pairs {
        let Some(percentiles) = witness.histograms.get(name) else { continue };
        for timed in timed {
            if let Some(latency) = result.latency.get(timed).filter(|latency| latency.count > 0) {
                row(format!("clients: {}", timed.name()), latency.count, &latency.response);
            }
        }
        row(format!("server: {name}"), number(name), percentiles);
    }
    for (name, percentiles) in witness.histograms.iter().filter(|(name, _)| !pairs.iter().any(|pair| pair.0 == *name)) {
        row(format!("server: {}", name.replace('_', " ")), number(name), percentiles);
    }
    grid.note = match witness.contradictions.as_slice() {
        [] => "they agree".to_owned(),
        some => some.iter().map(|sentence| format!("CONTRADICTION: {sentence}")).collect::<Vec<_>>().join("\n"),
    };
    if let Some(plain) = plain {
        grid.note = format!("{}\n{plain}", grid.note);
    }
    grid
}

/// The second implementation in a few lines: what it ran, what it found.
fn verification(plain: &Verification) -> String {
    let deliveries = count(plain.integrity.delivered);
    let ran = format!("{} connections, {} messages, {deliveries} deliveries", plain.connections, count(plain.messages));
    if plain.is_sound() {
        return format!("plain clients (--verify), {ran}: all sound");
    }
    let mut lines = vec![format!("PLAIN CLIENTS (--verify), {ran}: {} breaches of the protocol", count(plain.faults))];
    let all = plain.integrity.examples.iter().chain(&plain.fault_examples).chain(&plain.contradictions);
    lines.extend(all.map(|fault| format!("- {fault}")));
    lines.join("\n")
}

pub(super) fn targets(result: &RunResult) -> Grid {
    let verdict = &result.verdict;
    let mut grid = Grid::new("Targets", &["", "bound", "measured"]);
    for miss in &verdict.misses {
        let measured = miss.measured.map_or("not measured".to_owned(), |value| metric::figure(&miss.metric, value));
        grid.row(&miss.metric, [metric::bound(&miss.metric, &miss.bound), measured]);
    }
    grid.note = match (verdict.met, verdict.misses.len()) {
        (0, 0) => "none were set for this scenario".to_owned(),
        (met, missed) => format!("{met} met, {missed} missed"),
    };
    grid
}
