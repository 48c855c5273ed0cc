//! What goes wrong on purpose, and when: the storm and the churn of a scenario, as one worker's clients have it.
use super::clock::{MS, SECOND, seconds};
use crate::scenario::{Churn, Scenario, Storm};
use std::ops::Range;

/// What a client is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    pub connection: u32,
    /// Says goodbye before it goes.
    pub is_orderly: bool,
    /// When it is to come back.
    pub return_ns: u64,
}

pub struct Disturbances {
    connections: Range<u32>,
    share: f64,
    storm: Option<Storm>,
    churn: Option<Churn>,
    storm_ns: Option<u64>,
    churn_ns: Option<u64>,
    until_ns: u64,
    random: Random,
}

impl Disturbances {
    pub fn new(scenario: &Scenario, connections: Range<u32>, seed: u64, worker: u32) -> Disturbances {
        Disturbances {
            share: connections.len() as f64 / f64::from(scenario.connections.max(1)),
            connections,
            storm: scenario.storm,
            churn: scenario.churn.filter(|churn| churn.per_s > 0.0),
            storm_ns: None,
            churn_ns: None,
            until_ns: 0,
            random: Random::new(seed ^ u64::from(worker).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }

    /// The measured window has begun.
    pub fn begin(&mut self, from_ns: u64, until_ns: u64) {
        self.until_ns = until_ns;
        self.storm_ns = self.storm.map(|storm| from_ns + seconds(storm.at_s)).filter(|at| *at < until_ns);
        self.churn_ns = self.churn.map(|_| from_ns);
        self.next_churn();
    }

    pub fn stop(&mut self) {
        (self.storm_ns, self.churn_ns) = (None, None);
    }

    pub fn next_due(&self) -> Option<u64> {
        [self.storm_ns, self.churn_ns].into_iter().flatten().min()
    }

    fn next_churn(&mut self) {
        let Some((churn, at)) = self.churn.zip(self.churn_ns) else { return };
        let per_s = churn.per_s * self.share;
        let next = at + (self.random.exponential() / per_s.max(1e-9) * SECOND as f64) as u64;
        self.churn_ns = Some(next).filter(|next| *next < self.until_ns);
    }

    /// Everything due at `now_ns`, in order.
    pub fn take_due(&mut self, now_ns: u64) -> Vec<Break> {
        let mut breaks = Vec::new();
        if let Some((storm, at)) = self.storm.zip(self.storm_ns).filter(|(_, at)| *at <= now_ns) {
            self.storm_ns = None;
            for connection in self.connections.clone() {
                if self.random.unit() < storm.fraction {
                    let jitter = (self.random.unit() * (storm.jitter_ms * MS) as f64) as u64;
                    breaks.push(Break { connection, is_orderly: false, return_ns: at + jitter });
                }
            }
        }
        while let Some((churn, at)) = self.churn.zip(self.churn_ns).filter(|(_, at)| *at <= now_ns) {
            let index = (self.random.unit() * self.connections.len() as f64) as u32;
            let connection = self.connections.start + index;
            breaks.push(Break { connection, is_orderly: churn.is_orderly, return_ns: at + churn.away_ms * MS });
            self.next_churn();
        }
        breaks
    }
}

/// SplitMix64: small, and the same on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// 0 inclusive to 1 exclusive.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disturbances(text: &str) -> Disturbances {
        let text =
            format!("name = 'x'\nabout = 'y'\nconnections = 1000\ntime = {{ warmup_s = 0, measure_s = 100 }}\n{text}");
        let scenario: Scenario = toml::from_str(&text).expect("a scenario");
        Disturbances::new(&scenario, 500..1000, 7, 1)
    }

    #[test]
    fn a_storm_breaks_its_share_once() {
        let mut storm = disturbances("storm = { at_s = 2, fraction = 0.5, jitter_ms = 3000 }");
        storm.begin(10 * SECOND, 110 * SECOND);
        assert_eq!(storm.next_due(), Some(12 * SECOND));
        assert_eq!(storm.take_due(12 * SECOND - 1), []);
        let breaks = storm.take_due(12 * SECOND);
        assert!((200..300).contains(&breaks.len()), "{} of 500", breaks.len());
        assert!(breaks.iter().all(|one| (12 * SECOND..15 * SECOND).contains(&one.return_ns) && one.connection >= 500));
        assert_eq!(storm.take_due(20 * SECOND), []);
        assert_eq!(storm.next_due(), None);
    }

    #[test]
    fn churn_keeps_its_rate_and_ends_with_the_window() {
        let mut churn = disturbances("churn = { per_s = 20, away_ms = 500 }");
        churn.begin(0, 100 * SECOND);
        let breaks = churn.take_due(200 * SECOND);
        // 10 a second for this half of the clients, 100 s: 1,000 with a deviation of 32.
        assert!((850..1150).contains(&breaks.len()), "{}", breaks.len());
        assert!(breaks.last().is_some_and(|last| last.return_ns < 100 * SECOND + 500 * MS));
        assert_eq!(churn.next_due(), None);
    }
}
