//! `update_room` and `delete_room` (R-ROOM-3), for owners.
//!
//! `data` of `room_updated`: `{name?, description?, slowModeSeconds?, updatedBy, timestamp}`, with what was changed.
use super::command::Caller;
use super::effects::Effects;
use super::event::{Ack, Event};
use super::members::{Change, detail};
use super::room::{Cx, Room, to, waiting};
use super::slow_mode::SlowMode;
use crate::base::refusal::Refusal;
use crate::limits::{ROOM_DESCRIPTION_CHARS_MAX, ROOM_NAME_CHARS_MAX, SLOW_MODE_S_MAX};
use crate::store::port::{EventKind, Outcome, Role, UpdateRoom, Waiter, Write};
use serde_json::json;

impl Room {
    pub(super) fn update<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        name: Option<&str>,
        description: Option<&str>,
        slow_mode_s: Option<u32>,
    ) -> Result<(), Refusal> {
        self.require(caller, Role::Owner)?;
        name.map_or(Ok(()), check_name)?;
        description.map_or(Ok(()), check_description)?;
        if slow_mode_s.is_some_and(|seconds| seconds > SLOW_MODE_S_MAX) {
            return Err(Refusal::field("slowModeSeconds"));
        }
        if name.is_none() && description.is_none() && slow_mode_s.is_none() {
            cx.ack(to(caller), &Ack::Room(&self.row));
            return Ok(());
        }
        let mut event = self.event(cx, caller, EventKind::RoomUpdated);
        let mut data = json!({ "updatedBy": caller.user.id(), "timestamp": event.at_ms });
        if let Some(name) = name {
            data["name"] = name.into();
        }
        if let Some(description) = description {
            data["description"] = description.into();
        }
        if let Some(slow_mode_s) = slow_mode_s {
            data["slowModeSeconds"] = slow_mode_s.into();
        }
        event.detail = detail(data);
        let (name, description) = (name.map(Into::into), description.map(Into::into));
        let update = UpdateRoom { room: self.row.pk, name, description, slow_mode_s, event };
        cx.write(caller, Write::UpdateRoom(update))?;
        self.change = Some(Change::Update);
        Ok(())
    }

    pub(super) fn updated<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        waiter: &Waiter,
        update: UpdateRoom,
        outcome: Outcome,
    ) {
        let change = self.change.take();
        let Outcome::Changed { offset, member_count } = outcome else {
            return self.change_failed(cx, waiter, change);
        };
        self.row.member_count = member_count;
        self.row.name = update.name.unwrap_or(std::mem::take(&mut self.row.name));
        self.row.description = update.description.unwrap_or(std::mem::take(&mut self.row.description));
        if let Some(slow_mode_s) = update.slow_mode_s {
            self.row.slow_mode_s = slow_mode_s;
            self.slow_mode = SlowMode::new(slow_mode_s, self.slow_mode.take(), &self.window, cx.now);
        }
        if let Some(asker) = waiting(waiter) {
            cx.ack(asker, &Ack::Room(&self.row));
        }
        self.record(cx, update.event, offset, waiter.read_at_ns);
    }

    pub(super) fn delete<E: Effects>(&mut self, cx: &mut Cx<'_, E>, caller: &Caller<'_>) -> Result<(), Refusal> {
        self.require(caller, Role::Owner)?;
        cx.write(caller, Write::DeleteRoom(self.row.pk))?;
        self.change = Some(Change::Delete);
        Ok(())
    }

    /// True if the room is gone: everyone was told, and it is to be forgotten.
    pub(super) fn deleted<E: Effects>(&mut self, cx: &mut Cx<'_, E>, waiter: &Waiter, outcome: Outcome) -> bool {
        let change = self.change.take();
        // Gone already is as good.
        if !matches!(outcome, Outcome::Deleted | Outcome::NoRoom) {
            self.change_failed(cx, waiter, change);
            return false;
        }
        if let Some(asker) = waiting(waiter) {
            cx.ack(asker, &Ack::Done);
        }
        self.deny_held(cx);
        self.end_asks(cx);
        for (place, _) in self.online.from(0) {
            for conn in self.online.sessions(place as u32) {
                cx.fx.unsubscribe(conn, cx.id);
                cx.fx.send(conn, cx.id, &Event::Closed { reason: "deleted" });
            }
        }
        true
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let is_valid = !name.trim().is_empty() && name.chars().count() <= ROOM_NAME_CHARS_MAX;
    if is_valid { Ok(()) } else { Err(Refusal::field("name")) }
}

pub(super) fn check_description(description: &str) -> Result<(), Refusal> {
    let is_valid = description.chars().count() <= ROOM_DESCRIPTION_CHARS_MAX;
    if is_valid { Ok(()) } else { Err(Refusal::field("description")) }
}

#[cfg(test)]
mod tests {
    use crate::base::refusal::{Code, Refusal};
    use crate::rooms::Settings;
    use crate::rooms::command::RoomCommand;
    use crate::rooms::testing::{Heard, JOIN, World, message};
    use crate::store::port::{EventKind, HistoryFrom, RoomType};

    fn update(name: Option<&'static str>, slow_mode_s: Option<u32>) -> RoomCommand<'static> {
        RoomCommand::Update { name, description: None, slow_mode_s }
    }

    #[test]
    fn an_update_is_told_and_kept() {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", RoomType::Private);
        let member = world.client("member");
        world.join_all(&[&owner, &member], "club");
        world.forget();
        assert_eq!(
            world.answer(&owner, "club", update(Some("New \"name\""), Some(21_600))),
            Heard::Room("club".into())
        );
        let heard = world.take(&member);
        let [Heard::Durable { offset: 1, kind: EventKind::RoomUpdated, text, .. }] = &heard[..] else {
            panic!("{heard:?}")
        };
        let data: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!((&data["name"], &data["slowModeSeconds"]), (&"New \"name\"".into(), &21_600.into()));
        assert_eq!((&data["updatedBy"], data.get("description")), (&"owner".into(), None));
        let row = &world.fx.store.by_name("club").unwrap().row;
        assert_eq!((&*row.name, row.slow_mode_s), ("New \"name\"", 21_600));
    }

    #[test]
    fn fields_are_checked_in_pairs() {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", RoomType::Private);
        for (command, field) in [
            (update(Some("x".repeat(100).leak()), None), None),
            (update(Some("x".repeat(101).leak()), None), Some("name")),
            (update(Some(" "), None), Some("name")),
            (update(None, Some(21_601)), Some("slowModeSeconds")),
        ] {
            let expected = field.map_or(Heard::Room("club".into()), |field| Heard::Refused(Refusal::field(field)));
            assert_eq!(world.answer(&owner, "club", command), expected);
        }
        world.fx.store.failures = 1;
        world.join(&owner, "club");
        world.fx.store.failures = 1;
        assert_eq!(world.answer(&owner, "club", update(Some("y"), None)), Heard::refused(Code::Internal));
        assert_eq!(world.answer(&owner, "club", update(None, None)), Heard::Room("club".into()));
    }

    #[test]
    fn a_deleted_room_is_gone_for_all_and_its_name_is_free() {
        let mut world = World::new(Settings { recovery_limit: 0, recent: 0, ..Settings::default() });
        let owner = world.furnished("club", RoomType::Public);
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        world.join_all(&[&owner, &anna], "club");
        world.send(&owner, "club", "x");
        world.forget();
        world.ask(&anna, "club", RoomCommand::History { from: HistoryFrom::End, limit: 5 });
        world.ask(&owner, "club", RoomCommand::Delete);
        world.ask(&berta, "club", JOIN);
        world.apply(true);
        world.tell(true);
        let closed = Heard::Closed("deleted".into());
        assert_eq!(world.take(&owner), [Heard::Done, closed.clone()]);
        assert_eq!((world.take(&anna), world.take(&berta)), (vec![closed], vec![]));
        // The read of the old room comes back before the name lives again.
        world.settle();
        assert_eq!(world.take(&anna), [Heard::refused(Code::NotInRoom)]);
        assert_eq!(world.take(&berta).len(), 2);
        assert_eq!(world.send(&anna, "club", "x"), Heard::refused(Code::NotInRoom));
        assert_eq!(world.answer(&berta, "club", message("first")), Heard::Sent { offset: 1, is_duplicate: false });
    }
}
