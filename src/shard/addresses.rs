//! Connections and handshakes per client address (R-CONN-2), shared by all shards without a lock.
//!
//! SO_REUSEPORT spreads one address over all shards, so the count must be common. It is a fixed open-addressed table of two words
//! per entry: the address's key, and its state (connection count and handshake bucket). Entries are never
//! removed: one that counts nothing and whose bucket is full may be taken over by another address.
use crate::base::rate::Rate;
use crate::config::Limits;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

/// Entries looked at for one key. A busy neighbourhood of this length refuses newcomers: with the table twice as large as
/// the number of connections that is rarer than one in a million.
const PROBES: usize = 32;

/// State word: connections in the high 24 bits, the bucket's TAT in milliseconds in the low 40 (34 years of uptime).
const TAT_BITS: u32 = 40;
const TAT_MASK: u64 = (1 << TAT_BITS) - 1;

#[derive(Default)]
struct Entry {
    /// 0 = never used.
    key: AtomicU64,
    state: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    TooManyConnections,
    /// Handshakes come too fast; milliseconds until the next is welcome.
    TooFast {
        retry_after_ms: u64,
    },
    /// No room to count this address.
    TableFull,
}

pub struct Addresses {
    entries: Box<[Entry]>,
    connections_max: AtomicU64,
    handshakes_per_s: AtomicU64,
    handshakes_burst: AtomicU64,
}

impl Addresses {
    /// Room for `capacity` connections. Without any of the limits no table is made.
    pub fn new(capacity: usize, limits: &Limits) -> Addresses {
        let is_off = limits.connections_per_ip == 0 && limits.handshakes_per_ip == 0;
        let entries = if is_off { 0 } else { (capacity * 2).next_power_of_two().max(PROBES) };
        let addresses = Addresses {
            entries: std::iter::repeat_with(Entry::default).take(entries).collect(),
            connections_max: AtomicU64::default(),
            handshakes_per_s: AtomicU64::default(),
            handshakes_burst: AtomicU64::default(),
        };
        addresses.configure(limits);
        addresses
    }

    /// Takes other limits; a table that was not made at the start stays off.
    pub fn configure(&self, limits: &Limits) {
        self.connections_max.store(limits.connections_per_ip, Release);
        self.handshakes_per_s.store(limits.handshakes_per_ip, Release);
        self.handshakes_burst.store(limits.handshakes_burst, Release);
    }

    /// Counts a handshake and, if it is welcome, a connection. The entry that counts it, for `release`; none if nothing is limited.
    pub fn admit(&self, key: u64, now_ms: u64) -> Result<Option<u32>, Refused> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        let key = key.max(1);
        loop {
            let index = self.find_or_claim(key, now_ms).ok_or(Refused::TableFull)?;
            let entry = &self.entries[index as usize];
            let state = entry.state.load(Acquire);
            let next = self.admitted(state, now_ms)?;
            if entry.state.compare_exchange(state, next, AcqRel, Acquire).is_err() {
                continue;
            }
            if entry.key.load(Acquire) == key {
                return Ok(Some(index));
            }
            // Another address took the entry over between the two steps: take the count back from it.
            entry.state.fetch_sub(1 << TAT_BITS, AcqRel);
        }
    }

    /// A connection that this entry counts has ended. An entry that counts something is never taken over.
    pub fn release(&self, entry: u32) {
        let lower = |state: u64| (state > TAT_MASK).then(|| state - (1 << TAT_BITS));
        let _ = self.entries[entry as usize].state.fetch_update(AcqRel, Acquire, lower);
    }

    fn admitted(&self, state: u64, now_ms: u64) -> Result<u64, Refused> {
        let (count, tat_ms) = (state >> TAT_BITS, state & TAT_MASK);
        let connections_max = self.connections_max.load(Acquire);
        if connections_max != 0 && count >= connections_max {
            return Err(Refused::TooManyConnections);
        }
        let per_s = self.handshakes_per_s.load(Acquire);
        let handshakes = Rate::with_burst(per_s, 1_000, self.handshakes_burst.load(Acquire));
        let tat_ns = handshakes
            .take(tat_ms * 1_000_000, now_ms * 1_000_000)
            .map_err(|wait_ns| Refused::TooFast { retry_after_ms: wait_ns.div_ceil(1_000_000) })?;
        Ok((count + 1) << TAT_BITS | (tat_ns / 1_000_000) & TAT_MASK)
    }

    fn probe(&self, key: u64) -> impl Iterator<Item = u32> {
        // Fibonacci hashing: keys are addresses, whose low bits alone would cluster.
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize;
        let (count, mask) = (PROBES.min(self.entries.len()), self.entries.len().wrapping_sub(1));
        (0..count).map(move |i| ((start + i) & mask) as u32)
    }

    fn find_or_claim(&self, key: u64, now_ms: u64) -> Option<u32> {
        let owner = |index: u32| self.entries[index as usize].key.load(Acquire);
        loop {
            if let Some(index) = self.probe(key).find(|index| owner(*index) == key) {
                return Some(index);
            }
            let is_idle = |index: &u32| {
                let state = self.entries[*index as usize].state.load(Acquire);
                state >> TAT_BITS == 0 && state & TAT_MASK <= now_ms
            };
            // Two shards may claim one each for the same newcomer; each connection is released where it was counted.
            let (index, previous) =
                self.probe(key).map(|index| (index, owner(index))).find(|(index, _)| is_idle(index))?;
            if self.entries[index as usize].key.compare_exchange(previous, key, AcqRel, Acquire).is_ok() {
                return Some(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u64, handshakes: u64, burst: u64) -> Limits {
        Limits {
            connections_per_ip: connections,
            handshakes_per_ip: handshakes,
            handshakes_burst: burst,
            ..Limits::default()
        }
    }

    #[test]
    fn connections_are_counted_per_address() {
        let addresses = Addresses::new(100, &limits(2, 0, 0));
        let entry = addresses.admit(7, 1).unwrap().unwrap();
        assert!(addresses.admit(7, 1).is_ok() && addresses.admit(8, 1).is_ok());
        assert_eq!(addresses.admit(7, 1), Err(Refused::TooManyConnections));
        addresses.release(entry);
        assert!(addresses.admit(7, 1).is_ok());
    }

    #[test]
    fn handshakes_are_limited_in_rate() {
        let addresses = Addresses::new(100, &limits(0, 20, 40));
        assert_eq!((0..100).filter(|_| addresses.admit(7, 1000).is_ok()).count(), 40);
        assert_eq!(addresses.admit(7, 1000), Err(Refused::TooFast { retry_after_ms: 50 }));
        assert!(addresses.admit(7, 1050).is_ok());
    }

    #[test]
    fn idle_entries_make_room_for_other_addresses() {
        let addresses = Addresses::new(16, &limits(1, 10, 10));
        for key in 1..10_000u64 {
            addresses.release(addresses.admit(key, key * 1000).unwrap().unwrap());
        }
    }

    #[test]
    fn a_table_full_of_connections_refuses_and_recovers() {
        let addresses = Addresses::new(16, &limits(1, 0, 0));
        let admitted: Vec<u32> = (1..1000).filter_map(|key| addresses.admit(key, 1).ok().flatten()).collect();
        assert_eq!(admitted.len(), 32);
        assert_eq!(addresses.admit(5000, 1), Err(Refused::TableFull));
        admitted.into_iter().for_each(|entry| addresses.release(entry));
        assert!(addresses.admit(5000, 1).is_ok());
    }

    #[test]
    fn off_is_off() {
        let addresses = Addresses::new(1 << 30, &limits(0, 0, 0));
        assert!((0..1000).all(|_| addresses.admit(1, 1) == Ok(None)));
    }

    #[test]
    fn threads_never_exceed_the_limit_and_leave_nothing_behind() {
        let addresses = Addresses::new(64, &limits(3, 0, 0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000u64 {
                        let key = 1 + round % 50;
                        if let Ok(entry) = addresses.admit(key, 1) {
                            addresses.release(entry.expect("a table"));
                        }
                    }
                });
            }
        });
        for key in 1..=50 {
            assert_eq!((0..5).filter(|_| addresses.admit(key, 2).is_ok()).count(), 3, "address {key}");
        }
    }
}
