//! Event streams that break: the last id brings back what was missed in every room, each event once and in order (R-SSE-1, R-REC-1),
//! after a cut in the middle of anything, after kill -9, after reading too slowly (R-CONN-5), after a drain (R-CONN-6).
#[path = "support/event_stream.rs"]
mod event_stream;
#[path = "support/stream.rs"]
mod stream;
#[path = "reliability/support.rs"]
mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use stream::{Stream, request};
use support::{Client, PATIENCE, Server, Settings, connect_from, connect_narrow, eventually, random, source_address};

fn tcp(server: &Server) -> TcpStream {
    let socket = connect_from(source_address(1), server.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A visitor of some rooms that keeps nothing over a break but its last id.
struct Visitor {
    name: String,
    rooms: Vec<String>,
    last_id: String,
    /// Texts of each room, as dispatched.
    heard: BTreeMap<String, Vec<String>>,
    offsets: BTreeMap<String, u64>,
    visits: usize,
}

impl Visitor {
    fn new(name: String, rooms: &[&str]) -> Visitor {
        let rooms: Vec<String> = rooms.iter().map(|room| room.to_string()).collect();
        let heard = rooms.iter().map(|room| (room.clone(), Vec::new())).collect();
        Visitor { name, rooms, last_id: String::new(), heard, offsets: BTreeMap::new(), visits: 0 }
    }

    /// Connects, and reads `reads` times up to `bytes` bytes; what the last read has cut in the middle is lost.
    fn visit(&mut self, server: &Server, reads: usize, bytes: usize) {
        let token = server.token(&self.name);
        let mut stream = Stream::open(tcp(server), &token, &self.rooms.join(","), &self.last_id);
        self.visits += 1;
        assert!(self.visits < 5_000, "{} does not get on: {:?}", self.name, self.offsets);
        for _ in 0..reads {
            if !stream.read_some(bytes) {
                break;
            }
            for event in stream.taken() {
                self.last_id.clone_from(&event.id);
                self.hear(&event.kind, &serde_json::from_str(&event.data).unwrap());
            }
        }
    }

    fn hear(&mut self, kind: &str, data: &Value) {
        let room = || data["roomId"].as_str().unwrap().to_owned();
        match kind {
            "room_state" => {
                // Nothing was sent before the first visit had all of its snapshots, so every later one can tell all that was missed.
                let was_here = self.offsets.contains_key(&room());
                assert_eq!(
                    data["recovered"],
                    if was_here { json!(true) } else { Value::Null },
                    "{}: {data}",
                    self.name
                );
                assert_eq!(data["events"].as_array().map_or(0, Vec::len), 0, "what was missed comes as events");
                self.offsets.entry(room()).or_insert_with(|| data["offset"].as_u64().unwrap());
            }
            "chat_message" => {
                let offset = data["offset"].as_u64().unwrap();
                let last = self.offsets.insert(room(), offset).expect("a snapshot comes first");
                assert_eq!(offset, last + 1, "{} in {}: lost or doubled", self.name, room());
                self.heard.get_mut(&room()).unwrap().push(data["message"].as_str().unwrap().to_owned());
            }
            "error" => panic!("{}: {data}", self.name),
            _ => {}
        }
    }
}

/// Five rooms on three shards, traffic in all of them, and visitors that are cut again and again: of one room, of three, of all.
#[test]
fn every_room_goes_on_exactly_where_the_last_id_says() {
    const ROOMS: [&str; 5] = ["one", "two", "three", "four", "five"];
    const PER_ROOM: usize = 150;
    // A comment comes every 100 ms, so that no read waits long for the next event.
    let settings = Settings::new(3, &["recovery.limit=10000", "ws.ping_interval_ms=50"]);
    let mut server = Server::start_with(&settings);
    let mut visitors: Vec<Visitor> = [&ROOMS[..1], &ROOMS[1..2], &ROOMS[1..4], &ROOMS[2..], &ROOMS, &ROOMS]
        .iter()
        .enumerate()
        .map(|(number, rooms)| Visitor::new(format!("visitor-{number}"), rooms))
        .collect();
    for visitor in &mut visitors {
        while visitor.offsets.len() < visitor.rooms.len() {
            visitor.visit(&server, 4 + random(12) as usize, 1 + random(2_000) as usize);
        }
        visitor.visits = 0;
    }
    // Half of it, kill -9 and a restart, the other half.
    for half in 0..2 {
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (server, done) = (&server, &done);
            for room in ROOMS {
                scope.spawn(move || {
                    let mut sender = Client::connect(server, &format!("sender-{room}-{half}"));
                    sender.join(room, None);
                    for number in half * PER_ROOM / 2..(half + 1) * PER_ROOM / 2 {
                        let text = format!("{room} {number} {}", "x".repeat(random(400) as usize));
                        sender.request("chat_message", json!({"roomId": room, "message": text}));
                    }
                    done.fetch_add(1, Relaxed);
                });
            }
            for visitor in &mut visitors {
                scope.spawn(move || {
                    let count = (half + 1) * PER_ROOM / 2;
                    // After the restart at least one visit of everybody's brings what was missed.
                    while visitor.heard.values().any(|heard| heard.len() < count) {
                        let is_last = done.load(Relaxed) == ROOMS.len();
                        let reads = 1 + random(if is_last { 60 } else { 12 }) as usize;
                        visitor.visit(server, reads, 1 + random(3_000) as usize);
                    }
                });
            }
        });
        if half == 0 {
            let folder = server.folder();
            server.kill();
            server = Server::start_in(folder, &settings);
        }
    }
    for visitor in &visitors {
        assert!(visitor.visits > 4, "{} was cut {} times only", visitor.name, visitor.visits);
        for (room, heard) in &visitor.heard {
            let numbers: Vec<usize> =
                heard.iter().map(|text| text.split(' ').nth(1).unwrap().parse().unwrap()).collect();
            assert_eq!(numbers, (0..PER_ROOM).collect::<Vec<_>>(), "{} in {room}", visitor.name);
        }
    }
    assert_eq!(server.metric(r#"throng_recoveries_total{recovered="false"}"#), 0);
}

/// R-REC-1: never true with a gap, also where the id says nothing, another room's place, or too old a one.
#[test]
fn what_cannot_be_recovered_is_said_to_be_not() {
    let server = Server::start_with(&Settings::new(2, &["recovery.limit=3"]));
    let mut sender = Client::connect(&server, "sender");
    ["a", "b"].iter().for_each(|room| _ = sender.join(room, None));
    let token = server.token("anna");
    let state = |rooms: &str, id: &str, wanted: &str| {
        let mut stream = Stream::open(tcp(&server), &token, rooms, id);
        loop {
            let (data, id) = stream.event("room_state");
            if data["roomId"] == wanted {
                return (data, id);
            }
        }
    };
    let (_, start) = state("a", "", "a");
    let say =
        |client: &mut Client, room: &str| _ = client.request("chat_message", json!({"roomId": room, "message": "x"}));
    (0..3).for_each(|_| say(&mut sender, "a"));
    let (data, id) = state("a", &start, "a");
    assert_eq!((&data["recovered"], &*id), (&json!(true), &*start), "three missed are brought");
    say(&mut sender, "a");
    let (data, id) = state("a", &start, "a");
    assert_eq!((&data["recovered"], data["recentMessages"].as_array().unwrap().len()), (&json!(false), 4));
    assert_eq!(id, start.replace(":0", ":4"));
    for id in ["nonsense", "EPOCH:1", &start.replace(":0", ":99")] {
        assert_eq!(state("a", id, "a").0["recovered"], false, "{id}");
    }
    // Where no header can be set, the query has it; a header overrules it.
    let ask = |query: &str, headers: &[(&str, &str)]| {
        let bearer = format!("Bearer {token}");
        let mut socket = tcp(&server);
        socket.write_all(request(query, &[&[("Authorization", &*bearer)], headers].concat()).as_bytes()).unwrap();
        Stream::on(socket).event("room_state").0["recovered"].clone()
    };
    let query = format!("rooms=a&lastEventId={}", id.replace(':', "%3A"));
    assert_eq!(ask(&query, &[]), true);
    assert_eq!(ask(&query, &[("Last-Event-ID", "")]), true);
    assert_eq!(ask(&query, &[("Last-Event-ID", "E:1")]), false);
    // The place in one room is none in another, nor in another order of rooms.
    assert_eq!(state("b", &start, "b").0["recovered"], false);
    let (_, both) = state("a,b", &id, "b");
    let both = if both.contains('-') { format!("{id},{}", both.split(',').nth(1).unwrap()) } else { both };
    assert_eq!(state("b,a", &both, "b").0["recovered"], false);
    assert_eq!(state("a,b", &both, "b").0["recovered"], true);
}

/// R-CONN-5: who reads too slowly skips live events, is cut off at a durable one, and finds it by its last id.
#[test]
fn a_slow_reader_is_cut_off_and_recovers() {
    const SKIPPED: &str = r#"throng_drops_total{reason="live_lagging"}"#;
    const TOO_SLOW: &str = r#"throng_drops_total{reason="slow_consumer_closed"}"#;
    let set = ["conn.out_queue_bytes=65536", "chat.max_chars=100000", "conn.write_timeout_ms=600000"];
    for rooms in ["lobby", "lobby,other"] {
        let server = Server::start(&set);
        let mut sender = Client::connect(&server, "sender");
        sender.join("lobby", None);
        let socket = connect_narrow(source_address(1), server.address, Some(4_096)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = Stream::open(socket, &server.token("slow"), rooms, "");
        rooms.split(',').for_each(|_| _ = reader.event("room_state"));
        let big = "y".repeat(60_000);
        eventually("live events are skipped", || {
            sender.send("broadcast", json!({"roomId": "lobby", "event": "noise", "payload": big}));
            (server.metric(SKIPPED) > 0).then_some(())
        });
        let mut sent = 0;
        while server.metric(TOO_SLOW) == 0 {
            sender.request("chat_message", json!({"roomId": "lobby", "message": format!("{sent} {big}")}));
            sent += 1;
            assert!(sent < 200, "never cut off");
        }
        let mut heard = Vec::new();
        let mut hear = |kind: &str, data: &Value| {
            if kind == "chat_message" {
                heard.push(data["message"].as_str().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap());
            }
        };
        let last_id = loop {
            let (kind, data, id) = reader.next().expect("a last event");
            hear(&kind, &data);
            if kind == "closed" {
                assert_eq!(data, json!({"code": 4101, "reason": "Too slow", "reconnect": true}));
                break id;
            }
        };
        assert_eq!(reader.next(), None);
        // What is to be recovered is far more than the queue holds and the sockets take.
        for _ in 0..100 {
            sender.request("chat_message", json!({"roomId": "lobby", "message": format!("{sent} {big}")}));
            sent += 1;
        }
        sender.request("chat_message", json!({"roomId": "lobby", "message": format!("{sent} the last")}));
        // One answer is one answer, and who reads it is not slow.
        let socket = connect_narrow(source_address(1), server.address, Some(4_096)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut again = Stream::open(socket, &server.token("slow"), rooms, &last_id);
        loop {
            let (kind, data, _) = again.next().expect("the rest");
            hear(&kind, &data);
            assert!(kind != "closed" && data["recovered"] != false, "{kind} {data}");
            if data["message"].as_str().is_some_and(|text| text.ends_with("the last")) {
                break;
            }
        }
        assert_eq!(heard, (0..=sent).collect::<Vec<_>>(), "{rooms}");
    }
}

/// R-CONN-6.
#[test]
fn a_drain_says_when_to_come_back() {
    let mut server = Server::start(&["drain.retry_max_ms=7000", "drain.interval_ms=100"]);
    let open = |number: usize| {
        let rooms = if number.is_multiple_of(2) { "a" } else { "a,b" };
        Stream::open(tcp(&server), &server.token(&format!("user-{number}")), rooms, "")
    };
    let mut streams: Vec<Stream> = (0..20).map(open).collect();
    streams.iter_mut().for_each(|stream| _ = stream.event("room_state"));
    server.signal(&["TERM"]);
    let mut waits = BTreeSet::new();
    for stream in &mut streams {
        assert_eq!(stream.event("server_closing").0, json!({"retryMinMs": 0, "retryMaxMs": 7000}));
        assert_eq!(stream.closed(), json!({"code": 4200, "reason": "Server closing", "reconnect": true}));
        waits.insert(stream.reader.retry_ms.unwrap());
    }
    assert!(waits.iter().all(|wait| *wait <= 7_000), "{waits:?}");
    assert!(waits.len() > 10, "they would all come back at once: {waits:?}");
    drop(streams);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}
