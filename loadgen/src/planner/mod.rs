//! How many machines: from measured points to a model, from a model to a plan. Pure: no clocks, no sockets, no files.
//!
//! ```text
//! grid, knee, capacity       what to measure, where saturation is, the whole procedure over a closure that measures
//! plan, sizing               an ask and a machine → machines, what runs out first
//! sensitivity, caution       what would change the answer; why not to believe it further than it goes
//! story, text                the plan as people read it; `report::plan_html` has it as a page
//! model                      all prices with their origin, as a file
//! cost, gather, commits      CPU and memory; shared sends; shared commits
//! usl, network               many cores; the cable
//! work, fit, linear          quantities; least squares
//! units, words               `20/s`, `128G`; `990 million`
//! ```
pub mod capacity;
pub mod caution;
pub mod commits;
pub mod cost;
pub mod fit;
pub mod gather;
pub mod grid;
pub mod knee;
pub mod linear;
pub mod model;
pub mod network;
pub mod plan;
pub mod sensitivity;
pub mod sizing;
pub mod story;
#[cfg(test)]
pub mod testing;
pub mod text;
pub mod units;
pub mod usl;
pub mod words;
pub mod work;
