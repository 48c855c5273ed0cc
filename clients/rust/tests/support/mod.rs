//! The real server, a network that fails on purpose, and clients that keep what an application would show.
#![allow(dead_code, reason = "each test file uses its part")]
mod proxy;
mod reader;
mod server;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use {
    proxy::{Direction, Fate, Proxy},
    reader::{Reader, quick},
    server::Server,
};

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

/// Nothing here takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Below the ephemeral ports; different for tests that run at the same time.
pub fn next_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 100) as u16 * 120;
    FIRST + (start + 60 + TAKEN.fetch_add(1, Relaxed)) % COUNT
}

/// Waits until it is so; names what is not.
pub async fn until(what: impl std::fmt::Display, mut is_so: impl FnMut() -> bool) {
    let look = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, look).await.is_err() {
        panic!("not within {PATIENCE:?}: {what}");
    }
}
