//! R-SDK-5, R-REC-1, R-REC-2: positions, resume, doubled offsets, gaps, `recovered`.
use super::super::*;
use super::world::{World, back, message, missed, missed as missed_of, state};
use serde_json::json;

/// In room lobby at offset 3.
fn in_lobby() -> World {
    let mut world = World::new();
    world.connect();
    world.join("lobby", 3);
    world
}

#[test]
fn a_join_waits_for_the_connection_and_messages_wait_for_the_join() {
    let mut world = World::new();
    let joined = world.send("join_room", json!({"roomId": "lobby", "roomType": "public"}));
    world.say("lobby", "1");
    world.connect();
    assert_eq!(world.last("join_room").data, json!({"roomId": "lobby", "roomType": "public"}));
    assert!(world.of("chat_message").is_empty());
    world.acks_last("join_room", json!({"role": "member"}));
    assert_eq!(world.result(&joined), json!({"role": "member"}));
    assert_eq!(world.of("chat_message").len(), 1);
}

#[test]
fn a_refused_join_fails_a_retryable_one_is_tried_again() {
    let mut world = World::new();
    world.connect();
    let joined = world.send("join_room", json!({"roomId": "secret"}));
    let sent = world.say("secret", "1");
    world.refuses_last("join_room", "overloaded", Some(700));
    world.pass(699);
    assert_eq!(world.of("join_room").len(), 1);
    world.pass(1);
    assert_eq!(world.of("join_room").len(), 2);
    world.refuses_last("join_room", "access_denied", None);
    assert_eq!(world.failure(&joined), "access_denied");
    world.refuses_last("chat_message", "not_in_room", None);
    assert_eq!(world.failure(&sent), "not_in_room", "what waited for the room learns why not");
    world.closes(1006);
    world.come_back(json!([]));
    assert_eq!(world.kinds(), ["auth", "resume"], "and it is not joined again");
}

#[test]
fn a_join_that_waits_300_s_fails_and_the_room_is_not_joined_later_by_surprise() {
    let mut world = World::new();
    let joined = world.send("join_room", json!({"roomId": "lobby"}));
    world.pass(300_000);
    assert_eq!(world.failure(&joined), "timeout");
    world.connect();
    assert!(world.of("join_room").is_empty());
}

#[test]
fn each_durable_event_is_applied_once_in_order() {
    let mut world = in_lobby();
    for offset in [4, 4, 3, 5, 1, 6] {
        world.says("chat_message", message("lobby", offset));
    }
    world.says("chat_message", message("elsewhere", 4));
    world.says("broadcast", json!({"roomId": "lobby", "event": "live"}));
    assert_eq!(world.offsets(), [4, 5, 6, 4], "rooms that were not joined here are not judged");
    assert!(matches!(world.events.last(), Some(Event::Broadcast(live)) if live.event == "live"));
}

#[test]
fn after_a_lost_connection_the_session_is_resumed_with_all_positions() {
    let mut world = in_lobby();
    world.join("second", 9);
    world.says("chat_message", message("lobby", 4));
    world.closes(1006);
    world.pass(1000);
    world.sign_in();
    let rooms = json!({"lobby": {"epoch": "E", "offset": 4}, "second": {"epoch": "E", "offset": 9}});
    let resume = json!({"sessionId": "sess_1", "resumeToken": "resume_1", "rooms": rooms});
    assert_eq!(world.last("resume").data, resume);
    assert_eq!(world.core.state(), State::Reconnecting, "not connected before the rooms are back");
    world.events.clear();
    let rooms = [back("lobby", 6, &[4, 5, 6]), back("second", 9, &[])];
    world.acks_last("resume", json!({"connectionId": "conn_2", "resumeToken": "resume_1b", "rooms": rooms}));
    assert_eq!(world.core.state(), State::Connected);
    let told: Vec<&str> = world.pick(|event| {
        Some(match event {
            Event::State(_) => "state",
            Event::Recovered { .. } => "recovered",
            Event::ChatMessage(_) => "message",
            _ => "other",
        })
    });
    assert_eq!(told, ["state", "recovered", "message", "message", "recovered"]);
    world.says("chat_message", message("lobby", 7));
    assert_eq!(world.offsets(), [5, 6, 7]);
    assert!(world.of("join_room").is_empty());
    world.closes(1006);
    world.come_back(json!([]));
    let again = world.last("resume").data;
    assert_eq!(
        (&again["sessionId"], &again["resumeToken"]),
        (&json!("sess_1"), &json!("resume_1b")),
        "it keeps its id"
    );
}

#[test]
fn not_recovered_a_plain_join_brings_a_snapshot_and_is_reported_once() {
    let mut world = in_lobby();
    world.closes(1006);
    world.come_back(json!([{"roomId": "lobby", "recovered": false, "epoch": "E", "offset": 900, "events": []}]));
    assert_eq!(world.recovered(), [("lobby", false)]);
    assert_eq!(world.last("join_room").data, json!({"roomId": "lobby"}));
    world.says("chat_message", message("lobby", 901)); // subscribed already: the snapshot will hold it
    world.say("lobby", "1");
    assert!(world.of("chat_message").is_empty());
    world.acks_last("join_room", json!({"role": null}));
    world.says("room_state", state("lobby", 901, json!({"recentMessages": [message("lobby", 901)]})));
    world.says("chat_message", message("lobby", 902));
    assert_eq!(world.offsets(), [902]);
    assert_eq!((world.recovered().len(), world.of("chat_message").len()), (1, 1));
}

#[test]
fn not_subscribed_any_more_the_join_tells_why_and_the_room_is_lost() {
    let mut world = in_lobby();
    world.closes(1006);
    world.come_back(json!([{"roomId": "lobby", "recovered": false, "epoch": null, "offset": null, "events": []}]));
    world.refuses_last("join_room", "access_denied", None);
    let lost: Vec<(&str, &str)> = world.pick(|event| match event {
        Event::RoomLost { room_id, error } => Some((room_id.as_str(), error.code())),
        _ => None,
    });
    assert_eq!(lost, [("lobby", "access_denied")]);
    world.closes(1006);
    world.come_back(json!([]));
    assert_eq!(world.last("resume").data["rooms"], json!({}));
}

#[test]
fn a_refused_resume_the_rooms_are_joined_with_their_positions_under_the_new_session() {
    let mut world = in_lobby();
    world.closes(1006);
    world.pass(1000);
    world.sign_in();
    world.refuses_last("resume", "not_found", None);
    assert_eq!(world.core.state(), State::Connected);
    assert_eq!(world.last("join_room").data, json!({"roomId": "lobby", "recover": {"epoch": "E", "offset": 3}}));
    world.acks_last("join_room", json!({"role": null}));
    let mut recovered = state("lobby", 4, json!({"recovered": true, "events": missed("lobby", &[3, 4])}));
    recovered.as_object_mut().unwrap().remove("recentMessages");
    world.says("room_state", recovered);
    assert_eq!((world.offsets(), world.recovered()), (vec![4], vec![("lobby", true)]));
    let snapshots =
        world.pick(|event| if let Event::RoomState(state) = event { Some(&state.recent_messages) } else { None });
    assert_eq!(*snapshots.last().unwrap(), &None, "what is shown stays");
    world.closes(1006);
    world.come_back(json!([]));
    let resumed = world.last("resume").data;
    assert_eq!(resumed["sessionId"], "sess_2");
    assert_eq!(resumed["rooms"], json!({"lobby": {"epoch": "E", "offset": 4}}));
}

#[test]
fn a_gap_nothing_is_applied_behind_it_before_what_was_missed() {
    let mut world = in_lobby();
    world.says("chat_message", message("lobby", 6));
    world.says("chat_message", message("lobby", 7));
    let joins = world.of("join_room");
    assert_eq!(joins.len(), 2);
    assert_eq!(joins[1].data, json!({"roomId": "lobby", "recover": {"epoch": "E", "offset": 3}}));
    world.acks_last("join_room", json!({"role": null}));
    world.says("chat_message", message("lobby", 8));
    world
        .says("room_state", state("lobby", 8, json!({"recovered": true, "events": missed("lobby", &[4, 5, 6, 7, 8])})));
    world.says("chat_message", message("lobby", 9));
    assert_eq!(world.offsets(), [4, 5, 6, 7, 8, 9]);
    assert_eq!((world.recovered(), world.of("join_room").len()), (vec![("lobby", true)], 2));
}

#[test]
fn another_epoch_is_a_gap_the_snapshot_replaces_everything() {
    let mut world = in_lobby();
    let of_epoch = |offset| {
        let mut data = message("lobby", offset);
        data["epoch"] = "F".into();
        data
    };
    world.says("chat_message", of_epoch(2));
    world.acks_last("join_room", json!({"role": null}));
    world.says("room_state", state("lobby", 2, json!({"epoch": "F", "recovered": false})));
    world.says("chat_message", of_epoch(3));
    assert_eq!((world.recovered(), world.offsets()), (vec![("lobby", false)], vec![3]));
}

#[test]
fn a_connection_lost_during_the_recovery_loses_nothing_of_it() {
    let mut world = in_lobby();
    world.closes(1006);
    world.pass(1000);
    world.sign_in();
    world.closes(1006); // the resume is out, its answer is not
    world.come_back(json!([{"roomId": "lobby", "recovered": false, "epoch": "E", "offset": 500, "events": []}]));
    world.acks_last("join_room", json!({"role": null}));
    world.closes(1006); // the snapshot did not come
    world.come_back(json!([]));
    assert_eq!(world.last("resume").data["rooms"], json!({}), "without a position there is nothing to resume");
    assert_eq!(world.last("join_room").data, json!({"roomId": "lobby"}));
}

#[test]
fn leaving_the_room_does_not_come_back() {
    let mut world = in_lobby();
    world.join("second", 0);
    let left = world.send("leave_room", json!({"roomId": "lobby"}));
    world.acks_last("leave_room", json!({}));
    assert_eq!(world.result(&left), json!({}));
    let last = world.send("leave_room", json!({"roomId": "second"}));
    world.closes(1006);
    assert_eq!(world.result(&last), json!({}), "the subscription is gone with the connection");
    let offline = world.send("leave_room", json!({"roomId": "third"}));
    assert_eq!(world.result(&offline), json!({}), "and without one nothing is to be sent");
    let forever = world.send("leave_room", json!({"roomId": "third", "permanent": true}));
    assert_eq!(world.failure(&forever), "not_connected");
    world.come_back(json!([]));
    assert_eq!(world.last("resume").data["rooms"], json!({}));
}

#[test]
fn left_while_the_resume_was_under_way_the_server_is_told() {
    let mut world = in_lobby();
    world.closes(1006);
    world.pass(1000);
    world.sign_in();
    world.send("leave_room", json!({"roomId": "lobby"}));
    world.acks_last("resume", json!({"resumeToken": "r", "rooms": [back("lobby", 3, &[])]}));
    assert_eq!(world.last("leave_room").data, json!({"roomId": "lobby"}));
}

#[test]
fn a_closed_room_is_not_joined_again() {
    let mut world = in_lobby();
    world.says("room_closed", json!({"roomId": "lobby", "reason": "removed"}));
    assert!(matches!(world.events.last(), Some(Event::RoomClosed(closed)) if closed.reason == "removed"));
    world.closes(1006);
    world.come_back(json!([]));
    assert_eq!(world.last("resume").data["rooms"], json!({}));
}

#[test]
fn a_resume_names_at_most_128_rooms_the_others_are_joined() {
    let mut world = World::new();
    world.connect();
    for n in 0..130 {
        world.join(&format!("room-{n}"), 1);
    }
    world.closes(1006);
    world.pass(1000);
    world.sign_in();
    let rooms = world.last("resume").data["rooms"].as_object().unwrap().clone();
    assert_eq!(rooms.len(), 128);
    let rooms: Vec<Value> = rooms.keys().map(|room| back(room, 1, &[])).collect();
    world.acks_last("resume", json!({"resumeToken": "r", "rooms": rooms}));
    let joined: Vec<Value> = world.of("join_room").into_iter().map(|sent| sent.data["roomId"].clone()).collect();
    assert_eq!(joined, ["room-128", "room-129"]);
}

#[test]
fn after_disconnect_the_same_user_goes_on_a_forgotten_or_another_one_begins_anew() {
    for (user, is_forgotten, is_resumed) in [("anna", false, true), ("anna", true, false), ("bob", false, false)] {
        let mut world = in_lobby();
        world.core.disconnect(is_forgotten, world.now);
        world.run();
        world.begin_as(user, false, Vec::new());
        world.sign_in_with(json!({ "userId": user }));
        assert_eq!(world.of("resume").len(), usize::from(is_resumed), "{user} {is_forgotten}");
        assert!(world.of("join_room").is_empty());
    }
}

#[test]
fn an_application_that_kept_its_messages_gives_its_own_position() {
    let mut world = World::new();
    world.connect();
    let data = json!({"roomId": "lobby", "recover": {"epoch": "E", "offset": 7}});
    world.send("join_room", data.clone());
    assert_eq!(world.last("join_room").data, data);
}

#[test]
fn recoveries_that_keep_failing_ask_for_less() {
    let mut world = in_lobby();
    world.join("second", 9);
    world.closes(1006);
    let mut asked = Vec::new();
    for n in 0..5 {
        world.sign_in_again();
        asked.push(world.last("resume").data["rooms"].as_object().unwrap().len());
        if n < 2 {
            world.closes(4101);
            continue;
        }
        world.acks_last("resume", json!({"resumeToken": "r", "rooms": []}));
        let joins = world.of("join_room");
        assert_eq!((joins.len(), &joins[0].data["roomId"]), (1, &json!("lobby")), "one at a time");
        assert_eq!(joins[0].data.get("recover").is_some(), n < 4);
        world.acks_last("join_room", json!({"role": null}));
        if n < 4 {
            world.closes(4101);
        }
    }
    assert_eq!(asked, [2, 2, 0, 0, 0]);
    world.says("room_state", state("lobby", 700, json!({})));
    assert_eq!(world.last("join_room").data, json!({"roomId": "second"}));
    world.acks_last("join_room", json!({"role": null}));
    world.says("room_state", state("second", 700, json!({})));
    assert_eq!(world.recovered(), [("lobby", false), ("second", false)]);
    world.closes(1006);
    world.come_back(json!([]));
    assert_eq!(world.last("resume").data["rooms"].as_object().unwrap().len(), 2, "all is well again");
}

#[test]
fn who_takes_no_events_is_spared_what_is_live_and_gets_what_is_durable_later() {
    let mut world = in_lobby();
    world.join("second", 0);
    world.events.clear();
    world.core.handle_backlog(true, world.now);
    for offset in [4, 5] {
        world.says("chat_message", message("lobby", offset));
        world.says("broadcast", json!({"roomId": "lobby"}));
    }
    let sent = world.say("second", "answers do not wait");
    world.acks_last("chat_message", json!({"offset": 1}));
    assert!(world.settled[&sent].is_ok());
    assert!(world.events.is_empty(), "{:?}", world.events);
    assert_eq!(world.of("join_room").len(), 2, "what was missed is not fetched yet");

    // Nor over a lost connection.
    world.closes(1006);
    world.come_back(json!([back("lobby", 6, &[4, 5, 6]), back("second", 1, &[1])]));
    assert_eq!((world.offsets(), world.of("join_room").len()), (vec![], 0));

    world.core.handle_backlog(false, world.now);
    world.run();
    let missed = world.pick(|event| if let Event::Missed { count } = event { Some(*count) } else { None });
    assert_eq!(missed, [3], "two live ones and a settled command");
    let joins = world.of("join_room");
    assert_eq!(joins[0].data, json!({"roomId": "lobby", "recover": {"epoch": "E", "offset": 3}}));
    for (join, room, offsets) in [(&joins[0], "lobby", &[4u64, 5, 6][..]), (&joins[1], "second", &[1])] {
        world.acks(join, json!({"role": null}));
        let last = *offsets.last().unwrap();
        world.says("room_state", state(room, last, json!({"recovered": true, "events": missed_of(room, offsets)})));
    }
    world.says("chat_message", message("lobby", 7));
    assert_eq!(world.offsets(), [4, 5, 6, 1, 7]);
    assert_eq!(world.recovered(), [("lobby", true), ("second", true)]);
}
