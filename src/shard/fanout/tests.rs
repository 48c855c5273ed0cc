//! Logs, skips and cursors without a flush.
use super::*;

fn room() -> Arc<str> {
    "lobby".into()
}

/// What a subscription would be sent, all pieces.
fn drain(fanout: &mut Fanout, subscription: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((position, len)) = fanout.sendable(subscription) {
        let of = &mut fanout.subscriptions[subscription as usize];
        bytes.extend_from_slice(&fanout.rooms[of.room as usize].log.readable(position)[..len]);
        of.cursor = (position + len as u64) as u32;
    }
    bytes
}

/// A flush that offers everything to everyone.
fn offer_to_all(fanout: &mut Fanout) {
    for key in std::mem::take(&mut fanout.dirty) {
        while fanout.slice(key, 1).len() == 1 && !fanout.end_slice(key) {}
    }
    while let Some(key) = fanout.unsettled.pop() {
        fanout.settle(key);
    }
}

fn append(fanout: &mut Fanout, frame: &[u8], except: &[u32]) -> Appended {
    let key = fanout.find("lobby").unwrap();
    fanout.append(key, frame, except, |_, _| None, &mut Vec::new())
}

#[test]
fn the_last_leave_frees_the_room() {
    let (mut fanout, mut first) = (Fanout::default(), NONE);
    assert!(fanout.subscribe(1, &mut first, &room(), FormatId::NATIVE));
    assert!(!fanout.subscribe(1, &mut first, &room(), FormatId::NATIVE));
    append(&mut fanout, b"frame", &[]);
    assert!(fanout.unsubscribe(&mut first, "lobby") && !fanout.unsubscribe(&mut first, "lobby"));
    assert_eq!((fanout.rooms.len(), fanout.names.len(), fanout.dirty.len(), first), (0, 0, 0, NONE));
    assert_eq!(fanout.pool.bytes_in_use(), 0);
}

#[test]
fn senders_skip_their_own_frames_at_any_depth() {
    let (mut fanout, mut anna, mut bob) = (Fanout::default(), NONE, NONE);
    fanout.subscribe(1, &mut anna, &room(), FormatId::NATIVE);
    fanout.subscribe(2, &mut bob, &room(), FormatId::NATIVE);
    for (frame, except) in [(b"a1", anna), (b"b1", bob), (b"a2", anna), (b"a3", anna), (b"b2", bob)] {
        assert_eq!(append(&mut fanout, frame, &[except]), Appended { readers: 1, skipped: 0 });
    }
    assert_eq!(drain(&mut fanout, anna), b"b1b2");
    assert_eq!(drain(&mut fanout, bob), b"a1a2a3");
    offer_to_all(&mut fanout);
    fanout.settle(0);
    assert_eq!(fanout.pool.bytes_in_use(), 0);
    assert!(fanout.rooms[0].skips.is_empty());
}

#[test]
fn a_lagging_reader_skips_live_frames_and_keeps_durable_ones() {
    let (mut fanout, mut slow) = (Fanout::default(), NONE);
    fanout.subscribe(1, &mut slow, &room(), FormatId::NATIVE);
    append(&mut fanout, b"one ", &[]);
    fanout.fall_behind(slow);
    for i in 0..10 {
        let done = fanout.append(0, b"live", &[], |_, _| Some(Lagging::Skip), &mut Vec::new());
        assert_eq!((done.skipped, done.readers), (1, 0), "{i}");
    }
    assert_eq!(fanout.rooms[0].lag(slow, &fanout.subscriptions[slow as usize]), 4);
    append(&mut fanout, b"two", &[]);
    assert_eq!(drain(&mut fanout, slow), b"one two");
    let mut close = Vec::new();
    append(&mut fanout, b"three", &[]);
    fanout.append(0, b"durable", &[], |_, _| Some(Lagging::Close), &mut close);
    assert_eq!(close, [1]);
}

#[test]
fn the_log_is_kept_for_the_slowest() {
    let (mut fanout, mut fast, mut slow) = (Fanout::default(), NONE, NONE);
    fanout.subscribe(1, &mut fast, &room(), FormatId::NATIVE);
    fanout.subscribe(2, &mut slow, &room(), FormatId::NATIVE);
    append(&mut fanout, &[7; 10_000], &[]);
    append(&mut fanout, &[8; 10_000], &[]);
    drain(&mut fanout, fast);
    fanout.fall_behind(slow);
    offer_to_all(&mut fanout);
    fanout.settle(0);
    assert_eq!(fanout.rooms[0].behind, [slow]);
    assert_eq!(drain(&mut fanout, slow).len(), 20_000);
    fanout.settle(0);
    assert_eq!((fanout.rooms[0].behind.len(), fanout.pool.bytes_in_use()), (0, 0));
}

#[test]
fn jumping_to_the_head_lets_the_log_go() {
    let (mut fanout, mut fast, mut slow) = (Fanout::default(), NONE, NONE);
    fanout.subscribe(1, &mut fast, &room(), FormatId::NATIVE);
    fanout.subscribe(2, &mut slow, &room(), FormatId::NATIVE);
    append(&mut fanout, b"frame", &[fast]);
    fanout.fall_behind(slow);
    append(&mut fanout, b"its own", &[fast, slow]);
    offer_to_all(&mut fanout);
    assert_eq!(drain(&mut fanout, slow), b"frame");
    assert_eq!(std::mem::take(&mut fanout.unsettled), [0]);
    fanout.settle(0);
    assert_eq!((fanout.rooms[0].behind.len(), fanout.pool.bytes_in_use()), (0, 0));
}

#[test]
fn leaving_while_behind_lets_the_log_go() {
    let (mut fanout, mut fast, mut slow) = (Fanout::default(), NONE, NONE);
    fanout.subscribe(1, &mut fast, &room(), FormatId::NATIVE);
    fanout.subscribe(2, &mut slow, &room(), FormatId::NATIVE);
    append(&mut fanout, b"frame", &[fast]);
    fanout.fall_behind(slow);
    offer_to_all(&mut fanout);
    fanout.settle(0);
    let mut rooms = Vec::new();
    fanout.unsubscribe_all(&mut slow, |room| rooms.push(room));
    assert_eq!(std::mem::take(&mut fanout.unsettled), [0]);
    fanout.settle(0);
    assert_eq!((rooms.len(), fanout.rooms[0].members.len(), fanout.pool.bytes_in_use()), (1, 1, 0));
}

#[test]
fn each_format_has_a_log_of_its_own() {
    let other = FormatId::from_bits(1);
    let mut fanout = Fanout::default();
    let (mut native, mut foreign, mut third) = (NONE, NONE, NONE);
    fanout.subscribe(1, &mut native, &room(), FormatId::NATIVE);
    fanout.subscribe(2, &mut foreign, &room(), other);
    fanout.subscribe(3, &mut third, &room(), other);
    assert!(
        !fanout.subscribe(3, &mut third, &room(), FormatId::NATIVE),
        "one subscription to a room, whatever the format"
    );
    let logs: Vec<u32> = fanout.siblings("lobby").collect();
    let members: Vec<usize> = logs.iter().map(|key| fanout.rooms[*key as usize].members.len()).collect();
    assert_eq!(members, [1, 2]);
    assert_eq!(fanout.subscription_to(third, "lobby"), Some(third));

    // The first of the chain goes, the rest is still found; then a new one joins behind it.
    assert!(fanout.unsubscribe(&mut native, "lobby"));
    assert_eq!(fanout.siblings("lobby").collect::<Vec<_>>(), logs[1..]);
    fanout.subscribe(1, &mut native, &room(), FormatId::NATIVE);
    assert_eq!(fanout.siblings("lobby").count(), 2);
    assert!(fanout.unsubscribe(&mut native, "lobby"));
    assert_eq!(fanout.siblings("lobby").collect::<Vec<_>>(), logs[1..]);
    fanout.unsubscribe_all(&mut foreign, |_| ());
    fanout.unsubscribe_all(&mut third, |_| ());
    assert_eq!((fanout.find("lobby"), fanout.rooms.len()), (None, 0));
}
