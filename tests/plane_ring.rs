//! The io_uring plane against real sockets on loopback, hosted by the runtime as a shard hosts it. Each behaviour is that of one
//! ring and of three that together are as large.
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use throng::plane::{Completion, End, Plane, Received, Ring, RingOptions, Rings, Slot};

#[path = "plane_ring/harness.rs"]
mod harness;

use harness::*;

macro_rules! behaviours {
    ($($name:ident)*) => {
        mod one_ring { $(#[test] fn $name() { super::$name(1) })* }
        mod three_rings { $(#[test] fn $name() { super::$name(3) })* }
    };
}

behaviours! {
    connections_cost_the_server_no_descriptors
    buffers_run_dry_without_losing_a_byte
    a_stalled_reader_gets_everything_in_the_end
    quiet_connections_are_demoted_and_still_answer
    peers_see_both_directions_of_close
    many_close_at_once_with_few_descriptors
    closing_works_without_a_descriptor_to_spare
    rapid_connections_leave_the_table_empty
    a_wake_from_another_thread_ends_the_wait
    no_wake_up_is_lost
    a_full_table_gives_the_socket_back
    the_end_is_reported_once_and_the_other_direction_stays_open
    a_reset_is_an_error_of_the_connection
    batches_larger_than_the_queues_are_settled_exactly
    a_panic_in_the_iterator_leaves_no_request_behind
}

/// Tests that count the process's descriptors must not overlap with others.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i * 7 + seed * 13) % 97) as u8 + 128).collect()
}

fn echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("write");
    expect(stream, bytes);
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("read");
    assert!(back == bytes, "the echo differs");
}

fn expect_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).expect("end of stream"), 0);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

fn connections_cost_the_server_no_descriptors(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 300);
    let before = descriptors();
    let mut clients: Vec<TcpStream> = (0..300).map(|_| server.connect()).collect();
    for round in 0..5 {
        for (index, client) in clients.iter_mut().enumerate() {
            echo(client, &pattern(100, index + round));
        }
    }
    assert_eq!(descriptors() - before, clients.len());
    let report = server.report();
    assert_eq!((report.stats.adopted, report.open), (300, 300));
    assert_eq!(report.stats.promoted, 300, "five messages in one tick make a connection hot");
    drop(clients);
    assert_eq!(server.until_empty().stats.stale, 0);
    assert_eq!(descriptors(), before);
}

fn buffers_run_dry_without_losing_a_byte(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 200);
    let mut clients: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
    // Once while idle, twice while hot.
    for round in 0..3 {
        server.order(Order::Stall(Duration::from_millis(50)));
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&pattern(16 << 10, index + round)).expect("burst");
        }
        for (index, client) in clients.iter_mut().enumerate() {
            expect(client, &pattern(16 << 10, index + round));
        }
    }
    assert!(server.report().stats.out_of_buffers > 0, "the buffers never ran dry");
}

fn a_stalled_reader_gets_everything_in_the_end(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 512);
    let mut slow = server.connect();
    socket2::SockRef::from(&slow).set_recv_buffer_size(16 << 10).expect("option");
    let large = pattern(6 << 20, 1);
    slow.write_all(&large).expect("write");
    let report = server.until("short sends", |report| report.stats.short_sends > 0);
    assert_eq!(report.open, 1);
    // Others are served meanwhile.
    echo(&mut server.connect(), b"hello");
    expect(&mut slow, &large);
}

fn quiet_connections_are_demoted_and_still_answer(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 150);
    let mut clients: Vec<TcpStream> = (0..150).map(|_| server.connect()).collect();
    for round in 1..=2 {
        for _ in 0..4 {
            clients.iter_mut().for_each(|client| echo(client, b"now hot"));
        }
        assert_eq!(server.report().stats.promoted, 150 * round);
        // No quicker than 64 a tick, and in one ring at a time.
        let at_once = if rings == 1 { 64 } else { 50 };
        server.order(Order::Ticks(20));
        let first = server.until("demotions", |report| report.stats.demoted >= 150 * (round - 1) + at_once);
        assert_eq!(first.stats.demoted, 150 * (round - 1) + at_once);
        server.order(Order::Ticks(2));
        server.until("the remaining demotions", |report| report.stats.demoted == 150 * round);
    }
    clients.iter_mut().for_each(|client| echo(client, b"still there"));
    // Demoted in the midst of traffic: what arrives around the cancel is not lost.
    for round in 0..20 {
        for client in &mut clients {
            client.write_all(&pattern(300, round)).expect("write");
        }
        server.order(Order::Ticks(21));
        clients.iter_mut().for_each(|client| expect(client, &pattern(300, round)));
    }
}

fn peers_see_both_directions_of_close(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 202);
    let before = descriptors();
    for tier in 0..2 {
        let mut clients: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
        if tier == 1 {
            (0..4).for_each(|_| clients.iter_mut().for_each(|client| echo(client, b"now hot")));
        }
        let mut asked = clients.split_off(100);
        drop(clients);
        for client in &mut asked {
            client.write_all(&[QUIT]).expect("quit");
        }
        asked.iter_mut().for_each(expect_end);
        drop(asked);
        assert_eq!(server.until_empty().stats.stale, 0);
    }
    // Connections that never said a word, and one that cannot be written to, are shut down as well.
    let mut blocked = server.connect();
    blocked.write_all(&pattern(6 << 20, 2)).expect("write");
    server.until("short sends", |report| report.stats.short_sends > 0);
    blocked.write_all(&[QUIT]).expect("quit");
    let mut rest = Vec::new();
    match blocked.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(rest.len() < 6 << 20);
    drop(blocked);
    server.until_empty();
    assert_eq!(descriptors(), before);
}

fn many_close_at_once_with_few_descriptors(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 512);
    let mut clients: Vec<TcpStream> = (0..500).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    server.order(Order::Stall(Duration::from_millis(20)));
    clients.iter_mut().for_each(|client| client.write_all(&[QUIT]).expect("quit"));
    clients.iter_mut().for_each(expect_end);
    server.until_empty();
}

fn closing_works_without_a_descriptor_to_spare(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 200);
    let mut clients: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    let mut hoard = Vec::new();
    let error = loop {
        match std::fs::File::open("/dev/null") {
            Ok(file) => hoard.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    server.order(Order::Stall(Duration::from_millis(20)));
    clients.iter_mut().for_each(|client| client.write_all(&[QUIT]).expect("quit"));
    clients.iter_mut().for_each(expect_end);
    server.until_empty();
}

fn rapid_connections_leave_the_table_empty(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 64);
    let before = descriptors();
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let server = &server;
            scope.spawn(move || {
                for round in 0..1_500usize {
                    let mut client = server.connect();
                    let mine = pattern(64, thread * 10_000 + round);
                    match round % 4 {
                        // Gone at once; reset with bytes on their way; served; closed by the server.
                        0 => continue,
                        1 => {
                            client.write_all(&mine).expect("write");
                            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("option");
                        }
                        2 => echo(&mut client, &mine),
                        _ => {
                            echo(&mut client, &mine);
                            client.write_all(&[QUIT]).expect("quit");
                            expect_end(&mut client);
                        }
                    }
                }
            });
        }
    });
    let report = server.until("all connections", |report| report.stats.adopted + report.refused == 6_000);
    assert_eq!(report.refused, 0);
    assert_eq!(server.until_empty().stats.stale, 0);
    assert_eq!(descriptors(), before);
}

fn a_wake_from_another_thread_ends_the_wait(rings: u32) {
    let _alone = alone();
    let server = Server::start(rings, 512);
    for _ in 0..500 {
        server.report(); // the shard sleeps between two of them, and nothing but the waker wakes it
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| server.waker.wake()));
        }
    });
    server.report();
}

/// The shard sleeps between two messages, of which each ring has some alone; then all race with its going to sleep.
fn no_wake_up_is_lost(rings: u32) {
    const CLIENTS: usize = 12;
    let _alone = alone();
    let server = Server::start(rings, CLIENTS);
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.until("all connections", |report| report.open == CLIENTS);
    for round in 0..3_000 {
        // Neighbours in the same ring and, for the most part, another ring than before.
        echo(&mut clients[(round * 5 + round / CLIENTS) % CLIENTS], &pattern(20, round));
    }
    // Only the last ring, which keeps falling idle and becoming hot again.
    for round in 0..1_000 {
        echo(&mut clients[CLIENTS - 1 - round % 2], &pattern(20, round));
        if round % 50 == 0 {
            server.order(Order::Ticks(25));
        }
    }
    std::thread::scope(|scope| {
        for (thread, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || (0..1_000).for_each(|round| echo(client, &pattern(30, thread + round))));
        }
    });
    assert_eq!(server.report().stats.stale, 0);
}

/// One connection's two ends.
fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    (client, listener.accept().expect("accept").0.into())
}

/// A connection in the last place of the last ring; the others' peers are still there.
fn last_of(count: u32) -> (Rings, TcpStream, Slot) {
    static OTHERS: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());
    let mut rings = rings(count, 2 * count as usize);
    for _ in 1..rings.capacity() {
        let (client, socket) = pair();
        rings.adopt(socket).expect("room");
        OTHERS.lock().expect("no panic").push(client);
    }
    let (client, socket) = pair();
    let slot = rings.adopt(socket).expect("room");
    assert_eq!(slot + 1, rings.capacity());
    (rings, client, slot)
}

/// Turns a ring that nobody hosts until it reports something.
fn collect(ring: &mut Rings) -> Vec<Completion<<Rings as Plane>::Buffer>> {
    let mut completions = Vec::new();
    for _ in 0..10_000 {
        ring.submit();
        ring.collect(&mut completions);
        if !completions.is_empty() {
            return completions;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing happened");
}

fn a_full_table_gives_the_socket_back(rings: u32) {
    let _alone = alone();
    let mut ring = self::rings(rings, 2 * rings as usize);
    let capacity = ring.capacity();
    assert_eq!(capacity, 2 * rings);
    let ends: Vec<_> = (0..=capacity).map(|_| pair()).collect();
    let (mut clients, mut sockets): (Vec<TcpStream>, Vec<OwnedFd>) = ends.into_iter().unzip();
    let surplus = sockets.pop().expect("one more");
    // Slots are dense and in order, however many rings they are in.
    let slots: Vec<Slot> = sockets.into_iter().map(|socket| ring.adopt(socket).expect("room")).collect();
    assert_eq!(slots, (0..capacity).collect::<Vec<_>>());
    let mut surplus = ring.adopt(surplus).expect_err("no room");
    // It is still a working socket.
    TcpStream::from(surplus.try_clone().expect("dup")).write_all(b"busy").expect("write");
    expect(&mut clients[capacity as usize], b"busy");
    // A place that becomes free anywhere is found again.
    for slot in (0..capacity).rev() {
        ring.close(slot);
        assert!(matches!(collect(&mut ring)[..], [Completion::Released { slot: freed }] if freed == slot));
        expect_end(&mut clients[slot as usize]);
        assert_eq!(ring.adopt(surplus).expect("room again"), slot);
        let (client, socket) = pair();
        clients[slot as usize] = client;
        surplus = ring.adopt(socket).expect_err("full again");
    }
    // The lowest of two free places goes first.
    for slot in [capacity - 1, 0] {
        ring.close(slot);
        assert!(matches!(collect(&mut ring)[..], [Completion::Released { slot: freed }] if freed == slot));
    }
    assert_eq!(ring.adopt(surplus).expect("room"), 0);
}

#[test]
fn a_table_beyond_the_descriptor_limit_is_refused_by_name() {
    let slots = u32::try_from(throng::plane::os::nofile_limit() + 1).expect("a limit that fits");
    let error = Ring::new(&RingOptions { slots, ..SMALL }).err().expect("the kernel would refuse it").to_string();
    assert!(error.contains(&slots.to_string()) && error.contains("RLIMIT_NOFILE"), "{error}");
}

fn the_end_is_reported_once_and_the_other_direction_stays_open(rings: u32) {
    let _alone = alone();
    let (mut ring, mut client, slot) = last_of(rings);
    client.shutdown(std::net::Shutdown::Write).expect("shutdown");
    assert!(matches!(collect(&mut ring)[..], [Completion::Ended { cause: End::Eof, .. }]));
    let mut shortfalls = Vec::new();
    ring.send_batch([(slot, &b"good bye"[..])].into_iter(), &mut shortfalls);
    assert!(shortfalls.is_empty());
    expect(&mut client, b"good bye");
    ring.want_writable(slot);
    assert!(matches!(collect(&mut ring)[..], [Completion::Writable { .. }]));
    ring.close(slot);
    assert!(matches!(collect(&mut ring)[..], [Completion::Released { .. }]));
    expect_end(&mut client);
}

fn a_reset_is_an_error_of_the_connection(rings: u32) {
    let _alone = alone();
    let (mut ring, client, slot) = last_of(rings);
    ring.submit();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("option");
    drop(client);
    let ended = collect(&mut ring);
    assert!(matches!(ended[..], [Completion::Ended { cause: End::Failed(libc::ECONNRESET), .. }]), "{ended:?}");
    let mut shortfalls = Vec::new();
    ring.send_batch([(slot, &b"anyone?"[..])].into_iter(), &mut shortfalls);
    assert!(matches!(shortfalls[..], [throng::plane::Shortfall { index: 0, taken: Err(_) }]), "{shortfalls:?}");
}

/// Every byte of every send is accounted for, what arrives while a batch is handed over is kept for the next
/// `collect`, and a batch tells its own shortfalls from those of the one before.
fn batches_larger_than_the_queues_are_settled_exactly(rings: u32) {
    let _alone = alone();
    const CONNECTIONS: usize = 100;
    // More requests than the submission queue holds, more failures than the completion queue does. Several for one
    // slot are against the rule, but no send is ever parked, so they stay in order; otherwise this would take
    // thousands of sockets.
    const PASSES: usize = 400;
    let mut ring = self::rings(rings, CONNECTIONS);
    let (mut clients, slots): (Vec<TcpStream>, Vec<Slot>) = (0..CONNECTIONS)
        .map(|_| {
            let (client, socket) = pair();
            socket2::SockRef::from(&client).set_recv_buffer_size(128 << 10).expect("option"); // fixed from now on
            socket2::SockRef::from(&socket).set_send_buffer_size(64 << 10).expect("option");
            (client, ring.adopt(socket).expect("room"))
        })
        .unzip();
    ring.submit();
    let mut accepted = vec![0; CONNECTIONS];
    let mut send = |ring: &mut Rings, indices: &[usize], bytes: &[u8]| {
        let mut shortfalls = Vec::new();
        ring.send_batch(indices.iter().map(|&index| (slots[index], bytes)), &mut shortfalls);
        assert!(shortfalls.is_sorted_by_key(|shortfall| shortfall.index));
        indices.iter().for_each(|&index| accepted[index] += bytes.len());
        for shortfall in &shortfalls {
            let taken = shortfall.taken.expect("no connection is broken") as usize;
            assert!(taken < bytes.len());
            accepted[indices[shortfall.index as usize]] -= bytes.len() - taken;
        }
        shortfalls.len()
    };
    for client in &mut clients {
        client.write_all(b"meanwhile").expect("write");
    }
    // Nobody reads: the sockets fill up in the first batch and refuse nearly all of the others.
    let all: Vec<usize> = (0..PASSES).flat_map(|_| 0..CONNECTIONS).collect();
    let refused: Vec<usize> = (0..4).map(|_| send(&mut ring, &all, &pattern(8 << 10, 3))).collect();
    assert!(refused[0] < all.len() && refused.iter().any(|&refused| refused > 32_768), "{refused:?}");
    let mut heard = 0;
    while heard < CONNECTIONS * b"meanwhile".len() {
        for completion in collect(&mut ring) {
            let Completion::Received { mut buffer, .. } = completion else { panic!("{completion:?}") };
            assert_eq!(&buffer.bytes()[..9], b"meanwhile");
            heard += buffer.len();
            ring.give_back(buffer);
        }
    }
    slots.iter().for_each(|&slot| ring.close(slot));
    let mut released = 0;
    while released < CONNECTIONS {
        released += collect(&mut ring).len();
    }
    for (client, accepted) in clients.iter_mut().zip(accepted) {
        assert_eq!(client.read_to_end(&mut Vec::new()).expect("all, then the end"), accepted);
    }
}

fn a_panic_in_the_iterator_leaves_no_request_behind(rings: u32) {
    let _alone = alone();
    let (mut ring, mut client, slot) = last_of(rings);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bytes = b"before the panic".to_vec();
        let sends = (0..2).map(|index| {
            assert_eq!(index, 0, "on purpose");
            (slot, &bytes[..])
        });
        ring.send_batch(sends, &mut Vec::new());
    }));
    assert!(outcome.is_err());
    expect(&mut client, b"before the panic");
    ring.send_batch([(slot, &b" and after it"[..])].into_iter(), &mut Vec::new());
    expect(&mut client, b" and after it");
}
