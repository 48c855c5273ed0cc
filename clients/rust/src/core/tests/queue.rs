//! R-SDK-4: durable commands wait, go in order under their first ids, and are repeated until answered.
use super::super::*;
use super::world::{BEGIN_MS, Sent, World, message, state};
use serde_json::json;

fn texts(sent: Vec<Sent>) -> Vec<Value> {
    sent.into_iter().map(|sent| sent.data["message"].clone()).collect()
}

fn waiting(world: &World) -> usize {
    world.core.pending().count()
}

#[test]
fn what_is_sent_before_connecting_goes_out_in_order_after_it_under_its_own_ids() {
    let mut world = World::new();
    world.send_as("own-1", "chat_message", json!({"roomId": "lobby", "message": "1"}));
    let second = world.send("send_message", json!({"roomId": "lobby", "message": "2"}));
    world.connect();
    assert_eq!((texts(world.of("chat_message")), world.last("chat_message").id.as_str()), (vec![json!("1")], "own-1"));
    assert!(world.of("send_message").is_empty(), "one at a time per room keeps the order, whatever is refused");
    world.acks_last("chat_message", json!({"offset": 1}));
    world.acks_last("send_message", json!({"offset": 2}));
    assert_eq!((world.result("own-1"), world.result(&second)), (json!({"offset": 1}), json!({"offset": 2})));
    assert_eq!(waiting(&world), 0);
}

#[test]
fn rooms_do_not_wait_for_each_other() {
    let mut world = World::new();
    world.connect();
    for room in ["a", "b", "a"] {
        world.say(room, "x");
    }
    let rooms: Vec<Value> = world.of("chat_message").into_iter().map(|sent| sent.data["roomId"].clone()).collect();
    assert_eq!(rooms, ["a", "b"]);
}

#[test]
fn an_unanswered_message_is_repeated_on_the_next_connection_as_it_was() {
    let mut world = World::new();
    world.connect();
    let sent = world.send("chat_message", json!({"roomId": "lobby", "message": "1", "metadata": {"n": 1}}));
    let before = world.last("chat_message");
    world.closes(1006);
    world.come_back(json!([]));
    assert_eq!(world.last("chat_message"), before);
    world.acks_last("chat_message", json!({"offset": 1, "duplicate": true}));
    assert_eq!(world.result(&sent), json!({"offset": 1, "duplicate": true}));
}

#[test]
fn the_message_itself_settles_it_if_the_ack_was_lost() {
    let mut world = World::new();
    world.connect();
    world.join("lobby", 0);
    let sent = world.say("lobby", "1");
    let next = world.say("lobby", "2");
    world.closes(1006);
    let mut own = message("lobby", 1);
    (own["userId"], own["clientId"], own["timestamp"]) = (json!("anna"), json!(sent), json!(5));
    let mut other = message("lobby", 2);
    other["clientId"] = json!(next);
    let events = json!([{"type": "chat_message", "data": own}, {"type": "chat_message", "data": other}]);
    world.come_back(json!([{"roomId": "lobby", "recovered": true, "epoch": "E", "offset": 2, "events": events}]));
    let result = json!({"messageId": "msg_1", "offset": 1, "epoch": "E", "timestamp": 5, "duplicate": true});
    assert_eq!(world.result(&sent), result);
    assert_eq!(texts(world.of("chat_message")), ["2"], "of another user's message nothing is concluded");
}

#[test]
fn so_does_a_snapshot_that_has_it_and_the_next_one_goes() {
    let mut world = World::new();
    world.connect();
    world.join("lobby", 0);
    let sent = world.say("lobby", "1");
    world.say("lobby", "2");
    world.says("chat_message", message("lobby", 9)); // a gap
    let mut own = message("lobby", 5);
    (own["userId"], own["clientId"]) = (json!("anna"), json!(sent));
    world.acks_last("join_room", json!({"role": null}));
    world.says("room_state", state("lobby", 9, json!({"recovered": false, "recentMessages": [own]})));
    assert_eq!(world.result(&sent)["offset"], 5);
    assert_eq!(texts(world.of("chat_message")), ["1", "2"]);
}

#[test]
fn a_retryable_refusal_is_tried_again_after_its_time_and_nothing_of_the_room_overtakes_it() {
    let mut world = World::new();
    world.connect();
    let first = world.say("lobby", "1");
    world.say("lobby", "2");
    world.refuses_last("chat_message", "rate_limited", Some(5000));
    let delayed: Vec<(&str, &str, u128)> = world.pick(|event| match event {
        Event::Delayed { id, error, retry_in } => Some((id.as_str(), error.code(), retry_in.as_millis())),
        _ => None,
    });
    assert_eq!(delayed, [(first.as_str(), "rate_limited", 5000)]);
    world.pass(4999);
    assert_eq!(texts(world.of("chat_message")), ["1"]);
    world.pass(1);
    assert_eq!((texts(world.of("chat_message")), world.last("chat_message").id), (vec![json!("1"); 2], first.clone()));
    world.acks_last("chat_message", json!({"offset": 1}));
    assert!(world.settled[&first].is_ok());
    assert_eq!(texts(world.of("chat_message")), ["1", "1", "2"]);
}

#[test]
fn any_other_refusal_fails_with_the_servers_code_and_the_next_goes_on() {
    let mut world = World::new();
    world.connect();
    let first = world.say("lobby", " ");
    world.say("lobby", "2");
    let id = world.last("chat_message").id;
    let refusal =
        json!({"code": "invalid_argument", "message": "Invalid field", "retryable": false, "field": "message"});
    let mut data = refusal;
    data["requestId"] = id.into();
    world.says("error", data);
    let error = world.settled[&first].clone().unwrap_err();
    assert_eq!((error.code(), error.field(), error.is_retryable()), ("invalid_argument", Some("message"), false));
    assert!(error.to_string().contains("Invalid field (invalid_argument, field message)"), "{error}");
    assert_eq!(texts(world.of("chat_message")), [" ", "2"]);
}

#[test]
fn the_queue_is_bounded_one_more_is_refused() {
    let mut world = World::with(|settings| settings.queue_max = 2);
    for text in ["1", "2"] {
        world.say("lobby", text);
    }
    let third = world.say("lobby", "3");
    assert_eq!((world.failure(&third), waiting(&world)), ("queue_full", 2));
    let mut standard = World::new();
    for n in 0..1000 {
        standard.say("lobby", &n.to_string());
    }
    assert_eq!(waiting(&standard), 1000);
    let over = standard.say("lobby", "1000");
    assert_eq!(standard.failure(&over), "queue_full");
}

#[test]
fn requests_and_unsent_live_commands_are_bounded_too() {
    let mut world = World::with(|settings| settings.queue_max = 2);
    world.connect();
    let requests: Vec<String> = (0..3).map(|_| world.send("get_history", json!({"roomId": "lobby"}))).collect();
    assert_eq!([0, 1, 2].map(|n| world.failure(&requests[n])), ["", "", "queue_full"]);
    world.core.handle_unsent(2);
    let live = world.send("typing_start", json!({"roomId": "lobby"}));
    assert_eq!(world.failure(&live), "queue_full");
    world.core.handle_unsent(1);
    let live = world.send("typing_start", json!({"roomId": "lobby"}));
    assert_eq!(world.result(&live), Value::Null);
}

#[test]
fn commands_of_300_s_time_out_with_or_without_a_connection() {
    let mut world = World::new();
    let early = world.say("lobby", "1");
    world.pass(100_000);
    let late = world.say("lobby", "2");
    world.pass(199_999);
    assert_eq!(world.failure(&early), "");
    world.pass(1);
    assert_eq!((world.failure(&early), waiting(&world)), ("timeout", 1));
    world.pass(100_000);
    assert_eq!((world.failure(&late), world.core.deadline()), ("timeout", None));
}

#[test]
fn who_was_on_the_wire_is_not_repeated_when_the_server_may_soon_forget_its_id() {
    let mut world = World::new();
    world.connect();
    let sent = world.say("lobby", "1");
    for _ in 0..269 {
        world.pass(1000);
        world.says("broadcast", json!({})); // the link lives, the answer does not come
    }
    world.closes(1006);
    world.roll(1.0);
    world.come_back(json!([]));
    assert!(world.now.unix_ms - BEGIN_MS >= 270_000);
    assert!(world.of("chat_message").is_empty());
    world.pass(60_000);
    assert_eq!(world.failure(&sent), "timeout");
}

#[test]
fn a_machine_that_slept_does_not_repeat_what_the_server_has_forgotten() {
    let mut world = World::new();
    world.connect();
    let sent = world.say("lobby", "1");
    // Asleep for an hour: the monotonic clock stood still.
    world.now.unix_ms += 3_600_000;
    world.closes(1006);
    world.come_back(json!([]));
    assert_eq!((world.failure(&sent), world.of("chat_message").len()), ("timeout", 0));
}

#[test]
fn a_clock_that_is_set_back_makes_no_command_young_again() {
    let mut world = World::new();
    world.connect();
    let sent = world.say("lobby", "1");
    world.now.unix_ms -= 3_600_000;
    for _ in 0..300 {
        world.pass(1000);
        world.says("broadcast", json!({}));
    }
    assert_eq!(world.failure(&sent), "timeout");
}

#[test]
fn live_commands_never_queue_requests_fail_with_the_connection() {
    let mut world = World::new();
    for kind in ["broadcast", "typing_start", "typing_stop", "activity", "get_history"] {
        let sent = world.send(kind, json!({"roomId": "lobby"}));
        assert_eq!(world.failure(&sent), "not_connected", "{kind}");
    }
    world.connect();
    assert_eq!(world.kinds(), ["auth"]);
    let typing = world.send("typing_start", json!({"roomId": "lobby"}));
    assert_eq!(world.result(&typing), Value::Null, "done when written");
    world.refuses_last("typing_start", "not_in_room", None);
    assert_eq!(world.errors(), ["not_in_room"]);
    let asked = world.send("get_history", json!({"roomId": "lobby"}));
    world.closes(1006);
    assert_eq!(world.failure(&asked), "connection_lost");
    world.come_back(json!([]));
    assert_eq!(world.kinds(), ["auth", "resume"]);
}

#[test]
fn server_closing_durable_commands_wait_for_the_next_connection() {
    let mut world = World::new();
    world.connect();
    world.says("server_closing", json!({"retryMinMs": 0, "retryMaxMs": 0}));
    world.say("lobby", "1");
    assert!(world.of("chat_message").is_empty());
    world.closes(4200);
    world.come_back(json!([]));
    assert_eq!(texts(world.of("chat_message")), ["1"]);
}

#[test]
fn disconnect_fails_what_waits() {
    let mut world = World::new();
    world.connect();
    let waiting = [
        world.say("lobby", "1"),
        world.send("join_room", json!({"roomId": "lobby"})),
        world.send("get_history", json!({"roomId": "lobby"})),
    ];
    world.disconnect();
    for id in &waiting {
        assert_eq!(world.failure(id), "disconnected");
    }
    world.connect();
    world.acks_last("resume", json!({"rooms": []}));
    assert_eq!(world.kinds(), ["auth", "resume"], "nothing of it comes later");
}

#[test]
fn what_can_never_be_sent_is_refused_at_once() {
    let mut world = World::new();
    for data in [json!([1]), json!("text"), json!(7)] {
        let sent = world.send("chat_message", data);
        assert_eq!(world.failure(&sent), "invalid_argument");
    }
    for (id, kind) in [("a", "auth"), ("b", "resume"), ("c", ""), ("", "activity"), (&"x".repeat(65), "activity")] {
        world.send_as(id, kind, json!({}));
        assert_eq!(world.failure(id), "invalid_argument", "{id} {kind}");
    }
    let empty =
        super::super::envelope::encode("x", "chat_message", r#"{"message":"","roomId":"lobby"}"#, BEGIN_MS).len();
    let room = MESSAGE_BYTES_MAX - empty;
    let mut fits = "ä".repeat(room / 2);
    fits.push_str(&"a".repeat(room % 2));
    world.send_as("x", "chat_message", json!({"roomId": "lobby", "message": fits}));
    assert_eq!(waiting(&world), 1, "as much as the server takes");
    world.send_as("y", "chat_message", json!({"roomId": "lobby", "message": fits + "a"}));
    assert_eq!(world.failure("y"), "message_too_long", "one more would end the connection with 1009");
    assert!(world.core.is_used("x") && !world.core.is_used("y"));
}

#[test]
fn storage_the_queue_outlives_the_process_in_order_and_with_its_ids() {
    let mut world = World::new();
    let zero = world.say("lobby", "0");
    assert!(world.stored.is_empty(), "whose it is, is not known yet");
    world.connect();
    for text in ["1", "2"] {
        world.say("lobby", text);
    }
    let ids: Vec<String> = world.core.pending().map(|command| command.id.clone()).collect();
    assert_eq!((ids.len(), world.stored.len()), (3, 3));
    world.acks_last("chat_message", json!({"offset": 1}));
    assert!(world.settled.contains_key(&zero));
    let left: Vec<StoredCommand> = world.stored.values().rev().cloned().collect();
    assert_eq!(left.len(), 2, "what is acknowledged is not kept");

    let mut next = World::new();
    next.now = Now { mono_ms: 5, unix_ms: world.now.unix_ms + 1000 };
    next.send_as("own", "chat_message", json!({"roomId": "lobby", "message": "3"}));
    next.begin_as("anna", false, left);
    next.sign_in();
    assert!(next.of("chat_message").is_empty(), "this process is not in the room yet");
    next.join("lobby", 1);
    for (n, id) in ids[1..].iter().enumerate() {
        assert_eq!(&next.last("chat_message").id, id);
        next.acks_last("chat_message", json!({"offset": n + 2}));
    }
    assert_eq!(texts(next.of("chat_message")), ["1", "2", "3"], "what this process has goes behind it");
    let settled: Vec<&str> = next.pick(|event| match event {
        Event::Settled { id, result: Ok(_), .. } => Some(id.as_str()),
        _ => None,
    });
    assert_eq!(settled, ids[1..]);
}

#[test]
fn storage_what_is_too_old_by_then_fails() {
    let command = |id: &str, since_ms| StoredCommand {
        id: id.to_owned(),
        kind: "chat_message".to_owned(),
        data: r#"{"roomId":"lobby","message":"1"}"#.to_owned(),
        since_ms,
        order: 1,
    };
    let mut world = World::new();
    let stored =
        [("old", 300_000), ("nearly", 270_000), ("young", 269_999)].map(|(id, age)| command(id, BEGIN_MS - age));
    world.begin_as("anna", false, stored.into_iter().chain([command("of the future", BEGIN_MS + 1)]).collect());
    world.sign_in();
    world.join("lobby", 0);
    assert_eq!((world.failure("old"), world.failure("of the future")), ("timeout", "timeout"));
    assert!(world.of("chat_message").is_empty(), "who may be forgotten soon is waited for, and nothing overtakes it");
    world.pass(30_000);
    assert_eq!(world.failure("nearly"), "timeout");
    world.pass(1);
    assert_eq!(world.failure("young"), "timeout", "too old by now");
    assert_eq!((world.of("chat_message").len(), world.stored.len()), (0, 0));
}
