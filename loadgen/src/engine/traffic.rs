//! What is due: messages by the schedule, heartbeats, and what a returned client has to say again.
use super::clock::MS;
use super::link::State;
use super::worker::Worker;
use crate::result::Timed;
use crate::scenario::{Kind, Scenario};
use crate::schedule::Due;
use crate::stamp::Stamp;
use crate::wire::Command;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// What is kept of a sender in a room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publisher {
    /// Of its last message.
    number: u32,
    /// How late its last messages were sent, µs, by number: a delivery's service time is its response time less this.
    lags_us: [u32; 4],
}

/// Heartbeats of a worker's clients: equal gaps, phases spread evenly over all clients of the run. No list is needed for
/// that: they come in the order of the clients, again and again, from the start of the run: who is connected says so.
pub struct Heartbeats {
    interval_ns: u64,
    all: u64,
    connections: Range<u32>,
    until_ns: u64,
    round: u64,
    next: u32,
}

impl Heartbeats {
    pub fn new(scenario: &Scenario, connections: Range<u32>) -> Heartbeats {
        Heartbeats {
            interval_ns: scenario.heartbeat_ms * MS,
            all: u64::from(scenario.connections.max(1)),
            next: connections.start,
            connections,
            until_ns: u64::MAX,
            round: 0,
        }
    }

    /// No heartbeat is due from then on.
    pub fn end_at(&mut self, until_ns: u64) {
        self.until_ns = until_ns;
    }

    pub fn stop(&mut self) {
        self.until_ns = 0;
    }

    pub fn next_due(&self) -> Option<u64> {
        if self.interval_ns == 0 || self.connections.is_empty() {
            return None;
        }
        let phase = (u128::from(self.interval_ns) * u128::from(self.next) / u128::from(self.all)) as u64;
        Some(self.round * self.interval_ns + phase).filter(|due| *due < self.until_ns)
    }

    /// The client whose heartbeat is due, and when it was.
    pub fn pop(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let due = self.next_due().filter(|due| *due <= now_ns)?;
        let connection = self.next;
        self.next += 1;
        if self.next == self.connections.end {
            (self.next, self.round) = (self.connections.start, self.round + 1);
        }
        Some((connection, due))
    }
}

/// Who sends live events, by layer and member: publisher and traffic line.
pub type LiveSenders = Vec<HashMap<u32, Vec<(u32, usize)>>>;

pub fn live_senders(scenario: &Scenario) -> LiveSenders {
    let of_layer = |layer| {
        let mut senders: HashMap<u32, Vec<(u32, usize)>> = HashMap::new();
        for (publisher, at) in (0..).zip(scenario.publishers(layer)) {
            if scenario.traffic[at.traffic].kind == Kind::Live {
                senders.entry(at.member).or_default().push((publisher, at.traffic));
            }
        }
        senders
    };
    (0..scenario.layers.len()).map(of_layer).collect()
}

impl Worker<'_> {
    /// Writes everything that is due by now.
    pub(super) fn send_due(&mut self) {
        let now = self.shared.clock.now_ns();
        while let Some((connection, intended_ns)) = self.heartbeats.pop(now) {
            self.heartbeat(connection, intended_ns, now);
        }
        while let Some(due) = self.schedule.as_mut().and_then(|schedule| schedule.pop(now)) {
            self.publish(&due, now);
        }
    }

    fn heartbeat(&mut self, connection: u32, intended_ns: u64, now: u64) {
        let link = self.link(connection);
        if link.state != State::Ready {
            return;
        }
        link.unanswered = link.unanswered.saturating_add(1);
        link.heartbeat_lag_us = ((now - intended_ns) / 1_000).min(u64::from(u32::MAX)) as u32;
        self.recorder.sent(now - intended_ns);
        self.count_sent(Timed::Heartbeat.name(), now);
        self.write(connection, &Command::Heartbeat { intended_ns });
    }

    fn publish(&mut self, due: &Due, now: u64) {
        if self.link(due.connection).state != State::Ready {
            return; // a client that is away sends nothing
        }
        let scenario = self.shared.scenario;
        let line = &scenario.traffic[due.traffic];
        let room = self.name_of(due.room);
        let lag_ns = now - due.intended_ns;
        self.recorder.sent(lag_ns);
        match line.kind {
            Kind::Typing => {
                self.count_sent("typing", now);
                return self.write(due.connection, &Command::Typing { room: &room });
            }
            Kind::Activity => {
                self.count_sent("activity", now);
                return self.write(due.connection, &Command::Activity);
            }
            Kind::Live | Kind::Durable => {}
        }
        let publisher = self.publishers.entry((due.room, due.publisher)).or_default();
        publisher.number += 1;
        publisher.lags_us[publisher.number as usize % 4] = (lag_ns / 1_000).min(u64::from(u32::MAX)) as u32;
        let stamp =
            Stamp { room: due.room, publisher: due.publisher, number: publisher.number, intended_ns: due.intended_ns };
        self.sent.sent(stamp.room, stamp.publisher, stamp.number);
        if line.kind == Kind::Durable {
            self.count_sent(Timed::Durable.name(), now);
            self.unacked.entry(due.connection).or_default().push_back((due.traffic, stamp));
            self.write(due.connection, &Command::Durable { room: &room, stamp, text_bytes: line.payload_bytes });
        } else {
            self.count_sent(Timed::Live.name(), now);
            let command = Command::Live {
                room: &room,
                stamp,
                payload_bytes: line.payload_bytes,
                include_self: line.include_self,
            };
            self.write(due.connection, &command);
        }
    }

    /// A connection breaks: live events that it sent within the last second may not have reached the server. (Durable ones are said
    /// again.)
    pub(super) fn doubt_last_live(&mut self, connection: u32) {
        const UNSURE_S: f64 = 1.0;
        let scenario = self.shared.scenario;
        for layer in 0..scenario.layers.len() {
            let member = connection % scenario.members(layer).max(1);
            let room = scenario.room_number(layer, connection);
            for (publisher, traffic) in self.live_senders[layer].get(&member).into_iter().flatten() {
                let Some(kept) = self.publishers.get(&(room, *publisher)) else { continue };
                let unsure = (scenario.traffic[*traffic].rate_per_s * UNSURE_S).ceil() as u32 + 1;
                let from = kept.number.saturating_sub(unsure) + 1;
                self.sent.in_doubt(room, *publisher, from, kept.number);
            }
        }
    }

    /// A client that has come back says again, under the same ids, what was not acked (docs/PROTOCOL.md: repeating is safe).
    pub(super) fn repeat_unacked(&mut self, connection: u32) {
        let Some(pending) = self.unacked.remove(&connection) else { return };
        for (traffic, stamp) in &pending {
            let room = self.name_of(stamp.room);
            let text_bytes = self.shared.scenario.traffic[*traffic].payload_bytes;
            self.write(connection, &Command::Durable { room: &room, stamp: *stamp, text_bytes });
        }
        self.unacked.insert(connection, pending);
    }

    /// An ack or a refusal has come: the message is no longer under way. Its traffic line, if it was.
    pub(super) fn take_unacked(&mut self, connection: u32, stamp: &Stamp) -> Option<usize> {
        let pending = self.unacked.get_mut(&connection)?;
        let at = pending.iter().position(|(_, other)| {
            (other.room, other.number) == (stamp.room, stamp.number) && other.publisher == stamp.publisher
        })?;
        let (traffic, _) = pending.remove(at)?;
        if pending.is_empty() {
            self.unacked.remove(&connection);
        }
        Some(traffic)
    }

    /// How late a message was sent, if its sender is one of ours and the message recent.
    pub(super) fn lag_of(&self, stamp: &Stamp) -> Option<u64> {
        let publisher = self.publishers.get(&(stamp.room, stamp.publisher))?;
        let is_kept = publisher.number.checked_sub(stamp.number).is_some_and(|age| age < 4);
        is_kept.then(|| u64::from(publisher.lags_us[stamp.number as usize % 4]) * 1_000)
    }

    /// Rooms that are sent to keep their names: writing one costs more than the rest of a command.
    fn name_of(&mut self, room: u32) -> Rc<str> {
        let names = self.shared.names;
        self.room_names.entry(room).or_insert_with(|| names.room(room).into()).clone()
    }

    fn count_sent(&mut self, kind: &str, now: u64) {
        match self.counts.sent.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.counts.sent.insert(kind.to_owned(), 1);
            }
        }
        if self.is_measured(now) {
            self.counts.measured_sent += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_spread_evenly_and_each_comes_in_each_round() {
        let text =
            "name = 'x'\nabout = 'y'\nconnections = 10\nheartbeat_ms = 100\ntime = { warmup_s = 0, measure_s = 1 }";
        let scenario: Scenario = toml::from_str(text).expect("a scenario");
        let mut heartbeats = Heartbeats::new(&scenario, 5..10);
        heartbeats.end_at(200 * MS);
        assert_eq!(heartbeats.pop(49 * MS), None);
        let all: Vec<_> = std::iter::from_fn(|| heartbeats.pop(u64::MAX)).collect();
        let expected: Vec<_> =
            (0..2).flat_map(|round| (5..10).map(move |c| (c, (round * 100 + u64::from(c) * 10) * MS))).collect();
        assert_eq!(all, expected);
    }
}
