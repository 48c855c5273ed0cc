//! Metrics by their dotted names (`latency.p99_ms`): the unit is part of the name, so figures can be written as people read them.
use super::units::{Unit, rate};

/// `value` as the metric's name says: `latency.p99_ms` 1.5 is `1.50 ms`.
pub fn figure(name: &str, value: f64) -> String {
    match unit(name) {
        Some((unit, factor)) => unit.figure(value * factor),
        None if value.is_finite() => rate(value),
        None => "–".to_owned(),
    }
}

/// A bound such as `<= 0.5`, its number as the metric's name says; as it stands if there is no number at its end.
pub fn bound(name: &str, bound: &str) -> String {
    let number_at = bound.rfind(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '_')).map_or(0, |at| at + 1);
    match bound.get(number_at..).and_then(|number| number.parse().ok()) {
        Some(value) => format!("{}{}", &bound[..number_at], figure(name, value)),
        None => bound.to_owned(),
    }
}

/// The name without its unit: `server.cpu_us_per_delivery` is `server cpu per delivery`.
pub fn words(name: &str) -> String {
    let words = name.split(['.', '_']).filter(|word| !matches!(*word, "ns" | "us" | "ms" | "bytes"));
    words.collect::<Vec<_>>().join(" ")
}

/// Unit of a metric, and by what a value is to be multiplied to be in it.
pub fn unit(name: &str) -> Option<(Unit, f64)> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let words: Vec<&str> = last.split('_').collect();
    let has = |word: &str| words.contains(&word);
    if last.ends_with("per_second") || last.ends_with("per_s") {
        return Some((Unit::PerSecond, 1.0));
    }
    // "cpu_us_per_delivery" is a duration, whatever it is divided by.
    let unit = match words.iter().find(|word| matches!(**word, "ns" | "us" | "ms" | "bytes")) {
        Some(&"ns") => (Unit::Duration, 1.0),
        Some(&"us") => (Unit::Duration, 1e3),
        Some(&"ms") => (Unit::Duration, 1e6),
        Some(_) => (Unit::Bytes, 1.0),
        None if words.last() == Some(&"s") => (Unit::Duration, 1e9),
        None if has("ratio") => (Unit::Ratio, 1.0),
        None if has("percent") => (Unit::Percent, 1.0),
        None if has("cores") => (Unit::Cores, 1.0),
        None => return None,
    };
    Some(unit)
}

/// Whether more of it is better: true of rates and counts of good things, false of times, bytes and losses.
pub fn is_more_better(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(unit(name), Some((Unit::PerSecond, _))) || ["delivered", "connected", "recovered"].contains(&last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_units() {
        let figures = [
            ("latency.p99_ms", 1.5),
            ("server.cpu_us_per_delivery", 0.831),
            ("server.rss_bytes_per_connection", 4915.2),
            ("connects_per_second", 23_456.7),
            ("vs.bun.cpu_ratio", 0.5),
            ("server.cores", 3.456),
            ("lost", 0.0),
            ("delivered", 123_456.0),
        ];
        assert_eq!(
            figures.map(|(name, value)| figure(name, value)),
            ["1.50 ms", "831 ns", "4.80 KiB", "23,457/s", "0.500×", "3.46", "0", "123,456"]
        );
        assert_eq!(bound("latency.p99_ms", "<= 0.5"), "<= 500 µs");
        assert_eq!(bound("latency.p99_ms", "≤ 5"), "≤ 5.00 ms");
        assert_eq!(bound("lost", "0"), "0");
        assert_eq!(bound("lost", "at most a few"), "at most a few");
        assert_eq!(words("server.cpu_us_per_delivery"), "server cpu per delivery");
        assert!(is_more_better("connects_per_second") && !is_more_better("latency.p99_ms") && !is_more_better("lost"));
    }
}
