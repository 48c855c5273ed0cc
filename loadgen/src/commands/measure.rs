//! One scenario against one server, judged: what all commands that measure have in common.
//!
//! (`--verify`: plain clients) → slow readers → the load → everything that was found out, as one record.
use super::Failure;
use super::progress::Progress;
use crate::engine::{self, Control, EngineError, EngineOptions, Names};
use crate::result::{FORMAT, Miss, Outcome, RunResult, Verdict, Verification};
use crate::scenario::Scenario;
use crate::server::Target;
use crate::slow;
use crate::verdict::{self, Targets};
use crate::{machine, verify};
use std::fmt::Display;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Measurement<'a> {
    pub scenario: &'a Scenario,
    pub target: &'a Target,
    pub client_cores: &'a [u32],
    /// Threads; `None`: as the engine sees fit.
    pub workers: Option<u32>,
    pub seed: u64,
    pub targets: Option<&'a Targets>,
    pub is_verified: bool,
    pub is_quiet: bool,
    /// How to repeat it.
    pub command: &'a str,
}

impl Measurement<'_> {
    /// Measures and judges.
    pub fn run(&self, control: &Arc<Control>) -> Result<RunResult, Failure> {
        let machine = machine::fingerprint();
        let begun = SystemTime::now();
        // Against the same server a name must not come twice.
        let since_1970 = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        let salt = since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 40;
        let verification = match self.is_verified {
            false => None,
            true => Some(self.verify(salt, control)?),
        };
        let slow = self.slow_readers(salt)?;
        let outcome = {
            let _progress = Progress::show(control.clone(), self.scenario.connections, self.is_quiet);
            let options = EngineOptions {
                scenario: self.scenario,
                target: self.target,
                workers: self.workers,
                cores: self.client_cores.to_vec(),
                seed: self.seed,
                salt,
            };
            engine::run(&options, control)
        };
        // They end while the server still runs, whatever became of the load.
        let slow = slow.map(slow::SlowRun::stop);
        let outcome = outcome.map_err(|error| match error {
            EngineError::Usage(text) => Failure::Usage(text),
            other => failed(other),
        })?;
        let mut result = RunResult {
            format: FORMAT,
            started_at: since_1970.as_millis() as u64,
            server_name: self.target.name.clone(),
            command: self.command.into(),
            scenario: self.scenario.clone(),
            machine,
            counts: outcome.counts,
            latency: outcome.latency,
            integrity: outcome.integrity,
            series: outcome.watched.series,
            server: outcome.watched.server,
            client: outcome.client,
            witness: outcome.watched.witness,
            verification,
            metrics: Default::default(),
            verdict: Verdict::default(),
        };
        if let Some(slow) = slow {
            tracing::info!(?slow, "slow readers");
            result.integrity.closed_slow = slow.closed_4101;
        }
        judge(&mut result, self.targets);
        if outcome.is_interrupted {
            invalidate(&mut result, "interrupted".into());
        }
        Ok(result)
    }

    fn verify(&self, salt: u64, control: &Control) -> Result<Verification, Failure> {
        if !self.is_quiet {
            eprintln!("verify: plain clients, a few seconds");
        }
        verify::run(self.scenario, self.target, self.seed, salt, &control.stop).map_err(failed)
    }

    fn slow_readers(&self, salt: u64) -> Result<Option<slow::SlowRun>, Failure> {
        let Some(readers) = &self.scenario.slow_readers else { return Ok(None) };
        let names = Names::new(salt);
        let rooms: Vec<String> = (0..self.scenario.rooms(0)).map(|room| names.room(room)).collect();
        slow::start(readers, self.target, &rooms, &format!("slow-{salt:x}")).map(Some).map_err(failed)
    }
}

/// The verdict over everything, the second implementation included.
fn judge(result: &mut RunResult, targets: Option<&Targets>) {
    verdict::judge(result, targets);
    let Some(mut verification) = result.verification.take() else { return };
    verification.contradictions = verify::judge::contradictions(&verification, &result.integrity, &result.latency);
    let faults = verification.faults + verify::judge::unsound(&verification.integrity);
    match faults {
        0 => result.verdict.met += 1,
        _ => {
            let measured = Some(faults as f64);
            result.verdict.misses.push(Miss { metric: "verify.faults".into(), bound: "<= 0".into(), measured });
            if result.verdict.outcome == Outcome::Passed {
                result.verdict.outcome = Outcome::Missed;
            }
        }
    }
    // A client that overlooks faults proves nothing.
    let overlooked = verification.contradictions.clone();
    result.verification = Some(verification);
    overlooked.into_iter().for_each(|reason| invalidate(result, reason));
}

/// Says why the figures say nothing.
pub fn invalidate(result: &mut RunResult, reason: String) {
    result.verdict.invalid.push(reason);
    result.verdict.outcome = Outcome::Invalid;
}

fn failed(error: impl Display) -> Failure {
    Failure::Failed(error.to_string())
}
