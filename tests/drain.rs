//! Leaving in order on SIGTERM (R-CONN-6): everybody is told when to come back, nothing acknowledged is lost, what was received
//! gets its answer, and nobody can make it last longer than the deadline.
#[path = "reliability/support.rs"]
mod support;

use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use support::{Client, Got, PATIENCE, Server, Settings, connect_narrow, eventually, message, source_address};

const IDLE: usize = 260;
const SENDERS: usize = 40;
const ROOMS: usize = 4;
const BATCH: usize = 50;
const RETRY_MAX_MS: u64 = 7_000;

/// How the drain looked to one connection.
struct Farewell {
    /// `timestamp` of `server_closing`: the server's clock.
    told_at_ms: u64,
    /// Ids of messages in the order of their acks.
    acked: Vec<String>,
}

/// Reads to the end, which must be announced. With a room and a name for its messages, chats in between.
fn to_the_end(mut client: Client, chat: Option<(&str, &str)>, acks: &AtomicU64) -> Farewell {
    let (mut told_at_ms, mut acked, mut sent) = (None, Vec::new(), 0);
    loop {
        // Also after the announcement: such messages may be ignored, but not stored without an ack.
        if let Some((room, name)) = chat
            && sent - acked.len() < 8
        {
            let id = format!("{name}-{sent}");
            client.write(&message(&id, "chat_message", &json!({"roomId": room, "message": id})));
            sent += 1;
        }
        match client.next(PATIENCE) {
            Got::Message(message) => match message["type"].as_str().unwrap() {
                "ack" => {
                    acked.push(message["data"]["requestId"].as_str().unwrap().to_owned());
                    acks.fetch_add(1, Relaxed);
                }
                "server_closing" => {
                    let range = (&message["data"]["retryMinMs"], &message["data"]["retryMaxMs"]);
                    assert_eq!(range, (&json!(0), &json!(RETRY_MAX_MS)));
                    assert_eq!(told_at_ms.replace(message["timestamp"].as_u64().unwrap()), None, "told twice");
                }
                "error" => panic!("refused: {message}"),
                _ => {}
            },
            Got::Closed(code) => {
                assert_eq!(code, 4200);
                return Farewell { told_at_ms: told_at_ms.expect("closed without a word"), acked };
            }
            other => panic!("{other:?} before the close"),
        }
    }
}

#[test]
fn a_drain_under_load_tells_everybody_and_loses_nothing() {
    let settings = Settings::new(
        2,
        &[
            &format!("drain.batch={BATCH}"),
            "drain.interval_ms=400",
            "drain.deadline_ms=40000",
            &format!("drain.retry_max_ms={RETRY_MAX_MS}"),
            "recovery.limit=10000",
        ],
    );
    let mut server = Server::start_with(&settings);
    let idle: Vec<Client> = (0..IDLE).map(|number| Client::connect(&server, &format!("idle-{number}"))).collect();
    let senders: Vec<(Client, String, String)> = (0..SENDERS)
        .map(|number| {
            let (name, room) = (format!("sender-{number}"), format!("room-{}", number % ROOMS));
            let mut client = Client::connect(&server, &name);
            client.join(&room, None);
            (client, room, name)
        })
        .collect();
    let (acks, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (told, chatted) = thread::scope(|scope| {
        let acks = &acks;
        let told = idle.into_iter().map(|client| scope.spawn(move || to_the_end(client, None, acks)));
        let told: Vec<_> = told.collect();
        let chatted = senders
            .into_iter()
            .map(|(client, room, name)| scope.spawn(move || to_the_end(client, Some((&room, &name)), acks)));
        let chatted: Vec<_> = chatted.collect();
        eventually("acks", || (acks.load(Relaxed) > 200).then_some(()));
        server.signal(&["TERM"]);
        eventually("readiness fails", || server.get("/readyz").is_none_or(|(status, _)| status == 503).then_some(()));
        eventually("newcomers are refused", || Client::try_connect(&server, "late").is_none().then_some(()));
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                assert!(Client::try_connect(&server, "late").is_none(), "let in during the drain");
                thread::sleep(Duration::from_millis(50));
            }
        });
        let ends = [told, chatted].map(|threads| threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>());
        is_over.store(true, Relaxed);
        let [told, chatted] = ends.map(|ends| ends.into_iter().map(|end| end.unwrap()).collect::<Vec<_>>());
        (told, chatted)
    });
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());

    let mut batches = BTreeMap::<u64, usize>::new();
    told.iter().chain(&chatted).for_each(|farewell| *batches.entry(farewell.told_at_ms).or_default() += 1);
    assert!(batches.values().all(|count| *count <= BATCH), "{batches:?}");

    let folder = server.folder();
    drop(server);
    let server = Server::start_in(folder, &settings);
    let mut auditor = Client::connect(&server, "auditor");
    let stored: HashSet<String> = (0..ROOMS)
        .flat_map(|number| {
            let room = format!("room-{number}");
            auditor.join(&room, None);
            auditor.history(&room)
        })
        .map(|message| message["message"].as_str().unwrap().to_owned())
        .collect();
    let acked: HashSet<String> = chatted.iter().flat_map(|farewell| farewell.acked.iter().cloned()).collect();
    assert_eq!(acked.difference(&stored).next(), None, "acknowledged and lost");
    assert_eq!(stored.difference(&acked).next(), None, "taken up and not acknowledged");
    for (number, farewell) in chatted.iter().enumerate() {
        let first = (0..farewell.acked.len()).map(|sent| format!("sender-{number}-{sent}"));
        assert!(first.eq(farewell.acked.iter().cloned()), "acks out of order");
    }
}

/// Who neither reads nor answers the close is cut off when time is up, and the server still leaves in order.
#[test]
fn peers_that_do_not_answer_cannot_hold_up_a_drain() {
    let set = [
        "drain.deadline_ms=3000",
        "ws.close_timeout_ms=600000",
        "conn.write_timeout_ms=600000",
        "chat.max_chars=60000",
    ];
    let mut server = Server::start(&set);
    let mut sender = Client::connect(&server, "sender");
    let mut joined: Vec<Client> = (0..2)
        .map(|number| {
            let stream = connect_narrow(source_address(1), server.address, Some(4_096)).unwrap();
            let mut client = Client::begin(&server, stream, Some(&format!("deaf-{number}")));
            assert_eq!(client.status(), Some(101));
            client.wait_for("connection_established").unwrap();
            client.join("lobby", None);
            client
        })
        .collect();
    sender.join("lobby", None);
    // One reads and answers nothing, the other's way is full besides.
    let mut mute = joined.pop().unwrap();
    mute.answers = false;
    let payload = "x".repeat(60_000);
    eventually("the reader's way is full", || {
        sender.send("broadcast", json!({"roomId": "lobby", "event": "noise", "payload": payload}));
        while matches!(mute.next(Duration::from_millis(1)), Got::Message(_)) {}
        (server.metric(r#"throng_drops_total{reason="live_lagging"}"#) > 0).then_some(())
    });
    sender.join("elsewhere", None);
    let result = sender.request("chat_message", json!({"roomId": "elsewhere", "message": "last words"}));
    server.signal(&["TERM"]);
    assert_eq!(mute.ending(), Some(4200));
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    let folder = server.folder();
    drop(server);
    let server = Server::start_in(folder, &Settings::new(2, &[]));
    let mut auditor = Client::connect(&server, "auditor");
    auditor.join("elsewhere", None);
    assert_eq!(auditor.history("elsewhere").last().unwrap()["id"], result["messageId"]);
}

/// After an orderly exit the database is one file, which can be copied, and not a file and a log that belong together.
#[test]
fn an_orderly_exit_leaves_the_database_in_one_file() {
    let mut server = Server::start(&[]);
    let mut client = Client::connect(&server, "anna");
    client.join("lobby", None);
    client.request("chat_message", json!({"roomId": "lobby", "message": "on disk"}));
    server.signal(&["TERM"]);
    assert_eq!(client.ending(), Some(4200));
    drop(client);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    assert!(server.data_dir().join("throng.db").exists());
    for side_file in ["throng.db-wal", "throng.db-shm"] {
        assert!(!server.data_dir().join(side_file).exists(), "{side_file}");
    }
}
