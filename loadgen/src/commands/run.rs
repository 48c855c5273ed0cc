//! `run`: from a scenario to an exit code.
//!
//! Load the scenario and the targets → start the server, or find it → measure and judge → table, JSON, HTML. A server that was
//! started has ended before anything is printed, on every way out.
use super::fresh::Fresh;
use super::interrupt::Interrupt;
use super::{Exit, Failure, command_line, speakable};
use crate::cli::RunArgs;
use crate::engine::Control;
use crate::report;
use crate::result::RunResult;
use crate::scenario::load::load;
use crate::server::{Attach, attach};
use crate::verdict::Targets;
use std::sync::Arc;

pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let scenario = load(&args.scenario.scenario, &args.scenario.adjust())?;
    speakable(args.protocol, &scenario)?;
    let control = Arc::new(Control::default());
    let fresh = Fresh {
        program: args.server.clone(),
        protocol: args.protocol,
        cores: args.cores.cores().map_err(Failure::Usage)?,
        workers: args.workers,
        seed: args.scenario.seed,
        targets: args.targets.as_deref().map(Targets::load).transpose()?,
        is_verified: args.verify,
        keeps_data: args.keep_data,
        is_quiet: args.quiet,
        command: command_line(std::env::args()),
        interrupt: Interrupt::listen(control.clone()).map_err(Failure::Failed)?,
        control,
    };
    let result = match &args.url {
        None => fresh.throng(&scenario)?,
        Some(url) => {
            let target = attach(&Attach {
                url: url.clone(),
                dialect: args.protocol,
                secret_file: args.secret_file.clone(),
                token_file: args.token_file.clone(),
                pid: args.pid,
                admin: args.admin.clone(),
                destinations: args.destinations,
                connections: scenario.connections,
            })?;
            fresh.found(&target, &scenario)?
        }
    };
    tell(args, &result)
}

fn tell(args: &RunArgs, result: &RunResult) -> Result<Exit, Failure> {
    print!("{}", report::table(result, console::colors_enabled()));
    if let Some(folder) = &args.out {
        let files = report::write(folder, result)
            .map_err(|error| Failure::Failed(format!("--out {}: {error}", folder.display())))?;
        files.iter().for_each(|file| println!("{}", file.display()));
    }
    Ok(result.verdict.outcome.into())
}
