//! Counts over all shards that decide about admission (R-CONN-2).
use crate::config::Limits;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shared by all shards; touched when a connection comes, signs in and goes.
#[derive(Debug, Default)]
pub struct Totals {
    connections: AtomicU64,
    unauthenticated: AtomicU64,
    /// Shards on which a drain has left nothing.
    drained: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Connections,
    Unauthenticated,
}

impl Totals {
    /// Counts a newcomer, from its acceptance on. A limit of 0 is off. `capacity` is what the descriptor tables hold.
    pub fn admit(&self, limits: &Limits, capacity: u64) -> Result<(), Full> {
        let connections_max = match limits.connections {
            0 => capacity,
            connections => connections.min(capacity),
        };
        if self.connections.fetch_add(1, Relaxed) >= connections_max {
            self.connections.fetch_sub(1, Relaxed);
            return Err(Full::Connections);
        }
        if self.unauthenticated.fetch_add(1, Relaxed) >= limits.unauthenticated && limits.unauthenticated != 0 {
            self.connections.fetch_sub(1, Relaxed);
            self.unauthenticated.fetch_sub(1, Relaxed);
            return Err(Full::Unauthenticated);
        }
        Ok(())
    }

    /// A further connection without a user, on a transport that is counted already.
    pub fn signing_in(&self) {
        self.unauthenticated.fetch_add(1, Relaxed);
    }

    /// It is a user's now, or will never be.
    pub fn signed_in(&self) {
        self.unauthenticated.fetch_sub(1, Relaxed);
    }

    pub fn closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// A drain has left nothing on one more shard.
    pub fn drained(&self) {
        self.drained.fetch_add(1, Relaxed);
    }

    /// On how many shards a drain has left nothing.
    pub fn drained_shards(&self) -> u64 {
        self.drained.load(Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_count_nothing_when_they_refuse() {
        let (totals, mut limits) = (Totals::default(), Limits::default());
        (limits.connections, limits.unauthenticated) = (3, 2);
        assert!(totals.admit(&limits, 100).is_ok() && totals.admit(&limits, 100).is_ok());
        assert_eq!(totals.admit(&limits, 100), Err(Full::Unauthenticated));
        totals.signed_in();
        assert!(totals.admit(&limits, 100).is_ok());
        totals.signed_in();
        assert_eq!(totals.admit(&limits, 100), Err(Full::Connections));
        totals.closed();
        assert!(totals.admit(&limits, 100).is_ok());
        assert_eq!(totals.connections(), 3);
        assert_eq!(totals.admit(&Limits::default(), 3), Err(Full::Connections));
    }
}
