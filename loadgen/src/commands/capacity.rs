//! `capacity`: measures a model. Which points, when to stop and what follows from them is the planner's; how a point is measured
//! comes in as a closure.
use super::Failure;
use crate::planner::capacity::{CapacityError, Measure, capacity as find};
use crate::planner::grid::Grid;
use crate::planner::model::Compared;
use crate::planner::{text, units};
use crate::result::Machine;
use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct CapacityArgs {
    /// Connections of the points without traffic, rising.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = Grid::default().connections)]
    pub connections: Vec<u32>,
    /// Connections of the points with traffic.
    #[arg(long, value_name = "N", default_value_t = Grid::default().active_connections)]
    pub active: u32,
    /// Bytes of messages; saturation is searched with the first.
    #[arg(long, value_name = "BYTES,…", value_delimiter = ',', default_values_t = Grid::default().payloads)]
    pub payloads: Vec<u32>,
    /// Members of rooms.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = Grid::default().rooms_of)]
    pub rooms_of: Vec<u32>,
    /// Shard counts over which scaling is measured; prices are measured with the first. Each shard needs a core, the load others.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = Grid::default().shards)]
    pub shards: Vec<u32>,
    /// Leave durable messages out.
    #[arg(long)]
    pub no_durable: bool,
    /// Traffic before each measured window.
    #[arg(long, value_name = "TIME", value_parser = units::duration_s, default_value = "2s")]
    pub warmup: f64,
    /// Length of each measured window.
    #[arg(long, value_name = "TIME", value_parser = units::duration_s, default_value = "8s")]
    pub measure: f64,
    /// Above this p99 a server counts as saturated, however much it delivers.
    #[arg(long, value_name = "TIME", value_parser = units::duration_s, default_value = "50ms")]
    pub p99_max: f64,
    /// Deliveries per second that the search for saturation begins with.
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "20000")]
    pub start: u64,
    /// Then predict points that were not used, measure them, and print both.
    #[arg(long)]
    pub validate: bool,
    /// The model's file.
    #[arg(long, value_name = "FILE", default_value = "model.json")]
    pub model: PathBuf,
}

/// What is to be printed, and whether the model predicts as it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub text: String,
    /// All validated points were within the goal; true if none was asked for.
    pub is_within: bool,
}

/// Measures, writes the model's file. `command`: how this was called, for the file. `say`: progress, a line each.
pub fn capacity(
    args: &CapacityArgs,
    machine: Machine,
    command: String,
    measure: &mut Measure,
    say: &mut dyn FnMut(&str),
) -> Result<Measured, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", args.model.display()));
    let mut found = find(&args.grid(), args.validate, machine, measure, say).map_err(|error| match error {
        CapacityError::Grid(text) => Failure::Usage(text),
        other => Failure::Failed(other.to_string()),
    })?;
    found.model.command = command;
    let json = found.model.to_json().map_err(|error| failed(&error))?;
    if let Some(folder) = args.model.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    std::fs::write(&args.model, json).map_err(|error| failed(&error))?;
    let is_within = found.model.validation.iter().all(Compared::is_within);
    // Points that could not be measured prove nothing.
    let is_complete = !args.validate || !found.model.validation.is_empty();
    let text = format!("{}\n{}\n", text::capacity_text(&found), args.model.display());
    Ok(Measured { text, is_within: is_within && is_complete })
}

impl CapacityArgs {
    fn grid(&self) -> Grid {
        Grid {
            connections: self.connections.clone(),
            active_connections: self.active,
            payloads: self.payloads.clone(),
            rooms_of: self.rooms_of.clone(),
            shards: self.shards.clone(),
            is_durable: !self.no_durable,
            warmup_s: self.warmup,
            measure_s: self.measure,
            p99_max_ms: self.p99_max * 1e3,
            start_per_s: self.start as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::model::Model;
    use crate::planner::testing::Synthetic;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CapacityArgs,
    }

    fn parse(line: &str) -> CapacityArgs {
        Line::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}")).args
    }

    #[test]
    fn a_model_is_measured_validated_told_and_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/model.json");
        let args = parse(&format!("capacity --validate --shards 1,2,4 --model {}", path.display()));
        let mut server = Synthetic::new(0.01);
        let mut lines = 0;
        let measured = capacity(
            &args,
            Machine::default(),
            "as called".into(),
            &mut |scenario, shards| Ok(server.run(scenario, shards)),
            &mut |_| lines += 1,
        )
        .expect("a model");
        assert!(measured.is_within && lines > 30, "{}", measured.text);
        for expected in ["4 shards", "durable messages/s", "σ =", "heartbeat", "3 of 3 within 10 %"] {
            assert!(measured.text.contains(expected), "\"{expected}\" is not in:\n{}", measured.text);
        }
        let model = Model::from_json(&std::fs::read_to_string(&path).expect("written")).expect("a model");
        assert_eq!(model.command, "as called");
    }

    #[test]
    fn a_grid_that_cannot_be_is_the_callers_mistake() {
        let args = parse("capacity --rooms-of 1 --model never-written.json");
        let error = capacity(&args, Machine::default(), String::new(), &mut |_, _| Err(String::new()), &mut |_| {})
            .unwrap_err();
        assert!(matches!(error, Failure::Usage(_)), "{error}");
        assert_eq!(parse("capacity").grid(), Grid::default());
    }
}
