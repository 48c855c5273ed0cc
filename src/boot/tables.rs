//! How many connections fit: shards, the rings of each, the rows of a ring's table.
use crate::config::Config;
use crate::limits::{RINGS_MAX, SHARDS_MAX, TABLE_ROWS_MAX};
use crate::plane::{RingOptions, os};

/// Descriptors that are not connections: database, rings, listeners, services, handshakes in progress.
pub const DESCRIPTOR_RESERVE: u64 = 512;

/// Room for more than is asked for, since places are taken by handshakes and requests for pages too, and the kernel spreads connections
/// over shards by hash, so that one gets more than its share: of 20,000 rarely 3 % more.
const SHARE_PERCENT: u64 = 105;

/// The tables of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    pub shards: u16,
    /// Of each shard.
    pub rings: u32,
    /// Of each ring's table.
    pub rows: u32,
}

impl Tables {
    /// As configured, where RLIMIT_NOFILE is `descriptors`.
    pub fn of(config: &Config, descriptors: u64) -> Tables {
        let shards = match config.server.shards {
            0 => os::available_cores().len().clamp(1, SHARDS_MAX.into()) as u16,
            shards => shards.min(SHARDS_MAX.into()) as u16,
        };
        let rows = rows(config.plane.connections_per_shard, descriptors);
        let rings = match config.plane.rings_per_shard {
            0 => rings_for(config.limits.connections, shards.into(), rows.into()).min(RINGS_MAX.into()),
            rings => rings.min(RINGS_MAX.into()),
        };
        Tables { shards, rings: rings as u32, rows }
    }

    /// Connections of a shard.
    pub fn per_shard(&self) -> u64 {
        u64::from(self.rings) * u64::from(self.rows)
    }

    /// Connections in all.
    pub fn capacity(&self) -> u64 {
        u64::from(self.shards) * self.per_shard()
    }

    /// Of each of a shard's rings (the first; `RingOptions::further`).
    pub fn ring_options(&self, config: &Config) -> RingOptions {
        RingOptions {
            slots: self.rows,
            buffers: config.plane.receive_buffers as u32,
            buffer_bytes: config.plane.receive_buffer_bytes as u32,
        }
    }
}

/// A ring's table has at most RLIMIT_NOFILE rows and the kernel's own most, and a connection in the table needs no other descriptor.
/// `configured`: 0 for all that fit.
pub fn rows(configured: u64, descriptors: u64) -> u32 {
    let most = descriptors.saturating_sub(DESCRIPTOR_RESERVE).clamp(64, TABLE_ROWS_MAX.into());
    match configured {
        0 => most as u32,
        rows => rows.min(descriptors) as u32,
    }
}

/// Rings that each shard needs for so many connections in all, at least 1. May be more than there can be (`RINGS_MAX`).
pub fn rings_for(connections: u64, shards: u64, rows: u64) -> u64 {
    match connections <= rows {
        true => 1, // whatever the share
        false => (connections * SHARE_PERCENT).div_ceil(shards * rows * 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_limits() {
        assert_eq!([0, 576, 577, 20_000].map(|limit| rows(0, limit)), [64, 64, 65, 19_488]);
        // Container runtimes and systemd set limits that no table can have.
        assert_eq!([1_049_088, 1_049_089, 1_073_741_816, u64::MAX].map(|limit| rows(0, limit)), [1_048_576; 4]);
        assert_eq!([99, 100, u64::MAX].map(|limit| rows(100, limit)), [99, 100, 100]);
    }

    #[test]
    fn rings_hold_the_connections() {
        assert_eq!([0, 1, 19_488].map(|connections| rings_for(connections, 1, 19_488)), [1; 3]);
        assert_eq!([1, 2].map(|shards| rings_for(19_489, shards, 19_488)), [2, 1]);
        // With the margin.
        assert_eq!([37_120, 37_121].map(|connections| rings_for(connections, 2, 19_488)), [1, 2]);
        assert_eq!(rings_for(1_000_000, 2, 19_488), 27);
        assert_eq!(rings_for(1_000_000, 1, 19_488), 54);
        assert_eq!(rings_for(1_000_000, 2, 1 << 20), 1);
        assert_eq!(rings_for(u32::MAX.into(), 1, 64), 70_464_308);
    }

    #[test]
    fn rings_are_configured_or_follow_the_limit() {
        let mut config = Config::default();
        config.server.shards = 2;
        let tables = |config: &Config| Tables::of(config, 20_000);
        assert_eq!(tables(&config), Tables { shards: 2, rings: 1, rows: 19_488 });
        config.limits.connections = 1_000_000;
        assert_eq!((tables(&config).rings, tables(&config).capacity()), (27, 1_052_352));
        config.limits.connections = u32::MAX.into();
        assert_eq!(tables(&config).rings, 256);
        config.plane.rings_per_shard = 3;
        assert_eq!((tables(&config).rings, tables(&config).per_shard()), (3, 58_464));
    }
}
