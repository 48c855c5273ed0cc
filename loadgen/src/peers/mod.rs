//! Other servers, to be measured beside Throng: small ones of ours over well-known packages (`loadgen/peers/`).
//!
//! ```text
//! find       where a peer's program is, and how to install what is missing
//! launch     start it for a run, on its own cores: the same `Target` as a Throng's
//! compare    rounds in turn, and ratios of medians with their spread
//! ```
//!
//! Peers keep nothing and know nobody: live events and heartbeats are all that they are compared in.
pub mod compare;
mod find;
mod launch;

use crate::scenario::{Kind, Scenario};
use crate::wire::Dialect;
pub use find::{Missing, Program};

/// A peer. Its name is the one that `loadgen/peers/install.sh` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// Bun's own WebSocket server; one thread.
    Bun,
    /// npm ws on Node.js; one thread.
    Ws,
    /// npm socket.io on Node.js, WebSocket alone; one thread.
    SocketIo,
    /// nginx with nchan; a process per core.
    Nchan,
    /// Crates of these names on tokio; a thread per core.
    TokioTungstenite,
    FastWebsockets,
}

impl Peer {
    pub const ALL: [Peer; 6] =
        [Peer::Bun, Peer::Ws, Peer::SocketIo, Peer::Nchan, Peer::TokioTungstenite, Peer::FastWebsockets];

    pub const fn name(self) -> &'static str {
        match self {
            Peer::Bun => "bun",
            Peer::Ws => "ws",
            Peer::SocketIo => "socketio",
            Peer::Nchan => "nchan",
            Peer::TokioTungstenite => "tokio-tungstenite",
            Peer::FastWebsockets => "fastwebsockets",
        }
    }

    pub fn from_name(name: &str) -> Option<Peer> {
        Peer::ALL.into_iter().find(|peer| peer.name() == name)
    }

    pub const fn dialect(self) -> Dialect {
        match self {
            Peer::SocketIo => Dialect::SocketIo,
            Peer::Nchan => Dialect::Nchan,
            Peer::Bun | Peer::Ws | Peer::TokioTungstenite | Peer::FastWebsockets => Dialect::Native,
        }
    }

    /// Why the scenario cannot be run on it; `None`: it can.
    pub fn unfit(self, scenario: &Scenario) -> Option<String> {
        let refuse = |what: &str| Some(format!("{} has no {what}, which {} needs", self.name(), scenario.name));
        for line in &scenario.traffic {
            match line.kind {
                Kind::Durable => return refuse("durable messages"),
                Kind::Typing => return refuse("typing"),
                Kind::Activity if self == Peer::Nchan => return refuse("commands but sending"),
                Kind::Live if self == Peer::Nchan && !line.include_self => {
                    return refuse("live events without their sender among the receivers");
                }
                Kind::Live | Kind::Activity => {}
            }
        }
        if scenario.slow_readers.is_some_and(|readers| readers.count > 0) {
            return refuse("rule for slow readers");
        }
        if self == Peer::Nchan && scenario.layers.len() > 1 {
            return refuse("second room for a connection");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(kind: &str, include_self: bool, layers: usize) -> Scenario {
        let layers: String = (0..layers).map(|n| format!("[[layer]]\nname = \"l{n}\"\nmembers = 10\n")).collect();
        let text = format!(
            "name = \"x\"\nabout = \"y\"\nconnections = 100\ntime = {{ warmup_s = 1, measure_s = 2 }}\n{layers}\
             [[traffic]]\nkind = \"{kind}\"\nlayer = \"l0\"\nsenders = 1\nrate_per_s = 1\ninclude_self = {include_self}\n"
        );
        toml::from_str(&text).expect("a scenario")
    }

    #[test]
    fn names_are_unique_and_read_again() {
        for peer in Peer::ALL {
            assert_eq!(Peer::from_name(peer.name()), Some(peer));
        }
        assert_eq!(Peer::from_name("Bun"), None);
    }

    #[test]
    fn a_peer_is_not_asked_for_what_it_cannot_do() {
        for peer in Peer::ALL {
            assert_eq!(peer.unfit(&scenario("live", true, 1)), None);
            assert!(peer.unfit(&scenario("durable", false, 1)).is_some_and(|why| why.contains("durable")));
            assert!(peer.unfit(&scenario("typing", false, 1)).is_some());
            let is_nchan = peer == Peer::Nchan;
            assert_eq!(peer.unfit(&scenario("live", false, 1)).is_some(), is_nchan);
            assert_eq!(peer.unfit(&scenario("live", true, 2)).is_some(), is_nchan);
            assert_eq!(peer.unfit(&scenario("activity", false, 1)).is_some(), is_nchan);
            let mut slow = scenario("live", true, 1);
            slow.slow_readers = Some(crate::scenario::SlowReaders { count: 1, bytes_per_s: 0 });
            assert!(peer.unfit(&slow).is_some());
        }
    }
}
