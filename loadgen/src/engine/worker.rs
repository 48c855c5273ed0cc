//! A worker: one thread with its rings, a contiguous range of the clients.
//!
//! It does in turns what is due, takes what has come, and sends all of a turn at once. Between turns it sleeps until something
//! arrives or the next message is due; the time asleep is its reserve, and is reported.
use super::EngineError;
use super::clock::{Clock, MS, SECOND};
use super::control::Control;
use super::disturb::{Disturbances, Random};
use super::link::{Link, Opening};
use super::names::Names;
use super::outbox::Outbox;
use super::record::{Recorder, Seconds, Totals};
use super::signals::Signals;
use super::traffic::{Heartbeats, LiveSenders, Publisher, live_senders};
use crate::check::{Checker, Sent};
use crate::result::{Counts, Integrity, Timed, WorkerLoad};
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::server::Target;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use throng::plane::{Completion, Plane, Rings, Slot};

/// What all workers and the coordinator share.
pub struct Shared<'a> {
    pub scenario: &'a Scenario,
    pub target: &'a Target,
    pub clock: Clock,
    pub names: Names,
    pub seed: u64,
    pub control: &'a Control,
    pub signals: Signals,
    pub seconds: Seconds,
    pub workers: u32,
    pub main: Timed,
}

/// What a worker found out.
#[derive(Default)]
pub struct WorkerOutcome {
    pub counts: Counts,
    pub integrity: Integrity,
    pub totals: Totals,
    pub load: WorkerLoad,
}

/// Longest sleep: how stale the worker may find the run's stage.
const SLEEP_MAX: u64 = 20 * MS;
/// Receives after which a worker looks whether something is due: a burst of thousands takes milliseconds, which would be missing from
/// the schedule.
const RECEIVES_PER_LOOK: usize = 64;
/// Receive buffers: what one `collect` can bring, and so how long a worker may be deaf to its schedule, some hundred microseconds.
const BUFFERS: u32 = 128;
/// Of the plane's housekeeping.
const TICK: u64 = 100 * MS;

pub struct Worker<'a> {
    pub(super) shared: &'a Shared<'a>,
    /// The clients, by number over all workers.
    pub(super) connections: Range<u32>,
    pub(super) plane: Rings,
    pub(super) links: Vec<Link>,
    /// Whose socket a slot is; `u32::MAX`: nobody's any more.
    pub(super) owners: Vec<u32>,
    pub(super) openings: HashMap<u32, Opening>,
    /// Starts of messages, and upgrade heads, whose end has not come.
    pub(super) partial: HashMap<Slot, Vec<u8>>,
    /// Messages that come in fragments: opcode and payload so far.
    pub(super) fragments: HashMap<Slot, (u8, Vec<u8>)>,
    /// What the kernel did not take.
    pub(super) unsent: HashMap<Slot, Vec<u8>>,
    pub(super) unsent_bytes: u64,
    pub(super) unsent_bytes_max: u64,
    pub(super) outbox: Outbox,
    /// Slots to close once this turn's bytes are out.
    pub(super) closing: Vec<Slot>,
    /// Clients that come back, by time.
    pub(super) returns: BinaryHeap<Reverse<(u64, u32)>>,
    /// Next client that has not been connected yet.
    pub(super) next_connect: u32,
    pub(super) window: u32,
    pub(super) disturbances: Disturbances,
    pub(super) heartbeats: Heartbeats,
    pub(super) schedule: Option<Schedule>,
    pub(super) publishers: HashMap<(u32, u32), Publisher>,
    pub(super) live_senders: LiveSenders,
    pub(super) room_names: HashMap<u32, Rc<str>>,
    /// Durable messages without an ack, by sender, oldest first: traffic line and stamp.
    pub(super) unacked: HashMap<u32, VecDeque<(usize, crate::stamp::Stamp)>>,
    /// Last offset applied, by layer (only those with durable traffic) and client.
    pub(super) offsets: Vec<Vec<u64>>,
    pub(super) epochs: HashMap<u32, Box<str>>,
    pub(super) checker: Checker,
    pub(super) sent: Sent,
    pub(super) recorder: Recorder,
    pub(super) counts: Counts,
    pub(super) delivered_live: u64,
    pub(super) delivered_durable: u64,
    pub(super) ready: u32,
    pub(super) storm_began_ns: Option<u64>,
    pub(super) random: Random,
    pub(super) fatal: Option<String>,
    pub(super) measured: Range<u64>,
    /// Kept for its allocation.
    completions: Vec<Completion<<Rings as Plane>::Buffer>>,
    waited_ns: u64,
    second_began_ns: u64,
    next_tick_ns: u64,
    pub(super) load: WorkerLoad,
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared<'a>, index: u32, connections: Range<u32>) -> Result<Worker<'a>, EngineError> {
        let scenario = shared.scenario;
        let count = connections.len();
        let (options, rings) = super::split::rings(count as u32, BUFFERS);
        let plane = Rings::new(&options, rings).map_err(EngineError::Ring)?;
        let offsets = (0..scenario.layers.len()).map(|layer| match super::is_durable(scenario, layer) {
            true => vec![0; count],
            false => Vec::new(),
        });
        Ok(Worker {
            shared,
            plane,
            links: vec![Link::NEW; count],
            owners: Vec::new(),
            openings: HashMap::new(),
            partial: HashMap::new(),
            fragments: HashMap::new(),
            unsent: HashMap::new(),
            unsent_bytes: 0,
            unsent_bytes_max: 0,
            outbox: Outbox::default(),
            closing: Vec::new(),
            returns: BinaryHeap::new(),
            next_connect: connections.start,
            window: scenario.connect.window.div_ceil(shared.workers).max(1),
            disturbances: Disturbances::new(scenario, connections.clone(), shared.seed, index),
            heartbeats: Heartbeats::new(scenario, connections.clone()),
            schedule: None,
            publishers: HashMap::new(),
            live_senders: live_senders(scenario),
            room_names: HashMap::new(),
            unacked: HashMap::new(),
            offsets: offsets.collect(),
            epochs: HashMap::new(),
            checker: Checker::new(scenario, connections.clone()),
            sent: Sent::new(scenario),
            recorder: Recorder::new(shared.main),
            counts: Counts::default(),
            delivered_live: 0,
            delivered_durable: 0,
            ready: 0,
            storm_began_ns: None,
            random: Worker::new_random(shared.seed, index),
            fatal: None,
            measured: 0..0,
            completions: Vec::new(),
            waited_ns: 0,
            second_began_ns: 0,
            next_tick_ns: 0,
            load: WorkerLoad { connections: count as u64, ..WorkerLoad::default() },
            connections,
        })
    }

    /// The whole run. An error of one worker stops the others through `Signals::abort`.
    pub fn run(mut self) -> Result<WorkerOutcome, EngineError> {
        self.connect_all()?;
        self.traffic_time()?;
        self.settle()?;
        let integrity = self.judge();
        self.leave()?;
        self.roll(self.shared.clock.now_ns());
        self.counts.bytes_sent = self.outbox.bytes_sent;
        for (timed, count) in [(Timed::Live, self.delivered_live), (Timed::Durable, self.delivered_durable)] {
            if count > 0 {
                self.counts.delivered.insert(timed.name().into(), count);
            }
        }
        Ok(WorkerOutcome {
            counts: self.counts,
            integrity,
            totals: self.recorder.into_totals(),
            load: WorkerLoad { unsent_bytes_max: self.unsent_bytes_max, ..self.load },
        })
    }

    pub(super) fn is_measured(&self, now: u64) -> bool {
        self.measured.contains(&now)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shared.control.is_stopped()
    }

    /// One turn; then sleeps until something comes, the next thing is due, or `until_ns`.
    pub(super) fn turn(&mut self, until_ns: Option<u64>) -> Result<(), EngineError> {
        if let Some(reason) = self.fatal.take() {
            return Err(EngineError::Failed(reason));
        }
        if self.shared.signals.is_aborted() {
            return Err(EngineError::Aborted);
        }
        let now = self.shared.clock.now_ns();
        if now >= self.second_began_ns + SECOND {
            self.roll(now);
        }
        if now >= self.next_tick_ns {
            if self.plane.tick() {
                self.plane.release_memory();
            }
            self.next_tick_ns = now + TICK;
        }
        self.begin_connects(now);
        self.disturb(now);
        let mut completions = std::mem::take(&mut self.completions);
        self.plane.collect(&mut completions);
        let is_quiet = completions.is_empty();
        for (index, completion) in completions.drain(..).enumerate() {
            self.completed(completion);
            if index % RECEIVES_PER_LOOK == RECEIVES_PER_LOOK - 1 {
                self.send_due();
                self.flush();
            }
        }
        self.completions = completions;
        self.send_due();
        self.flush();
        self.plane.submit();
        if is_quiet {
            self.sleep(until_ns);
        }
        Ok(())
    }

    fn completed(&mut self, completion: Completion<<Rings as Plane>::Buffer>) {
        match completion {
            Completion::Received { slot, buffer } => self.received(slot, buffer),
            Completion::Ended { slot, .. } => self.ended(slot),
            Completion::Writable { slot } => {
                if let Some(rest) = self.unsent.remove(&slot) {
                    self.unsent_bytes -= rest.len() as u64;
                    self.outbox.push(slot, |out| out.extend_from_slice(&rest));
                }
            }
            Completion::Released { .. } => {}
        }
    }

    /// Sends the turn's bytes, then closes what is to be closed.
    pub(super) fn flush(&mut self) {
        let mut broken = Vec::new();
        let mut shorts = Vec::new();
        self.outbox.flush(&mut self.plane, |slot, short| match short {
            super::outbox::Short::Rest(rest) => shorts.push((slot, rest)),
            super::outbox::Short::Broken => broken.push(slot),
        });
        // A client may have gone in the turn that wrote to it: what is left is nobody's, and must not wait for the slot's next owner.
        for (slot, rest) in shorts.into_iter().filter(|(slot, _)| self.owners[*slot as usize] != u32::MAX) {
            self.unsent_bytes += rest.len() as u64;
            self.unsent_bytes_max = self.unsent_bytes_max.max(self.unsent_bytes);
            self.unsent.insert(slot, rest);
            self.plane.want_writable(slot);
        }
        broken.into_iter().for_each(|slot| self.ended(slot));
        for slot in std::mem::take(&mut self.closing) {
            self.plane.close(slot);
        }
    }

    fn sleep(&mut self, until_ns: Option<u64>) {
        let now = self.shared.clock.now_ns();
        let due = [self.next_due(), until_ns].into_iter().flatten().fold(now + SLEEP_MAX, u64::min);
        let Some(wait) = due.checked_sub(now).filter(|wait| *wait > 0) else { return };
        let timeout = Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND) as i64 };
        let mut ready = [PollFd::from_borrowed_fd(self.plane.as_fd(), PollFlags::IN)];
        // A signal or a timeout: the next turn looks for itself.
        let _ = rustix::event::poll(&mut ready, Some(&timeout));
        self.waited_ns += self.shared.clock.now_ns() - now;
    }

    fn next_due(&self) -> Option<u64> {
        let scheduled = self.schedule.as_ref().and_then(|schedule| schedule.next_due());
        let connecting = self.next_initial_due();
        [self.next_return_due(), scheduled, connecting, self.heartbeats.next_due(), self.disturbances.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends the running second: its samples go to the others'.
    fn roll(&mut self, now: u64) {
        let span = (now - self.second_began_ns).max(1);
        let busy = 1.0 - (self.waited_ns as f64 / span as f64).min(1.0);
        let part = self.recorder.roll(busy);
        self.load.busy_max = self.load.busy_max.max(busy);
        self.load.lag_max_ns = self.load.lag_max_ns.max(part.lag_max_ns);
        self.shared.control.progress.sent.fetch_add(part.sent, std::sync::atomic::Ordering::Relaxed);
        self.shared
            .control
            .progress
            .delivered
            .fetch_add(part.delivered + part.acked, std::sync::atomic::Ordering::Relaxed);
        self.shared.seconds.add(self.second_began_ns / SECOND, part);
        self.second_began_ns = now / SECOND * SECOND;
        self.waited_ns = 0;
    }
}
