//! `--verify`: the protocol a second time, by plain `tungstenite` clients.
//!
//! The load's own client is written for speed: it looks for known bytes in deliveries, and it and the server have the same
//! authors. Here is the other extreme: a library's WebSocket, every message parsed into a JSON tree, every field looked at. It
//! runs a small form of the scenario ([`reduce`]) in rooms of its own, *before* the load and not beside it, so that it neither
//! disturbs the figures nor is disturbed. What it needs to know about who must receive what ([`crate::check`]) and when what is
//! sent ([`crate::schedule`]) is the same as for the load; sockets, framing, handshake and JSON are not.
//!
//! It cannot see faults that occur under load only. It does see a client that overlooks them always: see [`judge`].
mod client;
mod envelope;
pub mod judge;
pub mod reduce;
mod session;

use crate::result::Verification;
use crate::scenario::Scenario;
use crate::server::Target;
use crate::stamp::Stamp;
use crate::wire::Dialect;
use client::Client;
use session::Session;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("--verify speaks Throng's own protocol only")]
    Dialect,
    #[error("--verify: {0}")]
    Failed(String),
}

/// Runs the small form of `scenario` to its end, or until `stop`. `salt` keeps its names apart from those of other runs.
pub fn run(
    scenario: &Scenario,
    target: &Target,
    seed: u64,
    salt: u64,
    stop: &AtomicBool,
) -> Result<Verification, VerifyError> {
    if target.dialect != Dialect::Native {
        return Err(VerifyError::Dialect);
    }
    let small = reduce::reduce(scenario);
    let names = Names { salt };
    let mut session = Session::new(&small, names, Instant::now());
    for connection in 0..small.connections {
        let user = names.user(connection);
        let address = target.addresses[connection as usize % target.addresses.len()];
        let failed = |problem| VerifyError::Failed(format!("{user}: {problem}"));
        let mut client =
            Client::connect(address, &target.host, target.signer.token(&user).as_deref()).map_err(failed)?;
        for layer in 0..small.layers.len() {
            let room = small.room_number(layer, connection);
            let joined = client.join(&format!("join-{layer}"), &names.room(room)).map_err(failed)?;
            session.joined(connection, room, &joined);
        }
        client.unblock().map_err(|error| VerifyError::Failed(error.to_string()))?;
        session.add(client);
    }
    session.run(seed, stop).map_err(|error| VerifyError::Failed(format!("poll: {error}")))?;
    Ok(session.finish())
}

/// Names of users and rooms, unlike those of the load.
#[derive(Clone, Copy)]
struct Names {
    salt: u64,
}

impl Names {
    fn user(self, connection: u32) -> String {
        format!("verify-{:x}-u{connection}", self.salt)
    }

    fn room(self, room: u32) -> String {
        format!("verify-{:x}-r{room}", self.salt)
    }

    /// Whether a room's name is the one that the stamp of a message in it says.
    fn is_room_of(self, name: &str, stamp: &Stamp) -> bool {
        name == self.room(stamp.room)
    }
}
