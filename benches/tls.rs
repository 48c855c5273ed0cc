//! What TLS costs the server: its CPU for each answer and each delivery, with TLS 1.3 and without, by the same client.
//!
//! Question: how much more CPU does a message take that is opened and sealed? Unit: microseconds of server CPU, user and system, all
//! threads (ticks of 10 ms), and their ratio, round by round. Server with one shard; the echo is the answer to `heartbeat` with one under way on each
//! connection, the fan-out is a live `broadcast` to a room.
//!
//! It cannot tell: latency; handshakes (a quarter to half a millisecond each, most of it the signature); what a network card that
//! encrypts would save. The client shares the machine, so throughput means nothing here.
//!
//! `cargo bench --bench tls` (rounds of 2 s); `-- --quick` runs it once, briefly.
#[path = "live/cpu.rs"]
#[allow(dead_code, reason = "shared with the live bench")]
mod cpu;
#[path = "../tests/support/mod.rs"]
mod support;

use rustls::version::TLS13;
use serde_json::json;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use support::{Certificate, Client, Server, free_port, text_frame};

const CONNECTIONS: usize = 100;

/// Microseconds of server CPU for each unit of work.
struct Cost {
    echo: f64,
    delivery: f64,
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let (rounds, window) = if is_quick { (1, Duration::from_millis(300)) } else { (5, Duration::from_secs(2)) };
    println!("load before the start: {:.2}", cpu::load_average());
    let (certificate, port) = (Certificate::new(), free_port());
    let [chain, key] = certificate.settings();
    let listen = format!("http.tls_listen=127.0.0.1:{port}");
    let server = Server::with_shards(
        1,
        &[&listen, &chain, &key, "limits.messages=0", "limits.commands=0", "limits.live=0", "server.log=warn"],
    );
    let config = certificate.config(&TLS13);
    let mut plain: Vec<_> = (0..CONNECTIONS).map(|number| server.client(&format!("plain-{number}"))).collect();
    let mut tls: Vec<_> =
        (0..CONNECTIONS).map(|number| server.tls_client(port, &config, &format!("tls-{number}"))).collect();
    plain.iter_mut().for_each(|client| _ = client.join("plain"));
    tls.iter_mut().for_each(|client| _ = client.join("tls"));
    // In such a rush the last of who came is told later.
    std::thread::sleep(Duration::from_millis(2 * throng::limits::PRESENCE_WAIT_MS));
    plain.iter_mut().for_each(|client| _ = client.so_far());
    tls.iter_mut().for_each(|client| _ = client.so_far());
    let mut ratios = Vec::new();
    println!("{:>10} {:>10} {:>10} {:>10}", "", "plain", "TLS 1.3", "ratio");
    for _ in 0..rounds {
        let (plain, tls) = (measure(&server, &mut plain, "plain", window), measure(&server, &mut tls, "tls", window));
        for (name, plain, tls) in [("echo", plain.echo, tls.echo), ("delivery", plain.delivery, tls.delivery)] {
            println!("{name:>10} {plain:>7.2} µs {tls:>7.2} µs {:>10.2}", tls / plain);
            ratios.push((name, tls / plain));
        }
    }
    for name in ["echo", "delivery"] {
        let mut of: Vec<f64> = ratios.iter().filter(|(other, _)| *other == name).map(|(_, ratio)| *ratio).collect();
        of.sort_by(f64::total_cmp);
        println!("{name:>10} median {:.2} ({:.2}-{:.2})", of[of.len() / 2], of[0], of[of.len() - 1]);
    }
}

/// One round of both workloads.
fn measure<S: Read + Write>(server: &Server, clients: &mut [Client<S>], room: &str, window: Duration) -> Cost {
    let command = |kind: &str, data| text_frame(&json!({"id": "b", "type": kind, "data": data}).to_string());
    let heartbeat = command("heartbeat", json!({"timestamp": 1}));
    let echo = cost(server, window, || {
        clients.iter_mut().for_each(|client| client.send_bytes(&heartbeat));
        for client in clients.iter_mut() {
            assert_eq!(client.next()["type"], "heartbeat_response");
        }
        clients.len()
    });
    let broadcast = command("broadcast", json!({"roomId": room, "event": "state", "payload": "x".repeat(100)}));
    let delivery = cost(server, window, || {
        let (sender, readers) = clients.split_first_mut().expect("there are clients");
        sender.send_bytes(&broadcast);
        for reader in readers.iter_mut() {
            assert_eq!(reader.next()["type"], "broadcast");
        }
        readers.len()
    });
    Cost { echo, delivery }
}

/// Repeats `work`, which says how many units it did.
fn cost(server: &Server, window: Duration, mut work: impl FnMut() -> usize) -> f64 {
    let used = || cpu::Usage::of(server.pid()).expect("the server runs").process;
    work();
    let (before, begun, mut units) = (used(), Instant::now(), 0);
    while begun.elapsed() < window {
        units += work();
    }
    (used() - before).as_secs_f64() * 1e6 / units as f64
}
