//! What do the shard's three inner loops cost: a broadcast per member, a hop between threads, a timer?
//!
//! Unit: nanoseconds per element, which criterion prints as elements per second.
//! * `fan-out`: one frame of 200 bytes appended to a room's log, and for each of 1,000 members the range to be sent planned and
//!   its cursor moved, then the room settled. Element: a member. It cannot tell what the sends cost, which is most of a
//!   broadcast: nothing is handed to the kernel. The subscriptions lie in order and stay in the cache.
//! * `mesh hop`: `same thread` is push, ring and pop of one message that nobody else touches; `there and back` goes to another
//!   thread that spins, and back: two hops. Element: a hop. It cannot tell what waking a sleeping thread costs (an eventfd and
//!   the scheduler), and with fewer than two free cores it measures the scheduler.
//! * `timer wheel`: 100,000 keys, one per connection, deadlines spread over 250 ticks as pings are. `set` arms a key that has no
//!   deadline, `move` one that has, `expire` takes all of them out tick by tick. Element: a key. It cannot tell what is done
//!   with an expired key.
//!
//! Run: `cargo bench --bench shard`.
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use throng::base::mailbox::{Bell, mailbox};
use throng::plane::NoWake;
use throng::shard::fanout::Fanout;
use throng::shard::formats::FormatId;
use throng::shard::wheel::Wheel;

const MEMBERS: u32 = 1_000;
const KEYS: u32 = 100_000;
/// As the shard makes it.
const BUCKETS: usize = 512;

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out");
    group.throughput(Throughput::Elements(MEMBERS.into()));
    let mut fanout = Fanout::new(MEMBERS as usize);
    let room: Arc<str> = "lobby".into();
    for conn in 0..MEMBERS {
        // No connection is in a room yet.
        let mut first = u32::MAX;
        assert!(fanout.subscribe(conn, &mut first, &room, FormatId::NATIVE));
    }
    let key = fanout.find("lobby").expect("it has members");
    let (frame, mut slow) = ([b'x'; 200], Vec::new());
    group.bench_function("one frame for 1,000 members", |b| {
        b.iter(|| {
            fanout.append(key, black_box(&frame), &[], |_, _| None, &mut slow);
            for index in fanout.slice(key, MEMBERS as usize) {
                let subscription = fanout.rooms[key as usize].members[index];
                let (position, len) = fanout.sendable(subscription).expect("it has not got the frame");
                fanout.subscriptions[subscription as usize].cursor = black_box(position + len as u64) as u32;
            }
            assert!(fanout.end_slice(key));
            fanout.dirty.clear();
            fanout.settle(key);
        });
    });
    assert_eq!(fanout.pool.bytes_in_use(), 0, "everyone got everything");
    group.finish();
}

/// As large as the mail between shards.
type Message = [u64; 16];

fn mesh_hop(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh hop");
    let bell = Bell::new(Box::new(NoWake));
    group.throughput(Throughput::Elements(1));
    group.bench_function("same thread", |b| {
        let (sender, receiver) = mailbox::<Message>(4_096, &bell);
        b.iter(|| {
            sender.push(black_box([7; 16])).expect("it is empty");
            sender.ring();
            black_box(receiver.pop())
        });
    });
    group.throughput(Throughput::Elements(2));
    group.bench_function("there and back", |b| {
        let (there, inbox) = mailbox::<Message>(4_096, &bell);
        let (back, answers) = mailbox::<Message>(4_096, &bell);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let other = std::thread::spawn(move || {
            while !over.load(Relaxed) {
                match inbox.pop() {
                    Some(message) => {
                        back.push(message).expect("one at a time");
                        back.ring();
                    }
                    None => spin_loop(),
                }
            }
        });
        b.iter(|| {
            there.push(black_box([7; 16])).expect("one at a time");
            there.ring();
            loop {
                match answers.pop() {
                    Some(message) => break black_box(message),
                    None => spin_loop(),
                }
            }
        });
        is_over.store(true, Relaxed);
        other.join().expect("the other thread");
    });
    group.finish();
}

fn deadline(key: u32) -> u32 {
    1 + key.wrapping_mul(2_654_435_761) % 250
}

fn armed() -> Wheel {
    let mut wheel = Wheel::new(BUCKETS, KEYS as usize);
    (0..KEYS).for_each(|key| wheel.set(key, deadline(key)));
    wheel
}

fn timer_wheel(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer wheel");
    group.throughput(Throughput::Elements(KEYS.into()));
    let cleared = || {
        let mut wheel = armed();
        (0..KEYS).for_each(|key| wheel.cancel(key));
        wheel
    };
    group.bench_function("set", |b| {
        let set = |mut wheel: Wheel| {
            (0..KEYS).for_each(|key| wheel.set(key, deadline(key)));
            wheel
        };
        b.iter_batched(cleared, set, BatchSize::PerIteration);
    });
    group.bench_function("move", |b| {
        let (mut wheel, mut turn) = (armed(), 0);
        b.iter(|| {
            turn += 1;
            (0..KEYS).for_each(|key| wheel.set(key, deadline(key.wrapping_add(turn))));
        });
        assert_eq!(wheel.len(), KEYS as usize);
    });
    group.bench_function("expire", |b| {
        let mut expired = Vec::with_capacity(KEYS as usize);
        let expire = |mut wheel: Wheel| {
            expired.clear();
            (1..=250).for_each(|tick| wheel.expire(tick, &mut expired));
            assert!(wheel.is_empty() && expired.len() == KEYS as usize);
            wheel
        };
        b.iter_batched(armed, expire, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, fan_out, mesh_hop, timer_wheel);
criterion_main!(benches);
