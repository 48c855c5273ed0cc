//! What the plain clients found, beside what the load's own client says about the same server.
use crate::result::{Integrity, Latency, Timed, Verification};
use std::collections::BTreeMap;

/// Breaches of the protocol: all counted, the first ones kept.
#[derive(Debug, Default)]
pub struct Faults {
    pub count: u64,
    pub examples: Vec<String>,
}

impl Faults {
    const EXAMPLES: usize = 10;

    pub fn add(&mut self, fault: String) {
        self.count += 1;
        if self.examples.len() < Faults::EXAMPLES {
            self.examples.push(fault);
        }
    }
}

/// Deliveries that are wrong in any way.
pub fn unsound(integrity: &Integrity) -> u64 {
    integrity.lost_durable
        + integrity.lost_live
        + integrity.duplicated
        + integrity.reordered
        + integrity.foreign
        + integrity.offset_faults
}

/// At light load a plain client cannot be so much later than the other one claims to be under full load: timer, parsing and the
/// scheduler of the system explain this much.
const SLACK_NS: u64 = 5_000_000;

/// Where the engine must have overlooked something. The other way round (faults under load that a small run does not meet) is no
/// contradiction.
pub fn contradictions(plain: &Verification, integrity: &Integrity, latency: &BTreeMap<Timed, Latency>) -> Vec<String> {
    let mut all = Vec::new();
    let (own, engine) = (&plain.integrity, integrity);
    for (what, here, there) in [
        ("lost durable deliveries", own.lost_durable, engine.lost_durable),
        ("lost live deliveries", own.lost_live, engine.lost_live),
        ("doubled deliveries", own.duplicated, engine.duplicated),
        ("reordered deliveries", own.reordered, engine.reordered),
        ("foreign deliveries", own.foreign, engine.foreign),
        ("faults of offsets", own.offset_faults, engine.offset_faults),
    ] {
        if here > 0 && there == 0 {
            all.push(format!("plain clients saw {here} {what} of {}; the load's client saw none", own.expected));
        }
    }
    for (timed, here) in &plain.latency {
        let Some(there) = latency.get(timed).filter(|there| there.count > 0) else {
            if here.max > 0 {
                all.push(format!("plain clients timed {}; the load's client has no sample of it", timed.name()));
            }
            continue;
        };
        if here.p50 > there.response.p99 + SLACK_NS {
            let ms = |ns: u64| ns as f64 / 1e6;
            all.push(format!(
                "{}: half of what plain clients saw at light load took over {:.1} ms; the load's client says p99 {:.1} ms",
                timed.name(),
                ms(here.p50),
                ms(there.response.p99)
            ));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Percentiles;

    fn latency(p50: u64, p99: u64) -> Percentiles {
        Percentiles { p50, p99, max: p99, ..Percentiles::default() }
    }

    fn plain(integrity: Integrity, live: Percentiles) -> Verification {
        Verification { integrity, latency: [(Timed::Live, live)].into(), ..Verification::default() }
    }

    fn engine(live: Percentiles) -> BTreeMap<Timed, Latency> {
        [(Timed::Live, Latency { count: 10, response: live, ..Latency::default() })].into()
    }

    #[test]
    fn agreement_is_silent() {
        let clean = Integrity { expected: 9, delivered: 9, ..Integrity::default() };
        let faulty = Integrity { lost_durable: 3, reordered: 1, ..clean.clone() };
        let fast = latency(1_000_000, 2_000_000);
        assert_eq!(contradictions(&plain(clean.clone(), fast), &clean, &engine(fast)), [""; 0]);
        assert_eq!(contradictions(&plain(clean, fast), &faulty, &engine(fast)), [""; 0], "faults of the load alone");
        assert_eq!(contradictions(&plain(faulty.clone(), fast), &faulty, &engine(fast)), [""; 0], "both saw it");
    }

    #[test]
    fn what_the_engine_overlooked_is_told() {
        let lost = Integrity { expected: 9, lost_durable: 2, ..Integrity::default() };
        let fast = latency(1_000_000, 2_000_000);
        let said = contradictions(&plain(lost, fast), &Integrity::default(), &engine(fast));
        assert_eq!(said, ["plain clients saw 2 lost durable deliveries of 9; the load's client saw none"]);
    }

    #[test]
    fn latencies_that_cannot_both_be_true_are_told() {
        let clean = Integrity::default();
        let at = |p50| contradictions(&plain(clean.clone(), latency(p50, p50)), &clean, &engine(latency(1, 2_000_000)));
        assert_eq!(at(2_000_000 + SLACK_NS), [""; 0]);
        assert_eq!(at(2_000_001 + SLACK_NS).len(), 1);
        let none = contradictions(&plain(clean.clone(), latency(1, 1)), &clean, &BTreeMap::new());
        assert_eq!(none, ["plain clients timed live; the load's client has no sample of it"]);
    }

    #[test]
    fn faults_are_all_counted_and_the_first_kept() {
        let mut faults = Faults::default();
        (0..15).for_each(|number| faults.add(number.to_string()));
        assert_eq!((faults.count, faults.examples.len()), (15, Faults::EXAMPLES));
    }
}
