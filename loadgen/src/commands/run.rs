//! `run`: from a scenario to an exit code.
//!
//! Load the scenario and the targets → start the server, or find it → measure and judge → table, JSON, HTML. A server that was
//! started has ended before anything is printed, on every way out.
use super::interrupt::Interrupt;
use super::measure::{Measurement, invalidate};
use super::{Exit, Failure};
use crate::cli::RunArgs;
use crate::engine::Control;
use crate::report;
use crate::result::RunResult;
use crate::scenario::Scenario;
use crate::scenario::load::load;
use crate::server::{Attach, Cores, Launch, Running, Target, attach, launch};
use crate::verdict::Targets;
use std::sync::Arc;

pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let scenario = load(&args.scenario.scenario, &args.scenario.adjust())?;
    let targets = args.targets.as_deref().map(Targets::load).transpose()?;
    let cores = args.cores.cores().map_err(Failure::Usage)?;
    let control = Arc::new(Control::default());
    let interrupt = Interrupt::listen(control.clone()).map_err(Failure::Failed)?;
    let (server, target) = under_test(args, &scenario, &cores)?;
    if let Some(server) = &server {
        let folder = (!args.keep_data).then(|| server.folder().to_path_buf());
        interrupt.server_started(server.pid(), folder);
        if !args.quiet {
            eprintln!("server: {}, process {}, data in {}", target.name, server.pid(), server.folder().display());
        }
    }
    let measured = Measurement {
        scenario: &scenario,
        target: &target,
        client_cores: &cores.client,
        workers: args.workers,
        seed: args.scenario.seed,
        targets: targets.as_ref(),
        is_verified: args.verify,
        is_quiet: args.quiet,
        command: command_line(std::env::args()),
    }
    .run(&control);
    let ended = server.map_or(Ok(()), Running::stop);
    interrupt.server_ended();
    let result = match (measured, ended) {
        (Ok(result), Ok(())) => result,
        (Ok(mut result), Err(error)) => {
            invalidate(&mut result, error.to_string());
            result
        }
        // What became of the server may explain what stopped the load.
        (Err(Failure::Failed(load)), Err(server)) => return Err(Failure::Failed(format!("{load}\n{server}"))),
        (Err(failure), _) => return Err(failure),
    };
    tell(args, &result)
}

/// The server: started here, or found.
fn under_test(args: &RunArgs, scenario: &Scenario, cores: &Cores) -> Result<(Option<Running>, Target), Failure> {
    let connections = scenario.connections + scenario.slow_readers.map_or(0, |slow| slow.count);
    if let Some(url) = &args.url {
        let options = Attach {
            url: url.clone(),
            secret_file: args.secret_file.clone(),
            token_file: args.token_file.clone(),
            pid: args.pid,
            admin: args.admin.clone(),
            destinations: args.destinations,
            connections,
        };
        return Ok((None, attach(&options)?));
    }
    let options = Launch {
        program: args.server.clone(),
        connections,
        settings: scenario.server.clone(),
        cores: cores.server.clone(),
        parent: None,
        keep: args.keep_data,
    };
    let (running, target) = launch(&options)?;
    Ok((Some(running), target))
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

/// The command as one would type it again, without the folder of the program.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = arguments.skip(1).map(|argument| match !argument.is_empty() && argument.chars().all(is_plain) {
        true => argument,
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    });
    std::iter::once("throng-loadgen".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let line = ["/x/y/throng-loadgen", "run", "./my file.toml", "--set", "a.b=it's", ""];
        assert_eq!(
            command_line(line.map(str::to_owned).into_iter()),
            r"throng-loadgen run './my file.toml' --set 'a.b=it'\''s' ''"
        );
    }
}
