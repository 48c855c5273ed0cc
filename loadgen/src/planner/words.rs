//! Numbers in words that a manager reads: `990 million`, `2.7 Tbit/s`, `128 GiB`.

/// `990 million`, `12,300`, `8.5`.
pub fn count(value: f64) -> String {
    match value.abs() {
        1e12.. => format!("{} trillion", three(value / 1e12)),
        1e9.. => format!("{} billion", three(value / 1e9)),
        1e6.. => format!("{} million", three(value / 1e6)),
        1e3.. => grouped(value.round()),
        _ => three(value),
    }
}

/// `20/s`, `1/min`.
pub fn rate(per_s: f64) -> String {
    if per_s == 0.0 || per_s >= 0.1 { format!("{}/s", count(per_s)) } else { format!("{}/min", count(per_s * 60.0)) }
}

pub fn bits(per_s: f64) -> String {
    scaled(per_s, 1000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"])
}

pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

pub fn seconds(value: f64) -> String {
    match value {
        v if v < 1.0 => format!("{} ms", three(v * 1e3)),
        v if v < 600.0 => format!("{} s", three(v)),
        v => format!("{} min", three(v / 60.0)),
    }
}

pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 {
        "< 0.1 %".into()
    } else if percent < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{} %", grouped(percent.round()))
    }
}

/// Money, in whichever currency: two decimals below 100, as many as it needs below 0.1.
pub fn money(value: f64) -> String {
    match value {
        v if v >= 100.0 => grouped(v.round()),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.5}").trim_end_matches('0').trim_end_matches('.').into(),
    }
}

/// `1 machine`, `2 machines`.
pub fn machines(number: u64) -> String {
    format!("{} machine{}", grouped(number as f64), if number == 1 { "" } else { "s" })
}

/// Three digits that matter.
pub fn three(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut at = 0;
    while value >= step * 0.9995 && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    format!("{} {}", three(value), units[at])
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_words() {
        assert_eq!([990e6, 12_345.0, 1.5, 2e9, 0.0].map(count), ["990 million", "12,345", "1.5", "2 billion", "0"]);
        assert_eq!([20.0, 1.0 / 60.0].map(rate), ["20/s", "1/min"]);
        assert_eq!([10e9, 2.69e12, 5.4e6].map(bits), ["10 Gbit/s", "2.69 Tbit/s", "5.4 Mbit/s"]);
        assert_eq!([512.0, 137_438_953_472.0].map(bytes), ["512 bytes", "128 GiB"]);
        assert_eq!([0.0342, 0.7, 0.0002, 12.0].map(percent), ["3.4 %", "70 %", "< 0.1 %", "1,200 %"]);
        assert_eq!([1234.4, 12.5, 0.00123].map(money), ["1,234", "12.50", "0.00123"]);
        assert_eq!([0.25, 60.0, 900.0].map(seconds), ["250 ms", "60 s", "15 min"]);
        assert_eq!([1, 1200].map(machines), ["1 machine", "1,200 machines"]);
    }
}
