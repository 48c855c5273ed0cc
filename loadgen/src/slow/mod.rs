//! Slow readers: connections that are in the rooms and read too little, or nothing at all.
//!
//! They are no part of the engine. It reads everything at once; these must leave bytes lying in the kernel, on sockets with small
//! receive buffers, so that the server's send queue fills up. One thread and `poll` do for some thousands of them. Nothing is
//! expected of what they miss; what counts is that the others do not notice (R-CONN-5), and how these end: with close 4101.
//!
//! A reader that reads nothing does not see its close frame, which lies behind everything it did not read, just as a stalled
//! phone would not. When the run ends [`SlowRun::stop`] reads out what has come, and only then counts the ends. A reader that
//! reads slowly sees its close when it gets there, and then comes back like a real client, after a random time.
mod pace;
mod reader;

use crate::scenario::SlowReaders;
use crate::server::Target;
use reader::{End, Reader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often what may be read is given out.
const TICK: Duration = Duration::from_millis(50);
/// For reading out what lies in the kernel at the end.
const DRAIN: Duration = Duration::from_secs(3);
/// Each reader comes back this often at most: a server that lets nobody in should not be hammered.
const RETURNS_MAX: u32 = 20;

/// Running slow readers; they end with this value.
pub struct SlowRun {
    stop: Arc<AtomicBool>,
    /// Taken by `stop`.
    thread: Option<JoinHandle<SlowOutcome>>,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlowOutcome {
    pub readers: u32,
    /// Stamped live events and durable messages that they did read.
    pub live: u64,
    pub durable: u64,
    pub bytes_read: u64,
    /// Connections that the server closed as too slow.
    pub closed_4101: u64,
    /// Other closes, by code.
    pub closed_other: BTreeMap<u16, u64>,
    /// Ended without a close frame that could still be read.
    pub broken: u64,
    pub returned: u64,
    pub could_not_return: u64,
    /// Open at the end.
    pub open: u64,
}

/// Signs them in and puts them into `rooms` in turn; returns when all are there. Users are called `user`, a hyphen, a number.
pub fn start(readers: &SlowReaders, target: &Target, rooms: &[String], user: &str) -> Result<SlowRun, String> {
    let Some(_) = rooms.first() else { return Err("slow readers: there is no room to join".into()) };
    let members = (0..readers.count).map(|number| {
        let room = rooms[number as usize % rooms.len()].clone();
        Place { number, room, user: format!("{user}-{number}") }
    });
    let members: Vec<(Place, Reader)> = members
        .map(|place| {
            let reader = place.connect(target).map_err(|error| format!("slow reader {}: {error}", place.number))?;
            Ok((place, reader))
        })
        .collect::<Result<_, String>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut crowd = Crowd::new(target.clone(), readers.bytes_per_s, members);
    let thread = std::thread::Builder::new().name("slow-readers".into()).spawn({
        let stop = stop.clone();
        move || crowd.run(&stop)
    });
    let thread = thread.map_err(|error| format!("slow readers: {error}"))?;
    Ok(SlowRun { stop, thread: Some(thread) })
}

impl SlowRun {
    /// Ends them and says what became of them. The server must still run.
    pub fn stop(mut self) -> SlowOutcome {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("taken here only");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for SlowRun {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Who a reader is and where it belongs.
struct Place {
    number: u32,
    room: String,
    user: String,
}

impl Place {
    fn connect(&self, target: &Target) -> Result<Reader, String> {
        let address = target.addresses[self.number as usize % target.addresses.len()];
        let token = target.signer.token(&self.user);
        Reader::connect(address, target.dialect, &target.host, &self.user, token.as_deref(), &self.room)
    }
}

struct Member {
    place: Place,
    /// `None`: ended.
    reader: Option<Reader>,
    budget: pace::Budget,
    returns: u32,
    /// When it comes back.
    returns_at: Option<Instant>,
}

struct Crowd {
    target: Target,
    bytes_per_s: u32,
    members: Vec<Member>,
    outcome: SlowOutcome,
}

impl Crowd {
    fn new(target: Target, bytes_per_s: u32, members: Vec<(Place, Reader)>) -> Crowd {
        let now = Instant::now();
        let members: Vec<Member> = members
            .into_iter()
            .map(|(place, reader)| Member {
                place,
                reader: Some(reader),
                budget: pace::Budget::new(bytes_per_s, now),
                returns: 0,
                returns_at: None,
            })
            .collect();
        let outcome = SlowOutcome { readers: members.len() as u32, ..SlowOutcome::default() };
        Crowd { target, bytes_per_s, members, outcome }
    }

    fn run(&mut self, stop: &AtomicBool) -> SlowOutcome {
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if self.bytes_per_s > 0 {
                (0..self.members.len()).for_each(|index| self.turn(index, now));
            }
            self.come_back(now);
            std::thread::sleep(TICK);
        }
        self.drain();
        std::mem::take(&mut self.outcome)
    }

    /// Reads what one member may read by now.
    fn turn(&mut self, index: usize, now: Instant) {
        let member = &mut self.members[index];
        let Some(reader) = &mut member.reader else { return };
        let allowed = member.budget.available(now);
        if allowed == 0 {
            return;
        }
        let (read, end) = reader.read(allowed);
        member.budget.take(read);
        if let Some(end) = end {
            if member.returns < RETURNS_MAX && end.asks_to_come_back() {
                let wait = pace::back_off(self.target.pid.unwrap_or(0) ^ index as u32, member.returns);
                member.returns_at = Some(now + wait);
            }
            self.ended(index, end);
        }
    }

    fn come_back(&mut self, now: Instant) {
        for member in &mut self.members {
            if member.returns_at.is_none_or(|at| at > now) {
                continue;
            }
            member.returns_at = None;
            member.returns += 1;
            match member.place.connect(&self.target) {
                Ok(reader) => {
                    member.reader = Some(reader);
                    member.budget = pace::Budget::new(self.bytes_per_s, now);
                    self.outcome.returned += 1;
                }
                Err(error) => {
                    tracing::debug!(reader = member.place.number, error, "slow reader could not come back");
                    self.outcome.could_not_return += 1;
                }
            }
        }
    }

    /// Reads out everything that has come, so that closes show.
    fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN;
        loop {
            let open: Vec<usize> =
                (0..self.members.len()).filter(|&index| self.members[index].reader.is_some()).collect();
            let left = deadline.saturating_duration_since(Instant::now());
            if open.is_empty() || left.is_zero() {
                break;
            }
            let readable: Vec<usize> = {
                let fds = open.iter().filter_map(|&index| self.members[index].reader.as_ref());
                let mut fds: Vec<PollFd> = fds.map(|reader| PollFd::new(reader.stream(), PollFlags::IN)).collect();
                // What is on its way comes at once, and silence means that nothing is: an open connection in a quiet room.
                let wait = left.min(TICK * 4);
                let timeout = Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos().into() };
                match poll(&mut fds, Some(&timeout)) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                open.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(&index, _)| index).collect()
            };
            for index in readable {
                const AT_ONCE: usize = 1 << 20;
                let end = self.members[index].reader.as_mut().and_then(|reader| reader.read(AT_ONCE).1);
                if let Some(end) = end {
                    self.ended(index, end);
                }
            }
        }
        for index in 0..self.members.len() {
            if let Some(reader) = self.members[index].reader.take() {
                self.outcome.open += 1;
                self.count(&reader);
            }
        }
    }

    fn ended(&mut self, index: usize, end: End) {
        if let Some(reader) = self.members[index].reader.take() {
            self.count(&reader);
        }
        match end {
            End::Closed(4101) => self.outcome.closed_4101 += 1,
            End::Closed(code) => *self.outcome.closed_other.entry(code).or_default() += 1,
            End::Broken => self.outcome.broken += 1,
        }
    }

    fn count(&mut self, reader: &Reader) {
        self.outcome.live += reader.live;
        self.outcome.durable += reader.durable;
        self.outcome.bytes_read += reader.bytes;
    }
}
