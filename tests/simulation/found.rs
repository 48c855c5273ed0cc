//! Faults that the simulation has found, each by itself: few clients, exact steps.
use super::frames::{self, Frame, PING, Reader, TEXT};
use super::server::{Handshake, Server, identity};
use super::shape::Shape;
use serde_json::{Value, json};
use throng::base::hash::home_shard;
use throng::config::Config;
use throng::plane::{ClientId, Faults, SimNet, SimRng};

/// A quiet world: nothing goes wrong unless a test lets it.
struct Lab {
    net: SimNet,
    server: Server,
    shape: Shape,
    rng: SimRng,
    asked: u64,
}

struct Client {
    id: ClientId,
    reader: Reader,
    /// Frames that were read, oldest first.
    heard: Vec<Value>,
    close: Option<u16>,
}

impl Lab {
    /// The seed decides in which order a plane tells what happened on its connections.
    fn new(seed: u64, shards: u16, adjust: impl FnOnce(&mut Shape)) -> Lab {
        let mut shape = Shape::of(1);
        shape.config = Config::default();
        (shape.shards, shape.faults, shape.mailbox, shape.offers) = (shards, Faults::NONE, 64, None);
        shape.plane.buffer_bytes = 2_048;
        adjust(&mut shape);
        let net = SimNet::new(seed, Faults::NONE);
        let server = Server::new(1, &shape, &net, 0.0);
        Lab { net, server, shape, rng: SimRng::new(1), asked: 0 }
    }

    /// A signed-in client on that shard.
    fn client(&mut self, user: &str, shard: usize) -> Client {
        let (socket, id) = self.net.connect();
        let identity = Some(identity(user, self.net.now().unix_ms + 1_000_000));
        let handshake = Handshake { identity, received: Vec::new(), address: 1, is_echo: false };
        assert!(self.server.open(shard, socket, handshake, &self.net));
        let mut client = Client { id, reader: Reader::default(), heard: Vec::new(), close: None };
        self.settle();
        self.read(&mut client);
        client.heard.clear();
        client
    }

    fn write(&mut self, client: &Client, kind: &str, data: Value) {
        self.asked += 1;
        let envelope = json!({ "id": format!("r{}", self.asked), "type": kind, "data": data });
        let bytes = frames::frame(&mut self.rng, TEXT, true, envelope.to_string().as_bytes());
        assert!(self.net.client_write(client.id, &bytes));
    }

    fn turn(&mut self) {
        self.server.shards.iter_mut().for_each(|shard| _ = shard.turn());
    }

    fn store(&mut self) {
        let mut healthy = self.shape.store;
        (healthy.works, healthy.fails, healthy.is_full) = (1.0, 0.0, 0.0);
        self.server.store.work(&healthy, self.net.now().unix_ms);
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.turn();
            self.store();
        }
    }

    fn read(&mut self, client: &mut Client) {
        client.reader.take(&self.net.client_read(client.id));
        while let Some(frame) = client.reader.next().expect("well-formed frames") {
            match frame {
                Frame::Text(text) => client.heard.push(serde_json::from_slice(&text).expect("JSON")),
                Frame::Close(code) => client.close = code,
                Frame::Ping(_) | Frame::Pong(_) => {}
            }
        }
    }

    /// Joined, and what there was to hear is forgotten.
    fn joined(&mut self, user: &str, shard: usize, room: &str) -> Client {
        let mut client = self.client(user, shard);
        self.write(&client, "join_room", json!({ "roomId": room }));
        self.settle();
        self.read(&mut client);
        client.heard.clear();
        client
    }

    fn broadcast(&mut self, client: &Client, room: &str, bytes: usize) {
        self.write(client, "broadcast", json!({ "roomId": room, "event": "e", "payload": "x".repeat(bytes) }));
    }
}

fn kinds(client: &Client) -> Vec<&str> {
    client.heard.iter().map(|message| message["type"].as_str().unwrap_or_default()).collect()
}

/// It ended the shard's thread: the message so far was forgotten, and with it the beginning of a code point.
#[test]
fn a_ping_inside_a_message_of_a_closing_connection_is_harmless() {
    let mut lab = Lab::new(1, 1, |_| {});
    let mut client = lab.client("anna", 0);
    for _ in 0..=throng::limits::INVALID_MESSAGES_MAX {
        let bytes = frames::frame(&mut lab.rng, TEXT, true, b"{");
        lab.net.client_write(client.id, &bytes);
    }
    // Half of an "é", a ping, the other half, the end.
    let pieces = [(TEXT, false, &b"\xc3"[..]), (PING, true, b""), (0, false, b"\xa9"), (0, true, b"")];
    for (opcode, is_final, payload) in pieces {
        let bytes = frames::frame(&mut lab.rng, opcode, is_final, payload);
        lab.net.client_write(client.id, &bytes);
    }
    lab.settle();
    lab.read(&mut client);
    assert_eq!(client.close, Some(4007));
}

/// Two readers, behind in a room whose frames are as long as a socket is large: each was sent the first, two more wait.
fn two_readers_behind(seed: u64) -> (Lab, Client, Client) {
    const SOCKET_BYTES: usize = 1_024;
    let mut lab = Lab::new(seed, 1, |shape| {
        shape.plane.socket_bytes = SOCKET_BYTES;
        shape.config.conn.out_queue_bytes = 4_096;
        shape.config.limits.commands = 0;
    });
    let sender = lab.joined("sender", 0, "lobby");
    let mut one = lab.joined("one", 0, "lobby");
    let mut other = lab.joined("other", 0, "lobby");
    lab.read(&mut one);
    lab.broadcast(&sender, "lobby", 500);
    lab.settle();
    let frame_bytes = lab.net.client_read(one.id).len();
    lab.read(&mut other);
    for client in [&mut one, &mut other] {
        client.heard.clear();
        lab.net.set_read_stalled(client.id, true);
    }
    for _ in 0..3 {
        lab.broadcast(&sender, "lobby", 500 + SOCKET_BYTES - frame_bytes);
        lab.turn();
    }
    assert_eq!(lab.server.reports()[0].queue_bytes as usize, 4 * SOCKET_BYTES);
    (lab, one, other)
}

/// It ended the shard's thread: the log was let go while a send of it was planned.
#[test]
fn closing_a_slow_reader_spares_what_others_are_being_sent() {
    for seed in 0..20 {
        let (mut lab, mut late, stuck) = two_readers_behind(seed);
        // In one turn `late` can be sent to again, and the errors for `stuck` become too much.
        lab.net.set_read_stalled(late.id, false);
        lab.read(&mut late);
        (0..60).for_each(|_| lab.write(&stuck, "no_such_type", json!({})));
        for _ in 0..20 {
            lab.turn();
            lab.read(&mut late);
        }
        assert_eq!(kinds(&late)[..3], ["broadcast"; 3], "seed {seed}");
    }
}

/// It ended the shard's thread: so did a broken connection, in the batch in which another's send fell short.
#[test]
fn a_broken_reader_spares_what_others_are_still_to_be_sent() {
    for seed in 0..200 {
        let (mut lab, mut late, broken) = two_readers_behind(seed);
        lab.net.set_faults(Faults { late_completion: 0.5, ..Faults::NONE });
        lab.net.client_reset(broken.id);
        lab.net.set_read_stalled(late.id, false);
        for _ in 0..100 {
            lab.turn();
            lab.read(&mut late);
        }
        assert_eq!(kinds(&late)[..3], ["broadcast"; 3], "seed {seed}");
    }
}

/// An excluded sender that lagged jumps over its own event to the head of the log, which then was kept for nobody.
#[test]
fn a_lagging_sender_lets_the_log_go() {
    for seed in 0..20 {
        let mut lab = Lab::new(seed, 1, |shape| shape.plane.socket_bytes = 1_024);
        let mut anna = lab.joined("anna", 0, "lobby");
        let berta = lab.joined("berta", 0, "lobby");
        lab.read(&mut anna);
        anna.heard.clear();
        lab.net.set_read_stalled(anna.id, true);
        lab.broadcast(&berta, "lobby", 700);
        lab.turn();
        // If this one is first, it is cut by the full socket and her own stands behind it.
        lab.broadcast(&berta, "lobby", 700);
        lab.broadcast(&anna, "lobby", 10);
        lab.turn();
        lab.net.set_read_stalled(anna.id, false);
        for _ in 0..20 {
            lab.turn();
            lab.read(&mut anna);
        }
        assert_eq!(kinds(&anna), ["broadcast", "broadcast"]);
        assert_eq!(lab.server.reports()[0].log_bytes, 0, "seed {seed}");
    }
}

/// The mailbox between the shards takes the event and the ack, and the end of the subscription only in the next turn.
#[test]
fn nothing_of_a_room_comes_behind_the_ack_of_leaving_it() {
    let mut lab = Lab::new(1, 2, |shape| shape.mailbox = 2);
    let home = usize::from(home_shard("lobby", 2));
    let near = lab.joined("near", home, "lobby");
    let mut far = lab.joined("far", 1 - home, "lobby");
    lab.write(&far, "leave_room", json!({ "roomId": "lobby" }));
    lab.server.shards[1 - home].turn();
    lab.broadcast(&near, "lobby", 10);
    for _ in 0..5 {
        lab.server.shards[home].turn();
        lab.server.shards[1 - home].turn();
    }
    lab.read(&mut far);
    assert!(matches!(kinds(&far)[..], ["ack"] | ["broadcast", "ack"]), "{:?}", kinds(&far));
}

/// Whoever waited behind a join that reads from disk was overtaken by what they sent later (R-ENV-4).
#[test]
fn a_join_that_waits_for_the_disk_holds_back_nobody_else() {
    let mut lab = Lab::new(1, 1, |shape| {
        shape.config.rooms.recent = 1;
        shape.config.presence.leave_grace_ms = 0;
        shape.config.limits.messages = 0;
    });
    let mut anna = lab.joined("anna", 0, "lobby");
    (0..5).for_each(|n| lab.write(&anna, "chat_message", json!({ "roomId": "lobby", "message": format!("m{n}") })));
    lab.settle();
    lab.read(&mut anna);
    let epoch = anna.heard[0]["data"]["result"]["epoch"].clone();
    lab.write(&anna, "leave_room", json!({ "roomId": "lobby" }));
    lab.settle();
    for _ in 0..100 {
        lab.net.advance(100);
        lab.turn();
    }
    // The room is loaded for both; anna's join then reads the events that she missed, and berta's commands wait behind it.
    let mut berta = lab.client("berta", 0);
    lab.write(&anna, "join_room", json!({ "roomId": "lobby", "recover": { "epoch": epoch, "offset": 1 } }));
    lab.write(&anna, "get_history", json!({ "roomId": "lobby" }));
    lab.turn();
    lab.write(&berta, "join_room", json!({ "roomId": "lobby" }));
    let first = lab.asked;
    lab.turn();
    while lab.server.shards[0].residue().parked_commands == 3 {
        lab.store();
        lab.turn();
    }
    lab.write(&berta, "leave_room", json!({ "roomId": "lobby" }));
    lab.settle();
    lab.read(&mut berta);
    let answers: Vec<_> = berta.heard.iter().filter_map(|message| message["data"]["requestId"].as_str()).collect();
    assert_eq!(answers, [format!("r{first}"), format!("r{}", first + 1)]);
    assert!(berta.heard.iter().all(|message| message["type"] != "error"), "{:?}", berta.heard);
}

/// One for each echo connection that ever was.
#[test]
fn an_echo_connection_leaves_no_count_behind() {
    let mut lab = Lab::new(1, 1, |_| {});
    let (socket, id) = lab.net.connect();
    let handshake = Handshake { identity: None, received: Vec::new(), address: 1, is_echo: true };
    assert!(lab.server.open(0, socket, handshake, &lab.net));
    lab.net.client_close(id);
    lab.settle();
    assert_eq!(lab.server.shards[0].plane().in_use(), 0);
    let mut limits = lab.server.config.limits.clone();
    limits.unauthenticated = 1;
    assert!(lab.server.totals.admit(&limits, 1).is_ok());
}

/// A partial message needs a side record; once it is complete nothing else came by to take the record away.
#[test]
fn a_connection_that_has_become_idle_keeps_no_side_record() {
    let mut lab = Lab::new(1, 1, |_| {});
    let client = lab.joined("anna", 0, "lobby");
    let frame = frames::frame(&mut lab.rng, TEXT, true, br#"{"id":"x","type":"activity","data":{}}"#);
    for half in frame.chunks(20) {
        lab.net.client_write(client.id, half);
        lab.turn();
    }
    assert_eq!(lab.server.shards[0].active_connections(), 1);
    lab.net.advance(lab.shape.config.ws.ping_interval_ms + 100);
    lab.settle();
    assert_eq!(lab.server.shards[0].active_connections(), 0);
}

/// A ping that fell due in the tick in which the connection was closed went out behind the close frame.
#[test]
fn nothing_follows_a_close_frame() {
    let mut lab = Lab::new(1, 1, |_| {});
    let client = lab.joined("anna", 0, "lobby");
    lab.net.advance(lab.shape.config.ws.ping_interval_ms - 500);
    lab.server.drain();
    lab.turn();
    (0..10).for_each(|_| {
        lab.net.advance(100);
        lab.turn();
    });
    let bytes = lab.net.client_read(client.id);
    let close = [&[0x88, 16, 16, 104][..], b"Server closing"].concat();
    assert!(bytes.ends_with(&close), "{}", bytes.escape_ascii());
}

/// The end of a subscription that was too many overtook a later join of the same room, and the session was in and not in.
#[test]
fn a_session_with_too_many_rooms_knows_which_it_is_in() {
    for delay in 0..10 {
        leave_the_other_room_after(delay);
    }
}

/// Mail between the shards comes one piece at a time: between any two of them the session leaves its other room.
fn leave_the_other_room_after(mut delay: u32) {
    let mut lab = Lab::new(1, 2, |shape| {
        shape.mailbox = 1;
        shape.config.limits.rooms_per_session = 1;
    });
    let names: Vec<String> = (0..20).map(|n| format!("room-{n}")).collect();
    let of = |shard| names.iter().find(|name| home_shard(name, 2) == shard).expect("names are spread").as_str();
    let (near, far) = (of(0), of(1));
    let mut client = lab.client("anna", 0);
    for room in [far, far, near] {
        lab.write(&client, "join_room", json!({ "roomId": room }));
    }
    for _ in 0..40 {
        lab.turn();
        lab.store();
        lab.read(&mut client);
        let is_in = |room: &str| client.heard.iter().any(|message| message["data"]["roomInfo"]["id"] == *room);
        if is_in(near) && is_in(far) {
            if delay == 0 {
                lab.write(&client, "leave_room", json!({ "roomId": near }));
            }
            delay = delay.wrapping_sub(1);
        }
    }
    let of_far = |message: &&Value| message["data"]["roomId"] == *far;
    let is_in = client.heard.iter().rfind(of_far).expect("a snapshot")["type"] == "room_state";
    client.heard.clear();
    lab.write(&client, "broadcast", json!({ "roomId": far, "event": "e", "includeSelf": true }));
    lab.settle();
    lab.read(&mut client);
    assert_eq!(kinds(&client), [if is_in { "broadcast" } else { "error" }]);
}
