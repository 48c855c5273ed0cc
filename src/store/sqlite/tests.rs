//! Opening, failures and housekeeping, seen from inside: what the common suite of the back ends cannot reach.
use super::*;
use crate::ids::Ulid;
use crate::store::port::*;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};

const DAY_MS: u64 = 86_400_000;
const NOW_MS: u64 = 100 * DAY_MS;

struct Store {
    writer: SqliteWriter,
    reader: SqliteReader,
    folder: tempfile::TempDir,
}

fn open(folder: tempfile::TempDir, retention_days: u64) -> Store {
    let mut store = Sqlite::open(folder.path(), options(retention_days)).unwrap();
    Store { writer: store.writer().unwrap(), reader: store.reader().unwrap(), folder }
}

fn options(retention_days: u64) -> Options {
    Options { dedupe_s: 300, retention_days, ids: UlidSource::new(Box::new(|bytes| bytes.fill(1))) }
}

fn new_store() -> Store {
    open(tempfile::tempdir().unwrap(), 0)
}

impl Store {
    fn reopen(self, retention_days: u64) -> Store {
        let Store { writer, reader, folder } = self;
        drop((writer, reader));
        open(folder, retention_days)
    }

    fn commit(&mut self, writes: Vec<Write>) -> Vec<Outcome> {
        let job = |write| {
            let waiter = Waiter { shard: 0, room_key: 0, conn: None, request: "".into(), user: None, read_at_ns: 0 };
            Box::new(WriteJob { waiter, write })
        };
        let mut outcomes = Vec::new();
        self.writer.commit(&writes.into_iter().map(job).collect::<Vec<_>>(), NOW_MS, &mut outcomes);
        outcomes
    }

    fn lobby(&mut self) -> RoomPk {
        match self.commit(vec![create("lobby")]).remove(0) {
            Outcome::Created { image, .. } => image.row.pk,
            other => panic!("{other:?}"),
        }
    }

    fn offsets(&mut self, room: RoomPk) -> Vec<u64> {
        match self.reader.read(&Read::Events { room, after: 0, limit: u32::MAX }) {
            Outcome::Page { rows, .. } => rows.iter().map(|row| row.offset).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn last_offset(&mut self) -> u64 {
        match self.reader.read(&Read::Room { id: "lobby".into(), recent: 0 }) {
            Outcome::Room(Some(image)) => image.row.last_offset,
            other => panic!("{other:?}"),
        }
    }

    fn count(&self, table: &str) -> i64 {
        let raw = Connection::open(self.folder.path().join(DATABASE_FILE)).unwrap();
        raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// Until there is nothing to do; how many steps that took.
    fn housekeep(&mut self, now_ms: u64) -> usize {
        (1..).find(|_| !self.writer.housekeep(now_ms)).unwrap()
    }
}

fn create(id: &str) -> Write {
    let row = RoomRow {
        pk: 0,
        id: id.into(),
        kind: RoomType::Public,
        name: "".into(),
        description: "".into(),
        created_at_ms: 0,
        slow_mode_s: 0,
        epoch: "".into(),
        last_offset: 0,
        member_count: 0,
    };
    Write::CreateRoom(CreateRoom { row, members: vec![], pair: None })
}

fn message(room: RoomPk, client_id: &str, bytes: usize, at_ms: u64) -> Write {
    let event = EventRow {
        offset: 0,
        kind: EventKind::Message,
        id: Ulid(1),
        user_id: "anna".into(),
        user_email: None,
        client_id: Some(client_id.into()),
        body: "x".repeat(bytes).into(),
        detail: None,
        at_ms,
    };
    Write::Append(Append { room, event, make_member: true, probe: false })
}

fn offset(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Appended { offset, .. } => Some(*offset),
        _ => None,
    }
}

fn all_failed(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed))
}

#[test]
fn a_folder_in_use_is_refused_until_every_part_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Sqlite::open(folder.path(), options(0)).unwrap();
    let (writer, reader) = (first.writer().unwrap(), first.reader().unwrap());
    assert!(first.writer().is_none());
    drop(first);
    drop(writer);
    let refused = Sqlite::open(folder.path(), options(0)).err().unwrap();
    assert!(matches!(refused, OpenError::InUse(_)) && refused.to_string().contains("another process"));
    drop(reader);
    Sqlite::open(folder.path(), options(0)).unwrap();
}

#[test]
fn folder_and_files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/data");
    let store = Sqlite::open(&folder, options(0)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "lock, database, log: {files:?}");
    assert!(files.iter().all(|path| mode(path) == 0o600));
    drop(store);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(Sqlite::open(folder.path(), options(0)).unwrap());
    let raw = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
    raw.pragma_update(None, "user_version", 9_999).unwrap();
    let refused = Sqlite::open(folder.path(), options(0)).err().unwrap();
    assert!(matches!(refused, OpenError::TooNew { found: 9_999, .. }), "{refused}");
}

#[test]
fn a_file_that_is_no_database_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(DATABASE_FILE), "something else, long enough to be looked at".repeat(50))
        .unwrap();
    assert!(matches!(Sqlite::open(folder.path(), options(0)), Err(OpenError::Database(_))));
}

/// Makes writes fail, checks that a batch fails whole, makes them work again and checks that nothing is left of it.
fn fails_whole(break_it: impl FnOnce(&mut Store), mend_it: impl FnOnce(&mut Store)) {
    let mut store = new_store();
    let room = store.lobby();
    assert_eq!(offset(&store.commit(vec![message(room, "first", 10, 1)])[0]), Some(1));
    break_it(&mut store);
    // 2 MiB, and jobs that need no space or cannot succeed: none of them may claim anything.
    let mut batch: Vec<_> = (0..200).map(|number| message(room, &number.to_string(), 10_000, 1)).collect();
    batch.extend([message(room, "first", 10, 1), message(99, "x", 1, 1), create("other"), Write::DeleteRoom(room)]);
    let outcomes = store.commit(batch.clone());
    assert!(outcomes.len() == batch.len() && all_failed(&outcomes), "{:?}", outcomes.first());
    assert_eq!(store.offsets(room), [1]);
    mend_it(&mut store);
    // No offset was taken, no client id remembered, no room made or deleted.
    assert!(matches!(store.commit(vec![message(room, "first", 10, 1)])[0], Outcome::Duplicate { offset: 1, .. }));
    let outcomes = store.commit(batch[..200].to_vec());
    assert_eq!(outcomes.iter().filter_map(offset).collect::<Vec<_>>(), (2..=201).collect::<Vec<_>>());
    assert!(matches!(store.commit(vec![create("other")])[0], Outcome::Created { is_new: true, .. }));
    let mut again = store.reopen(0);
    assert_eq!(again.offsets(room), (1..=201).collect::<Vec<_>>());
    assert!(matches!(again.commit(vec![message(room, "7", 10_000, 1)])[0], Outcome::Duplicate { offset: 9, .. }));
}

#[test]
fn a_full_disk_fails_the_batch_whole() {
    let limit = |store: &mut Store, pages: i64| {
        store.writer.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    fails_whole(
        |store| {
            let pages: i64 = store.writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
            limit(store, pages + 100);
        },
        |store| limit(store, 1 << 30),
    );
}

#[test]
fn a_database_that_cannot_be_written_fails_the_batch_whole_and_is_not_ready() {
    let read_only = |store: &mut Store, flag| store.writer.connection.pragma_update(None, "query_only", flag).unwrap();
    fails_whole(
        |store| {
            read_only(store, true);
            assert!(!store.writer.probe());
        },
        |store| {
            read_only(store, false);
            assert!(store.writer.probe());
        },
    );
}

#[test]
fn a_panic_in_a_transaction_leaves_nothing_behind() {
    let mut store = new_store();
    let room = store.lobby();
    let broken = catch_unwind(AssertUnwindSafe(|| {
        store.writer.transaction(|writer| -> rusqlite::Result<()> {
            writer.connection.execute("DELETE FROM rooms", [])?;
            panic!("as told");
        })
    }));
    assert!(broken.is_err());
    assert_eq!(offset(&store.commit(vec![message(room, "a", 1, 1)])[0]), Some(1));
    assert_eq!(store.offsets(room), [1]);
}

#[test]
fn a_lock_held_by_another_fails_the_batch_and_the_next_one_works() {
    let mut store = new_store();
    let room = store.lobby();
    store.writer.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(store.folder.path().join(DATABASE_FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(all_failed(&store.commit(vec![message(room, "a", 1, 1)])));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(offset(&store.commit(vec![message(room, "a", 1, 1)])[0]), Some(1));
}

#[test]
fn what_a_deleted_room_leaves_is_cleared_in_steps() {
    let mut store = new_store();
    let room = store.lobby();
    store.commit((0..1200).map(|number| message(room, &number.to_string(), 1, 1)).collect());
    store.commit(vec![Write::DeleteRoom(room), create("lobby")]);
    let kept = room + 1;
    store.commit(vec![message(kept, "new", 1, 1)]);
    // Over a restart, too.
    let mut store = store.reopen(0);
    assert_eq!(store.count("events"), 1201);
    assert!(store.housekeep(NOW_MS) >= 3);
    assert_eq!((store.count("events"), store.count("members"), store.count("deleted_rooms")), (1, 1, 0));
    assert_eq!(store.housekeep(NOW_MS), 1);
    assert_eq!(store.offsets(kept), [1]);
}

#[test]
fn retention_deletes_a_prefix_and_the_stream_goes_on() {
    let mut store = open(tempfile::tempdir().unwrap(), 10);
    let room = store.lobby();
    let mut writes: Vec<_> =
        (0..1000).map(|number| message(room, &number.to_string(), 1, NOW_MS - 11 * DAY_MS)).collect();
    // One that is young between old ones keeps those behind it: no hole.
    writes
        .extend([NOW_MS - 10 * DAY_MS, NOW_MS - 20 * DAY_MS].map(|at_ms| message(room, &at_ms.to_string(), 1, at_ms)));
    store.commit(writes);
    assert!(store.housekeep(NOW_MS) >= 3);
    assert_eq!(store.offsets(room), [1001, 1002]);
    // Not before the interval is over.
    assert_eq!((store.housekeep(NOW_MS + 1000), store.offsets(room).len()), (1, 2));
    store.housekeep(NOW_MS + DAY_MS);
    assert_eq!((store.offsets(room).len(), store.last_offset()), (0, 1002));
    assert_eq!(offset(&store.commit(vec![message(room, "x", 1, NOW_MS)])[0]), Some(1003));
    store.housekeep(NOW_MS + 100 * DAY_MS);
    let mut store = store.reopen(10);
    assert_eq!((store.offsets(room).len(), store.last_offset()), (0, 1003));
    assert_eq!(offset(&store.commit(vec![message(room, "y", 1, NOW_MS)])[0]), Some(1004));
}

#[test]
fn no_retention_deletes_nothing() {
    let mut store = new_store();
    let room = store.lobby();
    store.commit(vec![message(room, "x", 1, 0)]);
    store.housekeep(u64::MAX);
    assert_eq!(store.offsets(room), [1]);
}

#[test]
fn the_log_does_not_grow_for_ever() {
    let mut store = new_store();
    let room = store.lobby();
    let log = store.folder.path().join("throng.db-wal");
    for batch in 0..60 {
        // About 4 MiB each; 240 MiB in all.
        store.commit((0..400).map(|number| message(room, &format!("{batch}-{number}"), 10_000, 1)).collect());
    }
    let bytes = std::fs::metadata(log).unwrap().len();
    assert!(bytes < 96 << 20, "{bytes}");
}
