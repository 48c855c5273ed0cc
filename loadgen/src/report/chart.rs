//! Charts as SVG text for the HTML pages: lines over linear, logarithmic and percentile axes, bands, markers, bars.
//!
//! Drawn here and not by `plotters`: that writes colours and pixel sizes into every element (no dark mode, no print), has no
//! percentile axis, no labels at the lines' ends that avoid each other and no hints under the pointer. With ticks, thinning and
//! labels made by us, all that would be left to it is to print polylines.
//!
//! A page puts [`STYLE`] into its `<style>` and [`Chart::svg`] or [`Bars::svg`] wherever it likes; [`standalone`] makes a file.
//! Colours are CSS variables (`--series-1`, `--ink`, …), so a page may override them.
mod axis;
mod bars;
mod decimate;
mod draw;
mod svg;

pub use axis::{Axis, Scale};
pub use bars::{Bar, Bars};
pub use svg::{STYLE, standalone};

/// Lines and points over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Read by screen readers; the visible heading is the page's.
    pub title: String,
    /// px of the drawing; on a page it scales with its container.
    pub width: f64,
    pub height: f64,
    /// Least room to the left and right of the plot, px: charts of a column with the same margins have the same time axis.
    pub margins: (f64, f64),
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    pub bands: Vec<Band>,
    pub markers: Vec<Marker>,
    /// Whether a hint with all values appears where the pointer rests. Right for series that share their x values.
    pub has_hints: bool,
}

/// Points in the order of x. A point that the axes cannot show (not finite, ≤ 0 on a log axis) breaks the line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub tone: Tone,
    pub style: Style,
}

/// A stretch of the x axis, shaded or only named.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    pub name: String,
    pub from: f64,
    pub to: f64,
    pub is_shaded: bool,
}

/// Something worth pointing at.
#[derive(Clone, Debug, PartialEq)]
pub enum Marker {
    /// A dashed upright line: "knee", "storm".
    AtX { x: f64, label: String, tone: Tone },
    /// A dashed level line: a bound.
    AtY { y: f64, label: String, tone: Tone },
    /// A ring around a point.
    At { x: f64, y: f64, label: String, tone: Tone },
}

/// Colour by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// One of six that can be told apart, from 0; goes round.
    Series(usize),
    /// One of four steps of the same colour, for what has an order (p50 … max), from 0.
    Ramp(usize),
    Good,
    Bad,
    #[default]
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Line,
    Thin,
    Dashed,
    /// A line over a light fill: for what is counted from zero.
    Area,
    /// Single points, as measured.
    Dots,
}

impl Chart {
    pub fn new(title: &str, x: Axis, y: Axis) -> Chart {
        Chart {
            title: title.to_owned(),
            width: 1040.0,
            height: 320.0,
            margins: (0.0, 0.0),
            x,
            y,
            series: Vec::new(),
            bands: Vec::new(),
            markers: Vec::new(),
            has_hints: false,
        }
    }

    pub fn size(self, width: f64, height: f64) -> Chart {
        Chart { width, height, ..self }
    }

    pub fn margins(self, left: f64, right: f64) -> Chart {
        Chart { margins: (left, right), ..self }
    }

    pub fn hints(self) -> Chart {
        Chart { has_hints: true, ..self }
    }

    pub fn series(mut self, name: &str, tone: Tone, style: Style, points: Vec<(f64, f64)>) -> Chart {
        self.series.push(Series { name: name.to_owned(), points, tone, style });
        self
    }

    pub fn bands(mut self, bands: impl IntoIterator<Item = Band>) -> Chart {
        self.bands.extend(bands);
        self
    }

    pub fn marker(mut self, marker: Marker) -> Chart {
        self.markers.push(marker);
        self
    }

    /// The chart as an `<svg>` element for an HTML page.
    pub fn svg(&self) -> String {
        draw::chart(self)
    }
}

impl Tone {
    fn class(self) -> &'static str {
        const SERIES: [&str; 6] = ["s1", "s2", "s3", "s4", "s5", "s6"];
        const RAMP: [&str; 4] = ["r1", "r2", "r3", "r4"];
        match self {
            Tone::Series(at) => SERIES[at % SERIES.len()],
            Tone::Ramp(at) => RAMP[at.min(RAMP.len() - 1)],
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::units::Unit;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let y = Axis::new("latency", Scale::Log, Unit::Duration);
        Chart::new("a <b>", Axis::clock("time"), y).series("p99 & more", Tone::Ramp(1), Style::Line, points)
    }

    fn polyline_points(svg: &str) -> Vec<(f64, f64)> {
        let lists =
            svg.split("<polyline ").skip(1).filter_map(|rest| rest.split("points=\"").nth(1)?.split('"').next());
        let pairs = lists.flat_map(|list| list.split(' ')).filter_map(|pair| pair.split_once(','));
        pairs.map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y"))).collect()
    }

    #[test]
    fn every_chart_is_well_formed_xml_with_its_text_escaped() {
        let marked = chart(vec![(0.0, 1e5), (1.0, 2e6), (2.0, 3e5)])
            .bands([Band { name: "connect <".into(), from: 0.0, to: 1.0, is_shaded: true }])
            .marker(Marker::AtX { x: 1.0, label: "storm <".into(), tone: Tone::Bad })
            .marker(Marker::AtY { y: 1e6, label: "bound".into(), tone: Tone::Bad })
            .marker(Marker::At { x: 2.0, y: 3e5, label: "here".into(), tone: Tone::Good })
            .hints();
        for chart in [marked, chart(vec![]), chart(vec![(1.0, 0.0)]), chart(vec![(1.0, f64::NAN), (2.0, 5.0)])] {
            let svg = chart.svg();
            roxmltree::Document::parse(&svg).unwrap_or_else(|fault| panic!("{fault}\n{svg}"));
            assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
            roxmltree::Document::parse(&standalone(&svg)).expect("a file of its own");
        }
    }

    #[test]
    fn three_points_show_as_dots_and_three_thousand_keep_their_maximum() {
        let few = chart(vec![(0.0, 1e5), (1.0, 2e6), (2.0, 3e5)]).svg();
        assert_eq!((polyline_points(&few).len(), few.matches("<circle").count()), (3, 3));

        let mut many: Vec<_> = (0..3000).map(|at| (f64::from(at), 1e5)).collect();
        many[1777].1 = 9.9e6;
        let svg = chart(many).svg();
        let points = polyline_points(&svg);
        assert!(points.len() < 2500 && svg.matches("<circle").count() == 0);
        let top = points.iter().map(|point| point.1).fold(f64::MAX, f64::min);
        assert!(points.iter().filter(|point| point.1 == top).count() == 1, "the outlier alone is at the top");
    }

    /// Charts that a run seldom gives, for the eye: see `sample::look`.
    #[test]
    fn a_gallery_is_well_formed() {
        let wave = |at: i32| f64::from((at * 7919) % 997) * 1e3 + if at == 1777 { 9e7 } else { 4e5 };
        let long = chart((0..3000).map(|at| (f64::from(at), wave(at))).collect());
        let few = chart(vec![(0.0, 1e5), (1.0, 2e6), (2.0, 3e5)]).hints();
        let cores: Vec<(f64, f64)> =
            (1..=20).map(|n| (f64::from(n), 232_888.0 * f64::from(n) / (1.0 + 0.02 * f64::from(n - 1)))).collect();
        let measured = cores.iter().step_by(3).map(|&(x, y)| (x, y * 1.02)).collect();
        let fitted = Chart::new(
            "throughput by shards",
            Axis::new("shards", Scale::Linear, Unit::Count),
            Axis::new("messages", Scale::Linear, Unit::PerSecond),
        )
        .series("fitted", Tone::Series(0), Style::Line, cores.clone())
        .series("linear", Tone::Other, Style::Dashed, cores.iter().map(|&(x, _)| (x, 232_888.0 * x)).collect())
        .series("measured", Tone::Series(1), Style::Dots, measured)
        .marker(Marker::AtX { x: 14.0, label: "knee".into(), tone: Tone::Bad })
        .marker(Marker::AtY { y: 3e6, label: "what is wanted".into(), tone: Tone::Good })
        .marker(Marker::At { x: 20.0, y: 3.3e6, label: "this machine".into(), tone: Tone::Good });
        let body: String = [long, few, fitted].iter().map(Chart::svg).collect();
        let page = format!(
            "<html><head><style>{STYLE} body {{ background: var(--surface) }}</style></head><body>{body}</body></html>"
        );
        roxmltree::Document::parse(&page).expect("well-formed");
        crate::report::sample::look("gallery.html", &page);
    }

    #[test]
    fn what_cannot_be_shown_breaks_the_line() {
        let svg = chart(vec![(0.0, 1e5), (1.0, 1e5), (2.0, 0.0), (3.0, 1e5), (4.0, 1e5)]).svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
    }
}
