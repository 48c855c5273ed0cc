//! Pages of a room's messages (R-CHAT-6): from memory if the window answers the whole request, else from disk.
use super::command::Caller;
use super::effects::Effects;
use super::event::Ack;
use super::room::{Cx, Room, to, waiting};
use crate::base::refusal::{Code, Refusal};
use crate::limits::HISTORY_PAGE_MAX;
use crate::store::port::{HistoryFrom, Outcome, Read, Waiter};

impl Room {
    pub(super) fn history<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        from: HistoryFrom,
        limit: u32,
    ) -> Result<(), Refusal> {
        self.subscribed(caller)?;
        self.expire_rows(cx);
        let limit = limit.clamp(1, HISTORY_PAGE_MAX);
        match self.window.page(from, limit as usize) {
            Some((rows, has_more)) => {
                cx.ack(to(caller), &Ack::History { epoch: &self.row.epoch, rows: &rows, has_more });
                Ok(())
            }
            None => cx.read(Some(caller), Read::History { room: self.row.pk, from, limit }),
        }
    }

    pub(super) fn history_read<E: Effects>(&self, cx: &mut Cx<'_, E>, waiter: &Waiter, outcome: Outcome) {
        let Some(asker) = waiting(waiter) else { return };
        let Outcome::Page { mut rows, has_more } = outcome else {
            return cx.fx.refuse(asker, Code::Internal.into());
        };
        // A reader may see what is committed but not yet told to the room; events and history agree (R-CHAT-4).
        rows.retain(|row| row.offset <= self.row.last_offset);
        cx.ack(asker, &Ack::History { epoch: &self.row.epoch, rows: &rows, has_more });
    }
}

#[cfg(test)]
mod tests {
    use crate::base::rate::Rate;
    use crate::base::refusal::Code;
    use crate::rooms::Settings;
    use crate::rooms::command::RoomCommand;
    use crate::rooms::testing::{Client, Heard, World, message};
    use crate::store::port::HistoryFrom;

    fn ask(from: HistoryFrom, limit: u32) -> RoomCommand<'static> {
        RoomCommand::History { from, limit }
    }

    fn page(offsets: impl Iterator<Item = u64>, has_more: bool) -> Heard {
        Heard::History { offsets: offsets.collect(), has_more }
    }

    /// Thirty messages, of which the newest five are in memory.
    fn prepared() -> (World, Client) {
        let settings = Settings { recent: 5, recovery_limit: 5, messages: Rate::OFF, ..Settings::default() };
        let mut world = World::new(settings);
        let anna = world.client("anna");
        world.join(&anna, "lobby");
        for _ in 0..30 {
            world.send(&anna, "lobby", "x");
        }
        (world, anna)
    }

    #[test]
    fn pages_from_memory_and_from_disk() {
        let (mut world, anna) = prepared();
        for (from, limit, expected, reads) in [
            (HistoryFrom::End, 3, page(28..=30, true), 0),
            (HistoryFrom::After(26), 10, page(27..=30, false), 0),
            (HistoryFrom::After(25), 3, page(26..=28, true), 0),
            (HistoryFrom::End, 5, page(26..=30, true), 1),
            (HistoryFrom::Before(10), 4, page(6..=9, true), 1),
            (HistoryFrom::Before(4), 4, page(1..=3, false), 1),
            (HistoryFrom::After(0), 4, page(1..=4, true), 1),
            (HistoryFrom::End, 1_000, page(1..=30, false), 1),
        ] {
            world.ask(&anna, "lobby", ask(from, limit));
            assert_eq!(world.fx.reads.len(), reads, "{from:?} {limit}");
            world.settle();
            assert_eq!(world.take(&anna).last(), Some(&expected));
        }
    }

    #[test]
    fn only_for_subscribers() {
        let (mut world, anna) = prepared();
        let stranger = world.client("stranger");
        assert_eq!(world.answer(&stranger, "lobby", ask(HistoryFrom::End, 5)), Heard::refused(Code::NotInRoom));
        world.fx.store.failures = 1;
        assert_eq!(world.answer(&anna, "lobby", ask(HistoryFrom::After(0), 5)), Heard::refused(Code::Internal));
        world.fx.is_full = true;
        let answer = world.answer(&anna, "lobby", ask(HistoryFrom::After(0), 5));
        assert!(matches!(answer, Heard::Refused(refusal) if refusal.code == Code::Overloaded));
    }

    /// A reader sees what is committed before the room is told.
    #[test]
    fn shows_nothing_that_is_not_told_yet() {
        let (mut world, anna) = prepared();
        world.forget();
        world.ask(&anna, "lobby", message("new"));
        world.apply(true);
        world.ask(&anna, "lobby", ask(HistoryFrom::After(20), 100));
        world.apply(false);
        world.tell(false);
        assert_eq!(world.take(&anna), [page(21..=30, false)]);
        world.settle();
        assert_eq!(world.take(&anna).len(), 2);
    }

    #[test]
    fn what_is_past_retention_is_not_shown() {
        let settings = Settings { retention_ms: 60_000, ..Settings::default() };
        let mut world = World::new(settings);
        let anna = world.client("anna");
        world.join(&anna, "lobby");
        world.send(&anna, "lobby", "old");
        world.advance(60_001);
        world.send(&anna, "lobby", "new");
        assert_eq!(world.join(&anna, "lobby").recent, [2]);
        assert_eq!(world.answer(&anna, "lobby", ask(HistoryFrom::End, 5)), page(2..=2, false));
    }
}
