//! What a client message costs (R-CHAT-5, R-LIVE-1): a token of its limit, given back if it is refused, and one of the
//! connection's flood bucket, whatever becomes of it.
//!
//! Messages and live events have limits of their own, so they draw from the flood bucket only when they are refused; the refusal may
//! come from another shard, and then says so (`Mail::Frame`). A refusal by the store, after the command was executed, keeps its token.
use super::Core;
use crate::base::close::CloseCode;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::User;
use crate::ids::ConnRef;
use crate::plane::{Plane, Slot};
use crate::rooms::command::RoomCommand;
use crate::rooms::effects::{Effects, Requester};
use crate::session::command::Command;

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
            Command::Room {
                command: RoomCommand::Broadcast { .. } | RoomCommand::Ask { .. } | RoomCommand::Answer { .. },
                ..
            }
            | Command::Answer { .. } => Budget::Live,
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

impl<P: Plane> Core<P> {
    /// One more message of a connection. False if it was one too many: the connection is closed then.
    ///
    /// The bucket is a level in the connection's record that falls with time (`spoke`): a side record kept for a bucket that is not
    /// quite full would cost every connection that sends a heartbeat now and then.
    pub(super) fn admit(&mut self, slot: Slot) -> bool {
        let flood = self.settings.flood;
        let conn = &mut self.conns[slot as usize];
        conn.flood = conn.flood.saturating_add(1);
        let is_flood = flood.level_max != 0 && conn.flood > flood.level_max;
        if is_flood {
            self.close(slot, CloseCode::Flood);
        }
        !is_flood
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
    fn a_quiet_connection_keeps_no_side_record() {
        let net = SimNet::new(1, Faults::NONE);
        let (mut shard, _sent) = shard_in(&net);
        let (slot, client) = open(&mut shard, &net);
        shard.turn();
        for json in
            [r#"{"id":"1","type":"activity"}"#, r#"{"id":"2","type":"heartbeat"}"#, r#"{"id":"3","type":"what"}"#]
        {
            assert!(net.client_write(client, &text(json)));
            shard.turn();
            assert_eq!((shard.core.conns[slot as usize].active, shard.core.actives.len()), (NONE, 0), "{json}");
        }
        let user = User::new("anna", None);
        assert!(shard.core.take_token(slot, &user, Budget::Live).is_ok());
        assert!(net.client_write(client, &text("{")));
        shard.turn();
        for (seconds, is_kept) in [(1, true), (58, true), (2, false)] {
            net.advance(seconds * 1_000);
            shard.turn();
            assert_eq!(shard.core.conns[slot as usize].active != NONE, is_kept, "after {seconds} s");
        }
        assert!(shard.core.cooling.is_empty());
    }

    /// R-CHAT-5: ten times `limits.commands`.
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
        assert_eq!((0..1_000).filter(|_| shard.core.admit(slot)).count(), 1_000);
    }
}
