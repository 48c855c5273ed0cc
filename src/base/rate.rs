//! Token buckets as one number: the generic cell rate algorithm (GCRA).
//!
//! A bucket is its *theoretical arrival time* (TAT) in monotonic nanoseconds. A bucket whose TAT lies
//! in the past is full, so an idle user's bucket needs no memory and never has to expire (R-SEC-12),
//! and refilling one token at a time leaves no window edge at which a burst could double.
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// `count` tokens per window, at most `burst` at once. `Rate::OFF` admits everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    burst: u64,
}

impl Rate {
    pub const OFF: Rate = Rate { interval_ns: 0, burst: 0 };

    /// `count` = 0 is off. The burst equals the count.
    pub fn per(count: u64, window_ms: u64) -> Rate {
        Rate::with_burst(count, window_ms, count)
    }

    pub fn with_burst(count: u64, window_ms: u64, burst: u64) -> Rate {
        if count == 0 {
            return Rate::OFF;
        }
        Rate { interval_ns: (window_ms * 1_000_000 / count).max(1), burst: burst.max(1) }
    }

    pub fn is_off(&self) -> bool {
        self.interval_ns == 0
    }

    /// Takes one token: the bucket's new TAT, or how many nanoseconds until a token is there.
    pub fn take(&self, tat_ns: u64, now_ns: u64) -> Result<u64, u64> {
        if self.is_off() {
            return Ok(tat_ns);
        }
        let start = tat_ns.max(now_ns);
        let latest = now_ns + self.interval_ns * (self.burst - 1);
        if start > latest { Err(start - latest) } else { Ok(start + self.interval_ns) }
    }

    /// Gives a token back: the bucket's new TAT.
    pub fn give_back(&self, tat_ns: u64) -> u64 {
        tat_ns.saturating_sub(self.interval_ns)
    }
}

/// A bucket that several shards draw from: one user's devices may live on different shards.
///
/// Four bytes: its TAT in steps of 1/256 of the rate's interval, modulo 2^32. A TAT that is not within a burst's time ahead lies in
/// the past. A bucket that is left alone comes round after 16 million intervals (19 days of ten a second) and then looks drawn from
/// for the time of one burst, which costs nobody anything who does not send a burst just then. A new rate fills the bucket.
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU32);

/// Steps of an interval.
const STEPS: u64 = 256;

/// Tokens at once, at most: a quarter of the circle of TATs.
const SHARED_BURST_MAX: u64 = (1 << 30) / STEPS;

/// Never drawn from.
const FULL: u32 = 0;

impl SharedBucket {
    /// Takes one token, or says in how many nanoseconds one will be there.
    pub fn take(&self, rate: Rate, now_ns: u64) -> Result<(), u64> {
        if rate.is_off() {
            return Ok(());
        }
        let now = rate.steps(now_ns);
        let latest = rate.shared_burst() - STEPS;
        let mut tat = self.0.load(Relaxed);
        loop {
            let ahead = rate.ahead(tat, now);
            if ahead > latest {
                return Err(((ahead - latest) * rate.interval_ns).div_ceil(STEPS));
            }
            // No TAT is said as `FULL`: one step later instead.
            let next = now.wrapping_add((ahead + STEPS) as u32).max(1);
            match self.0.compare_exchange_weak(tat, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => tat = seen,
            }
        }
    }

    /// Gives a token back that was taken for something that turned out to be free of charge.
    pub fn give_back(&self, rate: Rate) {
        if !rate.is_off() {
            let _ = self
                .0
                .fetch_update(Relaxed, Relaxed, |tat| (tat != FULL).then(|| tat.wrapping_sub(STEPS as u32).max(1)));
        }
    }

    /// True when forgetting this bucket would change nothing.
    pub fn is_full(&self, rate: Rate, now_ns: u64) -> bool {
        rate.is_off() || rate.ahead(self.0.load(Relaxed), rate.steps(now_ns)) == 0
    }
}

impl Rate {
    /// A time in steps of 1/256 interval, on a circle of 2^32.
    fn steps(&self, ns: u64) -> u32 {
        (ns / self.interval_ns * STEPS + ns % self.interval_ns * STEPS / self.interval_ns) as u32
    }

    fn shared_burst(&self) -> u64 {
        self.burst.min(SHARED_BURST_MAX) * STEPS
    }

    /// Steps until the bucket is full, 0 if it is.
    fn ahead(&self, tat: u32, now: u32) -> u64 {
        let ahead = u64::from(tat.wrapping_sub(now));
        // One step of room: a TAT is not said as `FULL`.
        if tat == FULL || ahead > self.shared_burst() + 1 { 0 } else { ahead }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn burst_then_one_token_each_interval() {
        let (rate, bucket, now) = (Rate::per(10, 60_000), SharedBucket::default(), 1000 * SECOND);
        for _ in 0..10 {
            bucket.take(rate, now).unwrap();
        }
        assert_eq!(bucket.take(rate, now), Err(6 * SECOND));
        assert!(bucket.take(rate, now + 6 * SECOND).is_ok());
        assert!(bucket.take(rate, now + 6 * SECOND).is_err());
    }

    /// R-SEC-12: a fixed window would let 20 through around its edge.
    #[test]
    fn no_doubled_burst_at_a_window_edge() {
        let (rate, bucket) = (Rate::per(10, 60_000), SharedBucket::default());
        let taken = |at: u64| (0..20).filter(|_| bucket.take(rate, at).is_ok()).count();
        assert_eq!(taken(1059 * SECOND), 10);
        assert_eq!(taken(1061 * SECOND), 0);
    }

    #[test]
    fn a_token_given_back_can_be_taken_again() {
        let (rate, bucket) = (Rate::per(1, 1000), SharedBucket::default());
        bucket.take(rate, SECOND).unwrap();
        assert!(bucket.take(rate, SECOND).is_err());
        bucket.give_back(rate);
        assert!(bucket.take(rate, SECOND).is_ok());
        assert!(!bucket.is_full(rate, SECOND) && bucket.is_full(rate, 3 * SECOND));
    }

    #[test]
    fn zero_is_off() {
        let bucket = SharedBucket::default();
        assert!((0..1000).all(|_| bucket.take(Rate::per(0, 1000), 1).is_ok()));
    }

    proptest! {
        /// A shared bucket admits what one of 64 bits does that is asked at the same steps, wherever on the circle it is.
        #[test]
        fn a_shared_bucket_differs_by_a_step_at_most(
            count in 1..2_000u64,
            window_ms in prop_oneof![Just(1_000u64), Just(60_000), Just(3_600_000)],
            start_s in 1..100_000_000u64,
            pauses in proptest::collection::vec(0..3_000u64, 1..300),
        ) {
            let (rate, bucket) = (Rate::per(count, window_ms), SharedBucket::default());
            let (mut tat_ns, mut now_ns) = (0, start_s * SECOND);
            for pause in pauses {
                // Up to three intervals, in thousandths; never just at a step's edge for long.
                now_ns += pause * rate.interval_ns / 1_000;
                let (is_taken, exact) = (bucket.take(rate, now_ns), rate.take(tat_ns, now_ns));
                let step_ns = rate.interval_ns / STEPS + 1;
                match (is_taken, exact) {
                    (Ok(()), Ok(_)) => {}
                    (Err(wait_ns), Err(exact_ns)) => prop_assert!(wait_ns.abs_diff(exact_ns) <= 2 * step_ns),
                    (Ok(()), Err(wait_ns)) | (Err(wait_ns), Ok(_)) => prop_assert!(wait_ns <= 2 * step_ns),
                }
                if is_taken.is_ok() {
                    tat_ns = tat_ns.max(now_ns) + rate.interval_ns;
                }
                prop_assert!(!bucket.is_full(rate, now_ns) || is_taken.is_err());
            }
            prop_assert!(bucket.is_full(rate, now_ns + (count + 2) * rate.interval_ns));
        }
    }

    #[test]
    fn a_bucket_left_alone_fills_and_stays_full() {
        let (rate, bucket) = (Rate::per(600, 60_000), SharedBucket::default());
        (0..600).for_each(|_| bucket.take(rate, SECOND).unwrap());
        assert!(bucket.take(rate, SECOND).is_err());
        for hours in 1..24 * 18 {
            assert!(bucket.is_full(rate, SECOND * 3_600 * hours), "after {hours} hours");
        }
    }
}
