//! The domain's timers: a wheel over a slab of what to call. They are never cancelled, only looked at when due.
use super::liveness::ticks;
use super::wheel::Wheel;
use crate::rooms::effects::RoomTimer;
use slab::Slab;

pub struct RoomTimers {
    wheel: Wheel,
    /// With the tick at which each is due.
    timers: Slab<(u32, RoomTimer)>,
    expired: Vec<u32>,
}

impl RoomTimers {
    pub fn new() -> RoomTimers {
        // 256 ticks: grace and typing, the usual ones, are shorter than one turn of the ring.
        RoomTimers { wheel: Wheel::new(256, 0), timers: Slab::new(), expired: Vec::new() }
    }

    /// Timers that have not come.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// `at_ms` is monotonic.
    pub fn set(&mut self, at_ms: u64, timer: RoomTimer) {
        let at = ticks(at_ms);
        let key = self.timers.insert((at, timer)) as u32;
        self.wheel.set(key, at);
    }

    /// Takes what is due at this tick.
    pub fn expire(&mut self, tick: u32, mut due: impl FnMut(RoomTimer)) {
        self.wheel.expire(tick, &mut self.expired);
        for key in self.expired.drain(..) {
            match self.timers[key as usize] {
                // It was further away than a turn of the ring.
                (at, _) if at > tick => self.wheel.set(key, at),
                _ => due(self.timers.remove(key as usize).1),
            }
        }
    }
}
