//! Histories that a correct server could have made are sound; with one fault put in, they never are.
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// A call of the checker.
#[derive(Clone, Debug)]
enum Call {
    Positioned(u32, u32, u64),
    Live(u32, Stamp),
    Durable(u32, Stamp, u64),
    Away(u32),
    Back(u32, u32, Option<bool>),
}

/// What the history's driver does next; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    Send {
        publisher: usize,
        fate: u8,
    },
    /// A room's stream takes an offset for something else.
    Other {
        room: u32,
    },
    Deliver {
        queue: usize,
    },
    Leave {
        connection: u32,
    },
    Return {
        connection: u32,
        is_recovered: bool,
    },
}

/// Eight connections: three "match" rooms of three members (the last has two), and one room for everyone.
fn scenario() -> Scenario {
    let mut text = String::from(
        "name = 'x'\nabout = 'y'\nconnections = 8\ntime = { warmup_s = 0, measure_s = 1 }\n\
         [[layer]]\nname = 'match'\nmembers = 3\n[[layer]]\nname = 'all'\nmembers = 0\n",
    );
    for (kind, layer, senders, include_self) in [
        ("live", "match", 2, false),
        ("live", "match", 0, true),
        ("durable", "match", 2, false),
        ("typing", "all", 1, false),
        ("live", "all", 1, false),
        ("durable", "all", 2, false),
    ] {
        text += &format!(
            "[[traffic]]\nkind = '{kind}'\nlayer = '{layer}'\nsenders = {senders}\nrate_per_s = 1\n{}",
            if include_self { "include_self = true\n" } else { "" }
        );
    }
    toml::from_str(&text).expect("a scenario")
}

/// A publisher of a room.
#[derive(Clone, Copy)]
struct From {
    room: u32,
    publisher: u32,
    connection: u32,
    is_durable: bool,
    include_self: bool,
}

/// A correct server and its clients.
struct World {
    publishers: Vec<From>,
    numbers: Vec<u32>,
    /// Of durable events, by room: stamp or something else.
    streams: BTreeMap<u32, Vec<Option<Stamp>>>,
    /// Under way to (connection, room, publisher of a live event): each queue keeps its order, and they are interleaved freely.
    queues: BTreeMap<(u32, u32, Option<u32>), VecDeque<Call>>,
    /// By connection and room: offset of the last durable event that came. What is here is not away.
    positions: BTreeMap<(u32, u32), u64>,
    left_at: BTreeMap<(u32, u32), u64>,
    sent: Sent,
    history: Vec<Call>,
}

impl World {
    fn new(scenario: &Scenario) -> World {
        let mut publishers = Vec::new();
        let (mut positions, mut streams) = (BTreeMap::new(), BTreeMap::new());
        for layer in 0..scenario.layers.len() {
            for connection in 0..scenario.connections {
                let room = scenario.room_number(layer, connection);
                streams.insert(room, Vec::new());
                positions.insert((connection, room), 0);
                for (publisher, at) in scenario.publishers(layer).iter().enumerate() {
                    let line = &scenario.traffic[at.traffic];
                    if line.kind != crate::scenario::Kind::Typing && connection % scenario.members(layer) == at.member {
                        publishers.push(From {
                            room,
                            publisher: publisher as u32,
                            connection,
                            is_durable: line.kind == crate::scenario::Kind::Durable,
                            include_self: line.include_self,
                        });
                    }
                }
            }
        }
        World {
            numbers: vec![0; publishers.len()],
            publishers,
            streams,
            queues: BTreeMap::new(),
            history: positions.keys().map(|(connection, room)| Call::Positioned(*connection, *room, 0)).collect(),
            positions,
            left_at: BTreeMap::new(),
            sent: Sent::new(scenario),
        }
    }

    fn run(&mut self, acts: Vec<Act>) {
        acts.into_iter().for_each(|act| self.step(act));
        while self.deliver(0) {}
    }

    fn step(&mut self, act: Act) {
        match act {
            Act::Send { publisher, fate } => self.send(publisher % self.publishers.len(), fate),
            Act::Other { room } => {
                let room = room % self.streams.len() as u32;
                self.streams.get_mut(&room).expect("each room has a stream").push(None);
            }
            Act::Deliver { queue } => {
                self.deliver(queue);
            }
            Act::Leave { connection } => {
                let connection = connection % 8;
                self.queues.retain(|queue, _| queue.0 != connection);
                let here: Vec<_> = self.positions.range((connection, 0)..(connection + 1, 0)).collect();
                self.left_at.extend(here.iter().map(|(place, offset)| (**place, **offset)));
                self.positions.retain(|place, _| place.0 != connection);
                self.history.push(Call::Away(connection));
            }
            Act::Return { connection, is_recovered } => self.come_back(connection % 8, is_recovered),
        }
    }

    /// `fate`: 0 in doubt and not there, 1 in doubt and there, 2 refused, else as it should be.
    fn send(&mut self, at: usize, fate: u8) {
        let from = self.publishers[at];
        self.numbers[at] += 1;
        let number = self.numbers[at];
        let stamp = Stamp { room: from.room, publisher: from.publisher, number, intended_ns: 0 };
        self.sent.sent(from.room, from.publisher, number);
        match fate {
            0 | 1 => self.sent.in_doubt(from.room, from.publisher, number, number),
            2 => self.sent.refused(from.room, from.publisher, number),
            _ => self.sent.acked(from.room, from.publisher, number),
        }
        if fate == 0 || fate == 2 {
            return;
        }
        let offset = self.streams[&from.room].len() as u64 + 1;
        if from.is_durable {
            self.streams.get_mut(&from.room).expect("each room has a stream").push(Some(stamp));
        }
        let here = self.positions.keys().filter(|place| place.1 == from.room);
        for connection in here.map(|place| place.0) {
            if from.is_durable {
                let queue = self.queues.entry((connection, from.room, None)).or_default();
                queue.push_back(Call::Durable(connection, stamp, offset));
            } else if from.include_self || connection != from.connection {
                let queue = self.queues.entry((connection, from.room, Some(from.publisher))).or_default();
                queue.push_back(Call::Live(connection, stamp));
            }
        }
    }

    /// `false`: nothing is under way.
    fn deliver(&mut self, queue: usize) -> bool {
        let mut queues: Vec<_> = self.queues.iter_mut().filter(|(_, queue)| !queue.is_empty()).collect();
        if queues.is_empty() {
            return false;
        }
        let at = queue % queues.len();
        let call = queues[at].1.pop_front().expect("queues that are empty were left out");
        if let Call::Durable(connection, stamp, offset) = &call {
            self.positions.insert((*connection, stamp.room), *offset);
        }
        self.history.push(call);
        true
    }

    fn come_back(&mut self, connection: u32, is_recovered: bool) {
        let places: Vec<_> = self.left_at.range((connection, 0)..(connection + 1, 0)).map(|(k, v)| (*k, *v)).collect();
        for (place, left_at) in places {
            self.left_at.remove(&place);
            let stream = &self.streams[&place.1];
            let now = stream.len() as u64;
            self.positions.insert(place, now);
            if is_recovered {
                self.history.push(Call::Back(place.0, place.1, Some(true)));
                for (at, stamp) in stream.iter().enumerate().skip(left_at as usize) {
                    self.history.extend(stamp.map(|stamp| Call::Durable(place.0, stamp, at as u64 + 1)));
                }
            } else {
                self.history.push(Call::Back(place.0, place.1, now.is_multiple_of(2).then_some(false)));
                self.history.push(Call::Positioned(place.0, place.1, now));
            }
        }
    }

    /// Whether a loss of the delivery at `at` can be told from an absence.
    fn is_judged(&self, at: usize) -> bool {
        let Some((connection, stamp)) = delivery(&self.history[at]) else { return false };
        let is_durable = matches!(self.history[at], Call::Durable(..));
        let place = (connection, stamp.room);
        // Of calls about this subscriber and publisher: Some(true) for a delivery, Some(false) for what allows a jump.
        let kind = |call: &Call| match call {
            Call::Away(who) if !is_durable && *who == connection => Some(false),
            Call::Back(who, room, recovered) if is_durable && *recovered != Some(true) && (*who, *room) == place => {
                Some(false)
            }
            call => {
                let (to, other) = delivery(call)?;
                ((to, other.room, other.publisher) == (connection, stamp.room, stamp.publisher)).then_some(true)
            }
        };
        let before = self.history[..at].iter().rev().find_map(kind);
        let after = self.history[at + 1..].iter().find_map(kind);
        let is_away_at_end = !self.positions.contains_key(&place);
        let slot = Places::new(&scenario());
        let slot = slot.publisher(stamp.room, stamp.publisher).map(|place| slot.slot(place)).expect("it was sent");
        let is_sure = self.sent.doubts(slot, is_durable, stamp.number, stamp.number) == 0;
        is_sure && before != Some(false) && (after == Some(true) || after.is_none() && !is_away_at_end)
    }
}

fn delivery(call: &Call) -> Option<(u32, Stamp)> {
    match call {
        Call::Live(connection, stamp) | Call::Durable(connection, stamp, _) => Some((*connection, *stamp)),
        _ => None,
    }
}

/// Judged by two workers, split at `cut`.
fn judge(history: &[Call], sent: &Sent, cut: u32) -> (Integrity, u64) {
    let parts = [0..cut, cut..8].map(|connections| {
        let mut checker = Checker::new(&scenario(), connections.clone());
        for call in history {
            match call {
                Call::Positioned(who, room, offset) if connections.contains(who) => {
                    checker.positioned(*who, *room, "e", *offset);
                }
                Call::Live(who, stamp) if connections.contains(who) => checker.live(*who, stamp),
                Call::Durable(who, stamp, offset) if connections.contains(who) => {
                    checker.durable(*who, stamp, *offset, "e");
                }
                Call::Away(who) if connections.contains(who) => checker.away(*who),
                Call::Back(who, room, recovered) if connections.contains(who) => checker.back(*who, *room, *recovered),
                _ => {}
            }
        }
        (checker.finish(sent), checker.outstanding(sent))
    });
    let outstanding = parts.iter().map(|part| part.1).sum();
    (total(parts.map(|part| part.0)), outstanding)
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (any::<usize>(), 0u8..16).prop_map(|(publisher, fate)| Act::Send { publisher, fate }),
        1 => any::<u32>().prop_map(|room| Act::Other { room }),
        30 => any::<usize>().prop_map(|queue| Act::Deliver { queue }),
        1 => any::<u32>().prop_map(|connection| Act::Leave { connection }),
        2 => (any::<u32>(), any::<bool>()).prop_map(|(connection, is_recovered)| Act::Return { connection, is_recovered }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_correct_history_is_sound_and_a_fault_is_always_found(
        acts in prop::collection::vec(act(), 1..250), cut in 0u32..=8, choice: prop::sample::Index, again: prop::sample::Index, room: u32,
    ) {
        let mut world = World::new(&scenario());
        world.run(acts);
        let (history, sent) = (&world.history, &world.sent);
        let (sound, outstanding) = judge(history, sent, cut);
        let delivered = history.iter().filter(|call| delivery(call).is_some()).count() as u64;
        prop_assert!(sound.is_sound(), "{:?}", sound.examples);
        prop_assert_eq!((sound.delivered, sound.expected, outstanding), (delivered, delivered, 0));
        prop_assert!(sound.examples.is_empty());

        let deliveries: Vec<usize> = (0..history.len()).filter(|at| delivery(&history[*at]).is_some()).collect();
        if deliveries.is_empty() {
            return Ok(());
        }
        let at = deliveries[choice.index(deliveries.len())];
        let (connection, stamp) = delivery(&history[at]).expect("it is one");

        let mut repeated = history.clone();
        repeated.insert(at + 1 + again.index(history.len() - at), history[at].clone());
        let (found, _) = judge(&repeated, sent, cut);
        prop_assert_eq!((found.duplicated, found.delivered, found.is_sound()), (1, delivered, false));
        prop_assert!(!found.examples.is_empty());

        if (0..2).all(|layer| scenario().room_number(layer, connection) != room) {
            let mut misled = history.clone();
            match &mut misled[at] {
                Call::Live(_, stamp) | Call::Durable(_, stamp, _) => stamp.room = room,
                _ => unreachable!("chosen among deliveries"),
            }
            let (found, _) = judge(&misled, sent, cut);
            prop_assert_eq!((found.foreign, found.is_sound()), (1, false));
        }

        let same = |other: &usize| {
            let other = delivery(&history[*other]).expect("it is one");
            (other.0, other.1.room, other.1.publisher) == (connection, stamp.room, stamp.publisher)
        };
        if let Some(next) = deliveries.iter().copied().filter(|other| *other > at).find(same) {
            let mut swapped = history.clone();
            swapped.swap(at, next);
            let (found, _) = judge(&swapped, sent, cut);
            prop_assert!(found.reordered + found.duplicated > 0);
        }

        if world.is_judged(at) {
            let mut dropped = history.clone();
            dropped.remove(at);
            let (found, outstanding) = judge(&dropped, sent, cut);
            prop_assert_eq!((found.lost_live + found.lost_durable, found.delivered, outstanding), (1, delivered - 1, 1));
            prop_assert_eq!(found.examples.len(), 1);
            let number = format!("connection {connection} ");
            prop_assert!(found.examples[0].starts_with(&number), "{:?}", found.examples);
        }
    }
}
