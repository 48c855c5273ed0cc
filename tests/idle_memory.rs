//! The guard of the product's main promise: a connection costs its kernel socket and almost nothing else. The server's resident
//! memory grows by at most 256 bytes with each idle connection that is signed in and in a room.
//!
//! The slope between two numbers of connections is measured, so that what a server costs without any does not count. With
//! THRONG_RELEASE_BIN the binary at that path is measured instead of the debug build.
#[path = "reliability/support.rs"]
mod support;

use serde_json::json;
use std::thread;
use std::time::Duration;
use support::{Client, Server, Settings, connect_from, eventually, join_data, message, source_address};

/// Bytes of resident memory per connection.
const BYTES_MAX: u64 = 256;

const FEW: usize = 2_000;
const MANY: usize = 18_000;
const ROOM_MEMBERS: usize = 100;
/// Messages of each of the few.
const WARM_UP: usize = 6;
/// Connections that sign in at the same time. Few, because what is in progress takes memory that is kept for the next time.
const AT_ONCE: usize = 10;

/// Adds connections until there are `count`, each of its own user, in rooms of a hundred.
fn grow(server: &Server, clients: &mut Vec<Client>, count: usize) {
    while clients.len() < count {
        let first = clients.len();
        for number in first..first + AT_ONCE {
            let stream = connect_from(source_address(number / 100), server.address).expect("a connection");
            let mut client = Client::begin(server, stream, Some(&format!("user-{number}")));
            let room = format!("room-{}", number / ROOM_MEMBERS);
            client.write(&message("join", "join_room", &join_data(&room, None)));
            clients.push(client);
        }
        for client in &mut clients[first..] {
            assert_eq!(client.status(), Some(101));
            client.wait_for("room_state").expect("joined");
            client.stash = Vec::new();
        }
    }
}

/// Readings without a lower one, ten a second, until memory counts as at rest.
const QUIET_READINGS: u32 = 80;

/// Resident bytes once nothing moves any more.
fn at_rest(server: &Server, connections: usize) -> u64 {
    eventually("everybody is signed in and nothing is queued", || {
        let stats = server.stats();
        (stats["totalConnections"] == json!(connections)
            && stats["connectedUsers"] == json!(connections)
            && server.shard_sum("queueBytes") == 0)
            .then_some(())
    });
    let mut least = u64::MAX;
    let mut quiet = 0;
    while quiet < QUIET_READINGS {
        thread::sleep(Duration::from_millis(100));
        let bytes = server.memory_bytes();
        quiet = if bytes < least { 0 } else { quiet + 1 };
        least = least.min(bytes);
    }
    least
}

#[test]
fn an_idle_connection_costs_256_bytes_at_most() {
    throng::plane::os::raise_nofile_limit();
    let mut settings = Settings::new(1, &[]);
    if let Some(binary) = std::env::var_os("THRONG_RELEASE_BIN") {
        settings.binary = binary.into();
    }
    let server = Server::start_with(&settings);
    let mut clients = Vec::new();
    grow(&server, &mut clients, FEW);
    // Touches all receive buffers and all else that a busy shard uses, whatever the number of its connections.
    for _ in 0..WARM_UP {
        clients.iter_mut().for_each(|client| _ = client.send("heartbeat", json!({})));
        for client in &mut clients {
            client.wait_for("heartbeat_response").expect("an answer");
            client.stash = Vec::new();
        }
    }
    let few = at_rest(&server, FEW);
    grow(&server, &mut clients, MANY);
    let many = at_rest(&server, MANY);
    let slope = many.saturating_sub(few) / (MANY - FEW) as u64;
    println!("{few} bytes with {FEW} connections, {many} with {MANY}: {slope} bytes each");
    assert!(slope <= BYTES_MAX, "{slope} bytes per connection: {few} with {FEW}, {many} with {MANY}");
}
