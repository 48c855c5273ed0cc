//! The Prometheus text format 0.0.4: one contiguous block per family, escaped label values.
use crate::telemetry::histograms::{BUCKETS, cumulative};
use hdrhistogram::Histogram;
use std::fmt::{Display, Write};

/// The content type that goes with it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Builds the text, family by family.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A family that takes samples. As long as it lives, no other can begin: blocks cannot interleave.
pub struct FamilyText<'a> {
    name: &'a str,
    text: &'a mut String,
}

impl Exposition {
    /// Begins a family. Each name may be begun once.
    pub fn family<'a>(&'a mut self, kind: Kind, name: &'a str, help: &str) -> FamilyText<'a> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        push(&mut self.text, format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
        FamilyText { name, text: &mut self.text }
    }

    /// A family with one sample and no label.
    pub fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&[], value);
    }

    /// A whole histogram family; values are nanoseconds, exported in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram<u64>) {
        let cumulative = cumulative(histogram);
        let family = self.family(Kind::Histogram, name, help);
        for ((le, _), count) in BUCKETS.iter().zip(cumulative.counts) {
            push(family.text, format_args!("{name}_bucket{{le=\"{le}\"}} {count}\n"));
        }
        push(family.text, format_args!("{name}_bucket{{le=\"+Inf\"}} {}\n", cumulative.count));
        push(family.text, format_args!("{name}_sum {}\n{name}_count {}\n", cumulative.sum_s, cumulative.count));
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

impl FamilyText<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.text.push_str(self.name);
        for (index, (key, text)) in labels.iter().enumerate() {
            push(self.text, format_args!("{}{key}=\"{}\"", if index == 0 { '{' } else { ',' }, escape(text)));
        }
        push(self.text, format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
        self
    }
}

/// Backslash, quote and newline of a label value.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::histograms::latency_histogram;

    #[test]
    fn samples_carry_escaped_labels() {
        let mut exposition = Exposition::default();
        exposition.single(Kind::Gauge, "up", "back\\slash and\nline", 1);
        exposition.family(Kind::Counter, "a_total", "A.").sample(&[("x", "q\"\\\n"), ("y", "")], 2).sample(&[], 0.5);
        let expected = "# HELP up back\\\\slash and\\nline\n# TYPE up gauge\nup 1\n\
                        # HELP a_total A.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\",y=\"\"} 2\na_total 0.5\n";
        assert_eq!(exposition.into_text(), expected);
    }

    #[test]
    fn histograms_end_with_infinity_sum_and_count() {
        let mut histogram = latency_histogram();
        histogram.saturating_record_n(1_000_000, 2);
        let mut exposition = Exposition::default();
        exposition.histogram("h_seconds", "H.", &histogram);
        let text = exposition.into_text();
        assert!(text.contains("h_seconds_bucket{le=\"0.0005\"} 0\n"), "{text}");
        assert!(text.contains("h_seconds_bucket{le=\"0.0025\"} 2\n"), "{text}");
        assert!(text.contains("h_seconds_bucket{le=\"+Inf\"} 2\n"), "{text}");
        assert!(text.ends_with("h_seconds_count 2\n"), "{text}");
    }
}
