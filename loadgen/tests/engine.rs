//! The engine against a real Throng: every kind of traffic and disturbance, small, checked to the last delivery.
use std::path::PathBuf;
use throng_loadgen::engine::{Control, EngineOptions, EngineOutcome, run};
use throng_loadgen::result::Timed;
use throng_loadgen::scenario::Scenario;
use throng_loadgen::server::{Launch, launch};

/// The server of the same build.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let program = own.parent().and_then(|deps| deps.parent()).expect("a target folder").join("throng");
    assert!(program.is_file(), "{} is missing: build the whole workspace", program.display());
    program
}

fn scenario(text: &str) -> Scenario {
    toml::from_str(&format!("name = 'test'\nabout = 'test'\n{text}")).expect("a scenario")
}

fn outcome(text: &str) -> EngineOutcome {
    let mut scenario = scenario(text);
    scenario.server.shards = 2;
    let launched = Launch {
        program: Some(program()),
        connections: scenario.connections,
        settings: scenario.server.clone(),
        parent: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))),
        ..Launch::default()
    };
    let (server, target) = launch(&launched).expect("a server");
    let options =
        EngineOptions { scenario: &scenario, target: &target, workers: Some(2), cores: Vec::new(), seed: 1, salt: 2 };
    let outcome = run(&options, &Control::default()).expect("a run");
    server.stop().expect("an orderly end");
    assert_eq!(outcome.counts.connected, u64::from(scenario.connections));
    assert!(outcome.integrity.is_sound(), "{:?}", outcome.integrity);
    assert!(!outcome.watched.series.is_empty());
    outcome
}

#[test]
fn heartbeats_are_answered() {
    let outcome = outcome("connections = 50\nheartbeat_ms = 100\ntime = { warmup_s = 0.5, measure_s = 2 }");
    // 50 clients, 10 a second each, 2 s: 1,000, but for those at the edges of the window.
    let answers = outcome.latency[&Timed::Heartbeat].count;
    assert!((900..=1_100).contains(&answers), "{answers}");
    assert_eq!(outcome.latency[&Timed::Handshake].count, 50);
    assert!(outcome.watched.witness.is_present);
    assert!(outcome.watched.server.rss_connected_bytes.is_some_and(|rss| rss > 1 << 20));
}

#[test]
fn live_events_reach_everyone_once_in_order() {
    let outcome = outcome(
        "connections = 60\ntime = { warmup_s = 0.5, measure_s = 2 }\n[[layer]]\nname = 'match'\nmembers = 20\n\
         [[layer]]\nname = 'all'\nmembers = 0\n\
         [[traffic]]\nkind = 'live'\nlayer = 'match'\nsenders = 0\nrate_per_s = 10\narrival = 'uniform'\n\
         [[traffic]]\nkind = 'live'\nlayer = 'all'\nsenders = 3\nrate_per_s = 5\npayload_bytes = 300\ninclude_self = true",
    );
    let sent = outcome.counts.sent["live"];
    // 60 × 10 and 3 × 5 a second for 2.5 s.
    assert!((1_300..=1_700).contains(&sent), "{sent}");
    // Each goes to the 19 others, or to all 60.
    assert_eq!(outcome.integrity.expected, outcome.integrity.delivered);
    assert!(outcome.integrity.expected > sent * 19);
    assert_eq!(outcome.counts.delivered["live"], outcome.integrity.delivered);
}

#[test]
fn durable_messages_are_acked_and_delivered() {
    let outcome = outcome(
        "connections = 40\ntime = { warmup_s = 0.5, measure_s = 2 }\n[[layer]]\nname = 'room'\nmembers = 4\n\
         [[traffic]]\nkind = 'durable'\nlayer = 'room'\nsenders = 2\nrate_per_s = 10\n\
         [[traffic]]\nkind = 'typing'\nlayer = 'room'\nsenders = 1\nrate_per_s = 2",
    );
    assert_eq!(outcome.counts.acked, outcome.counts.sent["durable"]);
    assert_eq!(outcome.integrity.delivered, outcome.counts.acked * 4);
    assert!(outcome.counts.sent["typing"] > 0);
    assert!(outcome.latency[&Timed::Ack].count > 0 && outcome.latency[&Timed::Durable].count > 0);
}

#[test]
fn churn_loses_no_durable_message() {
    let outcome = outcome(
        "connections = 40\ntime = { warmup_s = 0.5, measure_s = 4 }\nchurn = { per_s = 20, away_ms = 300 }\n\
         [[layer]]\nname = 'room'\nmembers = 4\n\
         [[traffic]]\nkind = 'durable'\nlayer = 'room'\nsenders = 0\nrate_per_s = 5\n\
         [[traffic]]\nkind = 'live'\nlayer = 'room'\nsenders = 1\nrate_per_s = 10",
    );
    assert!(outcome.counts.broken > 40, "{}", outcome.counts.broken);
    assert_eq!(outcome.counts.reconnected, outcome.counts.broken);
    assert_eq!(outcome.counts.recovered, outcome.counts.broken);
    assert_eq!(outcome.counts.not_recovered, 0);
    assert_eq!(outcome.counts.acked, outcome.counts.sent["durable"]);
    assert!(outcome.counts.closed.is_empty(), "{:?}", outcome.counts.closed);
}

#[test]
fn after_a_storm_all_are_back() {
    let outcome = outcome(
        "connections = 200\ntime = { warmup_s = 0.2, measure_s = 3 }\n\
         storm = { at_s = 0.5, fraction = 1.0, jitter_ms = 500 }\n[[layer]]\nname = 'room'\nmembers = 10\n\
         [[traffic]]\nkind = 'durable'\nlayer = 'room'\nsenders = 1\nrate_per_s = 2",
    );
    assert_eq!((outcome.counts.broken, outcome.counts.reconnected, outcome.counts.recovered), (200, 200, 200));
    assert!(outcome.counts.storm_span_ns > 0);
    assert_eq!(outcome.latency[&Timed::Handshake].count, 200, "only those that came back");
}
