//! Coming and going (R-PRES-1, 2), status and the list of who is here (R-PRES-4).
use super::command::Caller;
use super::effects::{Class, Effects};
use super::event::{Ack, Event, OnlineUser, Status};
use super::online::Online;
use super::room::{Cx, Room, to};
use crate::base::clock::Now;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::User;
use crate::ids::ConnRef;
use crate::limits::{IDLE_AFTER_S, PRESENCE_QUERY_MAX, SNAPSHOT_ONLINE_MAX};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

impl Online {
    /// As others see the user.
    pub(super) fn listed(&self, now: Now) -> OnlineUser<'_> {
        let last_s = self.user.last_active_s.load(Relaxed);
        let is_idle = now.unix_ms / 1_000 >= u64::from(last_s) + u64::from(IDLE_AFTER_S);
        let status = if is_idle { Status::Idle } else { Status::Online };
        OnlineUser { user: &self.user, status, last_activity_ms: u64::from(last_s) * 1_000 }
    }
}

impl Room {
    /// R-ROOM-5.
    pub(super) fn leave<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        is_permanent: bool,
    ) -> Result<(), Refusal> {
        let place = self.online.subscribed(caller.user.id(), caller.conn).ok_or(Code::NotInRoom)?;
        if is_permanent && self.leave_membership(cx, caller)? {
            return Ok(());
        }
        // In this order: what was published before and not sent yet would else come behind the ack.
        cx.fx.unsubscribe(caller.conn, cx.id);
        cx.ack(to(caller), &Ack::Done);
        self.end_session(cx, place, caller.conn, false);
        Ok(())
    }

    /// A connection is gone, whether it was subscribed or held. `is_abnormal`: the user may come back within the grace.
    pub(super) fn disconnected<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        conn: ConnRef,
        user: &User,
        is_abnormal: bool,
    ) {
        self.drop_held(conn);
        if let Some(place) = self.online.subscribed(user.id(), conn) {
            self.drop_asks_of(cx, conn);
            self.end_session(cx, place, conn, is_abnormal && cx.settings.leave_grace_ms > 0);
        }
    }

    /// One session is to go, while its connection stays.
    pub(super) fn evict<E: Effects>(&mut self, cx: &mut Cx<'_, E>, conn: ConnRef, user: &User, reason: &str) {
        if let Some(place) = self.online.subscribed(user.id(), conn) {
            cx.fx.unsubscribe(conn, cx.id);
            cx.fx.send(conn, cx.id, &Event::Closed { reason });
            self.end_session(cx, place, conn, false);
        }
    }

    /// A session is no longer subscribed.
    pub(super) fn end_session<E: Effects>(&mut self, cx: &mut Cx<'_, E>, place: u32, conn: ConnRef, has_grace: bool) {
        let is_last = self.online.part(place, conn);
        self.stop_typing_of(cx, place, conn);
        self.part_asks(cx, conn);
        if !is_last {
            return;
        }
        if has_grace {
            let until_ms = cx.now_ms() + cx.settings.leave_grace_ms;
            self.online.go_away(place, until_ms);
            cx.arm(until_ms);
        } else {
            self.end_user(cx, place);
        }
    }

    /// Unsubscribes all sessions of a user and tells them why.
    pub(super) fn close_user<E: Effects>(&mut self, cx: &mut Cx<'_, E>, user_id: &str, reason: &str) {
        let Some(place) = self.online.find(user_id) else { return };
        for conn in self.online.sessions(place) {
            cx.fx.unsubscribe(conn, cx.id);
            cx.fx.send(conn, cx.id, &Event::Closed { reason });
            self.online.part(place, conn);
            self.part_asks(cx, conn);
        }
        self.stop_typing(cx, place, 0);
        self.end_user(cx, place);
    }

    /// R-PRES-2: no ghosts.
    pub(super) fn end_graces<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        while let Some(place) = self.online.pop_grace(cx.now_ms()) {
            self.end_user(cx, place);
        }
        if let Some(next_ms) = self.online.next_grace_ms() {
            cx.arm(next_ms);
        }
    }

    /// To the room but that user, with the user's first session.
    pub(super) fn announce_joined<E: Effects>(&mut self, cx: &mut Cx<'_, E>, place: u32, read_at_ns: u64) {
        if self.is_crowded(cx, self.online.len()) {
            return self.occupancy_changed(cx);
        }
        let event = Event::Joined { user: &self.online.get(place).user, timestamp_ms: cx.now.unix_ms };
        self.publish(cx, &event, Class::Presence, &self.online.sessions(place), read_at_ns);
    }

    /// A user without sessions goes.
    fn end_user<E: Effects>(&mut self, cx: &mut Cx<'_, E>, place: u32) {
        let was_crowded = self.is_crowded(cx, self.online.len());
        let user = self.online.remove(place);
        if was_crowded {
            return self.occupancy_changed(cx);
        }
        self.publish(cx, &Event::Left { user: &user, timestamp_ms: cx.now.unix_ms }, Class::Presence, &[], 0);
    }

    /// `get_online_users`. The cursor is a place: whoever stays online while paging is listed exactly once.
    pub(super) fn online_users<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(), Refusal> {
        self.subscribed(caller)?;
        let start = match cursor {
            Some(cursor) => cursor.parse::<u32>().map_err(|_| Refusal::field("cursor"))? as usize,
            None => 0,
        };
        let limit = (limit as usize).clamp(1, SNAPSHOT_ONLINE_MAX);
        let mut rest = self.online.from(start);
        let users: Vec<_> = rest.by_ref().take(limit).map(|(_, entry)| entry.listed(cx.now)).collect();
        let next_cursor = rest.next().map(|(place, _)| place.to_string());
        let online_count = self.online.len() as u64;
        cx.ack(to(caller), &Ack::OnlineUsers { users: &users, next_cursor: next_cursor.as_deref(), online_count });
        Ok(())
    }

    /// One room's share of `get_presence`: nothing for callers who are not in the room.
    pub(super) fn presence<E: Effects>(&self, cx: &mut Cx<'_, E>, caller: &Caller<'_>, user_ids: &[&str]) {
        let mut online: SmallVec<[_; 8]> = SmallVec::new();
        if self.subscribed(caller).is_ok() {
            for &user_id in user_ids.iter().take(PRESENCE_QUERY_MAX) {
                if let Some(place) = self.online.find(user_id) {
                    let listed = self.online.get(place).listed(cx.now);
                    online.push((user_id, listed.status, listed.last_activity_ms));
                }
            }
        }
        cx.fx.presence(to(caller), &online);
    }
}

#[cfg(test)]
mod tests {
    use crate::base::refusal::{Code, Refusal};
    use crate::rooms::Settings;
    use crate::rooms::command::RoomCommand;
    use crate::rooms::event::Status;
    use crate::rooms::testing::{Heard, JOIN, LEAVE, START_MS, World};

    fn came(user: &str) -> Heard {
        Heard::Came(user.into())
    }

    fn went(user: &str) -> Heard {
        Heard::Went(user.into())
    }

    /// R-PRES-1.
    #[test]
    fn all_devices_are_one() {
        let mut world = World::new(Settings::default());
        let (watcher, phone, laptop) = (world.client("watcher"), world.client("anna"), world.client("anna"));
        world.join(&watcher, "lobby");
        world.forget();
        world.join(&phone, "lobby");
        assert_eq!(world.join(&laptop, "lobby").online_count, 2);
        assert_eq!(world.take(&watcher), [came("anna")]);
        assert_eq!(world.answer(&phone, "lobby", LEAVE), Heard::Done);
        assert_eq!(world.take(&watcher), []);
        assert_eq!(world.answer(&laptop, "lobby", LEAVE), Heard::Done);
        assert_eq!(world.take(&watcher), [went("anna")]);
        assert!(!world.take(&laptop).contains(&came("anna")));
    }

    /// R-PRES-2: 9,999 ms are within the grace, 10,000 are not.
    #[test]
    fn an_abnormal_close_waits_for_a_return() {
        let mut world = World::new(Settings::default());
        let (watcher, anna, again) = (world.client("watcher"), world.client("anna"), world.client("anna"));
        world.join(&watcher, "lobby");
        world.join(&anna, "lobby");
        world.forget();
        world.disconnect(&anna, "lobby", true);
        world.advance(9_999);
        world.join(&again, "lobby");
        world.advance(60_000);
        assert_eq!(world.take(&watcher), []);
        world.disconnect(&again, "lobby", true);
        world.advance(9_999);
        assert_eq!(world.take(&watcher), []);
        world.advance(1);
        assert_eq!(world.take(&watcher), [went("anna")]);
        world.join(&anna, "lobby");
        world.disconnect(&anna, "lobby", false);
        assert_eq!(world.take(&watcher), [came("anna"), went("anna")]);
    }

    #[test]
    fn the_last_one_frees_the_room() {
        let mut world = World::new(Settings::default());
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        world.join(&anna, "lobby");
        world.join(&berta, "lobby");
        world.advance(2_000);
        assert_eq!(world.rooms.stats().top, [("lobby".into(), 2)]);
        world.answer(&anna, "lobby", LEAVE);
        assert_eq!(world.rooms.stats().rooms, 1);
        world.disconnect(&berta, "lobby", true);
        assert_eq!((world.rooms.stats().rooms, world.rooms.stats().top.len()), (1, 0));
        world.advance(10_000);
        assert_eq!(world.rooms.row_count(), 0);
    }

    /// R-ROOM-5.
    #[test]
    fn who_is_not_subscribed_cannot_leave() {
        let mut world = World::new(Settings::default());
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        assert_eq!(world.run(&berta, "lobby", LEAVE), [Heard::refused(Code::NotInRoom)]);
        world.join(&anna, "lobby");
        world.forget();
        assert_eq!(world.run(&berta, "lobby", LEAVE), [Heard::refused(Code::NotInRoom)]);
        assert_eq!(world.take(&anna), []);
        // Unknown ends are harmless.
        world.rooms.disconnected(berta.conn, &berta.user, "lobby", true, world.now, &mut world.fx);
        world.rooms.disconnected(berta.conn, &berta.user, "nowhere", true, world.now, &mut world.fx);
        assert_eq!(world.take(&anna), []);
    }

    /// R-PRES-4.
    #[test]
    fn status_follows_activity() {
        let mut world = World::new(Settings::default());
        let (anna, berta, stranger) = (world.client("anna"), world.client("berta"), world.client("stranger"));
        world.join(&anna, "lobby");
        world.join(&berta, "lobby");
        let ask = RoomCommand::Presence { user_ids: &["berta", "nobody"] };
        let answer = |status, at| Heard::Presence(vec![("berta".into(), status, at)]);
        assert_eq!(world.answer(&anna, "lobby", ask), answer(Status::Online, START_MS));
        world.advance(300_000);
        assert_eq!(world.answer(&anna, "lobby", ask), answer(Status::Idle, START_MS));
        world.send(&berta, "lobby", "hello");
        assert_eq!(world.answer(&anna, "lobby", ask), answer(Status::Online, START_MS + 300_000));
        assert_eq!(world.answer(&stranger, "lobby", ask), Heard::Presence(vec![]));
        assert_eq!(world.answer(&stranger, "nowhere", ask), Heard::Presence(vec![]));
    }

    #[test]
    fn paging_shows_everyone_once() {
        let mut world = World::new(Settings::default());
        let clients: Vec<_> = (0..7).map(|n| world.client(&format!("u{n}"))).collect();
        clients.iter().for_each(|client| drop(world.join(client, "lobby")));
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let ask = RoomCommand::OnlineUsers { cursor, limit: 3 };
            let Heard::OnlineUsers { users, next, count } = world.answer(&clients[0], "lobby", ask) else { panic!() };
            assert!(users.len() <= 3 && count >= 6);
            seen.extend(users);
            // Someone goes in the middle of it.
            world.run(&clients[1], "lobby", LEAVE);
            let Some(next) = next else { break };
            cursor = Some(&*next.leak());
        }
        assert_eq!(seen, ["u0", "u1", "u2", "u3", "u4", "u5", "u6"]);
        let bad = RoomCommand::OnlineUsers { cursor: Some("x"), limit: 3 };
        assert_eq!(world.answer(&clients[0], "lobby", bad), Heard::Refused(Refusal::field("cursor")));
    }

    #[test]
    fn a_snapshot_lists_two_hundred_and_counts_all() {
        let mut world = World::new(Settings::default());
        let clients: Vec<_> = (0..201).map(|n| world.client(&format!("u{n}"))).collect();
        let shown = clients.iter().map(|client| world.join(client, "lobby")).last().unwrap();
        assert_eq!((shown.online.len(), shown.online_count), (200, 201));
        assert_eq!(world.answer(&clients[0], "lobby", JOIN), Heard::Joined(None));
    }
}
