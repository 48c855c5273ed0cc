//! `/metrics` against the rules of the text format, by a parser that forgives nothing, and against its documentation.
use crate::support::*;
use std::collections::{BTreeMap, HashSet};
use throng::telemetry::labels::{AuthFailure, DropReason, EngineEnd, HandshakeRefusal, TlsFailure, TlsHandshake};

/// Name, labels in order, value.
type Sample = (String, Vec<(String, String)>, f64);

/// One family as it stands in the text.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<Sample>,
}

impl Family {
    fn label_keys(&self) -> Vec<&str> {
        let keys = self.samples.first().map(|(_, labels, _)| labels.as_slice()).unwrap_or_default();
        keys.iter().map(|(key, _)| key.as_str()).filter(|key| *key != "le").collect()
    }
}

/// Parses the whole text or says which line breaks which rule.
fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = HashSet::new();
    let body = text.strip_suffix('\n').ok_or("the last line is not ended")?;
    for line in body.split('\n') {
        let broken = |rule: &str| Err(format!("{rule}: {line:?}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return broken("help without text") };
            if !is_name(name) || families.contains_key(name) {
                return broken("bad name, or the block of a family is torn apart");
            }
            families.insert(name.into(), Family { help: help.into(), ..Family::default() });
            current = name.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { return broken("no type") };
            let Some(family) = families.get_mut(name) else { return broken("type before help") };
            if name != current || !family.kind.is_empty() || !family.samples.is_empty() {
                return broken("type out of place");
            }
            if !["counter", "gauge", "histogram"].contains(&kind) || (kind == "counter") != name.ends_with("_total") {
                return broken("a counter, and nothing else, ends in _total");
            }
            family.kind = kind.into();
        } else {
            let Some(sample) = parse_sample(line) else { return broken("no sample") };
            let Some(family) = families.get_mut(&current) else { return broken("sample before its family") };
            let suffix = sample.0.strip_prefix(current.as_str());
            let allowed: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            if family.kind.is_empty() || !suffix.is_some_and(|suffix| allowed.contains(&suffix)) {
                return broken("sample outside the block of its family");
            }
            if !seen.insert((sample.0.clone(), sample.1.clone())) {
                return broken("sample twice");
            }
            family.samples.push(sample);
        }
    }
    for (name, family) in &families {
        if family.kind == "histogram" {
            check_histogram(name, family)?;
        }
    }
    Ok(families)
}

fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    let value = |suffix: &str| {
        let found: Vec<_> = family.samples.iter().filter(|sample| sample.0 == format!("{name}{suffix}")).collect();
        (found.len() == 1).then(|| found[0].2).ok_or(format!("{name} has not one {suffix}"))
    };
    let (count, _) = (value("_count")?, value("_sum")?);
    let buckets: Vec<_> = family.samples.iter().filter(|sample| sample.0.ends_with("_bucket")).collect();
    let bound = |sample: &Sample| match sample.1.as_slice() {
        [(key, bound)] if key == "le" => {
            bound.replace("+Inf", "inf").parse::<f64>().map_err(|_| format!("bound {bound}"))
        }
        _ => Err(format!("{name} has a bucket without le")),
    };
    let mut last = (f64::NEG_INFINITY, 0.0);
    for bucket in &buckets {
        let next = (bound(bucket)?, bucket.2);
        if next.0 <= last.0 || next.1 < last.1 {
            return Err(format!("{name}: buckets do not grow at {bucket:?}"));
        }
        last = next;
    }
    if last != (f64::INFINITY, count) {
        return Err(format!("{name}: +Inf is not the count"));
    }
    Ok(())
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = parse_quoted(after)?;
            if !is_name(key) || key.contains(':') || labels.iter().any(|(other, _)| other == key) {
                return None;
            }
            labels.push((key.to_string(), value));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    let is_number = value.bytes().all(|b| b.is_ascii_digit() || b".e-+".contains(&b));
    (is_name(name) && is_number).then_some(())?;
    Some((name.into(), labels, value.parse().ok()?))
}

/// The text up to the closing quote, and what follows it.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\n' => return None,
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    let is_start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    is_start && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn metrics(shards: u16) -> BTreeMap<String, Family> {
    let front = Front::new(options(FakeSource::new(shards, None)));
    let answer = front.get("/metrics");
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    parse(&answer.body).unwrap_or_else(|rule| panic!("{rule}\n{}", answer.body))
}

#[test]
fn the_parser_forgives_nothing() {
    let good = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\"} 1\n# HELP b B.\n# TYPE b gauge\nb 0.5\n";
    assert_eq!(parse(good).unwrap()["a_total"].samples[0].1, [("x".to_string(), "q\"\\\n".to_string())]);
    let histogram = |buckets: &str| format!("# HELP h H.\n# TYPE h histogram\n{buckets}h_sum 1\nh_count 2\n");
    assert!(parse(&histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n")).is_ok());
    for bad in [
        good.trim_end(),
        &good.replace("b 0.5", "a_total 2\nb 0.5"),
        &good.replace("b 0.5", "b 0.5\n# HELP a_total A.\n# TYPE a_total counter"),
        &good.replace("\\\\", "\\x"),
        &good.replace("b 0.5", "b"),
        &good.replace("b 0.5", "b x"),
        &good.replace("b 0.5", "b 1\nb 2"),
        &good.replace("gauge", "counter"),
        &good.replace("# TYPE b gauge\n", ""),
        &histogram("h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n"),
        &histogram("h_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n"),
        &histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\n"),
        &histogram("h_bucket{le=\"1\"} 1\n"),
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_page_follows_the_rules_and_sums_over_shards() {
    let families = metrics(3);
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels: Vec<_> = labels.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
        let samples = families.values().flat_map(|family| &family.samples);
        samples.filter(|sample| sample.0 == name && sample.1 == labels).map(|sample| sample.2).next().unwrap()
    };
    assert_eq!(value("throng_connections_accepted_total", &[]), 21.0);
    assert_eq!(value("throng_connections_closed_total", &[("code", "4101")]), 6.0);
    assert_eq!(value("throng_drops_total", &[("reason", "live_lagging")]), 9.0);
    assert_eq!(value("throng_domain_events_total", &[("what", "typing_expired")]), 3.0);
    assert_eq!(value("throng_connections", &[("shard", "2")]), 12.0);
    assert_eq!(value("throng_broadcast_latency_seconds_bucket", &[("le", "0.00005")]), 0.0);
    assert_eq!(value("throng_broadcast_latency_seconds_bucket", &[("le", "0.0001")]), 12.0);
    assert_eq!(value("throng_turn_seconds_bucket", &[("le", "0.0025")]), 1.0);
    assert_eq!(value("throng_turn_seconds_count", &[]), 3.0);
    assert_eq!(value("throng_commit_seconds_count", &[]), 1.0);
    assert_eq!(value("throng_store_queue_jobs", &[]), 5.0);
    assert!(value("process_resident_memory_bytes", &[]) > 1e6);
}

/// R-OPS-1: labels come from closed lists; rooms and users are none.
#[test]
fn no_label_names_a_room_or_a_user() {
    for (name, family) in metrics(2) {
        for (_, labels, _) in family.samples {
            for (key, value) in labels {
                assert!(
                    ["shard", "code", "reason", "kind", "recovered", "what", "version", "le"].contains(&key.as_str()),
                    "{name} {key}"
                );
                assert!(!value.contains("room-"), "{name} {value}");
            }
        }
    }
}

#[test]
fn every_family_and_every_label_value_is_documented() {
    let documented = include_str!("../../docs/metrics.md");
    let row = |name: &str, family: &Family| {
        let labels: Vec<_> = family.label_keys().iter().map(|key| format!("`{key}`")).collect();
        format!("| `{name}` | {} | {} | {} |\n", family.kind, labels.join(", "), family.help)
    };
    let rows: String = metrics(1).iter().map(|(name, family)| row(name, family)).collect();
    assert!(documented.contains(&rows), "the table of docs/metrics.md is to be:\n{rows}");
    let all = [
        DropReason::MEANINGS,
        HandshakeRefusal::MEANINGS,
        TlsHandshake::MEANINGS,
        TlsFailure::MEANINGS,
        AuthFailure::MEANINGS,
        EngineEnd::MEANINGS,
    ];
    for meanings in all {
        let rows: String = meanings.iter().map(|(text, meaning)| format!("| `{text}` | {meaning} |\n")).collect();
        assert!(documented.contains(&rows), "a table of docs/metrics.md is to be:\n{rows}");
    }
}
