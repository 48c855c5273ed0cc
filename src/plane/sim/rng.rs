//! A seeded source of randomness, the same on every machine.

/// SplitMix64. Not for secrets.
#[derive(Clone, Debug)]
pub struct SimRng {
    state: u64,
}

impl SimRng {
    pub fn new(seed: u64) -> SimRng {
        SimRng { state: seed }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// True with this probability. Draws nothing when it is 0, so that a fault that is off leaves the rest as it is.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && ((self.next_u64() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// A random number of `most` things, at least one, small ones as likely as large ones: 1..=most.
    pub fn part_of(&mut self, most: usize) -> usize {
        let limit = if self.chance(0.5) { most.min(8) } else { most };
        1 + self.below(limit)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_within_bounds() {
        let (mut one, mut two) = (SimRng::new(3), SimRng::new(3));
        let mut hits = 0;
        for _ in 0..10_000 {
            assert_eq!(one.next_u64(), two.next_u64());
            assert!(one.below(7) < 7);
            two.below(7);
            assert!((1..=20).contains(&one.part_of(20)));
            two.part_of(20);
            hits += u32::from(one.chance(0.25));
            two.chance(0.25);
        }
        assert!((2_000..3_000).contains(&hits), "{hits}");
        assert!(!one.chance(0.0) && one.chance(1.0));
        assert_eq!(one.below(0), 0);
    }
}
