//! Several servers under the same load, side by side: as text, and as an HTML page with bars.
use super::chart::{self, Bar, Bars, Tone};
use super::grids::Grid;
use super::metric;
use super::table::{rows, wrapped};
use super::units::{Unit, utc};
use crate::result::Machine;
use askama::Template;

/// What is compared. Servers and metrics are shown in the order of their first row.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub scenario: String,
    /// What the scenario stands for.
    pub about: String,
    /// Unix ms.
    pub started_at: u64,
    pub command: String,
    pub machine: Machine,
    /// Runs of each server.
    pub rounds: u32,
    pub rows: Vec<Row>,
    /// What the reader must know: peers that were skipped and why, runs that were not valid.
    pub notes: Vec<String>,
}

/// One server's figure of one metric over all rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub server: String,
    /// Dotted name, as of a target.
    pub metric: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Median ÷ the median of the first server; NaN: cannot be told.
    pub ratio: f64,
    /// (max − min) ÷ median.
    pub spread: f64,
}

impl Comparison {
    fn metrics(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.metric.as_str()))
    }

    fn servers(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.server.as_str()))
    }

    fn rows_of(&self, metric: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.metric == metric)
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

/// As text for a terminal: a table per metric.
pub fn text(comparison: &Comparison) -> String {
    let mut text = format!("{}: {}\n", comparison.scenario, comparison.servers().join(", "));
    let mut line = |line: &str| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&rounds(comparison));
    for metric in comparison.metrics() {
        let mut grid = Grid { head: vec!["", "median", "min", "max", "spread", "ratio"], ..Grid::default() };
        for row in comparison.rows_of(metric) {
            let figures = [row.median, row.min, row.max].map(|value| metric::figure(metric, value));
            let rest = [Unit::Percent.figure(row.spread * 100.0), Unit::Ratio.figure(row.ratio)];
            grid.rows.push([row.server.clone()].into_iter().chain(figures).chain(rest).collect());
        }
        line("");
        line(&format!("{metric} ({} is better)", better(metric)));
        rows(&grid).lines().for_each(&mut line);
    }
    for note in &comparison.notes {
        wrapped(note, "- ", "  ").iter().for_each(|part| line(part));
    }
    text
}

fn better(metric: &str) -> &'static str {
    if metric::is_more_better(metric) { "more" } else { "less" }
}

fn rounds(comparison: &Comparison) -> String {
    format!(
        "median of {} runs of each server, in turn; spread is (max − min) ÷ median, ratio is to the first",
        comparison.rounds
    )
}

/// As one HTML file that needs nothing from elsewhere.
pub fn html(comparison: &Comparison) -> String {
    let servers = comparison.servers();
    let panels = comparison.metrics().into_iter().map(|metric| panel(comparison, &servers, metric)).collect();
    let machine = &comparison.machine;
    let page = Page {
        chart_style: chart::STYLE,
        title: format!("{}, side by side", comparison.scenario),
        about: &comparison.about,
        servers: servers.join(", "),
        rounds: rounds(comparison),
        panels,
        notes: &comparison.notes,
        setting: vec![
            ("begun".to_owned(), utc(comparison.started_at)),
            (
                "machine".to_owned(),
                format!("{}: {}, {} cores, {}", machine.hostname, machine.cpu, machine.cores, machine.kernel),
            ),
            ("load generator".to_owned(), machine.loadgen_version.clone()),
        ],
        command: &comparison.command,
    };
    page.render().unwrap_or_else(|fault| format!("<!DOCTYPE html><title>comparison</title><p>{fault}</p>"))
}

#[derive(Template)]
#[template(path = "report/templates/comparison.html")]
struct Page<'a> {
    chart_style: &'static str,
    title: String,
    about: &'a str,
    servers: String,
    rounds: String,
    panels: Vec<Panel>,
    notes: &'a [String],
    setting: Vec<(String, String)>,
    command: &'a str,
}

/// One metric: bars, a sentence and the figures.
struct Panel {
    metric: String,
    better: &'static str,
    words: String,
    svg: String,
}

fn panel(comparison: &Comparison, servers: &[&str], metric: &str) -> Panel {
    let (unit, factor) = metric::unit(metric).unwrap_or((Unit::Of(""), 1.0));
    let mut bars = Bars::new(metric, unit);
    for row in comparison.rows_of(metric) {
        let is_first = servers.first() == Some(&row.server.as_str());
        let note = if is_first || !row.ratio.is_finite() { String::new() } else { Unit::Ratio.figure(row.ratio) };
        bars = bars.bar(Bar {
            name: row.server.clone(),
            value: row.median * factor,
            spread: Some((row.min * factor, row.max * factor)),
            tone: if is_first { Tone::Series(0) } else { Tone::Other },
            note,
        });
    }
    Panel {
        metric: metric::words(metric),
        better: better(metric),
        words: words(comparison, servers, metric),
        svg: bars.svg(),
    }
}

/// What the bars say of the first server; nothing where the runs themselves differ more than the servers.
fn words(comparison: &Comparison, servers: &[&str], metric: &str) -> String {
    let rows: Vec<&Row> = comparison.rows_of(metric).collect();
    let Some(first) = rows.iter().find(|row| servers.first() == Some(&row.server.as_str())) else {
        return String::new();
    };
    let others = rows.iter().filter(|row| row.server != first.server && row.ratio.is_finite() && row.ratio > 0.0);
    let parts: Vec<String> = others
        .map(|other| {
            let overlap = other.min <= first.max && first.min <= other.max;
            let more = other.ratio > 1.0;
            let times = if more { other.ratio } else { 1.0 / other.ratio };
            match overlap {
                true => format!("no clear difference from {}", other.server),
                false if more == metric::is_more_better(metric) => {
                    format!("{times:.1} times worse than {}", other.server)
                }
                false => format!("{times:.1} times better than {}", other.server),
            }
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("{}: {}.", first.server, parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, golden, look, outline};

    fn comparison() -> Comparison {
        let row = |server: &str, metric: &str, [min, median, max]: [f64; 3], ratio: f64| Row {
            server: server.into(),
            metric: metric.into(),
            median,
            min,
            max,
            ratio,
            spread: (max - min) / median,
        };
        let run = sample::passed();
        Comparison {
            scenario: "chat".into(),
            about: run.scenario.about,
            started_at: run.started_at,
            command: "throng-loadgen compare chat --peers bun,socketio".into(),
            machine: run.machine,
            rounds: 5,
            rows: vec![
                row("throng 0.1.0", "latency.p99_ms", [0.41, 0.43, 0.5], 1.0),
                row("bun 1.3.1", "latency.p99_ms", [0.45, 0.52, 0.61], 1.21),
                row("socket.io 4.8", "latency.p99_ms", [6.1, 7.4, 9.8], 17.2),
                row("throng 0.1.0", "server.cpu_us_per_delivery", [7.8, 7.96, 8.1], 1.0),
                row("bun 1.3.1", "server.cpu_us_per_delivery", [9.9, 10.2, 10.4], 1.28),
                row("socket.io 4.8", "server.cpu_us_per_delivery", [30.9, 31.2, 33.0], 3.92),
                row("throng 0.1.0", "connects_per_second", [20_100.0, 21_300.0, 21_900.0], 1.0),
                row("bun 1.3.1", "connects_per_second", [24_000.0, 25_100.0, 25_300.0], 1.18),
                row("socket.io 4.8", "connects_per_second", [3_900.0, 4_000.0, 4_050.0], 0.188),
            ],
            notes: vec!["nchan was skipped: nginx is not installed <apt-get install nginx libnginx-mod-nchan>".into()],
        }
    }

    #[test]
    fn the_comparison_as_text_and_page() {
        let page = html(&comparison());
        look("comparison.html", &page);
        golden("comparison.txt", &text(&comparison()));
        golden("comparison-outline.txt", &outline(&page));
        assert!(!page.contains("http") && page.contains("&#60;apt-get"));
    }

    #[test]
    fn words_follow_the_bars() {
        let comparison = comparison();
        let servers = comparison.servers();
        let words = |metric| words(&comparison, &servers, metric);
        assert_eq!(
            words("latency.p99_ms"),
            "throng 0.1.0: no clear difference from bun 1.3.1, 17.2 times better than socket.io 4.8."
        );
        assert_eq!(
            words("connects_per_second"),
            "throng 0.1.0: 1.2 times worse than bun 1.3.1, 5.3 times better than socket.io 4.8."
        );
    }
}
