//! R-SDK-5, R-CLU-7: `migrate` opens the new connection, then closes the old.
use super::super::*;
use super::world::{World, back, message};
use serde_json::json;

const NEW: &str = "wss://other.test/ws";
const OLD_LINK: usize = 0;
const NEW_LINK: usize = 1;

fn told(url: Value) -> Value {
    json!({"type": "server_migration", "newServerUrl": url, "migrationToken": "secret", "timestamp": 0})
}

fn migrating() -> World {
    let mut world = World::new();
    world.connect();
    world.join("lobby", 3);
    world.events.clear();
    world.says("migrate", told(NEW.into()));
    assert_eq!(world.link().url, NEW);
    world
}

/// The new connection, up to its resume.
fn up_to_resume(world: &mut World) {
    world.opens();
    assert_eq!(world.last("auth").data, json!({"token": "token-1", "migrationToken": "secret"}));
    world.says("connection_established", world.established());
}

#[test]
fn the_old_connection_serves_until_the_new_one_has_resumed() {
    let mut world = migrating();
    up_to_resume(&mut world);
    assert_eq!(world.last("resume").data["rooms"], json!({"lobby": {"epoch": "E", "offset": 3}}));
    world.says_on(OLD_LINK, "chat_message", message("lobby", 4));
    let sent = world.say("lobby", "on its way");
    assert_eq!(world.of_on(OLD_LINK, "chat_message").len(), 1, "the old one serves");
    assert!(world.links[OLD_LINK].is_open);
    world.acks_last("resume", json!({"resumeToken": "r", "rooms": [back("lobby", 5, &[4, 5])]}));
    assert_eq!(world.links[OLD_LINK].closed_by, Some(Close::Frame { code: 1000, reason: "Client migrated" }));
    assert_eq!(world.offsets(), [4, 5]);
    assert_eq!(world.of_on(OLD_LINK, "chat_message"), world.of_on(NEW_LINK, "chat_message"), "repeated under its id");
    world.acks_last("chat_message", json!({"offset": 6}));
    assert_eq!(world.result(&sent), json!({"offset": 6}));
    assert!(world.states().is_empty(), "connected all the time");
    world.closes_on(OLD_LINK, 4009, "");
    assert_eq!(world.core.state(), State::Connected, "how the old one ends does not matter");
    world.pass(30_000);
    let heartbeats = [OLD_LINK, NEW_LINK].map(|link| world.of_on(link, "heartbeat").len());
    assert_eq!(heartbeats, [0, 1], "one heartbeat");
}

#[test]
fn the_old_one_may_end_before_the_new_one_is_up_with_any_code() {
    for code in [4009, 4201, 1006] {
        let mut world = migrating();
        up_to_resume(&mut world);
        world.closes_on(OLD_LINK, code, "");
        assert_eq!(world.core.state(), State::Reconnecting);
        world.pass(5000);
        assert_eq!(world.links.len(), 2, "no third connection");
        world.acks_last("resume", json!({"resumeToken": "r", "rooms": [back("lobby", 3, &[])]}));
        assert_eq!(world.states(), [State::Reconnecting, State::Connected]);
    }
}

#[test]
fn a_new_server_that_refuses_changes_nothing() {
    let mut world = migrating();
    world.closes_on(NEW_LINK, 4002, "");
    assert_eq!((world.core.state(), world.links[OLD_LINK].is_open), (State::Connected, true));
    assert!(world.states().is_empty());
    world.closes_on(OLD_LINK, 4201, "");
    world.pass(10_000);
    assert_eq!(world.link().url, "wss://throng.test/ws", "the next connection goes to the usual address");
}

#[test]
fn a_new_server_that_takes_us_for_another_user_is_left_at_once() {
    let mut world = migrating();
    world.opens();
    let mut data = world.established();
    data["userId"] = "bob".into();
    world.says("connection_established", data);
    assert_eq!(world.links[NEW_LINK].closed_by, Some(Close::Cut));
    assert_eq!((world.links[OLD_LINK].is_open, world.core.state()), (true, State::Connected));
}

#[test]
fn both_lost_the_usual_way_back() {
    let mut world = migrating();
    world.closes_on(OLD_LINK, 1006, "");
    world.closes_on(NEW_LINK, 1006, "");
    assert_eq!(world.retry_in_ms(), Some(500));
    world.pass(500);
    assert_eq!(world.open_links(), 1);
}

#[test]
fn a_new_server_that_does_not_answer_is_given_up_after_30_s() {
    let mut world = migrating();
    world.opens();
    world.pass(29_999);
    assert_eq!(world.links[NEW_LINK].closed_by, None);
    world.says_on(OLD_LINK, "broadcast", json!({}));
    world.pass(1);
    assert_eq!(world.links[NEW_LINK].closed_by, Some(Close::Cut));
    assert_eq!((world.links[OLD_LINK].is_open, world.core.state()), (true, State::Connected));
}

#[test]
fn no_second_migration_beside_the_first_and_disconnect_closes_both() {
    let mut world = migrating();
    world.says_on(OLD_LINK, "migrate", told("wss://third.test/ws".into()));
    assert_eq!(world.links.len(), 2);
    let sent = world.send("get_history", json!({"roomId": "lobby"}));
    world.disconnect();
    for link in [OLD_LINK, NEW_LINK] {
        assert!(matches!(world.links[link].closed_by, Some(Close::Frame { code: 1000, .. })));
    }
    assert_eq!((world.core.deadline(), world.failure(&sent)), (None, "disconnected"));
}

#[test]
fn no_way_from_wss_to_ws() {
    let mut world = World::new();
    world.connect();
    for url in [json!("ws://other.test/ws"), json!("https://other.test/"), json!(7), Value::Null] {
        world.says("migrate", told(url));
    }
    assert_eq!((world.links.len(), world.errors()), (1, vec!["invalid_format", "invalid_format"]));
}

/// The new connection resumed, was lost before the answer, and the server closes the old one for it.
#[test]
fn a_new_connection_that_is_lost_behind_its_resume_does_not_end_the_session() {
    let mut world = migrating();
    up_to_resume(&mut world);
    world.closes_on(NEW_LINK, 1006, "");
    assert_eq!(world.core.state(), State::Connected);
    world.closes_on(OLD_LINK, 4009, "Session resumed elsewhere");
    assert_eq!((world.stops(), world.core.state()), (vec![], State::Reconnecting));
    world.come_back(json!([back("lobby", 3, &[])]));
    world.closes(4009);
    assert_eq!(world.core.state(), State::Disconnected, "the next time it is somebody else");
}
