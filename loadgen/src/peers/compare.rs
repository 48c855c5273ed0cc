//! Throng and peers in turn (A B A B …), and what became of it: ratios of medians, with the spread over the rounds.
//!
//! Neighbours in time are compared with each other, so that a machine that gets slower or faster meanwhile does not decide. Rounds
//! whose run was invalid count for nothing; a server that failed is not asked again.
use super::Peer;
use crate::result::{Outcome, RunResult, Timed};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Who is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChoice {
    Throng,
    Peer(Peer),
}

impl PeerChoice {
    pub const fn name(self) -> &'static str {
        match self {
            PeerChoice::Throng => "throng",
            PeerChoice::Peer(peer) => peer.name(),
        }
    }
}

/// What is compared. Of all, less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// CPU time of the server in the measured window, user and system, by deliveries made, µs.
    CpuPerDelivery,
    /// The same by messages that were sent to the server, of every kind.
    CpuPerMessage,
    /// From the intended time of an event to its delivery; of a heartbeat to its answer where no event was delivered; ms.
    LatencyP50,
    LatencyP99,
    /// Resident memory that the connections brought, by connection, bytes.
    RssPerConnection,
}

impl Measure {
    pub const ALL: [Measure; 5] = [
        Measure::CpuPerDelivery,
        Measure::CpuPerMessage,
        Measure::LatencyP50,
        Measure::LatencyP99,
        Measure::RssPerConnection,
    ];

    /// As a table says it, with its unit.
    pub const fn title(self) -> &'static str {
        match self {
            Measure::CpuPerDelivery => "CPU per delivery, µs",
            Measure::CpuPerMessage => "CPU per message, µs",
            Measure::LatencyP50 => "latency p50, ms",
            Measure::LatencyP99 => "latency p99, ms",
            Measure::RssPerConnection => "memory per connection, bytes",
        }
    }

    /// In the name of a target, `vs.bun.cpu_ratio`.
    const fn key(self) -> &'static str {
        match self {
            Measure::CpuPerDelivery => "cpu_ratio",
            Measure::CpuPerMessage => "cpu_per_message_ratio",
            Measure::LatencyP50 => "latency_p50_ratio",
            Measure::LatencyP99 => "latency_p99_ratio",
            Measure::RssPerConnection => "rss_ratio",
        }
    }

    /// `None` where the run did not measure it.
    pub fn of(self, result: &RunResult) -> Option<f64> {
        let (server, counts) = (&result.server, &result.counts);
        let per = |value: f64, count: u64| (count > 0 && value > 0.0).then(|| value / count as f64);
        let cpu_us = || Some((server.cpu_user_ns? + server.cpu_system_ns?) as f64 / 1e3);
        let latency = || {
            let timed = |timed| result.latency.get(&timed).filter(|latency| latency.count > 0);
            timed(Timed::Live).or_else(|| timed(Timed::Heartbeat)).map(|latency| &latency.response)
        };
        match self {
            Measure::CpuPerDelivery => per(cpu_us()?, counts.measured_delivered),
            Measure::CpuPerMessage => per(cpu_us()?, counts.measured_sent),
            Measure::LatencyP50 => per(latency()?.p50 as f64, 1_000_000),
            Measure::LatencyP99 => per(latency()?.p99 as f64, 1_000_000),
            Measure::RssPerConnection => {
                let grown = server.rss_connected_bytes?.checked_sub(server.rss_before_bytes?)?;
                per(grown as f64, counts.connected)
            }
        }
    }
}

/// All runs of one server.
#[derive(Clone, Debug)]
pub struct Side {
    pub choice: PeerChoice,
    /// By round.
    pub results: Vec<RunResult>,
    /// Why there are no more.
    pub failure: Option<String>,
}

/// Runs every choice once in each round. `run_one` gets the number of the round, from 0.
pub fn rounds(
    choices: &[PeerChoice],
    count: u32,
    mut run_one: impl FnMut(&PeerChoice, u32) -> Result<RunResult, String>,
) -> Vec<Side> {
    let side = |choice: &PeerChoice| Side { choice: *choice, results: Vec::new(), failure: None };
    let mut sides: Vec<Side> = choices.iter().map(side).collect();
    for round in 0..count {
        for side in sides.iter_mut().filter(|side| side.failure.is_none()) {
            match run_one(&side.choice, round) {
                Ok(result) => side.results.push(result),
                Err(error) => side.failure = Some(error),
            }
        }
    }
    sides
}

/// One measure of Throng and one peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The peer's name, and its version where it told one.
    pub peer: String,
    pub measure: Measure,
    /// Medians over the rounds that both have.
    pub throng: f64,
    pub other: f64,
    /// Throng's median by the peer's; below 1, Throng needs less.
    pub ratio: f64,
    /// Lowest and highest ratio of a single round.
    pub spread: (f64, f64),
    pub rounds: u32,
}

/// What the rounds say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    pub scenario: String,
    pub ratios: Vec<Ratio>,
    /// What a reader has to know besides, one sentence each: failures, runs that count for nothing, lost deliveries.
    pub notes: Vec<String>,
}

/// Compares all other sides with Throng's, the first of that choice.
pub fn compare(sides: &[Side]) -> Comparison {
    let mut comparison = Comparison { notes: sides.iter().flat_map(notes).collect(), ..Comparison::default() };
    let Some(throng) = sides.iter().find(|side| side.choice == PeerChoice::Throng) else { return comparison };
    comparison.scenario = throng.results.first().map(|result| result.scenario.name.clone()).unwrap_or_default();
    for other in sides.iter().filter(|side| side.choice != PeerChoice::Throng) {
        let ratios = Measure::ALL.into_iter().filter_map(|measure| ratio(throng, other, measure));
        let before = comparison.ratios.len();
        comparison.ratios.extend(ratios);
        if comparison.ratios.len() == before {
            comparison.notes.push(format!("{}: no round can be compared", other.choice.name()));
        }
    }
    comparison
}

fn ratio(throng: &Side, other: &Side, measure: Measure) -> Option<Ratio> {
    let valid = |result: &RunResult| (result.verdict.outcome != Outcome::Invalid).then(|| measure.of(result)).flatten();
    let both = throng.results.iter().zip(&other.results).filter_map(|(a, b)| Some((valid(a)?, valid(b)?)));
    let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
    let single = a.iter().zip(&b).map(|(a, b)| a / b);
    let spread = single.fold((f64::INFINITY, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    let rounds = a.len() as u32;
    let (throng, median_b) = (median(a)?, median(b)?);
    let peer = other.results.first().map(|result| result.server_name.clone()).unwrap_or_default();
    Some(Ratio { peer, measure, throng, other: median_b, ratio: throng / median_b, spread, rounds })
}

fn notes(side: &Side) -> Vec<String> {
    let name = side.choice.name();
    let mut notes: Vec<String> =
        side.failure.iter().map(|failure| format!("{name} was not measured on: {failure}")).collect();
    for (round, result) in (1..).zip(&side.results) {
        if let Some(why) = result.verdict.invalid.first().filter(|_| result.verdict.outcome == Outcome::Invalid) {
            notes.push(format!("{name}, round {round}, counts for nothing: {why}"));
        }
        let integrity = &result.integrity;
        if !integrity.is_sound() {
            notes.push(format!(
                "{name}, round {round}: of {} deliveries {} were lost, {} doubled, {} out of order",
                integrity.expected,
                integrity.unexplained(),
                integrity.duplicated,
                integrity.reordered
            ));
        }
    }
    notes
}

/// `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => Some(values[middle]),
        _ => Some((values.get(middle.checked_sub(1)?)? + values[middle]) / 2.0),
    }
}

impl Comparison {
    /// For targets: `vs.bun.cpu_ratio` and the like.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let name =
            |ratio: &Ratio| format!("vs.{}.{}", ratio.peer.split(' ').next().unwrap_or_default(), ratio.measure.key());
        self.ratios.iter().map(|ratio| (name(ratio), ratio.ratio)).collect()
    }

    /// A table for a terminal.
    pub fn table(&self) -> String {
        let mut lines =
            vec![["peer", "measure", "throng", "peer's", "throng ÷ peer", "spread", "rounds"].map(String::from)];
        let mut last = "";
        for ratio in &self.ratios {
            let peer = if ratio.peer == last { "" } else { &ratio.peer };
            last = &ratio.peer;
            lines.push([
                peer.to_string(),
                ratio.measure.title().to_string(),
                figure(ratio.throng),
                figure(ratio.other),
                figure(ratio.ratio),
                format!("{} – {}", figure(ratio.spread.0), figure(ratio.spread.1)),
                ratio.rounds.to_string(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        let mut text = format!("{}: medians; below 1, Throng needs less\n\n", self.scenario);
        for line in &lines {
            let mut row = String::new();
            for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
                // Words stand left, figures right.
                let _ = match column {
                    0 | 1 => write!(row, "{cell:<width$}  "),
                    _ => write!(row, "{cell:>width$}  "),
                };
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            let _ = write!(text, "\nNote: {note}");
        }
        text
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests;
