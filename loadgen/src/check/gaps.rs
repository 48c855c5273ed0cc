//! Numbers that were jumped over and may still come: few in a sound run, so they live beside the flat arrays, as ranges.
use std::collections::BTreeMap;

/// Ranges of missing numbers by slot, bounded in memory.
pub struct Gaps {
    /// (slot, first missing number) → last missing number. Ranges of a slot do not touch.
    ranges: BTreeMap<(u64, u32), u32>,
    limit: usize,
}

impl Gaps {
    /// At most `limit` ranges, at about 30 bytes each.
    pub fn new(limit: usize) -> Gaps {
        Gaps { ranges: BTreeMap::new(), limit }
    }

    /// Remembers `from` to `to`, which lie above every range of the slot. `false`: no room, so it is forgotten.
    #[must_use]
    pub fn add(&mut self, slot: usize, from: u32, to: u32) -> bool {
        let has_room = self.ranges.len() < self.limit;
        if has_room {
            self.ranges.insert((slot as u64, from), to);
        }
        has_room
    }

    /// Whether `number` was missing; now it is not. (A split may exceed the limit by one range, which a late delivery pays for.)
    pub fn take(&mut self, slot: usize, number: u32) -> bool {
        let slot = slot as u64;
        let below = self.ranges.range((slot, 0)..=(slot, number)).next_back();
        let Some((from, to)) = below.map(|(key, to)| (key.1, *to)).filter(|(_, to)| number <= *to) else {
            return false;
        };
        match number == from {
            true => self.ranges.remove(&(slot, from)),
            false => self.ranges.insert((slot, from), number - 1),
        };
        if number < to {
            self.ranges.insert((slot, number + 1), to);
        }
        true
    }

    /// All of them as (slot, from, to), in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u32, u32)> {
        self.ranges.iter().map(|(key, to)| (key.0 as usize, key.1, *to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_as_a_set_of_numbers(acts in prop::collection::vec((0usize..3, 1u32..6, 1u32..60, any::<bool>()), 1..60)) {
            let (mut gaps, mut model) = (Gaps::new(1000), BTreeSet::new());
            let mut last = [0u32; 3];
            for (slot, length, number, is_new) in acts {
                if is_new {
                    let from = last[slot] + 1;
                    last[slot] = from + length;
                    prop_assert!(gaps.add(slot, from, from + length - 1));
                    model.extend((from..from + length).map(|number| (slot, number)));
                } else {
                    prop_assert_eq!(gaps.take(slot, number), model.remove(&(slot, number)));
                }
                let all: Vec<_> = gaps.iter().flat_map(|(slot, from, to)| (from..=to).map(move |n| (slot, n))).collect();
                prop_assert_eq!(all, model.iter().copied().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_full_table_says_so() {
        let mut gaps = Gaps::new(1);
        assert!(gaps.add(0, 1, 9));
        assert!(!gaps.add(1, 1, 9));
        assert!(gaps.take(0, 5) && !gaps.take(1, 5));
    }
}
