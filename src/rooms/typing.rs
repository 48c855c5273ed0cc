//! Typing indicators (R-PRES-5): one per user, however many devices; they end by themselves.
use super::command::Caller;
use super::effects::{Class, Effects};
use super::event::Event;
use super::room::{Cx, Room};
use crate::base::refusal::Refusal;
use crate::ids::ConnRef;
use crate::limits::{TYPING_RELAY_MS, TYPING_USERS_MAX};
use std::sync::atomic::Ordering::Relaxed;

/// A user whose typing others were told of.
#[derive(Debug)]
pub(super) struct Typing {
    /// The user's place in the room.
    place: u32,
    /// The session that typed last: typing ends with it.
    conn: ConnRef,
    until_ms: u64,
    relayed_ms: u64,
}

impl Room {
    pub(super) fn set_typing<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        is_typing: bool,
    ) -> Result<(), Refusal> {
        let place = self.subscribed(caller)?;
        caller.user.last_active_s.store(cx.now_s(), Relaxed);
        if !is_typing {
            self.stop_typing(cx, place, caller.read_at_ns);
            return Ok(());
        }
        let now_ms = cx.now_ms();
        let until_ms = now_ms + cx.settings.typing_ttl_ms;
        if let Some(typing) = self.typing.iter_mut().find(|typing| typing.place == place) {
            (typing.conn, typing.until_ms) = (caller.conn, until_ms);
            if now_ms < typing.relayed_ms + TYPING_RELAY_MS {
                return Ok(());
            }
            typing.relayed_ms = now_ms;
        } else if self.is_crowded(cx, self.online.len()) {
            return Ok(());
        } else if self.typing.len() >= TYPING_USERS_MAX {
            cx.fx.count("typing_not_relayed");
            return Ok(());
        } else {
            self.typing.push(Typing { place, conn: caller.conn, until_ms, relayed_ms: now_ms });
        }
        cx.arm(until_ms);
        self.publish_typing(cx, place, true, caller.read_at_ns);
        Ok(())
    }

    /// Tells of the end, once, if others were told of the beginning.
    pub(super) fn stop_typing<E: Effects>(&mut self, cx: &mut Cx<'_, E>, place: u32, read_at_ns: u64) {
        if let Some(at) = self.typing.iter().position(|typing| typing.place == place) {
            self.typing.swap_remove(at);
            self.publish_typing(cx, place, false, read_at_ns);
        }
    }

    /// A session ends: so does the typing it began.
    pub(super) fn stop_typing_of<E: Effects>(&mut self, cx: &mut Cx<'_, E>, place: u32, conn: ConnRef) {
        if self.typing.iter().any(|typing| typing.place == place && typing.conn == conn) {
            self.stop_typing(cx, place, 0);
        }
    }

    pub(super) fn expire_typing<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        let now_ms = cx.now_ms();
        while let Some(at) = self.typing.iter().position(|typing| typing.until_ms <= now_ms) {
            let place = self.typing.swap_remove(at).place;
            self.publish_typing(cx, place, false, 0);
        }
        if let Some(next_ms) = self.typing.iter().map(|typing| typing.until_ms).min() {
            cx.arm(next_ms);
        }
    }

    fn publish_typing<E: Effects>(&self, cx: &mut Cx<'_, E>, place: u32, is_typing: bool, read_at_ns: u64) {
        let user = &*self.online.get(place).user;
        let event = Event::Typing { user, is_typing, timestamp_ms: cx.now.unix_ms };
        self.publish(cx, &event, Class::Live, &self.online.sessions(place), read_at_ns);
    }
}

#[cfg(test)]
mod tests {
    use crate::base::refusal::Code;
    use crate::rooms::Settings;
    use crate::rooms::command::RoomCommand;
    use crate::rooms::testing::{Client, Heard, LEAVE, TYPE, World};

    fn typing(is_typing: bool) -> Heard {
        Heard::Typing("anna".into(), is_typing)
    }

    fn prepared() -> (World, Client, Client, Client) {
        let mut world = World::new(Settings::default());
        let (watcher, phone, laptop) = (world.client("watcher"), world.client("anna"), world.client("anna"));
        for client in [&watcher, &phone, &laptop] {
            world.join(client, "lobby");
        }
        world.forget();
        (world, watcher, phone, laptop)
    }

    #[test]
    fn typing_ends_by_itself_unless_renewed() {
        let (mut world, watcher, phone, laptop) = prepared();
        assert_eq!(world.run(&phone, "lobby", TYPE), [], "no ack");
        assert_eq!(world.take(&watcher), [typing(true)]);
        assert_eq!(world.take(&laptop), [], "not to the user's other devices");
        world.advance(2_999);
        world.run(&phone, "lobby", TYPE);
        assert_eq!(world.take(&watcher), [], "repeats are relayed at most each 3 s");
        world.advance(1);
        world.run(&phone, "lobby", TYPE);
        assert_eq!(world.take(&watcher), [typing(true)]);
        world.advance(5_999);
        assert_eq!(world.take(&watcher), []);
        world.advance(1);
        assert_eq!(world.take(&watcher), [typing(false)]);
        world.advance(60_000);
        assert_eq!(world.take(&watcher), []);
    }

    #[test]
    fn stop_send_leave_and_close_end_it_once() {
        for way in 0..4 {
            let (mut world, watcher, phone, _) = prepared();
            world.run(&phone, "lobby", TYPE);
            match way {
                0 => drop(world.run(&phone, "lobby", RoomCommand::Typing { is_typing: false })),
                1 => drop(world.send(&phone, "lobby", "done")),
                2 => drop(world.run(&phone, "lobby", LEAVE)),
                _ => world.disconnect(&phone, "lobby", true),
            }
            world.run(&phone, "lobby", RoomCommand::Typing { is_typing: false });
            world.advance(9_000);
            let heard = world.take(&watcher);
            let heard: Vec<_> = heard.iter().filter(|heard| matches!(heard, Heard::Typing(..))).collect();
            assert_eq!(heard, [&typing(true), &typing(false)], "way {way}");
        }
    }

    #[test]
    fn another_device_that_leaves_does_not_end_it() {
        let (mut world, watcher, phone, laptop) = prepared();
        world.run(&phone, "lobby", TYPE);
        world.run(&laptop, "lobby", LEAVE);
        assert_eq!(world.take(&watcher), [typing(true)]);
    }

    #[test]
    fn strangers_get_an_error() {
        let (mut world, watcher, ..) = prepared();
        let stranger = world.client("stranger");
        assert_eq!(world.run(&stranger, "lobby", TYPE), [Heard::refused(Code::NotInRoom)]);
        assert_eq!(world.take(&watcher), []);
    }
}
