//! Engine.IO sessions: one for each Socket.IO client, on the shard that took its handshake.
//!
//! A session has a *transport*, which is a polling buffer or a *carrier* (a WebSocket in the plane), and for each namespace that the
//! client has connected a *virtual connection*: an ordinary connection record with user, rooms, limits and timers of its own, whose
//! slot lies above those of the plane (`conns`). So whatever holds for a native connection holds for a namespace, over polling too.
//!
//! The walk of a packet: `carrier` (a WebSocket message) or `polling` (a POST) → `packets` (Engine.IO, then Socket.IO) → the native
//! message → `commands`, like any other. The way back: outbox and logs of a virtual connection hold Socket.IO packets in WebSocket
//! frames; `transport` sends them from there on a carrier, or re-joins them as a polling payload.
//!
//! A request or WebSocket that reaches another shard than its session's is passed on by mail (`exchange`); the sid says where to.
mod carrier;
mod comeback;
mod ending;
mod exchange;
mod liveness;
mod packets;
mod polling;
mod recovery;
mod saved;
mod session;
mod track;
mod transport;
mod virtuals;

pub use carrier::{Upgrade, refusal};
pub use comeback::REQUEST as RECOVERY_REQUEST;
pub use exchange::{Answer, Ask, Asked, Exchange, Reply};
pub use recovery::{Claim, Recovered, Remembered};
pub use session::{Counted, Engines};

#[cfg(test)]
mod tests;
