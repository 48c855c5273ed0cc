//! The io_uring plane: a ring, hosted by whoever waits on its descriptor; or several as one (`rings`).
//!
//! Sockets live in the ring's own table, so that they cost no descriptors of the process. Input is waited for in
//! two tiers (`receive`), output is handed over synchronously (`send`), and a close makes sure that the peer hears
//! of it (`close`). Every mechanism here rests on rules of the kernel that were found out by measuring:
//!
//! * A pending request holds its file: whatever is armed is counted per row, and a row is closed only at zero.
//! * All polls are one-shot. A multishot poll survives shutdown and close, and pins the socket.
//! * Receives are armed only when the shard has given its buffers back; on an empty buffer ring they fail at once.
//! * No request of this ring points at memory of the caller beyond one `send_batch`.
//! * The completion queue is empty, or the ring's descriptor is readable: a wait on it misses nothing.
mod buffers;
mod close;
mod neighbours;
mod queue;
mod receive;
mod rings;
mod send;
mod setup;
mod survey;
mod table;
mod token;
mod wake;

pub use buffers::Buffer;
pub use rings::Rings;
pub use setup::{SetupCause, SetupError, Step, locked_bytes};
pub use survey::{Feature, Survey, survey};

use self::buffers::Pool;
use self::close::Closing;
use self::queue::Queue;
use self::receive::Receiving;
use self::setup::{FIRST, Sizes};
use self::table::Table;
use self::token::{Kind, Token};
use self::wake::Doorbell;
use crate::base::clock::Now;
use crate::base::mailbox::Wake;
use crate::plane::{Completion, Plane, PlaneStats, Shortfall, Slot, os};
use io_uring::{cqueue, squeue};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Sizes of one ring.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Rows of the table: connections at a time. The kernel allows at most RLIMIT_NOFILE per ring; a row costs
    /// 8 bytes here once used and 8 in the kernel at once.
    pub slots: u32,
    /// Receive buffers, a power of two up to 32,768. They bound what one turn can receive: too few and busy turns
    /// are cut short (`PlaneStats::out_of_buffers`), too many and they fall out of the cache.
    pub buffers: u32,
    /// Bytes of one buffer, 64 to 1 MiB. The memory is `buffers` times this, plus 64 bytes of slack each.
    pub buffer_bytes: u32,
}

impl RingOptions {
    /// Of the further rings of a shard of so many (`Rings`), which hold mostly idle connections: an eighth of the buffers, and all of
    /// them together no more than half if that leaves each enough for a turn. The kernel uses them in turn, so that each is touched
    /// sooner or later: 32 of 2 KiB are 68 KB, 3.5 bytes for each of 19,488 connections, where 1,024 would be 111.
    pub fn further(&self, rings: u32) -> RingOptions {
        const ENOUGH: u32 = 32;
        let most = (self.buffers / 8).max(16);
        let share = self.buffers / 2 / rings.saturating_sub(1).max(1);
        RingOptions { buffers: share.clamp(ENOUGH.min(most), most).next_power_of_two(), ..*self }
    }
}

/// Enters that one `collect` makes on behalf of connections that turned out to be readable. What is left then
/// keeps the descriptor readable and is next turn's: the bound keeps a turn short.
const ROUNDS: usize = 2;

/// See the module. Stays in the thread that made it: the kernel accepts requests from that one only.
pub struct Ring {
    queue: Queue,
    table: Table,
    pool: &'static Pool,
    receiving: Receiving,
    closing: Closing,
    doorbell: Doorbell,
    /// Number of the last batch of sends; tells its completions from those of earlier ones.
    batch: u32,
    /// Of several rings: it has sends of the running batch.
    is_in_batch: bool,
    /// Numbers of other rings that have become readable, and whose polls have to be armed again.
    fired: Vec<u32>,
    /// Kept for its allocation.
    completions: Vec<cqueue::Entry>,
    stats: PlaneStats,
    quiet: Quiet,
}

/// Notices when a busy time is over, in order to give back once what the allocator kept from it.
#[derive(Default)]
struct Quiet {
    ticks: u32,
    events: u64,
    was_busy: bool,
}

impl Quiet {
    /// How long it watches, ticks.
    const WATCH_TICKS: u32 = 50;
    /// Events in that time that make it a busy one.
    const BUSY_EVENTS: u64 = 20_000;
    /// With many connections it takes more: each may have spoken by this share. Idle ones that send a heartbeat in 30 s make half of it.
    const BUSY_SHARE: u64 = 3;
    /// Events that make it a time after which something may have been left behind.
    const SOME_EVENTS: u64 = 500;

    /// True when it is over.
    fn tick(&mut self, stats: &PlaneStats) -> bool {
        self.ticks += 1;
        if self.ticks < Self::WATCH_TICKS {
            return false;
        }
        let new = stats.events() - std::mem::replace(&mut self.events, stats.events());
        let busy = Self::BUSY_EVENTS.max(stats.open() / Self::BUSY_SHARE);
        self.ticks = 0;
        if new > Self::SOME_EVENTS {
            self.was_busy = true;
        }
        new < busy && std::mem::replace(&mut self.was_busy, new > Self::SOME_EVENTS)
    }
}

impl Ring {
    /// Needs Linux 6.8. The calling thread is the ring's from now on.
    pub fn new(options: &RingOptions) -> Result<Ring, SetupError> {
        Ring::first(options, &FIRST)
    }

    fn first(options: &RingOptions, sizes: &Sizes) -> Result<Ring, SetupError> {
        let doorbell = Doorbell::new().map_err(|error| SetupError::from_io(Step::Waker, error))?;
        let mut ring = Ring::silent(options, sizes, doorbell)?;
        ring.arm_doorbell();
        ring.queue.enter();
        Ok(ring)
    }

    /// One that does not listen to the doorbell.
    fn silent(options: &RingOptions, sizes: &Sizes, doorbell: Doorbell) -> Result<Ring, SetupError> {
        let (queue, pool) = setup::build(options, sizes)?;
        Ok(Ring {
            queue,
            table: Table::new(options.slots),
            pool,
            receiving: Receiving::default(),
            closing: Closing::new(&doorbell, sizes),
            doorbell,
            batch: 0,
            is_in_batch: false,
            fired: Vec::new(),
            completions: Vec::new(),
            stats: PlaneStats::default(),
            quiet: Quiet::default(),
        })
    }

    /// Makes the ring's descriptor readable from any thread.
    pub fn waker(&self) -> Box<dyn Wake> {
        self.doorbell.waker()
    }

    /// Queues a request about a slot.
    fn ask(&mut self, kind: Kind, slot: Slot, entry: squeue::Entry) {
        let token = Token::new(kind, self.table.row(slot).generation.into(), slot);
        // SAFETY: none of the requests that come here points at memory: polls, receives into the buffer ring,
        // cancels, installs, shutdowns and closes. Sends have their own way.
        unsafe { self.queue.push(&entry.user_data(token.to_bits())) };
    }

    /// Like `ask`, for a request that holds the row's file until it completes.
    fn arm(&mut self, kind: Kind, slot: Slot, entry: squeue::Entry) {
        self.table.row(slot).armed += 1;
        self.ask(kind, slot, entry);
    }

    /// Lists keep room for a usual turn's worth.
    fn shrink(&mut self) {
        const KEPT: usize = 1_024;
        self.completions.shrink_to(KEPT);
        self.queue.shrink_to(KEPT);
        self.receiving.shrink_to(KEPT);
        self.closing.shrink_to(KEPT);
    }

    fn handle(&mut self, entry: &cqueue::Entry, out: &mut Vec<Completion<Buffer>>) {
        let (result, flags) = (entry.result(), entry.flags());
        // SAFETY: the kernel has just handed this buffer out, and each completion is handled once.
        let buffer = cqueue::buffer_select(flags).map(|id| unsafe { self.pool.take(id, result.max(0) as u32) });
        let Some(token) = Token::from_bits(entry.user_data()) else {
            self.stats.stale += 1;
            return;
        };
        match token.kind {
            Kind::Send | Kind::Nudge => return, // settled by the batch; has done its work
            Kind::Wake => return self.arm_doorbell(),
            Kind::Neighbour => return self.fired.push(token.subject),
            _ => {}
        }
        let slot = token.subject;
        match self.table.get(slot) {
            Some(row) if u32::from(row.generation) == token.generation && row.phase != table::Phase::Free => {}
            // A failed cancel may well answer after its connection has gone.
            _ if token.kind == Kind::Cancel => return,
            _ => {
                self.stats.stale += 1;
                return;
            }
        }
        match token.kind {
            Kind::Readable => self.readable(slot, result, out),
            Kind::Receive | Kind::Stream => self.received(slot, result, buffer, !cqueue::more(flags), out),
            Kind::Cancel => self.cancel_failed(slot, result),
            Kind::Writable => self.writable(slot, out),
            Kind::Install => self.installed(slot, result),
            Kind::Shutdown => self.shut_down(slot),
            Kind::Close => self.released(slot, out),
            Kind::Send | Kind::Nudge | Kind::Wake | Kind::Neighbour => {}
        }
    }
}

impl Plane for Ring {
    type Socket = OwnedFd;
    type Buffer = Buffer;

    fn socket(descriptor: OwnedFd) -> Option<OwnedFd> {
        Some(descriptor)
    }

    fn capacity(&self) -> u32 {
        self.table.slots()
    }

    /// The socket may be blocking. TCP_NODELAY is the caller's business; `os::listener` sets it for all.
    fn adopt(&mut self, socket: OwnedFd) -> Result<Slot, OwnedFd> {
        let Some(slot) = self.table.open() else { return Err(socket) };
        if self.queue.ring().submitter().register_files_update(slot, &[socket.as_raw_fd()]).is_err() {
            self.table.release(slot);
            return Err(socket);
        }
        drop(socket); // the table has its own reference to the file
        self.stats.adopted += 1;
        self.arm_poll(slot);
        Ok(slot)
    }

    fn collect(&mut self, completions: &mut Vec<Completion<Buffer>>) {
        self.rearm();
        if self.ask_ready() {
            self.queue.enter(); // on behalf of those for whom the last turn had no buffer
        }
        for _ in 0..ROUNDS {
            let mut batch = std::mem::take(&mut self.completions);
            self.queue.take(&mut batch);
            batch.drain(..).for_each(|entry| self.handle(&entry, completions));
            self.completions = batch;
            if !self.ask_ready() {
                break;
            }
            self.queue.enter();
        }
    }

    fn give_back(&mut self, buffer: Buffer) {
        drop(buffer);
    }

    fn send_batch<'a, I>(&mut self, sends: I, shortfalls: &mut Vec<Shortfall>)
    where
        I: Iterator<Item = (Slot, &'a [u8])>,
    {
        self.send_all(sends, shortfalls);
    }

    fn want_writable(&mut self, slot: Slot) {
        self.arm_writable(slot);
    }

    fn end_stream(&mut self, slot: Slot) {
        self.begin_shutdown(slot);
    }

    fn close(&mut self, slot: Slot) {
        self.begin_close(slot);
    }

    fn tick(&mut self) -> bool {
        self.count_tick();
        self.demote_quiet();
        self.quiet.tick(&self.stats)
    }

    fn release_memory(&mut self) {
        self.shrink();
        os::release_memory();
    }

    /// The buffers of the turn should be back: receives that ended for want of one are armed again here.
    fn submit(&mut self) {
        self.rearm();
        if self.receiving.is_behind() {
            self.queue.nudge();
        }
        self.queue.submit();
    }

    fn now(&self) -> Now {
        os::now()
    }

    fn stats(&self) -> PlaneStats {
        PlaneStats { enters: self.queue.enters, ..self.stats }
    }
}

impl AsFd for Ring {
    /// The descriptor to wait on: readable while there is something to collect.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps its descriptor open as long as it lives, and the borrow does not outlive it.
        unsafe { BorrowedFd::borrow_raw(self.queue.ring().as_raw_fd()) }
    }
}
