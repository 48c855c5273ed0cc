//! One simulated client, as small as it can be: a million of them are silent most of the time.
use throng::plane::Slot;

/// No slot: the client has no socket.
pub const NO_SLOT: Slot = Slot::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No socket. Is waiting for its turn, or for its return.
    Away,
    /// The upgrade has been sent.
    Upgrading,
    /// Upgraded, not yet signed in and in all rooms: see `Opening`.
    Joining,
    /// Signed in and in its rooms.
    Ready,
    /// Has said goodbye and waits for the other side to end.
    Leaving,
    /// Will not come back.
    Gone,
}

/// What is kept of every client.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub slot: Slot,
    /// How late the last heartbeat was sent, µs: response time less this is service time.
    pub heartbeat_lag_us: u32,
    pub state: State,
    /// Attempts since it was last ready.
    pub attempts: u8,
    /// Heartbeats without an answer.
    pub unanswered: u8,
    /// Was ready once and then lost its connection: it comes back.
    pub is_return: bool,
}

const _: () = assert!(size_of::<Link>() <= 12);

impl Link {
    pub const NEW: Link =
        Link { slot: NO_SLOT, heartbeat_lag_us: 0, state: State::Away, attempts: 0, unanswered: 0, is_return: false };
}

/// What is kept of a client on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// When it was to begin; the handshake's time counts from here.
    pub intended_ns: u64,
    /// When it began.
    pub begun_ns: u64,
    pub joins_sent_ns: u64,
    /// Joins without an ack.
    pub joins_left: u8,
}
