//! The turn: collect what happened, act in bounded phases, send everything at once.
use super::Shard;
use crate::limits;
use crate::plane::{Completion, Plane};

/// Pieces of mail opened in one turn. More waits for the next, so that sockets are served in between.
const MAIL_BUDGET: usize = 2_048;

/// Flushes in one turn: closing a slow reader while flushing tells its rooms, which may publish, which is flushed.
const FLUSHES_MAX: usize = 8;

/// Readers of unsent frames from which on it pays to look for more.
const COMPANY_SENDS_MIN: usize = 1_000;

/// Looks for company before one flush: ends the wait under a clock that stands still.
const COMPANY_LOOKS_MAX: usize = 10_000;

/// What a send costs at least, ns (loopback, 150 bytes).
const SEND_NS: u64 = 2_500;

impl<P: Plane> Shard<P> {
    /// One turn. True if the next should follow without sleeping.
    pub fn turn(&mut self) -> bool {
        let started = self.core.plane.now();
        self.core.now = started;
        self.core.turns += 1;
        self.receive();
        let has_mail = self.open_mail(MAIL_BUDGET);
        self.tick();
        self.wait_for_company(started.mono_ns);
        self.core.deliveries.offers.renew();
        if self.core.fanout.dirty.is_empty() {
            self.core.fanout.end_wait(self.waited_since(), limits::PRESENCE_SENDS_PER_TICK / 2);
        }
        // Now, when what is to be sent is there and not out.
        self.core.actives_peak = self.core.actives_peak.max(self.core.actives.len());
        for _ in 0..FLUSHES_MAX {
            self.core.flush();
            if !self.core.has_unsettled() {
                break;
            }
            self.settle_rooms();
        }
        self.core.mesh.flush();
        self.core.plane.submit();
        let turn_ns = self.core.plane.now().mono_ns - started.mono_ns;
        self.core.histograms.turn.saturating_record(turn_ns);
        // A room that is half-way goes on at once, after a look at what has come meanwhile.
        self.core.counters.turns_half_way += u64::from(self.is_half_way());
        has_mail || self.core.has_unsettled() || self.is_half_way()
    }

    /// The last turn has offered frames to as many members as it may, and more wait for them.
    pub fn is_half_way(&self) -> bool {
        !self.core.fanout.dirty.is_empty() || self.core.fanout.has_waited(self.waited_since())
    }

    /// Presence that came in this tick or earlier has waited long enough.
    fn waited_since(&self) -> u32 {
        self.core.tick.saturating_sub((limits::PRESENCE_WAIT_MS / limits::TICK_MS) as u32)
    }

    /// Whether mail came since the last turn: looked at after announcing sleep.
    pub fn has_mail(&self) -> bool {
        self.core.mesh.has_mail()
    }

    /// `Stop` was received, or a drain is complete.
    pub fn is_stopped(&self) -> bool {
        self.core.is_stopped || self.core.is_drained()
    }

    fn receive(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.core.plane.collect(&mut completions);
        for completion in completions.drain(..) {
            match completion {
                Completion::Received { slot, mut buffer } => {
                    self.received(slot, &mut buffer);
                    self.core.plane.give_back(buffer);
                    self.settle_rooms();
                }
                Completion::Ended { slot, cause } => {
                    self.core.ended(slot, cause);
                    self.settle_rooms();
                }
                Completion::Writable { slot } => self.core.writable(slot),
                Completion::Released { slot } => self.core.released(slot),
            }
        }
        self.completions = completions;
        while let Some(slot) = self.core.engines.released.pop() {
            self.core.released(slot);
        }
    }

    /// Before a large broadcast, looks out for further ones that could travel in the same sends. It spends at most a hundredth of
    /// what the turn's sends will take, and saves a whole round of them for each message that comes in time.
    fn wait_for_company(&mut self, started_ns: u64) {
        let sends = self.core.fanout.unsent_frames().min(self.core.deliveries.offers.per_turn);
        if sends < COMPANY_SENDS_MIN {
            return;
        }
        let until_ns = started_ns + sends as u64 * SEND_NS / 100;
        for _ in 0..COMPANY_LOOKS_MAX {
            if self.core.plane.now().mono_ns >= until_ns {
                return;
            }
            self.receive();
        }
    }

    /// What is due by the clock, at most once per tick.
    fn tick(&mut self) {
        let tick = (self.core.now.mono_ms() / limits::TICK_MS) as u32;
        if tick == self.core.tick {
            return;
        }
        self.core.tick = tick;
        self.core.expire_connections();
        self.core.expire_sessions();
        self.core.retire_cooled();
        self.settle_rooms();
        let mut due = std::mem::take(&mut self.due);
        self.core.room_timers.expire(tick, |timer| due.push(timer));
        for timer in due.drain(..) {
            self.rooms.timer(timer, self.core.now, &mut self.core);
            self.settle_rooms();
        }
        self.due = due;
        self.core.users.sweep(self.core.now.mono_ns);
        self.core.drain_step();
        self.settle_rooms();
        if self.core.plane.tick() {
            self.trim();
        }
    }
}
