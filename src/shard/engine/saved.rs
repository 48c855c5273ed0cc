//! What lost clients were in, over a restart: one line of JSON for each, written when the shards have drained and read at the next
//! start. It holds secrets (pids), so whoever keeps it keeps it as one.
//!
//! A process that is killed leaves none: its clients start afresh, which they are told by ids that they do not know. Messages are
//! another matter; they are on disk, and the history has them.
use super::recovery::{Owner, Remembered};
use super::track::Memory;
use crate::ids::Ulid;
use crate::limits::TICK_MS;
use crate::plane::Plane;
use crate::shard::Shard;
use crate::wire::engineio::Sid;
use serde::{Deserialize, Serialize};

/// One lost client.
#[derive(Serialize, Deserialize)]
struct Line {
    pid: String,
    user: String,
    namespace: String,
    session: String,
    /// Unix ms.
    until_ms: u64,
    memory: Memory,
}

impl<P: Plane> Shard<P> {
    /// Lost clients whose pids are this shard's, and those that are connected still: their connections end with the shard.
    pub fn lost(&mut self) -> Vec<u8> {
        let core = &mut self.core;
        core.now = core.plane.now();
        core.tick = (core.now.mono_ms() / TICK_MS) as u32;
        for key in core.engines.session_keys() {
            let Some(connections) = core.engines.get(key).map(|session| session.connections.clone()) else { continue };
            connections.into_iter().for_each(|slot| core.keep_memory(slot));
        }
        let mut out = Vec::new();
        for (pid, owner, remembered, deadline) in core.engines.recoveries.kept() {
            let line = Line {
                pid: pid.text(&mut [0; Sid::TEXT_BYTES]).to_owned(),
                user: owner.user.to_string(),
                namespace: core.settings.sio.name(owner.namespace).to_owned(),
                session: remembered.session.to_string(),
                until_ms: core.now.unix_ms + u64::from(deadline.saturating_sub(core.tick)) * TICK_MS,
                memory: remembered.memory.clone(),
            };
            if serde_json::to_writer(&mut out, &line).is_ok() {
                out.push(b'\n');
            }
        }
        out
    }

    /// Takes up what shards wrote before a restart: of this shard, and not too old. A line that cannot be read is none.
    pub fn restore_lost(&mut self, text: &str) {
        let core = &mut self.core;
        let now_ms = core.now.unix_ms;
        let mut found: Vec<(u64, Sid, Line)> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok())
            .filter_map(|line| Some((line.until_ms, Sid::parse(&line.pid)?, line)))
            .filter(|(until_ms, pid, _)| pid.shard == core.id && *until_ms > now_ms)
            .collect();
        found.sort_by_key(|(until_ms, ..)| *until_ms);
        for (until_ms, pid, line) in found {
            let (Some(session), Some(namespace)) =
                (Ulid::parse(&line.session), core.settings.sio.namespace(&line.namespace))
            else {
                continue;
            };
            let owner = Owner { user: line.user.into(), namespace };
            let ticks = u32::try_from((until_ms - now_ms).div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2);
            let deadline = core.tick.saturating_add(ticks.min(core.settings.recovery_ticks));
            if core.settings.recovery_ticks > 0 {
                core.engines.recoveries.restore(pid, owner, Remembered { session, memory: line.memory }, deadline);
            }
        }
    }
}
