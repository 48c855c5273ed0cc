//! The plane: sockets, bytes, time and entropy at the edge of the process.
//!
//! A [`Plane`] carries established connections for one shard. It is told what to do (`adopt`,
//! `send_batch`, `close`) and answers with [`Completion`]s that the shard collects once a turn. It knows
//! neither protocols nor rooms. There are two: `ring`, on io_uring, and `sim`, a seeded simulation.
//!
//! Invariants, for both:
//! * A slot is reused only after its `Released` was collected.
//! * After `close(slot)` no `collect` reports anything of that slot but `Released`, exactly once. What an earlier
//!   one has reported may still be in the shard's hands.
//! * `Ended` comes at most once per connection; the shard then calls `close`.
//! * `send_batch` is synchronous: when it returns, each send was taken whole or is in `shortfalls`,
//!   and no memory passed to it is looked at any more.
//! * After `Ended` the other direction may still be open: sends and `Writable` go on until `close`.
//! * Nothing that was asked for is certain to have begun before `submit`; sends are, at once.

use crate::base::clock::Now;
use std::os::fd::OwnedFd;

pub mod allocator;
pub mod host;
pub mod os;
pub mod ring;
pub mod sim;

pub use ring::{Ring, RingOptions, Rings, SetupCause, SetupError};
pub use sim::{ClientId, Faults, NoWake, SimNet, SimOptions, SimPlane, SimRng, SimSocket};

/// Row of the plane's table; the shard's connection records use the same index.
pub type Slot = u32;

/// Bytes that every [`Received`] buffer has behind the received ones: readable and writable, any content.
/// A JSON parser that reads in vectors may look there (`simd_json::INPUT_PADDING`).
pub const SLACK_BYTES: usize = 64;

/// Received bytes, owned until given back to the plane.
#[allow(clippy::len_without_is_empty)] // never empty
pub trait Received {
    /// How many bytes were received. At least 1.
    fn len(&self) -> usize;

    /// The received bytes and, behind them, `SLACK_BYTES` more.
    fn bytes(&mut self) -> &mut [u8];
}

/// What happened to a connection since the last `collect`.
#[derive(Debug)]
pub enum Completion<B> {
    /// Bytes from the peer, in order. The buffer must go back by `give_back`.
    Received { slot: Slot, buffer: B },
    /// The peer closed its side, or the socket failed. Answer with `close`.
    Ended { slot: Slot, cause: End },
    /// After `want_writable`: there is room again.
    Writable { slot: Slot },
    /// The slot is free.
    Released { slot: Slot },
}

impl<B> Completion<B> {
    /// Which connection it is about.
    pub fn slot_mut(&mut self) -> &mut Slot {
        match self {
            Completion::Received { slot, .. }
            | Completion::Ended { slot, .. }
            | Completion::Writable { slot }
            | Completion::Released { slot } => slot,
        }
    }
}

/// How the transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// End of stream: the peer closed in order.
    Eof,
    /// Reset or another error, with its errno.
    Failed(i32),
}

/// A send that was not taken whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Which send of the batch: its position in the iteration, from 0.
    pub index: u32,
    /// Bytes that were taken (0 when there was no room), or the errno of a broken connection.
    pub taken: Result<u32, i32>,
}

/// Counters that only the plane can keep; totals since start.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaneStats {
    pub enters: u64,
    pub receives: u64,
    pub out_of_buffers: u64,
    pub short_sends: u64,
    pub promoted: u64,
    pub demoted: u64,
    pub stale: u64,
    pub adopted: u64,
    pub released: u64,
}

impl PlaneStats {
    /// Connections that hold a row.
    pub fn open(&self) -> u64 {
        self.adopted - self.released
    }

    /// What connections have done: came, went, spoke.
    pub fn events(&self) -> u64 {
        self.receives + self.adopted + self.released
    }
}

impl std::ops::Add for PlaneStats {
    type Output = PlaneStats;

    fn add(self, other: PlaneStats) -> PlaneStats {
        PlaneStats {
            enters: self.enters + other.enters,
            receives: self.receives + other.receives,
            out_of_buffers: self.out_of_buffers + other.out_of_buffers,
            short_sends: self.short_sends + other.short_sends,
            promoted: self.promoted + other.promoted,
            demoted: self.demoted + other.demoted,
            stale: self.stale + other.stale,
            adopted: self.adopted + other.adopted,
            released: self.released + other.released,
        }
    }
}

/// A carrier of connections. See the module for the invariants.
pub trait Plane {
    /// What an accepted connection is before it is adopted.
    type Socket;
    type Buffer: Received;

    /// A socket that another thread has accepted. None: this plane's are no descriptors.
    fn socket(descriptor: OwnedFd) -> Option<Self::Socket>;

    /// How many connections fit, fixed at start.
    fn capacity(&self) -> u32;

    /// Takes over a connected socket. Gives it back when the table is full, or the kernel has no memory for it.
    /// Nothing is received before the next `submit`: whoever adopts while the shard sleeps must see to one.
    fn adopt(&mut self, socket: Self::Socket) -> Result<Slot, Self::Socket>;

    /// Appends what has happened. Re-arms what the kernel disarmed.
    fn collect(&mut self, completions: &mut Vec<Completion<Self::Buffer>>);

    /// Returns a buffer. All buffers of a turn go back before the next `collect`.
    fn give_back(&mut self, buffer: Self::Buffer);

    /// Sends each item's bytes to its slot, in iteration order, at most one item per slot.
    /// A send either is taken whole or is appended to `shortfalls`, in that order; nothing waits.
    fn send_batch<'a, I>(&mut self, sends: I, shortfalls: &mut Vec<Shortfall>)
    where
        I: Iterator<Item = (Slot, &'a [u8])>;

    /// Asks for one `Writable` when the connection has room again, or is broken so that a send would tell.
    /// Asking again before it came changes nothing.
    fn want_writable(&mut self, slot: Slot);

    /// Ends the outgoing direction: the peer sees the end of the stream behind what was sent. Receiving goes on, and `Ended`
    /// tells that the peer has ended too; closing only then spares it a reset that could overtake the last bytes. Nothing may
    /// be sent any more.
    fn end_stream(&mut self, slot: Slot);

    /// Ends the connection: the peer sees the end of the stream, the slot comes back as `Released`.
    fn close(&mut self, slot: Slot);

    /// Housekeeping, about ten times a second: lets quiet connections fall back to the idle tier. True when a busy time is over: the
    /// moment for the caller to give back what it kept from that, and to call `release_memory`.
    fn tick(&mut self) -> bool;

    /// Gives memory that was only needed in a busy time back to the operating system: the plane's, and what the allocator keeps of
    /// the caller's. Milliseconds after a spike.
    fn release_memory(&mut self);

    /// Hands everything that was asked for to the kernel. Called last in a turn.
    fn submit(&mut self);

    /// Both clocks, now.
    fn now(&self) -> Now;

    fn stats(&self) -> PlaneStats;
}
