//! Level bars with names, values and spread: servers side by side, predicted against measured, how full each resource is.
use super::svg::{Svg, text_px};
use super::{Axis, Scale, Tone};
use crate::report::units::Unit;

/// Bars from zero, one below the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Read by screen readers; the visible heading is the page's.
    pub title: String,
    pub width: f64,
    pub unit: Unit,
    pub bars: Vec<Bar>,
    /// Upright dashed lines with a word above: what is allowed, what is full.
    pub lines: Vec<(f64, String)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    /// Lowest and highest of the runs behind the value.
    pub spread: Option<(f64, f64)>,
    pub tone: Tone,
    /// Behind the value, in grey.
    pub note: String,
}

const ROW_PX: f64 = 30.0;
const BAR_PX: f64 = 16.0;
/// Bold text is so much wider.
const BOLD: f64 = 1.15;

impl Bars {
    pub fn new(title: &str, unit: Unit) -> Bars {
        Bars { title: title.to_owned(), width: 1040.0, unit, bars: Vec::new(), lines: Vec::new() }
    }

    pub fn bar(mut self, bar: Bar) -> Bars {
        self.bars.push(bar);
        self
    }

    pub fn line(mut self, value: f64, label: &str) -> Bars {
        self.lines.push((value, label.to_owned()));
        self
    }

    /// As an `<svg>` element for an HTML page.
    pub fn svg(&self) -> String {
        let top = if self.lines.is_empty() { 4.0 } else { 22.0 };
        let height = top + ROW_PX * self.bars.len() as f64 + 4.0;
        let mut svg = Svg::new(self.width, height, &self.title);
        let widest = |texts: &mut dyn Iterator<Item = String>| texts.map(|text| text_px(&text)).fold(0.0, f64::max);
        let left = widest(&mut self.bars.iter().map(|bar| bar.name.clone())).clamp(40.0, self.width / 3.0) + 12.0;
        let behind = widest(&mut self.bars.iter().map(|bar| format!("{}  {}", self.unit.figure(bar.value), bar.note)));
        let right = (self.width - behind * BOLD - 20.0).max(left + 40.0);

        let ends = self.bars.iter().flat_map(|bar| [bar.value, bar.spread.map_or(f64::NAN, |spread| spread.1)]);
        let ends = ends.chain(self.lines.iter().map(|line| line.0)).chain([0.0]);
        let axis = Axis::new("", Scale::Linear, self.unit).tight();
        let Some(fitted) = axis.fit(ends, left, right) else { return svg.finish() };
        for (at, bar) in self.bars.iter().enumerate() {
            let middle = top + ROW_PX * (at as f64 + 0.5);
            svg.text("end", (left - 10.0, middle + 4.0), &bar.name);
            let end = fitted.pixel_within(bar.value);
            svg.rect(
                &format!("bar {}", bar.tone.class()),
                (left, middle - BAR_PX / 2.0),
                ((end - left).max(1.0), BAR_PX),
                None,
            );
            let mut outer = end;
            if let Some((low, high)) = bar.spread {
                let (low, high) = (fitted.pixel_within(low), fitted.pixel_within(high));
                if high - low > 1.5 {
                    svg.line("whisker", (low, middle), (high, middle));
                    for x in [low, high] {
                        svg.line("whisker", (x, middle - 4.0), (x, middle + 4.0));
                    }
                    outer = outer.max(high);
                }
            }
            let value = self.unit.figure(bar.value);
            svg.text("start strong", (outer + 8.0, middle + 4.0), &value);
            if !bar.note.is_empty() {
                svg.text("start axis", (outer + 16.0 + text_px(&value) * BOLD, middle + 4.0), &bar.note);
            }
        }
        for (value, label) in &self.lines {
            let x = fitted.pixel_within(*value);
            svg.line("mark other", (x, top - 4.0), (x, height));
            svg.text("middle axis", (x, top - 8.0), label);
        }
        svg.line("base", (left, top), (left, height - 4.0));
        svg.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values_and_stay_inside() {
        let bars = Bars::new("cpu", Unit::Of("µs"))
            .bar(Bar { name: "throng".into(), value: 2.0, spread: Some((1.8, 2.4)), ..Bar::default() })
            .bar(Bar { name: "a <peer>".into(), value: 4.0, note: "2.00×".into(), ..Bar::default() })
            .bar(Bar { name: "none".into(), value: f64::NAN, ..Bar::default() })
            .line(3.0, "bound");
        let svg = bars.svg();
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let widths: Vec<f64> = document
            .descendants()
            .filter(|node| node.has_tag_name("rect"))
            .map(|node| node.attribute("width").and_then(|width| width.parse().ok()).expect("a width"))
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01 && widths[1] < bars.width, "{widths:?}");
        assert_eq!(widths[2], 1.0);
        assert_eq!(svg.matches("whisker").count(), 3);
    }
}
