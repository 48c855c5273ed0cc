//! Lines and points: margins from the labels, grid, bands, series, labels at the ends of the lines.
use super::axis::Fitted;
use super::decimate::decimate;
use super::svg::{Svg, text_px};
use super::{Chart, Marker, Series, Style};
use crate::report::units::Unit;

/// Room for the name of the y axis, and for the names of the bands below it.
const TOP_PX: f64 = 24.0;
const BANDS_PX: f64 = 18.0;
/// Height of a line of text.
const LINE_PX: f64 = 15.0;
/// Points of a thinned line are at least this far apart.
const COLUMN_PX: f64 = 1.5;
/// A line that ends so far from the right edge has its name beside its end.
const EARLY_PX: f64 = 60.0;
/// A line of so few points shows each of them.
const SPARSE: usize = 12;
/// Least width of a column with a hint of its own.
const HINT_PX: f64 = 9.0;

pub(super) fn chart(chart: &Chart) -> String {
    let mut svg = Svg::new(chart.width, chart.height, &chart.title);
    let Some(frame) = Frame::new(chart) else {
        svg.text("middle axis", (chart.width / 2.0, chart.height / 2.0), "nothing was recorded");
        return svg.finish();
    };
    frame.bands(&mut svg, chart);
    frame.grid(&mut svg, chart);
    for series in &chart.series {
        frame.series(&mut svg, series);
    }
    for marker in &chart.markers {
        frame.marker(&mut svg, marker);
    }
    frame.names(&mut svg, chart);
    if chart.has_hints {
        frame.hints(&mut svg, chart);
    }
    svg.finish()
}

impl Style {
    fn class(self) -> &'static str {
        match self {
            Style::Dashed => "line dashed",
            Style::Thin => "line thin",
            Style::Line | Style::Area | Style::Dots => "line",
        }
    }
}

struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Fitted,
    y: Fitted,
    x_unit: Unit,
    y_unit: Unit,
}

impl Frame {
    fn new(chart: &Chart) -> Option<Frame> {
        // A point counts for the axes only if both can show it.
        let points =
            || chart.series.iter().flat_map(|series| &series.points).filter(|p| p.0.is_finite() && p.1.is_finite());
        let marked_x = chart.markers.iter().filter_map(|marker| match marker {
            Marker::AtX { x, .. } | Marker::At { x, .. } => Some(*x),
            Marker::AtY { .. } => None,
        });
        let marked_y = chart.markers.iter().filter_map(|marker| match marker {
            Marker::AtY { y, .. } | Marker::At { y, .. } => Some(*y),
            Marker::AtX { .. } => None,
        });
        let banded = chart.bands.iter().flat_map(|band| [band.from, band.to]);

        let top = TOP_PX + if chart.bands.is_empty() { 0.0 } else { BANDS_PX };
        let bottom = chart.height - 24.0 - if chart.x.label.is_empty() { 0.0 } else { 18.0 };
        let y = chart.y.fit(points().map(|point| point.1).chain(marked_y), bottom, top)?;
        let widest = |texts: Vec<String>| texts.iter().map(|text| text_px(text)).fold(0.0, f64::max);
        let left = widest(y.ticks.iter().map(|&tick| chart.y.unit.tick(tick)).collect()) + 12.0;
        let named: Vec<String> =
            if chart.series.len() > 1 { chart.series.iter().map(|s| s.name.clone()).collect() } else { Vec::new() };
        let right = chart.width - if named.is_empty() { 14.0 } else { widest(named) + 32.0 };
        let left = left.max(chart.margins.0).min(chart.width / 3.0);
        let right = right.min(chart.width - chart.margins.1).max(chart.width / 2.0);
        let x = chart.x.fit(points().map(|point| point.0).chain(marked_x).chain(banded), left, right)?;
        Some(Frame { left, right, top, bottom, x, y, x_unit: chart.x.unit, y_unit: chart.y.unit })
    }

    fn bands(&self, svg: &mut Svg, chart: &Chart) {
        let from_y = self.top - BANDS_PX;
        for band in &chart.bands {
            let (from, to) = (self.x.pixel_within(band.from), self.x.pixel_within(band.to));
            if band.is_shaded {
                svg.rect("band", (from, from_y), (to - from, self.bottom - from_y), Some(&band.name));
            }
            if from > self.left {
                svg.line("edge", (from, from_y), (from, self.bottom));
            }
            if to - from > text_px(&band.name) {
                svg.text("middle axis", ((from + to) / 2.0, self.top - 5.0), &band.name);
            }
        }
    }

    fn grid(&self, svg: &mut Svg, chart: &Chart) {
        for y in self.y.minor.iter().filter_map(|&tick| self.y.pixel(tick)) {
            svg.line("faint", (self.left, y), (self.right, y));
        }
        for x in self.x.minor.iter().filter_map(|&tick| self.x.pixel(tick)) {
            svg.line("faint", (x, self.top), (x, self.bottom));
        }
        for (&tick, label) in self.y.ticks.iter().zip(chart.y.unit.ticks(&self.y.ticks)) {
            let Some(y) = self.y.pixel(tick) else { continue };
            svg.line("rule", (self.left, y), (self.right, y));
            svg.text("end axis", (self.left - 7.0, y + 4.0), &label);
        }
        // A clock needs no lines through the plot, only marks below it.
        let (look, from_y) = if chart.x.unit == Unit::Clock { ("base", self.bottom) } else { ("rule", self.top) };
        let mut free_from = f64::MIN;
        for (&tick, label) in self.x.ticks.iter().zip(chart.x.unit.ticks(&self.x.ticks)) {
            let Some(x) = self.x.pixel(tick) else { continue };
            svg.line(look, (x, from_y), (x, self.bottom + 4.0));
            let half = text_px(&label) / 2.0;
            if x - half >= free_from {
                svg.text("middle axis", (x, self.bottom + 18.0), &label);
                free_from = x + half + 6.0;
            }
        }
        svg.line("base", (self.left, self.bottom), (self.right, self.bottom));
        svg.text("start", (0.0, 11.0), &chart.y.label);
        svg.text("end", (self.right, chart.height - 5.0), &chart.x.label);
    }

    fn series(&self, svg: &mut Svg, series: &Series) {
        let tone = series.tone.class();
        let places: Vec<_> = series.points.iter().map(|&point| self.place(point)).collect();
        let runs = places.split(Option::is_none).map(|run| run.iter().flatten().copied().collect::<Vec<_>>());
        let shown = places.iter().flatten().count();
        let is_sparse = shown <= SPARSE && series.style != Style::Dashed;
        let has_dots = series.style == Style::Dots || is_sparse;
        for run in runs.filter(|run| !run.is_empty()) {
            let run = decimate(&run, COLUMN_PX);
            if series.style == Style::Area && run.len() > 1 {
                let (first, last) = (run[0].0, run[run.len() - 1].0);
                let closed: Vec<_> = run.iter().copied().chain([(last, self.bottom), (first, self.bottom)]).collect();
                svg.polygon(&format!("area {tone}"), &closed);
            }
            if series.style != Style::Dots && run.len() > 1 {
                svg.polyline(&format!("{} {tone}", series.style.class()), &run);
            } else if !has_dots {
                // A point on its own between gaps has no line to be part of.
                run.iter().for_each(|&point| svg.dot(&format!("dot {tone}"), point, 2.5, None));
            }
        }
        if has_dots {
            for (&(x, y), place) in series.points.iter().zip(&places) {
                let hint = format!("{}: {} at {}", series.name, self.y_unit.figure(y), self.x_unit.figure(x));
                place.iter().for_each(|&place| svg.dot(&format!("dot {tone}"), place, 3.5, Some(&hint)));
            }
        }
    }

    fn marker(&self, svg: &mut Svg, marker: &Marker) {
        match marker {
            Marker::AtX { x, label, tone } => {
                let x = self.x.pixel_within(*x);
                svg.line(&format!("mark {}", tone.class()), (x, self.top), (x, self.bottom));
                let (class, at) =
                    if x + 6.0 + text_px(label) > self.right { ("end", x - 6.0) } else { ("start", x + 6.0) };
                svg.text(&format!("{class} halo"), (at, self.top + 13.0), label);
            }
            Marker::AtY { y, label, tone } => {
                let y = self.y.pixel_within(*y);
                svg.line(&format!("mark {}", tone.class()), (self.left, y), (self.right, y));
                svg.text("start halo", (self.left + 6.0, if y < self.top + 16.0 { y + 15.0 } else { y - 5.0 }), label);
            }
            Marker::At { x, y, label, tone } => {
                let (x, y) = (self.x.pixel_within(*x), self.y.pixel_within(*y));
                svg.dot(&format!("ring {}", tone.class()), (x, y), 5.0, Some(label));
                let (class, at) =
                    if x + 10.0 + text_px(label) > self.right { ("end", x - 10.0) } else { ("start", x + 10.0) };
                svg.text(&format!("{class} halo strong"), (at, y - 8.0), label);
            }
        }
    }

    /// Names of the series: beside the end of a line that ends early, otherwise to the right of the plot at the height of the
    /// line, pushed apart where they would overlap.
    fn names(&self, svg: &mut Svg, chart: &Chart) {
        if chart.series.len() < 2 {
            return;
        }
        // Where a run is winding down its lines fall together: the height is that of the last stretch that is not shaded.
        let clear_to = chart.bands.iter().rev().find(|band| !band.is_shaded).map_or(f64::INFINITY, |band| band.to);
        let end = |series: &Series, limit: f64| {
            let points = series.points.iter().rev().filter(|point| point.0 < limit);
            points.into_iter().find_map(|&point| self.place(point))
        };
        let mut outside = Vec::new();
        let mut inside: Vec<(f64, f64, f64)> = Vec::new();
        for series in &chart.series {
            let Some((x, y)) = end(series, clear_to).or_else(|| end(series, f64::INFINITY)) else { continue };
            let width = text_px(&series.name);
            if self.right - x < EARLY_PX || x + width + 8.0 > self.right {
                outside.push((y, series));
                continue;
            }
            let mut y = y;
            while inside.iter().any(|&(from, to, other)| x < to && x + width > from && (y - other).abs() < LINE_PX) {
                y += LINE_PX;
            }
            inside.push((x, x + width, y));
            svg.text("start halo", (x + 7.0, y + 4.0), &series.name);
        }
        outside.sort_by(|a, b| a.0.total_cmp(&b.0));
        let floor = self.bottom - LINE_PX * outside.len().saturating_sub(1) as f64;
        let mut free_from = self.top;
        for (at, (y, series)) in outside.into_iter().enumerate() {
            let y = y.min(floor + LINE_PX * at as f64).max(free_from);
            free_from = y + LINE_PX;
            let look = format!("{} {}", series.style.class(), series.tone.class());
            if series.style == Style::Dots {
                svg.dot(&format!("dot {}", series.tone.class()), (self.right + 14.0, y), 3.5, None);
            } else {
                svg.line(&look, (self.right + 7.0, y), (self.right + 21.0, y));
            }
            svg.text("start", (self.right + 26.0, y + 4.0), &series.name);
        }
    }

    /// Invisible columns over the plot whose hints tell the values of all series there, of each its highest.
    fn hints(&self, svg: &mut Svg, chart: &Chart) {
        let columns = ((self.right - self.left) / HINT_PX).floor().max(1.0);
        let width = (self.right - self.left) / columns;
        let mut lines = vec![(f64::NAN, String::new()); columns as usize];
        for series in &chart.series {
            let mut highest: Vec<Option<(f64, f64)>> = vec![None; lines.len()];
            for &(x, y) in series.points.iter().filter(|&&point| self.place(point).is_some()) {
                let column = ((self.x.pixel_within(x) - self.left) / width) as usize;
                let column = column.min(lines.len() - 1);
                if highest[column].is_none_or(|(_, other)| y > other) {
                    highest[column] = Some((x, y));
                }
            }
            for (line, highest) in lines.iter_mut().zip(highest) {
                if let Some((x, y)) = highest {
                    line.0 = line.0.min(x);
                    line.1.push_str(&format!("\n{}: {}", series.name, self.y_unit.figure(y)));
                }
            }
        }
        for (at, (x, values)) in lines.iter().enumerate().filter(|(_, line)| !line.1.is_empty()) {
            let hint = format!("{}{values}", self.x_unit.tick(*x));
            let corner = (self.left + at as f64 * width, self.top);
            svg.rect("hover", corner, (width, self.bottom - self.top), Some(&hint));
        }
    }

    fn place(&self, point: (f64, f64)) -> Option<(f64, f64)> {
        Some((self.x.pixel(point.0)?, self.y.pixel(point.1)?))
    }
}
