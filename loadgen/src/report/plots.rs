//! The charts of a run.
use super::chart::{Axis, Band, Chart, Marker, Scale, Style, Tone};
use super::units::Unit;
use crate::result::{Phase, RunResult, Second, Timed};

const HALF: (f64, f64) = (510.0, 250.0);
const SERVER: Tone = Tone::Series(0);
const CLIENT: Tone = Tone::Series(1);

/// One chart with its words.
pub struct Plot {
    pub title: &'static str,
    pub caption: String,
    pub is_wide: bool,
    pub svg: String,
}

/// What happened second by second.
pub(super) fn over_time(result: &RunResult) -> Vec<Plot> {
    let series = |of: fn(&Second) -> f64| -> Vec<(f64, f64)> {
        result.series.iter().map(|second| (second.t_s, of(second))).collect()
    };
    let chart = |title: &str, label: &str, unit: Unit| {
        let chart = Chart::new(title, Axis::clock(""), Axis::new(label, Scale::Linear, unit))
            .size(HALF.0, HALF.1)
            .margins(62.0, 66.0);
        storm(result, chart.bands(bands(&result.series)).hints())
    };
    let ns = |ns: u64| if ns == 0 { f64::NAN } else { ns as f64 };
    let mut plots = Vec::new();
    let mut half = |title, caption: &str, chart: Chart| {
        plots.push(Plot { title, caption: caption.to_owned(), is_wide: false, svg: chart.svg() });
    };

    let mut sent = chart("Messages sent per second", "per second", Unit::Count);
    sent = sent.series("sent", Tone::Series(0), Style::Area, series(|second| second.sent as f64));
    if result.counts.acked > 0 {
        sent = sent.series("acked", Tone::Series(2), Style::Line, series(|second| second.acked as f64));
    }
    half("Sent", "What the clients sent, by a schedule that does not wait for the server.", sent);
    let delivered = chart("Deliveries per second", "per second", Unit::Count).series(
        "delivered",
        Tone::Series(0),
        Style::Area,
        series(|second| second.delivered as f64),
    );
    half("Delivered", "What they received: one message to a room of 50 is 49 or 50 deliveries.", delivered);
    let connected = chart("Open connections", "connections", Unit::Count).series(
        "connected",
        Tone::Series(0),
        Style::Area,
        series(|second| second.connected as f64),
    );
    half("Connected", "Open connections at the end of each second.", connected);
    let lag: Vec<_> = result.series.iter().map(|second| (second.t_s, ns(second.lag_max_ns))).collect();
    let lag = chart("Worst lag of the load generator behind its schedule", "worst in the second", Unit::Duration)
        .series("lag", CLIENT, Style::Area, lag);
    half(
        "Lag of the load generator",
        "How late the latest send of each second was. It must stay far below the latencies, or they say more about the client than about the server.",
        lag,
    );
    let cpu = chart("Processor use of server and client", "cores in use", Unit::Cores)
        .series("server", SERVER, Style::Line, series(|second| second.server_cores))
        .series("client", CLIENT, Style::Line, series(|second| second.client_cores));
    half("Processor", "1.0 is one whole core.", cpu);
    let mut memory = chart("Resident memory of server and client", "resident", Unit::Bytes)
        .series("server", SERVER, Style::Line, series(|second| second.server_rss_bytes as f64))
        .series("client", CLIENT, Style::Line, series(|second| second.client_rss_bytes as f64));
    let mut caption = "Resident memory of the two processes.".to_owned();
    if result.series.iter().any(|second| second.kernel_slab_bytes.is_some()) {
        let slab = series(|second| second.kernel_slab_bytes.map_or(f64::NAN, |bytes| bytes as f64));
        memory = memory.series("kernel", Tone::Other, Style::Dashed, slab);
        caption.push_str(" Kernel: slab of the whole machine, sockets of both sides included.");
    }
    half("Memory", &caption, memory);
    plots
}

/// How latency went, second by second.
pub(super) fn latency_over_time(result: &RunResult) -> Plot {
    let y = Axis::new("latency of what came in the second (log scale)", Scale::Log, Unit::Duration);
    type Of = fn(&Second) -> u64;
    let lines: [(&str, Of); 4] =
        [("p50", |s| s.p50_ns), ("p99", |s| s.p99_ns), ("p99.9", |s| s.p999_ns), ("max", |s| s.max_ns)];
    let mut chart = Chart::new("Latency percentiles over time", Axis::clock("time since the start"), y);
    chart = storm(result, chart.size(1040.0, 340.0).bands(bands(&result.series)).hints());
    for (at, (name, of)) in lines.into_iter().enumerate() {
        let points = result.series.iter().map(|second| (second.t_s, of(second) as f64)).collect();
        chart = chart.series(name, Tone::Ramp(at), if name == "max" { Style::Thin } else { Style::Line }, points);
    }
    Plot {
        title: "Latency over time",
        caption: "p50: half were faster. p99: 99 of 100 were. A level line is a calm server; spikes of the maximum show where something paused.".into(),
        is_wide: true,
        svg: chart.svg(),
    }
}

/// Latency by percentile, a line for each thing timed; `None` if nothing was.
pub(super) fn percentile_curve(result: &RunResult) -> Option<Plot> {
    let x = Axis::new("share of the samples that were at least this fast", Scale::Percentile, Unit::Percent).tight();
    let y = Axis::new("latency (log scale)", Scale::Log, Unit::Duration);
    let mut chart = Chart::new("Latency by percentile", x, y).size(1040.0, 380.0);
    for (at, timed) in Timed::ALL.into_iter().enumerate() {
        let Some(latency) = result.latency.get(&timed).filter(|latency| !latency.curve.is_empty()) else { continue };
        chart = chart.series(timed.name(), Tone::Series(at), Style::Line, curve(&latency.curve, latency.count));
    }
    (!chart.series.is_empty()).then(|| Plot {
        title: "Percentile curve",
        caption: "Each step to the right is ten times rarer. Read at 99.9 %: 999 of 1,000 were at least this fast. A line that stays low to its end has no hidden tail.".into(),
        is_wide: true,
        svg: chart.svg(),
    })
}

/// Strictly rising, and without 100 %, which has no place on the axis: the slowest stands at what its count can tell apart.
fn curve(points: &[(f64, u64)], count: u64) -> Vec<(f64, f64)> {
    let mut shown: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for &(percentile, ns) in points {
        let before = shown.last().map_or(-1.0, |last| last.0);
        let place =
            if percentile < 100.0 { percentile } else { (100.0 * (1.0 - 0.5 / count.max(1) as f64)).max(before) };
        if place > before {
            shown.push((place, ns as f64));
        } else if let Some(last) = shown.last_mut() {
            last.1 = last.1.max(ns as f64);
        }
    }
    shown
}

/// The phases of the run; the measured one is not shaded.
fn bands(series: &[Second]) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    for run in series.chunk_by(|a, b| a.phase == b.phase) {
        let (from, to) = (run[0].t_s, run[run.len() - 1].t_s);
        if let Some(before) = bands.last_mut() {
            before.to = from;
        }
        let name = match run[0].phase {
            Phase::Connect => "connect",
            Phase::Warmup => "warm-up",
            Phase::Measure => "measured",
            Phase::Settle => "settle",
        };
        bands.push(Band { name: name.to_owned(), from, to, is_shaded: run[0].phase != Phase::Measure });
    }
    bands
}

fn storm(result: &RunResult, chart: Chart) -> Chart {
    let begun = result.series.iter().find(|second| second.phase == Phase::Measure);
    match (result.scenario.storm, begun) {
        (Some(storm), Some(begun)) => {
            let label = format!("{:.0} % break off", storm.fraction * 100.0);
            chart.marker(Marker::AtX { x: begun.t_s + storm.at_s, label, tone: Tone::Bad })
        }
        _ => chart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_slowest_has_a_place_on_the_percentile_axis() {
        assert_eq!(curve(&[(50.0, 1), (90.0, 2), (100.0, 9)], 10), [(50.0, 1.0), (90.0, 2.0), (95.0, 9.0)]);
        // Finer points than the count can tell apart: the maximum must not get lost.
        assert_eq!(curve(&[(50.0, 1), (99.0, 2), (100.0, 9)], 10), [(50.0, 1.0), (99.0, 9.0)]);
        assert_eq!(curve(&[(100.0, 9)], 0), [(50.0, 9.0)]);
    }

    #[test]
    fn phases_follow_each_other_without_a_gap() {
        let bands = bands(&sample::passed().series);
        let names: Vec<_> = bands.iter().map(|band| (band.name.as_str(), band.is_shaded)).collect();
        assert_eq!(names, [("connect", true), ("warm-up", true), ("measured", false), ("settle", true)]);
        assert!(bands.windows(2).all(|pair| pair[0].to == pair[1].from));
    }
}
