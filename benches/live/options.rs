//! The command line of the comparison.
use crate::measure::{self, Pace};
use crate::peers::Peer;
use crate::workload::{self, Workload};
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
cargo bench --bench live -- [OPTIONS]
  --smoke             few connections, one short round: does every peer run? (under a minute)
  --peers A,B         of throng, bun, floor; default all
  --only W,W          of echo, fanout1, fanout8, fanout5000, chat, idle; default all
  --rounds N          interleaved rounds, default 5
  --seconds S         measured window, default 3
  --throng PATH       default: the binary of this build
  --bun PATH          default: what .ci/bun.sh installed under target/";

pub struct Options {
    pub is_smoke: bool,
    pub peers: Vec<Peer>,
    pub workloads: Vec<Workload>,
    pub rounds: usize,
    pub pace: Pace,
    pub throng: PathBuf,
    pub bun: PathBuf,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Options, String> {
        let is_smoke = arguments.iter().any(|argument| argument == "--smoke");
        let (workloads, pace, rounds) = match is_smoke {
            true => (workload::SMOKE, measure::SMOKE, 1),
            false => (workload::FULL, measure::FULL, 5),
        };
        let mut options = Options {
            is_smoke,
            peers: Peer::ALL.to_vec(),
            workloads: workloads.to_vec(),
            rounds,
            pace,
            throng: env!("CARGO_BIN_EXE_throng").into(),
            bun: concat!(env!("CARGO_MANIFEST_DIR"), "/target/ci-tools/bun/bun").into(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--smoke" | "--bench" => {} // cargo adds the second
                "--peers" => {
                    let by_name = |name: &str| Peer::ALL.into_iter().find(|peer| peer.name() == name);
                    options.peers = list(value()?, by_name)?;
                }
                "--only" => {
                    let by_name = |name: &str| workloads.iter().find(|workload| workload.name == name).copied();
                    options.workloads = list(value()?, by_name)?;
                }
                "--rounds" => options.rounds = number(value()?)? as usize,
                "--seconds" => options.pace.window = Duration::from_secs_f64(number(value()?)?),
                "--throng" => options.throng = value()?.into(),
                "--bun" => options.bun = value()?.into(),
                _ => return Err(format!("unknown argument {argument}\n{USAGE}")),
            }
        }
        Ok(options)
    }
}

fn list<T>(text: &str, by_name: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    text.split(',').map(|name| by_name(name).ok_or_else(|| format!("unknown name {name}\n{USAGE}"))).collect()
}

fn number(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|n| (0.1..=1000.0).contains(n))
        .ok_or_else(|| format!("not a number from 0.1 to 1000: {text}"))
}
