//! Leaving in order (R-CONN-6): connections are told, given a moment for their acks, and closed in batches.
use super::Core;
use super::conn::{Stage, flag};
use super::liveness::ticks;
use crate::base::close::CloseCode;
use crate::plane::{Plane, Slot};

/// A drain in progress.
pub struct Drain {
    /// Position of the next connection to look at.
    next: usize,
    /// Tick of the next batch.
    next_batch: u32,
    deadline: u32,
    /// Told, to be closed at the tick.
    told: Vec<(u32, Slot)>,
    /// Nothing was left here, and the others know.
    is_done: bool,
}

/// Between `server_closing` and the close frame: time for what was received before to be committed and acknowledged.
/// A commit takes milliseconds; what takes longer is repeated by the client under the same id.
const LAST_ACKS_MS: u64 = 500;

impl<P: Plane> Core<P> {
    pub(super) fn begin_drain(&mut self) {
        if self.drain.is_none() {
            let deadline = self.tick.saturating_add(self.settings.drain_deadline);
            self.drain = Some(Drain { next: 0, next_batch: self.tick, deadline, told: Vec::new(), is_done: false });
        }
    }

    /// One tick of a drain.
    pub(super) fn drain_step(&mut self) {
        let Some(mut drain) = self.drain.take() else { return };
        drain.told.retain(|(at, slot)| {
            let is_due = *at <= self.tick;
            if is_due {
                self.close(*slot, CloseCode::Drain);
            }
            !is_due
        });
        if self.tick >= drain.next_batch {
            let batch = self.batch_size(&drain);
            self.announce(&mut drain, batch);
            if drain.next >= self.conns.len() {
                self.drain_sessions();
            }
            drain.next_batch = self.tick + self.settings.drain_interval;
        }
        if !drain.is_done && self.is_empty() {
            drain.is_done = true;
            self.totals.drained();
        }
        self.drain = Some(drain);
    }

    fn is_empty(&self) -> bool {
        self.open == 0 && self.engines.is_drained() && self.jobs_in_flight == 0 && self.mesh.waiting() == 0
    }

    /// This shard's share of `drain.batch`, or more if the deadline needs it.
    fn batch_size(&self, drain: &Drain) -> u64 {
        let reserve =
            ticks(LAST_ACKS_MS) + self.settings.close_timeout.min(ticks(1_000)) + self.settings.drain_interval;
        let left = drain.deadline.saturating_sub(self.tick + reserve);
        let steps = u64::from(left / self.settings.drain_interval) + 1;
        let remaining = self.conns.len().saturating_sub(drain.next) as u64;
        (self.settings.drain_batch / u64::from(self.shards)).max(1).max(remaining.div_ceil(steps))
    }

    fn announce(&mut self, drain: &mut Drain, batch: u64) {
        let (mut count, retry_max_ms) = (0, self.settings.retry_max_ms);
        while count < batch && drain.next < self.conns.len() {
            let slot = self.conns.slot_at(drain.next);
            drain.next += 1;
            let conn = &mut self.conns[slot as usize];
            match conn.stage {
                Stage::Open => {
                    conn.flags |= flag::LEAVING;
                    self.send_private(slot, |native, out, stamp| native.server_closing(out, stamp, 0, retry_max_ms));
                    drain.told.push((self.tick + ticks(LAST_ACKS_MS), slot));
                }
                Stage::Greeting | Stage::SigningIn | Stage::Echo => self.close(slot, CloseCode::Drain),
                // Its namespaces are told one by one; without any it has nobody to tell.
                Stage::Carrier => self.drain_carrier(slot),
                Stage::Free | Stage::Closing | Stage::Lingering | Stage::Closed => continue,
            }
            count += 1;
        }
    }

    /// Nobody is connected any more on any shard, or time is up.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            let is_over = self.tick >= drain.deadline;
            // Others may need this shard's rooms until their last command was answered, and its pids until their last client is gone.
            let is_everywhere = self.totals.drained_shards() >= u64::from(self.shards);
            is_over || (is_everywhere && self.is_empty() && !self.mesh.has_mail())
        })
    }
}
