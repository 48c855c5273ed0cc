//! Against the real server: tokens, the application's own pace, the queue over restarts of the process, and the end.
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use support::{Proxy, Reader, Server, quick, until};
use throng_client::{Client, Error, Event, FolderStorage, Options, SetupError, State, Token, TokenReason};

#[tokio::test]
async fn a_token_that_ends_is_renewed_in_time() {
    let server = Server::start(&[]);
    let reasons = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (provider, asked) = (server.clone(), reasons.clone());
    let token = Token::provider(move |reason| {
        asked.lock().unwrap().push(reason);
        // The first one lives for less than the minute of warning.
        let ttl = if asked.lock().unwrap().len() == 1 { "40s" } else { "1h" };
        let token = provider.token_for("dora", ttl);
        async move { Ok::<_, Error>(Some(token)) }
    });
    let dora = Reader::new("dora", &server.url(), quick).enter(token, &["lobby"]).await;
    until("the provider was asked", || reasons.lock().unwrap().len() == 2).await;
    assert_eq!(*reasons.lock().unwrap(), [TokenReason::Connect, TokenReason::Expiring]);
    dora.say("lobby", "1").await.expect("an ack");
    assert!(dora.client.is_connected() && dora.seen().errors.is_empty());
    assert_eq!(dora.seen().states, [State::Connecting, State::Connected]);
}

#[tokio::test]
async fn a_bad_token_is_refused_with_the_reason_and_there_is_no_further_attempt() {
    let server = Server::start(&[]);
    let eve = Reader::new("eve", &server.url(), quick);
    let error = eve.client.connect("eve", "no-token").await.expect_err("refused");
    assert!(matches!(&error, Error::Stopped { code: 4002, reason } if reason == "Authentication failed"), "{error}");
    until("it is told", || !eve.seen().stops.is_empty()).await;
    assert_eq!(eve.seen().stops, [(4002, "Authentication failed".to_owned(), true)]);
    // With a good one it goes on.
    eve.client.connect("eve", server.token("eve")).await.expect("a connection");
    assert_eq!(eve.client.connection_state(), State::Connected);
    let closed = eve.client.disconnect();
    let connected = eve.client.connect("eve", server.token("eve"));
    closed.await; // although it goes on
    connected.await.expect("a connection");
}

#[tokio::test]
async fn a_provider_that_panics_or_fails_is_asked_again() {
    let server = Server::start(&[]);
    let (token, asked) = (server.token("dora"), AtomicUsize::new(0));
    let provider = Token::provider(move |_| {
        let (n, token) = (asked.fetch_add(1, Relaxed), token.clone());
        async move {
            match n {
                0 => panic!("on purpose"),
                1 => Err("out of order"),
                _ => Ok(Some(token)),
            }
        }
    });
    let dora = Reader::new("dora", &server.url(), quick);
    dora.client.connect("dora", provider).await.expect("a connection, in the end");
    let errors = dora.seen().errors.clone();
    assert!(errors.len() == 2 && errors[1].contains("out of order"), "{errors:?}");
}

#[tokio::test]
async fn an_application_that_takes_no_events_keeps_its_connection_gets_answers_and_then_all_that_is_durable() {
    let server = Server::start(&["recovery.limit=10000"]);
    let mut options = Options::new(server.url());
    quick(&mut options);
    options.events_max = 8;
    options.heartbeat = Some(Duration::from_millis(50));
    options.heartbeat_timeout = Duration::from_millis(200);
    let (client, mut events) = Client::new(options).expect("a client");
    client.connect("slow", server.token("slow")).await.expect("a connection");
    client.join_room("lobby").await.expect("a room");
    let bob = Reader::straight("bob", &server, &["lobby"]).await;
    for n in 0..300 {
        bob.say("lobby", &n.to_string()).await.expect("an ack");
    }
    client.chat_message("lobby", "300").await.expect("an ack, although nothing is taken");
    // Many heartbeats' time.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut texts = Vec::new();
    while texts.len() < 301 {
        match events.next().await.expect("an event") {
            Event::ChatMessage(message) => texts.push(message.message.clone()),
            Event::State(change) => assert_ne!(change.state, State::Reconnecting, "{:?}", change.why),
            _ => {}
        }
    }
    assert_eq!(texts, (0..301).map(|n| n.to_string()).collect::<Vec<_>>());
    // Who wants no events at all drops them.
    drop(events);
    bob.say("lobby", "more").await.expect("an ack");
    client.chat_message("lobby", "still").await.expect("an ack");
}

#[tokio::test]
async fn the_queue_outlives_the_process_and_is_sent_once() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let with_storage = |options: &mut Options| {
        quick(options);
        options.storage = Some(Box::new(FolderStorage::open(folder.path()).expect("a folder")));
    };
    let first = Reader::new("anna", &proxy.url(), with_storage).enter(server.token("anna"), &["lobby"]).await;
    first.say("lobby", "0").await.expect("an ack");
    // The second one arrives, its ack does not; then the process dies.
    let met = proxy.once(support::Fate::Freeze, |direction, text| {
        direction == support::Direction::Down && text.contains(r#""messageId""#)
    });
    let waiting = ["1", "2", "3"].map(|text| first.say("lobby", text));
    met.await.expect("the moment");
    let ids: Vec<String> = first.client.pending().into_iter().map(|command| command.id).collect();
    assert_eq!(ids.len(), 3);
    let kept = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(folder.path()).expect("files") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), kept.path().join(entry.file_name())).expect("a copy");
    }
    drop((waiting, first));

    let second = Reader::new("anna", &server.url(), |options| {
        quick(options);
        options.storage = Some(Box::new(FolderStorage::open(kept.path()).expect("a folder")));
    });
    let second = second.enter(server.token("anna"), &["lobby"]).await;
    until("all are settled", || second.seen().settled.len() == 3).await;
    assert_eq!(second.seen().settled, ids.iter().map(|id| (id.clone(), true)).collect::<Vec<_>>());
    let stored: Vec<String> = second.history("lobby").await.into_iter().map(|message| message.message).collect();
    assert_eq!(stored, ["0", "1", "2", "3"]);
    until("nothing is kept", || std::fs::read_dir(kept.path()).expect("a folder").count() == 0).await;
}

/// What was settled is not found again in the storage, however soon one connects again.
#[tokio::test]
async fn what_disconnect_gave_up_does_not_come_back_from_the_storage() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = Options::new("ws://127.0.0.1:9/ws");
    options.storage = Some(Box::new(FolderStorage::open(folder.path()).expect("a folder")));
    let (client, _events) = Client::new(options).expect("a client");
    let connecting = client.connect("anna", "token");
    let given_up = client.chat_message("lobby", "1");
    let kept = || std::fs::read_dir(folder.path()).expect("a folder").count();
    until("it is kept", || kept() == 1).await;
    client.disconnect();
    client.connect("anna", "token");
    assert_eq!(client.pending(), []);
    assert!(matches!((connecting.await, given_up.await), (Err(Error::Disconnected), Err(Error::Disconnected))));
    until("nothing is kept", || kept() == 0).await;
}

#[tokio::test]
async fn disconnect_closes_and_dropping_the_client_does_so_too() {
    let server = Server::start(&["presence.leave_grace_ms=60000"]);
    let mut options = Options::new(server.url());
    quick(&mut options);
    let (bob, mut events) = Client::new(options).expect("a client");
    bob.connect("bob", server.token("bob")).await.expect("a connection");
    bob.join_room("lobby").await.expect("a room");
    let went = async |events: &mut throng_client::Events, user: &str| {
        while let Some(event) = events.next().await {
            if matches!(&event, Event::UserLeft(left) if left.user_id == user) {
                return;
            }
        }
    };
    let anna = Reader::straight("anna", &server, &["lobby"]).await;
    anna.client.disconnect().await;
    assert_eq!(anna.client.connection_state(), State::Disconnected);
    // After close 1000 it is told at once, not after the grace.
    went(&mut events, "anna").await;

    let carol = Reader::straight("carol", &server, &["lobby"]).await;
    let ack = carol.client.send_message_as("unanswered", "nothing_known", ());
    drop(carol);
    went(&mut events, "carol").await;
    let error = ack.await.expect_err("the answer of a client that is gone, or of the server");
    assert!(["disconnected", "unknown_type"].contains(&error.code()), "{error}");
    drop(bob);
    while events.next().await.is_some() {} // ends
}

#[tokio::test]
async fn no_server_is_a_lost_connection_and_says_why() {
    let (client, mut events) = Client::new(Options::new("ws://127.0.0.1:9/ws")).expect("a client");
    let connecting = client.connect("anna", "token");
    let waiting = client.chat_message("lobby", "1");
    let why = loop {
        match events.next().await.expect("an event") {
            Event::State(change) if change.retry_in.is_some() => break change.why.expect("a reason"),
            _ => {}
        }
    };
    assert!(why.contains("refused"), "{why}");
    client.disconnect().await;
    assert!(matches!(connecting.await, Err(Error::Disconnected)));
    assert!(matches!(waiting.await, Err(Error::Disconnected)));
}

#[test]
fn outside_of_a_runtime_there_is_no_client_and_after_its_end_no_answer() {
    let options = || Options::new("ws://127.0.0.1:9/ws");
    assert!(matches!(Client::new(options()), Err(SetupError::NoRuntime)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (client, _events) = runtime.block_on(async { Client::new(options()) }).expect("a client");
    let early = client.chat_message("lobby", "1");
    drop(runtime);
    let late = client.chat_message("lobby", "2");
    let again = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    again.block_on(async {
        assert!(matches!(early.await, Err(Error::Disconnected)));
        assert!(matches!(late.await, Err(Error::Disconnected)));
        assert!(matches!(client.connect("anna", "token").await, Err(Error::Disconnected)));
        client.disconnect().await;
    });
}
