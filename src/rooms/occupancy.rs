//! `room_occupancy` (R-PRES-3): above `presence.events_max_users` online users it replaces joined, left and typing.
//!
//! The reading taken here: small rooms hear joined and left and no occupancy; a crowded room hears occupancy instead, at most one a
//! second and rarer beyond 20,000 users, whenever a joined or left was swallowed since the last one. The one that tells of the fall below the threshold is sent too.
use super::effects::{Class, Effects};
use super::event::Event;
use super::room::{Cx, Room};
use crate::limits::{OCCUPANCY_DELIVERIES_PER_S, OCCUPANCY_INTERVAL_MS};

#[derive(Debug, Default)]
pub(super) struct Occupancy {
    /// The number of users changed and nobody was told.
    is_due: bool,
    /// Monotonic ms before which no event may go out.
    next_ms: u64,
}

impl Room {
    /// Whether with this many users occupancy takes the place of the users' own events.
    pub(super) fn is_crowded<E: Effects>(&self, cx: &Cx<'_, E>, users: usize) -> bool {
        users as u64 > cx.settings.events_max_users
    }

    /// Instead of a joined or left.
    pub(super) fn occupancy_changed<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        self.occupancy.is_due = true;
        self.send_due_occupancy(cx);
    }

    pub(super) fn send_due_occupancy<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        if !self.occupancy.is_due {
            return;
        }
        if cx.now_ms() < self.occupancy.next_ms {
            return cx.arm(self.occupancy.next_ms);
        }
        let online = self.online.len() as u64;
        self.occupancy = Occupancy { is_due: false, next_ms: cx.now_ms() + interval_ms(online) };
        let event = Event::Occupancy { online, members: self.row.member_count };
        self.publish(cx, &event, Class::Live, &[], 0);
    }
}

/// A second, and longer where the number of listeners makes it too dear.
fn interval_ms(online: u64) -> u64 {
    OCCUPANCY_INTERVAL_MS.max(online * 1_000 / OCCUPANCY_DELIVERIES_PER_S)
}

#[cfg(test)]
mod tests {
    use super::interval_ms;
    use crate::rooms::Settings;
    use crate::rooms::testing::{Heard, LEAVE, TYPE, World};

    fn online(online: u64) -> Heard {
        Heard::Occupancy { online, members: 0 }
    }

    #[test]
    fn the_larger_the_room_the_rarer() {
        assert_eq!([1_001, 20_000, 40_000, 1_000_000].map(interval_ms), [1_000, 1_000, 2_000, 50_000]);
    }

    /// R-PRES-3 with a threshold of 3: the third user is still announced, the fourth is not.
    #[test]
    fn a_crowd_hears_numbers_instead_of_names() {
        let mut world = World::new(Settings { events_max_users: 3, ..Settings::default() });
        let clients: Vec<_> = (0..7).map(|n| world.client(&format!("u{n}"))).collect();
        clients[..3].iter().for_each(|client| drop(world.join(client, "lobby")));
        world.advance(5_000);
        let heard = world.take(&clients[0]);
        assert_eq!(heard[2..], [Heard::Came("u1".into()), Heard::Came("u2".into())]);
        clients[3..].iter().for_each(|client| drop(world.join(client, "lobby")));
        world.run(&clients[4], "lobby", TYPE);
        assert_eq!(world.take(&clients[0]), [online(4)], "the first at once");
        world.advance(999);
        assert_eq!(world.take(&clients[0]), []);
        world.advance(1);
        assert_eq!(world.take(&clients[0]), [online(7)], "the others in one after a second");
        world.advance(10_000);
        assert_eq!(world.take(&clients[0]), [], "nothing changed");
        for client in &clients[3..] {
            world.run(client, "lobby", LEAVE);
        }
        world.advance(1_000);
        assert_eq!(world.take(&clients[0]), [online(6), online(3)]);
        world.run(&clients[2], "lobby", LEAVE);
        assert_eq!(world.take(&clients[0]), [Heard::Went("u2".into())]);
    }
}
