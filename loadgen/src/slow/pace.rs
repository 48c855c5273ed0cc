//! How much may be read by when, and when to come back: arithmetic on given times.
use std::time::{Duration, Instant};

/// A steady allowance. What was not used is kept for one second, so that a reader never catches up in one gulp.
pub struct Budget {
    bytes_per_s: f64,
    saved: f64,
    at: Instant,
}

impl Budget {
    /// Empty at `now`.
    pub fn new(bytes_per_s: u32, now: Instant) -> Budget {
        Budget { bytes_per_s: bytes_per_s.into(), saved: 0.0, at: now }
    }

    /// Whole bytes that may be read at `now`.
    pub fn available(&mut self, now: Instant) -> usize {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.bytes_per_s;
        self.saved = (self.saved + earned).min(self.bytes_per_s);
        self.at = now;
        self.saved as usize
    }

    pub fn take(&mut self, bytes: usize) {
        self.saved -= bytes as f64;
    }
}

/// As the protocol asks of clients: a random time up to 1 s, 2 s, 4 s … 30 s. Fixed by who returns for the how-manieth time.
pub fn back_off(seed: u32, returns: u32) -> Duration {
    let limit_ms = (1_000_u64 << returns.min(5)).min(30_000);
    // SplitMix64, one step: nearby seeds give unrelated values.
    let mut value = (u64::from(seed) << 32 | u64::from(returns)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^= value >> 31;
    Duration::from_millis(value % limit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_grows_evenly_and_is_not_hoarded() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut budget = Budget::new(1_000, start);
        assert_eq!(budget.available(start), 0);
        assert_eq!(budget.available(after(100)), 100);
        budget.take(60);
        assert_eq!(budget.available(after(150)), 90);
        assert_eq!(budget.available(after(60_000)), 1_000, "a second's worth at most");
        let mut nothing = Budget::new(0, start);
        assert_eq!(nothing.available(after(10_000)), 0);
    }

    #[test]
    fn waits_double_up_to_half_a_minute() {
        for returns in 0..40 {
            let limit = Duration::from_millis((1_000 << returns.min(5)).min(30_000));
            let waits: Vec<_> = (0..200).map(|seed| back_off(seed, returns)).collect();
            assert!(waits.iter().all(|wait| *wait < limit), "{returns}");
            assert!(waits.iter().any(|wait| *wait > limit / 2), "{returns}: they are spread");
        }
    }
}
