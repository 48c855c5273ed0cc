//! Timer wheel: deadlines for many small keys, eight bytes each, nothing allocated per timer.
//!
//! A single ring of buckets, one per tick; a key lies in the bucket of its deadline. Keys are indices of somebody else's table (a
//! connection's slot), so the links live in one array and moving a timer is four writes. No deadline is stored: one further away
//! than a turn of the ring comes early, after that turn, and whoever set it sees that it is not due and sets it again.

/// No key.
const NONE: u32 = u32::MAX;

/// In `previous`: the key is the first of the bucket whose number stands in the other bits.
const FIRST: u32 = 1 << 31;

#[derive(Clone, Copy)]
struct Node {
    next: u32,
    /// NONE while the key has no deadline.
    previous: u32,
}

const UNLINKED: Node = Node { next: NONE, previous: NONE };

/// Deadlines in ticks of the owner's choosing; a key, below 2^31, has at most one.
pub struct Wheel {
    nodes: Vec<Node>,
    /// First key of each bucket.
    heads: Box<[u32]>,
    /// The last tick that was expired.
    now: u32,
    armed: usize,
}

impl Wheel {
    /// `buckets` is a power of two; one turn of the ring is that many ticks. Keys below `capacity` need no further memory.
    pub fn new(buckets: usize, capacity: usize) -> Wheel {
        assert!(buckets.is_power_of_two() && buckets < FIRST as usize);
        Wheel { nodes: Vec::with_capacity(capacity), heads: vec![NONE; buckets].into(), now: 0, armed: 0 }
    }

    /// Number of keys with a deadline.
    pub fn len(&self) -> usize {
        self.armed
    }

    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Sets or moves the deadline of `key`. One that has passed expires at the next tick, one that is further away than a turn of
    /// the ring after that turn.
    pub fn set(&mut self, key: u32, deadline: u32) {
        debug_assert!(key < FIRST);
        if key as usize >= self.nodes.len() {
            self.nodes.resize(key as usize + 1, UNLINKED);
        }
        self.cancel(key);
        let furthest = self.now.saturating_add(self.heads.len() as u32);
        let bucket = self.bucket(deadline.clamp(self.now.saturating_add(1), furthest));
        let next = std::mem::replace(&mut self.heads[bucket], key);
        self.nodes[key as usize] = Node { next, previous: FIRST | bucket as u32 };
        if next != NONE {
            self.nodes[next as usize].previous = key;
        }
        self.armed += 1;
    }

    pub fn cancel(&mut self, key: u32) {
        let Some(node) = self.nodes.get_mut(key as usize) else { return };
        let Node { next, previous } = std::mem::replace(node, UNLINKED);
        match previous {
            NONE => return,
            FIRST.. => self.heads[(previous & !FIRST) as usize] = next,
            _ => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.armed -= 1;
    }

    /// Moves the wheel to tick `now` and appends the keys whose deadline has come, or that are to be looked at again. They are no
    /// longer set.
    pub fn expire(&mut self, now: u32, expired: &mut Vec<u32>) {
        // After a long pause every bucket is due at most once.
        let ticks = now.saturating_sub(self.now).min(self.heads.len() as u32);
        for tick in (now - ticks + 1)..=now {
            let bucket = self.bucket(tick);
            let mut key = std::mem::replace(&mut self.heads[bucket], NONE);
            while key != NONE {
                let node = std::mem::replace(&mut self.nodes[key as usize], UNLINKED);
                expired.push(key);
                self.armed -= 1;
                key = node.next;
            }
        }
        self.now = self.now.max(now);
    }

    fn bucket(&self, tick: u32) -> usize {
        tick as usize & (self.heads.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn expired(wheel: &mut Wheel, now: u32) -> Vec<u32> {
        let mut keys = Vec::new();
        wheel.expire(now, &mut keys);
        keys.sort_unstable();
        keys
    }

    #[test]
    fn expires_at_the_deadline_and_not_before() {
        let mut wheel = Wheel::new(8, 0);
        wheel.set(3, 5);
        assert!(expired(&mut wheel, 4).is_empty());
        assert_eq!(expired(&mut wheel, 5), [3]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_beyond_the_ring_comes_to_be_looked_at_once_a_turn() {
        let mut wheel = Wheel::new(8, 0);
        wheel.set(4, 21);
        assert!(expired(&mut wheel, 7).is_empty());
        assert_eq!(expired(&mut wheel, 8), [4]);
        wheel.set(4, 21);
        assert!(expired(&mut wheel, 15).is_empty());
        assert_eq!(expired(&mut wheel, 16), [4]);
        wheel.set(4, 21);
        assert!(expired(&mut wheel, 20).is_empty());
        assert_eq!(expired(&mut wheel, 21), [4]);
    }

    #[test]
    fn a_deadline_in_the_past_expires_at_the_next_tick() {
        let mut wheel = Wheel::new(8, 0);
        expired(&mut wheel, 100);
        wheel.set(0, 7);
        assert_eq!(expired(&mut wheel, 101), [0]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u32),
        Cancel(u32),
        Advance(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20u32, 0..60u32).prop_map(|(key, delay)| Step::Set(key, delay)),
            (0..20u32).prop_map(Step::Cancel),
            (0..40u32).prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Against a map from key to deadline, the ring's length at most.
        #[test]
        fn behaves_like_a_sorted_map(steps in proptest::collection::vec(step(), 0..200)) {
            let (mut wheel, mut model, mut now) = (Wheel::new(16, 0), BTreeMap::new(), 0u32);
            for step in steps {
                match step {
                    Step::Set(key, delay) => {
                        wheel.set(key, now + delay);
                        model.insert(key, (now + delay).clamp(now + 1, now + 16));
                    }
                    Step::Cancel(key) => {
                        wheel.cancel(key);
                        model.remove(&key);
                    }
                    Step::Advance(ticks) => {
                        now += ticks;
                        let due: Vec<u32> = model.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
                        model.retain(|_, at| *at > now);
                        prop_assert_eq!(expired(&mut wheel, now), due);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
