//! The simulation is a test tool; this is what it promises those who rely on it.
use super::*;
use crate::plane::{Completion, End, Plane, Received, SLACK_BYTES, Shortfall, Slot};

/// An echoing shard in small.
#[derive(Default)]
struct Echo {
    outboxes: Vec<Vec<u8>>,
    blocked: Vec<bool>,
    ended: Vec<(Slot, End)>,
}

impl Echo {
    fn turn(&mut self, plane: &mut SimPlane) {
        let (mut completions, mut shortfalls) = (Vec::new(), Vec::new());
        plane.collect(&mut completions);
        for completion in completions {
            match completion {
                Completion::Received { slot, mut buffer } => {
                    let len = buffer.len();
                    assert!(len > 0 && buffer.bytes().len() == len + SLACK_BYTES);
                    self.outbox(slot).extend_from_slice(&buffer.bytes()[..len]);
                    plane.give_back(buffer);
                }
                Completion::Ended { slot, cause } => {
                    self.ended.push((slot, cause));
                    self.outbox(slot).clear();
                    plane.close(slot);
                }
                Completion::Writable { slot } => {
                    assert!(std::mem::replace(&mut self.blocked[slot as usize], false), "not asked for");
                }
                Completion::Released { slot } => self.blocked[slot as usize] = false,
            }
        }
        let ready: Vec<Slot> = (0..self.outboxes.len() as Slot)
            .filter(|&slot| !self.blocked[slot as usize] && !self.outboxes[slot as usize].is_empty())
            .collect();
        plane.send_batch(ready.iter().map(|&slot| (slot, &self.outboxes[slot as usize][..])), &mut shortfalls);
        let mut shortfalls = shortfalls.into_iter().peekable();
        for (index, &slot) in (0..).zip(&ready) {
            match shortfalls.next_if(|shortfall| shortfall.index == index) {
                None => self.outbox(slot).clear(),
                Some(Shortfall { taken, .. }) => {
                    self.outbox(slot).drain(..taken.unwrap_or(0) as usize);
                    self.blocked[slot as usize] = true;
                    plane.want_writable(slot);
                }
            }
        }
        assert_eq!(shortfalls.next(), None);
        plane.submit();
    }

    fn outbox(&mut self, slot: Slot) -> &mut Vec<u8> {
        let needed = (slot as usize + 1).max(self.outboxes.len());
        self.outboxes.resize_with(needed, Vec::new);
        self.blocked.resize(needed, false);
        &mut self.outboxes[slot as usize]
    }
}

const CLIENTS: usize = 20;

/// Clients write random amounts at random times, some with spells of not reading; then all comes to rest. Returns
/// the trace.
fn conversation(seed: u64, faults: Faults) -> u64 {
    let net = SimNet::new(seed, faults);
    let mut rng = SimRng::new(seed ^ 1);
    let mut plane = net.plane(SimOptions { socket_bytes: 500, ..SimOptions::default() });
    let clients: Vec<ClientId> = (0..CLIENTS)
        .map(|_| {
            let (socket, client) = net.connect();
            plane.adopt(socket).expect("room");
            client
        })
        .collect();
    plane.submit();
    let mut echo = Echo::default();
    let mut written = vec![Vec::new(); CLIENTS];
    let mut read = vec![Vec::new(); CLIENTS];
    for turn in 0..600 {
        for (index, &client) in clients.iter().enumerate() {
            if turn < 200 && rng.chance(0.3) {
                let mut bytes = vec![0; rng.below(700)];
                rng.fill(&mut bytes);
                assert!(net.client_write(client, &bytes));
                written[index].extend(bytes);
            }
            if rng.chance(0.1) {
                net.set_read_stalled(client, turn < 400 && rng.chance(0.5));
            }
            read[index].extend(net.client_read(client));
        }
        if turn == 400 {
            clients.iter().for_each(|&client| net.set_read_stalled(client, false));
            net.set_faults(Faults::NONE);
        }
        echo.turn(&mut plane);
        net.advance(5);
    }
    clients.iter().zip(&mut read).for_each(|(&client, read)| read.extend(net.client_read(client)));
    assert!(read == written, "seed {seed}: a byte was lost or out of order");
    let stats = plane.stats();
    if faults != Faults::NONE {
        assert!(stats.out_of_buffers > 0 && stats.short_sends > 0, "{stats:?}");
    }
    clients.iter().for_each(|&client| net.client_close(client));
    (0..3).for_each(|_| echo.turn(&mut plane));
    assert_eq!((plane.in_use(), echo.ended.len()), (0, CLIENTS));
    net.trace_hash()
}

#[test]
fn nothing_is_lost_or_reordered_under_any_fault() {
    for seed in 0..20 {
        conversation(seed, Faults::ROUGH);
    }
    conversation(0, Faults::NONE);
    let single = [
        Faults { short_read: 1.0, ..Faults::NONE },
        Faults { partial_send: 0.9, ..Faults::NONE },
        Faults { no_buffers: 0.9, ..Faults::NONE },
        Faults { late_completion: 0.9, ..Faults::NONE },
        Faults { delay: 1.0, delay_ms_max: 300, ..Faults::NONE },
    ];
    for faults in single {
        lossless(&SimNet::new(1, faults));
    }
}

/// One connection, whatever the faults.
fn lossless(net: &SimNet) {
    let mut plane = net.plane(SimOptions { buffers: 2, socket_bytes: 100, ..SimOptions::default() });
    let (socket, client) = net.connect();
    plane.adopt(socket).expect("room");
    plane.submit();
    let bytes: Vec<u8> = (0..5_000).map(|i| (i % 251) as u8).collect();
    net.client_write(client, &bytes);
    let (mut echo, mut read) = (Echo::default(), Vec::new());
    for _ in 0..100_000 {
        echo.turn(&mut plane);
        net.advance(1);
        read.extend(net.client_read(client));
        if read.len() == bytes.len() {
            break;
        }
    }
    assert!(read == bytes);
}

#[test]
fn the_same_seed_goes_the_same_way() {
    assert_eq!(conversation(7, Faults::ROUGH), conversation(7, Faults::ROUGH));
    assert_ne!(conversation(7, Faults::ROUGH), conversation(8, Faults::ROUGH));
}

#[test]
fn random_resets_end_every_connection_once_and_free_its_slot() {
    for seed in 0..20 {
        let net = SimNet::new(seed, Faults { reset: 0.02, ..Faults::ROUGH });
        let mut plane = net.plane(SimOptions { slots: 8, ..SimOptions::default() });
        let (mut echo, mut rng) = (Echo::default(), SimRng::new(seed));
        let (mut connected, mut clients) = (0, Vec::new());
        for _ in 0..2_000 {
            if rng.chance(0.2) {
                let (socket, client) = net.connect();
                if let Err(refused) = plane.adopt(socket) {
                    drop(refused);
                    assert_eq!(net.client_ended(client), Some(End::Eof));
                } else {
                    connected += 1;
                    clients.push(client);
                }
            }
            for &client in &clients {
                if rng.chance(0.05) {
                    match rng.below(10) {
                        0 => net.client_close(client),
                        1 => net.client_reset(client),
                        _ => drop(net.client_write(client, b"some bytes")),
                    }
                }
            }
            clients.retain(|&client| net.client_ended(client).is_none());
            echo.turn(&mut plane);
            net.advance(5);
        }
        clients.iter().for_each(|&client| net.client_close(client));
        net.set_faults(Faults::NONE);
        (0..20).for_each(|_| {
            echo.turn(&mut plane);
            net.advance(50);
        });
        let stats = plane.stats();
        assert_eq!((plane.in_use(), stats.adopted, stats.released), (0, connected, connected));
        assert_eq!(echo.ended.len() as u64, connected);
        assert!(connected > 50, "{connected}");
    }
}

fn one_connection() -> (SimNet, SimPlane, Slot, ClientId) {
    let net = SimNet::new(1, Faults::NONE);
    let mut plane = net.plane(SimOptions { slots: 1, socket_bytes: 10, ..SimOptions::default() });
    let (socket, client) = net.connect();
    let slot = plane.adopt(socket).expect("room");
    plane.submit();
    (net, plane, slot, client)
}

fn collect(plane: &mut SimPlane) -> Vec<Completion<SimBuffer>> {
    let mut completions = Vec::new();
    plane.collect(&mut completions);
    completions
}

#[test]
fn a_stalled_reader_fills_its_socket() {
    let (net, mut plane, slot, client) = one_connection();
    net.set_read_stalled(client, true);
    let mut shortfalls = Vec::new();
    plane.send_batch([(slot, &b"twelve bytes"[..])].into_iter(), &mut shortfalls);
    assert_eq!(shortfalls, [Shortfall { index: 0, taken: Ok(10) }]);
    plane.want_writable(slot);
    plane.submit();
    assert!(collect(&mut plane).is_empty() && net.client_read(client).is_empty());
    net.set_read_stalled(client, false);
    assert!((0..50).any(|_| matches!(collect(&mut plane)[..], [Completion::Writable { .. }])));
    assert_eq!(net.client_read(client), b"twelve byt");
}

#[test]
fn nothing_happens_before_submit() {
    let net = SimNet::new(1, Faults::NONE);
    let mut plane = net.plane(SimOptions::default());
    let (socket, client) = net.connect();
    let slot = plane.adopt(socket).expect("room");
    net.client_write(client, b"hello");
    assert!(collect(&mut plane).is_empty());
    plane.submit();
    let mut received = collect(&mut plane);
    let Some(Completion::Received { buffer, .. }) = received.pop() else { panic!("nothing received") };
    plane.give_back(buffer);
    plane.close(slot);
    assert!(collect(&mut plane).is_empty() && net.client_ended(client).is_none());
    plane.submit();
    assert_eq!(net.client_ended(client), Some(End::Eof));
    assert!(matches!(collect(&mut plane)[..], [Completion::Released { .. }]));
}

#[test]
fn a_closed_client_answers_with_a_reset() {
    let (net, mut plane, slot, client) = one_connection();
    net.client_close(client);
    assert!(matches!(collect(&mut plane)[..], [Completion::Ended { cause: End::Eof, .. }]));
    let mut shortfalls = Vec::new();
    plane.send_batch([(slot, &b"a"[..])].into_iter(), &mut shortfalls);
    assert_eq!(shortfalls, []);
    plane.send_batch([(slot, &b"b"[..])].into_iter(), &mut shortfalls);
    assert_eq!(shortfalls, [Shortfall { index: 0, taken: Err(libc::EPIPE) }]);
    assert!(collect(&mut plane).is_empty(), "the end comes once");
}

#[test]
fn a_dropped_plane_closes_its_connections() {
    let (net, plane, _, client) = one_connection();
    drop(plane);
    assert_eq!(net.client_ended(client), Some(End::Eof));
}

#[test]
fn a_full_plane_gives_the_socket_back() {
    let (net, mut plane, slot, _) = one_connection();
    let (socket, _) = net.connect();
    let socket = plane.adopt(socket).expect_err("full");
    plane.close(slot);
    plane.submit();
    assert!(matches!(collect(&mut plane)[..], [Completion::Released { .. }]));
    assert_eq!(plane.adopt(socket).expect("room again"), slot);
}

#[test]
#[should_panic(expected = "send to slot 0, which is Closing")]
fn a_send_after_close_is_caught() {
    let (_net, mut plane, slot, _) = one_connection();
    plane.close(slot);
    plane.send_batch([(slot, &b"late"[..])].into_iter(), &mut Vec::new());
}

#[test]
#[should_panic(expected = "want_writable of slot 0, which is Free")]
fn use_of_a_released_slot_is_caught() {
    let (_net, mut plane, slot, _) = one_connection();
    plane.close(slot);
    plane.submit();
    collect(&mut plane);
    plane.want_writable(slot);
}

#[test]
#[should_panic(expected = "close of slot 0, which is Closing")]
fn a_second_close_is_caught() {
    let (_net, mut plane, slot, _) = one_connection();
    plane.close(slot);
    plane.close(slot);
}

#[test]
#[should_panic(expected = "two sends to slot 0 in one batch")]
fn two_sends_in_one_batch_are_caught() {
    let (_net, mut plane, slot, _) = one_connection();
    plane.send_batch([(slot, &b"a"[..]), (slot, &b"b"[..])].into_iter(), &mut Vec::new());
}

#[test]
#[should_panic(expected = "1 buffers of the last turn were not given back")]
fn a_kept_buffer_is_caught() {
    let (net, mut plane, _, client) = one_connection();
    net.client_write(client, b"hello");
    let _kept = collect(&mut plane);
    collect(&mut plane);
}
