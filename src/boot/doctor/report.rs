//! The report, for people and for programs.
use super::capacity::thousands;
use super::check::{Report, Verdict};
use std::fmt::Write;

/// Width of the column of names; longer ones push.
const NAME_CHARS: usize = 30;

impl Report {
    /// A line a check, what to mend first on top; at the end whether the machine holds the connections.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let finding = &line.finding;
            let verdict = match finding.verdict {
                Verdict::Problem => "problem",
                Verdict::Advice => "advice",
                Verdict::Ok => "ok",
            };
            let _ = write!(out, "{verdict:7}  {:NAME_CHARS$}  {}", line.name, finding.value);
            if !finding.wanted.is_empty() {
                let _ = write!(out, " (wanted: {})", finding.wanted);
            }
            out.push('\n');
            if finding.verdict != Verdict::Ok {
                let _ = writeln!(out, "         {}\n         mend it: {}", line.why, finding.remedy);
            }
        }
        let capacity = &self.capacity;
        out.push('\n');
        for line in &capacity.arithmetic {
            let _ = writeln!(out, "{line}");
        }
        let wanted = thousands(capacity.wanted);
        let stopped_by = capacity.stopped_by.as_deref().unwrap_or("nothing known");
        let _ = match (self.can_hold(), capacity.most) {
            (true, most) => writeln!(
                out,
                "This machine can hold {wanted} connections. What stops it first: {stopped_by}, at {}.",
                thousands(most)
            ),
            (false, 0) => {
                writeln!(out, "This machine cannot hold {wanted} connections: no server starts ({stopped_by}).")
            }
            (false, most) => writeln!(
                out,
                "This machine cannot hold {wanted} connections. What stops it first: {stopped_by}, at {}.",
                thousands(most)
            ),
        };
        out
    }

    /// One object: `connections`, `canHold`, `connectionsMax`, `stoppedBy`, `arithmetic`, `checks`.
    pub fn json(&self) -> String {
        let capacity = &self.capacity;
        let report = serde_json::json!({
            "connections": capacity.wanted,
            "canHold": self.can_hold(),
            "connectionsMax": capacity.most,
            "stoppedBy": capacity.stopped_by,
            "arithmetic": capacity.arithmetic,
            "checks": self.lines,
        });
        format!("{report:#}\n")
    }
}
