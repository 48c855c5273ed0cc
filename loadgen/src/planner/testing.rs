//! For tests: a model with round prices, and a server that obeys a known cost model.
use super::cost;
use super::fit::{Coefficient, Prices};
use super::model::{FORMAT, Model, Reach};
use super::network::Overhead;
use super::work::Work;
use crate::result::{
    ClientLoad, Counts, Integrity, Latency, Machine, Outcome, Percentiles, RunResult, ServerCost, Timed, Verdict,
    Witness,
};
use crate::scenario::Scenario;
use std::collections::BTreeMap;

fn prices(values: &[(&str, f64)], unit: &str) -> Prices {
    let coefficient = |&(name, value): &(&str, f64)| Coefficient {
        name: name.into(),
        unit: unit.into(),
        value: Some(value),
        error: None,
        points: 1,
        note: None,
    };
    let coefficients = values.iter().map(coefficient).collect();
    Prices { coefficients, covariance: None, freedom: 0, miss_share: 0.0, miss_share_max: 0.0 }
}

/// Prices for arithmetic in one's head: a delivery 0.1 µs and its send 0.4 µs, nothing gathered; a message 3 µs, a durable one 12 µs,
/// a heartbeat 6 µs, a handshake 100 µs; 250 bytes and 2,750 in the kernel for a connection, 1,000 for a durable room and 10 for
/// each event that it keeps.
pub fn round_model() -> Model {
    Model {
        format: FORMAT,
        measured_at: 1_795_505_864_337,
        server_version: Some("0.1.0".into()),
        loadgen_version: "0.1.0".into(),
        machine: Machine {
            cpu: "a test's idea of a processor".into(),
            cores: 32,
            kernel: "6.18".into(),
            ..Machine::default()
        },
        command: "throng-loadgen capacity".into(),
        cpu: prices(
            &[
                (cost::DELIVERY, 0.1),
                (cost::SEND, 0.4),
                (cost::PAYLOAD_BYTE, 0.0),
                (cost::RECEIVED, 3.0),
                (cost::DURABLE, 12.0),
                (cost::HEARTBEAT, 6.0),
                (cost::IDLE, 0.0),
                (cost::SHARD, 0.0),
                (cost::COMMIT, 0.0),
            ],
            "µs",
        ),
        rss: Some(prices(
            &[
                (cost::CONNECTION, 250.0),
                (cost::PROCESS, 0.0),
                (cost::ACTIVE_CONNECTION, 0.0),
                (cost::DURABLE_ROOM, 1000.0),
                (cost::MAILBOX, 0.0),
                (cost::EVENT_KEPT, 10.0),
            ],
            "bytes",
        )),
        kernel: Some(prices(&[(cost::CONNECTION, 2750.0)], "bytes")),
        handshake: Some(Coefficient {
            name: "handshake".into(),
            unit: "µs".into(),
            value: Some(100.0),
            error: Some(5.0),
            points: 10,
            note: None,
        }),
        gather: None,
        commits: None,
        usl: None,
        durable: None,
        overhead: Overhead { delivered_bytes: 186.0, sent_bytes: 96.0, is_measured: true },
        reach: Reach {
            shards: 32.0,
            shards_min: 32.0,
            connections: 1e6,
            deliveries_per_s: 1e9,
            payload_bytes: 1e4,
            room_members: 100.0,
        },
        points: Vec::new(),
        validation: Vec::new(),
        notes: Vec::new(),
    }
}

/// A server made of prices. What it gathers follows exhaustive service, and not the form that the model fits: a turn takes what came
/// during the last one, k = ρk + e^(−ρk).
pub struct Synthetic {
    pub delivery_us: f64,
    pub send_us: f64,
    pub byte_us: f64,
    pub received_us: f64,
    pub durable_us: f64,
    pub commit_us: f64,
    /// From one commit to the next, at the least.
    pub commit_s: f64,
    pub heartbeat_us: f64,
    pub idle_us: f64,
    pub shard_us: f64,
    pub durable_max_per_s: f64,
    /// Contention between shards.
    pub sigma: f64,
    /// Relative noise of every figure.
    pub noise: f64,
    pub tells_turns: bool,
    /// Deliveries per second beyond which the client is the bottleneck.
    pub client_max_per_s: f64,
    pub state: u64,
}

impl Synthetic {
    pub fn new(noise: f64) -> Synthetic {
        Synthetic {
            delivery_us: 0.15,
            send_us: 2.5,
            byte_us: 0.0004,
            received_us: 3.5,
            durable_us: 11.0,
            commit_us: 150.0,
            commit_s: 0.0008,
            heartbeat_us: 5.0,
            idle_us: 0.2,
            shard_us: 400.0,
            durable_max_per_s: 12_000.0,
            sigma: 0.04,
            noise,
            tells_turns: true,
            client_max_per_s: f64::INFINITY,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn noisy(&mut self, value: f64) -> f64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (self.state >> 11) as f64 / (1u64 << 53) as f64;
        value * (1.0 + self.noise * (2.0 * uniform - 1.0))
    }

    fn commits_per_s(&self, work: &Work) -> f64 {
        work.durable_per_s / (1.0 + work.durable_per_s * self.commit_s)
    }

    /// Cores in use at a utilisation, and turns per shard and second.
    fn cores(&self, work: &Work, rho: f64) -> (f64, f64) {
        let mut wakes = 1.0;
        for _ in 0..200 {
            wakes = 0.5 * wakes + 0.5 * (rho * wakes + (-rho * wakes).exp());
        }
        let turns = work.wakes_per_shard_s() / wakes;
        let rate = work.deliveries_per_connection();
        let sends = if rate > 0.0 { work.active_connections * turns * -(-rate / turns).exp_m1() } else { 0.0 };
        let us = work.deliveries_per_s * self.delivery_us
            + sends * self.send_us
            + work.payload_bytes_per_s * self.byte_us
            + work.received_per_s * self.received_us
            + work.durable_per_s * self.durable_us
            + self.commits_per_s(work) * self.commit_us
            + work.heartbeats_per_s * self.heartbeat_us
            + work.connections * self.idle_us
            + work.shards * self.shard_us;
        (us / 1e6 * (1.0 + self.sigma * (work.shards - 1.0)), turns)
    }

    pub fn run(&mut self, scenario: &Scenario, shards: u32) -> RunResult {
        let work = Work::offered(scenario, shards);
        let (mut low, mut high) = (0.0, 0.999);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.cores(&work, middle).0 / work.shards > middle { low = middle } else { high = middle }
        }
        let rho: f64 = 0.5 * (low + high);
        let needed = self.cores(&work, 0.999).0 / work.shards;
        let done = (1.0 / needed).min(1.0);
        let acked = done.min(self.durable_max_per_s / work.durable_per_s.max(1.0));
        let (cores, turns) = self.cores(&work, rho);
        let cores = self.noisy(cores.min(work.shards));
        let seconds = scenario.time.measure_s;
        let connections = work.connections;
        let rss = 9e6
            + 240.0 * connections
            + 500.0 * work.active_connections
            + 3_000.0 * work.durable_rooms
            + 600.0 * work.events_kept;
        let rss = self.noisy(rss) as u64;
        let slab = self.noisy(2.0 * 2_600.0 * connections) as u64;
        let total_s = seconds + scenario.time.warmup_s;
        let of = |per_s: f64, seconds: f64| (per_s * seconds).round() as u64;
        let is_overrun = work.deliveries_per_s > self.client_max_per_s;
        let p99 = (300_000.0 / (1.0 - rho.min(0.99))) as u64 + if acked < 0.99 { 1_000_000_000 } else { 0 };
        let latency = Latency { response: Percentiles { p99, ..Percentiles::default() }, ..Latency::default() };
        RunResult {
            format: crate::result::FORMAT,
            started_at: 1_795_505_864_337,
            server_name: "synthetic".into(),
            command: String::new(),
            scenario: scenario.clone(),
            machine: Machine::default(),
            counts: Counts {
                connected: scenario.connections.into(),
                sent: BTreeMap::from([("all".into(), of(work.received_per_s + work.durable_per_s, total_s))]),
                delivered: BTreeMap::from([("all".into(), of(work.deliveries_per_s * acked, total_s))]),
                measured_ns: (seconds * 1e9) as u64,
                measured_sent: of(work.received_per_s + work.durable_per_s * acked, seconds),
                measured_delivered: of(work.deliveries_per_s * acked, seconds),
                measured_acked: of(work.durable_per_s * acked, seconds),
                measured_heartbeats: of(work.heartbeats_per_s, seconds),
                bytes_received: of((work.payload_bytes_per_s + 190.0 * work.deliveries_per_s) * acked, total_s),
                bytes_sent: of((work.received_per_s + work.durable_per_s) * 300.0, total_s),
                ..Counts::default()
            },
            latency: BTreeMap::from([(Timed::Live, latency)]),
            integrity: Integrity::default(),
            series: Vec::new(),
            server: ServerCost {
                pid: Some(1),
                version: Some("0.1.0".into()),
                shards: Some(shards),
                cpu_user_ns: Some((cores * seconds * 4e8) as u64),
                cpu_system_ns: Some((cores * seconds * 6e8) as u64),
                rss_before_bytes: Some(9_000_000),
                rss_connected_bytes: Some(rss),
                rss_max_bytes: Some(rss),
                slab_before: BTreeMap::from([("Slab".into(), 100_000_000)]),
                slab_connected: BTreeMap::from([("Slab".into(), 100_000_000 + slab)]),
                cpu_connect_ns: Some(self.noisy(90_000.0 * connections) as u64),
                ..ServerCost::default()
            },
            client: ClientLoad::default(),
            witness: Witness {
                histogram_counts: if self.tells_turns {
                    BTreeMap::from([
                        ("turn".into(), of(turns * work.shards, seconds)),
                        ("commit".into(), of(self.commits_per_s(&work), seconds)),
                    ])
                } else {
                    BTreeMap::new()
                },
                ..Witness::default()
            },
            verification: None,
            metrics: BTreeMap::new(),
            verdict: Verdict {
                outcome: if is_overrun { Outcome::Invalid } else { Outcome::Passed },
                invalid: if is_overrun { vec!["the client was the bottleneck".into()] } else { Vec::new() },
                ..Verdict::default()
            },
        }
    }
}
