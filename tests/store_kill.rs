//! SIGKILL at any moment loses nothing that was acknowledged: R-CHAT-3 and R-CHAT-4 over a crash.
//!
//! The test runs itself as a child that commits batches and prints what it may acknowledge, kills it somewhere, and looks
//! at what is there. Several rounds on one database.
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use throng::ids::{Ulid, UlidSource};
use throng::store::port::*;
use throng::store::sqlite::{Options, Sqlite};

const FOLDER: &str = "STORE_KILL_FOLDER";
const ROUND: &str = "STORE_KILL_ROUND";
const ROUNDS: usize = 6;
const ROOMS: usize = 3;
const NOW_MS: u64 = 1_700_000_000_000;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    match std::env::var_os(FOLDER) {
        Some(folder) => write_until_killed(Path::new(&folder), &std::env::var(ROUND).unwrap()),
        None => kill_and_look(),
    }
}

fn kill_and_look() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = 0x1234_5678_9abc_def1;
    // Client id → room and offset.
    let mut acknowledged = HashMap::<String, (RoomPk, u64)>::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_acknowledged_survives_a_kill", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (wanted, pause_us) = (50 + next(&mut random) % 500, next(&mut random) % 3000);
        let mut seen = 0;
        while let Some(line) = lines.next().transpose().unwrap() {
            // The test harness of the child prints as well. A line that the kill cut off has no end mark.
            if let ["ack", room, offset, client_id, "."] = line.split(' ').collect::<Vec<_>>()[..] {
                acknowledged.insert(client_id.to_owned(), (room.parse().unwrap(), offset.parse().unwrap()));
                seen += 1;
            }
            if seen == wanted {
                // Somewhere within a commit, a print or a checkpoint.
                std::thread::sleep(Duration::from_micros(pause_us));
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success(), "killed");
        assert!(seen >= wanted, "the child ended by itself after {seen} of {wanted}");
        look(folder.path(), &acknowledged);
    }
}

fn look(folder: &Path, acknowledged: &HashMap<String, (RoomPk, u64)>) {
    let mut store = open(folder);
    let (mut writer, mut reader) = (store.writer().unwrap(), store.reader().unwrap());
    let mut stored = HashMap::new();
    for room in 0..ROOMS {
        let Outcome::Room(Some(image)) = reader.read(&Read::Room { id: room_id(room), recent: 0 }) else { panic!() };
        let events = Read::Events { room: image.row.pk, after: 0, limit: u32::MAX };
        let Outcome::Page { rows, .. } = reader.read(&events) else { panic!() };
        let offsets: Vec<_> = rows.iter().map(|row| row.offset).collect();
        assert_eq!(offsets, (1..=image.row.last_offset).collect::<Vec<_>>(), "no hole, none double");
        for row in rows {
            assert_eq!(row.body, body(row.client_id.as_ref().unwrap()));
            let before = stored.insert(row.client_id.unwrap().into_string(), (image.row.pk, row.offset));
            assert!(before.is_none(), "no message twice");
        }
    }
    for (client_id, place) in acknowledged {
        assert_eq!(stored.get(client_id), Some(place), "{client_id} was acknowledged");
    }
    // Every stored client id is remembered, whether its ack got out or not.
    let probes: Vec<_> = stored.iter().map(|(client_id, place)| append(place.0, client_id, true)).collect();
    let mut outcomes = Vec::new();
    writer.commit(&probes, NOW_MS, &mut outcomes);
    for ((client_id, place), outcome) in stored.iter().zip(&outcomes) {
        assert!(matches!(outcome, Outcome::Duplicate { offset, .. } if *offset == place.1), "{client_id}: {outcome:?}");
    }
}

fn write_until_killed(folder: &Path, round: &str) {
    let mut store = open(folder);
    let mut writer = store.writer().unwrap();
    let mut outcomes = Vec::new();
    if round == "0" {
        let creates: Vec<_> = (0..ROOMS).map(create).collect();
        writer.commit(&creates, NOW_MS, &mut outcomes);
    }
    let mut reader = store.reader().unwrap();
    let rooms: Vec<_> = (0..ROOMS)
        .map(|room| match reader.read(&Read::Room { id: room_id(room), recent: 0 }) {
            Outcome::Room(Some(image)) => image.row.pk,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut random = 0x9e37_79b9 + u64::from(std::process::id());
    let mut number = 0;
    // Far more than the parent waits for, in case it dies.
    while number < 200_000 {
        let jobs: Vec<_> = (0..1 + next(&mut random) % 40)
            .map(|_| {
                number += 1;
                append(rooms[next(&mut random) as usize % ROOMS], &format!("{round}-{number}"), false)
            })
            .collect();
        outcomes.clear();
        writer.commit(&jobs, NOW_MS, &mut outcomes);
        let mut acks = String::new();
        for (job, outcome) in jobs.iter().zip(&outcomes) {
            let (Write::Append(append), Outcome::Appended { offset, .. }) = (&job.write, outcome) else {
                panic!("{outcome:?}")
            };
            acks += &format!("ack {} {offset} {} .\n", append.room, append.event.client_id.as_ref().unwrap());
        }
        // A parent that is gone ends the child.
        let mut out = std::io::stdout().lock();
        out.write_all(acks.as_bytes()).and_then(|()| out.flush()).unwrap();
    }
}

fn open(folder: &Path) -> Sqlite {
    let ids = UlidSource::new(Box::new(|bytes| bytes.fill(7)));
    Sqlite::open(folder, Options { dedupe_s: 3_600, retention_days: 0, ids }).unwrap()
}

fn room_id(room: usize) -> Box<str> {
    format!("room-{room}").into()
}

fn body(client_id: &str) -> Box<str> {
    format!("This is {client_id}. ").repeat(10).into()
}

fn create(room: usize) -> Box<WriteJob> {
    let row = RoomRow {
        pk: 0,
        id: room_id(room),
        kind: RoomType::Public,
        name: "".into(),
        description: "".into(),
        created_at_ms: NOW_MS,
        slow_mode_s: 0,
        epoch: "".into(),
        last_offset: 0,
        member_count: 0,
    };
    job(Write::CreateRoom(CreateRoom { row, members: vec![], pair: None }))
}

fn append(room: RoomPk, client_id: &str, probe: bool) -> Box<WriteJob> {
    let event = EventRow {
        offset: 0,
        kind: EventKind::Message,
        id: Ulid(1),
        user_id: "anna".into(),
        user_email: None,
        client_id: Some(client_id.into()),
        body: body(client_id),
        detail: None,
        at_ms: NOW_MS,
    };
    job(Write::Append(Append { room, event, make_member: true, probe }))
}

fn job(write: Write) -> Box<WriteJob> {
    let waiter = Waiter { shard: 0, room_key: 0, conn: None, request: "".into(), user: None, read_at_ns: 0 };
    Box::new(WriteJob { waiter, write })
}

/// Xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
