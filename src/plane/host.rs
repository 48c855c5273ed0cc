//! Hosting a ring: the runtime that waits for it, and the way of sockets out of the runtime.
use super::ring::{SetupError, Step};
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, RuntimeBuilder};
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};

/// The runtime of a shard thread.
pub type Runtime = monoio::Runtime<TimeDriver<IoUringDriver>>;

/// Requests that the host's ring queues between two enters: accepts, handshakes and one timer.
pub(super) const HOST_SUBMISSIONS: u32 = 1_024;

/// Room for a reconnect storm: one completion per handshake in progress. An overflow costs a kernel allocation each.
pub(super) const HOST_COMPLETIONS: u32 = 16_384;

/// Builds the runtime that waits on behalf of a shard.
///
/// Do not drop it while anything is pending, it would leak descriptors and tasks: forget it and end the thread.
pub fn runtime() -> Result<Runtime, SetupError> {
    let mut ring = io_uring_06::IoUring::builder();
    // Not DEFER_TASKRUN: turns that do not wait would reap nothing.
    ring.setup_coop_taskrun().setup_single_issuer().setup_cqsize(HOST_COMPLETIONS);
    RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(HOST_SUBMISSIONS)
        .uring_builder(ring)
        .enable_timer()
        .build()
        .map_err(|error| SetupError::from_io(Step::HostRing, error))
}

/// Waits for a ring from within the runtime, so that one sleep covers both.
pub struct Ready {
    stream: monoio::net::UnixStream,
}

impl Ready {
    /// Call it inside the runtime.
    pub fn new(ring: &impl AsFd) -> Result<Ready, SetupError> {
        Ready::open(ring).map_err(|error| SetupError::from_io(Step::HostRing, error))
    }

    fn open(ring: &impl AsFd) -> io::Result<Ready> {
        // A duplicate, so that dropping it does not close the ring. monoio has no general wrapper of descriptors,
        // but `readable` only polls: no call that needs a socket is ever made on this one.
        let stream = std::os::unix::net::UnixStream::from(ring.as_fd().try_clone_to_owned()?);
        Ok(Ready { stream: monoio::net::UnixStream::from_std(stream)? })
    }

    /// Returns when there is something to collect; at once if there is already. It is also the runtime's only fair
    /// way to let other tasks run: `yield_now` starves them.
    pub async fn wait(&self) -> io::Result<()> {
        self.stream.readable(false).await
    }
}

/// Takes the socket out of the runtime's hands, for `Plane::adopt` or another thread.
///
/// # Panics
/// When an operation on the stream is still pending: finish or cancel it, and await its end, first.
pub fn into_owned_fd(stream: monoio::net::TcpStream) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives the descriptor away; it is open and ours alone from here on.
    unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) }
}
