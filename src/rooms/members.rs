//! Members and their roles (R-ROOM-3): durable, one change at a time, each told to the room by a durable event.
//!
//! `data` of the events: `member_added {userId, role, addedBy, timestamp}` (role `invited`, then `member` when the invitation is taken
//! up), `member_removed {userId, removedBy, timestamp}`, `role_changed {userId, role, changedBy, timestamp}`.
use super::command::Caller;
use super::effects::Effects;
use super::event::Ack;
use super::join::{HeldJoin, deny};
use super::room::{Cx, Room, to, waiting};
use crate::base::refusal::{Code, Refusal};
use crate::ids::{ConnRef, is_user_id};
use crate::limits::ROLES_MAX;
use crate::store::port::{EventKind, EventRow, Outcome, Role, RoomType, SetMember, Waiter, Write};
use serde_json::json;

/// The structural write on its way; the store's job carries its data.
#[derive(Debug)]
pub(super) enum Change {
    Invite,
    /// A join makes its user a member first. None: the joiner is gone.
    Accept(Option<HeldJoin>),
    Remove,
    SetRole,
    /// `leave_room` with `permanent`, of this session.
    Leave(ConnRef),
    Update,
    Delete,
}

impl Room {
    pub(super) fn invite<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        user_id: &str,
    ) -> Result<(), Refusal> {
        self.require(caller, Role::Moderator)?;
        check_user_id(user_id)?;
        // Everyone may join a public room, and a direct room is for two.
        if self.row.kind != RoomType::Private {
            return Err(Code::Forbidden.into());
        }
        if self.roles.get(user_id).is_some() {
            cx.ack(to(caller), &Ack::Done);
            return Ok(());
        }
        self.write_member_added(cx, caller, user_id, Role::Invited)?;
        self.change = Some(Change::Invite);
        Ok(())
    }

    /// Nobody acts on an equal or higher role.
    pub(super) fn remove_member<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        user_id: &str,
    ) -> Result<(), Refusal> {
        let role = self.require(caller, Role::Moderator)?;
        check_user_id(user_id)?;
        if self.target_role(user_id)? >= Some(role) || self.row.kind == RoomType::Direct {
            return Err(Code::Forbidden.into());
        }
        let mut event = self.event(cx, caller, EventKind::MemberRemoved);
        event.detail = detail(json!({ "userId": user_id, "removedBy": caller.user.id(), "timestamp": event.at_ms }));
        self.write_member(cx, caller, user_id, None, Some(event))?;
        self.change = Some(Change::Remove);
        Ok(())
    }

    /// Owners only; on oneself too, but the last owner stays one.
    pub(super) fn set_role<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        user_id: &str,
        role: Role,
    ) -> Result<(), Refusal> {
        let actor = self.require(caller, Role::Owner)?;
        check_user_id(user_id)?;
        if role == Role::Invited {
            return Err(Refusal::field("role"));
        }
        let target = self.target_role(user_id)?;
        let is_allowed = user_id == caller.user.id() || target < Some(actor);
        if !is_allowed || role < Role::Owner && self.roles.is_last_owner(user_id) {
            return Err(Code::Forbidden.into());
        }
        // A room token may lend more than is stored.
        if self.roles.get(user_id) == Some(role) && target == Some(role) {
            cx.ack(to(caller), &Ack::Done);
            return Ok(());
        }
        if self.roles.get(user_id) == Some(Role::Invited) {
            return Err(Code::NotFound.into());
        }
        let mut event = self.event(cx, caller, EventKind::RoleChanged);
        event.detail = detail(json!({
            "userId": user_id, "role": role.as_str(), "changedBy": caller.user.id(), "timestamp": event.at_ms
        }));
        self.write_member(cx, caller, user_id, Some(role), Some(event))?;
        self.change = Some(Change::SetRole);
        Ok(())
    }

    /// `leave_room` with `permanent`: true if a write is on its way, after which the leave goes on.
    pub(super) fn leave_membership<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
    ) -> Result<bool, Refusal> {
        let user_id = caller.user.id();
        // A direct room is its two users: without one of them it could be neither joined nor made again.
        if self.row.kind == RoomType::Direct || self.roles.is_last_owner(user_id) {
            return Err(Code::Forbidden.into());
        }
        let event = match (self.row.kind, self.roles.get(user_id)) {
            (RoomType::Public, _) => None,
            // Here by a server-wide role alone.
            (_, None) => return Ok(false),
            _ => {
                let mut event = self.event(cx, caller, EventKind::MemberRemoved);
                let data = json!({ "userId": user_id, "removedBy": user_id, "timestamp": event.at_ms });
                event.detail = detail(data);
                Some(event)
            }
        };
        self.write_member(cx, caller, user_id, None, event)?;
        self.change = Some(Change::Leave(caller.conn));
        Ok(true)
    }

    pub(super) fn write_member_added<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        user_id: &str,
        role: Role,
    ) -> Result<(), Refusal> {
        let mut event = self.event(cx, caller, EventKind::MemberAdded);
        event.detail = detail(json!({
            "userId": user_id, "role": role.as_str(), "addedBy": caller.user.id(), "timestamp": event.at_ms
        }));
        self.write_member(cx, caller, user_id, Some(role), Some(event))
    }

    fn write_member<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        user_id: &str,
        role: Option<Role>,
        event: Option<EventRow>,
    ) -> Result<(), Refusal> {
        if role.is_some() && self.roles.get(user_id).is_none() && self.roles.len() >= ROLES_MAX {
            return Err(Code::LimitReached.into());
        }
        cx.write(caller, Write::SetMember(SetMember { room: self.row.pk, user_id: user_id.into(), role, event }))
    }

    /// The change is on disk, or failed.
    pub(super) fn member_changed<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        waiter: &Waiter,
        set: SetMember,
        outcome: Outcome,
    ) {
        let change = self.change.take();
        let Outcome::Changed { offset, member_count } = outcome else {
            return self.change_failed(cx, waiter, change);
        };
        self.row.member_count = member_count;
        self.roles.set(&set.user_id, set.role);
        if let Some(place) = self.online.find(&set.user_id) {
            let entry = self.online.get_mut(place);
            entry.grant(None);
            entry.set_member(set.role >= Some(Role::Member));
        }
        let left = match change {
            Some(Change::Leave(conn)) => self.online.subscribed(&set.user_id, conn).map(|place| (place, conn)),
            _ => None,
        };
        if let Some((_, conn)) = left {
            cx.fx.unsubscribe(conn, cx.id);
        }
        if let (Some(asker), false) = (waiting(waiter), matches!(change, Some(Change::Accept(_)))) {
            cx.ack(asker, &Ack::Done);
        }
        match change {
            Some(Change::Remove) => {
                self.deny_held_of(cx, &set.user_id);
                self.close_user(cx, &set.user_id, "removed");
            }
            Some(Change::Leave(_)) => self.left_for_good(cx, &set.user_id, left),
            _ => {}
        }
        if let Some(event) = set.event {
            self.record(cx, event, offset, waiter.read_at_ns);
        }
        if let Some(Change::Accept(Some(held))) = change {
            self.join(cx, &held.joiner(), false);
        }
    }

    /// The session, which is unsubscribed, leaves; in a private room the user's other sessions lose their right too.
    fn left_for_good<E: Effects>(&mut self, cx: &mut Cx<'_, E>, user_id: &str, left: Option<(u32, ConnRef)>) {
        if let Some((place, conn)) = left {
            self.end_session(cx, place, conn, false);
        }
        if self.row.kind != RoomType::Public {
            self.deny_held_of(cx, user_id);
            self.close_user(cx, user_id, "left");
        }
    }

    /// Nothing is changed.
    pub(super) fn change_failed<E: Effects>(&mut self, cx: &mut Cx<'_, E>, waiter: &Waiter, change: Option<Change>) {
        match change {
            Some(Change::Accept(Some(held))) => deny(cx, &held.joiner(), Code::JoinFailed.into()),
            Some(Change::Accept(None)) => {}
            _ => {
                if let Some(asker) = waiting(waiter) {
                    cx.fx.refuse(asker, Code::Internal.into());
                }
            }
        }
    }

    pub(super) fn drop_accepting(&mut self, conn: ConnRef) {
        if let Some(Change::Accept(held)) = &mut self.change {
            held.take_if(|held| held.conn == conn);
        }
    }

    fn deny_held_of<E: Effects>(&mut self, cx: &mut Cx<'_, E>, user_id: &str) {
        for held in self.held.extract_if(.., |held| held.joiner().caller.user.id() == user_id) {
            deny(cx, &held.joiner(), Code::AccessDenied.into());
        }
    }

    /// The role of someone who is acted on. In a public room an ordinary member need not be known here.
    fn target_role(&self, user_id: &str) -> Result<Option<Role>, Refusal> {
        let granted = self.online.find(user_id).and_then(|place| self.online.get(place).granted());
        let role = self.stored_role(user_id).max(granted);
        if role.is_none() && self.row.kind != RoomType::Public {
            return Err(Code::NotFound.into());
        }
        Ok(role)
    }
}

fn check_user_id(user_id: &str) -> Result<(), Refusal> {
    if is_user_id(user_id) { Ok(()) } else { Err(Refusal::field("userId")) }
}

pub(super) fn detail(data: serde_json::Value) -> Option<Box<str>> {
    Some(data.to_string().into())
}

#[cfg(test)]
mod tests {
    use crate::base::refusal::Code;
    use crate::base::user::GlobalRole;
    use crate::rooms::Settings;
    use crate::rooms::command::{Position, RoomCommand, RoomGrant};
    use crate::rooms::testing::{Client, Heard, JOIN, World, message};
    use crate::store::port::{EventKind, Role, RoomType};

    const LEAVE_FOR_GOOD: RoomCommand<'static> = RoomCommand::Leave { permanent: true };

    fn remove(user_id: &'static str) -> RoomCommand<'static> {
        RoomCommand::Remove { user_id }
    }

    fn set_role(user_id: &'static str, role: Role) -> RoomCommand<'static> {
        RoomCommand::SetRole { user_id, role }
    }

    fn prepared(kind: RoomType) -> (World, Client, Client, Client) {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", kind);
        let (moderator, member) = (world.client("mod"), world.client("member"));
        world.join_all(&[&owner, &moderator, &member], "club");
        world.forget();
        (world, owner, moderator, member)
    }

    fn told(heard: &[Heard]) -> Vec<EventKind> {
        let kinds = heard.iter().filter_map(|heard| match heard {
            Heard::Durable { kind, .. } => Some(*kind),
            _ => None,
        });
        kinds.collect()
    }

    #[test]
    fn an_invited_user_may_join() {
        let (mut world, owner, moderator, _) = prepared(RoomType::Private);
        let anna = world.client("anna");
        assert_eq!(world.answer(&anna, "club", JOIN), Heard::refused(Code::AccessDenied));
        assert_eq!(world.answer(&moderator, "club", RoomCommand::Invite { user_id: "anna" }), Heard::Done);
        assert_eq!(told(&world.take(&owner)), [EventKind::MemberAdded]);
        assert_eq!(world.answer(&moderator, "club", RoomCommand::Invite { user_id: "anna" }), Heard::Done);
        assert_eq!(told(&world.take(&owner)), [], "once is enough");
        assert_eq!(world.join(&anna, "club").role, Some(Role::Member));
    }

    /// R-ROOM-3: unsubscribed at once, on all devices.
    #[test]
    fn a_removed_user_hears_nothing_more() {
        let (mut world, owner, moderator, member) = prepared(RoomType::Private);
        let tablet = world.client("member");
        world.join(&tablet, "club");
        world.forget();
        assert_eq!(world.answer(&moderator, "club", remove("member")), Heard::Done);
        world.send(&owner, "club", "without you");
        for client in [&member, &tablet] {
            assert_eq!(world.take(client), [Heard::Closed("removed".into())]);
        }
        let heard = world.take(&owner);
        assert_eq!(heard[0], Heard::Went("member".into()));
        assert_eq!(told(&heard), [EventKind::MemberRemoved, EventKind::Message]);
        assert_eq!(world.send(&member, "club", "x"), Heard::refused(Code::NotInRoom));
        assert_eq!(world.answer(&member, "club", JOIN), Heard::refused(Code::AccessDenied));
    }

    #[test]
    fn nobody_acts_on_an_equal_or_higher_role() {
        for kind in [RoomType::Public, RoomType::Private] {
            let (mut world, owner, moderator, _) = prepared(kind);
            world.fx.store.by_name("club").unwrap().members.insert("mod2".into(), Role::Moderator);
            let (mut staff, mut admin) = (world.client("staff"), world.client("admin"));
            (staff.role, admin.role) = (GlobalRole::Moderator, GlobalRole::Admin);
            for (client, target) in
                [(&moderator, "mod"), (&moderator, "owner"), (&owner, "owner"), (&staff, "mod"), (&admin, "owner")]
            {
                let answer = world.answer(client, "club", remove(target));
                assert_eq!(answer, Heard::refused(Code::Forbidden), "{target}");
            }
            assert_eq!(world.answer(&admin, "club", set_role("owner", Role::Member)), Heard::refused(Code::Forbidden));
            assert_eq!(world.answer(&staff, "club", remove("member")), Heard::Done);
            assert_eq!(world.answer(&owner, "club", remove("mod")), Heard::Done);
        }
    }

    #[test]
    fn the_last_owner_stays() {
        let (mut world, owner, ..) = prepared(RoomType::Private);
        for command in [LEAVE_FOR_GOOD, set_role("owner", Role::Member)] {
            assert_eq!(world.answer(&owner, "club", command), Heard::refused(Code::Forbidden));
        }
        assert_eq!(world.answer(&owner, "club", set_role("mod", Role::Owner)), Heard::Done);
        assert_eq!(world.answer(&owner, "club", set_role("mod", Role::Member)), Heard::refused(Code::Forbidden));
        assert_eq!(world.answer(&owner, "club", set_role("owner", Role::Member)), Heard::Done);
        assert_eq!(world.answer(&owner, "club", LEAVE_FOR_GOOD), Heard::Done);
        let members = &world.fx.store.by_name("club").unwrap().members;
        assert_eq!((members.get("owner"), members["mod"]), (None, Role::Owner));
    }

    #[test]
    fn leaving_for_good_ends_a_private_membership_for_all_devices() {
        let (mut world, owner, _, member) = prepared(RoomType::Private);
        let tablet = world.client("member");
        world.join(&tablet, "club");
        world.forget();
        world.fx.store.failures = 1;
        assert_eq!(world.answer(&member, "club", LEAVE_FOR_GOOD), Heard::refused(Code::Internal));
        assert!(matches!(world.send(&member, "club", "still here"), Heard::Sent { .. }));
        world.forget();
        assert_eq!(world.run(&member, "club", LEAVE_FOR_GOOD), [Heard::Done]);
        assert_eq!(world.take(&tablet), [Heard::Closed("left".into())]);
        let heard = world.take(&owner);
        assert_eq!((&heard[0], told(&heard)), (&Heard::Went("member".into()), vec![EventKind::MemberRemoved]));
        assert_eq!(world.answer(&member, "club", JOIN), Heard::refused(Code::AccessDenied));
    }

    #[test]
    fn leaving_a_public_room_for_good_is_not_told() {
        let (mut world, owner, _, member) = prepared(RoomType::Public);
        let tablet = world.client("member");
        world.join(&tablet, "club");
        world.forget();
        assert_eq!(world.answer(&member, "club", LEAVE_FOR_GOOD), Heard::Done);
        assert_eq!(world.take(&owner), []);
        assert!(!world.fx.store.by_name("club").unwrap().members.contains_key("member"));
        assert!(matches!(world.send(&tablet, "club", "back"), Heard::Sent { .. }));
        assert!(world.fx.store.by_name("club").unwrap().members.contains_key("member"));
    }

    #[test]
    fn direct_rooms_keep_their_two() {
        let (mut world, owner, _, member) = {
            let mut world = World::new(Settings::default());
            let owner = world.furnished("pair", RoomType::Direct);
            let member = world.client("member");
            world.join_all(&[&owner, &member], "pair");
            (world, owner, (), member)
        };
        for command in [
            remove("member"),
            set_role("member", Role::Owner),
            RoomCommand::Invite { user_id: "x" },
            LEAVE_FOR_GOOD,
            RoomCommand::Delete,
        ] {
            assert_eq!(world.answer(&owner, "pair", command), Heard::refused(Code::Forbidden), "{command:?}");
        }
        assert!(matches!(world.send(&member, "pair", "x"), Heard::Sent { .. }));
    }

    /// R-ENV-4: what comes behind a change sees it done.
    #[test]
    fn commands_wait_for_a_change() {
        let (mut world, owner, _, member) = prepared(RoomType::Private);
        world.ask(&owner, "club", remove("member"));
        world.ask(&member, "club", message("too late"));
        world.ask(&owner, "club", RoomCommand::Presence { user_ids: &["member"] });
        assert_eq!((world.take(&owner), world.take(&member)), (vec![], vec![]));
        world.settle();
        assert_eq!(world.take(&member), [Heard::Closed("removed".into()), Heard::refused(Code::NotInRoom)]);
        assert_eq!(world.take(&owner).last(), Some(&Heard::Presence(vec![])));
    }

    #[test]
    fn a_held_joiner_who_is_removed_does_not_come_in() {
        let settings = Settings { recent: 1, recovery_limit: 50, ..Settings::default() };
        let mut world = World::new(settings);
        let owner = world.furnished("club", RoomType::Private);
        let member = world.client("member");
        world.join(&owner, "club");
        (0..5).for_each(|_| drop(world.send(&owner, "club", "x")));
        world.disconnect(&owner, "club", false);
        world.advance(2_000);
        world.join(&owner, "club");
        world.forget();
        let epoch = world.fx.store.by_name("club").unwrap().row.epoch.to_string().leak();
        world.ask(&member, "club", RoomCommand::Resume { recover: Position { epoch, offset: 1 } });
        world.ask(&owner, "club", remove("member"));
        world.apply(true);
        world.tell(true);
        assert_eq!(world.take(&member), [Heard::Resumed(None)]);
        world.settle();
        assert_eq!((world.take(&member), world.waiting_count()), (vec![], 0));
    }

    #[test]
    fn a_set_role_ends_what_a_token_lent() {
        let (mut world, owner, ..) = prepared(RoomType::Private);
        let anna = world.client("anna");
        let grant = Some(RoomGrant { role: Some(Role::Moderator) });
        world.answer(&anna, "club", RoomCommand::Join { room_type: None, grant, recover: None });
        assert_eq!(world.answer(&owner, "club", set_role("anna", Role::Member)), Heard::Done);
        assert_eq!(world.answer(&anna, "club", remove("member")), Heard::refused(Code::Forbidden));
    }
}
