//! `/stats` and `/histograms`: the same numbers as JSON, for people and for the load generator (R-OPS-1).
use super::metrics::Numbers;
use super::source::{Collected, ShardState};
use crate::telemetry::histograms::{ShardHistograms, to_base64};
use crate::telemetry::report::{ROOMS_TOP_MAX, ShardReport};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The body of `/stats`.
pub fn stats(numbers: &Numbers<'_>) -> Value {
    let sum = |value: fn(&ShardReport) -> u64| numbers.collected.reports().map(value).sum::<u64>();
    json!({
        "connectedUsers": sum(|report| report.users),
        "totalConnections": sum(|report| report.connections),
        "totalRooms": sum(|report| report.rooms_in_memory),
        "connectionsPerRoom": rooms_top(numbers.collected),
        "serverUptime": numbers.uptime_s as u64,
        "memoryUsage": numbers.process.resident_bytes,
        "shards": numbers.collected.shards.iter().map(shard).collect::<Vec<_>>(),
    })
}

/// The largest rooms of all shards. A room that several shards list counts once, with the sum.
fn rooms_top(collected: &Collected) -> Vec<Value> {
    let mut sums: HashMap<&str, u64> = HashMap::new();
    for (room, connections) in collected.reports().flat_map(|report| &report.rooms_top) {
        *sums.entry(room).or_default() += connections;
    }
    let mut rooms: Vec<_> = sums.into_iter().collect();
    rooms.sort_unstable_by(|one, two| two.1.cmp(&one.1).then(one.0.cmp(two.0)));
    rooms.truncate(ROOMS_TOP_MAX);
    rooms.into_iter().map(|(room, count)| json!({"roomId": room, "connectionCount": count})).collect()
}

fn shard(state: &ShardState) -> Value {
    let mut entry = json!({"shard": state.shard, "responding": state.is_responding});
    if let (Some(report), Some(entry)) = (&state.report, entry.as_object_mut()) {
        let numbers = [
            ("connections", report.connections),
            ("unauthenticated", report.unauthenticated),
            ("users", report.users),
            ("rooms", report.rooms_in_memory),
            ("queueBytes", report.queue_bytes),
            ("logBytes", report.log_bytes),
            ("turns", report.turns),
            ("uptimeMs", report.uptime_ms),
        ];
        entry.extend(numbers.map(|(key, number)| (key.to_string(), number.into())));
    }
    entry
}

/// The body of `/histograms`: per shard and merged, each with the whole histogram serialised.
pub fn histograms(collected: &Collected) -> Value {
    let mut merged = ShardHistograms::default();
    collected.reports().for_each(|report| merged.merge(&report.histograms));
    let mut merged = shard_histograms(&merged);
    if let Some(store) = &collected.store {
        merged.insert("commit".into(), histogram(&store.commit));
    }
    let shards: Vec<Value> = collected
        .shards
        .iter()
        .map(|state| {
            let mut entry = Map::from_iter([
                ("shard".into(), state.shard.into()),
                ("responding".into(), state.is_responding.into()),
            ]);
            if let Some(report) = &state.report {
                entry.extend(shard_histograms(&report.histograms));
            }
            entry.into()
        })
        .collect();
    json!({"unit": "ns", "encoding": "HdrHistogram V2, base64", "merged": merged, "shards": shards})
}

fn shard_histograms(histograms: &ShardHistograms) -> Map<String, Value> {
    histograms.all().into_iter().map(|(key, _, _, values)| (key.to_string(), histogram(values))).collect()
}

fn histogram(histogram: &Histogram<u64>) -> Value {
    json!({
        "count": histogram.len(),
        "p50": histogram.value_at_quantile(0.5),
        "p99": histogram.value_at_quantile(0.99),
        "p999": histogram.value_at_quantile(0.999),
        "max": histogram.max(),
        "data": to_base64(histogram),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn collected(tops: Vec<Vec<(String, u64)>>) -> Collected {
        let state = |(shard, rooms_top)| {
            let report = ShardReport { shard, rooms_top, ..Default::default() };
            ShardState { shard, is_responding: true, report: Some(Arc::new(report)) }
        };
        Collected { shards: (0..).zip(tops).map(state).collect(), store: None }
    }

    #[test]
    fn the_hundred_largest_rooms_are_listed_largest_first() {
        let many = (0..150).map(|number| (format!("r{number}"), number)).collect();
        let top = rooms_top(&collected(vec![many, vec![("lobby".into(), 1000), ("r149".into(), 1)]]));
        assert_eq!(top.len(), ROOMS_TOP_MAX);
        assert_eq!(top[0], json!({"roomId": "lobby", "connectionCount": 1000}));
        assert_eq!(top[1], json!({"roomId": "r149", "connectionCount": 150}));
        assert_eq!(top[99], json!({"roomId": "r51", "connectionCount": 51}));
    }

    #[test]
    fn a_shard_without_report_has_no_numbers() {
        let state = ShardState { shard: 4, is_responding: false, report: None };
        assert_eq!(shard(&state), json!({"shard": 4, "responding": false}));
    }
}
