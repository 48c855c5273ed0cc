//! An axis: from values to pixels, and where its ticks stand.
use crate::report::units::Unit;

/// How values are laid out along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Powers of ten at equal distances; values of 0 and below have no place.
    Log,
    /// Percentiles (0 to below 100): 90, 99, 99.9, … at equal distances, as HdrHistogram draws them.
    Percentile,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    pub unit: Unit,
    /// Ends exactly with the data; otherwise at a round value, and a linear axis begins at 0.
    pub is_tight: bool,
    /// Ends to be shown even if no value lies there.
    pub reach: Option<(f64, f64)>,
}

impl Axis {
    pub fn new(label: &str, scale: Scale, unit: Unit) -> Axis {
        Axis { label: label.to_owned(), scale, unit, is_tight: false, reach: None }
    }

    /// A linear axis of seconds that ends with the data.
    pub fn clock(label: &str) -> Axis {
        Axis { is_tight: true, ..Axis::new(label, Scale::Linear, Unit::Clock) }
    }

    pub fn tight(self) -> Axis {
        Axis { is_tight: true, ..self }
    }

    pub fn reach(self, low: f64, high: f64) -> Axis {
        Axis { reach: Some((low, high)), ..self }
    }

    /// Fixes ends and ticks for the values that will be drawn over so many pixels. `None`: there is nothing to draw.
    pub(super) fn fit(&self, values: impl Iterator<Item = f64>, from_px: f64, to_px: f64) -> Option<Fitted> {
        let reach = self.reach.map_or([f64::NAN; 2], |(low, high)| [low, high]);
        let values = values.chain(reach).filter(|&value| self.scale.place(value).is_some());
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        let room = (to_px - from_px).abs();
        let (low, high, ticks, minor) = match self.scale {
            Scale::Linear => self.linear(low, high, room),
            Scale::Log => self.log(low, high),
            Scale::Percentile => percentile(low, high),
        };
        let (low, high) = (self.scale.place(low)?, self.scale.place(high)?);
        Some(Fitted { scale: self.scale, low, high, from_px, to_px, ticks, minor })
    }

    fn linear(&self, low: f64, high: f64, room: f64) -> (f64, f64, Vec<f64>, Vec<f64>) {
        let low = if self.is_tight { low } else { low.min(0.0) };
        let high = if high > low { high } else { low + if low == 0.0 { 1.0 } else { low.abs() } };
        let spacing = if self.is_tight { 90.0 } else { 44.0 };
        let step = step((high - low) / (room / spacing).max(2.0), self.unit);
        let (first, last) = if self.is_tight {
            ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor())
        } else {
            ((low / step).floor(), (high / step - 1e-9).ceil())
        };
        let ticks: Vec<f64> = (first as i64..=last as i64).map(|n| n as f64 * step).collect();
        if self.is_tight { (low, high, ticks, Vec::new()) } else { (first * step, last * step, ticks, Vec::new()) }
    }

    fn log(&self, low: f64, high: f64) -> (f64, f64, Vec<f64>, Vec<f64>) {
        let between = |low: f64, high: f64, steps: &[f64]| -> Vec<f64> {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
            all.filter(|value| (low * 0.999..=high * 1.001).contains(value)).collect()
        };
        let (low, high) = if self.is_tight && high > low {
            (low, high)
        } else {
            let stops = between(low / 10.0, high * 10.0, &[1.0, 2.0, 5.0]);
            let below = stops.iter().copied().filter(|&stop| stop <= low * 1.001).fold(low / 10.0, f64::max);
            let above =
                stops.iter().copied().filter(|&stop| stop >= high * 0.999 && stop > below).fold(high * 10.0, f64::min);
            (below, above)
        };
        let decades = (high / low).log10();
        let ticks = if decades <= 2.5 { between(low, high, &[1.0, 2.0, 5.0]) } else { between(low, high, &[1.0]) };
        let minor = if decades <= 2.5 { Vec::new() } else { between(low, high, &[2.0, 5.0]) };
        (low, high, ticks, minor)
    }
}

fn percentile(low: f64, high: f64) -> (f64, f64, Vec<f64>, Vec<f64>) {
    let high = if high > low { high } else { low + (100.0 - low) / 2.0 };
    let round = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999, 99.999_99, 99.999_999];
    let halves = [25.0, 75.0, 95.0, 99.5, 99.95, 99.995];
    let inside = |values: &[f64]| values.iter().copied().filter(|value| (low..=high).contains(value)).collect();
    (low, high, inside(&round), inside(&halves))
}

/// A round step not below `least`: 1, 2, 2.5 or 5 times a power of ten, and what is round for bytes and clocks.
fn step(least: f64, unit: Unit) -> f64 {
    const CLOCK: [f64; 14] = [1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];
    if unit == Unit::Clock && (0.5..=3600.0).contains(&least) {
        return CLOCK.into_iter().find(|&step| step >= least).unwrap_or(3600.0);
    }
    let thousand = match unit {
        Unit::Bytes if least >= 1.0 => 1024f64.powi(least.log(1024.0).floor() as i32),
        _ => 1.0,
    };
    let least = least / thousand;
    let decade = 10f64.powi(least.log10().floor() as i32);
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * decade);
    let step = steps.into_iter().find(|&step| step >= least * 0.999).unwrap_or(10.0 * decade);
    let whole = matches!(unit, Unit::Count) || unit == Unit::Bytes;
    thousand * if whole { step.max(1.0).ceil() } else { step }
}

impl Scale {
    /// Where the value lies, linearly; `None`: nowhere.
    fn place(self, value: f64) -> Option<f64> {
        let place = match self {
            Scale::Linear => value,
            Scale::Log if value > 0.0 => value.log10(),
            Scale::Percentile if (0.0..100.0).contains(&value) => -(1.0 - value / 100.0).log10(),
            _ => return None,
        };
        place.is_finite().then_some(place)
    }
}

/// An axis whose ends are fixed.
pub(super) struct Fitted {
    scale: Scale,
    low: f64,
    high: f64,
    from_px: f64,
    to_px: f64,
    /// Values with a line and a label, and those with a faint line only.
    pub ticks: Vec<f64>,
    pub minor: Vec<f64>,
}

impl Fitted {
    pub fn pixel(&self, value: f64) -> Option<f64> {
        let share = (self.scale.place(value)? - self.low) / (self.high - self.low);
        Some(self.from_px + share * (self.to_px - self.from_px))
    }

    /// As `pixel`, moved to the nearer end if it lies outside.
    pub fn pixel_within(&self, value: f64) -> f64 {
        let (first, last) = (self.from_px.min(self.to_px), self.from_px.max(self.to_px));
        self.pixel(value).unwrap_or(if value > 0.0 { self.to_px } else { self.from_px }).clamp(first, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis, values: &[f64], room: f64) -> Vec<String> {
        let fitted = axis.fit(values.iter().copied(), 0.0, room).expect("values");
        fitted.ticks.iter().map(|&tick| axis.unit.tick(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let rate = Axis::new("", Scale::Linear, Unit::PerSecond);
        assert_eq!(ticks(&rate, &[3.0, 197_000.0], 200.0), ["0", "50k", "100k", "150k", "200k"]);
        assert_eq!(ticks(&rate, &[0.0], 200.0), ["0", "0.25", "0.5", "0.75", "1"]);
        let memory = Axis::new("", Scale::Linear, Unit::Bytes);
        assert_eq!(
            ticks(&memory, &[900.0 * 1048576.0], 200.0),
            ["0", "200 MiB", "400 MiB", "600 MiB", "800 MiB", "1000 MiB"]
        );
        assert_eq!(ticks(&Axis::clock(""), &[0.5, 78.0], 400.0), ["20 s", "40 s", "60 s"]);
        let latency = Axis::new("", Scale::Log, Unit::Duration);
        assert_eq!(ticks(&latency, &[130e3, 4e6], 200.0), ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]);
        assert_eq!(ticks(&latency, &[130e3, 900e6], 200.0), ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let percentile = Axis::new("", Scale::Percentile, Unit::Percent);
        assert_eq!(ticks(&percentile, &[0.0, 99.995], 200.0), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn percentiles_lie_at_equal_distances() {
        let axis = Axis::new("", Scale::Percentile, Unit::Percent);
        let fitted = axis.fit([0.0, 99.9].into_iter(), 0.0, 300.0).expect("values");
        let pixels = [90.0, 99.0, 99.9].map(|value| fitted.pixel(value).expect("on the axis").round());
        assert_eq!(pixels, [100.0, 200.0, 300.0]);
        assert_eq!(fitted.pixel(100.0), None);
    }

    #[test]
    fn a_single_or_hopeless_value_is_no_fault() {
        for scale in [Scale::Linear, Scale::Log, Scale::Percentile] {
            let axis = Axis::new("", scale, Unit::Duration);
            let fitted = axis.fit([7.0].into_iter(), 0.0, 100.0).expect("a value");
            assert!(fitted.pixel(7.0).is_some_and(|pixel| (0.0..=100.0).contains(&pixel)));
            assert!(axis.fit([f64::NAN, f64::INFINITY].into_iter(), 0.0, 100.0).is_none());
        }
        assert!(Axis::new("", Scale::Log, Unit::Count).fit([0.0, -1.0].into_iter(), 0.0, 100.0).is_none());
    }
}
