//! Made-up results for tests, as a real run of 60 s would give them; always the same. And the comparison with golden files.
use crate::result::*;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::path::Path;

/// Noise that repeats: 0 to 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A distribution with a long tail around a median.
fn latency(count: u64, p50_us: f64, tail: f64, lateness: f64) -> Latency {
    // The quantile function p50 · (a + tail · u / (1 − u)), as HdrHistogram would keep it: three digits.
    let at = |percentile: f64| {
        let rest = 1.0 - percentile / 100.0;
        let us = p50_us * (0.6 + 0.8 * (1.0 - rest) + tail * (1.0 / rest.max(0.5 / count as f64)).sqrt());
        let digit = 10u64.pow(((us * 1e3) as u64).ilog10().saturating_sub(2));
        (us * 1e3) as u64 / digit * digit
    };
    let percentiles = |factor: f64| {
        let [p50, p90, p99, p999, p9999, max] =
            [50.0, 90.0, 99.0, 99.9, 99.99, 100.0].map(|percentile| (at(percentile) as f64 * factor) as u64);
        Percentiles { p50, p90, p99, p999, p9999, max, mean: p50 as f64 * 1.2 }
    };
    let mut curve = Vec::new();
    for halving in 0..40 {
        for step in 0..4 {
            let percentile = 100.0 * (1.0 - 0.5f64.powi(halving) * (1.0 - 0.125 * f64::from(step)));
            if (1.0 - percentile / 100.0) * count as f64 > 0.5 {
                curve.push((percentile, at(percentile)));
            }
        }
    }
    curve.push((100.0, at(100.0)));
    Latency { count, response: percentiles(1.0), service: percentiles(1.0 - lateness), curve, histogram: String::new() }
}

const CONNECT_S: u32 = 5;
const WARMUP_S: u32 = 5;
const MEASURE_S: u32 = 60;
const SETTLE_S: u32 = 3;

fn series() -> Vec<Second> {
    let mut noise = Noise(7);
    let mib = |mib: f64| (mib * 1048576.0) as u64;
    let all = CONNECT_S + WARMUP_S + MEASURE_S + SETTLE_S;
    (0..all)
        .map(|second| {
            let phase = match second {
                0..CONNECT_S => Phase::Connect,
                _ if second < CONNECT_S + WARMUP_S => Phase::Warmup,
                _ if second < all - SETTLE_S => Phase::Measure,
                _ => Phase::Settle,
            };
            let connected = (u64::from(second + 1) * 10_000 / u64::from(CONNECT_S)).min(10_000);
            let is_busy = matches!(phase, Phase::Warmup | Phase::Measure);
            let load = if is_busy { 0.97 + 0.06 * noise.next() } else { 0.0 };
            // Twice a store commit takes its time.
            let stall = if second == 31 || second == 54 { 9.0 } else { 1.0 };
            let ns = |us: f64, spread: f64, noise: &mut Noise| (us * 1e3 * (1.0 + spread * noise.next())) as u64;
            let has_samples = phase != Phase::Settle;
            let timed = |us: f64, spread: f64, noise: &mut Noise| if has_samples { ns(us, spread, noise) } else { 0 };
            Second {
                t_s: f64::from(second),
                phase,
                connected,
                sent: (4_000.0 * load) as u64,
                delivered: (196_000.0 * load) as u64,
                acked: (1_000.0 * load) as u64,
                p50_ns: timed(180.0, 0.08, &mut noise),
                p99_ns: timed(640.0 * f64::sqrt(stall), 0.2, &mut noise),
                p999_ns: timed(1_500.0 * stall, 0.4, &mut noise),
                max_ns: timed(2_600.0 * stall, 1.2, &mut noise),
                server_cores: if is_busy {
                    1.55 * load
                } else if phase == Phase::Connect {
                    0.9
                } else {
                    0.02
                },
                client_cores: if is_busy {
                    1.05 * load
                } else if phase == Phase::Connect {
                    0.5
                } else {
                    0.03
                },
                server_rss_bytes: mib(18.0
                    + connected as f64 * 0.0046
                    + if is_busy { 6.0 + noise.next() } else { 0.0 }),
                client_rss_bytes: mib(21.0 + connected as f64 * 0.0011),
                kernel_slab_bytes: Some(mib(212.0 + connected as f64 * 0.0094)),
                lag_max_ns: if is_busy { ns(60.0 * stall, 2.0, &mut noise) } else { 0 },
            }
        })
        .collect()
}

/// Chat of 10,000 people, all well.
pub fn passed() -> RunResult {
    let map = |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let mib = 1048576;
    let percentiles = |p50: u64, p99: u64, p999: u64, max: u64| Percentiles {
        p50,
        p90: p50 * 2,
        p99,
        p999,
        p9999: max,
        max,
        mean: p50 as f64,
    };
    let latencies = [
        (Timed::Handshake, latency(10_000, 310.0, 0.4, 0.0)),
        (Timed::Join, latency(20_000, 95.0, 0.3, 0.0)),
        (Timed::Live, latency(8_816_400, 165.0, 0.12, 0.01)),
        (Timed::Ack, latency(60_014, 420.0, 0.5, 0.08)),
        (Timed::Durable, latency(2_940_686, 460.0, 0.3, 0.07)),
    ];
    RunResult {
        format: FORMAT,
        started_at: 1_760_000_000_000,
        server_name: "throng".into(),
        command: "throng-loadgen run chat --server target/release/throng --targets loadgen/targets/chat.toml --out out"
            .into(),
        scenario: scenario(),
        machine: Machine {
            hostname: "bench-1".into(),
            kernel: "Linux 6.12.48 x86_64".into(),
            cpu: "AMD EPYC 9454P 48-Core Processor".into(),
            cores: 8,
            memory_bytes: 64 * 1024 * mib,
            nofile_limit: 20_000,
            memlock_limit: Some(8 * mib),
            sysctls: [
                ("net.core.somaxconn", "4096"),
                ("net.ipv4.ip_local_port_range", "32768\t60999"),
                ("net.ipv4.tcp_rmem", "4096\t131072\t6291456"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            transparent_hugepages: Some("madvise".into()),
            clock_source: Some("tsc".into()),
            load_average: 0.08,
            is_virtual: Some(false),
            commit: Some("566f34f2c1".into()),
            loadgen_version: "0.1.0".into(),
        },
        counts: Counts {
            connected: 10_000,
            connect_span_ns: 4_712_000_000,
            sent: map(&[("live", 195_020), ("durable", 65_003)]),
            delivered: map(&[("live", 9_555_980), ("durable", 3_185_147)]),
            acked: 65_003,
            measured_ns: 60_000_000_000,
            measured_sent: 240_014,
            measured_delivered: 11_757_086,
            measured_acked: 60_014,
            bytes_sent: 58 * mib,
            bytes_received: 2_412 * mib,
            ..Counts::default()
        },
        latency: latencies.into(),
        integrity: Integrity { expected: 12_741_127, delivered: 12_741_127, ..Integrity::default() },
        series: series(),
        server: ServerCost {
            pid: Some(4242),
            version: Some("0.1.0".into()),
            shards: Some(4),
            cores: vec![0, 1, 2, 3],
            cpu_user_ns: Some(31_400_000_000),
            cpu_system_ns: Some(62_200_000_000),
            busiest_thread: Some(("shard-2".into(), 0.47)),
            rss_before_bytes: Some(18 * mib),
            rss_connected_bytes: Some(64 * mib),
            rss_max_bytes: Some(71 * mib),
            slab_before: map(&[("Slab", 212 * mib), ("TCP", 2 * mib), ("sock_inode_cache", mib)]),
            slab_connected: map(&[("Slab", 306 * mib), ("TCP", 48 * mib), ("sock_inode_cache", 21 * mib)]),
            cpu_connect_ns: Some(1_310_000_000),
        },
        client: ClientLoad {
            workers: [0.49, 0.52, 0.47]
                .map(|busy| WorkerLoad {
                    connections: 3_334,
                    busy,
                    busy_max: busy + 0.14,
                    unsent_bytes_max: 4_096,
                    lag_max_ns: 1_310_000,
                })
                .to_vec(),
            cores: vec![4, 5, 6],
            rss_before_bytes: 21 * mib,
            rss_connected_bytes: 32 * mib,
            lag: percentiles(9_000, 61_000, 180_000, 1_310_000),
            cpu_ns: 63_100_000_000,
        },
        witness: Witness {
            is_present: true,
            histograms: [
                ("broadcast", percentiles(74_000, 390_000, 1_210_000, 19_000_000)),
                ("handshake", percentiles(121_000, 640_000, 1_900_000, 4_100_000)),
                ("commit", percentiles(260_000, 1_400_000, 5_200_000, 21_000_000)),
                ("turn", percentiles(31_000, 160_000, 410_000, 2_200_000)),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            histogram_counts: map(&[
                ("broadcast", 240_014),
                ("handshake", 10_000),
                ("commit", 31_804),
                ("turn", 1_204_551),
            ]),
            counters: [("throng_messages_received_total", 290_023.0), ("throng_deliveries_total", 12_741_127.0)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            contradictions: Vec::new(),
        },
        verification: None,
        metrics: [("server.cpu_us_per_delivery", 7.96), ("connects_per_second", 2122.2), ("lost", 0.0)]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        verdict: Verdict { outcome: Outcome::Passed, met: 7, ..Verdict::default() },
    }
}

/// The same with a fault of every kind that a run may have without being invalid.
pub fn missed() -> RunResult {
    let mut result = passed();
    result.integrity.delivered -= 4;
    result.integrity.lost_durable = 3;
    result.integrity.duplicated = 1;
    result.integrity.skipped_live = 12;
    result.integrity.lost_live = 12;
    result.integrity.examples =
        vec!["room 17, publisher 3: subscriber 812 never got number 204 of 651, which was acknowledged".into()];
    result.counts.refused = BTreeMap::from([("rate_limited".to_owned(), 7)]);
    result.counts.closed = BTreeMap::from([(1006, 2), (4101, 1)]);
    result.counts.broken = 3;
    result.counts.storm_span_ns = 1_840_000_000;
    result.counts.reconnected = 3;
    result.counts.recovered = 2;
    result.counts.not_recovered = 1;
    result.witness.contradictions = vec!["the server counts 12,741,127 deliveries, the clients 12,741,123".into()];
    result.verdict = Verdict {
        outcome: Outcome::Missed,
        invalid: Vec::new(),
        misses: vec![
            Miss { metric: "latency.p99_ms".into(), bound: "<= 0.5".into(), measured: Some(0.861) },
            Miss { metric: "server.kernel_bytes_per_connection".into(), bound: "<= 8192".into(), measured: None },
        ],
        met: 5,
    };
    result
}

fn scenario() -> Scenario {
    let text = r#"
        name = "chat"
        about = "People in rooms of 50 write to each other: live events such as reactions, and durable messages."
        connections = 10000
        connect = { rate_per_s = 2000, window = 256 }
        time = { warmup_s = 5, measure_s = 60 }
        [[layer]]
        name = "room"
        members = 50
        [[traffic]]
        kind = "live"
        layer = "room"
        senders = 50
        rate_per_s = 0.3
        [[traffic]]
        kind = "durable"
        layer = "room"
        senders = 5
        rate_per_s = 1
        payload_bytes = 160
        [server]
        shards = 4
    "#;
    toml::from_str(text).expect("a scenario")
}

/// Compares with `loadgen/tests/golden/NAME`, or writes it.
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of golden files");
        return std::fs::write(&path, text).expect("the golden file");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if wanted != text {
        let line = wanted.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
        panic!(
            "differs from tests/golden/{name} at line {}:\n  golden: {}\n  now:    {}\nIf the change is intended: UPDATE_GOLDEN=1 cargo test -p throng-loadgen --lib report",
            line + 1,
            wanted.lines().nth(line).unwrap_or("(ends)"),
            text.lines().nth(line).unwrap_or("(ends)"),
        );
    }
}

/// Writes the page to the folder `REPORT_OUT`, if that is set: to look at it in a browser.
pub fn look(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("REPORT_OUT") {
        std::fs::write(Path::new(&folder).join(name), html).expect("a page to look at");
    }
}

/// The elements of a page with their classes, ids and short texts; of a chart only what it is made of.
pub fn outline(html: &str) -> String {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let page = roxmltree::Document::parse_with_options(html, options).expect("well-formed");
    let mut text = String::new();
    walk(page.root_element(), 0, &mut text);
    text
}

fn walk(node: roxmltree::Node<'_, '_>, depth: usize, text: &mut String) {
    let name = node.tag_name().name();
    if ["style", "meta", "tr"].contains(&name) && node.ancestors().all(|above| !above.has_tag_name("thead")) {
        return;
    }
    let mut line = format!("{}{name}", "  ".repeat(depth));
    for attribute in ["id", "class", "aria-label"] {
        line.extend(node.attribute(attribute).map(|value| format!(" {attribute}={value:?}")));
    }
    if name == "svg" {
        let of = |class: &str| {
            let has = |node: &roxmltree::Node<'_, '_>| {
                node.attribute("class").is_some_and(|all| all.split(' ').any(|one| one == class))
            };
            node.descendants().filter(|node| node.has_tag_name("polyline") || class == "band").filter(has).count()
        };
        text.push_str(&format!("{line} ({} lines, {} bands)\n", of("line"), of("band")));
        return;
    }
    let own = node.text().unwrap_or_default().trim();
    if ["h1", "h2", "h3", "th", "dt", "summary", "b", "span", "title"].contains(&name) && !own.is_empty() {
        line.push_str(&format!(": {own}"));
    }
    text.push_str(&line);
    text.push('\n');
    node.children().filter(roxmltree::Node::is_element).for_each(|child| walk(child, depth + 1, text));
}
