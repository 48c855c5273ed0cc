//! Sessions on a shard whose sockets are simulated: what is bounded, and what is left behind.
use super::{Answer, Ask, Counted, Exchange};
use crate::base::user::{User, UserRef};
use crate::plane::{Faults, SimNet, SimPlane, Slot};
use crate::rooms::effects::Class;
use crate::shard::Shard;
use crate::shard::conn::{Stage, flag};
use crate::shard::post::tests::shard_in;
use crate::shard::report::Residue;
use crate::wire::engineio::{RequestError, Revision, Sid};
use crate::wire::ws::{Opcode, append_frame};
use std::sync::Arc;
use std::task::{Poll, Waker};

fn shard() -> (Shard<SimPlane>, SimNet) {
    let net = SimNet::new(1, Faults::NONE);
    let (shard, _) = shard_in(&net);
    (shard, net)
}

/// A session on polling.
fn session(shard: &mut Shard<SimPlane>) -> Sid {
    let body = shard.engine_handshake(Counted { address: None }, Revision::V4, None);
    let open: serde_json::Value = serde_json::from_slice(body.strip_prefix(b"0").unwrap()).unwrap();
    Sid::parse(open["sid"].as_str().unwrap()).unwrap()
}

/// A namespace's connection, signed in as anna and in a room.
fn connect(shard: &mut Shard<SimPlane>, sid: Sid) -> Slot {
    let core = &mut shard.core;
    let key = core.engines.find(sid).unwrap();
    let slot = core.open_virtual(key, 0).unwrap();
    let user = UserRef::new(User::new("anna", None));
    (core.conns[slot as usize].stage, core.conns[slot as usize].user) = (Stage::Open, Some(user.clone()));
    core.connect_fresh(slot);
    let conn = core.conn_ref(slot);
    core.subscribe_here(conn, &user, &Arc::from("lobby"));
    slot
}

fn publish(shard: &mut Shard<SimPlane>, offset: u64, class: Class) {
    let data =
        format!(r#"{{"id":"msg_1","roomId":"lobby","message":"{}","offset":{offset},"epoch":"e"}}"#, "x".repeat(1_000));
    let native = format!(r#"{{"id":"evt_1","type":"chat_message","data":{data},"timestamp":5}}"#);
    let mut frame = Vec::new();
    append_frame(&mut frame, Opcode::Text, native.as_bytes());
    shard.core.publish_here("lobby", &frame, class, &[], 0);
    shard.turn();
}

fn ask(shard: &mut Shard<SimPlane>, sid: Sid, ask: Ask) -> Exchange {
    let exchange = shard.engine_ask(sid, Revision::V4, ask).unwrap();
    shard.turn();
    exchange
}

/// The answer to a request, which must be there.
fn answer(shard: &mut Shard<SimPlane>, exchange: Exchange) -> Answer {
    let Poll::Ready(answer) = shard.engine_take(exchange, Waker::noop()) else { panic!("no answer") };
    shard.engine_done(exchange);
    answer
}

fn poll(shard: &mut Shard<SimPlane>, sid: Sid) -> String {
    let exchange = ask(shard, sid, Ask::Poll);
    let Answer::Payload(body) = answer(shard, exchange) else { panic!("no payload") };
    String::from_utf8(body).unwrap()
}

/// R-CONN-5: what a client does not fetch waits in its room's log, once, and not in its session.
#[test]
fn a_full_transport_holds_its_connections_back() {
    let (mut shard, _net) = shard();
    let sid = session(&mut shard);
    let slot = connect(&mut shard, sid);
    shard.turn();
    let mut heard = poll(&mut shard, sid);
    assert!(heard.starts_with("40{") && heard.contains("connection_established"), "{heard}");
    const MESSAGES: u64 = 500;
    for offset in 1..=MESSAGES {
        publish(&mut shard, offset, Class::Durable);
    }
    let key = shard.core.engines.find(sid).unwrap();
    let buffered = |shard: &Shard<SimPlane>| match &shard.core.engines.sessions[key as usize].transport {
        super::session::Transport::Polling(polling) => polling.buffer.len(),
        super::session::Transport::Carrier(_) => 0,
    };
    assert!((64 << 10..82 << 10).contains(&buffered(&shard)), "{}", buffered(&shard));
    assert!(shard.core.conns[slot as usize].has(flag::BLOCKED));
    assert!(shard.core.fanout.pool.bytes_in_use() > 400_000);
    heard.clear();
    while heard.matches("new_message").count() < MESSAGES as usize {
        heard += &poll(&mut shard, sid);
        heard.push('\u{1e}');
    }
    let offsets: Vec<u64> = heard
        .split('\u{1e}')
        .filter_map(|packet| packet.split("\"5.").nth(1)?.split('.').next()?.parse().ok())
        .collect();
    assert_eq!(offsets, (1..=MESSAGES).collect::<Vec<_>>());
    assert_eq!((shard.core.fanout.pool.bytes_in_use(), buffered(&shard)), (0, 0));
    assert!(!shard.core.conns[slot as usize].has(flag::BLOCKED));
}

/// Live events are skipped beyond the bound; a durable one that does not fit ends the session.
#[test]
fn a_client_that_does_not_poll_is_judged_like_any_slow_reader() {
    let (mut shard, _net) = shard();
    shard.core.settings.out_queue_bytes = 100_000;
    let sid = session(&mut shard);
    connect(&mut shard, sid);
    for offset in 1..=300 {
        publish(&mut shard, offset, Class::Live);
    }
    use crate::telemetry::DropReason;
    assert!(shard.core.counters.dropped.get(DropReason::LiveLagging) > 100);
    publish(&mut shard, 301, Class::Durable);
    assert_eq!(shard.core.counters.dropped.get(DropReason::SlowConsumerClosed), 1);
    let mut last = String::new();
    while shard.core.engines.find(sid).is_some() {
        last = poll(&mut shard, sid);
    }
    assert!(last.ends_with("\u{1e}1"), "the end behind what was there, and no DISCONNECT");
}

#[test]
fn whatever_ends_a_session_leaves_nothing_behind() {
    type End = fn(&mut Shard<SimPlane>, &SimNet, Sid);
    let ends: [(&str, End); 5] = [
        ("close", |shard, _, sid| {
            let exchange = ask(shard, sid, Ask::Post { body: b"1".to_vec(), is_binary: false, is_begun: false });
            assert_eq!(answer(shard, exchange), Answer::Taken);
        }),
        ("let go", |shard, _, sid| {
            let exchange = ask(shard, sid, Ask::Poll);
            shard.engine_abandon(sid, Revision::V4, Some(exchange));
            shard.engine_done(exchange);
        }),
        ("overlap", |shard, _, sid| {
            let (first, second) = (ask(shard, sid, Ask::Poll), ask(shard, sid, Ask::Poll));
            assert_eq!(answer(shard, second), Answer::Refused(RequestError::Overlap));
            assert_eq!(answer(shard, first), Answer::Payload(b"1".to_vec()));
        }),
        ("silence", |shard, net, _| {
            for _ in 0..80 {
                net.advance(1_000);
                shard.turn();
            }
        }),
        ("nonsense", |shard, net, sid| {
            let exchange = ask(shard, sid, Ask::Post { body: b"4?".to_vec(), is_binary: false, is_begun: false });
            assert_eq!(answer(shard, exchange), Answer::Taken);
            // The last word waits for a poll, and not for ever.
            net.advance(31_000);
            shard.turn();
        }),
    ];
    for (name, end) in ends {
        let (mut shard, net) = shard();
        let sid = session(&mut shard);
        connect(&mut shard, sid);
        shard.turn();
        poll(&mut shard, sid);
        end(&mut shard, &net, sid);
        shard.turn();
        assert!(shard.core.engines.find(sid).is_none(), "{name}");
        // What is kept for the client's return goes in time.
        for _ in 0..3 {
            net.advance(60_000);
            shard.turn();
        }
        let left = Residue { waiting_mail: 0, room_timers: 0, ..shard.residue() };
        assert_eq!(left, Residue::default(), "{name}");
    }
}

#[test]
fn a_sid_of_another_time_is_unknown() {
    let (mut shard, _net) = shard();
    let sid = session(&mut shard);
    let exchange = ask(&mut shard, sid, Ask::Check);
    assert_eq!(answer(&mut shard, exchange), Answer::Proceed);
    for other in [
        Sid::new(0, sid.generation + 1, sid.slot, [7; 12]),
        Sid::new(0, sid.generation, sid.slot, [8; 12]),
        Sid::new(0, sid.generation, sid.slot + 1, [7; 12]),
        Sid::new(9, sid.generation, sid.slot, [7; 12]),
    ] {
        let exchange = ask(&mut shard, other, Ask::Poll);
        assert_eq!(answer(&mut shard, exchange), Answer::Refused(RequestError::UnknownSid));
    }
}
