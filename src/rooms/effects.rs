//! The way out of the domain. The shard implements it over logs, mailboxes and timers; tests record.
use super::event::{Ack, Event, Snapshot, Status};
use crate::base::refusal::Refusal;
use crate::base::user::UserRef;
use crate::ids::{ConnRef, Ulid};
use crate::store::port::{ReadJob, WriteJob};
use std::sync::Arc;

/// Whom an answer goes to.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    pub conn: ConnRef,
    pub request: &'a str,
}

/// What may happen to an event when a reader lags (R-CONN-5) or a mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never skipped: the reader is closed instead and recovers by offset.
    Durable,
    /// At most once: skipped, and counted.
    Live,
    /// Who came and who left: the same, and in a rush it waits for more of its kind (`limits::PRESENCE_WAIT_MS`).
    Presence,
}

/// Who hears a published event.
#[derive(Clone, Copy, Debug)]
pub struct Audience<'a> {
    /// Shards that have subscribed sessions of the room.
    pub shards: &'a [u16],
    /// Sessions that do not hear it.
    pub except: &'a [ConnRef],
    /// When the command that caused it was read (monotonic ns), 0 if none did.
    pub read_at_ns: u64,
}

/// A domain timer. Timers are not cancelled: whoever gets one looks whether it still means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomTimer {
    /// Look at a room: expire typing and questions, end leave graces, send a due occupancy event.
    Room { room_key: u32, room_generation: u32 },
}

/// Effects on one room's sessions take hold in the order in which they are called.
pub trait Effects {
    fn ack(&mut self, to: Requester<'_>, room: &str, ack: &Ack<'_>);
    fn refuse(&mut self, to: Requester<'_>, refusal: Refusal);
    /// An event for one session.
    fn send(&mut self, to: ConnRef, room: &str, event: &Event<'_>);
    /// An event for the room's subscribed sessions.
    fn publish(&mut self, room: &Arc<str>, event: &Event<'_>, class: Class, audience: Audience<'_>);
    /// From here on the session receives what is published. The shard of the connection keeps the subscription
    /// and reports its end by `Rooms::disconnected`.
    fn subscribe(&mut self, conn: ConnRef, user: &UserRef, room: &Arc<str>);
    fn unsubscribe(&mut self, conn: ConnRef, room: &Arc<str>);
    /// One room's part of a `resume`: the snapshot, or None if it could not be resumed.
    fn resumed(&mut self, to: Requester<'_>, room: &str, part: Option<&Snapshot<'_>>);
    /// One room's part of a `get_presence`: those of the asked users that are online here.
    fn presence(&mut self, to: Requester<'_>, online: &[(&str, Status, u64)]);
    /// Gives the job back if the store's queue is full.
    fn write(&mut self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>>;
    fn read(&mut self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>>;
    /// Hands the timer to `Rooms::timer` at that time or later, never earlier.
    fn timer(&mut self, at_mono_ms: u64, timer: RoomTimer);
    /// Commands that were answered with `Handled::Later` for this room can be tried again, in order, once the call into `Rooms` has
    /// returned.
    fn retry(&mut self, room_key: u32);
    fn new_id(&mut self) -> Ulid;
    /// Counts something by a constant name, for `/metrics`.
    fn count(&mut self, what: &'static str);
}

/// Whether a command was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Handled {
    /// Executed or refused; whatever there is to say was said.
    Done,
    /// The room is being loaded or changed. The command took no effect. The shard keeps it, and behind it what the same connection
    /// sends to that room later (R-ENV-4), and tries again on `Effects::retry`.
    ///
    /// `is_room_busy`: all who wait for the room go on waiting. Else only this connection waits, for a join of its own, and what others
    /// parked before must be tried too: nothing else holds it back, and what they send now is executed at once.
    Later { room_key: u32, is_room_busy: bool },
}
