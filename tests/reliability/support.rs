//! Harness of the tests that look at the server from the outside: the built binary as a child process, real sockets.
//!
//! `server` starts, asks and ends a server; `client` speaks to it. Nothing here shares code with the server but the signing of
//! development tokens.
#![allow(dead_code, unused_imports, reason = "each test file is a crate of its own and uses its part of the harness")]
#[path = "client.rs"]
mod client;
#[path = "server.rs"]
mod server;

pub use client::{Client, Got, connect_from, connect_narrow, frame, join_data, message, upgrade_request};
pub use server::{Server, Settings, command, free_address};

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine. What is not there by then is missing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks.
const LOOK_MS: u64 = 20;

/// Looks until `holds` gives something.
///
/// # Panics
/// If it never does; `what` names what was waited for.
pub fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

/// Loopback addresses to connect from, all different.
pub fn source_address(number: usize) -> IpAddr {
    let [.., high, low] = (number as u32 % 60_000 + 256).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low).into()
}

/// A number in `0..below`, from the operating system.
pub fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    throng::plane::os::os_random(&mut bytes);
    u64::from_ne_bytes(bytes) % below
}
