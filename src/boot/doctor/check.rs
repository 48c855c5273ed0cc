//! A check, what it finds, and the order in which findings are told.
use super::capacity::Capacity;
use super::facts::Facts;
use super::{machine, resources, ring, sysctls};
use crate::boot::tables::Tables;
use crate::config::Config;

/// What the machine shall hold, and how the server would be set up.
#[derive(Clone, Debug)]
pub struct Goal {
    pub connections: u64,
    pub tables: Tables,
    /// limits.connections; 0: no such limit.
    pub configured_max: u64,
    /// Memory that the server takes whatever it holds, bytes.
    pub base_bytes: u64,
    /// Memory of one connection in the process, bytes.
    pub user_bytes: u64,
    pub backlog: u64,
}

impl Goal {
    /// `connections`: None for all that tables and configuration allow.
    pub fn new(facts: &Facts, config: &Config, connections: Option<u64>) -> Goal {
        let tables = Tables::of(config, facts.descriptors.hard.0.unwrap_or(u64::MAX));
        let configured_max = config.limits.connections;
        let allowed = if configured_max == 0 { tables.capacity() } else { configured_max.min(tables.capacity()) };
        Goal {
            connections: connections.unwrap_or(allowed),
            tables,
            configured_max,
            base_bytes: resources::base_bytes(config, &tables),
            user_bytes: resources::user_bytes(config),
            backlog: crate::boot::serve::BACKLOG as u64,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The server does not start, or does not hold the connections.
    Problem,
    /// It does, and would do better.
    Advice,
    Ok,
}

/// What mending brings, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gain {
    /// The server starts.
    Start,
    /// More connections.
    Connections,
    /// Nothing is lost in storms and broadcasts.
    Load,
    /// Shorter or steadier latency.
    Latency,
    /// Less to wonder about later.
    Order,
}

/// One line of the report.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    pub value: String,
    pub wanted: String,
    /// What to run. Empty if there is nothing to do.
    pub remedy: String,
    /// How many connections this allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u64>,
}

impl Finding {
    /// Fine as it is, or else a fault of this weight with its remedy.
    pub fn of(
        is_fine: bool,
        fault: Verdict,
        value: String,
        wanted: String,
        remedy: impl FnOnce() -> String,
    ) -> Finding {
        let (verdict, remedy) = if is_fine { (Verdict::Ok, String::new()) } else { (fault, remedy()) };
        Finding { verdict, value, wanted, remedy, connections_max: None }
    }

    pub fn fine(value: impl Into<String>) -> Finding {
        Finding::of(true, Verdict::Ok, value.into(), String::new(), String::new)
    }

    /// With a bound on connections, which is a problem where it is below the goal.
    pub fn bound(most: u64, goal: &Goal, value: String, wanted: String, remedy: impl FnOnce() -> String) -> Finding {
        let finding = Finding::of(most >= goal.connections, Verdict::Problem, value, wanted, remedy);
        Finding { connections_max: Some(most), ..finding }
    }
}

/// A row of the table of checks.
pub struct Check {
    pub name: &'static str,
    /// What it is good for.
    pub why: &'static str,
    pub gain: Gain,
    /// None where the machine has no such thing.
    pub judge: fn(&Facts, &Goal) -> Option<Finding>,
}

/// A check and what it found.
#[derive(Debug, serde::Serialize)]
pub struct Line {
    pub name: String,
    pub why: String,
    pub gain: Gain,
    #[serde(flatten)]
    pub finding: Finding,
}

#[derive(Debug)]
pub struct Report {
    /// What to mend first comes first.
    pub lines: Vec<Line>,
    pub capacity: Capacity,
}

impl Report {
    pub fn can_hold(&self) -> bool {
        self.capacity.most >= self.capacity.wanted
            && self.lines.iter().all(|line| line.finding.verdict != Verdict::Problem)
    }
}

pub fn judge(facts: &Facts, goal: &Goal) -> Report {
    let checks = ring::CHECKS.iter().chain(resources::CHECKS).chain(machine::CHECKS);
    let rows = checks.filter_map(|check| {
        let finding = (check.judge)(facts, goal)?;
        Some(Line { name: check.name.into(), why: check.why.into(), gain: check.gain, finding })
    });
    let mut lines: Vec<Line> =
        rows.chain(sysctls::SYSCTLS.iter().filter_map(|sysctl| sysctl.line(facts, goal))).collect();
    let capacity = Capacity::of(&lines, facts, goal);
    // The order of the tables decides between equals: the sort is stable.
    lines.sort_by_key(|line| {
        let finding = &line.finding;
        (finding.verdict, line.gain, finding.connections_max.unwrap_or(u64::MAX))
    });
    Report { lines, capacity }
}
