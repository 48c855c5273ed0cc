//! The simulated plane: sockets in memory, a virtual clock and faults on demand, all from one seed. The same seed and
//! the same calls give the same sequence of completions.
//!
//! [`SimNet`] is the world outside: it makes connections, plays the clients and moves time. [`SimPlane`] is what a
//! shard holds in place of the ring; several may share a net, one per shard.
//!
//! It holds its caller to the trait: using a closed or released slot, closing twice, two sends to one slot in a
//! batch, or keeping a buffer beyond the turn panics. What was not submitted does not happen. Not modelled: a close
//! that turns into a reset because bytes were left unread; how fast anything is.
//!
//! ```
//! use throng::plane::{Completion, Faults, Plane, Received, SimNet, SimOptions};
//! let net = SimNet::new(7, Faults::NONE);
//! let mut plane = net.plane(SimOptions::default());
//! let (socket, client) = net.connect();
//! let slot = plane.adopt(socket).unwrap();
//! plane.submit();
//! net.client_write(client, b"ping");
//! let mut completions = Vec::new();
//! plane.collect(&mut completions);
//! let Some(Completion::Received { mut buffer, .. }) = completions.pop() else { panic!() };
//! assert_eq!(&buffer.bytes()[..4], b"ping");
//! plane.give_back(buffer);
//! plane.send_batch([(slot, &b"pong"[..])].into_iter(), &mut Vec::new());
//! assert_eq!(net.client_read(client), b"pong");
//! ```
mod net;
mod plane;
mod rng;
#[cfg(test)]
mod tests;

pub use net::{ClientId, SimNet, SimSocket};
pub use plane::{SimBuffer, SimPlane};
pub use rng::SimRng;

use crate::base::mailbox::Wake;

/// How often things go wrong, as probabilities from 0 to 1. Below 1, everything still happens in the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Per receive: a random part of what is there, and the rest in another turn.
    pub short_read: f64,
    /// Per send: a random part is taken, perhaps nothing.
    pub partial_send: f64,
    /// Per collect: no buffer is free, nothing is received.
    pub no_buffers: f64,
    /// Per collect and connection: `Ended`, `Writable` or `Released` waits for a later one.
    pub late_completion: f64,
    /// Per collect and connection: the connection breaks. What was on its way may be lost.
    pub reset: f64,
    /// Per write of a client and per send: it takes up to `delay_ms_max` of virtual time to arrive.
    pub delay: f64,
    pub delay_ms_max: u64,
}

impl Faults {
    pub const NONE: Faults = Faults {
        short_read: 0.0,
        partial_send: 0.0,
        no_buffers: 0.0,
        late_completion: 0.0,
        reset: 0.0,
        delay: 0.0,
        delay_ms_max: 0,
    };

    /// Everything that a healthy connection must survive: no resets.
    pub const ROUGH: Faults = Faults {
        short_read: 0.5,
        partial_send: 0.3,
        no_buffers: 0.2,
        late_completion: 0.5,
        reset: 0.0,
        delay: 0.1,
        delay_ms_max: 50,
    };
}

/// Sizes of one simulated plane.
#[derive(Clone, Copy, Debug)]
pub struct SimOptions {
    pub slots: u32,
    /// Receive buffers: a turn receives at most as many pieces.
    pub buffers: usize,
    pub buffer_bytes: usize,
    /// Sent bytes that a socket holds until its client has taken them.
    pub socket_bytes: usize,
}

impl Default for SimOptions {
    /// Small, so that limits are near.
    fn default() -> SimOptions {
        SimOptions { slots: 64, buffers: 16, buffer_bytes: 256, socket_bytes: 16_384 }
    }
}

/// The waker of a simulated shard: its thread never sleeps.
pub struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}
