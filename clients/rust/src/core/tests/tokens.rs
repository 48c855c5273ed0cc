//! R-SDK-2: the provider gives a new token before expiry and when the server accepts the old one no longer.
use super::super::*;
use super::world::World;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

type Reasons = Rc<RefCell<Vec<TokenReason>>>;
type Answer = Option<Result<Option<String>, Error>>;

/// A provider that counts: token-1, token-2 …
fn counting() -> (Reasons, impl FnMut(TokenReason) -> Answer) {
    let reasons = Reasons::default();
    let own = reasons.clone();
    let provider = move |reason| {
        own.borrow_mut().push(reason);
        Some(Ok(Some(format!("token-{}", own.borrow().len()))))
    };
    (reasons, provider)
}

fn failed() -> Error {
    Error::TokenFailed(Arc::new(std::io::Error::other("out of order")))
}

#[test]
fn before_the_end_the_provider_is_asked_and_the_new_token_is_used_from_then_on() {
    let mut world = World::new();
    let (reasons, provider) = counting();
    world.connect_with(provider);
    world.says("token_expiring", json!({"expiresAt": world.now.unix_ms + 60_000}));
    assert_eq!(*reasons.borrow(), [TokenReason::Connect, TokenReason::Expiring]);
    assert_eq!(world.last("refresh_token").data, json!({"token": "token-2"}));
    world.acks_last("refresh_token", json!({"expiresAt": world.now.unix_ms + 3_600_000}));
    world.closes(1006);
    world.pass(1000);
    world.opens();
    assert_eq!(world.last("auth").data, json!({"token": "token-2"}));
    assert_eq!(reasons.borrow().len(), 2, "a token that holds is used again");
}

#[test]
fn a_refresh_that_fails_is_tried_again_while_the_old_token_holds() {
    let mut world = World::new();
    let mut asked = 0;
    world.connect_with(move |_| {
        asked += 1;
        Some(if asked == 2 { Err(failed()) } else { Ok(Some(format!("token-{asked}"))) })
    });
    world.says("token_expiring", json!({"expiresAt": world.now.unix_ms + 60_000}));
    assert_eq!(world.errors(), ["token_failed"]);
    world.pass(10_000);
    world.refuses_last("refresh_token", "auth_failed", None);
    world.pass(10_000);
    assert_eq!(world.of("refresh_token").len(), 2);
    world.acks_last("refresh_token", json!({"expiresAt": world.now.unix_ms + 3_600_000}));
    world.pass(60_000);
    assert_eq!((world.asked.len(), world.of_on(0, "refresh_token").len()), (4, 2));
}

#[test]
fn after_4003_and_its_kin_a_new_token_comes_first_then_resume_with_back_off() {
    for code in [4001, 4002, 4003, 4004] {
        let mut world = World::new();
        let (reasons, provider) = counting();
        world.connect_with(provider);
        world.closes(code);
        assert_eq!(world.waits(), [500], "a provider of bad tokens must not be asked in a circle");
        world.pass(500);
        assert_eq!(*reasons.borrow(), [TokenReason::Connect, TokenReason::Rejected]);
        world.sign_in();
        assert_eq!(world.last("auth").data, json!({"token": "token-2"}));
        assert_eq!(world.last("resume").data["sessionId"], "sess_1");
    }
}

#[test]
fn a_fixed_token_cannot_be_renewed_the_application_is_told_and_may_connect_with_another() {
    let mut world = World::new();
    world.connect();
    world.closes_on(0, 4003, "Token expired");
    assert_eq!(world.stops(), [(4003, "Token expired", true)]);
    world.provide(|_| Some(Ok(Some("token-2".to_owned()))));
    world.begin();
    world.sign_in();
    assert_eq!(world.last("auth").data, json!({"token": "token-2"}));
    assert_eq!(world.last("resume").data["sessionId"], "sess_1", "and goes on as the same session");
}

#[test]
fn a_token_that_has_ended_while_offline_is_not_tried() {
    let mut world = World::new();
    let (reasons, provider) = counting();
    world.provide(provider);
    world.begin_as("anna", true, Vec::new());
    // The server's clock is an hour ahead: its times count by its clock.
    let ahead = world.now.unix_ms + 3_600_000;
    world.sign_in_with(json!({"timestamp": ahead, "expiresAt": ahead + 20_000}));
    world.roll(1.0);
    world.closes(1006);
    world.pass(1000);
    world.closes(1006);
    assert_eq!(reasons.borrow().len(), 1, "it still holds");
    world.pass(2000);
    for n in 3..6 {
        world.closes(1006);
        world.pass(1000 << (n - 1));
    }
    assert_eq!(*reasons.borrow(), [TokenReason::Connect, TokenReason::Connect]);
}

#[test]
fn a_provider_that_fails_is_asked_again_with_back_off_one_that_has_no_token_ends_it() {
    let mut world = World::new();
    world.provide(|_| Some(Err(failed())));
    world.begin_as("anna", true, Vec::new());
    assert_eq!(world.core.state(), State::Reconnecting);
    world.pass(500);
    world.pass(1000);
    assert_eq!((world.asked.len(), world.links.len()), (3, 0));
    let mut other = World::new();
    other.provide(|_| Some(Ok(None)));
    other.begin_as("anna", true, Vec::new());
    assert_eq!(other.stops(), [(4001, "No token", true)]);
    assert!(matches!(other.connected[..], [Err(Error::Stopped { .. })]));
}

#[test]
fn a_provider_that_never_answers_is_asked_again_its_late_answer_does_not_count() {
    let mut world = World::new();
    world.provide(|_| None);
    world.begin_as("anna", true, Vec::new());
    world.pass(16_000);
    let asks: Vec<Ask> = world.asked.iter().map(|(ask, _)| *ask).collect();
    assert_eq!(asks.len(), 2);
    world.core.handle_token(asks[0], Ok(Some("late".to_owned())), world.now);
    world.run();
    assert!(world.links.is_empty());
    world.core.handle_token(asks[1], Ok(Some("token-2".to_owned())), world.now);
    world.run();
    world.opens();
    assert_eq!(world.last("auth").data, json!({"token": "token-2"}));
}

#[test]
fn an_application_with_a_fixed_token_refreshes_it_by_itself() {
    let mut world = World::new();
    world.connect();
    let refreshed = world.send("refresh_token", json!({"token": "token-2"}));
    world.acks_last("refresh_token", json!({"expiresAt": 7}));
    assert_eq!(world.result(&refreshed), json!({"expiresAt": 7}));
    world.closes(1006);
    world.pass(1000);
    world.opens();
    assert_eq!(world.last("auth").data, json!({"token": "token-2"}));
}

#[test]
fn a_token_of_another_user_stops_before_anything_is_sent_in_his_name() {
    let mut world = World::new();
    let sent = world.say("lobby", "mine");
    world.begin();
    world.sign_in_with(json!({"userId": "bob"}));
    assert_eq!(world.errors(), ["wrong_user"]);
    assert!(matches!(world.link().closed_by, Some(Close::Frame { code: 1000, .. })));
    assert_eq!((world.core.state(), world.of("chat_message").len()), (State::Disconnected, 0));
    world.begin_as("bob", false, Vec::new());
    assert_eq!(world.failure(&sent), "disconnected", "another user takes over: it is not his message");
}
