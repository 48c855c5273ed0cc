//! The answer to a scrape: copies of what this shard counts and measures.
use super::Shard;
use super::conn::{NONE, Stage};
use crate::plane::Plane;
use crate::telemetry::ShardReport;

impl<P: Plane> Shard<P> {
    pub(super) fn report(&mut self) -> ShardReport {
        let core = &mut self.core;
        let plane = core.plane.stats();
        core.counters.plane_enters = plane.enters;
        core.counters.plane_receives = plane.receives;
        core.counters.plane_out_of_buffers = plane.out_of_buffers;
        core.counters.plane_short_sends = plane.short_sends;
        core.counters.plane_promoted = plane.promoted;
        core.counters.plane_demoted = plane.demoted;
        core.counters.plane_stale = plane.stale;
        core.counters.plane_adopted = plane.adopted;
        core.counters.plane_released = plane.released;
        let core = &self.core;
        let is_unauthenticated = |stage| matches!(stage, Stage::Greeting | Stage::SigningIn);
        let private: usize = core.actives.iter().map(|(_, active)| active.outbox.unsent()).sum();
        let unread: u64 = core
            .fanout
            .rooms
            .iter()
            .flat_map(|(_, room)| room.behind.iter().map(move |key| (room, *key)))
            .map(|(room, key)| room.lag(key, &core.fanout.subscriptions[key as usize]))
            .sum();
        let rooms = self.rooms.stats();
        ShardReport {
            shard: core.id,
            counters: core.counters.clone(),
            histograms: core.histograms.clone(),
            connections: core.open,
            unauthenticated: core.conns.iter().filter(|conn| is_unauthenticated(conn.stage)).count() as u64,
            users: core.users.connected() as u64,
            rooms_in_memory: rooms.rooms as u64,
            rooms_top: rooms.top.into_iter().map(|(room, sessions)| (room.to_string(), sessions)).collect(),
            queue_bytes: private as u64 + unread,
            log_bytes: core.fanout.pool.bytes_in_use() as u64,
            turns: core.turns,
            uptime_ms: (core.now.mono_ns - core.started_ns) / 1_000_000,
        }
    }

    /// Connections that hold a side record: in simulation and tests, idle ones must not.
    pub fn active_connections(&self) -> usize {
        self.core.conns.iter().filter(|conn| conn.active != NONE).count()
    }
}
