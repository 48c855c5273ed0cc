//! Results for people: the table at the end of a run, the HTML page, the JSON; several results side by side.
pub mod chart;
pub mod units;
