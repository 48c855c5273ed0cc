//! Clients come, are lost, and come back.
use super::clock::{MS, SECOND};
use super::disturb::Random;
use super::link::{NO_SLOT, Opening, State};
use super::worker::Worker;
use crate::result::Timed;
use crate::wire::{Command, Identity, Reply};
use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use throng::plane::{Plane, Slot};

/// Attempts in a row after which a client gives up, and the run with it: its figures would be those of another load.
const ATTEMPTS_MAX: u8 = 10;
/// Wait before the second attempt; doubles each time up to `BACKOFF_MAX`.
const BACKOFF: u64 = 100 * MS;
const BACKOFF_MAX: u64 = 5 * SECOND;
/// A client that the server has dropped comes back after a random time up to this, as a client library would.
const RETURN_JITTER: u64 = SECOND;

impl Worker<'_> {
    pub(super) fn link(&mut self, connection: u32) -> &mut super::link::Link {
        &mut self.links[(connection - self.connections.start) as usize]
    }

    /// When the next client is to be connected for the first time; `None`: not before something else has happened.
    pub(super) fn next_initial_due(&self) -> Option<u64> {
        if self.next_connect == self.connections.end || !self.has_window() {
            return None;
        }
        match self.shared.scenario.connect.rate_per_s {
            rate if rate > 0.0 => Some((f64::from(self.next_connect) / rate * SECOND as f64) as u64),
            _ => Some(0),
        }
    }

    /// When the next one is to come back; `None` as above.
    pub(super) fn next_return_due(&self) -> Option<u64> {
        self.returns.peek().filter(|_| self.has_window()).map(|Reverse((due, _))| *due)
    }

    fn has_window(&self) -> bool {
        self.openings.len() < self.window as usize
    }

    /// Begins the connects that are due, as many as the window lets.
    pub(super) fn begin_connects(&mut self, now: u64) {
        loop {
            if let Some(due) = self.next_return_due().filter(|due| *due <= now) {
                let Some(Reverse((_, connection))) = self.returns.pop() else { return };
                self.begin(connection, due, now);
            } else if let Some(due) = self.next_initial_due().filter(|due| *due <= now) {
                let connection = self.next_connect;
                self.next_connect += 1;
                self.begin(connection, if due == 0 { now } else { due }, now);
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, connection: u32, intended_ns: u64, now: u64) {
        if self.link(connection).state == State::Leaving {
            self.detach(connection); // its goodbye was not answered in time
        }
        let target = self.shared.target;
        let address = target.addresses[connection as usize % target.addresses.len()];
        let source = (!target.sources.is_empty())
            .then(|| target.sources[connection as usize / target.addresses.len() % target.sources.len()]);
        let socket = match throng::plane::os::connect(source, address) {
            Ok(socket) => socket,
            Err(error) => return self.fail_attempt(connection, &format!("cannot connect to {address}: {error}")),
        };
        let Ok(slot) = self.plane.adopt(socket) else {
            return self.fail_attempt(connection, "the ring's table is full, or the kernel has no memory for it");
        };
        if self.owners.len() <= slot as usize {
            self.owners.resize(slot as usize + 1, u32::MAX);
        }
        self.owners[slot as usize] = connection;
        (self.link(connection).slot, self.link(connection).state) = (slot, State::Upgrading);
        let layers = self.shared.scenario.layers.len();
        let opening = Opening { intended_ns, begun_ns: now, joins_sent_ns: 0, joins_left: layers as u8 };
        self.openings.insert(connection, opening);

        let user = self.shared.names.user(connection);
        let token = target.signer.token(&user);
        let identity = Identity { user: &user, token: token.as_deref() };
        let rooms: Vec<String> = (0..layers).map(|layer| self.room_name(layer, connection)).collect();
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        // It may not be connected yet: then the kernel takes nothing now, and all once it is.
        self.outbox.push(slot, |out| target.dialect.upgrade(out, &target.host, &identity, &rooms));
    }

    pub(super) fn room_name(&self, layer: usize, connection: u32) -> String {
        self.shared.names.room(self.shared.scenario.room_number(layer, connection))
    }

    /// Writes a command to a client's connection.
    pub(super) fn write(&mut self, connection: u32, command: &Command) {
        let slot = self.link(connection).slot;
        if slot == NO_SLOT {
            return;
        }
        let dialect = self.shared.target.dialect;
        match self.unsent.get_mut(&slot) {
            // Behind what is still waiting.
            Some(rest) => {
                let before = rest.len();
                dialect.write(command, rest);
                self.unsent_bytes += (rest.len() - before) as u64;
                self.unsent_bytes_max = self.unsent_bytes_max.max(self.unsent_bytes);
            }
            None => self.outbox.push(slot, |out| dialect.write(command, out)),
        }
    }

    /// The upgrade was accepted.
    pub(super) fn upgraded(&mut self, connection: u32, now: u64) {
        self.link(connection).state = State::Joining;
        if let Some(opening) = self.openings.get(&connection) {
            let (intended_ns, begun_ns) = (opening.intended_ns, opening.begun_ns);
            self.recorder.sample(Timed::Handshake, now - intended_ns, Some(now - begun_ns));
        }
        let target = self.shared.target;
        let token = match target.dialect.signs_in_late() {
            true => target.signer.token(&self.shared.names.user(connection)),
            false => None,
        };
        self.write(connection, &Command::Hello { token: token.as_deref() });
        if !self.shared.target.dialect.greets() {
            self.signed_in(connection, now);
        }
    }

    /// The server knows the client: now into its rooms.
    pub(super) fn signed_in(&mut self, connection: u32, now: u64) {
        if self.link(connection).state != State::Joining {
            return;
        }
        let layers = self.shared.scenario.layers.len();
        if layers == 0 || !self.shared.target.dialect.joins() {
            return self.became_ready(connection, now);
        }
        if let Some(opening) = self.openings.get_mut(&connection) {
            opening.joins_sent_ns = now;
        }
        for layer in 0..layers {
            let room_number = self.shared.scenario.room_number(layer, connection);
            let room = self.shared.names.room(room_number);
            let position = self.position(layer, room_number, connection);
            let recover = position.as_ref().map(|(epoch, offset)| (epoch.as_ref(), *offset));
            self.write(connection, &Command::Join { room: &room, request: layer as u32, recover });
        }
    }

    /// From where a client that comes back wants to go on.
    fn position(&mut self, layer: usize, room: u32, connection: u32) -> Option<(Box<str>, u64)> {
        if !self.link(connection).is_return || self.offsets[layer].is_empty() {
            return None;
        }
        let offset = self.offsets[layer][(connection - self.connections.start) as usize];
        Some((self.epochs.get(&room)?.clone(), offset))
    }

    pub(super) fn joined(&mut self, connection: u32, layer: usize, now: u64) {
        let Some(opening) = self.openings.get_mut(&connection) else { return };
        opening.joins_left = opening.joins_left.saturating_sub(1);
        let (joins_left, waited) = (opening.joins_left, now - opening.joins_sent_ns);
        self.recorder.sample(Timed::Join, waited, Some(waited));
        // Where there is something to recover, the room's state says what came of it.
        if self.link(connection).is_return && self.offsets[layer].is_empty() {
            let room = self.shared.scenario.room_number(layer, connection);
            self.checker.back(connection, room, None);
        }
        if joins_left == 0 {
            self.became_ready(connection, now);
        }
    }

    fn became_ready(&mut self, connection: u32, now: u64) {
        self.openings.remove(&connection);
        let link = self.link(connection);
        (link.state, link.attempts) = (State::Ready, 0);
        if link.is_return {
            self.counts.reconnected += 1;
            self.repeat_unacked(connection);
        } else {
            self.counts.connected += 1;
            self.counts.connect_span_ns = now;
        }
        self.ready += 1;
        self.shared.control.progress.ready.fetch_add(1, Ordering::Relaxed);
        if self.ready as usize == self.links.len()
            && let Some(began) = self.storm_began_ns.take()
        {
            self.counts.storm_span_ns = now - began;
        }
    }

    /// Takes the socket away from its client; it is closed once this turn's bytes are out.
    pub(super) fn detach(&mut self, connection: u32) {
        let slot = std::mem::replace(&mut self.link(connection).slot, NO_SLOT);
        self.link(connection).state = State::Away;
        self.openings.remove(&connection);
        if slot == NO_SLOT {
            return;
        }
        self.owners[slot as usize] = u32::MAX;
        self.partial.remove(&slot);
        self.fragments.remove(&slot);
        if let Some(rest) = self.unsent.remove(&slot) {
            self.unsent_bytes -= rest.len() as u64;
        }
        self.closing.push(slot);
    }

    /// The transport has ended.
    pub(super) fn ended(&mut self, slot: Slot) {
        match self.owners.get(slot as usize) {
            Some(&connection) if connection != u32::MAX => self.lost(connection, 1006),
            _ => {}
        }
    }

    /// The server, or whatever lies between, has ended the connection.
    pub(super) fn lost(&mut self, connection: u32, code: u16) {
        match self.link(connection).state {
            State::Away | State::Gone => {}
            State::Leaving => self.detach(connection),
            State::Upgrading | State::Joining => {
                let reason = format!("the server closed the connection before it was ready (close code {code})");
                self.fail_attempt(connection, &reason);
            }
            State::Ready => {
                self.dropped(connection, code);
                self.detach(connection);
            }
        }
    }

    /// The server has said that it closes. It ends the transport too (RFC 6455 section 7.1.1): then there is nothing left to shut
    /// down, which is what costs most about an end.
    pub(super) fn closed(&mut self, connection: u32, code: u16) {
        match self.link(connection).state {
            State::Leaving => {} // the answer to our own goodbye
            State::Ready => {
                self.write(connection, &Command::Reply(Reply::Close(code)));
                self.dropped(connection, code);
                self.link(connection).state = State::Leaving;
            }
            _ => self.lost(connection, code),
        }
    }

    fn dropped(&mut self, connection: u32, code: u16) {
        self.no_longer_ready(connection);
        *self.counts.closed.entry(code).or_default() += 1;
        let wait = (self.random.unit() * RETURN_JITTER as f64) as u64;
        self.returns.push(Reverse((self.shared.clock.now_ns() + wait, connection)));
    }

    fn no_longer_ready(&mut self, connection: u32) {
        self.checker.away(connection);
        self.doubt_last_live(connection);
        (self.link(connection).unanswered, self.link(connection).is_return) = (0, true);
        self.ready -= 1;
        self.shared.control.progress.ready.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tries again later; or ends the run when that has been done often enough.
    pub(super) fn fail_attempt(&mut self, connection: u32, reason: &str) {
        self.detach(connection);
        self.counts.connect_failed += 1;
        let link = self.link(connection);
        link.attempts += 1;
        let attempts = link.attempts;
        if attempts >= ATTEMPTS_MAX {
            self.link(connection).state = State::Gone;
            self.fatal = Some(format!("client {connection} gave up after {attempts} attempts: {reason}"));
            return;
        }
        tracing::debug!(connection, attempts, reason, "attempt failed");
        let wait = (BACKOFF << (attempts - 1)).min(BACKOFF_MAX);
        self.returns.push(Reverse((self.shared.clock.now_ns() + wait, connection)));
    }

    /// Breaks what is to break now.
    pub(super) fn disturb(&mut self, now: u64) {
        for one in self.disturbances.take_due(now) {
            if self.link(one.connection).state != State::Ready {
                continue;
            }
            if self.shared.scenario.storm.is_some() && self.storm_began_ns.is_none() {
                self.storm_began_ns = Some(now);
            }
            self.counts.broken += 1;
            self.no_longer_ready(one.connection);
            if one.is_orderly {
                self.write(one.connection, &Command::Close { code: 1000 });
                self.link(one.connection).state = State::Leaving;
            } else {
                self.detach(one.connection);
            }
            self.returns.push(Reverse((one.return_ns, one.connection)));
        }
    }

    /// The end: all go, without a word, as when a building loses its power. (With a goodbye each, every room would hear of every
    /// member that leaves, and the end would cost more than the run.)
    pub(super) fn leave(&mut self) -> Result<(), super::EngineError> {
        const BATCH: u32 = 1_000;
        /// For those that have not ended by then, and for each of `PER_SECOND` more a second.
        const PATIENCE: u64 = 10 * SECOND;
        const PER_SECOND: u64 = 5_000;
        self.returns.clear();
        self.heartbeats.stop();
        let began = self.shared.clock.now_ns();
        let until = began + PATIENCE + self.links.len() as u64 * SECOND / PER_SECOND;
        let mut next = self.connections.start;
        loop {
            let end = next.saturating_add(BATCH).min(self.connections.end);
            for connection in next..end {
                if self.link(connection).state == State::Ready {
                    self.no_longer_ready(connection);
                }
                self.detach(connection);
            }
            next = end;
            self.turn((next < self.connections.end).then_some(began))?;
            let (now, stats) = (self.shared.clock.now_ns(), self.plane.stats());
            if next == self.connections.end && stats.released == stats.adopted || now > until {
                self.counts.close_span_ns = now - began;
                return Ok(());
            }
        }
    }

    pub(super) fn new_random(seed: u64, worker: u32) -> Random {
        Random::new(seed.rotate_left(17) ^ u64::from(worker))
    }
}
