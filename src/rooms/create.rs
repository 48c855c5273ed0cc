//! Making rooms (R-ROOM-1) and those that come about by joining (R-ROOM-2).
use super::command::Caller;
use super::effects::Effects;
use super::event::Ack;
use super::join::{HeldJoin, Joiner, deny};
use super::manage::{check_description, check_name};
use super::room::{Cx, Room, to, waiting};
use super::slot::State;
use crate::base::refusal::{Code, Refusal};
use crate::ids::{ConnRef, Ulid, is_app_room_name, is_user_id};
use crate::store::port::{CreateRoom, Outcome, Role, RoomRow, RoomType, Waiter, Write};

/// A room on its way into being.
#[derive(Debug)]
pub(super) enum Creation {
    /// By `create_room`.
    Asked,
    /// By a join, which goes on then. None: the joiner is gone.
    Joined(Option<Box<HeldJoin>>),
}

/// `create_room` as it came.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub name: &'a str,
    pub description: &'a str,
    pub kind: RoomType,
    pub recipient_id: Option<&'a str>,
}

impl State {
    /// The store says whether the id is free, so nothing is loaded first.
    pub(super) fn create<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        plan: Plan<'_>,
    ) -> Result<(), Refusal> {
        let creator = caller.user.id();
        check_description(plan.description)?;
        let (members, pair) = match plan.kind {
            RoomType::Direct => {
                if !plan.name.is_empty() {
                    check_name(plan.name)?;
                }
                let recipient = check_recipient(creator, plan.recipient_id)?;
                let members = vec![(creator.into(), Role::Member), (recipient.into(), Role::Member)];
                (members, Some((creator.into(), recipient.into())))
            }
            _ => {
                check_name(plan.name)?;
                (vec![(creator.into(), Role::Owner)], None)
            }
        };
        let rate = cx.settings.rooms_created;
        caller
            .user
            .rooms_created
            .take(rate, cx.now.mono_ns)
            .map_err(|wait_ns| Refusal::after_ns(Code::RateLimited, wait_ns))?;
        let row = new_row(cx, plan.kind, plan.name, plan.description);
        cx.write(caller, Write::CreateRoom(CreateRoom { row, members, pair }))
            .inspect_err(|_| caller.user.rooms_created.give_back(rate))?;
        *self = State::Creating(Creation::Asked);
        Ok(())
    }

    /// A join of a missing room. False if no room comes about by joining it.
    pub(super) fn create_by_join<E: Effects>(&mut self, cx: &mut Cx<'_, E>, joiner: &Joiner<'_>) -> bool {
        let is_public = joiner.room_type.is_none_or(|kind| kind == RoomType::Public);
        if !cx.settings.auto_create || !is_public || joiner.is_resume || !is_app_room_name(cx.id) {
            return false;
        }
        let name = cx.id.clone();
        let row = new_row(cx, RoomType::Public, &name, "");
        match cx.write(&joiner.caller, Write::CreateRoom(CreateRoom { row, members: Vec::new(), pair: None })) {
            Ok(()) => *self = State::Creating(Creation::Joined(Some(Box::new(HeldJoin::new(joiner))))),
            Err(refusal) => deny(cx, joiner, refusal),
        }
        true
    }

    /// The creation is on disk, or failed.
    pub(super) fn created<E: Effects>(&mut self, cx: &mut Cx<'_, E>, waiter: &Waiter, outcome: Outcome) {
        let State::Creating(creation) = std::mem::replace(self, State::Empty) else { return };
        match creation {
            Creation::Asked => self.created_as_asked(cx, waiter, outcome),
            Creation::Joined(held) => match outcome {
                Outcome::Created { image, .. } if *image.row.id == **cx.id => {
                    cx.fx.count("rooms_created");
                    let mut room = Box::new(Room::new(*image, cx.now, cx.settings));
                    if let Some(held) = held {
                        room.join(cx, &held.joiner(), false);
                    }
                    *self = State::Ready(room);
                }
                _ => {
                    if let Some(held) = held {
                        deny(cx, &held.joiner(), Code::JoinFailed.into());
                    }
                }
            },
        }
        cx.retry();
    }

    fn created_as_asked<E: Effects>(&mut self, cx: &mut Cx<'_, E>, waiter: &Waiter, outcome: Outcome) {
        let Some(asker) = waiting(waiter) else { return };
        let is_made = matches!(outcome, Outcome::Created { is_new: true, .. });
        if let (Some(user), false) = (&waiter.user, is_made) {
            user.rooms_created.give_back(cx.settings.rooms_created);
        }
        match outcome {
            Outcome::Created { image, .. } => {
                cx.fx.ack(asker, &image.row.id, &Ack::Room(&image.row));
                // A pair's room that existed already has another id, and another home.
                if *image.row.id == **cx.id {
                    *self = State::Ready(Box::new(Room::new(*image, cx.now, cx.settings)));
                }
                if is_made {
                    cx.fx.count("rooms_created");
                }
            }
            Outcome::Conflict => cx.fx.refuse(asker, Code::Conflict.into()),
            _ => cx.fx.refuse(asker, Code::Internal.into()),
        }
    }

    /// The joiner for whom a room is being made is gone. The room is made all the same.
    pub(super) fn drop_creator(&mut self, conn: ConnRef) {
        if let State::Creating(Creation::Joined(held)) = self {
            held.take_if(|held| held.conn == conn);
        }
    }
}

impl Room {
    /// `create_room` with the id of a room that is there: taken, unless it is the pair's own direct room.
    pub(super) fn create_again<E: Effects>(
        &self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        kind: RoomType,
        recipient_id: Option<&str>,
    ) -> Result<(), Refusal> {
        if kind == RoomType::Direct {
            let recipient = check_recipient(caller.user.id(), recipient_id)?;
            let is_pair = [caller.user.id(), recipient].iter().all(|user| self.roles.get(user).is_some());
            if self.row.kind == RoomType::Direct && is_pair {
                cx.ack(to(caller), &Ack::Room(&self.row));
                return Ok(());
            }
        }
        Err(Code::Conflict.into())
    }
}

fn check_recipient<'a>(creator: &str, recipient_id: Option<&'a str>) -> Result<&'a str, Refusal> {
    recipient_id.filter(|id| is_user_id(id) && *id != creator).ok_or(Refusal::field("recipientId"))
}

fn new_row<E: Effects>(cx: &mut Cx<'_, E>, kind: RoomType, name: &str, description: &str) -> RoomRow {
    // The random part of an id: no two lives of a room share an epoch.
    let mut text = [0; Ulid::TEXT_BYTES];
    let epoch = &cx.fx.new_id().text(&mut text)[Ulid::TEXT_BYTES - 16..];
    RoomRow {
        pk: 0,
        id: (**cx.id).into(),
        kind,
        name: name.into(),
        description: description.into(),
        created_at_ms: cx.now.unix_ms,
        slow_mode_s: 0,
        epoch: epoch.into(),
        last_offset: 0,
        member_count: 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::base::rate::Rate;
    use crate::base::refusal::{Code, Refusal};
    use crate::rooms::Settings;
    use crate::rooms::command::RoomCommand;
    use crate::rooms::testing::{Heard, JOIN, World};
    use crate::store::port::{Role, RoomType};

    fn create(name: &'static str, kind: RoomType, recipient_id: Option<&'static str>) -> RoomCommand<'static> {
        RoomCommand::Create { name, description: "", kind, recipient_id }
    }

    fn made(room: &str) -> Heard {
        Heard::Room(room.into())
    }

    #[test]
    fn the_creator_is_owner() {
        let mut world = World::new(Settings::default());
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        assert_eq!(world.answer(&anna, "club", create("Club", RoomType::Private, None)), made("club"));
        assert_eq!(world.join(&anna, "club").role, Some(Role::Owner));
        assert_eq!(
            world.answer(&berta, "club", create("Club", RoomType::Public, None)),
            Heard::refused(Code::Conflict)
        );
        world.disconnect(&anna, "club", false);
        world.advance(2_000);
        assert_eq!(
            world.answer(&berta, "club", create("Club", RoomType::Public, None)),
            Heard::refused(Code::Conflict)
        );
        assert_eq!(world.answer(&berta, "club", JOIN), Heard::refused(Code::AccessDenied));
    }

    #[test]
    fn one_direct_room_per_pair() {
        let mut world = World::new(Settings::default());
        let (anna, berta, carla) = (world.client("anna"), world.client("berta"), world.client("carla"));
        assert_eq!(world.answer(&anna, "d1", create("", RoomType::Direct, Some("berta"))), made("d1"));
        assert_eq!(world.answer(&berta, "d2", create("", RoomType::Direct, Some("anna"))), made("d1"));
        assert_eq!(world.answer(&berta, "d1", create("", RoomType::Direct, Some("anna"))), made("d1"));
        let other = world.answer(&carla, "d1", create("", RoomType::Direct, Some("anna")));
        assert_eq!(other, Heard::refused(Code::Conflict));
        assert_eq!(world.fx.store.rooms.len(), 1);
        world.advance(2_000);
        assert_eq!(world.rooms.row_count(), 0, "no row under the unused id");
        for recipient in [None, Some("anna"), Some("")] {
            let answer = world.answer(&anna, "d3", create("", RoomType::Direct, recipient));
            assert_eq!(answer, Heard::Refused(Refusal::field("recipientId")));
        }
    }

    #[test]
    fn fields_are_checked() {
        let mut world = World::new(Settings::default());
        let anna = world.client("anna");
        let name = |count| &*"ü".repeat(count).leak();
        assert_eq!(world.answer(&anna, "a", create(name(100), RoomType::Public, None)), made("a"));
        for bad in [name(101), ""] {
            let answer = world.answer(&anna, "b", create(bad, RoomType::Public, None));
            assert_eq!(answer, Heard::Refused(Refusal::field("name")));
        }
        let described = |count| RoomCommand::Create {
            name: "x",
            description: name(count),
            kind: RoomType::Public,
            recipient_id: None,
        };
        assert_eq!(world.answer(&anna, "c", described(501)), Heard::Refused(Refusal::field("description")));
        assert_eq!(world.answer(&anna, "c", described(500)), made("c"));
    }

    /// R-ROOM-1: what made no room costs nothing.
    #[test]
    fn creations_are_limited() {
        let mut world = World::new(Settings { rooms_created: Rate::per(2, 3_600_000), ..Settings::default() });
        let anna = world.client("anna");
        let public = create("x", RoomType::Public, None);
        assert_eq!(world.answer(&anna, "a", public), made("a"));
        assert_eq!(world.answer(&anna, "a", public), Heard::refused(Code::Conflict));
        world.advance(2_000);
        assert_eq!(world.answer(&anna, "a", public), Heard::refused(Code::Conflict));
        world.fx.store.failures = 1;
        assert_eq!(world.answer(&anna, "b", public), Heard::refused(Code::Internal));
        world.fx.is_full = true;
        assert!(matches!(world.answer(&anna, "b", public), Heard::Refused(Refusal { code: Code::Overloaded, .. })));
        world.fx.is_full = false;
        assert_eq!(world.answer(&anna, "b", public), made("b"));
        let Heard::Refused(refusal) = world.answer(&anna, "c", public) else { panic!("not refused") };
        assert!(refusal.code == Code::RateLimited && refusal.retry_after_ms.is_some());
    }
}
