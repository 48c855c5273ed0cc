//! Figures as people read them: `1.52 ms`, `4.8 KiB`, `1,234,567`, `120k` on an axis.

/// What a number counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// Things: whole numbers.
    Count,
    /// Things per second.
    PerSecond,
    /// ns.
    Duration,
    /// Time since the start, s.
    Clock,
    Bytes,
    /// Cores in use.
    Cores,
    /// 0 to 100.
    Percent,
    /// A factor, 1.0 is the same.
    Ratio,
    /// Anything else, with its own word behind the number.
    Of(&'static str),
}

impl Unit {
    /// For tables and sentences: three digits that matter, counts in full.
    pub fn figure(self, value: f64) -> String {
        if !value.is_finite() {
            return "–".to_owned();
        }
        match self {
            Unit::Count => count(value.round().max(0.0) as u64),
            Unit::PerSecond => format!("{}/s", rate(value)),
            Unit::Duration => duration(value),
            Unit::Clock => format!("{} s", trimmed(value, 1)),
            Unit::Bytes => bytes(value),
            Unit::Cores => format!("{value:.2}"),
            Unit::Percent => format!("{} %", digits(value)),
            Unit::Ratio => format!("{}×", digits(value)),
            Unit::Of(word) => format!("{} {word}", rate(value)),
        }
    }

    /// The labels of an axis: minutes if it is long and they are whole.
    pub fn ticks(self, values: &[f64]) -> Vec<String> {
        let has_minutes = self == Unit::Clock && values.iter().all(|value| value % 60.0 == 0.0);
        if has_minutes && values.last().is_some_and(|&last| last >= 300.0) {
            return values.iter().map(|value| format!("{} min", value / 60.0)).collect();
        }
        values.iter().map(|&value| self.tick(value)).collect()
    }

    /// For axes: as short as the number allows.
    pub fn tick(self, value: f64) -> String {
        match self {
            Unit::Count | Unit::PerSecond => short(value),
            Unit::Duration => scaled(value, &DURATIONS, 1000.0, |value| trimmed(value, 3)),
            Unit::Bytes => scaled(value, &BYTES, 1024.0, |value| trimmed(value, 2)),
            Unit::Clock => format!("{} s", trimmed(value, 3)),
            Unit::Cores => trimmed(value, 3),
            Unit::Percent => format!("{} %", trimmed(value, 6)),
            Unit::Ratio => format!("{}×", trimmed(value, 3)),
            Unit::Of(_) => short(value),
        }
    }
}

const DURATIONS: [&str; 4] = ["ns", "µs", "ms", "s"];
const BYTES: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1,234,567`.
pub fn count(value: u64) -> String {
    let plain = value.to_string();
    let mut grouped = String::with_capacity(plain.len() + plain.len() / 3);
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of any size without a unit: `248,312`, `12.5`, `0.0312`.
pub fn rate(value: f64) -> String {
    if value.abs() >= 1000.0 { count(value.round().max(0.0) as u64) } else { digits(value) }
}

/// ns: `850 ns`, `1.52 ms`, `12.0 s`.
pub fn duration(ns: f64) -> String {
    if ns == 0.0 {
        return "0".to_owned();
    }
    scaled(ns, &DURATIONS, 1000.0, digits)
}

/// `512 B`, `4.80 KiB`.
pub fn bytes(value: f64) -> String {
    scaled(value, &BYTES, 1024.0, |value| if value.fract() == 0.0 { trimmed(value, 0) } else { digits(value) })
}

/// Unix ms as `2026-03-01 12:34:56 UTC`.
pub fn utc(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(seconds) else { return "–".to_owned() };
    let (date, month) = (at.date(), u8::from(at.month()));
    format!("{}-{month:02}-{:02} {:02}:{:02}:{:02} UTC", date.year(), date.day(), at.hour(), at.minute(), at.second())
}

fn scaled(mut value: f64, units: &[&str], step: f64, write: impl Fn(f64) -> String) -> String {
    let mut at = 0;
    // What would be rounded up to a whole step belongs to the next unit: 1.00 ms, not 1000 µs.
    while value.abs() >= step * 0.9995 && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    if value == 0.0 { "0".to_owned() } else { format!("{} {}", write(value), units[at]) }
}

/// Three digits that matter.
fn digits(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        0.0 => return "0".to_owned(),
        99.95.. => 0,
        9.995.. => 1,
        0.9995.. => 2,
        _ => (2 - size.log10().floor() as i32).clamp(2, 9) as usize,
    };
    format!("{value:.decimals$}")
}

/// At most so many decimals, none that is not needed.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn short(value: f64) -> String {
    match value.abs() {
        1e9.. => format!("{}G", trimmed(value / 1e9, 2)),
        1e6.. => format!("{}M", trimmed(value / 1e6, 2)),
        1e4.. => format!("{}k", trimmed(value / 1e3, 2)),
        1e3.. => count(value.round().max(0.0) as u64),
        _ => trimmed(value, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits() {
        let durations = [850.0, 999.6, 1_520.0, 12_000.0, 152_340.0, 999_900.0, 1_520_000.0, 2e9, 120e9];
        assert_eq!(
            durations.map(duration),
            ["850 ns", "1.00 µs", "1.52 µs", "12.0 µs", "152 µs", "1.00 ms", "1.52 ms", "2.00 s", "120 s"]
        );
        assert_eq!([512.0, 4_915.2, 1_048_576.0, 5e9].map(bytes), ["512 B", "4.80 KiB", "1 MiB", "4.66 GiB"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.031_23, 12.5, 248_312.4].map(rate), ["0", "0.0312", "12.5", "248,312"]);
        assert_eq!(Unit::Ratio.figure(1.777), "1.78×");
        assert_eq!(Unit::Duration.figure(f64::NAN), "–");
    }

    #[test]
    fn moments_are_in_utc() {
        assert_eq!(
            [0, 1_709_251_199_999, u64::MAX].map(utc),
            ["1970-01-01 00:00:00 UTC", "2024-02-29 23:59:59 UTC", "–"]
        );
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!(
            [0.0, 500.0, 2500.0, 120_000.0, 1.5e6].map(|v| Unit::PerSecond.tick(v)),
            ["0", "500", "2,500", "120k", "1.5M"]
        );
        assert_eq!([0.0, 2e5, 1.5e6].map(|v| Unit::Duration.tick(v)), ["0", "200 µs", "1.5 ms"]);
        assert_eq!(Unit::Clock.ticks(&[0.0, 7.5, 600.0]), ["0 s", "7.5 s", "600 s"]);
        assert_eq!(Unit::Clock.ticks(&[0.0, 300.0, 600.0]), ["0 min", "5 min", "10 min"]);
        assert_eq!([99.0, 99.999].map(|v| Unit::Percent.tick(v)), ["99 %", "99.999 %"]);
    }
}
