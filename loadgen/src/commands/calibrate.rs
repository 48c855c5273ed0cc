//! How `capacity` measures: each of its points on a Throng that was started for it.
use super::capacity::capacity;
use super::fresh::Fresh;
use super::interrupt::Interrupt;
use super::{Exit, Failure, command_line};
use crate::cli::CapacityCommand;
use crate::engine::Control;
use crate::machine;
use crate::result::RunResult;
use crate::scenario::Scenario;
use crate::wire::Dialect;
use std::io::Write as _;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Measures, fits, validates if asked to. Missed: the model does not predict as it should.
pub fn calibrate(args: &CapacityCommand) -> Result<Exit, Failure> {
    let control = Arc::new(Control::default());
    let fresh = Fresh {
        program: args.server.clone(),
        protocol: Dialect::Native,
        cores: args.cores.cores().map_err(Failure::Usage)?,
        workers: args.workers,
        seed: args.seed,
        targets: None,
        is_verified: false,
        keeps_data: false,
        is_quiet: true,
        command: command_line(std::env::args()),
        interrupt: Interrupt::listen(control.clone()).map_err(Failure::Failed)?,
        control,
    };
    let mut measure = |scenario: &Scenario, shards: u32| -> Result<RunResult, String> {
        let mut scenario = scenario.clone();
        scenario.server.shards = shards;
        let result = fresh.throng(&scenario).map_err(|failure| failure.to_string());
        // The planner would go on with the points it has. A model of half of them looks like any other, so there is none.
        if fresh.control.stop.load(Ordering::Relaxed) {
            eprintln!("throng-loadgen: interrupted; no model was written");
            exit(Exit::Invalid.number().into());
        }
        result
    };
    let mut say = |line: &str| {
        if !args.quiet {
            eprintln!("{line}");
        }
    };
    let measured = capacity(&args.capacity, machine::fingerprint(), fresh.command.clone(), &mut measure, &mut say)?;
    // Whoever reads may have read enough (`| head`).
    let _ = std::io::stdout().write_all(measured.text.as_bytes());
    Ok(if measured.is_within { Exit::Passed } else { Exit::Missed })
}
