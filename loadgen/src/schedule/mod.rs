//! When what is sent: the open-loop schedule, fixed by the scenario and a seed before the first byte is sent.
//!
//! A *sender* is a publisher of a room ([`Scenario::publishers`]). Its intended times come from a generator of its own, seeded by
//! (seed, room, publisher), so they are the same however connections are spread over workers, and whatever the server does: a late
//! answer moves no later send. [`Arrival::Poisson`] draws exponential gaps from the start on; [`Arrival::Uniform`] draws a phase
//! once, then keeps equal gaps (the period is rounded to whole ns).
//!
//! A sender takes 40 bytes. A message costs one step of a binary heap over the senders and no allocation.
mod random;

use crate::scenario::{Arrival, Scenario};
use random::Random;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

/// A message that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Due {
    /// Who sends.
    pub connection: u32,
    pub layer: usize,
    /// Room, numbered as in [`crate::stamp::Stamp::room`].
    pub room: u32,
    /// Place among the room's publishers, as in [`crate::stamp::Stamp::publisher`].
    pub publisher: u32,
    /// Index of the traffic line.
    pub traffic: usize,
    /// ns since the start of the run.
    pub intended_ns: u64,
}

/// Times of the senders among a range of connections, in order.
pub struct Schedule {
    lines: Vec<Line>,
    senders: Vec<Sender>,
    /// Next time of each sender that has one.
    next: BinaryHeap<Next>,
    until_ns: u64,
}

impl Schedule {
    /// Everything that `connections` send from `from_ns` on and before `until_ns`.
    pub fn new(scenario: &Scenario, connections: Range<u32>, seed: u64, from_ns: u64, until_ns: u64) -> Schedule {
        let lines = Line::all(scenario);
        let mut senders = Vec::new();
        let mut next = Vec::new();
        for layer in 0..scenario.layers.len() {
            let publishers = scenario.publishers(layer);
            let members = scenario.members(layer).max(1);
            let first_room = scenario.room_number(layer, 0);
            let connections = connections.start..connections.end.min(scenario.connections);
            if connections.is_empty() {
                continue;
            }
            for room in connections.start / members..=(connections.end - 1) / members {
                for (publisher, at) in publishers.iter().enumerate() {
                    let connection = u64::from(room) * u64::from(members) + u64::from(at.member);
                    let Ok(connection) = u32::try_from(connection) else { continue };
                    let line = &lines[at.traffic];
                    if !connections.contains(&connection) || line.mean_gap_ns.is_infinite() || room >= line.rooms {
                        continue;
                    }
                    let publisher = publisher as u32;
                    let mut random = Random::of_sender(seed, first_room + room, publisher);
                    let at_ns = from_ns.saturating_add(line.first_gap_ns(&mut random));
                    if at_ns < until_ns {
                        next.push(Next { at_ns, sender: senders.len() as u32 });
                    }
                    senders.push(Sender { random, connection, publisher, line: at.traffic as u32 });
                }
            }
        }
        Schedule { lines, senders, next: next.into(), until_ns }
    }

    /// The next intended time; `None`: nothing more is to be sent.
    pub fn next_due(&self) -> Option<u64> {
        self.next.peek().map(|next| next.at_ns)
    }

    /// The next message whose time has come. Call until `None`: after a pause all that was missed is due, at its old time.
    pub fn pop(&mut self, now_ns: u64) -> Option<Due> {
        let mut top = self.next.peek_mut()?;
        if top.at_ns > now_ns {
            return None;
        }
        let sender = &mut self.senders[top.sender as usize];
        let line = &self.lines[sender.line as usize];
        let due = Due {
            connection: sender.connection,
            layer: line.layer,
            room: line.first_room + sender.connection / line.members,
            publisher: sender.publisher,
            traffic: sender.line as usize,
            intended_ns: top.at_ns,
        };
        let at_ns = top.at_ns.saturating_add(line.gap_ns(&mut sender.random));
        if at_ns < self.until_ns {
            top.at_ns = at_ns; // sinks to its new place when `top` goes
        } else {
            PeekMut::pop(top);
        }
        Some(due)
    }

    /// Messages per second of all these senders together, as the scenario asks for.
    pub fn total_rate_per_s(&self) -> f64 {
        self.senders.iter().map(|sender| 1e9 / self.lines[sender.line as usize].mean_gap_ns).sum()
    }
}

/// What all senders of a traffic line share.
struct Line {
    layer: usize,
    first_room: u32,
    members: u32,
    /// The first of the layer have senders.
    rooms: u32,
    arrival: Arrival,
    /// Infinite: never.
    mean_gap_ns: f64,
}

impl Line {
    fn all(scenario: &Scenario) -> Vec<Line> {
        let lines = scenario.traffic.iter().map(|traffic| {
            let layer = scenario.layers.iter().position(|layer| layer.name == traffic.layer);
            let sends = layer.is_some() && traffic.rate_per_s > 0.0;
            let layer = layer.unwrap_or(0);
            let (first_room, members) = match scenario.layers.is_empty() {
                true => (0, 1),
                false => (scenario.room_number(layer, 0), scenario.members(layer).max(1)),
            };
            let mean_gap_ns = if sends { (1e9 / traffic.rate_per_s).max(1.0) } else { f64::INFINITY };
            let rooms = if traffic.rooms == 0 { u32::MAX } else { traffic.rooms };
            Line { layer, first_room, members, rooms, arrival: traffic.arrival, mean_gap_ns }
        });
        lines.collect()
    }

    fn first_gap_ns(&self, random: &mut Random) -> u64 {
        match self.arrival {
            Arrival::Poisson => self.gap_ns(random), // without memory: any moment is as good a start
            Arrival::Uniform => ((1.0 - random.unit()) * self.mean_gap_ns) as u64,
        }
    }

    fn gap_ns(&self, random: &mut Random) -> u64 {
        match self.arrival {
            Arrival::Poisson => (random.exponential() * self.mean_gap_ns).round() as u64,
            Arrival::Uniform => self.mean_gap_ns.round() as u64,
        }
    }
}

struct Sender {
    random: Random,
    connection: u32,
    publisher: u32,
    line: u32,
}

/// Ordered so that the earliest is the greatest, as `BinaryHeap` wants it.
#[derive(PartialEq, Eq)]
struct Next {
    at_ns: u64,
    sender: u32,
}

impl Ord for Next {
    fn cmp(&self, other: &Next) -> Ordering {
        #[cfg(test)]
        tests::COMPARISONS.set(tests::COMPARISONS.get() + 1);
        (other.at_ns, other.sender).cmp(&(self.at_ns, self.sender))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Next) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests;
