//! Token buckets as one number: the generic cell rate algorithm (GCRA).
//!
//! A bucket is its *theoretical arrival time* (TAT) in monotonic nanoseconds. A bucket whose TAT lies
//! in the past is full, so an idle user's bucket needs no memory and never has to expire (R-SEC-12),
//! and refilling one token at a time leaves no window edge at which a burst could double.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU64);

impl SharedBucket {
    /// Takes one token, or says in how many nanoseconds one will be there.
    pub fn take(&self, rate: Rate, now_ns: u64) -> Result<(), u64> {
        if rate.is_off() {
            return Ok(());
        }
        let mut tat = self.0.load(Relaxed);
        loop {
            let next = rate.take(tat, now_ns)?;
            match self.0.compare_exchange_weak(tat, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => tat = seen,
            }
        }
    }

    /// Gives a token back that was taken for something that turned out to be free of charge.
    pub fn give_back(&self, rate: Rate) {
        if !rate.is_off() {
            let _ = self.0.fetch_update(Relaxed, Relaxed, |tat| Some(rate.give_back(tat)));
        }
    }

    /// True when forgetting this bucket would change nothing.
    pub fn is_full(&self, now_ns: u64) -> bool {
        self.0.load(Relaxed) <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(!bucket.is_full(SECOND) && bucket.is_full(3 * SECOND));
    }

    #[test]
    fn zero_is_off() {
        let bucket = SharedBucket::default();
        assert!((0..1000).all(|_| bucket.take(Rate::per(0, 1000), 1).is_ok()));
    }
}
