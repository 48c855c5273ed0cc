//! Joining and resuming: rights, an invitation that becomes membership, recovery, then snapshot and subscription.
//!
//! Live delivery starts at the snapshot's offset + 1 without gap or double (R-ROOM-4), because snapshot and `subscribe` leave in one
//! go, between two durable events.
use super::command::{Caller, Position, RoomGrant};
use super::effects::Effects;
use super::event::{Ack, Event, Snapshot};
use super::members::Change;
use super::online::Came;
use super::recovery::Recovery;
use super::room::{Cx, Room, overloaded, to};
use crate::base::refusal::{Code, Refusal};
use crate::base::user::{GlobalRole, UserRef};
use crate::ids::ConnRef;
use crate::limits::{HELD_JOINS_MAX, SNAPSHOT_ONLINE_MAX};
use crate::store::port::{Role, RoomType};

/// A join or one room of a resume.
pub(super) struct Joiner<'a> {
    pub caller: Caller<'a>,
    pub room_type: Option<RoomType>,
    pub grant: Option<RoomGrant>,
    pub recover: Option<Position<'a>>,
    pub is_resume: bool,
}

/// A joiner that waits for the store, not subscribed yet.
#[derive(Debug)]
pub(super) struct HeldJoin {
    pub conn: ConnRef,
    user: UserRef,
    role: GlobalRole,
    request: Box<str>,
    read_at_ns: u64,
    room_type: Option<RoomType>,
    grant: Option<RoomGrant>,
    recover: Option<(Box<str>, u64)>,
    is_resume: bool,
}

impl HeldJoin {
    pub fn new(joiner: &Joiner<'_>) -> HeldJoin {
        let Joiner { caller, room_type, grant, recover, is_resume } = *joiner;
        HeldJoin {
            conn: caller.conn,
            user: caller.user.clone(),
            role: caller.role,
            request: caller.request.into(),
            read_at_ns: caller.read_at_ns,
            room_type,
            grant,
            recover: recover.map(|position| (position.epoch.into(), position.offset)),
            is_resume,
        }
    }

    pub fn joiner(&self) -> Joiner<'_> {
        let HeldJoin { conn, user, role, request, read_at_ns, room_type, grant, recover, is_resume } = self;
        let recover = recover.as_ref().map(|(epoch, offset)| Position { epoch, offset: *offset });
        Joiner {
            caller: Caller { conn: *conn, user, role: *role, request, read_at_ns: *read_at_ns },
            room_type: *room_type,
            grant: *grant,
            recover,
            is_resume: *is_resume,
        }
    }
}

/// A resume is answered per room, by `resumed`, whatever goes wrong.
pub(super) fn deny<E: Effects>(cx: &mut Cx<'_, E>, joiner: &Joiner<'_>, refusal: Refusal) {
    if joiner.is_resume {
        cx.fx.resumed(to(&joiner.caller), cx.id, None);
    } else {
        cx.fx.refuse(to(&joiner.caller), refusal);
    }
}

impl Room {
    /// `is_filled`: the joiner was held for events from disk, and what there is has come.
    pub(super) fn join<E: Effects>(&mut self, cx: &mut Cx<'_, E>, joiner: &Joiner<'_>, is_filled: bool) {
        let caller = &joiner.caller;
        let is_type_wrong = joiner.room_type.is_some_and(|kind| kind != self.row.kind);
        if is_type_wrong || !self.may_join(caller, joiner.grant) {
            return deny(cx, joiner, Code::AccessDenied.into());
        }
        if self.becomes_member(joiner) {
            return self.accept(cx, joiner);
        }
        self.expire_rows(cx);
        let recovered = match self.recovery(cx, joiner.recover) {
            Recovery::NotAsked => None,
            Recovery::Complete => Some(true),
            Recovery::Impossible => Some(false),
            Recovery::OnDisk if is_filled => Some(false),
            Recovery::OnDisk => {
                if self.held.len() < HELD_JOINS_MAX && self.start_filling(cx).is_ok() {
                    self.held.push(HeldJoin::new(joiner));
                    return;
                }
                cx.fx.count("recoveries_overloaded");
                if !joiner.is_resume {
                    return deny(cx, joiner, overloaded());
                }
                Some(false)
            }
        };
        if let Some(recovered) = recovered {
            cx.fx.count(if recovered { "recovered" } else { "not_recovered" });
        }
        self.enter(cx, joiner, recovered);
    }

    /// An invitation and a room token become durable membership with the first join (R-ROOM-2): later joins and resumes need
    /// neither. A role above member that the token grants holds only as long as the user has sessions here.
    fn becomes_member(&self, joiner: &Joiner<'_>) -> bool {
        let stored = self.roles.get(joiner.caller.user.id());
        self.row.kind == RoomType::Private
            && (stored == Some(Role::Invited) || stored.is_none() && joiner.grant.is_some())
    }

    fn accept<E: Effects>(&mut self, cx: &mut Cx<'_, E>, joiner: &Joiner<'_>) {
        // A held join may find another change on its way.
        if self.change.is_some() {
            return deny(cx, joiner, Code::JoinFailed.into());
        }
        match self.write_member_added(cx, &joiner.caller, joiner.caller.user.id(), Role::Member) {
            Ok(()) => self.change = Some(Change::Accept(Some(HeldJoin::new(joiner)))),
            Err(refusal) => deny(cx, joiner, refusal),
        }
    }

    fn enter<E: Effects>(&mut self, cx: &mut Cx<'_, E>, joiner: &Joiner<'_>, recovered: Option<bool>) {
        let caller = &joiner.caller;
        let (place, came) = self.online.join(caller.user, caller.conn, cx.now_s());
        if self.row.kind == RoomType::Private {
            let entry = self.online.get_mut(place);
            entry.grant(entry.granted().max(joiner.grant.and_then(|grant| grant.role)));
        }
        let role = self.role(caller);
        if came == Came::Already {
            // What it has not been sent yet is in the snapshot, which would overtake it.
            cx.fx.unsubscribe(caller.conn, cx.id);
        }
        let snapshot = self.snapshot(cx, role, recovered, joiner.recover);
        if joiner.is_resume {
            cx.fx.resumed(to(caller), cx.id, Some(&snapshot));
        } else {
            cx.ack(to(caller), &Ack::Joined { role });
            cx.fx.send(caller.conn, cx.id, &Event::Snapshot(&snapshot));
        }
        cx.fx.subscribe(caller.conn, caller.user, cx.id);
        if came == Came::First {
            self.announce_joined(cx, place, caller.read_at_ns);
        }
    }

    fn snapshot<E: Effects>(
        &self,
        cx: &Cx<'_, E>,
        role: Option<Role>,
        recovered: Option<bool>,
        recover: Option<Position<'_>>,
    ) -> Snapshot<'_> {
        let (recent, events) = match (recovered, recover) {
            (Some(true), Some(position)) => (Vec::new(), self.window.after(position.offset).collect()),
            _ => (self.window.recent(), Vec::new()),
        };
        Snapshot {
            row: &self.row,
            recent,
            recovered,
            events,
            online: self.online.from(0).take(SNAPSHOT_ONLINE_MAX).map(|(_, entry)| entry.listed(cx.now)).collect(),
            online_count: self.online.len() as u64,
            role,
            offset: self.row.last_offset,
            timestamp_ms: cx.now.unix_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::base::refusal::Code;
    use crate::base::user::GlobalRole;
    use crate::rooms::Settings;
    use crate::rooms::command::{RoomCommand, RoomGrant};
    use crate::rooms::testing::{Heard, JOIN, LEAVE, World, message};
    use crate::store::port::{EventKind, Role, RoomType};

    fn join_as(kind: RoomType) -> RoomCommand<'static> {
        RoomCommand::Join { room_type: Some(kind), grant: None, recover: None }
    }

    fn join_by_token(role: Option<Role>) -> RoomCommand<'static> {
        RoomCommand::Join { room_type: None, grant: Some(RoomGrant { role }), recover: None }
    }

    #[test]
    fn an_unknown_name_becomes_a_public_room() {
        let mut world = World::new(Settings::default());
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        let heard = world.run(&anna, "lobby", JOIN);
        let [Heard::Joined(None), Heard::Snapshot(shown)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!((shown.offset, shown.online_count, shown.recovered), (0, 1, None));
        assert_eq!(world.run(&berta, "lobby", join_as(RoomType::Public)).len(), 2);
        assert_eq!(world.take(&anna).last(), Some(&Heard::Came("berta".into())));
        assert_eq!(world.fx.store.by_name("lobby").unwrap().row.kind, RoomType::Public);
    }

    /// R-ROOM-2, R-SEC-3: nothing tells a missing room from a hidden one.
    #[test]
    fn missing_and_hidden_rooms_answer_alike() {
        let mut world = World::new(Settings { auto_create: false, ..Settings::default() });
        world.furnished("hidden", RoomType::Private);
        let anna = world.client("anna");
        for command in [JOIN, join_as(RoomType::Public), join_as(RoomType::Private)] {
            for room in ["hidden", "missing", "room_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
                assert_eq!(world.run(&anna, room, command), [Heard::refused(Code::AccessDenied)], "{room}");
            }
        }
        world.advance(2_000);
        assert_eq!(world.rooms.row_count(), 0, "refused names leave nothing behind");
    }

    #[test]
    fn only_public_app_names_come_about_by_joining() {
        let mut world = World::new(Settings::default());
        let anna = world.client("anna");
        for (room, command) in [
            ("a", join_as(RoomType::Private)),
            ("b", join_as(RoomType::Direct)),
            ("room_01ARZ3NDEKTSV4RRFFQ69G5FAV", JOIN),
        ] {
            assert_eq!(world.answer(&anna, room, command), Heard::refused(Code::AccessDenied));
        }
        assert!(world.fx.store.rooms.is_empty());
    }

    #[test]
    fn the_stored_type_counts() {
        let mut world = World::new(Settings::default());
        world.furnished("open", RoomType::Public);
        let anna = world.client("anna");
        assert_eq!(world.answer(&anna, "open", join_as(RoomType::Private)), Heard::refused(Code::AccessDenied));
        assert_eq!(world.answer(&anna, "open", join_as(RoomType::Public)), Heard::Joined(None));
    }

    #[test]
    fn an_invitation_becomes_membership_with_the_join() {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", RoomType::Private);
        world.join(&owner, "club");
        let guest = world.client("guest");
        let shown = world.join(&guest, "club");
        assert_eq!((shown.role, shown.offset, shown.member_count), (Some(Role::Member), 1, 4));
        let heard = world.take(&owner);
        let [.., Heard::Durable { kind: EventKind::MemberAdded, user, text, .. }, Heard::Came(came)] = &heard[..]
        else {
            panic!("{heard:?}")
        };
        assert!(user == "guest" && came == "guest" && text.contains(r#""role":"member""#));
        assert_eq!(world.fx.store.by_name("club").unwrap().members["guest"], Role::Member);
    }

    #[test]
    fn a_room_token_makes_a_member_and_lends_its_role() {
        let mut world = World::new(Settings::default());
        world.furnished("club", RoomType::Private);
        let anna = world.client("anna");
        assert_eq!(
            world.answer(&anna, "club", join_by_token(Some(Role::Moderator))),
            Heard::Joined(Some(Role::Moderator))
        );
        assert_eq!(world.answer(&anna, "club", RoomCommand::Invite { user_id: "x" }), Heard::Done);
        assert_eq!(world.fx.store.by_name("club").unwrap().members["anna"], Role::Member);
        assert_eq!(world.answer(&anna, "club", LEAVE), Heard::Done);
        assert_eq!(world.join(&anna, "club").role, Some(Role::Member), "what the token lent is over");
        let berta = world.client("berta");
        assert_eq!(world.answer(&berta, "club", join_by_token(None)), Heard::Joined(Some(Role::Member)));
    }

    #[test]
    fn a_membership_that_cannot_be_stored_is_no_join() {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", RoomType::Private);
        world.join(&owner, "club");
        let guest = world.client("guest");
        world.fx.store.failures = 1;
        assert_eq!(world.run(&guest, "club", JOIN), [Heard::refused(Code::JoinFailed)]);
        assert_eq!(world.join(&guest, "club").online_count, 2);
    }

    #[test]
    fn direct_rooms_are_closed_to_others_whatever_their_role() {
        let mut world = World::new(Settings::default());
        world.furnished("pair", RoomType::Direct);
        let mut admin = world.client("admin");
        admin.role = GlobalRole::Admin;
        assert_eq!(world.answer(&admin, "pair", JOIN), Heard::refused(Code::AccessDenied));
        assert_eq!(world.answer(&admin, "pair", join_by_token(None)), Heard::refused(Code::AccessDenied));
        let member = world.client("member");
        assert_eq!(world.join(&member, "pair").role, Some(Role::Member));
    }

    #[test]
    fn a_second_join_gets_a_fresh_snapshot_and_nobody_is_told() {
        let mut world = World::new(Settings::default());
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        world.join(&anna, "lobby");
        world.join(&berta, "lobby");
        world.send(&anna, "lobby", "hello");
        world.forget();
        assert_eq!(world.join(&anna, "lobby").recent, [1]);
        assert_eq!(world.take(&berta), []);
    }

    /// R-ENV-4: what a client sends behind its join takes effect behind it.
    #[test]
    fn commands_behind_a_join_wait_for_it() {
        let mut world = World::new(Settings::default());
        let anna = world.client("anna");
        world.ask(&anna, "lobby", JOIN);
        world.ask(&anna, "lobby", message("first"));
        world.ask(&anna, "lobby", LEAVE);
        world.settle();
        let heard = world.take(&anna);
        assert!(matches!(
            heard[..],
            [Heard::Joined(_), Heard::Snapshot(_), Heard::Done, Heard::Sent { offset: 1, is_duplicate: false }]
        ));
    }

    #[test]
    fn a_joiner_who_is_gone_meanwhile_leaves_no_ghost() {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", RoomType::Private);
        world.join(&owner, "club");
        for (user, room) in [("guest", "club"), ("anna", "fresh")] {
            let client = world.client(user);
            world.ask(&client, room, JOIN);
            if room == "fresh" {
                world.apply(false);
                world.tell(false);
            }
            world.disconnect(&client, room, true);
            world.settle();
            assert_eq!(world.take(&client), []);
        }
        world.advance(60_000);
        let online = world.answer(&owner, "club", RoomCommand::OnlineUsers { cursor: None, limit: 9 });
        assert_eq!(online, Heard::OnlineUsers { users: vec!["owner".into()], next: None, count: 1 });
        assert_eq!(world.rooms.row_count(), 1);
    }

    #[test]
    fn an_ailing_store_refuses_joins_and_is_asked_again_later() {
        let mut world = World::new(Settings::default());
        let anna = world.client("anna");
        world.fx.store.failures = 1;
        assert_eq!(world.answer(&anna, "lobby", JOIN), Heard::refused(Code::JoinFailed));
        world.fx.is_full = true;
        world.advance(2_000);
        let Heard::Refused(refusal) = world.answer(&anna, "lobby", JOIN) else { panic!("not refused") };
        assert!(refusal.code == Code::Overloaded && refusal.retry_after_ms.is_some());
        world.fx.is_full = false;
        world.join(&anna, "lobby");
    }
}
