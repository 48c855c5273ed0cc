//! Recovery by position (R-REC-1): all that was missed, or plainly "not recovered"; never true with a gap.
//!
//! What is missing in memory is read once for all who wait: the read brings the window back to its full length, and each held
//! joiner is served from it together with what became durable meanwhile.
use super::command::Position;
use super::effects::Effects;
use super::join::{HeldJoin, deny};
use super::room::{Cx, Room};
use crate::base::refusal::{Code, Refusal};
use crate::ids::ConnRef;
use crate::store::port::{Outcome, Read};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    NotAsked,
    /// All that was missed is in memory.
    Complete,
    /// Another epoch, an offset in the future, or too much missed.
    Impossible,
    /// Not too much, but older than the window.
    OnDisk,
}

impl Room {
    pub(super) fn recovery<E: Effects>(&self, cx: &Cx<'_, E>, recover: Option<Position<'_>>) -> Recovery {
        let Some(Position { epoch, offset }) = recover else { return Recovery::NotAsked };
        match self.row.last_offset.checked_sub(offset) {
            _ if epoch != &*self.row.epoch => Recovery::Impossible,
            None => Recovery::Impossible,
            Some(missed) if missed > cx.settings.recovery_limit => Recovery::Impossible,
            Some(_) if self.window.covers_after(offset) => Recovery::Complete,
            Some(_) => Recovery::OnDisk,
        }
    }

    /// Reads everything that a recovery may ask for and that is not in memory, unless that is on its way. Whoever is held later
    /// asks for less: newest offset minus limit only grows.
    pub(super) fn start_filling<E: Effects>(&mut self, cx: &mut Cx<'_, E>) -> Result<(), Refusal> {
        if self.window.is_filling() {
            return Ok(());
        }
        let after = self.row.last_offset.saturating_sub(cx.settings.recovery_limit);
        let count = self.window.first().saturating_sub(after + 1);
        let limit = u32::try_from(count).unwrap_or(u32::MAX);
        cx.read(None, Read::Events { room: self.row.pk, after, limit })?;
        self.window.start_filling();
        Ok(())
    }

    /// The read is back.
    pub(super) fn filled<E: Effects>(&mut self, cx: &mut Cx<'_, E>, outcome: Outcome) {
        match outcome {
            Outcome::Page { rows, .. } => self.window.fill(rows),
            _ => cx.fx.count("recovery_reads_failed"),
        }
        for held in std::mem::take(&mut self.held) {
            self.join(cx, &held.joiner(), true);
        }
        self.window.end_filling();
        cx.retry();
    }

    /// A held joiner's connection is gone.
    pub(super) fn drop_held(&mut self, conn: ConnRef) {
        self.held.retain(|held| held.conn != conn);
        self.drop_accepting(conn);
    }

    /// The room is gone.
    pub(super) fn deny_held<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        for held in std::mem::take(&mut self.held) {
            deny(cx, &HeldJoin::joiner(&held), Code::AccessDenied.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::refusal::Code;
    use crate::rooms::Settings;
    use crate::rooms::command::{Position, RoomCommand};
    use crate::rooms::testing::{Client, Heard, JOIN, Shown, World, message, recover};

    /// A room with so many messages, loaded afresh, and a client who is not in it.
    fn prepared(messages: u64) -> (World, Client, Client) {
        let limits = crate::base::rate::Rate::OFF;
        let settings = Settings { recent: 5, recovery_limit: 20, messages: limits, ..Settings::default() };
        let mut world = World::new(settings);
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        world.join(&anna, "lobby");
        for _ in 0..messages {
            world.send(&anna, "lobby", "x");
        }
        world.disconnect(&anna, "lobby", false);
        world.advance(2_000);
        assert_eq!(world.rooms.row_count(), 0);
        world.join(&anna, "lobby");
        world.forget();
        (world, anna, berta)
    }

    fn joined(world: &mut World, client: &Client, offset: u64) -> Shown {
        let command = recover(world, "lobby", offset);
        match world.run(client, "lobby", command).pop() {
            Some(Heard::Snapshot(shown)) => shown,
            other => panic!("{other:?}"),
        }
    }

    /// R-REC-1, both sides of the limit: 20 missed are brought, 21 are not.
    #[test]
    fn all_that_was_missed_or_a_plain_no() {
        for (offset, expected) in [(30, Some(0)), (26, Some(4)), (24, Some(6)), (10, Some(20)), (9, None), (31, None)] {
            let (mut world, _, berta) = prepared(30);
            let shown = joined(&mut world, &berta, offset);
            assert_eq!(shown.offset, 30);
            match expected {
                Some(count) => {
                    assert_eq!(shown.recovered, Some(true), "from {offset}");
                    assert_eq!(shown.events, (offset + 1..=30).collect::<Vec<_>>());
                    assert_eq!((shown.events.len(), &shown.recent[..]), (count, &[][..]));
                }
                None => {
                    assert_eq!((shown.recovered, &shown.events[..]), (Some(false), &[][..]), "from {offset}");
                    assert_eq!(shown.recent, [26, 27, 28, 29, 30]);
                }
            }
        }
    }

    #[test]
    fn another_epoch_is_never_recovered() {
        let (mut world, _, berta) = prepared(3);
        let recover = Some(Position { epoch: "other", offset: 3 });
        let heard = world.run(&berta, "lobby", RoomCommand::Join { room_type: None, grant: None, recover });
        assert!(matches!(&heard[1], Heard::Snapshot(Shown { recovered: Some(false), .. })));
    }

    /// R-REC-1: all retained, or not recovered.
    #[test]
    fn what_is_not_retained_is_not_recovered() {
        let (mut world, _, berta) = prepared(30);
        world.fx.store.by_name("lobby").unwrap().rows.retain(|row| row.offset > 15);
        assert_eq!(joined(&mut world, &berta, 14).recovered, Some(false));
        let carla = world.client("carla");
        assert_eq!(joined(&mut world, &carla, 15).events, (16..=30).collect::<Vec<_>>());
    }

    #[test]
    fn a_held_joiner_gets_what_comes_meanwhile_once() {
        let (mut world, anna, berta) = prepared(30);
        let command = recover(&mut world, "lobby", 12);
        world.ask(&berta, "lobby", command);
        world.ask(&berta, "lobby", message("behind the join"));
        world.apply(false);
        for _ in 0..3 {
            world.ask(&anna, "lobby", message("meanwhile"));
            world.apply(true);
        }
        world.tell(true);
        world.tell(true);
        assert_eq!(world.take(&berta), [], "held");
        world.tell(false);
        world.settle();
        let heard = world.take(&berta);
        let Heard::Snapshot(shown) = &heard[1] else { panic!("{heard:?}") };
        assert_eq!((shown.recovered, &shown.events), (Some(true), &(13..=32).collect::<Vec<_>>()));
        let rest = heard[2..].iter().filter_map(|heard| match heard {
            Heard::Durable { offset, .. } => Some(*offset),
            _ => None,
        });
        assert_eq!(rest.collect::<Vec<_>>(), [33, 34]);
    }

    #[test]
    fn many_who_wait_share_one_read() {
        let (mut world, _, _) = prepared(30);
        let clients: Vec<_> = (0..10).map(|n| world.client(&format!("u{n}"))).collect();
        for (n, client) in clients.iter().enumerate() {
            let command = recover(&mut world, "lobby", 20 - n as u64);
            world.ask(client, "lobby", command);
        }
        assert_eq!(world.fx.reads.len(), 1);
        world.settle();
        for client in &clients {
            let heard = world.take(client);
            assert!(matches!(&heard[1], Heard::Snapshot(Shown { recovered: Some(true), .. })), "{heard:?}");
        }
    }

    #[test]
    fn a_failed_read_is_not_recovered_and_a_full_queue_says_so() {
        let (mut world, _, berta) = prepared(30);
        world.fx.store.failures = 1;
        assert_eq!(joined(&mut world, &berta, 12).recovered, Some(false));
        let (mut world, _, berta) = prepared(30);
        world.fx.is_full = true;
        let command = recover(&mut world, "lobby", 12);
        let Heard::Refused(refusal) = world.answer(&berta, "lobby", command) else { panic!("not refused") };
        assert_eq!(refusal.code, Code::Overloaded);
    }

    /// R-REC-2.
    #[test]
    fn a_resume_is_answered_by_room_and_checks_rights_anew() {
        let (mut world, anna, berta) = prepared(30);
        let epoch = world.fx.store.by_name("lobby").unwrap().row.epoch.to_string().leak();
        let resume = |offset| RoomCommand::Resume { recover: Position { epoch, offset } };
        let Heard::Resumed(Some(shown)) = world.answer(&berta, "lobby", resume(28)) else { panic!("not resumed") };
        assert_eq!((shown.recovered, &shown.events[..]), (Some(true), &[29, 30][..]));
        assert_eq!(world.take(&anna), [Heard::Came("berta".into())]);
        assert_eq!(world.answer(&berta, "missing", resume(1)), Heard::Resumed(None));
        world.furnished("club", crate::store::port::RoomType::Private);
        assert_eq!(world.answer(&berta, "club", resume(1)), Heard::Resumed(None));
    }

    #[test]
    fn a_held_joiner_who_disconnects_is_dropped() {
        let (mut world, anna, berta) = prepared(30);
        let command = recover(&mut world, "lobby", 12);
        world.ask(&berta, "lobby", command);
        world.disconnect(&berta, "lobby", true);
        world.settle();
        assert_eq!((world.take(&berta), world.take(&anna)), (vec![], vec![]));
        assert_eq!(world.answer(&anna, "lobby", JOIN), Heard::Joined(None));
    }
}
