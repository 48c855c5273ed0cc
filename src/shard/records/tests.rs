//! A shard on a simulated plane and rustls' own client: short reads, partial sends, stalls, at random and repeatable.
use super::*;
use crate::base::close::CloseCode;
use crate::plane::{ClientId, Faults, SimNet, SimPlane};
use crate::rooms::effects::Class;
use crate::shard::post::tests::{open_with, shard_in};
use crate::tls::tests::{World, client_of, shake_hands, understood, world_of, written};
use crate::wire::ws::{self, Opcode};
use rustls::ClientConnection;
use rustls::version::{TLS12, TLS13};
use std::io::Write;

struct Peer {
    slot: Slot,
    client: ClientId,
    tls: ClientConnection,
    plain: Vec<u8>,
}

/// A signed-in connection with TLS, in these rooms.
fn open(shard: &mut Shard<SimPlane>, net: &SimNet, world: &World, rooms: &[&str]) -> Peer {
    let mut tls = client_of(&world.client);
    let session = shake_hands(world, &mut tls, usize::MAX).session;
    let (slot, client) = open_with(shard, net, Some(session));
    let conn = &mut shard.core.conns[slot as usize];
    conn.expires_at_s = u32::MAX;
    let user = conn.user.clone().expect("signed in");
    let conn = shard.core.conn_ref(slot);
    rooms.iter().for_each(|room| shard.core.subscribe_here(conn, &user, &(*room).into()));
    Peer { slot, client, tls, plain: Vec::new() }
}

impl Peer {
    fn read(&mut self, net: &SimNet) {
        let bytes = net.client_read(self.client);
        self.plain.extend(understood(&mut self.tls, &bytes));
    }

    fn write(&mut self, net: &SimNet, frame: &[u8]) {
        self.tls.writer().write_all(frame).unwrap();
        assert!(net.client_write(self.client, &written(&mut self.tls)));
    }

    /// Payloads of the frames that came behind the response.
    fn frames(&self) -> Vec<Vec<u8>> {
        let mut rest =
            self.plain.strip_prefix(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").expect("the response first");
        let mut frames = Vec::new();
        while let Some(len) = ws::frame_len(rest).filter(|len| *len <= rest.len()) {
            frames.push(ws::payload(&rest[..len]).to_vec());
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "{} bytes of a cut frame behind {} whole ones", rest.len(), frames.len());
        frames
    }
}

fn frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    ws::append_frame(&mut frame, Opcode::Text, text.as_bytes());
    frame
}

/// A short client frame with a zero mask.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// Nothing is lost, doubled or torn, and each source's order holds, whatever the network does.
#[test]
fn private_bytes_and_two_rooms_come_whole_and_in_order() {
    for seed in 0..12 {
        let world = world_of(if seed % 2 == 0 { &TLS12 } else { &TLS13 });
        let net = SimNet::new(seed, Faults::NONE);
        let (mut shard, _sent) = shard_in(&net);
        // Whoever is slow here is not to be closed for it.
        let settings = &mut shard.core.settings;
        (settings.out_queue_bytes, settings.write_timeout, settings.ping_interval, settings.stale) = (0, 0, 0, 0);
        let mut peer = open(&mut shard, &net, &world, &["a", "b"]);
        shard.turn();
        net.set_faults(Faults::ROUGH);
        let sources = ["a", "b", "private"];
        let mut pings = 0;
        for number in 0..150usize {
            // From a byte to more than one round seals.
            let len = [0, 20, 130, 3_000, 17_000, 90_000][(number * 7 + seed as usize) % 6];
            let source = sources[(number / 2) % 3];
            let bytes = frame(&format!("{source} {number} {}", "x".repeat(len)));
            match source {
                "private" => shard.core.outbox_frame(peer.slot, &bytes),
                room => shard.core.publish_here(room, &bytes, Class::Durable, &[], 0),
            }
            if number % 40 == 17 {
                shard.core.conns[peer.slot as usize].flags |= flag::PING_DUE;
                shard.core.mark_dirty(peer.slot);
                pings += 1;
            }
            net.set_read_stalled(peer.client, number % 50 > 30);
            for _ in 0..number % 3 {
                net.advance(10);
                shard.turn();
                peer.read(&net);
            }
        }
        net.set_read_stalled(peer.client, false);
        for _ in 0..4_000 {
            net.advance(10);
            shard.turn();
            peer.read(&net);
        }
        let frames = peer.frames();
        let texts: Vec<&str> = frames.iter().map(|payload| std::str::from_utf8(payload).unwrap()).collect();
        // Those that wait for the same reader to read on are one.
        let seen = texts.iter().filter(|text| text.is_empty()).count();
        assert!((1..=pings).contains(&seen), "seed {seed}: {seen} pings of {pings}");
        for source in sources {
            let seen: Vec<usize> =
                texts.iter().filter_map(|text| text.strip_prefix(source)?.split(' ').nth(1)?.parse().ok()).collect();
            let sent: Vec<usize> = (0..150).filter(|number| sources[(number / 2) % 3] == source).collect();
            assert_eq!(seen, sent, "seed {seed}: {source}");
        }
        let (room, active) = (shard.core.fanout.find("a").unwrap(), shard.active_connections());
        assert!(shard.core.fanout.rooms[room as usize].behind.is_empty() && active == 0, "seed {seed}: at rest");
        assert_eq!(shard.core.fanout.pool.bytes_in_use(), 0, "seed {seed}: the logs are given back");
    }
}

/// Not in the next one, which may be a tick later.
#[test]
fn a_broadcast_leaves_in_its_turn() {
    let net = SimNet::new(1, Faults::NONE);
    let (mut shard, _sent) = shard_in(&net);
    let world = world_of(&TLS13);
    let mut peers: Vec<Peer> = (0..3).map(|_| open(&mut shard, &net, &world, &["a", "b"])).collect();
    shard.turn();
    for number in 0..3 {
        let sends = shard.core.counters.bytes_sent;
        shard.core.publish_here("a", &frame(&number.to_string()), Class::Live, &[], 0);
        shard.core.publish_here("b", &frame(&number.to_string()), Class::Live, &[], 0);
        shard.turn();
        // Header, content type and tag: both rooms' frames in one record.
        assert_eq!(shard.core.counters.bytes_sent - sends, 3 * (2 * 3 + 5 + 1 + 16));
        for peer in &mut peers {
            peer.read(&net);
            assert_eq!(peer.frames().len(), 2 * (number + 1));
        }
    }
    assert_eq!(shard.core.fanout.pool.bytes_in_use(), 0);
}

/// What a client sends in many records reaches the frame machine whole, and its answers come back.
#[test]
fn echoes_come_back_over_a_rough_network() {
    for seed in 0..12 {
        let net = SimNet::new(seed, Faults::ROUGH);
        let (mut shard, _sent) = shard_in(&net);
        let mut peer = open(&mut shard, &net, &world_of(if seed % 2 == 0 { &TLS12 } else { &TLS13 }), &[]);
        shard.core.conns[peer.slot as usize].stage = Stage::Echo;
        for number in 0..60u8 {
            peer.write(&net, &masked(1, format!("{number}{}", "y".repeat(usize::from(number))).as_bytes()));
            net.advance(10);
            shard.turn();
            peer.read(&net);
        }
        for _ in 0..1_000 {
            net.advance(10);
            shard.turn();
            peer.read(&net);
        }
        let frames = peer.frames();
        assert_eq!(frames.len(), 60, "seed {seed}");
        assert!(
            frames
                .iter()
                .zip(0..)
                .all(|(text, number): (&Vec<u8>, usize)| text.starts_with(number.to_string().as_bytes()))
        );
    }
}

/// The server's close: its frame, `close_notify`, the end of the stream; and nothing is left behind.
#[test]
fn a_close_ends_the_session_in_order() {
    let net = SimNet::new(1, Faults::NONE);
    let (mut shard, _sent) = shard_in(&net);
    let mut peer = open(&mut shard, &net, &world_of(&TLS13), &["a"]);
    shard.turn();
    shard.core.close(peer.slot, CloseCode::Banned);
    shard.turn();
    peer.read(&net);
    assert_eq!(peer.frames().last().unwrap()[..2], CloseCode::Banned.number().to_be_bytes());
    // The client answers the close frame; only then does the server end.
    peer.write(&net, &masked(8, &CloseCode::Banned.number().to_be_bytes()));
    shard.turn();
    shard.turn();
    let bytes = net.client_read(peer.client);
    peer.tls.read_tls(&mut &bytes[..]).unwrap();
    assert!(peer.tls.process_new_packets().unwrap().peer_has_closed(), "close_notify");
    net.client_close(peer.client);
    for _ in 0..20 {
        net.advance(10);
        shard.turn();
    }
    assert_eq!((shard.residue().tls_sessions, shard.core.open), (0, 0));
}

/// `close_notify` without a close frame: the peer is gone, as at the end of a stream.
#[test]
fn a_peer_that_ends_its_session_is_gone() {
    let net = SimNet::new(1, Faults::NONE);
    let (mut shard, _sent) = shard_in(&net);
    let mut peer = open(&mut shard, &net, &world_of(&TLS13), &["a"]);
    shard.turn();
    peer.tls.send_close_notify();
    assert!(net.client_write(peer.client, &written(&mut peer.tls)));
    shard.turn();
    shard.turn();
    assert!(!shard.core.conns[peer.slot as usize].is_live());
    assert!(shard.core.fanout.find("a").is_none(), "it has left its rooms");
    let bytes = net.client_read(peer.client);
    peer.tls.read_tls(&mut &bytes[..]).unwrap();
    assert!(peer.tls.process_new_packets().unwrap().peer_has_closed(), "it is answered");
}

/// TLS 1.2 cannot change its keys: a connection that has used them up ends.
#[test]
fn a_key_that_is_used_up_ends_the_connection() {
    let net = SimNet::new(1, Faults::NONE);
    let (mut shard, _sent) = shard_in(&net);
    let mut peer = open(&mut shard, &net, &world_of(&TLS12), &["a"]);
    shard.turn();
    shard.core.secured.get_mut(peer.slot).unwrap().set_sealed_max(4);
    for number in 0..10 {
        shard.core.publish_here("a", &frame(&number.to_string()), Class::Durable, &[], 0);
        shard.turn();
        peer.read(&net);
    }
    assert!(!shard.core.conns[peer.slot as usize].is_live());
    assert!(shard.core.counters.tls_record_faults == 1 && !peer.frames().is_empty());
}
