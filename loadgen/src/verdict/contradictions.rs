//! Two witnesses: do the clients' figures and the server's own fit together? Each contradiction is a sentence with both figures.
//!
//! What is compared: what must contain what (a delivery takes at least as long as the server worked on it), what must be equal
//! (counts, once all has settled), and how much of the clients' latency the server knows nothing of.
use super::saturation::show;
use super::server_total;
use crate::engine::main_timed;
use crate::result::{Latency, Percentiles, RunResult, Timed};
use crate::scenario::Kind;

/// The server counts in steps of 512 ns; both ends of a comparison are off by up to one.
const RESOLUTION_NS: u64 = 1_024;

/// Fewer samples tell nothing about a median.
const SAMPLES_MIN: u64 = 100;

/// What a scheduler does to a process on an idle machine, ns. A gap is worth a word only beyond that.
const GAP_NS: u64 = 5_000_000;

/// And only if the server's figures and the client's lag explain less than half of what the clients saw.
const GAP_FACTOR: u64 = 2;

/// Of a count: what two snapshots that are not of the same moment may differ by.
const COUNT_SHARE: f64 = 0.0001;

/// Messages of a client besides those of the scenario, for each room and connection: joins, and a word or two around them.
const WORDS_PER_CONNECTION: f64 = 2.0;

/// All contradictions; none if the server exports nothing.
pub fn find(result: &RunResult) -> Vec<String> {
    if !result.witness.is_present {
        return Vec::new();
    }
    [containment(result), gap(result)].into_iter().flatten().chain(counts(result)).collect()
}

/// Whether the clients' times contain the server's. The server's `broadcast` ends with the last send of what a command
/// published, and each record of it has at least one delivery that came after. So of D deliveries at least half as many as there
/// are B records took longer than their median, and the clients' quantile 1 − B / 2D is not below it.
///
/// Holds where deliveries of one kind are all that is published in the window.
fn containment(result: &RunResult) -> Option<String> {
    let kinds: Vec<Kind> = result.scenario.traffic.iter().map(|line| line.kind).collect();
    let timed = match kinds.first()? {
        Kind::Live => Timed::Live,
        Kind::Durable => Timed::Durable,
        Kind::Typing | Kind::Activity => return None,
    };
    let (scenario, latency) = (&result.scenario, result.latency.get(&timed)?);
    let is_pure = kinds.windows(2).all(|pair| pair[0] == pair[1]);
    if !is_pure || scenario.churn.is_some() || scenario.storm.is_some() || scenario.slow_readers.is_some() {
        return None;
    }
    let (server, count) = histogram(result, "broadcast")?;
    let seen = quantile_at_least(latency, 1.0 - count as f64 / (2.0 * latency.count.max(1) as f64))?;
    (seen + RESOLUTION_NS < server.p50).then(|| {
        format!(
            "half of what the server published took it more than {}, yet the clients had nearly all of it within {}: one of the \
             two clocks or counts is wrong",
            show(server.p50),
            show(seen)
        )
    })
}

/// The service time at the quantile, or at the next one above it that is known. `None` outside 0 to 1.
fn quantile_at_least(latency: &Latency, quantile: f64) -> Option<u64> {
    let service = &latency.service;
    let known = [
        (0.5, service.p50),
        (0.9, service.p90),
        (0.99, service.p99),
        (0.999, service.p999),
        (0.9999, service.p9999),
        (1.0, service.max),
    ];
    known.into_iter().find(|(at, _)| quantile > 0.0 && *at >= quantile).map(|(_, value)| value)
}

/// Latency that no figure of the server holds. Counted from the actual send, so that the client's lag in sending is no part of it;
/// but who is late to send is as late to receive.
fn gap(result: &RunResult) -> Option<String> {
    let timed = main_timed(&result.scenario);
    let seen = result.latency.get(&timed).filter(|latency| latency.count >= SAMPLES_MIN)?.service.p99;
    let parts: &[&str] = match timed {
        Timed::Live => &["broadcast", "mesh_hop", "turn"],
        Timed::Durable | Timed::Ack => &["broadcast", "commit", "mesh_hop", "turn"],
        Timed::Handshake => &["handshake", "turn"],
        Timed::Heartbeat | Timed::Join => &["turn"],
    };
    // What has no record in the window took no time in it. Without the first one there is nothing to compare with.
    let first = histogram(result, parts[0])?.0.p99;
    let rest = parts[1..].iter().filter_map(|name| result.witness.histograms.get(*name)).map(|server| server.p99);
    let explained = first + rest.sum::<u64>();
    let late = explained.saturating_add(result.client.lag.p99);
    (seen > late.saturating_mul(GAP_FACTOR).saturating_add(GAP_NS)).then(|| {
        format!(
            "the server says {} (p99 of {}), the clients saw {}: something between them (a full accept or receive queue, the \
             network, the client) is not in the server's figures",
            show(explained),
            parts.join(" + "),
            show(seen)
        )
    })
}

fn histogram<'a>(result: &'a RunResult, name: &str) -> Option<(&'a Percentiles, u64)> {
    let count = result.witness.histogram_counts.get(name).copied().filter(|count| *count >= SAMPLES_MIN)?;
    Some((result.witness.histograms.get(name)?, count))
}

/// Counts of the whole run, all of it settled.
fn counts(result: &RunResult) -> Vec<String> {
    let (counts, scenario) = (&result.counts, &result.scenario);
    let server = |family: &str| server_total(&result.witness, family);
    let slow = scenario.slow_readers.map_or(0, |slow| u64::from(slow.count));
    // The plain clients of --verify speak too, of their kinds of messages only the sum is known.
    let plain = result.verification.as_ref();
    let (plain_clients, plain_messages) = plain.map_or((0, 0), |plain| (u64::from(plain.connections), plain.messages));
    let opened = counts.connected + counts.reconnected + plain_clients;
    // What was under way on a connection that broke has been sent and never arrived, or arrived and was never heard of.
    let has_breaks = counts.broken > 0 || counts.reconnected > 0 || !counts.closed.is_empty();
    let sent: u64 = counts.sent.values().sum();
    let of =
        |counts: &std::collections::BTreeMap<String, u64>, kind: &str| counts.get(kind).copied().unwrap_or(0) as f64;
    let mut found = Vec::new();
    let mut compare = |what: &str, server: Option<f64>, client: f64, at_least: bool, at_most: Option<f64>| {
        let Some(server) = server else { return };
        let slack = (client * COUNT_SHARE).max(1.0);
        if at_least && server + slack < client {
            found.push(format!("{what}: the server counts {server:.0}, fewer than the clients' {client:.0}"));
        } else if let Some(most) = at_most
            && server > most + slack
        {
            found.push(format!("{what}: the server counts {server:.0}, more than the clients account for ({most:.0})"));
        }
    };

    let words = (opened + slow) as f64 * WORDS_PER_CONNECTION * (scenario.layers.len() + 1) as f64;
    // A slow reader that comes back says as much again; how often it does is not known here.
    let most = (slow == 0).then_some((sent + plain_messages) as f64 + words);
    compare("messages received", server("throng_messages_received_total"), sent as f64, !has_breaks, most);

    let live = of(&counts.sent, Timed::Live.name());
    let refused = counts.refused.values().sum::<u64>() as f64;
    compare(
        "live events published",
        server("throng_live_events_published_total"),
        live - refused.min(live),
        !has_breaks,
        plain.is_none().then_some(live),
    );
    if counts.recovered == 0 {
        let delivered = of(&counts.delivered, Timed::Live.name()) + of(&counts.delivered, Timed::Durable.name());
        compare("deliveries", server("throng_frames_delivered_total"), delivered, true, None);
    }
    let acked = (counts.acked + counts.duplicate_acks) as f64;
    let server_acked = server("throng_durable_messages_acknowledged_total")
        .map(|acked| acked + server("throng_durable_messages_duplicate_total").unwrap_or(0.0));
    compare(
        "durable messages acknowledged",
        server_acked,
        counts.acked as f64,
        true,
        (!has_breaks && plain.is_none()).then_some(acked),
    );
    compare(
        "sign-ins",
        server("throng_sign_ins_total"),
        counts.connected as f64,
        // The first snapshot is taken when clients have begun to come already.
        false,
        (slow == 0).then_some((opened + counts.connect_failed + super::metrics::away_at_end(counts)) as f64),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::tests::good;

    fn found(change: impl FnOnce(&mut RunResult)) -> Vec<String> {
        let mut result = good();
        change(&mut result);
        find(&result)
    }

    fn told(words: &[&str], change: impl FnOnce(&mut RunResult)) {
        let found = found(change);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(words.iter().all(|word| found[0].contains(word)), "{found:?}");
    }

    #[test]
    fn a_server_without_words_contradicts_nothing() {
        let silent = |result: &mut RunResult| {
            result.witness = Default::default();
            result.latency.get_mut(&Timed::Live).unwrap().service.p99 = 1_000_000_000;
        };
        assert_eq!(found(silent), Vec::<String>::new());
    }

    #[test]
    fn clients_cannot_have_it_before_it_was_sent() {
        // 1,000 records, 999,000 deliveries: quantile 0.9995, so p99.99 counts, which is 5.9 ms.
        let median =
            |ns: u64| move |result: &mut RunResult| result.witness.histograms.get_mut("broadcast").unwrap().p50 = ns;
        assert_eq!(found(median(5_900_000)), Vec::<String>::new());
        told(&["more than 5.91 ms", "within 5.90 ms"], median(5_905_000));
        let mixed = |result: &mut RunResult| {
            median(50_000_000)(result);
            let typing = crate::scenario::Traffic { kind: Kind::Typing, ..result.scenario.traffic[0].clone() };
            result.scenario.traffic.push(typing);
        };
        assert_eq!(found(mixed), Vec::<String>::new(), "typing has records, and no deliveries that are timed");
    }

    #[test]
    fn quantiles_round_up() {
        let service = Percentiles { p50: 1, p90: 2, p99: 3, p999: 4, p9999: 5, max: 6, mean: 0.0 };
        let latency = Latency { service, ..Latency::default() };
        let at = |quantile| quantile_at_least(&latency, quantile);
        assert_eq!(
            [at(0.2), at(0.5), at(0.51), at(0.9995), at(0.99999)],
            [Some(1), Some(1), Some(2), Some(5), Some(6)]
        );
        assert_eq!((at(0.0), at(-3.0), at(1.1)), (None, None, None));
    }

    #[test]
    fn latency_that_the_server_does_not_know_is_told() {
        let service =
            |ns: u64| move |result: &mut RunResult| result.latency.get_mut(&Timed::Live).unwrap().service.p99 = ns;
        // 2 × (1.5 ms + 0.1 ms of lag) + 5 ms.
        assert_eq!(found(service(8_200_000)), Vec::<String>::new());
        told(&["saw 8.21 ms"], service(8_210_000));
        told(&["says 1.50 ms", "saw 40.00 ms", "something between them"], service(40_000_000));
        let long_turns = |result: &mut RunResult| {
            service(40_000_000)(result);
            let turn = Percentiles { p99: 20_000_000, ..Percentiles::default() };
            result.witness.histograms.insert("turn".into(), turn);
        };
        assert_eq!(found(long_turns), Vec::<String>::new());
    }

    #[test]
    fn counts_must_agree() {
        let server = |name: &'static str, count: f64| {
            move |result: &mut RunResult| {
                result.witness.counters.insert(name.into(), count);
            }
        };
        told(&["messages received", "counts 1098", "1100"], server("throng_messages_received_total", 1_098.0));
        // 1,100 + 2 × 2 × 1,000.
        assert!(found(server("throng_messages_received_total", 5_100.0)).is_empty());
        told(&["messages received", "more than"], server("throng_messages_received_total", 5_102.0));
        told(&["live events published"], server("throng_live_events_published_total", 1_000.0));
        told(&["live events published"], server("throng_live_events_published_total", 1_200.0));
        told(&["deliveries", "1098900"], server("throng_frames_delivered_total", 1_090_000.0));
        told(&["durable messages acknowledged"], server("throng_durable_messages_acknowledged_total", 5.0));
        told(&["sign-ins", "more than the clients account for (1000)"], server("throng_sign_ins_total", 1_200.0));
    }

    #[test]
    fn breaks_excuse_what_was_under_way() {
        let broken = |result: &mut RunResult| {
            (result.counts.broken, result.counts.reconnected) = (10, 10);
            result.witness.counters.insert("throng_live_events_published_total".into(), 1_050.0);
            result.witness.counters.insert("throng_durable_messages_acknowledged_total".into(), 5.0);
            result.witness.counters.insert("throng_sign_ins_total".into(), 1_010.0);
        };
        assert_eq!(found(broken), Vec::<String>::new());
    }
}
