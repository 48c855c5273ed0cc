//! A server of its own for each measurement: started before, ended after, whatever happens in between.
use super::Failure;
use super::interrupt::Interrupt;
use super::measure::{Measurement, invalidate};
use crate::engine::Control;
use crate::peers::Program;
use crate::result::RunResult;
use crate::scenario::Scenario;
use crate::server::{Cores, Launch, Running, ServerError, Target, launch};
use crate::verdict::Targets;
use crate::wire::Dialect;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What all measurements of a command share.
pub struct Fresh {
    /// Throng's program; `None`: the one beside ours.
    pub program: Option<PathBuf>,
    /// What is spoken to Throng.
    pub protocol: Dialect,
    pub cores: Cores,
    pub workers: Option<u32>,
    pub seed: u64,
    pub targets: Option<Targets>,
    pub is_verified: bool,
    pub keeps_data: bool,
    pub is_quiet: bool,
    pub command: String,
    pub control: Arc<Control>,
    pub interrupt: Interrupt,
}

impl Fresh {
    /// Measures a Throng that is started for it.
    pub fn throng(&self, scenario: &Scenario) -> Result<RunResult, Failure> {
        let launched = self.unless_stopped().and_then(|()| Ok(launch(&self.options(scenario))?))?;
        self.measure(scenario, launched, Running::stop)
    }

    /// Measures a peer. How it ends is its own affair: most know no orderly end.
    pub fn peer(&self, program: &Program, scenario: &Scenario) -> Result<RunResult, Failure> {
        let launched = self.unless_stopped().and_then(|()| Ok(program.launch(&self.options(scenario))?))?;
        let end = |running| {
            drop(running);
            Ok(())
        };
        self.measure(scenario, launched, end)
    }

    /// Measures a server that was there before.
    pub fn found(&self, target: &Target, scenario: &Scenario) -> Result<RunResult, Failure> {
        let measurement = Measurement {
            scenario,
            target,
            client_cores: &self.cores.client,
            workers: self.workers,
            seed: self.seed,
            targets: self.targets.as_ref(),
            is_verified: self.is_verified,
            is_quiet: self.is_quiet,
            command: &self.command,
        };
        measurement.run(&self.control)
    }

    fn measure(
        &self,
        scenario: &Scenario,
        (running, target): (Running, Target),
        end: impl FnOnce(Running) -> Result<(), ServerError>,
    ) -> Result<RunResult, Failure> {
        let folder = running.folder().to_path_buf();
        if !self.is_quiet {
            eprintln!("server: {}, process {}, data in {}", target.name, running.pid(), folder.display());
        }
        self.interrupt.server_started(running.pid(), (!self.keeps_data).then_some(folder));
        let measured = self.found(&target, scenario);
        let ended = end(running);
        self.interrupt.server_ended();
        match (measured, ended) {
            (Ok(mut result), Err(error)) => {
                invalidate(&mut result, error.to_string());
                Ok(result)
            }
            // What became of the server may explain what stopped the load.
            (Err(Failure::Failed(load)), Err(server)) => Err(Failure::Failed(format!("{load}\n{server}"))),
            (measured, _) => measured,
        }
    }

    fn options(&self, scenario: &Scenario) -> Launch {
        Launch {
            program: self.program.clone(),
            dialect: self.protocol,
            connections: scenario.connections + scenario.slow_readers.map_or(0, |slow| slow.count),
            settings: scenario.server.clone(),
            cores: self.cores.server.clone(),
            parent: None,
            keep: self.keeps_data,
        }
    }

    /// Between two measurements nobody else looks.
    fn unless_stopped(&self) -> Result<(), Failure> {
        match self.control.stop.load(Ordering::Relaxed) {
            true => Err(Failure::Failed("interrupted".into())),
            false => Ok(()),
        }
    }
}
