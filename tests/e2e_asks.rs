//! Questions of one client that the others in its room answer (R-LIVE-1): `ask`, `question`, `answer`.
#[path = "support/event_stream.rs"]
mod event_stream;
#[path = "support/stream.rs"]
mod stream;
mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use stream::Stream;
use support::{Client, Server, UNLIMITED};

/// So long that no test waits for it by accident: an ack that comes has another reason.
const PATIENT: [&str; 3] = [UNLIMITED[0], UNLIMITED[1], "live.ask_timeout_ms=600000"];

/// Waits for a question and answers it; its data.
fn answers(client: &mut Client, payload: Value) -> Value {
    let question = client.event("question");
    client.send("answer", json!({"roomId": question["roomId"], "askId": question["askId"], "payload": payload}));
    question
}

/// Rooms of either home, members on either shard: all are asked, and all of their answers come back.
#[test]
fn everyone_else_answers_wherever_they_are() {
    let server = Server::with_shards(2, &PATIENT);
    let rooms: Vec<String> = (0..4).map(|n| format!("room-{n}")).collect();
    let mut anna = server.client("anna");
    let mut others: Vec<Client> =
        ["anna", "bob", "carl", "dora", "emil", "fred"].iter().map(|user| server.client(user)).collect();
    let mut homes = BTreeSet::new();
    for room in &rooms {
        anna.join(room);
        others.iter_mut().for_each(|other| drop(other.join(room)));
        let asked = anna.send("ask", json!({"roomId": room, "event": "vote", "payload": {"on": [room]}}));
        let mut ids = BTreeSet::new();
        for (n, other) in others.iter_mut().enumerate() {
            let question = answers(other, json!({"n": n, "of": room}));
            let expected = json!({
                "roomId": room, "userId": "anna", "event": "vote", "payload": {"on": [room]},
                "askId": question["askId"], "timestamp": question["timestamp"]
            });
            assert_eq!(question, expected);
            ids.insert(question["askId"].as_u64().unwrap());
        }
        let result = anna.answer(&asked).unwrap();
        assert_eq!(ids.into_iter().collect::<Vec<_>>(), [result["askId"].as_u64().unwrap()]);
        assert_eq!((&result["asked"], &result["dropped"], &result["isComplete"]), (&json!(6), &json!(0), &json!(true)));
        let mut answers: Vec<Value> = result["answers"].as_array().unwrap().clone();
        answers.sort_by_key(|answer| answer["payload"]["n"].as_u64());
        let users = ["anna", "bob", "carl", "dora", "emil", "fred"].iter().enumerate();
        let expected: Vec<Value> =
            users.map(|(n, user)| json!({"userId": user, "payload": {"n": n, "of": room}})).collect();
        assert_eq!(answers, expected);
        homes.insert(result["askId"].as_u64().unwrap() % 256);
    }
    assert_eq!(homes.len(), 2, "a test of one shard");
    // No answer was acked.
    for other in &mut others {
        assert!(other.so_far().iter().all(|message| message["type"] != "ack" && message["type"] != "error"));
    }
    assert_eq!(server.metric(r#"throng_domain_events_total{what="questions"}"#), 4.0);
}

#[test]
fn the_time_is_over() {
    let server = Server::with_shards(2, &["live.ask_timeout_ms=400"]);
    let (mut anna, mut bob, mut carl) = (server.client("anna"), server.client("bob"), server.client("carl"));
    for client in [&mut anna, &mut bob, &mut carl] {
        client.join("lobby");
    }
    for data in [json!({"timeoutMs": 300}), json!({"timeoutMs": null}), json!({})] {
        let mut ask = json!({"roomId": "lobby", "event": "vote"});
        ask.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        let asked = anna.send("ask", ask);
        answers(&mut bob, json!("yes"));
        let question = carl.event("question");
        assert_eq!(question["payload"], Value::Null);
        let result = anna.answer(&asked).unwrap();
        let expected = json!({
            "askId": question["askId"], "asked": 2, "answers": [{"userId": "bob", "payload": "yes"}], "dropped": 0,
            "isComplete": false
        });
        assert_eq!(result, expected);
        carl.refused("not_found", "answer", json!({"roomId": "lobby", "askId": question["askId"]}));
    }
    for timeout_ms in [0, 401] {
        let error = anna.refused(
            "invalid_argument",
            "ask",
            json!({"roomId": "lobby", "event": "vote", "timeoutMs": timeout_ms}),
        );
        assert_eq!(error["field"], "timeoutMs");
    }
    assert_eq!(server.metric(r#"throng_domain_events_total{what="questions_timed_out"}"#), 3.0);
}

#[test]
fn only_those_asked_answer_and_once() {
    let server = Server::with_shards(2, &PATIENT);
    let (mut anna, mut bob, mut carl) = (server.client("anna"), server.client("bob"), server.client("carl"));
    let (mut late, mut stranger) = (server.client("late"), server.client("stranger"));
    for client in [&mut anna, &mut bob, &mut carl] {
        client.join("lobby");
    }
    let asked = anna.send("ask", json!({"roomId": "lobby", "event": "vote"}));
    let question = answers(&mut bob, json!(1));
    let answer = json!({"roomId": "lobby", "askId": question["askId"], "payload": 2});
    bob.refused("conflict", "answer", answer.clone());
    late.join("lobby");
    late.refused("forbidden", "answer", answer.clone());
    anna.refused("forbidden", "answer", answer.clone());
    stranger.refused("not_in_room", "answer", answer);
    // By the question's id alone a stranger learns no more than of one that there is not.
    let id = question["askId"].as_u64().unwrap();
    for id in [id, id + 256, id ^ 1, id | 255, 0, (1 << 53) - 1] {
        stranger.refused("not_found", "answer", json!({"askId": id}));
    }
    carl.send("answer", json!({"askId": id, "payload": [3]}));
    let result = anna.answer(&asked).unwrap();
    let expected = json!([{"userId": "bob", "payload": 1}, {"userId": "carl", "payload": [3]}]);
    assert_eq!(result["answers"], expected);
    assert_eq!(stranger.so_far(), Vec::<Value>::new());
}

/// Leaving, closing and losing the connection are all the same to who waits; and an asker that leaves waits no longer.
#[test]
fn nobody_waits_for_who_is_gone() {
    let server = Server::with_shards(2, &PATIENT);
    let mut anna = server.client("anna");
    anna.join("lobby");
    for way in 0..3 {
        let (mut bob, mut carl) = (server.client("bob"), server.client("carl"));
        bob.join("lobby");
        carl.join("lobby");
        let asked = anna.send("ask", json!({"roomId": "lobby", "event": "vote"}));
        answers(&mut bob, json!(way));
        carl.event("question");
        match way {
            0 => drop(carl.ok("leave_room", json!({"roomId": "lobby"}))),
            1 => carl.close(1000),
            _ => carl.cut(),
        }
        let result = anna.answer(&asked).unwrap();
        assert_eq!((&result["asked"], &result["isComplete"]), (&json!(2), &json!(false)), "way {way}");
        assert_eq!(result["answers"], json!([{"userId": "bob", "payload": way}]));
        bob.ok("leave_room", json!({"roomId": "lobby"}));
        // A cut connection's user is away for a while, with no session that could be asked.
        assert_eq!(anna.ok("ask", json!({"roomId": "lobby", "event": "vote"}))["asked"], 0);
    }
    let mut bob = server.client("bob");
    bob.join("lobby");
    let asked = anna.send("ask", json!({"roomId": "lobby", "event": "vote"}));
    let question = bob.event("question");
    anna.ok("leave_room", json!({"roomId": "lobby"}));
    assert_eq!(anna.answer(&asked).unwrap()["isComplete"], false);
    bob.refused("not_found", "answer", json!({"roomId": "lobby", "askId": question["askId"]}));
}

/// R-SSE-1: an event stream hears and cannot answer.
#[test]
fn event_streams_hear_and_are_not_asked() {
    let server = Server::with_shards(2, &PATIENT);
    let (mut anna, mut bob) = (server.client("anna"), server.client("bob"));
    anna.join("lobby");
    bob.join("lobby");
    let mut streams: Vec<Stream> = ["lobby", "lobby,other"]
        .iter()
        .map(|rooms| Stream::open(server.tcp(), &server.token("listener"), rooms, ""))
        .collect();
    streams.iter_mut().for_each(|stream| drop(stream.event("room_state")));
    let asked = anna.send("ask", json!({"roomId": "lobby", "event": "vote", "payload": [1]}));
    let question = answers(&mut bob, json!(true));
    let result = anna.answer(&asked).unwrap();
    assert_eq!((&result["asked"], &result["isComplete"]), (&json!(1), &json!(true)));
    for stream in &mut streams {
        assert_eq!(stream.event("question").0, question);
    }
}

/// The same limits as those of other live events; how many may be open is another matter.
#[test]
fn questions_are_limited() {
    let server = Server::with_shards(2, &["limits.live=1", "limits.live_burst=12", PATIENT[2]]);
    let (mut anna, mut bob) = (server.client("anna"), server.client("bob"));
    anna.join("lobby");
    bob.join("lobby");
    let ask = json!({"roomId": "lobby", "event": "vote"});
    let open: Vec<String> = (0..8).map(|_| anna.send("ask", ask.clone())).collect();
    let error = anna.refused("rate_limited", "ask", ask.clone());
    assert!(error["retryAfterMs"].as_u64().unwrap() > 10_000, "until one is over: {error}");
    for _ in &open {
        answers(&mut bob, json!(1));
    }
    for id in &open {
        assert_eq!(anna.answer(id).unwrap()["isComplete"], true);
    }
    let more: Vec<String> = (0..30).map(|_| anna.send("ask", ask.clone())).collect();
    // Whatever was let through is over by this.
    bob.ok("leave_room", json!({"roomId": "lobby"}));
    let refused: Vec<Value> = more.iter().filter_map(|id| anna.answer(id).err()).collect();
    // A token comes back each second: a slow run may let some more pass.
    assert!(refused.len() >= 10 && refused.iter().all(|error| error["code"] == "rate_limited"), "{refused:?}");
}
