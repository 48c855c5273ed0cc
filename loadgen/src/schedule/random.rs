//! A tiny random generator of eight bytes, one for each sender: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
//! number generators", 2014). Not for secrets.

/// The state; every value is a good seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each (`seed`, `room`, `publisher`), whoever asks.
    pub fn of_sender(seed: u64, room: u32, publisher: u32) -> Random {
        // Mixed twice, so that neighbours do not walk along the same sequence one step apart.
        let sender = Random(u64::from(room) << 32 | u64::from(publisher)).next();
        Random(Random(seed ^ sender).next())
    }

    #[allow(clippy::should_implement_trait)] // it has no end, so it is no iterator
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly in (0, 1]: never 0, so that its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_paper() {
        let mut random = Random(1234567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn neighbouring_senders_are_independent() {
        let draws = |publisher| -> Vec<f64> {
            let mut random = Random::of_sender(1, 0, publisher);
            (0..10_000).map(|_| random.unit() - 0.5).collect()
        };
        for (one, other) in [(0, 1), (1, 2), (7, 8)] {
            let products: f64 = draws(one).iter().zip(draws(other)).map(|(a, b)| a * b).sum();
            // Variance of a unit is 1/12; the correlation of 10,000 independent pairs is within 4/√10,000.
            assert!((products * 12.0 / 10_000.0).abs() < 0.04, "senders {one} and {other} go together");
        }
    }
}
