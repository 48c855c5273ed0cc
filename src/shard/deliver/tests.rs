//! The flush in slices: what a turn leaves for the next, and that nothing is lost, doubled or turned round on the way.
use super::super::Shard;
use super::super::conn::flag;
use super::super::post::tests::{open, shard_in};
use crate::base::close::CloseCode;
use crate::base::user::{User, UserRef};
use crate::ids::ConnRef;
use crate::limits;
use crate::plane::{ClientId, End, Faults, Plane, SimNet, SimPlane, SimRng, Slot};
use crate::rooms::effects::Class;
use crate::wire::ws::{self, Opcode};
use std::sync::Arc;

/// Members of the large room.
const MANY: usize = 40;
/// Offers in a turn.
const FEW: usize = 8;

struct World {
    net: SimNet,
    shard: Shard<SimPlane>,
    members: Vec<(Slot, ClientId)>,
}

impl World {
    /// A room `large` of many members, and a turn that gets by with few.
    fn new() -> World {
        let net = SimNet::new(1, Faults::NONE);
        let (mut shard, _) = shard_in(&net);
        shard.set_offers_per_turn(FEW);
        let mut world = World { net, shard, members: Vec::new() };
        for _ in 0..MANY {
            let member = world.connect();
            world.subscribe(member.0, "large");
            world.members.push(member);
        }
        world.settle();
        world
    }

    /// One more connection, which has read what there was to read.
    fn connect(&mut self) -> (Slot, ClientId) {
        let member = open(&mut self.shard, &self.net);
        // Its token outlives the test.
        self.shard.core.conns[member.0 as usize].expires_at_s = u32::MAX;
        while self.shard.turn() {}
        self.net.client_read(member.1);
        member
    }

    fn subscribe(&mut self, slot: Slot, room: &str) {
        let (conn, user) = (self.conn(slot), UserRef::new(User::new("anna", None)));
        self.shard.core.subscribe_here(conn, &user, &Arc::from(room));
    }

    fn conn(&self, slot: Slot) -> ConnRef {
        self.shard.core.conn_ref(slot)
    }

    fn publish(&mut self, room: &str, text: &str) {
        self.publish_as(Class::Live, room, text);
    }

    fn publish_as(&mut self, class: Class, room: &str, text: &str) {
        let mut frame = Vec::new();
        ws::append_frame(&mut frame, Opcode::Text, text.as_bytes());
        self.shard.core.publish_here(room, &frame, class, &[], 1);
    }

    /// Turns until nothing is left to do; how many.
    fn settle(&mut self) -> usize {
        (1..).find(|_| !self.shard.turn()).expect("it comes to rest")
    }

    /// The texts that a client has got since it was last asked.
    fn heard(&self, client: ClientId) -> Vec<String> {
        texts(&self.net.client_read(client))
    }

    /// How many members have got something new.
    fn hearers(&self) -> usize {
        self.members.iter().filter(|(_, client)| !self.heard(*client).is_empty()).count()
    }
}

fn texts(mut frames: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while !frames.is_empty() {
        let len = ws::frame_len(frames).expect("whole frames");
        let header = if frames[1] == 126 { 4 } else { 2 };
        texts.push(String::from_utf8_lossy(&frames[header..len]).into_owned());
        frames = &frames[len..];
    }
    texts
}

#[test]
fn a_turn_offers_to_as_many_as_it_may_and_the_next_goes_on() {
    let mut world = World::new();
    world.publish("large", "one");
    for turn in 1..MANY / FEW {
        assert!(world.shard.turn(), "turn {turn}: more is to be done");
        assert_eq!(world.hearers(), FEW);
        assert!(world.shard.core.fanout.pool.bytes_in_use() > 0, "the log is held for those who wait");
        assert_eq!(world.shard.core.histograms.broadcast.len(), 0, "it is not out");
        assert!(world.shard.report().queue_bytes >= ((MANY - turn * FEW) * 5) as u64);
    }
    assert!(!world.shard.turn());
    assert_eq!(world.hearers(), FEW);
    assert_eq!((world.shard.core.histograms.broadcast.len(), world.shard.core.deliveries.marks.len()), (1, 0));
    assert_eq!((world.shard.core.fanout.pool.bytes_in_use(), world.shard.report().queue_bytes), (0, 0));
    assert!(world.shard.core.deliveries.plan.capacity() <= FEW, "a plan of a turn's sends");
}

/// When everybody comes back at once, not each return is a send to each of the others.
#[test]
fn in_a_rush_who_came_waits_for_more() {
    let mut world = World::new();
    // The rush begins with a tick, and for as much as may be it is told at once.
    world.net.advance(limits::TICK_MS);
    world.shard.turn();
    let at_once = limits::PRESENCE_SENDS_PER_TICK / MANY;
    for number in 0..at_once {
        world.publish_as(Class::Presence, "large", &number.to_string());
    }
    world.settle();
    let last = world.members.last().unwrap().1;
    assert_eq!(world.heard(last).len(), at_once);
    world.hearers();

    let marks = world.shard.core.histograms.broadcast.len();
    let mut told = Vec::new();
    for number in 0..5 {
        world.publish_as(Class::Presence, "large", &format!("late {number}"));
        told.push(format!("late {number}"));
        world.settle();
        assert_eq!((world.hearers(), world.heard(last)), (0, vec![]), "{number}");
    }
    // Another kind of frame takes them along, in their order.
    world.publish("large", "hello");
    told.push("hello".into());
    world.settle();
    assert_eq!(world.heard(last), told);
    assert_eq!(world.hearers(), MANY - 1);
    assert_eq!(world.shard.core.histograms.broadcast.len(), marks + 1, "only what goes at once is measured");

    // Nothing else comes: within a second, and no later.
    world.publish_as(Class::Presence, "large", "the last");
    world.settle();
    assert_eq!(world.hearers(), 0);
    let waited = (1..).find(|_| {
        world.net.advance(limits::TICK_MS);
        world.settle();
        world.hearers() == MANY
    });
    assert_eq!(waited.unwrap() * limits::TICK_MS, limits::PRESENCE_WAIT_MS);
    assert_eq!(world.shard.core.fanout.pool.bytes_in_use(), 0);
    // The rush is over.
    world.publish_as(Class::Presence, "large", "quiet");
    world.settle();
    assert_eq!(world.hearers(), MANY);
}

#[test]
fn a_room_may_end_while_its_frames_wait() {
    let mut world = World::new();
    let (slot, client) = world.connect();
    world.subscribe(slot, "small");
    for _ in 0..=limits::PRESENCE_SENDS_PER_TICK {
        world.publish_as(Class::Presence, "small", "x");
    }
    world.settle();
    world.heard(client);
    world.publish_as(Class::Presence, "small", "unheard");
    world.shard.core.unsubscribe_here(world.conn(slot), "small");
    // Its place is another's, who has nothing to say.
    world.subscribe(slot, "other");
    world.net.advance(limits::PRESENCE_WAIT_MS);
    world.settle();
    assert_eq!(world.heard(client), Vec::<String>::new());
    assert_eq!(world.shard.core.fanout.pool.bytes_in_use(), 0);
}

#[test]
fn a_heartbeat_is_answered_while_a_broadcast_is_under_way() {
    let mut world = World::new();
    let (_, client) = world.members[MANY - 1];
    world.publish("large", "one");
    let turns = MANY / FEW;
    for turn in 1..=turns {
        let payload = br#"{"id":"h","type":"heartbeat","data":{}}"#;
        let ask = [&[0x81, 0x80 | payload.len() as u8, 0, 0, 0, 0], &payload[..]].concat();
        assert!(world.net.client_write(client, &ask));
        assert_eq!(world.shard.turn(), turn < turns);
        let answers = world.heard(client).iter().filter(|text| text.contains("heartbeat_response")).count();
        assert_eq!(answers, 1, "turn {turn} of {turns}");
    }
}

#[test]
fn a_small_room_does_not_wait_for_a_large_one() {
    let mut world = World::new();
    let (slot, client) = world.connect();
    world.subscribe(slot, "small");
    world.publish("large", "one");
    world.publish("small", "two");
    assert!(world.shard.turn());
    assert_eq!(world.heard(client), ["two"]);
    world.publish("small", "three");
    assert!(world.shard.turn());
    assert_eq!(world.heard(client), ["three"]);
}

/// Those who wait get what came meanwhile in the same send; the others in a second pass.
#[test]
fn what_comes_half_way_reaches_all_in_order() {
    let mut world = World::new();
    world.publish("large", "one");
    assert!(world.shard.turn());
    world.publish("large", "two");
    let before = world.shard.core.counters.bytes_sent;
    world.settle();
    for (_, client) in &world.members {
        assert_eq!(world.heard(*client), ["one", "two"]);
    }
    let sent = world.shard.core.counters.bytes_sent - before;
    assert_eq!(sent, ((MANY - FEW) * 10 + FEW * 5) as u64);
    assert_eq!(world.shard.core.fanout.pool.bytes_in_use(), 0);
}

/// R-ENV-4: whatever a turn has for one connection alone goes out before what its rooms were left over.
#[test]
fn private_bytes_take_along_what_waits() {
    let mut world = World::new();
    let (slot, client) = world.members[MANY - 1];
    world.publish("large", "one");
    assert!(world.shard.turn());
    let mut frame = Vec::new();
    ws::append_frame(&mut frame, Opcode::Text, b"private");
    world.shard.core.outbox(slot).extend_from_slice(&frame);
    assert!(world.shard.turn());
    assert_eq!(world.heard(client), ["private", "one"]);
    world.settle();
    assert!(world.heard(client).is_empty(), "once");
}

/// Too much that waits makes a turn longer rather than the log.
#[test]
fn a_log_that_grows_while_it_waits_ends_the_patience() {
    let mut world = World::new();
    let large = "x".repeat(100);
    world.publish("large", &large);
    assert!(world.shard.turn());
    for _ in 0..3_000 {
        world.publish("large", &large);
    }
    assert!(world.shard.core.fanout.is_pressed());
    assert!(!world.shard.turn(), "all of it in one turn");
    world.members.iter().for_each(|(_, client)| _ = world.net.client_read(*client));
    // The rest of what the sockets had no room for.
    for _ in 0..40 {
        world.settle();
        world.members.iter().for_each(|(_, client)| _ = world.net.client_read(*client));
    }
    assert_eq!(world.shard.core.fanout.pool.bytes_in_use(), 0);
}

/// Joins, leaves, ends and blocked readers at every place of a pass. Whoever stays gets every frame since it came, once and in order.
#[test]
fn whoever_stays_misses_nothing_and_gets_nothing_twice() {
    for seed in 0..60 {
        let mut world = World::new();
        world.shard.set_offers_per_turn(1 + seed as usize % 5);
        world.net.set_faults(Faults { partial_send: 0.2, ..Faults::NONE });
        let mut rng = SimRng::new(seed);
        let mut number = 0;
        // Of each member: the first number that it is to get, and the bytes it has got.
        let mut heard: Vec<(usize, Vec<u8>)> = vec![(0, Vec::new()); MANY];
        for _ in 0..200 {
            match rng.below(8) {
                0 if world.members.len() > 2 => {
                    let at = rng.below(world.members.len());
                    let (slot, _) = world.members.swap_remove(at);
                    heard.swap_remove(at);
                    let conn = world.conn(slot);
                    match rng.below(3) {
                        0 => world.shard.core.unsubscribe_here(conn, "large"),
                        1 => world.shard.core.close(slot, CloseCode::Stale),
                        _ => world.shard.core.ended(slot, End::Eof),
                    }
                    world.shard.core.departures.clear();
                }
                1 if world.shard.core.open < u64::from(world.shard.plane().capacity()) => {
                    let (slot, client) = open(&mut world.shard, &world.net);
                    let mut greeting = Vec::new();
                    while !greeting.ends_with(b"\r\n\r\n") {
                        world.shard.turn();
                        greeting.extend(world.net.client_read(client));
                    }
                    world.subscribe(slot, "large");
                    world.members.push((slot, client));
                    heard.push((number, Vec::new()));
                }
                2 => {
                    let (slot, _) = world.members[rng.below(world.members.len())];
                    world.shard.core.conns[slot as usize].flags ^= flag::HOLD_LOGS;
                    world.shard.core.mark_dirty(slot);
                }
                3 | 4 => {
                    world.publish("large", &number.to_string());
                    number += 1;
                }
                _ => _ = world.shard.turn(),
            }
            for ((_, client), (_, bytes)) in world.members.iter().zip(&mut heard) {
                bytes.extend(world.net.client_read(*client));
            }
        }
        world.net.set_faults(Faults::NONE);
        for (slot, _) in &world.members {
            world.shard.core.conns[*slot as usize].flags &= !flag::HOLD_LOGS;
            world.shard.core.mark_dirty(*slot);
        }
        // A blocked one is told of room in some later turn.
        for _ in 0..60 {
            world.settle();
        }
        for ((slot, client), (first, mut bytes)) in world.members.iter().zip(heard) {
            bytes.extend(world.net.client_read(*client));
            let expected: Vec<String> = (first..number).map(|number| number.to_string()).collect();
            assert_eq!(texts(&bytes), expected, "seed {seed}, slot {slot}");
        }
        let core = &world.shard.core;
        assert_eq!((core.fanout.pool.bytes_in_use(), core.fanout.unoffered_bytes()), (0, 0), "seed {seed}");
        assert!(core.deliveries.marks.is_empty());
    }
}
