//! Writing SVG: escaped text, short numbers. What lies inside an HTML page needs no namespace; a file of its own does.
use std::fmt::Write;

/// Looks of all charts, light and dark, for the `<style>` of a page.
pub const STYLE: &str = include_str!("style.css");

/// Makes a file of its own from the SVG of a chart, with its looks inside.
pub fn standalone(svg: &str) -> String {
    let rest = svg.strip_prefix("<svg ").unwrap_or_default();
    let (head, body) = rest.split_once('>').unwrap_or_default();
    format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {head}><style>{STYLE}</style>{body}\n")
}

pub(super) struct Svg(String);

impl Svg {
    /// The root: scales with its container, and tells screen readers what it shows.
    pub fn new(width: f64, height: f64, title: &str) -> Svg {
        let title = escape(title);
        Svg(format!(
            "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n"
        ))
    }

    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>");
        self.0
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(short);
        self.write(format_args!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>\n"));
    }

    /// A rectangle, with a hint that appears when the pointer rests on it.
    pub fn rect(&mut self, class: &str, corner: (f64, f64), size: (f64, f64), hint: Option<&str>) {
        let [x, y, width, height] = [corner.0, corner.1, size.0.max(0.0), size.1.max(0.0)].map(short);
        self.write(format_args!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\""));
        self.end("rect", hint);
    }

    pub fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, hint: Option<&str>) {
        let [x, y, radius] = [at.0, at.1, radius].map(short);
        self.write(format_args!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\""));
        self.end("circle", hint);
    }

    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        self.points("polyline", class, points);
    }

    pub fn polygon(&mut self, class: &str, points: &[(f64, f64)]) {
        self.points("polygon", class, points);
    }

    /// `class` has one of `start`, `middle`, `end`: where the text is held.
    pub fn text(&mut self, class: &str, at: (f64, f64), text: &str) {
        let [x, y] = [at.0, at.1].map(short);
        let text = escape(text);
        self.write(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>\n"));
    }

    fn points(&mut self, name: &str, class: &str, points: &[(f64, f64)]) {
        self.write(format_args!("<{name} class=\"{class}\" points=\""));
        for (at, point) in points.iter().enumerate() {
            let gap = if at == 0 { "" } else { " " };
            self.write(format_args!("{gap}{},{}", short(point.0), short(point.1)));
        }
        self.0.push_str("\"/>\n");
    }

    fn end(&mut self, name: &str, hint: Option<&str>) {
        match hint {
            None => self.0.push_str("/>\n"),
            Some(hint) => {
                let hint = escape(hint);
                self.write(format_args!("><title>{hint}</title></{name}>\n"));
            }
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.0.write_fmt(text);
    }
}

/// Pixels of a text in the charts' type size, roughly: digits and lower case are a little over half as wide as high.
pub(super) fn text_px(text: &str) -> f64 {
    text.chars().count() as f64 * 6.7
}

fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            // Other control characters have no place in XML.
            '\u{0}'..='\u{1f}' => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}
