//! Live events between clients (R-LIVE-1): to those who are there, at most once, never stored.
mod support;

use serde_json::{Value, json};
use support::Server;

#[test]
fn a_live_event_goes_to_the_room_but_that_session() {
    let server = Server::with_shards(3, &[]);
    let (mut anna, mut tablet) = (server.client("anna"), server.client("anna"));
    let (mut berta, mut stranger) = (server.client("berta"), server.client("stranger"));
    for client in [&mut anna, &mut tablet, &mut berta] {
        client.join("lobby");
    }
    stranger.join("elsewhere");
    anna.heard(&mut berta, "lobby");
    tablet.event("broadcast"); // the mark that `heard` set
    anna.send("broadcast", json!({"roomId": "lobby", "event": "moved", "payload": {"x": 1}}));
    for client in [&mut berta, &mut tablet] {
        let event = client.event("broadcast");
        let expected = json!({
            "roomId": "lobby", "userId": "anna", "event": "moved", "payload": {"x": 1}, "timestamp": event["timestamp"]
        });
        assert_eq!(event, expected);
    }
    assert_eq!(anna.heard(&mut berta, "lobby"), Vec::<Value>::new(), "neither ack nor event");
    anna.send("broadcast", json!({"roomId": "lobby", "event": "again", "includeSelf": true}));
    tablet.event("broadcast"); // the mark that `heard` set
    for client in [&mut anna, &mut tablet, &mut berta] {
        let event = client.event("broadcast");
        assert_eq!((&event["event"], &event["payload"]), (&"again".into(), &Value::Null));
    }
    assert_eq!(stranger.so_far(), Vec::<Value>::new());
}

/// Whatever JSON an application sends arrives as it was sent.
#[test]
fn payloads_arrive_unchanged() {
    let server = Server::start(&["limits.live=0"]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    berta.join("lobby");
    let nested = (0..29).fold(json!([]), |inner, _| json!([inner]));
    for payload in [
        json!(null),
        json!(true),
        json!(""),
        json!("quote \" backslash \\ slash / newline \n tab \t nul \u{0} bell \u{7} del \u{7f} line \u{2028} 😀 ü"),
        json!(0),
        json!(-1),
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.1),
        json!(-1.5e300),
        json!([1, [2, [3, {"a": {}, "": [], "ü": "\u{1F600}"}]]]),
        nested,
        json!("x".repeat(60_000)),
    ] {
        anna.send("broadcast", json!({"roomId": "lobby", "event": "data", "payload": payload}));
        let event = berta.event("broadcast");
        assert_eq!(event["payload"], payload);
    }
    // Texts that a generator of JSON would not write: the same values by other means.
    for (text, value) in [
        (r#""\u0041\u00e4\ud83d\ude00\/""#, json!("Aä😀/")),
        ("[ 1 ,\t2\n]", json!([1, 2])),
        ("1E2", json!(100.0)),
        (r#"{"a":1,"b":{"c":[]}}"#, json!({"a": 1, "b": {"c": []}})),
    ] {
        let id =
            format!(r#"{{"id":"raw","type":"broadcast","data":{{"roomId":"lobby","event":"raw","payload":{text}}}}}"#);
        anna.send_text(&id);
        assert_eq!(berta.event("broadcast")["payload"], value, "{text}");
    }
}

#[test]
fn fields_of_a_live_event_are_checked() {
    let server = Server::start(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    berta.join("lobby");
    anna.send("broadcast", json!({"roomId": "lobby", "event": "ü".repeat(64)}));
    assert_eq!(berta.event("broadcast")["event"], "ü".repeat(64));
    for (field, value) in [
        ("event", json!("ü".repeat(65))),
        ("event", json!("")),
        ("event", json!(7)),
        ("event", Value::Null),
        ("includeSelf", json!("yes")),
        ("roomId", json!(null)),
        ("roomId", json!({})),
    ] {
        let mut data = json!({"roomId": "lobby", "event": "x"});
        data[field] = value;
        assert_eq!(anna.refused("invalid_argument", "broadcast", data)["field"], field);
    }
    anna.refused("not_in_room", "broadcast", json!({"roomId": "elsewhere", "event": "x"}));
    assert_eq!(berta.heard(&mut anna, "lobby"), Vec::<Value>::new());
}

#[test]
fn live_events_are_never_stored_nor_replayed() {
    let mut server = Server::start(&[]);
    let (mut anna, mut berta) = (server.client("anna"), server.client("berta"));
    anna.join("lobby");
    let epoch = anna.say("lobby", "stored")["epoch"].clone();
    for _ in 0..5 {
        anna.send("broadcast", json!({"roomId": "lobby", "event": "passing", "payload": "not stored"}));
    }
    anna.so_far();
    let snapshot = berta.join_with(json!({"roomId": "lobby", "recover": {"epoch": epoch, "offset": 0}}));
    assert_eq!((&snapshot["recovered"], &snapshot["offset"]), (&true.into(), &1.into()));
    assert_eq!(snapshot["events"].as_array().unwrap().len(), 1);
    let history = berta.ok("get_history", json!({"roomId": "lobby"}));
    assert_eq!(history["messages"].as_array().unwrap().len(), 1);
    server.restart();
    let snapshot = server.client("berta").join("lobby");
    assert_eq!((&snapshot["offset"], snapshot["recentMessages"].as_array().unwrap().len()), (&1.into(), 1));
}

/// 50 a second, 100 at once, per connection.
#[test]
fn live_events_are_limited_per_connection() {
    let server = Server::start(&["limits.live=1"]);
    let (mut anna, mut tablet, mut berta) = (server.client("anna"), server.client("anna"), server.client("berta"));
    for client in [&mut anna, &mut tablet, &mut berta] {
        client.join("lobby");
    }
    anna.so_far();
    let event = json!({"roomId": "lobby", "event": "x"});
    let burst: Vec<_> = (0..105).map(|_| ("broadcast", event.clone())).collect();
    anna.send_together(&burst);
    let errors: Vec<Value> = anna.so_far().into_iter().filter(|message| message["type"] == "error").collect();
    // A token comes back each second: a slow run may let one more pass.
    assert!((1..=5).contains(&errors.len()), "{errors:?}");
    for error in &errors {
        assert_eq!(error["data"]["code"], "rate_limited");
        assert!((1..=1_000).contains(&error["data"]["retryAfterMs"].as_u64().unwrap()), "{error}");
    }
    for _ in 0..105 - errors.len() {
        assert_eq!(berta.event("broadcast")["event"], "x", "what was not refused arrives");
    }
    // The other device has its own, and nothing else came before.
    tablet.send("broadcast", json!({"roomId": "lobby", "event": "from the tablet"}));
    assert_eq!(berta.event("broadcast")["event"], "from the tablet");
}
