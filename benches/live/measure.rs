//! One workload against one running server.
use crate::client::{Ignore, Outbox, Swarm};
use crate::cpu::{Usage, kernel_slab_bytes, resident_bytes};
use crate::peers::{Peer, Server};
use crate::token::Signer;
use crate::workload::{Chat, Counted, Echo, Fanout, Join, Kind, Workload};
use std::time::{Duration, Instant};

/// How long things last.
#[derive(Clone, Copy)]
pub struct Pace {
    pub warm_up: Duration,
    pub window: Duration,
    /// Silence that ends the preparations.
    pub quiet: Duration,
    /// Until an idle connection has given back what it needed while it was busy.
    pub cool_down: Duration,
}

pub const FULL: Pace = Pace {
    warm_up: Duration::from_millis(1_000),
    window: Duration::from_millis(3_000),
    quiet: Duration::from_millis(500),
    cool_down: Duration::from_secs(20),
};

pub const SMOKE: Pace = Pace {
    warm_up: Duration::from_millis(100),
    window: Duration::from_millis(400),
    quiet: Duration::from_millis(100),
    cool_down: Duration::from_millis(500),
};

/// What one run of a load showed.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Server CPU per unit of work, microseconds.
    pub cpu_us: f64,
    /// Units of work in a second.
    pub per_second: f64,
    /// CPU of the server process over the time that passed: 1.0 is a whole core.
    pub share: f64,
    /// The thread that used most of it, and its share.
    pub busiest: (String, f64),
    /// Messages per read of the client: how far the server gathers what it sends to one connection.
    pub per_read: f64,
    /// CPU of the client over the time that passed. Near 1.0 the client was a limit too.
    pub client_share: f64,
    pub message_bytes: usize,
}

/// What idle connections cost.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Growth of the server's resident memory per connection, bytes.
    pub resident: f64,
    /// Growth of unreclaimable kernel slab per pair of sockets, bytes: server's and client's end.
    pub kernel_pair: f64,
}

/// Connects and joins as the workload says, then counts work and CPU over the window.
pub fn load(server: &Server, workload: &Workload, pace: &Pace) -> Result<Sample, String> {
    let signer = Signer::for_peer(server)?;
    let mut swarm = Swarm::new(server.address)?;
    join(&mut swarm, workload, &signer, workload.connections)?;
    swarm.settle(pace.quiet)?;
    match workload.kind {
        Kind::Echo => window(&mut swarm, &mut Echo::new(workload), server, pace),
        Kind::Fanout => window(&mut swarm, &mut Fanout::new(workload), server, pace),
        Kind::Chat => window(&mut swarm, &mut Chat::new(workload), server, pace),
        Kind::Idle => Err("idle connections do no work".into()),
    }
}

/// Memory at a ninth of the connections and at all of them; the difference leaves out what the process needs anyway.
pub fn idle(server: &Server, workload: &Workload, pace: &Pace) -> Result<Memory, String> {
    let signer = Signer::for_peer(server)?;
    let mut swarm = Swarm::new(server.address)?;
    let mut at = |total: usize| {
        join(&mut swarm, workload, &signer, total)?;
        let start = Instant::now();
        while start.elapsed() < pace.cool_down {
            swarm.turn(Duration::from_millis(100), &mut Ignore)?;
        }
        Ok::<_, String>((resident_bytes(server.pid())? as f64, kernel_slab_bytes()? as f64))
    };
    let few = workload.connections / 9;
    let (before, after) = (at(few)?, at(workload.connections)?);
    let added = (workload.connections - few) as f64;
    Ok(Memory { resident: (after.0 - before.0) / added, kernel_pair: (after.1 - before.1) / added })
}

fn join(swarm: &mut Swarm, workload: &Workload, signer: &Signer, total: usize) -> Result<(), String> {
    let from = swarm.len();
    swarm.grow(total, "/ws", |index| signer.header(&Workload::user(index)))?;
    if workload.rooms > 0 {
        let mut join = Join::new(workload, from, total);
        swarm.start(|outbox| join.begin(outbox))?;
        swarm.run(&mut join, |join| join.done == total)?;
    }
    Ok(())
}

fn window(swarm: &mut Swarm, load: &mut impl Counted, server: &Server, pace: &Pace) -> Result<Sample, String> {
    swarm.start(|outbox: &mut Outbox| load.begin(outbox))?;
    run_for(swarm, load, pace.warm_up)?;
    let (client_used, messages, reads) = (Usage::of(std::process::id())?, swarm.messages, swarm.reads);
    let (count, used, start) = (load.count(), Usage::of(server.pid())?, Instant::now());
    run_for(swarm, load, pace.window)?;
    let (now_used, elapsed) = (Usage::of(server.pid())?, start.elapsed().as_secs_f64());
    let client = Usage::of(std::process::id())?.process.saturating_sub(client_used.process).as_secs_f64();
    let per_read = (swarm.messages - messages) as f64 / (swarm.reads - reads).max(1) as f64;
    let done = load.count() - count;
    if done == 0 {
        return Err("no work was done in the window".into());
    }
    load.end();
    swarm.run(load, Counted::is_complete)?;
    load.check()?;
    let cpu = now_used.process.saturating_sub(used.process).as_secs_f64();
    let (thread, busy) = now_used.busiest_since(&used);
    Ok(Sample {
        cpu_us: cpu * 1e6 / done as f64,
        per_second: done as f64 / elapsed,
        share: cpu / elapsed,
        busiest: (thread, busy.as_secs_f64() / elapsed),
        per_read,
        client_share: client / elapsed,
        message_bytes: load.message_bytes(),
    })
}

fn run_for(swarm: &mut Swarm, load: &mut impl Counted, duration: Duration) -> Result<(), String> {
    let start = Instant::now();
    swarm.run(load, |_| start.elapsed() >= duration)
}

/// Whether a peer can run a workload at all.
pub fn applies(peer: Peer, workload: &Workload) -> bool {
    peer == Peer::Throng || matches!(workload.kind, Kind::Echo | Kind::Fanout)
}
