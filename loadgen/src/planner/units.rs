//! Quantities as people write them on a command line: `20/s`, `128G`, `10Gbit`, `60s`, `250/month`, `cores=32,ram=128G`.
use super::plan::MachineSpec;

/// Hours in a month of a 365-day year.
const HOURS_PER_MONTH: f64 = 730.0;

/// Times per second: `20/s`, `3/min`, `10/h`, or a bare number.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, per) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match per.trim() {
        "s" | "sec" | "second" => 1.0,
        "m" | "min" | "minute" => 60.0,
        "h" | "hour" => 3600.0,
        other => return Err(format!("\"{other}\" is no time of a rate: write 20/s, 3/min or 10/h")),
    };
    Ok(positive(number, "a rate, such as 20/s")? / seconds)
}

/// Seconds: `60s`, `500ms`, `5m`, `1h`, or a bare number.
pub fn duration_s(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("\"{other}\" is no unit of time: write 60s, 500ms, 5m or 1h")),
    };
    Ok(positive(number, "a time, such as 60s")? * factor)
}

/// Bytes of memory, in powers of 1024: `128G`, `512MiB`, `1.5T`, or a bare number.
pub fn bytes(text: &str) -> Result<f64, String> {
    let (number, unit) = split_unit(text.trim());
    let factor: f64 = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        "g" => 1024.0 * 1024.0 * 1024.0,
        "t" => 1024.0f64.powi(4),
        _ => return Err(format!("\"{unit}\" is no unit of memory: write 512M, 128G or 1.5T")),
    };
    Ok(positive(number, "an amount of memory, such as 128G")? * factor)
}

/// Bits per second of a network card, in powers of 1000: `10G`, `2.5Gbit`, `100Mbit/s`.
pub fn bits_per_s(text: &str) -> Result<f64, String> {
    let (number, unit) = split_unit(text.trim());
    let unit = unit.to_ascii_lowercase();
    let prefix = unit.strip_suffix("/s").unwrap_or(&unit);
    let prefix = prefix.strip_suffix("bps").or_else(|| prefix.strip_suffix("bit")).unwrap_or(prefix);
    let factor = match prefix {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        _ => return Err(format!("\"{unit}\" is no speed of a network card: write 10G or 100Mbit")),
    };
    Ok(positive(number, "a speed, such as 10G")? * factor)
}

/// Cost per month: `250/month`, `0.35/hour`, `2400/year`, or a bare number. In whichever currency it is given.
pub fn cost_per_month(text: &str) -> Result<f64, String> {
    let (number, per) = text.split_once('/').unwrap_or((text, "month"));
    let months = match per.trim() {
        "month" | "mo" => 1.0,
        "hour" | "h" => 1.0 / HOURS_PER_MONTH,
        "year" | "y" => 12.0,
        other => return Err(format!("\"{other}\" is no time of a price: write 250/month, 0.35/hour or 2400/year")),
    };
    Ok(positive(number, "a price, such as 250/month")? / months)
}

/// A share that may be all but everything: `0.3` or `30%`.
pub fn headroom(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent, "a share, such as 0.3 or 30%")? / 100.0,
        None => number(text, "a share, such as 0.3 or 30%")?,
    };
    if (0.0..=0.95).contains(&share) {
        Ok(share)
    } else {
        Err(format!("headroom is a share from 0 to 0.95, not {text}"))
    }
}

/// A whole number above 0, with `_`, `k` and `M` allowed: `500000`, `500_000`, `500k`, `1.5M`.
pub fn count(text: &str) -> Result<u64, String> {
    let plain = text.trim().replace(['_', ','], "");
    let (digits, unit) = split_unit(&plain);
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" | "m" => 1e6,
        other => return Err(format!("\"{other}\" is no multiple: write 500000, 500k or 1.5M")),
    };
    let value = positive(digits, "a number, such as 500000")? * factor;
    if value.fract() == 0.0 && value < 1e15 { Ok(value as u64) } else { Err(format!("{text} is no whole number")) }
}

/// `cores=32,ram=128G`, and if wanted `nofile=1048576`, `nic=10G`, `cost=250/month`.
pub fn machine(text: &str) -> Result<MachineSpec, String> {
    let mut spec = MachineSpec::default();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("\"{pair}\" has no \"=\": write cores=32,ram=128G"))?;
        match key.trim() {
            "cores" => spec.cores = u32::try_from(count(value)?).map_err(|_| format!("{value} cores are too many"))?,
            "ram" | "memory" => spec.ram_bytes = bytes(value)?,
            "nofile" => spec.nofile = count(value)?,
            "nic" => spec.nic_bits_per_s = bits_per_s(value)?,
            "cost" => spec.cost_per_month = Some(cost_per_month(value)?),
            other => return Err(format!("a machine has no \"{other}\": cores, ram, nic, nofile and cost are known")),
        }
    }
    match (spec.cores, spec.ram_bytes > 0.0) {
        (0, _) => Err("a machine needs its cores: cores=32,ram=128G".into()),
        (_, false) => Err("a machine needs its memory: cores=32,ram=128G".into()),
        _ => Ok(spec),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '+'))).unwrap_or(text.len());
    // Without a number there is no unit either: the whole is at fault.
    if end == 0 { (text, "") } else { (&text[..end], text[end..].trim()) }
}

fn number(text: &str, what: &str) -> Result<f64, String> {
    let value = text.trim().replace('_', "").parse::<f64>().ok().filter(|value| value.is_finite());
    value.ok_or_else(|| format!("\"{}\" is not {what}", text.trim()))
}

fn positive(text: &str, what: &str) -> Result<f64, String> {
    let value = number(text, what)?;
    if value > 0.0 { Ok(value) } else { Err(format!("\"{}\" is not above 0: give {what}", text.trim())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!(["20/s", "30/min", "20"].map(|text| rate(text).unwrap()), [20.0, 0.5, 20.0]);
        assert_eq!(["60s", "500ms", "5m", "7"].map(|text| duration_s(text).unwrap()), [60.0, 0.5, 300.0, 7.0]);
        assert_eq!(
            ["128G", "512MiB", "2kb", "9"].map(|text| bytes(text).unwrap()),
            [137_438_953_472.0, 536_870_912.0, 2048.0, 9.0]
        );
        assert_eq!(
            ["10G", "100Mbit/s", "2.5Gbit", "1gbps"].map(|text| bits_per_s(text).unwrap()),
            [1e10, 1e8, 2.5e9, 1e9]
        );
        assert_eq!(
            ["250/month", "250", "1/hour", "1200/year"].map(|text| cost_per_month(text).unwrap()),
            [250.0, 250.0, 730.0, 100.0]
        );
        assert_eq!(["0.3", "30%", "0"].map(|text| headroom(text).unwrap()), [0.3, 0.3, 0.0]);
        assert_eq!(
            ["500000", "500_000", "500k", "1.5M"].map(|text| count(text).unwrap()),
            [500_000, 500_000, 500_000, 1_500_000]
        );
        let spec = machine("cores=32, ram=128G,nofile=20000,nic=25G,cost=0.5/hour").unwrap();
        assert_eq!((spec.cores, spec.ram_bytes, spec.nofile), (32, 137_438_953_472.0, 20_000));
        assert_eq!((spec.nic_bits_per_s, spec.cost_per_month), (25e9, Some(365.0)));
    }

    #[test]
    fn faults_are_named() {
        let fault = |result: Result<f64, String>| result.unwrap_err();
        assert!(fault(rate("20/fortnight")).contains("fortnight"));
        assert!(fault(rate("fast")).contains("\"fast\" is not a rate"));
        assert!(fault(rate("-1/s")).contains("not above 0"));
        assert!(fault(bytes("128Q")).contains("\"Q\" is no unit"));
        assert!(fault(duration_s("3 weeks")).contains("weeks"));
        assert!(fault(headroom("1.5")).contains("0 to 0.95"));
        assert!(fault(bits_per_s("10 furlongs")).contains("network card"));
        assert!(count("2.5").unwrap_err().contains("whole"));
        assert!(machine("cores=32").unwrap_err().contains("memory"));
        assert!(machine("ram=1G").unwrap_err().contains("cores"));
        assert!(machine("cores=32,wheels=4").unwrap_err().contains("wheels"));
        assert!(machine("32").unwrap_err().contains("\"=\""));
    }
}
