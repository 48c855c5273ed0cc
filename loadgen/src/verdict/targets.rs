//! Targets: what a scenario's figures must be, from a TOML file.
//!
//! ```toml
//! [battle-royale]
//! "latency.p99_ms" = { max = 20 }
//! connects_per_second = { min = 5000 }
//! ```
//!
//! A metric that was not measured misses its bound. Only bounds of a comparison (`vs.bun.cpu_ratio`) wait until that peer was there.
use super::names;
use crate::result::Miss;
use std::collections::BTreeMap;
use std::path::Path;

/// Bounds by scenario and metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets(BTreeMap<String, BTreeMap<String, Bound>>);

/// What a figure may be; both ends are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bound {
    min: Option<f64>,
    max: Option<f64>,
}

/// All that is wrong with a file, a line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetsError(String);

impl Targets {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Targets, TargetsError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| TargetsError(format!("{}: {error}", path.display())))?;
        Targets::parse(&text).map_err(|TargetsError(what)| {
            let lines = what.lines().map(|line| format!("{}: {line}", path.display()));
            TargetsError(lines.collect::<Vec<_>>().join("\n"))
        })
    }

    pub fn parse(text: &str) -> Result<Targets, TargetsError> {
        let file: toml::Table = text.parse().map_err(|error: toml::de::Error| TargetsError(error.to_string()))?;
        let (mut targets, mut faults) = (BTreeMap::new(), Vec::new());
        for (scenario, value) in file {
            let toml::Value::Table(table) = value else {
                faults.push(format!("{scenario}: bounds belong to a scenario, [{scenario}]"));
                continue;
            };
            let mut bounds = BTreeMap::new();
            collect(&scenario, "", table, &mut bounds, &mut faults);
            targets.insert(scenario, bounds);
        }
        if faults.is_empty() { Ok(Targets(targets)) } else { Err(TargetsError(faults.join("\n"))) }
    }

    /// Scenarios that have targets.
    pub fn scenarios(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn has(&self, scenario: &str) -> bool {
        self.0.contains_key(scenario)
    }

    /// Bounds that were missed, and how many were met.
    pub fn judge(&self, scenario: &str, metrics: &BTreeMap<String, f64>) -> (Vec<Miss>, u32) {
        let (mut misses, mut met) = (Vec::new(), 0);
        for (metric, bound) in self.0.get(scenario).into_iter().flatten() {
            let measured = metrics.get(metric).copied();
            if measured.is_none() && !was_compared(metric, metrics) {
                continue;
            }
            let missed = bound.missed(measured);
            match missed {
                None => met += 1,
                Some(bound) => misses.push(Miss { metric: metric.clone(), bound, measured }),
            }
        }
        (misses, met)
    }
}

impl Bound {
    /// The end that was missed, as text.
    fn missed(&self, measured: Option<f64>) -> Option<String> {
        let max = self.max.filter(|max| !measured.is_some_and(|value| value <= *max));
        let min = self.min.filter(|min| !measured.is_some_and(|value| value >= *min));
        max.map(|max| format!("<= {max}")).or_else(|| min.map(|min| format!(">= {min}")))
    }
}

/// False for a bound that compares with a peer that was not there.
fn was_compared(metric: &str, metrics: &BTreeMap<String, f64>) -> bool {
    let Some(rest) = metric.strip_prefix("vs.") else { return true };
    let peer = rest.split_once('.').map_or(rest, |(peer, _)| peer);
    let prefix = format!("vs.{peer}.");
    metrics.keys().any(|name| name.starts_with(&prefix))
}

/// A name with dots may be quoted, or be what TOML makes of it: a table in a table.
fn collect(
    scenario: &str,
    prefix: &str,
    table: toml::Table,
    bounds: &mut BTreeMap<String, Bound>,
    faults: &mut Vec<String>,
) {
    for (key, value) in table {
        let metric = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() && inner.values().all(toml::Value::is_table) => {
                collect(scenario, &metric, inner, bounds, faults);
            }
            value => match parse_bound(&metric, &value) {
                Ok(bound) if bounds.insert(metric.clone(), bound).is_some() => {
                    faults.push(format!("{scenario}: {metric} is there twice"));
                }
                Ok(_) => {}
                Err(what) => faults.push(format!("{scenario}: {metric}: {what}")),
            },
        }
    }
}

fn parse_bound(metric: &str, value: &toml::Value) -> Result<Bound, String> {
    names::check(metric).map_err(|near| match near {
        Some(near) => format!("unknown metric; did you mean {near}?"),
        None => "unknown metric".into(),
    })?;
    let table = value.as_table().ok_or("is not a bound, for example { max = 20 }")?;
    let mut bound = Bound::default();
    for (key, value) in table {
        let end = match key.as_str() {
            "max" => &mut bound.max,
            "min" => &mut bound.min,
            other => return Err(format!("unknown key {other:?}; a bound has max, min or both")),
        };
        let number = value.as_float().or(value.as_integer().map(|number| number as f64));
        *end =
            Some(number.filter(|number| number.is_finite()).ok_or_else(|| format!("{key} = {value} is not a number"))?);
    }
    match (bound.min, bound.max) {
        (None, None) => Err("is empty; a bound has max, min or both".into()),
        (Some(min), Some(max)) if min > max => Err(format!("min = {min} is above max = {max}")),
        _ => Ok(bound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(name, value)| (name.to_string(), *value)).collect()
    }

    #[test]
    fn both_ends_of_a_bound_are_allowed() {
        let targets = Targets::parse(
            "[a]\n\"latency.p99_ms\" = { max = 20 }\nserver.cores = { min = 0.5, max = 1.5 }\nconnects_per_second = { min = 5_000 }",
        )
        .unwrap();
        let at = |p99, cores, rate| {
            targets.judge(
                "a",
                &metrics(&[("latency.p99_ms", p99), ("server.cores", cores), ("connects_per_second", rate)]),
            )
        };
        assert_eq!(at(20.0, 0.5, 5_000.0), (vec![], 3));
        let miss = |metric: &str, bound: &str, measured| Miss { metric: metric.into(), bound: bound.into(), measured };
        let all = vec![
            miss("connects_per_second", ">= 5000", Some(4_999.9)),
            miss("latency.p99_ms", "<= 20", Some(20.01)),
            miss("server.cores", "<= 1.5", Some(1.6)),
        ];
        assert_eq!(at(20.01, 1.6, 4_999.9), (all, 0));
        assert_eq!(at(1.0, 0.4, 5_000.0).0, [miss("server.cores", ">= 0.5", Some(0.4))]);
        assert_eq!(targets.judge("b", &metrics(&[])), (vec![], 0));
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let targets = Targets::parse("[a]\nlost = { max = 0 }\n\"vs.bun.cpu_ratio\" = { max = 0.8 }").unwrap();
        let miss = Miss { metric: "lost".into(), bound: "<= 0".into(), measured: None };
        assert_eq!(targets.judge("a", &metrics(&[])), (vec![miss], 0), "nobody was compared");
        let compared = metrics(&[("lost", 0.0), ("vs.bun.rss_ratio", 1.0)]);
        let (misses, met) = targets.judge("a", &compared);
        assert_eq!((misses[0].metric.as_str(), met), ("vs.bun.cpu_ratio", 1));
        let not_a_number = metrics(&[("lost", f64::NAN)]);
        assert_eq!(targets.judge("a", &not_a_number).0.len(), 1, "a bound is met by a number alone");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let error = Targets::parse(
            "lost = { max = 0 }
             [a]
             \"latency.p99\" = { max = 1 }
             weather = { max = 1 }
             duplicated = 3
             reordered = {}
             foreign = { most = 1 }
             closed = { max = \"1\" }
             refused = { min = 2, max = 1 }
             [b]
             latency.p99_ms = { max = 1 }
             \"latency.p99_ms\" = { max = 1 }",
        );
        let expected = "a: closed: max = \"1\" is not a number
a: duplicated: is not a bound, for example { max = 20 }
a: foreign: unknown key \"most\"; a bound has max, min or both
a: latency.p99: unknown metric; did you mean latency.p99_ms?
a: refused: min = 2 is above max = 1
a: reordered: is empty; a bound has max, min or both
a: weather: unknown metric
b: latency.p99_ms is there twice";
        let text = error.unwrap_err().to_string();
        let mut lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().any(|line| line.starts_with("lost: ")), "{text}");
        lines.retain(|line| !line.starts_with("lost: "));
        lines.sort_unstable();
        assert_eq!(lines.join("\n"), expected);
        assert!(Targets::parse("[a").is_err());
    }

    #[test]
    fn the_files_that_come_with_it_are_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
        let real = Targets::load(&folder.join("default.toml")).unwrap();
        let wide = Targets::load(&folder.join("ci.toml")).unwrap();
        assert_eq!(real.scenarios().collect::<Vec<_>>(), wide.scenarios().collect::<Vec<_>>());
        for scenario in real.scenarios() {
            let file = folder.join(format!("../scenarios/{scenario}.toml"));
            assert!(file.exists(), "{scenario} is no scenario");
        }
        // What CI allows is never less than what is aimed at.
        for (scenario, bounds) in &wide.0 {
            for (metric, bound) in bounds {
                let Some(real) = real.0[scenario].get(metric) else { continue };
                assert!(
                    bound.max >= real.max && (bound.min.is_none() || bound.min <= real.min),
                    "{scenario}: {metric}"
                );
            }
        }
        let error = Targets::load(&folder.join("none.toml")).unwrap_err().to_string();
        assert!(error.contains("none.toml"), "{error}");
    }
}
