//! The sum: how many connections the machine holds, and what stops it first.
use super::check::{Goal, Line, Verdict};
use super::facts::Facts;
use super::resources::memory_for;
use crate::limits::CONNECTION_KERNEL_BYTES;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Capacity {
    pub wanted: u64,
    /// Connections that fit. 0 if no server would start.
    pub most: u64,
    /// The check that bounds them; where there is a problem, the one that costs the most.
    pub stopped_by: Option<String>,
    /// How the numbers came about.
    pub arithmetic: Vec<String>,
}

impl Capacity {
    pub fn of(lines: &[Line], facts: &Facts, goal: &Goal) -> Capacity {
        // A problem without a number keeps the server from starting.
        let stopper = lines
            .iter()
            .filter(|line| line.finding.verdict == Verdict::Problem && line.finding.connections_max.is_none())
            .min_by_key(|line| line.gain);
        let bound =
            lines.iter().filter_map(|line| Some((line.finding.connections_max?, line))).min_by_key(|(most, _)| *most);
        let (most, stopped_by) = match (stopper, bound) {
            (Some(line), _) => (0, Some(line.name.clone())),
            (None, Some((most, line))) => (most, Some(line.name.clone())),
            (None, None) => (u64::MAX, None),
        };
        Capacity { wanted: goal.connections, most, stopped_by, arithmetic: arithmetic(facts, goal) }
    }
}

fn arithmetic(facts: &Facts, goal: &Goal) -> Vec<String> {
    let wanted = thousands(goal.connections);
    let per_connection = CONNECTION_KERNEL_BYTES + goal.user_bytes;
    vec![
        format!(
            "tables: {} shards x {}{} rows = {} connections",
            goal.tables.shards,
            if goal.tables.rings == 1 { String::new() } else { format!("{} rings x ", goal.tables.rings) },
            thousands(goal.tables.rows.into()),
            thousands(goal.tables.capacity())
        ),
        format!(
            "memory: {wanted} x ({} kernel + {} process) bytes = {}, and {} for the server itself = {} of {} free",
            thousands(CONNECTION_KERNEL_BYTES),
            thousands(goal.user_bytes),
            gib(goal.connections * per_connection),
            gib(goal.base_bytes),
            gib(memory_for(goal)),
            gib(facts.memory_left())
        ),
    ]
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that people read.
pub fn gib(bytes: u64) -> String {
    if bytes >= 1 << 30 {
        format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
    } else {
        format!("{} MiB", bytes >> 20)
    }
}
