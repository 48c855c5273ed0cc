//! After a busy time: lists that are kept for their allocation give back what only the rush needed.
//!
//! The plane says when (`Plane::tick`). Lists that hold what is under way are not emptied, only made to fit; the usual turn's worth
//! stays, so that the next one allocates nothing.
use super::conn::{Active, NONE};
use super::conns::Conns;
use super::{Core, Shard};
use crate::plane::Plane;
use slab::Slab;

/// Entries that a list keeps room for: what a usual turn takes. Of most lists that is some ten KiB, of side records 200.
const KEPT: usize = 1_024;

impl<P: Plane> Shard<P> {
    /// Gives back what was kept from a busy time that is over. Milliseconds after a spike, microseconds otherwise.
    pub(super) fn trim(&mut self) {
        self.completions.shrink_to(KEPT);
        self.due.shrink_to(KEPT);
        self.parked.trim();
        self.core.trim();
        self.core.plane.release_memory();
    }
}

impl<P: Plane> Core<P> {
    fn trim(&mut self) {
        self.expired.shrink_to(KEPT);
        self.mail.shrink_to(KEPT);
        self.room_mail.shrink_to(KEPT);
        self.cooling.shrink_to(KEPT);
        self.retries.shrink_to(KEPT);
        self.parking.shrink_to(KEPT);
        self.departures.shrink_to(KEPT);
        self.admitted.shrink_to(KEPT);
        self.deliveries.trim(KEPT);
        self.fanout.trim(KEPT);
        self.engines.trim(KEPT);
        self.buffers.trim();
        self.mesh.trim(KEPT);
        let peak = std::mem::replace(&mut self.actives_peak, self.actives.len());
        if self.actives.capacity() > KEPT && peak < self.actives.capacity() / 4 {
            compact(&mut self.actives, &mut self.conns);
        }
    }
}

/// Moves side records to the front and gives the rest back. Looks at all connections for whose they are.
fn compact(actives: &mut Slab<Active>, conns: &mut Conns) {
    let mut owners = vec![NONE; actives.capacity()];
    let mut owned = 0;
    for slot in (0..conns.len()).map(|position| conns.slot_at(position)) {
        let active = conns[slot as usize].active;
        if active != NONE {
            owners[active as usize] = slot;
            owned += 1;
        }
    }
    // One without a connection would be lost sight of; there is none, and a record too many is not worth a panic.
    debug_assert!(owned == actives.len());
    if owned == actives.len() {
        actives.compact(|_, from, to| {
            conns[owners[from] as usize].active = to as u32;
            owners[to] = owners[from];
            true
        });
        actives.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn side_records_move_together_and_stay_with_their_connections() {
        let mut actives = Slab::new();
        let mut conns = Conns::new(1_000);
        conns.reach(999);
        for slot in 0..1_000 {
            conns[slot].active = actives.insert(Active { invalid: slot as u32, ..Active::default() }) as u32;
        }
        for slot in (0..1_000).filter(|slot| slot % 100 != 99) {
            actives.remove(std::mem::replace(&mut conns[slot].active, NONE) as usize);
        }
        compact(&mut actives, &mut conns);
        assert!(actives.len() == 10 && actives.capacity() < 20, "{}", actives.capacity());
        for slot in (99..1_000).step_by(100) {
            assert_eq!(actives[conns[slot].active as usize].invalid, slot as u32);
        }
    }
}
