//! What the user asked for, from start to exit code.
//!
//! ```text
//! run        one scenario: server, measurement, report
//! compare    Throng and peers in turn
//! fresh      a server of its own for each measurement
//! measure    the measurement itself, judged
//! list       the built-in scenarios
//! capacity   the model of a server on this machine, over a closure that measures
//! calibrate  that closure
//! plan       how many machines, from a saved model
//! report     table and HTML of an earlier result
//! progress   what is seen of a run while it runs
//! interrupt  Ctrl-C: early but orderly; twice: at once
//! ```
pub mod calibrate;
pub mod capacity;
pub mod compare;
mod fresh;
mod interrupt;
pub mod list;
mod measure;
pub mod plan;
mod progress;
pub mod report;
pub mod run;

use crate::result::Outcome;
use crate::scenario::load::LoadError;
use crate::scenario::{Kind, Scenario};
use crate::server::ServerError;
use crate::verdict::TargetsError;
use crate::wire::Dialect;
use std::fmt;
use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Passed,
    /// A target was missed, or a delivery was lost, doubled or out of order.
    Missed,
    /// There are no figures, or they say nothing.
    Invalid,
    /// Nothing was run: the command or a file is wrong.
    Usage,
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Exit {
        match outcome {
            Outcome::Passed => Exit::Passed,
            Outcome::Missed => Exit::Missed,
            Outcome::Invalid => Exit::Invalid,
        }
    }
}

impl Exit {
    /// As a shell sees it.
    pub const fn number(self) -> u8 {
        match self {
            Exit::Passed => Outcome::Passed.exit_code(),
            Exit::Missed => Outcome::Missed.exit_code(),
            Exit::Invalid => Outcome::Invalid.exit_code(),
            Exit::Usage => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The user can mend it by asking otherwise.
    Usage(String),
    /// The run could not be made, or not to its end.
    Failed(String),
}

impl Failure {
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::Failed(_) => Exit::Invalid,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Failed(text) => f.write_str(text),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Failure {
        match error {
            ServerError::Usage(text) => Failure::Usage(text),
            ServerError::Failed(text) => Failure::Failed(text),
        }
    }
}

impl From<TargetsError> for Failure {
    fn from(error: TargetsError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

/// Whether the load can say in this protocol what the scenario asks for.
fn speakable(protocol: Dialect, scenario: &Scenario) -> Result<(), Failure> {
    match scenario.traffic.iter().any(|line| line.kind == Kind::Durable) && !protocol.is_durable() {
        true => Err(Failure::Usage(format!(
            "{} has durable messages, which this program does not send by --protocol {}",
            scenario.name,
            protocol.name()
        ))),
        false => Ok(()),
    }
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
