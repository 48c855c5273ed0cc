//! The second witness: what the server itself says, from `/histograms` and `/metrics`, over a span of time.
use super::http_get;
use crate::result::{Percentiles, Witness};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use std::collections::BTreeMap;

/// Everything at one moment. Its parts are of the same moment but for the milliseconds between two requests.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By short name: `broadcast`, `commit`, `mesh_hop`, `turn`, `handshake`; ns, since the server started.
    pub histograms: BTreeMap<String, Histogram<u64>>,
    /// Totals since the server started, by name and labels as in the text: `throng_drops_total{reason="gone"}`.
    pub counters: BTreeMap<String, f64>,
    pub gauges: BTreeMap<String, f64>,
}

/// What happened between two moments.
#[derive(Clone, Debug, Default)]
pub struct Between {
    pub histograms: BTreeMap<String, Histogram<u64>>,
    pub counters: BTreeMap<String, f64>,
}

impl Snapshot {
    /// Asks the server, `http://127.0.0.1:8080`. Takes it some milliseconds of work, so keep it out of what is measured.
    pub fn fetch(admin: &str) -> Result<Snapshot, String> {
        let mut snapshot = parse_metrics(&http_get(&format!("{admin}/metrics"))?);
        // A peer may have metrics alone.
        if let Ok(histograms) = http_get(&format!("{admin}/histograms")) {
            snapshot.histograms = parse_histograms(&histograms)?;
        }
        Ok(snapshot)
    }

    /// What happened since `earlier`. A server that was started again in between has counted from 0.
    pub fn since(&self, earlier: &Snapshot) -> Between {
        let histograms = self.histograms.iter().map(|(name, later)| {
            let mut difference = later.clone();
            if let Some(earlier) = earlier.histograms.get(name)
                && let Err(error) = difference.subtract(earlier)
            {
                tracing::warn!(name, %error, "the server's histogram went back; was it started again?");
                difference = later.clone();
            }
            (name.clone(), difference)
        });
        let counters = self.counters.iter().map(|(name, later)| {
            let earlier = earlier.counters.get(name).copied().unwrap_or(0.0);
            (name.clone(), if *later >= earlier { later - earlier } else { *later })
        });
        Between { histograms: histograms.collect(), counters: counters.collect() }
    }

    /// `throng 0.1.0`, by the gauge that carries the version; `throng` or `server` without it.
    pub fn name(&self) -> String {
        match self.version() {
            Some(version) => format!("throng {version}"),
            None if self.counters.keys().any(|name| name.starts_with("throng_")) => "throng".into(),
            None => "server".into(),
        }
    }

    pub fn version(&self) -> Option<String> {
        let prefix = "throng_info{version=\"";
        let name = self.gauges.keys().find(|name| name.starts_with(prefix))?;
        Some(name[prefix.len()..].trim_end_matches("\"}").to_string())
    }

    /// Shards of the server; `None` if it does not tell.
    pub fn shards(&self) -> Option<u32> {
        let count = self.gauges.keys().filter(|name| name.starts_with("throng_shard_responding{")).count();
        (count > 0).then_some(count as u32)
    }
}

impl Between {
    /// The sum of a family over its labels; `None` if the server has no such family.
    pub fn total(&self, family: &str) -> Option<f64> {
        total(&self.counters, family)
    }

    /// What goes into the result: histograms of `window` (the measured window), counters of `run` (from start to end) that
    /// moved, or have no labels.
    pub fn to_witness(window: &Between, run: &Between) -> Witness {
        Witness {
            is_present: true,
            histograms: window.histograms.iter().map(|(name, h)| (name.clone(), percentiles(h))).collect(),
            histogram_counts: window.histograms.iter().map(|(name, h)| (name.clone(), h.len())).collect(),
            counters: run
                .counters
                .iter()
                .filter(|(name, value)| **value != 0.0 || !name.contains('{'))
                .map(|(name, value)| (name.clone(), *value))
                .collect(),
            contradictions: Vec::new(),
        }
    }
}

/// The sum of a family over its labels.
pub fn total(counters: &BTreeMap<String, f64>, family: &str) -> Option<f64> {
    let of_family = |name: &str| name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    let mut values = counters.iter().filter(|(name, _)| of_family(name)).map(|(_, value)| value);
    let first = values.next()?;
    Some(first + values.sum::<f64>())
}

/// The points of a distribution that results show, ns.
pub fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let at = |quantile| histogram.value_at_quantile(quantile);
    Percentiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: histogram.max(),
        mean: histogram.mean(),
    }
}

/// `/histograms`: those merged over all shards.
fn parse_histograms(body: &str) -> Result<BTreeMap<String, Histogram<u64>>, String> {
    let body: serde_json::Value = serde_json::from_str(body).map_err(|error| format!("/histograms: {error}"))?;
    let merged = body["merged"].as_object().ok_or("/histograms: no object \"merged\"")?;
    let decode = |(name, value): (&String, &serde_json::Value)| {
        let data = value["data"].as_str().ok_or_else(|| format!("/histograms: {name} has no data"))?;
        let bytes = STANDARD.decode(data).map_err(|error| format!("/histograms: {name}: {error}"))?;
        let histogram = Deserializer::new().deserialize(&mut bytes.as_slice());
        Ok((name.clone(), histogram.map_err(|error| format!("/histograms: {name}: {error}"))?))
    };
    merged.iter().map(decode).collect()
}

/// The Prometheus text format 0.0.4. Lines that are not understood are left out: there may be newer ones.
fn parse_metrics(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let (mut family, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            (family, kind) = declared.split_once(' ').unwrap_or_default();
        } else if !line.starts_with('#')
            && line.starts_with(family)
            && let Some((name, value)) = parse_sample(line)
        {
            match kind {
                "counter" => snapshot.counters.insert(name.into(), value),
                "gauge" => snapshot.gauges.insert(name.into(), value),
                _ => None,
            };
        }
    }
    snapshot
}

/// `name{label="text"} value`, perhaps with a time at the end. The label's text may hold anything.
fn parse_sample(line: &str) -> Option<(&str, f64)> {
    let end = match line.rfind('}') {
        Some(brace) => brace + 1,
        None => line.find(' ')?,
    };
    let (name, rest) = line.split_at(end);
    Some((name, rest.split_ascii_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{Serializer, V2Serializer};

    const METRICS: &str = r#"# HELP throng_info Constant 1, with the version of the server
# TYPE throng_info gauge
throng_info{version="0.1.0"} 1
# TYPE throng_drops_total counter
throng_drops_total{reason="live_lagging"} 12
throng_drops_total{reason="gone"} 3
# TYPE throng_drops_totally counter
throng_drops_totally 100
# TYPE throng_turn_seconds histogram
throng_turn_seconds_bucket{le="+Inf"} 7
throng_turn_seconds_count 7
# TYPE throng_shard_responding gauge
throng_shard_responding{shard="0"} 1
throng_shard_responding{shard="1"} 0
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.25 1700000000000
"#;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    fn page(values: &[u64]) -> String {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&histogram(values), &mut bytes).unwrap();
        serde_json::json!({"unit": "ns", "merged": {"turn": {"count": values.len(), "data": STANDARD.encode(&bytes)}}})
            .to_string()
    }

    #[test]
    fn metrics_are_read_by_their_kind() {
        let snapshot = parse_metrics(METRICS);
        assert_eq!(snapshot.counters.len(), 4, "{:?}", snapshot.counters);
        assert_eq!(snapshot.counters["process_cpu_seconds_total"], 1.25);
        assert_eq!(total(&snapshot.counters, "throng_drops_total"), Some(15.0));
        assert_eq!(total(&snapshot.counters, "throng_drops"), None);
        assert_eq!((snapshot.version().as_deref(), snapshot.shards()), (Some("0.1.0"), Some(2)));
        assert_eq!((snapshot.name(), Snapshot::default().name()), ("throng 0.1.0".into(), "server".into()));
    }

    #[test]
    fn samples_may_hold_anything() {
        assert_eq!(parse_sample(r#"a{x="} 1"} 2"#), Some((r#"a{x="} 1"}"#, 2.0)));
        assert_eq!(parse_sample("a 1e3"), Some(("a", 1_000.0)));
        assert_eq!(parse_sample("a"), None);
        assert_eq!(parse_sample("a{} x"), None);
    }

    #[test]
    fn a_span_is_the_difference_of_its_ends() {
        let mut earlier = parse_metrics(METRICS);
        earlier.histograms = parse_histograms(&page(&[5_000_000, 1_000_000_000])).unwrap();
        let mut later = parse_metrics(&METRICS.replace("} 12", "} 20").replace("1.25", "0.25"));
        later.histograms = parse_histograms(&page(&[5_000_000, 1_000_000_000, 10_000, 20_000, 30_000])).unwrap();
        let between = later.since(&earlier);
        assert_eq!(between.total("throng_drops_total"), Some(8.0));
        assert_eq!(between.counters["process_cpu_seconds_total"], 0.25, "counted anew");
        let turn = &between.histograms["turn"];
        assert_eq!(turn.len(), 3);
        let witness = Between::to_witness(&between, &between);
        assert_eq!(witness.histogram_counts["turn"], 3);
        let shown = witness.histograms["turn"];
        // The server counts in steps of 512 ns, its least value being 1 µs.
        assert!(shown.p50.abs_diff(20_000) <= 512 && shown.max.abs_diff(30_000) <= 512, "{shown:?}");
    }

    #[test]
    fn damaged_pages_are_told() {
        for (page, word) in [
            ("x", "expected"),
            ("{}", "merged"),
            (r#"{"merged": {"turn": {}}}"#, "no data"),
            (r#"{"merged": {"turn": {"data": "*"}}}"#, "turn"),
            (r#"{"merged": {"turn": {"data": "AAAA"}}}"#, "turn"),
        ] {
            assert!(parse_histograms(page).unwrap_err().contains(word), "{page}");
        }
    }

    /// What the server prints is what is read here.
    #[test]
    fn the_servers_own_form_is_understood() {
        let mut reported = throng::telemetry::ShardHistograms::default();
        reported.broadcast.saturating_record(123_456);
        let text = throng::telemetry::histograms::to_base64(&reported.broadcast);
        let page = serde_json::json!({"merged": {"broadcast": {"data": text}}}).to_string();
        assert_eq!(parse_histograms(&page).unwrap()["broadcast"], reported.broadcast);
    }
}
