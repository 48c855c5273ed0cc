//! Question: how much server CPU does a message or a delivery cost, beside a well-made server that does less (Bun)
//! and beside the kernel's own price for moving the bytes (the floor)?
//!
//! Unit: microseconds of server CPU (user and system) per message or delivery; bytes per idle connection.
//! Server on one core, client on another, one client for all peers, interleaved rounds, closed loop.
//!
//! It cannot tell latency under a given rate (a closed loop slows down with its server), nor what a network card
//! costs: loopback bills the receiver's kernel work to the sender. See `benches/README.md`.
mod client;
mod cpu;
mod floor;
mod frame;
mod measure;
mod options;
mod peers;
mod report;
mod token;
mod workload;

use options::Options;
use peers::{CLIENT_CORE, Peer, Programs, Server};
use report::Series;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use workload::{Kind, Workload};

/// Set for the copy of this program that runs on the client's core.
const PINNED: &str = "THRONG_LIVE_PINNED";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("--floor-server") => serve_floor(&arguments[1..]),
        Some("--help") => {
            println!("{}", options::USAGE);
            Ok(())
        }
        _ => pinned(&arguments).and_then(|is_pinned| compare(&arguments, is_pinned)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("live: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve_floor(arguments: &[String]) -> Result<(), String> {
    let [port, reply, joined @ ..] = arguments else { return Err("--floor-server PORT REPLY [JOINED]".into()) };
    let port = port.parse().map_err(|_| format!("not a port: {port}"))?;
    floor::serve(port, &floor::Script { reply: reply.clone(), joined: joined.first().cloned() })
}

/// Starts this program anew on the client's core, unless this is that copy or there is no core to spare.
fn pinned(arguments: &[String]) -> Result<bool, String> {
    if std::env::var_os(PINNED).is_some() {
        return Ok(true);
    }
    if !Programs::can_pin() {
        println!("live: no second core or no taskset: server and client share a core, compare with care");
        return Ok(false);
    }
    let own = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let error = Command::new("taskset").args(["-c", CLIENT_CORE]).arg(own).args(arguments).env(PINNED, "1").exec();
    Err(format!("taskset: {error}"))
}

fn compare(arguments: &[String], is_pinned: bool) -> Result<(), String> {
    let mut options = Options::parse(arguments)?;
    if options.peers.contains(&Peer::Bun) && !options.bun.exists() {
        println!("live: no bun at {}: going on without it (.ci/bun.sh installs it)", options.bun.display());
        options.peers.retain(|peer| *peer != Peer::Bun);
    }
    let programs = Programs { throng: options.throng.clone(), bun: options.bun.clone(), is_pinned };
    println!(
        "live: {} rounds, window {:.1} s, server on core {}, client on core {}; load average before: {:.2}",
        options.rounds,
        options.pace.window.as_secs_f64(),
        if is_pinned { peers::SERVER_CORE } else { "any" },
        if is_pinned { CLIENT_CORE } else { "any" },
        cpu::load_average(),
    );
    for workload in &options.workloads {
        match workload.kind {
            Kind::Idle => compare_memory(workload, &options, &programs)?,
            _ => compare_cpu(workload, &options, &programs)?,
        }
    }
    if options.is_smoke {
        println!("\nlive: every peer ran; figures of a smoke run mean nothing");
    }
    Ok(())
}

/// Rounds A B C A B C: a machine that slows down meanwhile slows all of them.
fn compare_cpu(workload: &Workload, options: &Options, programs: &Programs) -> Result<(), String> {
    let peers: Vec<Peer> = options.peers.iter().copied().filter(|peer| measure::applies(*peer, workload)).collect();
    if peers.is_empty() {
        return Ok(());
    }
    let mut series = Series::new(*workload);
    for round in 0..options.rounds {
        for peer in peers.iter().copied() {
            let mut server = Server::start(programs, peer, workload)?;
            let sample = measure::load(&server, workload, &options.pace)
                .map_err(|e| server.explain(format!("{}: {e}", workload.name)))?;
            series.push(round, peer, sample);
        }
    }
    series.print();
    Ok(())
}

fn compare_memory(workload: &Workload, options: &Options, programs: &Programs) -> Result<(), String> {
    if !options.peers.contains(&Peer::Throng) {
        return Ok(());
    }
    // Resident memory hardly differs from run to run.
    let rounds = (0..options.rounds.min(3)).map(|_| {
        let mut server = Server::start(programs, Peer::Throng, workload)?;
        measure::idle(&server, workload, &options.pace).map_err(|e| server.explain(format!("{}: {e}", workload.name)))
    });
    let rounds: Vec<measure::Memory> = rounds.collect::<Result<_, String>>()?;
    report::print_memory(workload, &rounds);
    Ok(())
}
