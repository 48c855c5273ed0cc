use super::*;
use crate::result::{Latency, Percentiles};

/// A run in which the server took `cpu_us` for each of a million deliveries.
fn run(name: &str, cpu_us: f64, p99_ms: u64) -> RunResult {
    let scenario = "name = \"fanout\"\nabout = \"\"\nconnections = 10\ntime = { warmup_s = 1, measure_s = 2 }\n";
    let text = serde_json::json!({
        "format": 1, "started_at": 0, "server_name": name, "command": "", "machine": crate::result::Machine::default(),
        "scenario": toml::from_str::<crate::scenario::Scenario>(scenario).unwrap(),
        "counts": crate::result::Counts::default(), "latency": {}, "integrity": crate::result::Integrity::default(),
        "series": [], "server": crate::result::ServerCost::default(), "client": crate::result::ClientLoad::default(),
        "witness": crate::result::Witness::default(), "metrics": {}, "verdict": crate::result::Verdict::default(),
    });
    let mut run: RunResult = serde_json::from_value(text).expect("a result");
    run.counts.measured_delivered = 1_000_000;
    run.counts.measured_sent = 1_000;
    run.counts.connected = 10;
    run.server.cpu_user_ns = Some((cpu_us * 1e9 * 0.25) as u64);
    run.server.cpu_system_ns = Some((cpu_us * 1e9 * 0.75) as u64);
    run.server.rss_before_bytes = Some(50_000);
    run.server.rss_connected_bytes = Some(150_000);
    let response = Percentiles { p50: p99_ms * 500_000, p99: p99_ms * 1_000_000, ..Percentiles::default() };
    run.latency.insert(Timed::Live, Latency { count: 5, response, ..Latency::default() });
    run
}

const BOTH: [PeerChoice; 2] = [PeerChoice::Throng, PeerChoice::Peer(Peer::Bun)];

fn found(comparison: &Comparison, measure: Measure) -> &Ratio {
    comparison.ratios.iter().find(|ratio| ratio.measure == measure).expect("measured")
}

#[test]
fn rounds_run_in_turn() {
    let mut order = Vec::new();
    let sides = rounds(&BOTH, 3, |choice, round| {
        order.push((choice.name(), round));
        Ok(run(choice.name(), 1.0, 1))
    });
    assert_eq!(order, [("throng", 0), ("bun", 0), ("throng", 1), ("bun", 1), ("throng", 2), ("bun", 2)]);
    assert!(sides.iter().all(|side| side.results.len() == 3 && side.failure.is_none()));
}

#[test]
fn figures_are_by_what_was_done() {
    let mut result = run("throng", 0.5, 4);
    let close = |measure: Measure, result: &RunResult, expected: f64| {
        let value = measure.of(result).expect("measured");
        assert!((value / expected - 1.0).abs() < 1e-9, "{measure:?}: {value}");
    };
    close(Measure::CpuPerDelivery, &result, 0.5);
    close(Measure::CpuPerMessage, &result, 500.0);
    close(Measure::LatencyP50, &result, 2.0);
    close(Measure::LatencyP99, &result, 4.0);
    close(Measure::RssPerConnection, &result, 10_000.0);

    // An echo: no deliveries, so by answers.
    let live = result.latency.remove(&Timed::Live).unwrap();
    result.latency.insert(Timed::Heartbeat, live);
    (result.counts.measured_delivered, result.counts.measured_sent) = (0, 2_000);
    assert_eq!(Measure::CpuPerDelivery.of(&result), None);
    close(Measure::CpuPerMessage, &result, 250.0);
    close(Measure::LatencyP99, &result, 4.0);

    // Elsewhere, where nothing can be read.
    (result.server.cpu_user_ns, result.server.rss_before_bytes) = (None, None);
    result.latency.clear();
    assert!(Measure::ALL.iter().all(|measure| measure.of(&result).is_none()));
}

#[test]
fn ratios_are_of_medians_and_spreads_of_rounds() {
    // The machine is twice as slow in the last round: ratios of rounds do not notice.
    let cpu = [(1.0, 2.0), (1.1, 2.0), (2.0, 4.4)];
    let sides = rounds(&BOTH, 3, |choice, round| {
        let (throng, bun) = cpu[round as usize];
        Ok(match choice {
            PeerChoice::Throng => run("throng 0.1.0", throng, 3),
            PeerChoice::Peer(_) => run("bun 1.4.5", bun, 2),
        })
    });
    let comparison = compare(&sides);
    assert_eq!((comparison.scenario.as_str(), comparison.notes.len()), ("fanout", 0));
    let cpu = found(&comparison, Measure::CpuPerDelivery);
    assert_eq!((cpu.peer.as_str(), cpu.rounds), ("bun 1.4.5", 3));
    let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
    near(cpu.throng, 1.1);
    near(cpu.other, 2.0);
    near(cpu.ratio, 0.55);
    near(cpu.spread.0, 2.0 / 4.4);
    near(cpu.spread.1, 0.55);
    near(comparison.metrics()["vs.bun.cpu_ratio"], 0.55);
    near(comparison.metrics()["vs.bun.latency_p99_ratio"], 1.5);
    near(comparison.metrics()["vs.bun.rss_ratio"], 1.0);
}

#[test]
fn invalid_runs_count_for_nothing_and_unsound_ones_are_named() {
    let sides = rounds(&BOTH, 3, |choice, round| {
        let mut result = run(choice.name(), if round == 1 { 100.0 } else { 1.0 }, 1);
        if (*choice, round) == (PeerChoice::Throng, 1) {
            result.verdict.outcome = Outcome::Invalid;
            result.verdict.invalid = vec!["the client was busy".into()];
        }
        if (*choice, round) == (BOTH[1], 2) {
            (result.integrity.expected, result.integrity.lost_live) = (10, 3);
        }
        Ok(result)
    });
    let comparison = compare(&sides);
    let cpu = found(&comparison, Measure::CpuPerDelivery);
    assert_eq!((cpu.rounds, cpu.throng, cpu.ratio), (2, 1.0, 1.0));
    assert_eq!(
        comparison.notes,
        [
            "throng, round 2, counts for nothing: the client was busy",
            "bun, round 3: of 10 deliveries 3 were lost, 0 doubled, 0 out of order"
        ]
    );
}

#[test]
fn who_fails_is_not_asked_again_and_the_others_go_on() {
    let choices = [BOTH[0], BOTH[1], PeerChoice::Peer(Peer::Ws)];
    let mut asked = 0;
    let sides = rounds(&choices, 3, |choice, round| {
        asked += 1;
        match choice {
            PeerChoice::Peer(Peer::Bun) => Err(format!("ended in round {round}")),
            _ => Ok(run(choice.name(), 1.0, 1)),
        }
    });
    assert_eq!(asked, 3 + 1 + 3);
    let comparison = compare(&sides);
    assert!(comparison.ratios.iter().all(|ratio| ratio.peer == "ws" && ratio.rounds == 3));
    assert_eq!(comparison.notes, ["bun was not measured on: ended in round 0", "bun: no round can be compared"]);
}

#[test]
fn medians() {
    assert_eq!(median(vec![]), None);
    assert_eq!(median(vec![3.0]), Some(3.0));
    assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
    assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
}

#[test]
fn the_table_reads_well() {
    let sides = rounds(&BOTH, 2, |choice, round| {
        Ok(match choice {
            PeerChoice::Throng => run("throng 0.1.0", 0.3 + f64::from(round) / 100.0, 3),
            PeerChoice::Peer(_) => run("bun 1.4.5", 0.5, 20),
        })
    });
    let mut comparison = compare(&sides);
    comparison.notes.push("something".into());
    let expected = "\
fanout: medians; below 1, Throng needs less

peer       measure                       throng  peer's  throng ÷ peer         spread  rounds
bun 1.4.5  CPU per delivery, µs           0.305   0.500          0.610  0.600 – 0.620       2
           CPU per message, µs              305     500          0.610  0.600 – 0.620       2
           latency p50, ms                 1.50    10.0          0.150  0.150 – 0.150       2
           latency p99, ms                 3.00    20.0          0.150  0.150 – 0.150       2
           memory per connection, bytes   10000   10000           1.00    1.00 – 1.00       2

Note: something";
    assert_eq!(comparison.table(), expected);
}
