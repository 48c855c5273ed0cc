//! Where a server stops keeping up: steps the load up until deliveries or p99 leave the line, then halves the gap.
//!
//! Pure decisions: [`Search::next_step`] looks at what was tried and says what to try next.
use serde::{Deserialize, Serialize};

/// One try.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was asked for, per second.
    pub load: f64,
    /// Delivered of what was asked for.
    pub achieved: f64,
    pub p99_ns: Option<u64>,
    /// Nothing lost, doubled, reordered.
    pub is_sound: bool,
    /// False: the load generator was the bottleneck, so the server was not seen at this load.
    pub is_valid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Measure this load next.
    Try(f64),
    Done(Knee),
}

/// The end of a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The largest load that held; 0: none did.
    pub load: f64,
    pub why: Why,
}

/// What ended the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Fewer deliveries than asked for, or an unsound run.
    Throughput,
    Latency,
    /// The load generator could not do more: the knee is at least here.
    Client,
    /// All tries held: the knee is at least here.
    NotReached,
}

impl Why {
    pub const fn words(self) -> &'static str {
        match self {
            Why::Throughput => "beyond it deliveries stay behind",
            Why::Latency => "beyond it p99 leaves its line",
            Why::Client => "at least: beyond it the load generator was the bottleneck",
            Why::NotReached => "at least: nothing higher was tried",
        }
    }
}

impl Knee {
    /// Whether the server was seen to reach its limit.
    pub fn is_servers(&self) -> bool {
        matches!(self.why, Why::Throughput | Why::Latency)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// First load.
    pub start: f64,
    /// Steps up, each times this.
    pub factor: f64,
    /// Ends when the loads that held and broke are this close.
    pub precision: f64,
    pub tries_max: usize,
    /// p99 above this is no service any more, however low it was at first.
    pub p99_max_ns: u64,
}

/// p99 has left its line when it is so many times that of the lowest load, and above `P99_QUIET_NS`: below, it is noise.
const P99_FACTOR: u64 = 10;
const P99_QUIET_NS: u64 = 5_000_000;

impl Search {
    pub fn new(start: f64, p99_max_ns: u64) -> Search {
        Search { start, factor: 1.7, precision: 0.06, tries_max: 14, p99_max_ns }
    }

    pub fn next_step(&self, attempts: &[Attempt]) -> Step {
        let p99_max = self.p99_limit(attempts);
        let faults: Vec<(f64, Option<Why>)> =
            attempts.iter().map(|attempt| (attempt.load, fault(attempt, p99_max))).collect();
        let held = faults.iter().filter(|(_, fault)| fault.is_none()).map(|(load, _)| *load).fold(0.0, f64::max);
        // What broke below a load that held was a disturbance.
        let broke =
            faults.iter().filter(|(load, fault)| fault.is_some() && *load > held).min_by(|a, b| a.0.total_cmp(&b.0));
        let is_last = attempts.len() >= self.tries_max;
        match (held, broke) {
            (_, None) if attempts.is_empty() => Step::Try(self.start),
            (held, None) if is_last => Step::Done(Knee { load: held, why: Why::NotReached }),
            (held, None) => Step::Try(held * self.factor),
            (held, Some((load, Some(why)))) if is_last || (held > 0.0 && load / held <= 1.0 + self.precision) => {
                Step::Done(Knee { load: held, why: *why })
            }
            (0.0, Some((load, _))) => Step::Try(load / (self.factor * self.factor)),
            (held, Some((load, _))) => Step::Try((held * load).sqrt()),
        }
    }

    fn p99_limit(&self, attempts: &[Attempt]) -> u64 {
        let lowest = attempts.iter().filter(|attempt| attempt.is_valid).min_by(|a, b| a.load.total_cmp(&b.load));
        let lowest = lowest.and_then(|attempt| attempt.p99_ns).unwrap_or(0);
        lowest.saturating_mul(P99_FACTOR).max(P99_QUIET_NS).min(self.p99_max_ns)
    }
}

fn fault(attempt: &Attempt, p99_max_ns: u64) -> Option<Why> {
    if !attempt.is_valid {
        Some(Why::Client)
    } else if attempt.achieved < super::model::ACHIEVED_MIN || !attempt.is_sound {
        Some(Why::Throughput)
    } else if attempt.p99_ns.is_some_and(|p99| p99 > p99_max_ns) {
        Some(Why::Latency)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that does `capacity` per second and is quick up to `quick`, with a client that does `client`.
    fn search(start: f64, capacity: f64, quick: f64, client: f64) -> (Knee, usize) {
        let search = Search::new(start, 50_000_000);
        let mut attempts = Vec::new();
        loop {
            match search.next_step(&attempts) {
                Step::Done(knee) => return (knee, attempts.len()),
                Step::Try(load) => attempts.push(Attempt {
                    load,
                    achieved: (capacity / load).min(1.0),
                    p99_ns: Some(if load <= quick { 800_000 } else { 30_000_000 }),
                    is_sound: true,
                    is_valid: load <= client,
                }),
            }
            assert!(attempts.len() < 20, "the search ends");
        }
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for start in [100.0, 5_000.0, 90_000.0] {
            let (knee, tries) = search(start, 12_345.0, 1e9, 1e9);
            // What achieves 97 % still holds.
            assert!((0.93 * 12_345.0..=12_345.0 / 0.97).contains(&knee.load), "{start}: {knee:?}");
            assert_eq!((knee.why, knee.is_servers()), (Why::Throughput, true));
            assert!(tries <= 14);
        }
    }

    #[test]
    fn a_latency_that_leaves_its_line_is_a_knee() {
        let (knee, _) = search(1_000.0, 1e9, 8_000.0, 1e9);
        assert_eq!(knee.why, Why::Latency);
        assert!((7_500.0..=8_000.0).contains(&knee.load), "{knee:?}");
    }

    #[test]
    fn a_client_at_its_end_gives_a_lower_bound() {
        let (knee, _) = search(1_000.0, 1e9, 1e9, 5_000.0);
        assert_eq!((knee.why, knee.is_servers()), (Why::Client, false));
    }

    #[test]
    fn what_never_breaks_is_not_reached() {
        let (knee, tries) = search(1.0, f64::INFINITY, f64::INFINITY, f64::INFINITY);
        assert_eq!((knee.why, tries), (Why::NotReached, 14));
    }

    #[test]
    fn a_disturbance_below_a_load_that_held_is_not_the_knee() {
        let attempt = |load, achieved| Attempt { load, achieved, p99_ns: None, is_sound: true, is_valid: true };
        let step = Search::new(100.0, 1).next_step(&[attempt(100.0, 0.5), attempt(200.0, 1.0)]);
        assert_eq!(step, Step::Try(200.0 * 1.7));
    }
}
