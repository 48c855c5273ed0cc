//! Against the real server: its connections are cut at the worst moments, and nothing is lost, doubled or turned round.
mod support;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use support::{Direction, Fate, Proxy, Reader, Server, quick, until};
use throng_client::Options;

/// Anna behind a proxy, bob with a straight line, both in one room.
struct Meeting {
    room: String,
    proxy: Proxy,
    anna: Reader,
    bob: Reader,
}

async fn meeting(server: &Server, change: impl FnOnce(&mut Options)) -> Meeting {
    static ROOMS: AtomicUsize = AtomicUsize::new(0);
    let room = format!("room-{}", ROOMS.fetch_add(1, Relaxed));
    let proxy = Proxy::start(server.port()).await;
    let anna = Reader::new("anna", &proxy.url(), |options| {
        quick(options);
        change(options);
    });
    let anna = anna.enter(server.token("anna"), &[&room]).await;
    let bob = Reader::straight("bob", server, &[&room]).await;
    Meeting { room, proxy, anna, bob }
}

impl Meeting {
    /// All three show these messages: both clients and the server.
    async fn all_have(&self, texts: &[&str]) {
        self.anna.shows(&self.room, texts).await;
        self.bob.shows(&self.room, texts).await;
        let stored: Vec<String> =
            self.bob.history(&self.room).await.into_iter().map(|message| message.message).collect();
        assert_eq!(stored, texts);
    }
}

fn is_message(direction: Direction, text: &str) -> bool {
    direction == Direction::Up && text.contains(r#""type":"chat_message""#)
}

fn is_ack(direction: Direction, text: &str) -> bool {
    direction == Direction::Down && text.contains(r#""messageId""#)
}

fn is_event(direction: Direction, text: &str) -> bool {
    direction == Direction::Down && text.contains(r#""type":"chat_message""#)
}

type IsIt = fn(Direction, &str) -> bool;

#[tokio::test]
async fn cut_while_a_message_is_sent() {
    let moments: [(&str, Fate, IsIt, bool); 7] = [
        ("in the middle of a message on its way up", Fate::Tear, is_message, false),
        ("before the message arrives", Fate::Lose, is_message, false),
        ("between message and ack", Fate::DeliverAndCut, is_message, true),
        ("in the middle of the ack", Fate::Tear, is_ack, true),
        ("instead of the ack", Fate::Lose, is_ack, true),
        ("between ack and event", Fate::DeliverAndCut, is_ack, true),
        ("in the middle of the event", Fate::Tear, is_event, true),
    ];
    let server = Server::start(&[]);
    for (name, fate, is_it, is_stored) in moments {
        println!("cut {name}");
        let meeting = meeting(&server, |_| {}).await;
        let Meeting { room, proxy, anna, bob } = &meeting;
        let first = anna.say(room, "1").await.expect("an ack");
        let met = proxy.once(fate, is_it);
        let second = anna.say(room, "2");
        met.await.expect("the moment");
        if is_stored {
            until("bob has it", || bob.texts(room).contains(&"2".to_owned())).await;
        }
        bob.say(room, "from bob").await.expect("an ack");
        let second = second.await.expect("an ack, in the end");
        assert!(!anna.say(room, "4").await.expect("an ack").duplicate);
        until("bob has all", || bob.texts(room).len() == 4).await;
        let texts = bob.texts(room);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if is_stored {
            assert_eq!((&texts[..], second.offset), (&["1", "2", "from bob", "4"][..], first.offset + 1), "{name}");
        } else {
            // The repeat and bob's word race: all agree on who was first.
            assert!(texts == ["1", "from bob", "2", "4"] || texts == ["1", "2", "from bob", "4"], "{name}: {texts:?}");
        }
        meeting.all_have(&texts).await;
        assert_eq!(anna.seen().recovered, [true], "{name}");
        assert!(proxy.connections() >= 2);
    }
}

#[tokio::test]
async fn cut_during_the_recovery() {
    let moments: [(&str, Fate, IsIt); 5] = [
        ("the auth is torn", Fate::Tear, |direction, text| {
            direction == Direction::Up && text.contains(r#""type":"auth""#)
        }),
        ("the greeting is lost", Fate::Lose, |_, text| text.contains(r#""connection_established""#)),
        ("the resume is torn", Fate::Tear, |direction, text| {
            direction == Direction::Up && text.contains(r#""type":"resume""#)
        }),
        ("the resume arrives, its answer does not", Fate::DeliverAndCut, |_, text| text.contains(r#""type":"resume""#)),
        ("the resume's answer is torn", Fate::Tear, |direction, text| {
            direction == Direction::Down && text.contains(r#""resumeToken""#) && text.contains(r#""ack""#)
        }),
    ];
    let server = Server::start(&[]);
    for (name, fate, is_it) in moments {
        println!("{name}");
        let meeting = meeting(&server, |_| {}).await;
        let Meeting { room, proxy, anna, bob } = &meeting;
        anna.say(room, "1").await.expect("an ack");
        let met = proxy.once(fate, is_it);
        proxy.cut_all();
        until("anna notices", || !anna.client.is_connected()).await;
        let waiting = anna.say(room, "from anna"); // kept for the next connection
        bob.say(room, "from bob").await.expect("an ack");
        met.await.expect("the moment");
        waiting.await.expect("an ack, in the end");
        until("both have all", || anna.texts(room).len() == 3 && bob.texts(room).len() == 3).await;
        assert_eq!(anna.seen().recovered, [true], "{name}");
        let texts = bob.texts(room);
        assert!(texts[0] == "1" && texts.contains(&"from anna".to_owned()) && texts.contains(&"from bob".to_owned()));
        meeting.all_have(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn half_open_the_heartbeat_finds_out_whichever_direction_is_dead() {
    use std::time::Duration;
    let server = Server::start(&[]);
    for dead in [Direction::Up, Direction::Down] {
        let meeting = meeting(&server, |options| {
            options.heartbeat = Some(Duration::from_millis(100));
            options.heartbeat_timeout = Duration::from_millis(500);
        })
        .await;
        let Meeting { room, proxy, anna, bob } = &meeting;
        anna.say(room, "1").await.expect("an ack");
        proxy.once(Fate::Freeze, move |direction, _| direction == dead).await.expect("a heartbeat");
        bob.say(room, "2").await.expect("an ack");
        anna.say(room, "3").await.expect("an ack, in the end");
        meeting.all_have(&["1", "2", "3"]).await;
        assert!(proxy.connections() >= 2);
    }
}

#[tokio::test]
async fn more_was_missed_than_is_replayed_it_is_said_and_a_snapshot_follows() {
    let server = Server::start(&["recovery.limit=10", "rooms.recent=5"]);
    let meeting = meeting(&server, |_| {}).await;
    let Meeting { room, proxy, anna, bob } = &meeting;
    anna.say(room, "before").await.expect("an ack");
    proxy.set_rule(|direction, text| {
        let is_resume = direction == Direction::Up && text.contains(r#""type":"resume""#);
        if is_resume { Fate::Lose } else { Fate::Pass }
    });
    proxy.cut_all();
    until("anna notices", || !anna.client.is_connected()).await;
    for sent in (0..11).map(|n| bob.say(room, &n.to_string())).collect::<Vec<_>>() {
        sent.await.expect("an ack");
    }
    proxy.set_rule(|_, _| Fate::Pass);
    anna.say(room, "after").await.expect("an ack");
    until("the end", || anna.texts(room).last().is_some_and(|text| text == "after")).await;
    anna.was_told_the_truth();
    assert_eq!(anna.seen().recovered, [false]);
    let all: Vec<String> = bob.history(room).await.into_iter().map(|message| message.message).collect();
    assert_eq!(all.len(), 13);
    let shown = anna.texts(room);
    assert!(shown.len() < 13);
    assert_eq!(shown, all[all.len() - shown.len()..]);
}

#[tokio::test]
async fn sigkill_and_restart_what_was_acknowledged_is_there_what_was_not_is_sent_once() {
    let server = Server::start(&[]);
    let meeting = meeting(&server, |_| {}).await;
    let Meeting { room, anna, bob, .. } = &meeting;
    anna.say(room, "1").await.expect("an ack");
    bob.say(room, "2").await.expect("an ack");
    let third = anna.say(room, "3"); // perhaps stored, perhaps not
    server.kill().await;
    until("both notice", || !anna.client.is_connected() && !bob.client.is_connected()).await;
    let fourth = anna.say(room, "4");
    server.start_again().await;
    third.await.expect("an ack");
    fourth.await.expect("an ack");
    meeting.all_have(&["1", "2", "3", "4"]).await;
    assert_eq!((&anna.seen().recovered, &bob.seen().recovered), (&vec![true], &vec![true]));
}

#[tokio::test]
async fn drain_and_restart_the_range_is_waited_and_nothing_is_lost() {
    let server = Server::start(&[]);
    let meeting = meeting(&server, |_| {}).await;
    let Meeting { room, anna, bob, .. } = &meeting;
    let sent = ["1", "2", "3"].map(|text| anna.say(room, text));
    until("one is on its way", || anna.client.pending().len() < 3).await;
    assert_eq!(server.drain().await, Some(0));
    server.start_again().await;
    for sent in sent {
        sent.await.expect("an ack");
    }
    bob.say(room, "4").await.expect("an ack");
    meeting.all_have(&["1", "2", "3", "4"]).await;
    assert_eq!(anna.seen().closings, [10_000]);
}
