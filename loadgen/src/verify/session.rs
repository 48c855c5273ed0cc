//! The run of the plain clients: one thread, `poll`, everything looked at.
use super::client::{Client, Joined};
use super::envelope::{self, Event};
use super::{Names, judge};
use crate::check::{Checker, Sent};
use crate::result::{Timed, Verification};
use crate::scenario::{Kind, Scenario};
use crate::schedule::{Due, Schedule};
use crate::server::witness::percentiles;
use crate::stamp::Stamp;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const MS: u64 = 1_000_000;
/// Between the last join and the first message.
const LEAD_NS: u64 = 100 * MS;
/// Longest wait for anything: how soon a stop is noticed.
const WAIT_NS: u64 = 20 * MS;

pub struct Session<'a> {
    scenario: &'a Scenario,
    names: Names,
    start: Instant,
    clients: Vec<Client>,
    checker: Checker,
    sent: Sent,
    /// Messages of each publisher of a room so far.
    numbers: HashMap<(u32, u32), u32>,
    /// Durable messages without an answer, by the id of their command, and who sent them.
    unanswered: HashMap<String, u32>,
    measured_from_ns: u64,
    messages: u64,
    acked: u64,
    histograms: BTreeMap<Timed, Histogram<u64>>,
    faults: judge::Faults,
}

impl<'a> Session<'a> {
    /// Nobody is connected yet. Times count from `start`.
    pub fn new(scenario: &'a Scenario, names: Names, start: Instant) -> Session<'a> {
        Session {
            scenario,
            names,
            start,
            clients: Vec::new(),
            checker: Checker::new(scenario, 0..scenario.connections),
            sent: Sent::new(scenario),
            numbers: HashMap::new(),
            unanswered: HashMap::new(),
            measured_from_ns: 0,
            messages: 0,
            acked: 0,
            histograms: BTreeMap::new(),
            faults: judge::Faults::default(),
        }
    }

    pub fn joined(&mut self, connection: u32, room: u32, joined: &Joined) {
        self.checker.positioned(connection, room, &joined.epoch, joined.offset);
    }

    /// The next connection, in its rooms.
    pub fn add(&mut self, client: Client) {
        self.clients.push(client);
    }

    /// Sends by the schedule and reads until everything has come, or the time to settle is over.
    pub fn run(&mut self, seed: u64, stop: &AtomicBool) -> rustix::io::Result<()> {
        let seconds = |seconds: f64| (seconds * 1e9) as u64;
        let time = self.scenario.time;
        let from_ns = self.now_ns() + LEAD_NS;
        self.measured_from_ns = from_ns + seconds(time.warmup_s);
        let until_ns = self.measured_from_ns + seconds(time.measure_s);
        let everyone = 0..self.scenario.connections;
        let mut schedule = Schedule::new(self.scenario, everyone, seed, from_ns, until_ns);
        let mut heartbeats = Heartbeats::new(self.scenario, from_ns, until_ns);
        let mut deadline_ns = until_ns + seconds(time.settle_s);
        loop {
            let now_ns = self.now_ns();
            while let Some(due) = schedule.pop(now_ns) {
                self.send(&due);
            }
            while let Some((connection, intended_ns)) = heartbeats.pop(now_ns) {
                self.clients[connection as usize].send(envelope::heartbeat("heartbeat", intended_ns));
                self.messages += 1;
            }
            if stop.load(Ordering::Relaxed) {
                deadline_ns = 0;
            }
            let is_sent = schedule.next_due().is_none() && heartbeats.next.is_none();
            let is_settled = is_sent && self.unanswered.is_empty() && self.checker.outstanding(&self.sent) == 0;
            if is_settled || now_ns >= deadline_ns {
                return Ok(());
            }
            let next = schedule.next_due().into_iter().chain(heartbeats.next).min();
            let wait_ns = next.map_or(WAIT_NS, |next| next.saturating_sub(now_ns).min(WAIT_NS));
            self.wait(wait_ns)?;
        }
    }

    /// Reads what is left, says goodbye, and sums up.
    pub fn finish(mut self) -> Verification {
        for id in self.unanswered.keys() {
            self.faults.add(format!("message {id} was never answered"));
        }
        self.clients.drain(..).for_each(Client::close);
        let latency = self.histograms.iter().map(|(timed, histogram)| (*timed, percentiles(histogram))).collect();
        Verification {
            connections: self.scenario.connections,
            messages: self.messages,
            acked: self.acked,
            integrity: self.checker.finish(&self.sent),
            latency,
            faults: self.faults.count,
            fault_examples: self.faults.examples,
            contradictions: Vec::new(),
        }
    }

    fn send(&mut self, due: &Due) {
        let line = &self.scenario.traffic[due.traffic];
        let number = self.numbers.entry((due.room, due.publisher)).or_default();
        *number += 1;
        let stamp = Stamp { room: due.room, publisher: due.publisher, number: *number, intended_ns: due.intended_ns };
        let room = self.names.room(due.room);
        let text = envelope::message(line.kind, &room, stamp, line.payload_bytes, line.include_self);
        match line.kind {
            Kind::Durable => {
                self.sent.sent(due.room, due.publisher, stamp.number);
                self.unanswered.insert(envelope::mark(stamp), due.connection);
            }
            Kind::Live => self.sent.sent(due.room, due.publisher, stamp.number),
            Kind::Typing | Kind::Activity => {}
        }
        self.messages += 1;
        self.clients[due.connection as usize].send(text);
    }

    /// Waits for anything to read or write, at most `wait_ns`, and reads.
    fn wait(&mut self, wait_ns: u64) -> rustix::io::Result<()> {
        let ready: Vec<(bool, bool)> = {
            let mut fds: Vec<PollFd> =
                self.clients.iter().map(|client| PollFd::from_borrowed_fd(client.fd(), events_of(client))).collect();
            let timeout = Timespec { tv_sec: (wait_ns / 1_000_000_000) as _, tv_nsec: (wait_ns % 1_000_000_000) as _ };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let writable = |fd: &PollFd| fd.revents().contains(PollFlags::OUT);
            fds.iter().map(|fd| (!fd.revents().difference(PollFlags::OUT).is_empty(), writable(fd))).collect()
        };
        for (connection, (is_readable, is_writable)) in ready.into_iter().enumerate() {
            if is_writable {
                self.clients[connection].flush();
            }
            if is_readable {
                self.read(connection as u32);
            }
        }
        Ok(())
    }

    fn read(&mut self, connection: u32) {
        while let Some(event) = self.clients[connection as usize].poll() {
            match event {
                Ok(event) => self.handle(connection, event),
                Err(fault) => self.faults.add(format!("connection {connection}: {fault}")),
            }
        }
        if let Some(why) = &self.clients[connection as usize].ended {
            self.faults.add(format!("connection {connection} ended: {why}"));
            self.checker.away(connection);
        }
    }

    fn handle(&mut self, connection: u32, event: Event) {
        match event {
            Event::Live { room, stamp } => {
                self.in_room(connection, &room, &stamp);
                self.checker.live(connection, &stamp);
                self.record(Timed::Live, stamp.intended_ns);
            }
            Event::Durable { room, stamp, offset, epoch } => {
                self.in_room(connection, &room, &stamp);
                if self.unanswered.get(&envelope::mark(stamp)) == Some(&connection) {
                    self.faults.add(format!("connection {connection}: {stamp:?} came to its sender before its ack"));
                }
                self.checker.durable(connection, &stamp, offset, &epoch);
                self.record(Timed::Durable, stamp.intended_ns);
            }
            Event::Ack { request, is_duplicate } => match self.answered(connection, &request) {
                None => {
                    self.faults.add(format!("connection {connection}: an ack for {request:?}, which waits for none"))
                }
                Some(stamp) => {
                    if is_duplicate != Some(false) {
                        self.faults.add(format!("{stamp:?} was sent once, its ack says duplicate: {is_duplicate:?}"));
                    }
                    self.acked += 1;
                    self.sent.acked(stamp.room, stamp.publisher, stamp.number);
                    self.record(Timed::Ack, stamp.intended_ns);
                }
            },
            Event::Error { request, code } => {
                if let Some(stamp) = request.as_deref().and_then(|request| self.answered(connection, request)) {
                    self.sent.refused(stamp.room, stamp.publisher, stamp.number);
                }
                self.faults.add(format!("connection {connection}: error {code} for {request:?}"));
            }
            Event::HeartbeatAnswer { client_timestamp } => self.record(Timed::Heartbeat, client_timestamp),
            Event::Established | Event::RoomState { .. } => {
                self.faults.add(format!("connection {connection}: {event:?} without having asked"));
            }
            Event::Other => {}
        }
    }

    /// The answer to a durable message of this connection: takes it off the list.
    fn answered(&mut self, connection: u32, request: &str) -> Option<Stamp> {
        if self.unanswered.get(request) != Some(&connection) {
            return None;
        }
        self.unanswered.remove(request);
        envelope::stamp_of_request(request)
    }

    /// The checker goes by the stamp; that the envelope names the same room is for us to see.
    fn in_room(&mut self, connection: u32, room: &str, stamp: &Stamp) {
        if !self.names.is_room_of(room, stamp) {
            self.faults.add(format!("connection {connection}: {stamp:?} came as of room {room}"));
        }
    }

    fn record(&mut self, timed: Timed, intended_ns: u64) {
        if intended_ns < self.measured_from_ns {
            return;
        }
        let now_ns = self.now_ns();
        let histogram = self.histograms.entry(timed).or_insert_with(histogram);
        histogram.saturating_record(now_ns.saturating_sub(intended_ns));
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// From 1 ns to a minute, three digits. (One without bounds would grow by `record`, but not by `saturating_record`.)
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000 * MS, 3).expect("bounds in order, digits allowed")
}

/// What a client waits for. Nothing once it has ended: its descriptor would report so for ever.
fn events_of(client: &Client) -> PollFlags {
    match (client.ended.is_some(), client.is_unflushed) {
        (true, _) => PollFlags::empty(),
        (false, true) => PollFlags::IN | PollFlags::OUT,
        (false, false) => PollFlags::IN,
    }
}

/// Heartbeats in turn, evenly: everyone has one each `heartbeat_ms`.
struct Heartbeats {
    connections: u64,
    period_ns: u64,
    from_ns: u64,
    until_ns: u64,
    count: u64,
    /// When the next is to be sent.
    next: Option<u64>,
}

impl Heartbeats {
    fn new(scenario: &Scenario, from_ns: u64, until_ns: u64) -> Heartbeats {
        let (connections, period_ns) = (u64::from(scenario.connections), scenario.heartbeat_ms * MS);
        Heartbeats { connections, period_ns, from_ns, until_ns, count: 0, next: (period_ns > 0).then_some(from_ns) }
    }

    /// Who sends one by now, and when it was to be sent.
    fn pop(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let at_ns = self.next.filter(|next| *next <= now_ns)?;
        let connection = (self.count % self.connections) as u32;
        self.count += 1;
        let next = self.from_ns + self.count * self.period_ns / self.connections;
        self.next = (next < self.until_ns).then_some(next);
        Some((connection, at_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::load::{Adjust, load};

    #[test]
    fn latencies_keep_three_digits() {
        let mut histogram = histogram();
        [1, 1_000 * MS, 100_000 * MS].iter().for_each(|value| histogram.saturating_record(*value));
        let percentiles = percentiles(&histogram);
        assert!(percentiles.p50.abs_diff(1_000 * MS) <= MS, "{percentiles:?}");
        assert!(percentiles.max.abs_diff(60_000 * MS) <= 100 * MS, "{percentiles:?}");
    }

    #[test]
    fn heartbeats_are_spread_evenly_and_fair() {
        let mut scenario = load("echo", &Adjust::default()).expect("sound");
        scenario.connections = 4;
        scenario.heartbeat_ms = 2;
        let mut heartbeats = Heartbeats::new(&scenario, 100, 100 + 3 * MS);
        assert_eq!(heartbeats.pop(99), None);
        let all: Vec<_> = std::iter::from_fn(|| heartbeats.pop(u64::MAX)).collect();
        let half = MS / 2;
        assert_eq!(
            all,
            [
                (0, 100),
                (1, 100 + half),
                (2, 100 + MS),
                (3, 100 + MS + half),
                (0, 100 + 2 * MS),
                (1, 100 + 2 * MS + half)
            ]
        );
    }
}
