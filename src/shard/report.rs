//! The answer to a scrape: copies of what this shard counts and measures.
use super::Shard;
use super::conn::{NONE, Stage, flag};
use crate::plane::Plane;
use crate::telemetry::ShardReport;

/// What a shard holds in memory beyond its settings and counters. All zero when nobody is connected, nothing is under way and rate
/// buckets are full again: whatever else is left behind then has leaked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residue {
    pub active_connections: usize,
    pub subscriptions: usize,
    pub streams: usize,
    pub local_rooms: usize,
    pub connection_timers: usize,
    pub engine_sessions: usize,
    pub virtual_connections: usize,
    pub exchanges: usize,
    pub recoveries: usize,
    pub room_rows: usize,
    pub room_timers: usize,
    pub users: usize,
    pub parked_commands: usize,
    pub store_jobs: u64,
    pub waiting_mail: usize,
    pub tls_sessions: usize,
}

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
        let deflate = core.transcoder.deflater.counts();
        core.counters.deflate_messages = deflate.messages;
        core.counters.deflate_bytes_before = deflate.bytes_before;
        core.counters.deflate_bytes_after = deflate.bytes_after;
        let core = &self.core;
        let is_unauthenticated = |stage| matches!(stage, Stage::Greeting | Stage::SigningIn);
        let private: usize = core.actives.iter().map(|(_, active)| active.outbox.unsent()).sum();
        let sealed: usize = match core.secured.len() {
            0 => 0,
            // What was not taken at once waits with a blocked connection.
            _ => (0..)
                .zip(core.conns.iter())
                .filter(|(_, conn)| conn.has(flag::BLOCKED))
                .map(|(slot, _)| core.secured.unsent(slot))
                .sum(),
        };
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
            connections: core.open + core.engines.polling_count(),
            unauthenticated: core.conns.iter().filter(|conn| is_unauthenticated(conn.stage)).count() as u64,
            users: core.users.connected() as u64,
            rooms_in_memory: rooms.rooms as u64,
            rooms_top: rooms.top.into_iter().map(|(room, sessions)| (room.to_string(), sessions)).collect(),
            queue_bytes: (private + sealed) as u64 + unread + core.fanout.unoffered_bytes(),
            log_bytes: core.fanout.pool.bytes_in_use() as u64,
            tls_sessions: core.secured.len() as u64,
            certificate_ends_s: core.secured.acceptor.as_ref().map(|acceptor| acceptor.validity.not_after_s),
            turns: core.turns,
            uptime_ms: (core.now.mono_ns - core.started_ns) / 1_000_000,
        }
    }

    /// For simulation and tests.
    pub fn residue(&self) -> Residue {
        let core = &self.core;
        Residue {
            active_connections: core.actives.len(),
            subscriptions: core.fanout.subscriptions.len(),
            streams: core.streams.len(),
            local_rooms: core.fanout.rooms.len(),
            connection_timers: core.wheel.len() + core.engines.timers.len(),
            engine_sessions: core.engines.sessions.len(),
            virtual_connections: core.conns.virtual_count(),
            exchanges: core.engines.exchanges.len(),
            recoveries: core.engines.recoveries.len(),
            room_rows: self.rooms.row_count(),
            room_timers: core.room_timers.len(),
            users: core.users.len(),
            parked_commands: self.parked.len() + self.core.room_mail.len(),
            store_jobs: core.jobs_in_flight,
            waiting_mail: core.mesh.waiting(),
            tls_sessions: core.secured.len(),
        }
    }

    /// For simulation and tests: how many members may be looked at in a turn, instead of `limits::OFFERS_PER_TURN`.
    pub fn set_offers_per_turn(&mut self, count: usize) {
        self.core.deliveries.offers.per_turn = count.max(1);
    }

    /// Connections that hold a side record: in simulation and tests, idle ones must not.
    pub fn active_connections(&self) -> usize {
        self.core.conns.iter().filter(|conn| conn.active != NONE).count()
    }
}
