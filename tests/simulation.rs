//! Seeded simulation: the real shard turn, on simulated planes, against a naive model of rooms.
//!
//! Everything of a run follows from its seed: its shape (which faults, which actions, which limits), what clients do, and what goes
//! wrong. A failure prints the seed and the command that runs it again. `THRONG_SIM_SEEDS` sets the number of seeds, and
//! `THRONG_SIM_FIRST` the first of them; with `THRONG_SIM_LOG` set, what clients ask and get is printed.
mod simulation {
    mod actions;
    mod agent;
    mod answers;
    mod checks;
    mod conn;
    mod found;
    mod frames;
    mod model;
    mod server;
    mod shape;
    mod store;
    mod tamper;
    mod world;

    pub use world::run;

    /// What is deliberately wrong in a run, to see that the checks bite.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Broken {
        Nothing,
        /// A client does not get a chat message that the server sent.
        DroppedFrame,
        RepeatedFrame,
        SwappedPair,
        DroppedLiveEvent,
        LostAck,
        /// The model does not know that senders are excluded from their own broadcasts.
        ForgottenExclusion,
        /// The store acknowledges what it does not store.
        LostWrite,
    }

    /// What a run came to.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Run {
        /// Digest of everything that happened.
        pub trace: u64,
        /// Messages that clients got.
        pub frames: u64,
        /// Deliberate faults.
        pub broken: u64,
        /// How often what happened, as the server counts it: a simulation that never gets anywhere finds nothing.
        pub reached: Vec<(&'static str, u64)>,
    }
}

use simulation::{Broken, Run, run};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seeds in CI.
const SEEDS: u64 = 400;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// A panic of the server is a failure like any other.
fn outcome(seed: u64, broken: Broken) -> Result<Run, String> {
    let caught = catch_unwind(AssertUnwindSafe(|| run(seed, broken)));
    caught.unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        Err(format!(
            "panic: {}",
            text.or(cause.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
        ))
    })
}

fn rerun(seed: u64) -> String {
    format!("THRONG_SIM_SEED={seed} cargo test --test simulation one_seed -- --nocapture")
}

/// Every member gets every frame once, in order, or is closed with a counted reason.
#[test]
fn rooms_keep_their_promises_under_faults() {
    let (seeds, first) = (number("THRONG_SIM_SEEDS").unwrap_or(SEEDS), number("THRONG_SIM_FIRST").unwrap_or(0));
    let next = AtomicU64::new(first);
    let work = || {
        let (mut failures, mut frames, mut reached) = (Vec::new(), 0, BTreeMap::new());
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + seeds {
                return (failures, frames, reached);
            }
            match outcome(seed, Broken::Nothing) {
                Ok(run) => {
                    frames += run.frames;
                    run.reached.into_iter().for_each(|(what, count)| *reached.entry(what).or_insert(0) += count);
                }
                Err(what) => failures.push(format!("seed {seed}: {what}\n  again: {}", rerun(seed))),
            }
        }
    };
    let results: Vec<(Vec<String>, u64, Reached)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("failures are caught")).collect()
    });
    let (mut failures, mut frames, mut reached) = (Vec::new(), 0, Reached::new());
    for (failed, count, places) in results {
        failures.extend(failed);
        frames += count;
        places.into_iter().for_each(|(what, count)| *reached.entry(what).or_insert(0) += count);
    }
    println!("{frames} frames in {seeds} seeds; {reached:#?}");
    assert!(failures.is_empty(), "{} of {seeds} seeds failed\n{}", failures.len(), failures.join("\n"));
    if seeds >= SEEDS {
        let never: Vec<_> = reached.iter().filter(|(_, count)| **count == 0).collect();
        assert!(never.is_empty(), "in {seeds} seeds it never came to {never:?}");
    }
}

/// What the server counted, over all seeds.
type Reached = BTreeMap<&'static str, u64>;

/// The seed in `THRONG_SIM_SEED`, twice.
#[test]
fn one_seed_twice_is_one_trace() {
    let seeds = number("THRONG_SIM_SEED").map_or(1_000..1_005, |seed| seed..seed + 1);
    for seed in seeds {
        let (first, second) = (outcome(seed, Broken::Nothing), outcome(seed, Broken::Nothing));
        assert!(first.is_ok(), "seed {seed}: {}\n  again: {}", first.unwrap_err(), rerun(seed));
        assert_eq!(first, second, "seed {seed} went two ways; {}", rerun(seed));
    }
}

/// Seeds that a deliberate fault may need until it is noticed.
const FEW: u64 = 10;

fn is_caught(broken: Broken) {
    let runs: Vec<_> = (2_000..2_000 + FEW).map(|seed| (seed, outcome(seed, broken))).collect();
    let caught = runs.iter().filter(|(_, run)| run.is_err()).count();
    let faults: u64 = runs.iter().filter_map(|(_, run)| run.as_ref().ok()).map(|run| run.broken).sum();
    assert!(caught > 0, "{broken:?} passes the checks of {FEW} seeds, with {faults} faults in them");
    // The same seeds pass without it: it is the fault that is caught.
    let (seed, _) = runs.iter().find(|(_, run)| run.is_err()).expect("counted");
    assert_eq!(outcome(*seed, Broken::Nothing).err(), None, "seed {seed} fails in any case");
}

#[test]
fn a_dropped_frame_is_caught() {
    is_caught(Broken::DroppedFrame);
}

#[test]
fn a_repeated_frame_is_caught() {
    is_caught(Broken::RepeatedFrame);
}

#[test]
fn a_swapped_pair_is_caught() {
    is_caught(Broken::SwappedPair);
}

#[test]
fn a_dropped_live_event_is_caught() {
    is_caught(Broken::DroppedLiveEvent);
}

#[test]
fn a_lost_ack_is_caught() {
    is_caught(Broken::LostAck);
}

#[test]
fn a_forgotten_exclusion_is_caught() {
    is_caught(Broken::ForgottenExclusion);
}

#[test]
fn a_lost_write_is_caught() {
    is_caught(Broken::LostWrite);
}
