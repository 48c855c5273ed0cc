//! R-SDK-1 to R-SDK-3: states, close codes, back-off, heartbeat.
use super::super::*;
use super::world::World;
use serde_json::json;

const BYE: Close = Close::Frame { code: 1000, reason: "Client disconnecting" };

#[test]
fn states_go_from_disconnected_over_connecting_to_connected() {
    let mut world = World::new();
    assert_eq!(world.core.state(), State::Disconnected);
    world.begin();
    assert_eq!((world.core.state(), world.link().url.as_str()), (State::Connecting, "wss://throng.test/ws"));
    world.opens();
    assert_eq!(world.last("auth").data, json!({"token": "token-1"}));
    world.acks_last("auth", json!({}));
    assert_eq!(world.core.state(), State::Connecting, "not before the server says so");
    assert!(world.connected.is_empty());
    world.says("connection_established", world.established());
    assert_eq!(world.states(), [State::Connecting, State::Connected]);
    assert!(matches!(world.connected[..], [Ok(())]));
}

#[test]
fn connect_does_nothing_while_it_is_connecting_connected_or_reconnecting() {
    let mut world = World::new();
    world.begin();
    world.begin_as("bob", false, Vec::new());
    world.sign_in();
    world.begin_as("bob", false, Vec::new());
    assert_eq!(world.links.len(), 1);
    world.closes(1006);
    world.begin_as("bob", false, Vec::new());
    assert_eq!((world.links.len(), world.waits()), (1, vec![500]), "the retry keeps its time");
}

#[test]
fn disconnect_closes_with_1000_and_leaves_no_timer_whatever_the_state() {
    for moment in ["token", "opening", "signing in", "connected", "waiting"] {
        let mut world = World::new();
        if moment == "token" {
            world.provide(|_| None);
        }
        world.begin_as("anna", moment == "token", Vec::new());
        match moment {
            "signing in" => world.opens(),
            "connected" | "waiting" => world.sign_in(),
            _ => {}
        }
        if moment == "waiting" {
            world.closes(1006);
        }
        world.disconnect();
        assert_eq!((world.core.state(), world.core.deadline()), (State::Disconnected, None), "{moment}");
        if !["token", "waiting"].contains(&moment) {
            assert_eq!(world.link().closed_by, Some(BYE), "{moment}");
        }
        let last = world.connected.last().expect("an answer");
        assert!(matches!(last, Err(Error::Disconnected)), "{moment}");
        world.pass(100_000);
        assert_eq!(world.links.len(), usize::from(moment != "token"), "nothing comes back by itself");
    }
}

#[test]
fn a_code_that_says_stop_stops() {
    let mut world = World::new();
    world.connect();
    world.closes_on(0, 4006, "You are banned");
    assert_eq!(world.core.state(), State::Disconnected);
    assert_eq!(world.stops(), [(4006, "You are banned", false)]);
    world.pass(1_000_000);
    assert_eq!((world.links.len(), world.core.deadline()), (1, None));
    world.connect();
    assert_eq!(world.links.len(), 2, "but the application may connect again");
}

#[test]
fn retry_n_waits_with_full_jitter() {
    let mut world = World::new();
    world.connect();
    world.roll(0.75);
    for longest in [1000u64, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
        world.closes(1006);
        let wait = longest * 3 / 4;
        assert_eq!((world.core.state(), world.retry_in_ms()), (State::Reconnecting, Some(wait.into())));
        assert_eq!(world.waits(), [wait], "one timer");
        let count = world.links.len();
        world.pass(wait - 1);
        assert_eq!(world.links.len(), count);
        world.pass(1);
        assert_eq!((world.links.len(), world.open_links()), (count + 1, 1), "one link");
    }
}

#[test]
fn the_back_off_begins_anew_after_10_s_connected_not_before() {
    let mut world = World::new();
    world.roll(0.99);
    world.connect();
    for (stays, wait) in [(0, 990), (9999, 1980), (10_000, 990)] {
        world.pass(stays);
        world.closes(1006);
        assert_eq!(world.retry_in_ms(), Some(wait), "after {stays} ms");
        world.come_back(json!([]));
    }
}

#[test]
fn max_reconnect_attempts_ends_it_once() {
    let mut world = World::with(|settings| settings.max_reconnect_attempts = Some(3));
    world.begin();
    for _ in 0..4 {
        assert!(world.stops().is_empty());
        world.closes(1006);
        world.pass(10_000);
    }
    let ends =
        world.pick(|event| if let Event::MaxReconnectAttempts { attempts } = event { Some(*attempts) } else { None });
    assert_eq!((ends, world.links.len(), world.core.deadline()), (vec![3], 4, None));
    assert_eq!(world.core.state(), State::Disconnected);
    assert!(matches!(world.connected[..], [Err(Error::Stopped { code: 1006, .. })]));
}

#[test]
fn server_closing_waits_a_random_time_in_the_range_whatever_close_follows() {
    for code in [4200, 4201, 1006] {
        let mut world = World::new();
        world.connect();
        world.says("server_closing", json!({"retryMinMs": 2000, "retryMaxMs": 6000}));
        world.roll(0.25);
        world.closes(code);
        assert_eq!(world.waits(), [3000]);
        world.pass(3000);
        world.closes(1006);
        assert_eq!(world.waits(), [500], "the range counts once; then the back-off");
    }
    let mut untold = World::new();
    untold.connect();
    untold.closes(4200);
    assert_eq!(untold.waits(), [5000], "without a range: 0 to 10 s");
    for range in [json!({"retryMinMs": 7000, "retryMaxMs": "soon"}), json!({"retryMinMs": 7000, "retryMaxMs": 5})] {
        let mut odd = World::new();
        odd.connect();
        odd.says("server_closing", range);
        odd.closes(4200);
        assert!(odd.waits()[0] >= 7000);
    }
}

#[test]
fn no_frame_within_10_s_after_a_heartbeat_drops_the_link() {
    let mut world = World::new();
    world.connect();
    world.pass(29_999);
    assert!(world.of("heartbeat").is_empty());
    world.pass(1);
    assert_eq!(world.last("heartbeat").data, json!({"timestamp": world.now.unix_ms}));
    world.pass(9999);
    world.says("broadcast", json!({"roomId": "lobby"})); // any frame will do
    world.pass(20_001);
    assert_eq!(world.of("heartbeat").len(), 2, "30 s after the first");
    world.pass(9999);
    assert_eq!(world.core.state(), State::Connected);
    world.pass(1);
    assert_eq!((world.link().closed_by, world.core.state()), (Some(Close::Cut), State::Reconnecting));
    assert_eq!(world.changes().last().unwrap().why.as_deref(), Some("no answer to the heartbeat"));
    world.says("broadcast", json!({}));
    world.closes(4006);
    assert_eq!(world.core.state(), State::Reconnecting, "what the dropped link still says counts no more");
    world.come_back(json!([]));
    assert_eq!(world.waits().iter().filter(|ms| **ms > 10_000).count(), 1, "one heartbeat");
}

#[test]
fn the_servers_interval_is_taken_the_applications_goes_first() {
    let mut world = World::new();
    world.begin();
    world.sign_in_with(json!({"heartbeatMs": 4000}));
    world.pass(4000);
    assert_eq!(world.of("heartbeat").len(), 1);
    world.pass(9999);
    assert_eq!(world.core.state(), State::Connected, "a short interval does not move the answer's deadline");
    world.pass(1);
    assert_eq!(world.core.state(), State::Reconnecting);
    let mut other = World::with(|settings| settings.heartbeat_ms = Some(500));
    other.connect();
    other.pass(500);
    assert_eq!(other.of("heartbeat").len(), 1);
}

#[test]
fn a_connection_that_does_not_get_on_is_given_up_at_whatever_point_it_rests() {
    for rest in ["opening", "signing in", "resuming"] {
        let mut world = World::new();
        world.connect();
        world.closes(1006);
        world.pass(1000);
        let link = world.links.len() - 1;
        if rest != "opening" {
            world.opens();
        }
        if rest == "resuming" {
            world.says("connection_established", world.established());
        }
        world.pass(14_499);
        assert_eq!(world.links[link].closed_by, None, "{rest}");
        world.pass(501);
        assert_eq!(world.links[link].closed_by, Some(Close::Cut), "{rest}");
        assert_eq!((world.core.state(), world.open_links()), (State::Reconnecting, 0), "{rest}");
    }
}

#[test]
fn retry_now_ends_the_wait_and_makes_no_second_link() {
    let mut world = World::new();
    world.connect();
    world.closes(1006);
    world.core.retry_now(world.now);
    world.core.retry_now(world.now);
    world.run();
    world.pass(5000);
    assert_eq!(world.links.len(), 2);
}

#[test]
fn a_greeting_that_comes_twice_counts_once() {
    let mut world = World::new();
    world.connect();
    world.says("connection_established", world.established());
    assert_eq!((world.states().len(), world.connected.len()), (2, 1));
}

/// The resume of a connection that is given up may arrive late, behind the one of its successor.
#[test]
fn a_resume_that_arrives_late_does_not_end_the_session() {
    for stays_ms in [0, 10_000] {
        let mut world = World::new();
        world.connect();
        world.closes(1006);
        world.sign_in_again();
        world.closes(1006); // the resume is out
        world.come_back(json!([]));
        world.pass(stays_ms);
        world.closes(4009);
        let expected = if stays_ms == 0 { State::Reconnecting } else { State::Disconnected };
        assert_eq!(world.core.state(), expected, "after {stays_ms} ms");
    }
}
