//! Against the real server: a seeded storm of every fault at once, and two SIGKILLs. Hundreds of messages; then the books are
//! compared: acks, the server's history, and what each reader was shown. `SEED=…` repeats the dice, not the timing.
mod support;

use std::collections::HashMap;
use std::time::Duration;
use support::{Fate, Proxy, Reader, Server, until};
use throng_client::{Ack, ChatResult, Options};

/// Of each writer.
const MESSAGES: usize = 240;
const ROOMS: [&str; 2] = ["red", "blue"];

fn stormy(random: &mut fastrand::Rng) -> impl FnOnce(&mut Options) + use<> {
    let mut random = random.fork();
    move |options| {
        options.random = Some(Box::new(move || random.f64() * 0.02));
        options.heartbeat = Some(Duration::from_millis(300));
        options.heartbeat_timeout = Duration::from_millis(300);
        options.connect_timeout = Duration::from_millis(1000);
    }
}

/// Gives all its messages, at uneven times; their ids and answers by room.
async fn write(reader: &Reader, mut random: fastrand::Rng) -> HashMap<&'static str, Vec<(String, Ack<ChatResult>)>> {
    let mut given: HashMap<&str, Vec<_>> = HashMap::new();
    for n in 0..MESSAGES {
        let room = ROOMS[random.usize(0..ROOMS.len())];
        let id = format!("{}-{n}", reader.user);
        let message = format!("{id} {}", "x".repeat(random.usize(0..400)));
        let data = serde_json::json!({"roomId": room, "message": message});
        let ack = reader.client.send_message_as(&id, "chat_message", data).of();
        given.entry(room).or_default().push((id, ack));
        tokio::time::sleep(Duration::from_millis(random.u64(0..60))).await;
    }
    given
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_doubled_or_turned_round() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Server::start(&[]);
    let proxies = [Proxy::start(server.port()).await, Proxy::start(server.port()).await];
    let mut readers = Vec::new();
    for (user, url) in [("anna", proxies[0].url()), ("bob", proxies[1].url()), ("carol", server.url())] {
        let reader = Reader::new(user, &url, stormy(&mut random));
        readers.push(reader.enter(server.token(user), &ROOMS).await);
    }

    // Phase 1: faults.
    for proxy in &proxies {
        let mut random = random.fork();
        proxy.set_rule(move |_, _| {
            let fates = [Fate::Tear, Fate::Lose, Fate::DeliverAndCut, Fate::Freeze];
            if random.u8(0..100) < 5 { fates[random.usize(0..fates.len())] } else { Fate::Pass }
        });
    }
    let dice = [random.fork(), random.fork()];
    let kills = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(random.u64(1500..3000))).await;
            server.kill().await;
            tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
            server.start_again().await;
        }
    };
    let [first, second] = dice;
    let (anna, bob, ()) = tokio::join!(write(&readers[0], first), write(&readers[1], second), kills);

    // Phase 2: the network heals, and everything must arrive.
    for proxy in &proxies {
        proxy.set_rule(|_, _| Fate::Pass);
    }
    let mut acked: HashMap<&str, Vec<(String, ChatResult)>> = HashMap::new();
    for (room, given) in anna.into_iter().chain(bob) {
        for (id, ack) in given {
            acked.entry(room).or_default().push((id, ack.await.expect("an ack, in the end")));
        }
    }
    let witness = Reader::straight("dora", &server, &ROOMS).await;
    for room in ROOMS {
        let history = witness.history(room).await;
        let acked = &acked[room];
        for (id, result) in acked {
            let stored = history.iter().find(|message| message.id == result.message_id);
            let stored = stored.unwrap_or_else(|| panic!("lost: {id}"));
            assert_eq!((stored.client_id.as_deref(), stored.offset), (Some(id.as_str()), result.offset));
        }
        assert_eq!(history.len(), acked.len(), "doubled in {room}");
        for writer in ["anna", "bob"] {
            let own: Vec<&str> = history
                .iter()
                .filter(|message| message.user_id == writer)
                .filter_map(|message| message.client_id.as_deref())
                .collect();
            let given: Vec<&str> =
                acked.iter().map(|(id, _)| id.as_str()).filter(|id| id.starts_with(writer)).collect();
            assert_eq!(own, given, "order of {writer} in {room}");
        }
        let last = history.last().map(|message| message.offset);
        for reader in &readers {
            until(format!("{} is up to date in {room}", reader.user), || reader.offsets(room).last().copied() == last)
                .await;
            // A reader that was told of a gap shows the newest part, all others show everything.
            let (shown, had_gap) = (reader.offsets(room), reader.seen().recovered.contains(&false));
            let from = if had_gap { history.len() - shown.len() } else { 0 };
            let expected: Vec<u64> = history[from..].iter().map(|message| message.offset).collect();
            assert_eq!(shown, expected, "what {} was shown of {room}", reader.user);
            reader.was_told_the_truth();
        }
    }
    let faults: usize = proxies.iter().map(Proxy::faults).sum();
    let connections: usize = proxies.iter().map(Proxy::connections).sum();
    println!("{} messages, {faults} faults, {connections} connections", 2 * MESSAGES);
    assert!(faults > 10, "only {faults} faults");
    assert!(readers.iter().any(|reader| reader.seen().recovered.contains(&true)));
}
