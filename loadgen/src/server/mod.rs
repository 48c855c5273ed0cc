//! The server under test: start it or find it, sign its users in, watch what it uses, ask what it saw itself.
//!
//! ```text
//! launch, attach    a Throng started for the run, one that runs already: both end in a `Target`
//! running, cores    a child process on its own cores, ended with its value; which cores are whose
//! addresses         free ports, and the address pairs that many connections need
//! signer            tokens of the simulated users
//! process, slab     CPU and memory of the server from /proc; the kernel's memory for sockets
//! owner             which process listens on a port
//! witness           what the server says itself: /histograms and /metrics
//! ```
use crate::wire::Dialect;
use std::net::{Ipv4Addr, SocketAddr};

pub mod addresses;
pub mod attach;
pub mod cores;
pub mod launch;
mod owner;
pub mod process;
pub mod running;
pub mod signer;
pub mod slab;
pub mod witness;

pub use attach::{Attach, attach};
pub use cores::Cores;
pub use launch::{Launch, launch};
pub use process::Process;
pub use running::Running;
pub use signer::Signer;
pub use slab::slab;
pub use witness::Snapshot;

/// Everything a client needs to know to put a server under load.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect, in turn. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// The `Host` header.
    pub host: String,
    pub dialect: Dialect,
    pub signer: Signer,
    /// The process, or the root of several, if it runs on this machine and was found.
    pub pid: Option<u32>,
    /// Where `/metrics` and `/histograms` answer, `http://127.0.0.1:8080`; `None`: nowhere.
    pub admin: Option<String>,
    /// What it is, with its version where it tells one: `throng 0.1.0`.
    pub name: String,
    /// Own addresses to connect from, in turn, so that the ephemeral ports suffice; empty: the kernel chooses.
    pub sources: Vec<Ipv4Addr>,
}

/// Why there is no server to put under load.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The caller asked for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// It did not start, or ended, or does not answer. With the tail of its log where we have it.
    #[error("{0}")]
    Failed(String),
}

/// A short HTTP request to a server's service pages; the body of a 200.
pub(crate) fn http_get(url: &str) -> Result<String, String> {
    /// Pages answer within 500 ms even if a shard hangs; a server under full load gets some more.
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
    /// Histograms of 256 shards take about 10 MB.
    const BODY_BYTES_MAX: u64 = 64 << 20;
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build().into();
    let mut answer = agent.get(url).call().map_err(|error| format!("{url}: {error}"))?;
    answer.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_string().map_err(|error| format!("{url}: {error}"))
}
