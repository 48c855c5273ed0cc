//! Repeated messages (R-CHAT-3): the first result again, over devices, shards and restarts, without event or charge.
mod support;

use serde_json::{Value, json};
use support::{Client, Server};

fn send(client: &mut Client, room: &str, client_id: &str, text: &str) -> Result<Value, Value> {
    client.ask("chat_message", json!({"roomId": room, "message": text, "clientId": client_id}))
}

fn duplicate(first: &Value) -> Value {
    let mut result = first.clone();
    result["duplicate"] = true.into();
    result
}

#[test]
fn a_repeat_gets_the_first_result_and_causes_no_event() {
    let server = Server::with_shards(3, &["limits.messages=0"]);
    let (mut anna, mut tablet, mut berta) = (server.client("anna"), server.client("anna"), server.client("berta"));
    for client in [&mut anna, &mut tablet, &mut berta] {
        client.join("lobby");
    }
    let first = send(&mut anna, "lobby", "c1", "hello").unwrap();
    assert_eq!(first["duplicate"], false);
    for client in [&mut anna, &mut tablet] {
        assert_eq!(send(client, "lobby", "c1", "hello").unwrap(), duplicate(&first));
    }
    assert_eq!(send(&mut anna, "lobby", "c1", "  hello\n").unwrap(), duplicate(&first), "the same after trimming");
    // The client id of another user is another client id.
    let other = send(&mut berta, "lobby", "c1", "hello").unwrap();
    assert_eq!((&other["duplicate"], &other["offset"]), (&false.into(), &2.into()));
    let heard = berta.heard(&mut anna, "lobby");
    let messages: Vec<_> = heard.iter().filter(|event| event["type"] == "chat_message").collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0]["data"]["clientId"], "c1");
}

/// Without `clientId` the envelope's id is it (R-SIO-1 names the other one).
#[test]
fn the_envelope_id_is_the_client_id_of_a_message_that_names_none() {
    let server = Server::start(&[]);
    let mut anna = server.client("anna");
    anna.join("lobby");
    let text = json!({"id": "e1", "type": "chat_message", "data": {"roomId": "lobby", "message": "x"}}).to_string();
    anna.send_text(&text);
    let first = anna.answer("e1").unwrap();
    assert_eq!(anna.event("chat_message")["clientId"], "e1");
    anna.send_text(&text);
    assert_eq!(anna.answer("e1").unwrap(), duplicate(&first));
    assert_eq!(send(&mut anna, "lobby", "e1", "x").unwrap(), duplicate(&first));
}

#[test]
fn other_content_under_the_same_id_is_a_conflict() {
    let server = Server::start(&["limits.messages=0"]);
    let mut anna = server.client("anna");
    anna.join("lobby");
    anna.join("elsewhere");
    let message = |room: &str, text: &str, metadata: Value| json!({"roomId": room, "message": text, "metadata": metadata, "clientId": "c1"});
    anna.ok("chat_message", message("lobby", "hello", json!({"a": 1})));
    anna.refused("conflict", "chat_message", message("lobby", "hello!", json!({"a": 1})));
    anna.refused("conflict", "chat_message", message("lobby", "hello", json!({"a": 2})));
    anna.refused("conflict", "chat_message", message("lobby", "hello", Value::Null));
    anna.refused("conflict", "chat_message", message("elsewhere", "hello", json!({"a": 1})));
    assert_eq!(anna.ok("chat_message", message("lobby", "hello", json!({"a": 1})))["duplicate"], true);
    assert_eq!(anna.join("elsewhere")["offset"], 0);
    assert_eq!(anna.join("lobby")["offset"], 1);
}

#[test]
fn repeats_are_known_over_a_restart() {
    let mut server = Server::start(&["limits.messages=0"]);
    let mut anna = server.client("anna");
    anna.join("lobby");
    let first = send(&mut anna, "lobby", "c1", "hello").unwrap();
    // Sent and not waited for: it is stored or it is not, and a repeat makes it exactly once.
    anna.send("chat_message", json!({"roomId": "lobby", "message": "in doubt", "clientId": "c2"}));
    server.restart();
    let mut anna = server.client("anna");
    anna.join("lobby");
    assert_eq!(send(&mut anna, "lobby", "c1", "hello").unwrap(), duplicate(&first));
    assert_eq!(send(&mut anna, "lobby", "c1", "other").unwrap_err()["code"], "conflict");
    assert_eq!(send(&mut anna, "lobby", "c2", "in doubt").unwrap()["offset"], 2);
    let history = anna.ok("get_history", json!({"roomId": "lobby"}));
    let texts: Vec<_> = history["messages"].as_array().unwrap().iter().map(|message| &message["message"]).collect();
    assert_eq!(texts, ["hello", "in doubt"]);
}

/// R-CHAT-2: idempotency before rate. Repeats cost nothing and are answered when nothing is left.
#[test]
fn repeats_cost_nothing_even_when_the_bucket_is_empty() {
    let server = Server::start(&["limits.messages=3", "limits.messages_window_s=3600"]);
    let mut anna = server.client("anna");
    anna.join("lobby");
    let first = send(&mut anna, "lobby", "c1", "1").unwrap();
    for _ in 0..10 {
        assert_eq!(send(&mut anna, "lobby", "c1", "1").unwrap(), duplicate(&first));
    }
    send(&mut anna, "lobby", "c2", "2").unwrap();
    send(&mut anna, "lobby", "c3", "3").unwrap();
    for _ in 0..10 {
        assert_eq!(send(&mut anna, "lobby", "c1", "1").unwrap(), duplicate(&first));
        assert_eq!(send(&mut anna, "lobby", "c1", "other").unwrap_err()["code"], "conflict");
        let error = send(&mut anna, "lobby", "c4", "4").unwrap_err();
        assert_eq!(error["code"], "rate_limited");
        assert!(error["retryAfterMs"].as_u64().unwrap() <= 1_200_000, "{error}");
    }
    assert_eq!(anna.join("lobby")["offset"], 3);
}

/// All at once, over several connections: one message comes of it.
#[test]
fn simultaneous_repeats_make_one_message() {
    let server = Server::with_shards(3, &["limits.messages=0", "limits.commands=0"]);
    let mut devices: Vec<Client> = (0..8).map(|_| server.client("anna")).collect();
    devices.iter_mut().for_each(|device| drop(device.join("lobby")));
    for round in 0..20 {
        let data = json!({"roomId": "lobby", "message": "once", "clientId": format!("c{round}")});
        let ids: Vec<String> = devices.iter_mut().map(|device| device.send("chat_message", data.clone())).collect();
        let results: Vec<Value> = devices.iter_mut().zip(&ids).map(|(device, id)| device.answer(id).unwrap()).collect();
        assert!(results.iter().all(|result| result["messageId"] == results[0]["messageId"]), "{results:?}");
        assert_eq!(results.iter().filter(|result| result["duplicate"] == false).count(), 1);
    }
    assert_eq!(devices[0].join("lobby")["offset"], 20);
}
