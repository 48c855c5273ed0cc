//! How many messages per second the store makes durable, and how long a commit takes.
//!
//! Batches of appends over 1,000 rooms, each with a client id, so the idempotency window and its journal are part of the
//! work; real fsync, in a folder below `target/`. The unit is inserts per second of time spent in `commit`. It says nothing
//! about the queues before the writer, nor about a disk other than the one it ran on: compare the fsync line.
//!
//! `cargo bench --bench store`; seconds per row of the table by `BENCH_SECONDS` (default 5).
use hdrhistogram::Histogram;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use throng::ids::UlidSource;
use throng::store::port::*;
use throng::store::sqlite::{Options, Sqlite, SqliteWriter};

const ROOMS: usize = 1_000;
const USERS: usize = 20_000;
const BODY: &str = "A message of ordinary length: people write about a hundred characters before they press the key.";

fn main() {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-store");
    std::fs::create_dir_all(&folder).unwrap();
    println!("fsync of 64 KiB appended to a file: {:?}", fsync_time(&folder));
    println!("batch  author        inserts/s  CPU us/insert  commit ms p50    p99    max  database MiB");
    for batch in [64, 512, 4096] {
        for make_member in [false, true] {
            run(&folder, batch, make_member, Duration::from_secs(seconds));
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn run(folder: &Path, batch: usize, make_member: bool, time: Duration) {
    let folder = folder.join(format!("{batch}-{make_member}"));
    let _ = std::fs::remove_dir_all(&folder);
    let mut source = random_ids();
    let options = Options { dedupe_s: 300, retention_days: 0, ids: random_ids() };
    let mut store = Sqlite::open(&folder, options).unwrap();
    let mut writer = store.writer().unwrap();
    let rooms = make_rooms(&mut writer);
    let mut commit_us = Histogram::<u64>::new_with_max(60_000_000, 3).unwrap();
    let (mut spent, mut cpu_ns, mut number, mut outcomes) = (Duration::ZERO, 0, 0usize, Vec::new());
    while spent < time {
        let now_ms = unix_ms();
        let jobs: Vec<_> = (0..batch)
            .map(|_| {
                number += 1;
                let mut event = message(source.next(now_ms), number.wrapping_mul(7919) % USERS, now_ms);
                event.client_id = Some(format!("c{number:020}").into());
                let room = rooms[number.wrapping_mul(104_729) % ROOMS];
                job(Write::Append(Append { room, event, make_member, probe: false }))
            })
            .collect();
        outcomes.clear();
        let (start, start_cpu_ns) = (Instant::now(), thread_cpu_ns());
        writer.commit(&jobs, now_ms, &mut outcomes);
        let took = start.elapsed();
        cpu_ns += thread_cpu_ns() - start_cpu_ns;
        spent += took;
        commit_us.saturating_record(took.as_micros() as u64);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Appended { .. })));
    }
    let bytes: u64 = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let ms = |quantile| commit_us.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{batch:5}  {:12}  {:9.0}  {:13.2}  {:13.2}  {:5.2}  {:5.1}  {:12}",
        if make_member { "made member" } else { "" },
        number as f64 / spent.as_secs_f64(),
        cpu_ns as f64 / 1000.0 / number as f64,
        ms(0.5),
        ms(0.99),
        ms(1.0),
        bytes >> 20,
    );
}

fn make_rooms(writer: &mut SqliteWriter) -> Vec<RoomPk> {
    let jobs: Vec<_> = (0..ROOMS)
        .map(|number| {
            let row = RoomRow {
                pk: 0,
                id: format!("room-{number}").into(),
                kind: RoomType::Public,
                name: "".into(),
                description: "".into(),
                created_at_ms: 0,
                slow_mode_s: 0,
                epoch: "".into(),
                last_offset: 0,
                member_count: 0,
            };
            job(Write::CreateRoom(CreateRoom { row, members: vec![], pair: None }))
        })
        .collect();
    let mut outcomes = Vec::new();
    writer.commit(&jobs, unix_ms(), &mut outcomes);
    let pk = |outcome| match outcome {
        Outcome::Created { image, .. } => image.row.pk,
        other => panic!("{other:?}"),
    };
    outcomes.into_iter().map(pk).collect()
}

fn message(id: throng::ids::Ulid, user: usize, at_ms: u64) -> EventRow {
    EventRow {
        offset: 0,
        kind: EventKind::Message,
        id,
        user_id: format!("user-{user}").into(),
        user_email: None,
        client_id: None,
        body: BODY.into(),
        detail: None,
        at_ms,
    }
}

fn job(write: Write) -> Box<WriteJob> {
    let waiter = Waiter { shard: 0, room_key: 0, conn: None, request: "".into(), user: None, read_at_ns: 0 };
    Box::new(WriteJob { waiter, write })
}

fn random_ids() -> UlidSource {
    UlidSource::new(Box::new(|bytes| getrandom::fill(bytes).unwrap()))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Time this thread was on a CPU: what remains of the figure when others use the machine too.
fn thread_cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn fsync_time(folder: &Path) -> Duration {
    let mut file = File::create(folder.join("fsync")).unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        file.write_all(&[1; 65_536]).unwrap();
        file.sync_data().unwrap();
    }
    start.elapsed() / 100
}
