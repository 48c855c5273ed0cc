//! `compare`: Throng and peers under the same load, in turn.
//!
//! Each server is started anew for each round, on the same cores. Peers that are missing, or cannot do what the scenario asks, are
//! skipped with a word. The exit code is that of the targets (`vs.bun.cpu_ratio` and the like) over Throng's last valid run.
use super::fresh::Fresh;
use super::interrupt::Interrupt;
use super::{Exit, Failure, command_line, speakable};
use crate::cli::CompareArgs;
use crate::engine::Control;
use crate::machine;
use crate::peers::compare::{Comparison, Measure, PeerChoice, Side, compare as compare_sides, rounds};
use crate::peers::{Peer, Program};
use crate::report::comparison::{self, Row};
use crate::result::{Outcome, RunResult};
use crate::scenario::Scenario;
use crate::scenario::load::load;
use crate::verdict::{self, Targets};
use crate::wire::Dialect;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn compare(args: &CompareArgs) -> Result<Exit, Failure> {
    let mut scenario = load(&args.scenario.scenario, &args.scenario.adjust())?;
    if args.include_self {
        scenario.traffic.iter_mut().for_each(|line| line.include_self = line.kind == crate::scenario::Kind::Live);
    }
    speakable(args.protocol, &scenario)?;
    let (programs, skipped) = find(&args.peers, &scenario);
    skipped.iter().for_each(|note| eprintln!("throng-loadgen: {note}"));
    if programs.is_empty() {
        return Err(Failure::Usage(format!("there is no peer to compare with\n{}", skipped.join("\n"))));
    }
    let control = Arc::new(Control::default());
    let fresh = Fresh {
        program: args.server.clone(),
        protocol: args.protocol,
        cores: args.cores.cores().map_err(Failure::Usage)?,
        workers: args.workers,
        seed: args.scenario.seed,
        targets: args.targets.as_deref().map(Targets::load).transpose()?,
        is_verified: false,
        keeps_data: false,
        is_quiet: args.quiet,
        command: command_line(std::env::args()),
        interrupt: Interrupt::listen(control.clone()).map_err(Failure::Failed)?,
        control,
    };
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let choices: Vec<PeerChoice> = std::iter::once(PeerChoice::Throng)
        .chain(programs.iter().map(|program| PeerChoice::Peer(program.peer)))
        .collect();
    let sides = rounds(&choices, args.rounds, |choice, round| {
        if !args.quiet {
            eprintln!("round {} of {}: {}", round + 1, args.rounds, choice.name());
        }
        let program = programs.iter().find(|program| PeerChoice::Peer(program.peer) == *choice);
        let result = match program {
            None => fresh.throng(&scenario),
            Some(program) => fresh.peer(program, &scenario),
        };
        result.map_err(|failure| failure.to_string())
    });
    let mut compared = compare_sides(&sides);
    compared.notes.extend(skipped);
    compared.notes.extend(spoken(args.protocol));
    println!("{}", compared.table());
    if let Some(folder) = &args.out {
        let page = page(&scenario, started_at, &fresh.command, args.rounds, &sides, &compared);
        write(folder, &compared, &page).map_err(|error| Failure::Failed(format!("{}: {error}", folder.display())))?;
        println!("{}", folder.display());
    }
    Ok(exit(&sides, &compared, fresh.targets.as_ref()))
}

/// What a reader has to know of Throng's side.
fn spoken(protocol: Dialect) -> Option<String> {
    (protocol != Dialect::Native).then(|| format!("Throng was spoken to by --protocol {}", protocol.name()))
}

/// Programs of the peers that can run, and why the others cannot.
fn find(peers: &[Peer], scenario: &Scenario) -> (Vec<Program>, Vec<String>) {
    let (mut programs, mut skipped) = (Vec::new(), Vec::new());
    for peer in peers {
        match (peer.unfit(scenario), peer.find()) {
            (Some(why), _) => skipped.push(format!("{} was skipped: {why}", peer.name())),
            (None, Err(missing)) => skipped.push(format!("{} was skipped: {missing}", peer.name())),
            (None, Ok(program)) => programs.push(program),
        }
    }
    (programs, skipped)
}

/// Invalid if nothing could be compared.
fn exit(sides: &[Side], compared: &Comparison, targets: Option<&Targets>) -> Exit {
    let mut throng = sides.iter().filter(|side| side.choice == PeerChoice::Throng).flat_map(|side| &side.results);
    let last = throng.rfind(|result| result.verdict.outcome != Outcome::Invalid);
    let Some(last) = last.filter(|_| !compared.ratios.is_empty()) else { return Exit::Invalid };
    let mut judged = last.clone();
    judged.metrics.extend(compared.metrics());
    verdict::judge(&mut judged, targets);
    for miss in &judged.verdict.misses {
        println!("missed: {} {}, measured {:?}", miss.metric, miss.bound, miss.measured);
    }
    judged.verdict.outcome.into()
}

/// The same for the HTML page: medians of each server's valid runs.
fn page(
    scenario: &Scenario,
    started_at: u64,
    command: &str,
    rounds: u32,
    sides: &[Side],
    compared: &Comparison,
) -> comparison::Comparison {
    let mut rows = Vec::new();
    for measure in Measure::ALL {
        let mut first = f64::NAN;
        for (index, side) in sides.iter().enumerate() {
            let valid = side.results.iter().filter(|result| result.verdict.outcome != Outcome::Invalid);
            let mut values: Vec<f64> = valid.filter_map(|result| measure.of(result)).collect();
            values.sort_by(f64::total_cmp);
            let (Some(min), Some(max)) = (values.first().copied(), values.last().copied()) else { continue };
            let middle = values.len() / 2;
            let median =
                if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
            if index == 0 {
                first = median;
            }
            rows.push(Row {
                server: name(side),
                metric: metric(measure).into(),
                median,
                min,
                max,
                ratio: median / first,
                spread: (max - min) / median,
            });
        }
    }
    comparison::Comparison {
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        started_at,
        command: command.into(),
        machine: machine::fingerprint(),
        rounds,
        rows,
        notes: compared.notes.clone(),
    }
}

/// With its version, where a run told it.
fn name(side: &Side) -> String {
    let told = |result: &RunResult| result.server_name.clone();
    side.results.first().map_or_else(|| side.choice.name().into(), told)
}

/// The name by which reports know the unit.
const fn metric(measure: Measure) -> &'static str {
    match measure {
        Measure::CpuPerDelivery => "server.cpu_us_per_delivery",
        Measure::CpuPerMessage => "server.cpu_us_per_message",
        Measure::LatencyP50 => "latency.p50_ms",
        Measure::LatencyP99 => "latency.p99_ms",
        Measure::RssPerConnection => "server.rss_bytes_per_connection",
    }
}

fn write(folder: &Path, compared: &Comparison, page: &comparison::Comparison) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("comparison.json"), serde_json::to_string_pretty(compared)?)?;
    std::fs::write(folder.join("comparison.txt"), compared.table())?;
    std::fs::write(folder.join("comparison.html"), comparison::html(page))
}
