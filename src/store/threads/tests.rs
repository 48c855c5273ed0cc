//! The threads over back ends that can be stopped, made to fail and made to panic.
use super::*;
use crate::ids::{Ulid, UlidSource};
use crate::store::memory::Memory;
use crate::store::port::*;
use std::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(20);

fn waiter(shard: u16, room_key: u32, request: usize) -> Waiter {
    Waiter { shard, room_key, conn: None, request: request.to_string().into(), user: None, read_at_ns: 0 }
}

/// A write that every back end of these tests answers somehow: to a room that does not exist.
fn write(shard: u16, request: usize) -> Box<WriteJob> {
    Box::new(WriteJob { waiter: waiter(shard, 0, request), write: Write::DeleteRoom(1) })
}

fn read(shard: u16, room_key: u32, request: usize) -> Box<ReadJob> {
    Box::new(ReadJob { waiter: waiter(shard, room_key, request), read: Read::Events { room: 1, after: 0, limit: 1 } })
}

fn clock() -> Clock {
    let start = std::time::Instant::now();
    Arc::new(move || Now { mono_ns: start.elapsed().as_nanos() as u64, unix_ms: 1 })
}

fn settings(queue: usize, batch_max: usize) -> Settings {
    Settings { queue, batch_max, clock: clock() }
}

fn memory() -> Memory {
    Memory::new(300, UlidSource::new(Box::new(|bytes| bytes.fill(1))))
}

/// A mailbox of so many deliveries.
fn mailbox(capacity: usize) -> (Sink, Receiver<Vec<Done>>) {
    let (sender, receiver) = bounded(capacity);
    (Box::new(move |done| sender.try_send(done).map_err(|refused| refused.into_inner())), receiver)
}

fn requests(done: &[Done]) -> Vec<usize> {
    done.iter().map(|done| done.waiter().request.parse().unwrap()).collect()
}

/// Says that a commit has begun, then waits for leave to end it.
struct Gated {
    begun: Sender<usize>,
    leave: Receiver<Outcome>,
}

impl Writer for Gated {
    fn commit(&mut self, jobs: &[Box<WriteJob>], _now_ms: u64, outcomes: &mut Vec<Outcome>) {
        self.begun.send(jobs.len()).unwrap();
        let outcome = self.leave.recv_timeout(PATIENCE).expect("leave to end a commit");
        outcomes.extend(jobs.iter().map(|_| outcome.clone()));
    }

    fn probe(&mut self) -> bool {
        true
    }
}

fn gated() -> (Box<Gated>, Receiver<usize>, Sender<Outcome>) {
    let ((begun, begins), (leave, leaves)) = (bounded(100), bounded(100));
    (Box::new(Gated { begun, leave: leaves }), begins, leave)
}

#[test]
fn a_batch_forms_while_the_one_before_is_committed_and_each_shard_gets_one_piece() {
    let (writer, begins, leave) = gated();
    let ((sink0, mail0), (sink1, mail1)) = (mailbox(10), mailbox(10));
    let threads = StoreThreads::start(writer, vec![], vec![sink0, sink1], settings(100, 100)).unwrap();
    let port = threads.port();
    port.write(write(0, 0)).unwrap();
    assert_eq!(begins.recv_timeout(PATIENCE), Ok(1));
    for request in 1..=9 {
        port.write(write((request % 2) as u16, request)).unwrap();
    }
    leave.send(Outcome::NoRoom).unwrap();
    assert_eq!(begins.recv_timeout(PATIENCE), Ok(9));
    leave.send(Outcome::NoRoom).unwrap();
    assert_eq!(requests(&mail0.recv_timeout(PATIENCE).unwrap()), [0]);
    assert_eq!(requests(&mail0.recv_timeout(PATIENCE).unwrap()), [2, 4, 6, 8]);
    assert_eq!(requests(&mail1.recv_timeout(PATIENCE).unwrap()), [1, 3, 5, 7, 9]);
    let stats = threads.monitor().stats(PATIENCE).unwrap();
    assert_eq!((stats.commits, stats.jobs, stats.failed_jobs, stats.batch_jobs.max()), (2, 10, 0, 9));
    assert_eq!(stats.commit_ns.len(), 2);
}

#[test]
fn batches_are_no_larger_than_allowed() {
    let (writer, begins, leave) = gated();
    let (sink, _mail) = mailbox(10);
    let threads = StoreThreads::start(writer, vec![], vec![sink], settings(100, 4)).unwrap();
    threads.port().write(write(0, 0)).unwrap();
    assert_eq!(begins.recv_timeout(PATIENCE), Ok(1));
    (1..=6).for_each(|request| threads.port().write(write(0, request)).unwrap());
    (0..3).for_each(|_| leave.send(Outcome::NoRoom).unwrap());
    assert_eq!((begins.recv_timeout(PATIENCE), begins.recv_timeout(PATIENCE)), (Ok(4), Ok(2)));
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let (writer, begins, leave) = gated();
    let (sink, mail) = mailbox(10);
    let threads = StoreThreads::start(writer, vec![], vec![sink], settings(2, 10)).unwrap();
    let port = threads.port();
    port.write(write(0, 0)).unwrap();
    begins.recv_timeout(PATIENCE).unwrap();
    port.write(write(0, 1)).unwrap();
    port.write(write(0, 2)).unwrap();
    assert_eq!(&*port.write(write(0, 3)).unwrap_err().waiter.request, "3");
    assert!(port.read(read(0, 0, 4)).is_err(), "there is no reader");
    (0..2).for_each(|_| leave.send(Outcome::NoRoom).unwrap());
    let all: Vec<_> = (0..2).flat_map(|_| requests(&mail.recv_timeout(PATIENCE).unwrap())).collect();
    assert_eq!(all, [0, 1, 2]);
}

#[test]
fn a_writer_that_hangs_is_not_ready() {
    let (writer, begins, leave) = gated();
    let (sink, _mail) = mailbox(10);
    let threads = StoreThreads::start(writer, vec![], vec![sink], settings(10, 10)).unwrap();
    let monitor = threads.monitor();
    assert!(monitor.ready(PATIENCE));
    threads.port().write(write(0, 0)).unwrap();
    begins.recv_timeout(PATIENCE).unwrap();
    assert!(!monitor.ready(Duration::from_millis(20)));
    assert!(monitor.stats(Duration::from_millis(20)).is_none());
    leave.send(Outcome::NoRoom).unwrap();
    assert!(monitor.ready(PATIENCE));
    threads.flush_and_stop();
    assert!(!monitor.ready(PATIENCE));
}

#[test]
fn stopping_commits_and_delivers_all_that_was_taken() {
    let store = memory();
    let (sink, mail) = mailbox(10_000);
    let readers: Vec<Box<dyn Reader>> = vec![Box::new(store.reader()), Box::new(store.reader())];
    let threads = StoreThreads::start(Box::new(store.writer()), readers, vec![sink], settings(10_000, 7)).unwrap();
    let ports: Vec<_> = (0..3).map(|_| threads.port()).collect();
    let (sent, is_stopping) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for port in &ports {
            scope.spawn(|| {
                // Until stopped: sends race with the stop.
                while let (Ok(()), Ok(())) = (port.write(write(0, 0)), port.read(read(0, 0, 0))) {
                    sent.fetch_add(2, Ordering::SeqCst);
                    if sent.load(Ordering::SeqCst) > 500 {
                        is_stopping.store(true, Ordering::SeqCst);
                    }
                    thread::yield_now();
                }
            });
        }
        while !is_stopping.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        threads.flush_and_stop();
    });
    let delivered: usize = mail.try_iter().map(|done| done.len()).sum();
    // A sender that was stopped between its two sends counted neither.
    let sent = sent.load(Ordering::SeqCst);
    assert!((sent..=sent + ports.len()).contains(&delivered), "{sent} sent, {delivered} delivered");
}

#[test]
fn a_full_mailbox_delays_and_loses_nothing() {
    let store = memory();
    let ((sink0, mail0), (sink1, mail1)) = (mailbox(1), mailbox(100));
    let readers: Vec<Box<dyn Reader>> = vec![Box::new(store.reader())];
    let threads = StoreThreads::start(Box::new(store.writer()), readers, vec![sink0, sink1], settings(100, 1)).unwrap();
    for request in 0..20 {
        threads.port().write(write(0, request)).unwrap();
    }
    threads.port().read(read(1, 0, 7)).unwrap();
    // The reader is not held up by the writer's full mailbox.
    assert_eq!(requests(&mail1.recv_timeout(PATIENCE).unwrap()), [7]);
    let all: Vec<_> = (0..20).flat_map(|_| requests(&mail0.recv_timeout(PATIENCE).unwrap())).collect();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

/// Panics, or answers too little, as told by the job's request.
struct Broken;

impl Writer for Broken {
    fn commit(&mut self, jobs: &[Box<WriteJob>], _now_ms: u64, outcomes: &mut Vec<Outcome>) {
        match &*jobs[0].waiter.request {
            "0" => panic!("as told"),
            "1" => {}
            _ => outcomes.push(Outcome::NoRoom),
        }
    }

    fn probe(&mut self) -> bool {
        panic!("as told")
    }
}

impl Reader for Broken {
    fn read(&mut self, read: &Read) -> Outcome {
        match read {
            Read::Events { .. } => panic!("as told"),
            _ => Outcome::Room(None),
        }
    }
}

#[test]
fn a_back_end_that_panics_has_failed_and_goes_on() {
    let (sink, mail) = mailbox(10);
    let threads = StoreThreads::start(Box::new(Broken), vec![Box::new(Broken)], vec![sink], settings(10, 1)).unwrap();
    let port = threads.port();
    let mut outcomes = Vec::new();
    for request in 0..3 {
        port.write(write(0, request)).unwrap();
        outcomes.extend(mail.recv_timeout(PATIENCE).unwrap());
    }
    port.read(read(0, 0, 3)).unwrap();
    outcomes.extend(mail.recv_timeout(PATIENCE).unwrap());
    let job = ReadJob { waiter: waiter(0, 0, 4), read: Read::Room { id: "x".into(), recent: 0 } };
    port.read(Box::new(job)).unwrap();
    outcomes.extend(mail.recv_timeout(PATIENCE).unwrap());
    let failed: Vec<_> = outcomes
        .iter()
        .map(|done| {
            matches!(done, Done::Write { outcome: Outcome::Failed, .. } | Done::Read { outcome: Outcome::Failed, .. })
        })
        .collect();
    assert_eq!(failed, [true, true, false, true, false]);
    assert!(!threads.monitor().ready(PATIENCE));
    let stats = threads.monitor().stats(PATIENCE).unwrap();
    assert_eq!((stats.panics, stats.failed_commits, stats.failed_jobs), (2, 2, 2));
}

#[test]
fn reads_of_one_room_come_back_in_order() {
    let store = memory();
    let (sink, mail) = mailbox(10_000);
    let readers: Vec<Box<dyn Reader>> = (0..3).map(|_| Box::new(store.reader()) as _).collect();
    let threads = StoreThreads::start(Box::new(store.writer()), readers, vec![sink], settings(1000, 10)).unwrap();
    for request in 0..600 {
        threads.port().read(read(0, request as u32 % 6, request)).unwrap();
    }
    threads.flush_and_stop();
    let mut last = [None; 6];
    let mut count = 0;
    for request in mail.try_iter().flat_map(|done| requests(&done)) {
        assert!(last[request % 6] < Some(request));
        last[request % 6] = Some(request);
        count += 1;
    }
    assert_eq!(count, 600);
}

/// Counts its housekeeping.
struct Keeper(Arc<Mutex<u32>>, Sender<()>);

impl Writer for Keeper {
    fn commit(&mut self, jobs: &[Box<WriteJob>], _now_ms: u64, outcomes: &mut Vec<Outcome>) {
        outcomes.extend(jobs.iter().map(|_| Outcome::Unused));
    }

    fn probe(&mut self) -> bool {
        true
    }

    fn housekeep(&mut self, now_ms: u64) -> bool {
        assert_eq!(now_ms, 1);
        let mut steps = self.0.lock().unwrap();
        *steps += 1;
        if *steps == 5 {
            self.1.send(()).unwrap();
        }
        *steps < 5
    }
}

#[test]
fn an_idle_writer_keeps_house_until_there_is_nothing_to_do() {
    let (enough, done) = bounded(1);
    let threads =
        StoreThreads::start(Box::new(Keeper(Arc::default(), enough)), vec![], vec![], settings(10, 10)).unwrap();
    done.recv_timeout(PATIENCE).unwrap();
    threads.flush_and_stop();
}

#[test]
fn an_appended_message_can_be_read_back() {
    let store = memory();
    let (sink, mail) = mailbox(10);
    let threads =
        StoreThreads::start(Box::new(store.writer()), vec![Box::new(store.reader())], vec![sink], settings(10, 10))
            .unwrap();
    let row = RoomRow {
        pk: 0,
        id: "lobby".into(),
        kind: RoomType::Public,
        name: "".into(),
        description: "".into(),
        created_at_ms: 1,
        slow_mode_s: 0,
        epoch: "".into(),
        last_offset: 0,
        member_count: 0,
    };
    let create = Write::CreateRoom(CreateRoom { row, members: vec![], pair: None });
    threads.port().write(Box::new(WriteJob { waiter: waiter(0, 0, 0), write: create })).unwrap();
    let created = mail.recv_timeout(PATIENCE).unwrap();
    let Done::Write { outcome: Outcome::Created { image, is_new: true }, .. } = &created[0] else {
        panic!("{created:?}")
    };
    let event = EventRow {
        offset: 0,
        kind: EventKind::Message,
        id: Ulid(5),
        user_id: "anna".into(),
        user_email: None,
        client_id: None,
        body: "hello".into(),
        detail: None,
        at_ms: 1,
    };
    let append = Write::Append(Append { room: image.row.pk, event, make_member: true, probe: false });
    threads.port().write(Box::new(WriteJob { waiter: waiter(0, 0, 1), write: append })).unwrap();
    mail.recv_timeout(PATIENCE).unwrap();
    threads.port().read(read(0, 0, 2)).unwrap();
    let done = mail.recv_timeout(PATIENCE).unwrap();
    let Done::Read { outcome: Outcome::Page { rows, has_more: false }, .. } = &done[0] else { panic!("{done:?}") };
    assert_eq!((rows.len(), &*rows[0].body, rows[0].offset), (1, "hello", 1));
}
