//! What a client message costs (R-CHAT-5, R-LIVE-1): a token of its limit, given back if it is refused, and one of the
//! connection's flood bucket, whatever becomes of it.
//!
//! Messages and live events have limits of their own, so they draw from the flood bucket only when they are refused; the refusal may
//! come from another shard, and then says so (`Mail::Frame`). A refusal by the store, after the command was executed, keeps its token.
use super::Core;
use crate::base::close::CloseCode;
use crate::base::rate::Rate;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::User;
use crate::ids::ConnRef;
use crate::plane::{Plane, Slot};
use crate::rooms::command::RoomCommand;
use crate::rooms::effects::{Effects, Requester};
use crate::session::command::Command;
use hashbrown::HashTable;

/// The limit that a command falls under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// `limits.messages`, per user: the domain takes the token and gives it back.
    Messages,
    /// `limits.live`, per connection.
    Live,
    /// `limits.commands`, per user.
    #[default]
    Commands,
}

impl Budget {
    pub fn of(command: &Command<'_>) -> Budget {
        match command {
            Command::Room { command: RoomCommand::Send { .. }, .. } => Budget::Messages,
            Command::Room { command: RoomCommand::Broadcast { .. }, .. } => Budget::Live,
            _ => Budget::Commands,
        }
    }
}

/// The command that is being executed, if any.
#[derive(Default)]
pub struct Charge {
    /// Its limit; `Commands` while there is none.
    budget: Budget,
    is_refused: bool,
}

impl Charge {
    pub fn begin(&mut self, budget: Budget) {
        *self = Charge { budget, is_refused: false };
    }

    /// To be called for every refusal. True if it draws from the flood bucket of whom it is for.
    pub fn refused(&mut self) -> bool {
        self.is_refused = true;
        self.budget != Budget::Commands
    }

    /// Ends the command; whether it was refused.
    pub fn end(&mut self) -> bool {
        std::mem::take(self).is_refused
    }
}

/// The flood buckets that are not full, by slot. Not in the side records: those are much larger, and all that spoke within one tick
/// would keep theirs.
#[derive(Default)]
pub struct Floods {
    /// Slot and TAT.
    table: HashTable<(Slot, u64)>,
}

impl Floods {
    /// Places that are kept when no bucket is in use, 16 bytes each.
    const KEPT: usize = 1_024;

    fn hash(slot: Slot) -> u64 {
        // Slots are small numbers in a row: spread over the upper bits, which the table looks at first.
        u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Takes a token; false if there is none.
    fn take(&mut self, slot: Slot, rate: Rate, now_ns: u64) -> bool {
        let is_slot = |(other, _): &(Slot, u64)| *other == slot;
        let mut entry = self.table.entry(Self::hash(slot), is_slot, |(slot, _)| Self::hash(*slot)).or_insert((slot, 0));
        let taken = rate.take(entry.get().1, now_ns);
        if let Ok(tat_ns) = taken {
            entry.get_mut().1 = tat_ns;
        }
        taken.is_ok()
    }

    /// The slot is another connection's from now on.
    pub fn forget(&mut self, slot: Slot) {
        if let Ok(entry) = self.table.find_entry(Self::hash(slot), |(other, _)| *other == slot) {
            entry.remove();
        }
    }

    /// One tick: full buckets need no place.
    pub fn sweep(&mut self, now_ns: u64) {
        self.table.retain(|(_, tat_ns)| *tat_ns > now_ns);
        if self.table.is_empty() && self.table.capacity() > Self::KEPT {
            self.table = HashTable::new();
        }
    }
}

impl<P: Plane> Core<P> {
    /// One more message of a connection. False if it was one too many: the connection is closed then.
    pub(super) fn admit(&mut self, slot: Slot) -> bool {
        let flood = self.settings.flood;
        let is_admitted = flood.is_off() || self.floods.take(slot, flood, self.now.mono_ns);
        if !is_admitted {
            self.close(slot, CloseCode::Flood);
        }
        is_admitted
    }

    /// Takes the command's token, or says in how many nanoseconds there will be one.
    pub(super) fn take_token(&mut self, slot: Slot, user: &User, budget: Budget) -> Result<(), u64> {
        let now_ns = self.now.mono_ns;
        match budget {
            Budget::Messages => Ok(()),
            Budget::Live if self.settings.live.is_off() => Ok(()),
            Budget::Live => {
                let rate = self.settings.live;
                self.cool(slot);
                let active = self.active(slot);
                active.live_tat_ns = rate.take(active.live_tat_ns, now_ns)?;
                Ok(())
            }
            Budget::Commands => user.commands.take(self.settings.commands, now_ns),
        }
    }

    /// A refused command costs no token, save a live event that was refused on another shard than its connection's.
    pub(super) fn give_back(&mut self, conn: ConnRef, user: &User, budget: Budget) {
        match budget {
            Budget::Messages => {}
            Budget::Commands => user.commands.give_back(self.settings.commands),
            Budget::Live => {
                if let Some(slot) = self.live(conn) {
                    let rate = self.settings.live;
                    let active = self.active(slot);
                    active.live_tat_ns = rate.give_back(active.live_tat_ns);
                }
            }
        }
    }

    /// Refuses a command that could not be executed at all.
    pub(super) fn refuse_unexecuted(&mut self, to: Requester<'_>, user: &User, budget: Budget, refusal: Refusal) {
        self.charge.begin(budget);
        self.refuse(to, refusal);
        self.charge.end();
        self.give_back(to.conn, user, budget);
    }

    /// A command over its rate.
    pub(super) fn refuse_rate(&mut self, slot: Slot, request: &str, wait_ns: u64) {
        self.counters.rate_limited += 1;
        self.refuse_here(slot, request, Refusal::after_ns(Code::RateLimited, wait_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::super::conn::NONE;
    use super::super::post::tests::{open, shard_in};
    use super::*;
    use crate::plane::{Faults, SimNet};

    fn text(json: &str) -> Vec<u8> {
        // Masked with zeros.
        [&[0x81, 0x80 | json.len() as u8, 0, 0, 0, 0], json.as_bytes()].concat()
    }

    /// A bucket needs its place while it fills, and not a moment longer: nothing else may come by.
    #[test]
    fn a_quiet_connection_keeps_no_bucket() {
        let net = SimNet::new(1, Faults::NONE);
        let (mut shard, _sent) = shard_in(&net);
        let (slot, client) = open(&mut shard, &net);
        shard.turn();
        for json in
            [r#"{"id":"1","type":"activity"}"#, r#"{"id":"2","type":"heartbeat"}"#, r#"{"id":"3","type":"what"}"#]
        {
            assert!(net.client_write(client, &text(json)));
            shard.turn();
            assert_eq!(shard.core.floods.table.len(), 1, "remembered at once: {json}");
            for _ in 0..3 {
                net.advance(100);
                shard.turn();
            }
            assert_eq!((shard.core.conns[slot as usize].active, shard.core.actives.len()), (NONE, 0), "{json}");
            assert!(shard.core.floods.table.is_empty());
        }
        // A live event's bucket is in the side record, which nothing else may come to look at.
        let user = User::new("anna", None);
        assert!(shard.core.take_token(slot, &user, Budget::Live).is_ok());
        assert_ne!(shard.core.conns[slot as usize].active, NONE);
        net.advance(100);
        shard.turn();
        assert_eq!((shard.core.conns[slot as usize].active, shard.core.cooling.len()), (NONE, 0));
    }

    /// R-CHAT-5: the bucket holds ten times `limits.commands`.
    #[test]
    fn a_slot_used_again_has_a_full_bucket() {
        let net = SimNet::new(1, Faults::NONE);
        let (mut shard, _sent) = shard_in(&net);
        let (slot, _) = open(&mut shard, &net);
        assert_eq!((0..2_000).filter(|_| shard.core.admit(slot)).count(), 1_000);
        shard.core.finish(slot);
        while shard.core.open > 0 {
            shard.turn();
        }
        let (again, _) = open(&mut shard, &net);
        assert_eq!(again, slot);
        assert_eq!((0..500).filter(|_| shard.core.admit(slot)).count(), 500);
        net.advance(5_000);
        shard.turn();
        assert!(shard.core.floods.table.is_empty());
    }

    #[test]
    fn a_crowds_memory_is_given_back() {
        let (mut floods, rate) = (Floods::default(), Rate::per(1_000, 10_000));
        assert!((0..50_000).all(|slot| floods.take(slot, rate, 1)));
        floods.sweep(2);
        assert_eq!(floods.table.len(), 50_000);
        floods.sweep(1 << 40);
        assert_eq!((floods.table.len(), floods.table.capacity()), (0, 0));
    }
}
