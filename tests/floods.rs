//! Floods before and after sign-in (R-CONN-1 to 4, R-ENV-3, R-SEC-2, R-SEC-13): each is refused or ends by a limit, costs bounded
//! memory and leaves nothing behind, and a pair of users who behave go on chatting all the while.
#[path = "reliability/support.rs"]
mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use support::{
    Client, Got, PATIENCE, Server, Settings, connect_from, eventually, frame, source_address, upgrade_request,
};

/// Two users who chat until told to stop: every message must be acknowledged and heard.
struct Pair {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

const PAIR: u64 = 2;

impl Pair {
    fn start(server: &Server) -> Pair {
        let mut users = ["anna", "bob"].map(|user| Client::connect(server, user));
        users.iter_mut().for_each(|user| _ = user.join("pair", None));
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let thread = thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Relaxed) {
                let (speaker, hearer) = ((count % 2) as usize, ((count + 1) % 2) as usize);
                let sent =
                    users[speaker].request("chat_message", json!({"roomId": "pair", "message": count.to_string()}));
                let heard = users[hearer].wait_for("chat_message").expect("the pair's connection");
                assert_eq!((&heard["id"], &heard["message"]), (&sent["messageId"], &json!(count.to_string())));
                users[speaker].wait_for("chat_message").expect("the pair's connection");
                users.iter_mut().for_each(|user| user.stash.clear());
                count += 1;
                thread::sleep(Duration::from_millis(5));
            }
            count
        });
        Pair { is_over, thread }
    }

    /// Ends the chat, which must have gone well.
    fn finish(self) {
        self.is_over.store(true, Relaxed);
        assert!(self.thread.join().expect("the pair was disturbed") > 0);
    }
}

/// What a server uses before a flood, to be compared with after.
struct Usage {
    descriptors: usize,
    peak_bytes: u64,
}

impl Usage {
    fn of(server: &Server) -> Usage {
        Usage { descriptors: server.descriptors(), peak_bytes: server.peak_bytes() }
    }

    /// Everything of the flood is gone, and it has never taken more than this.
    fn returns(&self, server: &Server, growth_bytes_max: u64) {
        let grown = server.peak_bytes() - self.peak_bytes;
        assert!(grown < growth_bytes_max, "grew by {} KiB", grown >> 10);
        eventually("connections and descriptors of the flood are gone", || {
            let is_gone = server.metric("throng_connections") == PAIR && server.shard_sum("unauthenticated") == 0;
            // Pages of numbers have a descriptor while they are read.
            (is_gone && server.descriptors() <= self.descriptors + 2).then_some(())
        });
        eventually("no bytes are left over, but for those of the pair", || {
            (server.shard_sum("queueBytes") == 0).then_some(())
        });
    }
}

fn refused(server: &Server, reason: &str) -> u64 {
    server.metric(&format!("throng_handshakes_refused_total{{reason=\"{reason}\"}}"))
}

fn closed(server: &Server, code: u16) -> u64 {
    server.metric(&format!("throng_connections_closed_total{{code=\"{code}\"}}"))
}

/// The last setting of a key counts.
fn limited(limits: &[&str]) -> Settings {
    Settings::new(2, limits)
}

#[test]
fn handshakes_over_the_rate_of_their_address_are_refused() {
    const ADDRESSES: usize = 100;
    const TRIES: usize = 40;
    let server = Server::start_with(&limited(&["limits.handshakes_per_ip=1", "limits.handshakes_burst=10"]));
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let counts: Vec<(usize, usize)> = thread::scope(|scope| {
        let threads = (0..4).map(|thread| {
            let server = &server;
            scope.spawn(move || {
                let addresses = (1 + thread * ADDRESSES / 4..).take(ADDRESSES / 4);
                addresses.map(|number| flood_from(server, number, TRIES)).collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(counts.iter().all(|(admitted, _)| *admitted >= 10), "one address pays for another: {counts:?}");
    let refusals: usize = counts.iter().map(|(_, refused)| refused).sum();
    assert!(refusals > ADDRESSES * TRIES / 4, "{counts:?}");
    assert_eq!(refused(&server, "address_rate"), refusals as u64);
    before.returns(&server, 16 << 20);
    pair.finish();
}

/// Upgrades from one address, as fast as it goes; how many were let in and how many refused.
fn flood_from(server: &Server, address: usize, tries: usize) -> (usize, usize) {
    let (mut admitted, mut refused) = (0, 0);
    for _ in 0..tries {
        let stream = connect_from(source_address(address), server.address).expect("accepted, if only to be refused");
        let mut client = Client::begin(server, stream, None);
        let head = client.head().expect("an answer");
        if head.starts_with("HTTP/1.1 101 ") {
            admitted += 1;
        } else {
            assert!(head.starts_with("HTTP/1.1 429 ") && head.to_lowercase().contains("\r\nretry-after: "), "{head}");
            refused += 1;
        }
    }
    (admitted, refused)
}

#[test]
fn connections_of_one_address_are_bounded() {
    let server = Server::start_with(&limited(&["limits.connections_per_ip=10"]));
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let mut clients = Vec::new();
    for address in [1, 2, 3] {
        for number in 0..20 {
            let stream = connect_from(source_address(address), server.address).expect("accepted");
            let mut client = Client::begin(&server, stream, Some(&format!("user-{address}-{number}")));
            assert_eq!(client.status(), Some(if number < 10 { 101 } else { 429 }));
            clients.push(client);
        }
    }
    assert_eq!(refused(&server, "address_count"), 30);
    drop(clients);
    before.returns(&server, 16 << 20);
    eventually("the address may come again", || {
        let stream = connect_from(source_address(1), server.address).expect("accepted");
        (Client::begin(&server, stream, None).status() == Some(101)).then_some(())
    });
    pair.finish();
}

/// Slow loris: half a head each, and now and then a byte more. Nobody gets more time than `http.head_timeout_ms`.
#[test]
fn heads_that_never_end_are_timed_out() {
    const LORISES: usize = 3_000;
    const PLACES: usize = 2_000;
    throng::plane::os::raise_nofile_limit();
    let places = format!("limits.unauthenticated={PLACES}");
    let server = Server::start_with(&limited(&["http.head_timeout_ms=4000", &places]));
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let half = upgrade_request(&server, None);
    let half = &half[..half.len() - 20];
    let mut lorises: Vec<TcpStream> = (0..LORISES)
        .map(|number| {
            let mut stream = connect_from(source_address(number / 50), server.address).expect("accepted");
            let _ = stream.write_all(half);
            stream
        })
        .collect();
    eventually("the flood is over by itself", || {
        // A byte more does not buy time.
        lorises.iter_mut().step_by(10).for_each(|stream| _ = stream.write_all(b"x"));
        let ended = refused(&server, "head_timeout") + refused(&server, "unauthenticated");
        (ended >= LORISES as u64 / 10 * 9 && server.descriptors() <= before.descriptors + 2).then_some(())
    });
    let (mut late, mut full) = (0, 0);
    for stream in lorises {
        match answer(stream).as_str() {
            "408" => late += 1,
            "503" => full += 1,
            // A reset that overtook the answer.
            "" => {}
            other => panic!("{other}"),
        }
    }
    assert!(late > 0 && full > 0, "{late} late, {full} refused");
    assert!(refused(&server, "unauthenticated") >= (LORISES - PLACES) as u64 / 2);
    // 2,000 tasks with their buffers.
    before.returns(&server, 48 << 20);
    Client::connect(&server, "newcomer");
    pair.finish();
}

/// The status of what was answered, empty if nothing was.
fn answer(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Sockets that send nothing, connections that never sign in, and heads that are too large.
#[test]
fn those_who_say_nothing_have_to_go() {
    let server = Server::start_with(&limited(&["http.head_timeout_ms=1500", "auth.timeout_ms=1500"]));
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let silent: Vec<TcpStream> =
        (0..300).map(|number| connect_from(source_address(number / 50), server.address).unwrap()).collect();
    let mut anonymous: Vec<Client> = (0..300)
        .map(|number| {
            let stream = connect_from(source_address(number / 50), server.address).unwrap();
            let mut client = Client::begin(&server, stream, None);
            assert_eq!(client.status(), Some(101));
            client
        })
        .collect();
    for number in 0..50 {
        let mut stream = connect_from(source_address(number), server.address).unwrap();
        let _ = stream.write_all(b"GET /ws HTTP/1.1\r\n");
        let _ = stream.write_all(format!("x: {}\r\n", "y".repeat(17_000)).as_bytes());
        assert!(matches!(answer(stream).as_str(), "431" | ""));
    }
    assert_eq!(refused(&server, "head_too_big"), 50);
    assert!(silent.into_iter().all(|stream| answer(stream) == "408"));
    assert!(anonymous.iter_mut().all(|client| client.ending() == Some(4001)));
    assert_eq!((refused(&server, "head_timeout"), closed(&server, 4001)), (300, 300));
    drop(anonymous);
    before.returns(&server, 16 << 20);
    pair.finish();
}

/// A frame's header may promise anything: memory is taken for what came, not for what was promised.
#[test]
fn promised_sizes_cost_nothing() {
    let server = Server::start(&[]);
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let promise = |len: u64| [&[0x81, 0x80 | 127][..], &len.to_be_bytes(), &[1, 2, 3, 4]].concat();
    for (sizes, user) in [(0..100, None), (100..300, Some("liar"))] {
        let mut clients: Vec<Client> = sizes
            .map(|number: usize| {
                let stream = connect_from(source_address(number / 50), server.address).unwrap();
                let mut client = Client::begin(&server, stream, user);
                assert_eq!(client.status(), Some(101));
                let header = promise([16 << 20, 1 << 62, 65_537, u64::MAX >> 1][number % 4]);
                // In two pieces: it must not matter where the header is cut.
                client.write(&header[..number % header.len()]);
                client.write(&header[number % header.len()..]);
                client.write(b"the beginning");
                client
            })
            .collect();
        assert!(clients.iter_mut().all(|client| client.ending() == Some(1009)));
    }
    assert_eq!(closed(&server, 1009), 300);
    before.returns(&server, 16 << 20);
    pair.finish();
}

/// What is allowed is only held as far as it has come, and fragments without end have one.
#[test]
fn unfinished_messages_are_bounded() {
    let server = Server::start(&["ws.ping_interval_ms=2000", "ws.pong_timeout_ms=1000"]);
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let mut clients: Vec<Client> = (0..300)
        .map(|number| {
            let stream = connect_from(source_address(number / 50), server.address).unwrap();
            let mut client = Client::begin(&server, stream, Some(&format!("user-{number}")));
            assert_eq!(client.status(), Some(101));
            client.wait_for("connection_established").unwrap();
            // 65,000 bytes promised, which is allowed, and 1,000 sent.
            let unfinished = frame(1, &[b'x'; 65_000]);
            client.write(&unfinished[..1_000]);
            client.answers = false;
            client
        })
        .collect();
    assert!(clients.iter_mut().all(|client| client.ending() == Some(4103)));
    let mut endless = Client::connect(&server, "endless");
    endless.write(&[&[0x01, 0x80 | 1][..], &[0, 0, 0, 0], b"x"].concat());
    for _ in 0..2_000 {
        endless.write(&[0x00, 0x80, 0, 0, 0, 0].repeat(10));
    }
    assert!(matches!(endless.ending(), Some(1002) | None), "fragments without end");
    drop((clients, endless));
    before.returns(&server, 16 << 20);
    pair.finish();
}

/// A peer that vanished answers no ping; one that stays does, and is left alone.
#[test]
fn half_open_connections_are_found_out() {
    let server = Server::start(&["ws.ping_interval_ms=1000", "ws.pong_timeout_ms=1500"]);
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let mut gone: Vec<Client> = (0..500)
        .map(|number| {
            let stream = connect_from(source_address(number / 50), server.address).unwrap();
            let mut client = Client::begin(&server, stream, Some(&format!("gone-{number}")));
            client.answers = false;
            client
        })
        .collect();
    let mut there = Client::connect(&server, "there");
    eventually("those who are gone are closed", || {
        match there.next(Duration::from_millis(100)) {
            Got::Closed(code) => panic!("closed {code} although it answers"),
            Got::Lost => panic!("lost although it answers"),
            Got::Message(_) | Got::Nothing => {}
        }
        (closed(&server, 4103) == 500).then_some(())
    });
    for client in &mut gone {
        assert_eq!(client.status(), Some(101));
        assert_eq!(client.ending(), Some(4103));
    }
    drop((gone, there));
    before.returns(&server, 16 << 20);
    pair.finish();
}

/// Connecting, and leaving at once in every way there is.
#[test]
fn comers_and_goers_leave_nothing_behind() {
    let server = Server::start(&[]);
    let (pair, before) = (Pair::start(&server), Usage::of(&server));
    let connect = |number: usize| -> TcpStream { connect_from(source_address(number % 60), server.address).unwrap() };
    for number in 0..1_500 {
        match number % 5 {
            0 => drop(connect(number)),
            1 => Client::over(connect(number)).reset(),
            2 => drop(Client::begin(&server, connect(number), None)),
            3 => Client::begin(&server, connect(number), Some("passing")).reset(),
            _ => {
                let mut client = Client::begin(&server, connect(number), Some("passing"));
                assert_eq!(client.status(), Some(101));
                client.reset();
            }
        }
    }
    before.returns(&server, 32 << 20);
    pair.finish();
}
