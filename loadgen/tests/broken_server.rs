//! A server that breaks one delivery in 100,000 is always caught, and a correct one never accused.
//!
//! The clients are plain ones on `tungstenite`; what they receive is judged by the load generator's checker.
#[path = "broken_server/mod.rs"]
mod server;

use serde::Deserialize;
use server::{Breakage, BrokenServer, Fault};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use throng_loadgen::check::{Checker, Sent, total};
use throng_loadgen::result::Integrity;
use throng_loadgen::scenario::{Kind, Scenario};
use throng_loadgen::stamp::Stamp;
use tungstenite::{Message, WebSocket};

const CONNECTIONS: u32 = 12;
/// Sent by each publisher before all wait until the server has read them. So no receiver is more than a batch behind, and a fault
/// that is due well before the end finds a next message to swap with.
const BATCH: u32 = 70;
/// A message of each publisher: 2·11 + 12 + 2·12 deliveries.
const ROUND: u64 = 58;
/// Batches of a long run; 121,800 deliveries.
const BATCHES: u32 = 30;
const PERIOD: u64 = 100_000;
const DELIVERIES: u64 = ROUND * (BATCH * BATCHES) as u64;

#[test]
fn a_correct_server_is_found_sound() {
    let outcome = run(None);
    assert_eq!(outcome.integrity, Integrity { expected: DELIVERIES, delivered: DELIVERIES, ..Integrity::default() });
    assert!(outcome.integrity.is_sound());
}

#[test]
fn one_lost_delivery_is_found() {
    let found = run(Some(Fault::Drop)).integrity;
    assert_eq!((found.lost_live + found.lost_durable, found.delivered), (1, DELIVERIES - 1));
    assert!(found.examples[0].ends_with("never came"), "{:?}", found.examples);
}

#[test]
fn one_repeated_delivery_is_found() {
    let found = run(Some(Fault::Repeat)).integrity;
    assert_eq!((found.duplicated, found.delivered, found.unexplained()), (1, DELIVERIES, 0));
    assert!(found.examples[0].ends_with("came again"), "{:?}", found.examples);
}

#[test]
fn one_swap_is_found() {
    let found = run(Some(Fault::Swap)).integrity;
    assert_eq!((found.reordered, found.delivered, found.unexplained()), (1, DELIVERIES, 0));
    assert!(found.examples[0].contains(" came after number "), "{:?}", found.examples);
}

#[test]
fn a_delay_that_lets_others_pass_is_found() {
    let found = run(Some(Fault::Overtake)).integrity;
    assert_eq!((found.reordered, found.delivered, found.unexplained()), (1, DELIVERIES, 0));
}

#[test]
fn a_delay_that_keeps_the_order_is_in_the_latency() {
    // A lower bound only: the message was sent before its delivery began to sleep.
    let delay = Duration::from_millis(400);
    let outcome = run(Some(Fault::Delay(delay)));
    assert!(outcome.integrity.is_sound(), "{:?}", outcome.integrity.examples);
    assert!(outcome.latency_max >= delay, "{:?}", outcome.latency_max);
}

#[test]
fn many_faults_are_counted_one_by_one() {
    for fault in [Fault::Drop, Fault::Repeat, Fault::Swap, Fault::Overtake] {
        let Outcome { integrity: found, faults, .. } = run_for(Some(Breakage { fault, period: 499 }), 3);
        let lost = found.lost_live + found.lost_durable;
        let expected = match fault {
            Fault::Drop => (faults, 0, 0),
            Fault::Repeat => (0, faults, 0),
            _ => (0, 0, faults),
        };
        assert_eq!((lost, found.duplicated, found.reordered), expected, "{fault:?}");
        assert!(faults > 10, "{fault:?}: {faults} in {} deliveries", found.delivered);
        assert_eq!((found.foreign, found.missed_away), (0, 0));
    }
}

#[test]
fn durable_messages_are_recovered_without_a_gap() {
    let server = BrokenServer::start(None);
    let scenario = scenario();
    let begun = Instant::now();
    let (mut sender, mut other) =
        (Client::connect(&server, &scenario, 0, begun), Client::connect(&server, &scenario, 1, begun));
    let durable = sender.publishers.iter().copied().find(|at| at.1 == Kind::Durable).expect("member 0 is one");
    let say = |sender: &mut Client, numbers: std::ops::RangeInclusive<u32>| {
        numbers.for_each(|number| sender.send(durable, number));
        sender.wait();
    };
    say(&mut sender, 1..=100);
    other.wait();
    other.checker.away(1);
    say(&mut sender, 101..=200);
    let mut other = other.reconnect(&server);
    assert_eq!(other.checker.outstanding(&sender.sent), 0, "recovered");
    other.checker.away(1);
    say(&mut sender, 201..=600);
    let mut other = other.reconnect(&server);
    say(&mut sender, 601..=610);
    other.wait();
    let found = total([sender.checker.finish(&sender.sent), other.checker.finish(&sender.sent)]);
    assert!(found.is_sound(), "{:?}", found.examples);
    assert_eq!((found.missed_away, found.delivered), (400, 610 + 210), "over 300 are not recovered");
}

struct Outcome {
    integrity: Integrity,
    latency_max: Duration,
    faults: u64,
}

/// One fault, if any.
fn run(fault: Option<Fault>) -> Outcome {
    let outcome = run_for(fault.map(|fault| Breakage { fault, period: PERIOD }), BATCHES);
    assert_eq!(outcome.faults, u64::from(fault.is_some()), "one in {PERIOD} of {DELIVERIES} deliveries");
    outcome
}

/// All publishers send all their messages; ends when everything has come that will.
fn run_for(breakage: Option<Breakage>, batches: u32) -> Outcome {
    let server = BrokenServer::start(breakage);
    let (scenario, begun, barrier) = (scenario(), Instant::now(), Barrier::new(CONNECTIONS as usize));
    let clients: Vec<Client> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let (server, scenario, barrier) = (&server, &scenario, &barrier);
                scope.spawn(move || {
                    let mut client = Client::connect(server, scenario, connection, begun);
                    barrier.wait(); // all have joined
                    for batch in 0..batches {
                        for number in batch * BATCH + 1..=(batch + 1) * BATCH {
                            client.publishers.clone().into_iter().for_each(|publisher| client.send(publisher, number));
                        }
                        client.wait();
                        barrier.wait(); // the server has read everybody's batch, so it is on its way
                        client.wait();
                    }
                    client.wait_for_the_held();
                    client
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client that reads to the end")).collect()
    });
    let mut sent = Sent::new(&scenario);
    clients.iter().for_each(|client| sent.merge(&client.sent));
    let latency_max = clients.iter().map(|client| client.latency_max).max().unwrap_or_default();
    let outstanding: u64 = clients.iter().map(|client| client.checker.outstanding(&sent)).sum();
    let integrity = total(clients.into_iter().map(|mut client| client.checker.finish(&sent)));
    assert_eq!(outstanding, integrity.unexplained());
    assert_eq!(server.deliveries(), ROUND * u64::from(BATCH * batches));
    Outcome { integrity, latency_max, faults: server.faults() }
}

fn scenario() -> Scenario {
    let mut text = format!(
        "name = 'x'\nabout = 'y'\nconnections = {CONNECTIONS}\ntime = {{ warmup_s = 0, measure_s = 1 }}\n\
         [[layer]]\nname = 'room'\nmembers = 0\n"
    );
    for (kind, senders, include_self) in [("live", 2, false), ("live", 1, true), ("durable", 2, false)] {
        text += &format!(
            "[[traffic]]\nkind = '{kind}'\nlayer = 'room'\nsenders = {senders}\nrate_per_s = 1\ninclude_self = {include_self}\n"
        );
    }
    toml::from_str(&text).expect("a scenario")
}

/// Publisher, what it sends, and whether it hears itself.
type PublisherOf = (u32, Kind, bool);

/// One member of the only room, checker and all.
struct Client {
    connection: u32,
    socket: WebSocket<TcpStream>,
    publishers: Vec<PublisherOf>,
    checker: Checker,
    sent: Sent,
    begun: Instant,
    latency_max: Duration,
    position: (String, u64),
    heartbeats: u64,
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    message: Option<&'a str>,
    payload: Option<&'a str>,
    offset: Option<u64>,
    epoch: Option<&'a str>,
    request_id: Option<&'a str>,
    client_timestamp: Option<u64>,
    recovered: Option<bool>,
    #[serde(borrow, default)]
    events: Vec<Event<'a>>,
}

impl Client {
    fn connect(server: &BrokenServer, scenario: &Scenario, connection: u32, begun: Instant) -> Client {
        let publishers = scenario.publishers(0);
        let mine = publishers.iter().enumerate().filter(|(_, at)| at.member == connection);
        let mine = mine.map(|(publisher, at)| {
            let line = &scenario.traffic[at.traffic];
            (publisher as u32, line.kind, line.include_self)
        });
        let mut client = Client {
            connection,
            socket: socket(server),
            publishers: mine.collect(),
            checker: Checker::new(scenario, connection..connection + 1),
            sent: Sent::new(scenario),
            begun,
            latency_max: Duration::ZERO,
            position: Default::default(),
            heartbeats: 0,
        };
        client.write("{\"id\":\"j\",\"type\":\"join_room\",\"data\":{\"roomId\":\"room-0\"}}".into());
        client.wait();
        client
    }

    /// The old link just goes.
    fn reconnect(self, server: &BrokenServer) -> Client {
        let mut client = Client { socket: socket(server), ..self };
        let (epoch, offset) = &client.position;
        client.write(format!(
            "{{\"id\":\"j\",\"type\":\"join_room\",\"data\":{{\"roomId\":\"room-0\",\"recover\":{{\"epoch\":\"{epoch}\",\"offset\":{offset}}}}}}}"
        ));
        client.wait();
        client
    }

    fn send(&mut self, (publisher, kind, include_self): PublisherOf, number: u32) {
        let stamp = Stamp { room: 0, publisher, number, intended_ns: self.begun.elapsed().as_nanos() as u64 };
        let text = stamp.to_text();
        let text = std::str::from_utf8(&text).expect("a stamp is text");
        self.sent.sent(0, publisher, number);
        self.write(match kind {
            Kind::Durable => format!("{{\"id\":\"{text}\",\"type\":\"chat_message\",\"data\":{{\"roomId\":\"room-0\",\"message\":\"{text}\"}}}}"),
            _ => format!(
                "{{\"id\":\"l\",\"type\":\"broadcast\",\"data\":{{\"roomId\":\"room-0\",\"event\":\"e\",\"payload\":\"{text}\",\"includeSelf\":{include_self}}}}}"
            ),
        });
    }

    fn write(&mut self, text: String) {
        self.socket.write(Message::text(text)).expect("the server reads");
    }

    /// Reads until the server has answered a heartbeat: then it has carried out everything sent before.
    fn wait(&mut self) {
        self.heartbeats += 1;
        let heartbeat = self.heartbeats;
        self.write(format!("{{\"id\":\"h\",\"type\":\"heartbeat\",\"data\":{{\"timestamp\":{heartbeat}}}}}"));
        self.socket.flush().expect("the server reads");
        while self.read() != Some(heartbeat) {}
    }

    /// A swap that found no partner is written after 200 ms; so is what is overtaken by fewer than ten.
    fn wait_for_the_held(&mut self) {
        std::thread::sleep(Duration::from_millis(500));
        self.wait();
    }

    /// Takes one message; `Some`: it was the answer to this heartbeat.
    fn read(&mut self) -> Option<u64> {
        let message = self.socket.read().expect("the server answers");
        let text = message.to_text().expect("only text comes");
        let event: Event = serde_json::from_str(text).expect("the server sends JSON");
        let data = &event.data;
        match event.r#type {
            "heartbeat_response" => return data.client_timestamp,
            "ack" => {
                if let Some(stamp) = data.request_id.and_then(|id| Stamp::find(id.as_bytes())) {
                    self.sent.acked(stamp.room, stamp.publisher, stamp.number);
                }
            }
            "room_state" => {
                self.checker.back(self.connection, 0, data.recovered);
                if data.recovered == Some(true) {
                    data.events.iter().for_each(|event| self.durable(&event.data));
                } else {
                    let (epoch, offset) = (data.epoch.expect("its epoch"), data.offset.expect("its offset"));
                    self.checker.positioned(self.connection, 0, epoch, offset);
                    self.position = (epoch.into(), offset);
                }
            }
            "broadcast" => {
                let stamp = Stamp::find(data.payload.expect("its payload").as_bytes()).expect("a stamp");
                self.time(&stamp);
                self.checker.live(self.connection, &stamp);
            }
            "chat_message" => self.durable(data),
            "connection_established" => {}
            other => panic!("unexpected {other}: {text}"),
        }
        None
    }

    fn durable(&mut self, data: &Data) {
        let stamp = Stamp::find(data.message.expect("its text").as_bytes()).expect("a stamp");
        let (epoch, offset) = (data.epoch.expect("its epoch"), data.offset.expect("its offset"));
        self.time(&stamp);
        self.checker.durable(self.connection, &stamp, offset, epoch);
        self.position = (epoch.into(), offset);
    }

    fn time(&mut self, stamp: &Stamp) {
        let latency = self.begun.elapsed().saturating_sub(Duration::from_nanos(stamp.intended_ns));
        self.latency_max = self.latency_max.max(latency);
    }
}

fn socket(server: &BrokenServer) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    tungstenite::client(server.url(), stream).expect("it upgrades").0
}
