//! How connections come in, how long they may take, and how it all ends.
use crate::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use throng::services::{ServicesOptions, Timeouts};

const SHORT: Duration = Duration::from_millis(60);

#[test]
fn bytes_read_before_and_after_the_hand_over_make_one_request() {
    let front = Front::new(options(FakeSource::new(1, None)));
    let head = request("GET", "/healthz", front.port(), &["X-Some: thing"]);
    for split in 0..=head.len() {
        let (first, rest) = head.as_bytes().split_at(split);
        let mut client = front.connect(first, None);
        client.write_all(rest).unwrap();
        let answer = read_answer(client);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "split at {split}");
    }
}

/// A next request might be for a shard, which would never see it.
#[test]
fn a_handed_over_connection_serves_one_request() {
    let front = Front::new(options(FakeSource::new(1, None)));
    let two = request("GET", "/healthz", front.port(), &[]).repeat(2);
    let mut client = front.connect(two.as_bytes(), None);
    let mut text = String::new();
    // The second request was not read, so the end may be a reset.
    let _ = client.read_to_string(&mut text);
    assert_eq!(text.matches("HTTP/1.1").count(), 1);
    assert_eq!(parse_answer(&text).headers["connection"], "close");
}

fn impatient() -> Front {
    let timeouts = Timeouts { request: SHORT, idle: SHORT };
    Front::new(ServicesOptions { timeouts, ..options(FakeSource::new(1, None)) })
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let front = impatient();
    for first in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: a\r\n"] {
        assert!(ended_silently(front.connect(first.as_bytes(), None)), "{first:?}");
    }
}

#[test]
fn trickling_bytes_do_not_extend_the_deadline() {
    let front = impatient();
    let mut client = front.connect(b"GET /healthz HTTP/1.1\r\n", None);
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // Some hundred times the deadline.
    let is_ended = (0..500).any(|_| {
        client.write_all(b"X-A: b\r\n").is_err()
            || match client.read(&mut [0; 16]) {
                Ok(count) => count == 0,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            }
    });
    assert!(is_ended);
}

#[test]
fn an_idle_admin_connection_ends() {
    let address = listen().local_addr().unwrap();
    let timeouts = Timeouts { request: LONG, idle: SHORT };
    let options = ServicesOptions { admin_listen: Some(address), timeouts, ..options(FakeSource::new(1, None)) };
    let front = Front::new(options);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.write_all(request("GET", "/healthz", address.port(), &[]).as_bytes()).unwrap();
    // The end of the stream comes though the connection was to be kept.
    assert_eq!(read_answer(client).body, "ok");
    drop(front);
}

#[test]
fn a_silent_shard_is_reported_and_hangs_nobody() {
    let front = Front::new(options(FakeSource::new(3, Some(1))));
    let answer = front.get("/metrics");
    assert_eq!(answer.status, 200);
    for (shard, is_responding) in [(0, 1), (1, 0), (2, 1)] {
        let line = format!("throng_shard_responding{{shard=\"{shard}\"}} {is_responding}\n");
        assert!(answer.body.contains(&line), "{line}");
    }
    assert!(!answer.body.contains("throng_connections{shard=\"1\"}"));
    assert_eq!(front.get("/stats").json()["shards"][1], serde_json::json!({"shard": 1, "responding": false}));
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = listen();
    let address = taken.local_addr().unwrap();
    let options = ServicesOptions { admin_listen: Some(address), ..options(FakeSource::new(1, None)) };
    let error = throng::services::Services::start(options).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("admin.listen = {address}")), "{error}");
}

#[test]
fn stopping_frees_the_address_and_drops_what_comes_later() {
    let address = listen().local_addr().unwrap();
    let options = ServicesOptions { admin_listen: Some(address), ..options(FakeSource::new(1, None)) };
    let front = Front::new(options);
    let idle = front.connect(b"", None);
    let hand_over = front.services.hand_over_handle();
    front.services.stop();
    assert!(ended_silently(idle));
    assert!(TcpStream::connect(address).is_err());
    let listener = listen();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert!(!hand_over.hand_over(server, None, Vec::new(), peer));
    assert!(ended_silently(client));
}
