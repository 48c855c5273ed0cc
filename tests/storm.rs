//! A reconnect storm: two thousand connections are cut at once while people write, and come back at once (R-REC-1, R-PRES-2,
//! R-CHAT-4). All are in again, nobody missed a message, nobody is seen who is not there, and the memory is given back.
#[path = "reliability/support.rs"]
mod support;

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use support::{Client, Server, connect_from, eventually, join_data, message, source_address};

const CONNECTIONS: usize = 2_000;
const ROOMS: usize = 20;
/// Of each room, those who do not come back.
const LOST: usize = 5;
const THREADS: usize = 4;
const GRACE_MS: u64 = 2_000;

fn room_of(number: usize) -> String {
    format!("storm-{}", number % ROOMS)
}

/// What a client knows when its connection is cut.
struct Known {
    epoch: String,
    offset: u64,
    /// Ids of messages seen, in order.
    seen: Vec<String>,
}

struct Member {
    number: usize,
    client: Client,
    known: Known,
}

/// Connects all of `numbers` at once and joins their rooms in one go, each from its own position if it has one. Reads afterwards.
fn arrive(server: &Server, comers: Vec<(usize, Option<Known>)>) -> Vec<Member> {
    let begun: Vec<(usize, Option<Known>, Client)> = comers
        .into_iter()
        .map(|(number, earlier)| {
            let stream = connect_from(source_address(number / 50), server.address).expect("a connection");
            let mut client = Client::begin(server, stream, Some(&format!("user-{number}")));
            let recover = earlier.as_ref().map(|known| (&*known.epoch, known.offset));
            client.write(&message("join", "join_room", &join_data(&room_of(number), recover)));
            (number, earlier, client)
        })
        .collect();
    begun.into_iter().map(|(number, earlier, client)| arrived(number, earlier, client)).collect()
}

fn arrived(number: usize, earlier: Option<Known>, mut client: Client) -> Member {
    assert_eq!(client.status(), Some(101));
    let snapshot = client.wait_for("room_state").expect("joined");
    let mut known = Known {
        epoch: snapshot["epoch"].as_str().unwrap().to_owned(),
        offset: snapshot["offset"].as_u64().unwrap(),
        seen: Vec::new(),
    };
    if let Some(mut earlier) = earlier {
        assert_eq!((&snapshot["recovered"], &known.epoch), (&json!(true), &earlier.epoch), "user-{number}");
        for event in snapshot["events"].as_array().unwrap() {
            earlier.take(&event["data"]);
        }
        assert_eq!(earlier.offset, known.offset, "a hole in what was recovered");
        known = earlier;
    }
    Member { number, client, known }
}

impl Known {
    /// Takes up a durable event, which must be the next one.
    fn take(&mut self, data: &Value) {
        if let Some(offset) = data["offset"].as_u64() {
            assert_eq!(offset, self.offset + 1, "a hole or a double");
            self.offset = offset;
            self.seen.extend(data["clientId"].as_str().map(str::to_owned));
        }
    }
}

impl Member {
    /// Cuts the connection with a reset.
    fn cut(self) -> (usize, Known) {
        self.client.reset();
        (self.number, self.known)
    }

    /// Reads up to the message of this client id.
    fn read_to(&mut self, last: &str) {
        while self.known.seen.last().is_none_or(|id| id != last) {
            let data = self.client.wait_for("chat_message").expect("the connection");
            self.known.take(&data);
        }
        self.client.stash.clear();
    }
}

/// In several threads, each with its share.
fn in_parallel<T: Send, U: Send>(items: Vec<T>, work: impl Fn(Vec<T>) -> Vec<U> + Sync) -> Vec<U> {
    let mut shares: Vec<Vec<T>> = (0..THREADS).map(|_| Vec::new()).collect();
    items.into_iter().enumerate().for_each(|(number, item)| shares[number % THREADS].push(item));
    thread::scope(|scope| {
        let threads: Vec<_> = shares.into_iter().map(|share| scope.spawn(|| work(share))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// One writer per room, who is never cut off, writes until told to stop. The client ids acknowledged, in order, by room.
fn write_until(server: &Server, is_over: &AtomicBool) -> Vec<Vec<String>> {
    let mut writers: Vec<Client> = (0..ROOMS).map(|room| Client::connect(server, &format!("writer-{room}"))).collect();
    writers.iter_mut().enumerate().for_each(|(room, writer)| _ = writer.join(&room_of(room), None));
    let mut acked = vec![Vec::new(); ROOMS];
    let mut write = |round: String| {
        for (room, writer) in writers.iter_mut().enumerate() {
            let id = format!("w{room}-{round}");
            writer.write(&message(&id, "chat_message", &json!({"roomId": room_of(room), "message": "in the storm"})));
            writer.result(&id).expect("an ack");
            writer.stash.clear();
            acked[room].push(id);
        }
    };
    for round in 0.. {
        if is_over.load(Relaxed) {
            break;
        }
        write(round.to_string());
        thread::sleep(Duration::from_millis(50));
    }
    write("last".into());
    acked
}

#[test]
fn everybody_is_back_after_a_reconnect_storm_and_has_missed_nothing() {
    throng::plane::os::raise_nofile_limit();
    let server = Server::start(&[&format!("presence.leave_grace_ms={GRACE_MS}"), "recovery.limit=10000"]);
    let mut members =
        in_parallel((0..CONNECTIONS).map(|number| (number, None)).collect(), |share| arrive(&server, share));
    eventually("all are in", || (server.stats()["connectedUsers"] == CONNECTIONS as u64).then_some(()));
    let (descriptors, memory) = (server.descriptors(), server.memory_bytes());

    let is_over = AtomicBool::new(false);
    let (mut members, acked) = thread::scope(|scope| {
        let writing = scope.spawn(|| write_until(&server, &is_over));
        thread::sleep(Duration::from_millis(300));
        // Some have read more than others when they are cut off.
        for member in members.iter_mut().filter(|member| member.number % 3 == 0) {
            let data = member.client.wait_for("chat_message").expect("the writers are at work");
            member.known.take(&data);
        }
        let cut: Vec<(usize, Known)> = members.into_iter().map(Member::cut).collect();
        let back = cut.into_iter().filter(|(number, _)| *number >= LOST * ROOMS);
        let cut = back.map(|(number, known)| (number, Some(known))).collect();
        let members = in_parallel(cut, |share| arrive(&server, share));
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Relaxed);
        (members, writing.join().unwrap())
    });

    assert_eq!(members.len(), CONNECTIONS - LOST * ROOMS);
    for member in &mut members {
        let acked = &acked[member.number % ROOMS];
        member.read_to(acked.last().unwrap());
        // A member that joined before the first message has seen all of them.
        assert_eq!(member.known.seen, *acked, "user-{}", member.number);
    }
    // Ghosts: those who did not come back are gone after the grace, the writers left of their own accord.
    for room in 0..ROOMS {
        let mut onlooker = Client::connect(&server, "onlooker");
        eventually("ghosts go", || {
            let snapshot = onlooker.join(&room_of(room), None);
            onlooker.request("leave_room", json!({"roomId": room_of(room)}));
            (snapshot["onlineCount"] == CONNECTIONS as u64 / ROOMS as u64 - LOST as u64 + 1).then_some(())
        });
    }
    eventually("connections of the storm are gone", || {
        let connections = server.metric("throng_connections") as usize;
        (connections == members.len() && server.descriptors() <= descriptors + 2).then_some(())
    });
    // Who came and who went may wait a second for more (`limits::PRESENCE_WAIT_MS`).
    eventually("queues are given back", || {
        (server.shard_sum("queueBytes") == 0 && server.shard_sum("logBytes") == 0).then_some(())
    });
    let after = server.memory_bytes();
    assert!(after < memory * 2 + (16 << 20), "{memory} bytes before the storm, {after} after");
}
