//! `throng doctor`: whether this machine can hold so many connections, what stops it first, and what to run to mend it.
//!
//! What the machine is like is read once (`read`) into `Facts`; everything after is judgement without I/O: a table of checks
//! (`check`, `ring`, `resources`, `sysctls`, `machine`) and a sum (`capacity`), shown by `report`. The values that are wanted are
//! those of the files in `tuning/`; `tests/doctor.rs` holds the two together. It changes nothing itself.
mod capacity;
mod check;
mod facts;
mod machine;
#[cfg(test)]
mod made_up;
mod read;
mod rehearse;
mod report;
mod resources;
mod ring;
mod sysctls;

#[cfg(test)]
mod tuning_test;

use self::check::Goal;
use crate::config::Config;

/// Looks at the machine. The report as text or JSON, and whether it can hold `connections` (none: what descriptors allow).
pub fn examine(config: &Config, connections: Option<u64>, is_json: bool) -> (String, bool) {
    let facts = read::facts(config);
    let goal = Goal::new(&facts, config, connections);
    let report = check::judge(&facts, &goal);
    (if is_json { report.json() } else { report.text() }, report.can_hold())
}
