//! What an idle connection costs in user memory, counted by a counting allocator rather than read from the process: a shard with
//! simulated sockets and the in-memory store, every connection signed in as its own user and in one room of a hundred.
//!
//! Counts the bytes asked for, so it is exact and repeatable; what the allocator adds (size classes, pages partly used) is measured over
//! a real process in `idle_memory.rs`.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use throng::auth::{Identity, Key, KeySet, ResumeKey, Settings, Verifier};
use throng::base::mailbox::{Bell, mailbox};
use throng::base::user::GlobalRole;
use throng::config::Config;
use throng::ids::UlidSource;
use throng::plane::{ClientId, Faults, SimNet, SimOptions};
use throng::session::format::Format;
use throng::session::stream::StreamRequest;
use throng::shard::mail::Mail;
use throng::shard::mesh::Mesh;
use throng::shard::{Addresses, Opening, Parts, Shard, Totals};
use throng::store::memory::Memory;
use throng::store::port::{Done, ReadJob, Reader, StorePort, WriteJob, Writer};

/// Bytes per connection that the shard may ask for as connections come: 98 when this was written. Its tables, which are reserved whole
/// at the start, cost 92 bytes more for each connection that uses them: 56 for the record, 20 for a subscription, 8 for the timer,
/// 8 in the plane.
const BYTES_MAX: f64 = 105.0;

/// What permessage-deflate may add to it: without context takeover there is nothing to keep but the number of the format.
const DEFLATE_BYTES_MAX: f64 = 64.0;

/// By size of the block, in steps of 16 bytes; larger ones together.
const CLASSES: usize = 256;

struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);
static BLOCKS: [AtomicI64; CLASSES] = [const { AtomicI64::new(0) }; CLASSES];
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize, by: i64) {
    BYTES.fetch_add(size as i64 * by, Relaxed);
    BLOCKS[(size.div_ceil(16)).min(CLASSES - 1)].fetch_add(by, Relaxed);
}

// SAFETY: hands everything to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Jobs wait here until the world does them.
#[derive(Clone, Default)]
struct Jobs(Arc<Mutex<Vec<Job>>>);

enum Job {
    Write(Box<WriteJob>),
    Read(Box<ReadJob>),
}

impl StorePort for Jobs {
    fn write(&self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>> {
        self.0.lock().unwrap().push(Job::Write(job));
        Ok(())
    }

    fn read(&self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>> {
        self.0.lock().unwrap().push(Job::Read(job));
        Ok(())
    }
}

struct World {
    net: SimNet,
    shard: Shard<throng::plane::SimPlane>,
    jobs: Jobs,
    store: Memory,
    answers: throng::base::mailbox::Sender<Mail>,
    clients: Rc<RefCell<Vec<ClientId>>>,
    /// Of the connections, in turn.
    formats: Vec<Format>,
}

impl World {
    fn new(capacity: u32, formats: &[Format]) -> World {
        let net = SimNet::new(1, Faults::NONE);
        let plane = net.plane(SimOptions { slots: capacity, buffers: 64, buffer_bytes: 512, socket_bytes: 1 << 20 });
        let bell = Bell::new(Box::new(throng::plane::sim::NoWake));
        let (answers, inbox) = mailbox(256, &bell);
        let mut config = Config::default();
        (config.limits.connections_per_ip, config.limits.handshakes_per_ip) = (0, 0);
        let key = Key::secret(None, &[7; 32]).expect("long enough");
        let keys = Arc::new(KeySet::new(vec![Arc::new(key)], 1));
        let jobs = Jobs::default();
        let random = || UlidSource::new(Box::new(|bytes: &mut [u8]| bytes.fill(3)));
        let parts = Parts {
            id: 0,
            shards: 1,
            verifier: Arc::new(Verifier::new(Settings::from(&config.auth), keys)),
            resume_key: ResumeKey::from_bytes(&[1; 32]),
            unknown_key: Arc::new(|_| ()),
            addresses: Arc::new(Addresses::new(capacity as usize, &config.limits)),
            totals: Arc::new(Totals::default()),
            mesh: Mesh::new(vec![None], vec![inbox]),
            store: Box::new(jobs.clone()),
            ids: random(),
            config: Arc::new(config),
        };
        // Not to be counted.
        let clients = Rc::new(RefCell::new(Vec::with_capacity(capacity as usize)));
        let (shard, store, formats) = (Shard::new(plane, parts), Memory::new(300, random()), formats.to_vec());
        World { shard, net, jobs, store, answers, clients, formats }
    }

    fn connect(&self, number: usize) -> (throng::plane::SimSocket, Opening, ClientId) {
        let (socket, client) = self.net.connect();
        let identity = Identity {
            user_id: format!("user-{number:06}").into(),
            email: None,
            role: GlobalRole::None,
            expires_at_ms: self.net.now().unix_ms + 3_600_000,
            valid_until_ms: self.net.now().unix_ms + 3_630_000,
            issued_at_ms: None,
            jti: None,
        };
        let opening = Opening {
            response: b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
            session: None,
            identity: Some(identity),
            received: Vec::new(),
            address: None,
            accepted_at_ns: self.net.now().mono_ns,
            format: self.formats[number % self.formats.len()].clone(),
            is_echo: false,
        };
        (socket, opening, client)
    }

    fn run(&mut self) {
        for _ in 0..6 {
            while self.shard.turn() {}
            let jobs = std::mem::take(&mut *self.jobs.0.lock().unwrap());
            let (mut writer, mut reader) = (self.store.writer(), self.store.reader());
            let mut finished = Vec::new();
            for job in jobs {
                match job {
                    Job::Write(job) => {
                        let mut outcomes = Vec::new();
                        writer.commit(std::slice::from_ref(&job), self.net.now().unix_ms, &mut outcomes);
                        finished.push(Done::Write { job, outcome: outcomes.pop().expect("one outcome per job") });
                    }
                    Job::Read(job) => {
                        let outcome = reader.read(&job.read);
                        finished.push(Done::Read { job, outcome });
                    }
                }
            }
            if !finished.is_empty() {
                assert!(self.answers.push(Mail::Stored(finished)).is_ok());
            }
        }
        for client in self.clients.borrow().iter() {
            self.net.client_read(*client);
        }
    }

    /// Connects users up to this many, each joining its room of a hundred.
    fn grow_to(&mut self, total: usize) {
        let first = self.clients.borrow().len();
        for number in first..total {
            self.arrive(number);
            if number % 20 == 19 {
                self.run();
            }
        }
        self.run();
        self.rest(10);
    }

    /// A user connects and joins a room.
    fn arrive(&mut self, number: usize) {
        let (socket, opening, client) = self.connect(number);
        let room = format!("room-{}", number / 100);
        if opening.format.is_stream() {
            let request = StreamRequest::new([room], None).expect("a room");
            assert!(self.shard.open_stream(socket, opening, &request).is_ok());
        } else {
            assert!(self.shard.open(socket, opening).is_ok());
            let join = format!(r#"{{"id":"j","type":"join_room","data":{{"roomId":"{room}"}}}}"#);
            self.net.client_write(client, &masked(join.as_bytes()));
        }
        self.clients.borrow_mut().push(client);
    }

    /// So many seconds: whatever is done by the clock, and no ping yet.
    fn rest(&mut self, seconds: usize) {
        for _ in 0..2 * seconds {
            self.net.advance(500);
            self.run();
        }
    }
}

/// A short client frame with a zero mask.
fn masked(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[0x81, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

fn blocks() -> BTreeMap<usize, i64> {
    BLOCKS.iter().enumerate().map(|(class, count)| (class * 16, count.load(Relaxed))).collect()
}

/// What the simulated net keeps of these connections.
fn net_bytes(few: usize, many: usize) -> i64 {
    let net = SimNet::new(1, Faults::NONE);
    let mut sockets: Vec<_> = Vec::with_capacity(many);
    sockets.extend((0..few).map(|_| net.connect()));
    let bytes = BYTES.load(Relaxed);
    sockets.extend((few..many).map(|_| net.connect()));
    BYTES.load(Relaxed) - bytes
}

/// One at a time: both count what the process has.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes that an idle connection takes, where the connections have these formats in turn, by the growth from a thousand to `many`.
fn bytes_per_connection(formats: &[Format], many: usize) -> f64 {
    let few = 1_000;
    let mut world = World::new(6_000, formats);
    world.grow_to(few);
    let (bytes, counts) = (BYTES.load(Relaxed), blocks());
    world.grow_to(many);
    let grown = BYTES.load(Relaxed) - bytes - net_bytes(few, many);
    let per_connection = grown as f64 / (many - few) as f64;
    assert_eq!(world.shard.active_connections(), 0, "an idle connection holds a side record");
    for (size, count) in blocks() {
        let more = count - counts[&size];
        if more.abs() > 3 {
            println!(
                "{size:>6} bytes: {more:>7} blocks more, {:>7.1} bytes per connection",
                (more * size as i64) as f64 / (many - few) as f64
            );
        }
    }
    println!("{per_connection:.1} bytes per connection in all");
    per_connection
}

#[test]
fn an_idle_connection_costs_little_user_memory() {
    let _alone = ALONE.lock();
    let plain = bytes_per_connection(&[Format::NATIVE], 5_000);
    assert!(plain <= BYTES_MAX, "{plain:.1} bytes per idle connection");
    // Rooms of compressed connections alone, and rooms of both, which hold a log for each format.
    let plain = bytes_per_connection(&[Format::NATIVE], 2_000);
    let compressed = bytes_per_connection(&[Format::deflated(15)], 2_000);
    assert!(compressed - plain <= DEFLATE_BYTES_MAX, "{compressed:.1} bytes, a plain one {plain:.1}");
    let mixed = bytes_per_connection(&[Format::NATIVE, Format::deflated(15)], 2_000);
    let compressed = plain + 2.0 * (mixed - plain);
    assert!(compressed - plain <= DEFLATE_BYTES_MAX, "{compressed:.1} bytes, a plain one {plain:.1}");
    // A stream of one room has nothing that a WebSocket has not.
    let stream = bytes_per_connection(&[Format::STREAM], 2_000);
    assert!((stream - plain).abs() <= 1.0, "{stream:.1} bytes per event stream, {plain:.1} per WebSocket");
}

/// What may be kept of a storm, bytes: what a usual turn takes (`shard/trim.rs`).
const KEPT_BYTES_MAX: i64 = 100_000;

/// All connections break at once and come back: half a minute later the shard holds what it held before.
#[test]
fn a_storm_leaves_nothing_behind() {
    let _alone = ALONE.lock();
    const CONNECTIONS: usize = 4_000;
    let mut world = World::new(2 * CONNECTIONS as u32, &[Format::NATIVE]);
    world.grow_to(CONNECTIONS);
    let (bytes, counts) = (BYTES.load(Relaxed), blocks());
    let mut nets = 0;
    for storm in 0..3 {
        let lost = std::mem::take(&mut *world.clients.borrow_mut());
        lost.iter().for_each(|client| world.net.client_reset(*client));
        // The first time within the grace, then after it.
        world.net.advance(if storm == 0 { 1_000 } else { 15_000 });
        world.run();
        for number in 0..CONNECTIONS {
            world.arrive(number);
        }
        world.run();
        drop(lost);
        world.rest(30);
        nets += net_bytes(0, CONNECTIONS);
    }
    let kept = BYTES.load(Relaxed) - bytes - nets;
    for (size, count) in blocks() {
        let more = count - counts[&size];
        if more != 0 {
            println!("{size:>6} bytes: {more:>7} blocks more, {:>9} bytes", more * size as i64);
        }
    }
    println!("{kept} bytes kept");
    assert!(kept <= KEPT_BYTES_MAX, "{kept} bytes kept of a storm of {CONNECTIONS} connections");
}
