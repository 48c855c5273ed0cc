//! What an idle connection costs more with TLS: the session's own memory, counted block by block, and the resident memory of a server.
mod support;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, SupportedProtocolVersion};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use support::{Certificate, Client, Server, Tls, free_port};
use throng::limits::CONNECTION_TLS_BYTES;
use throng::tls::{Acceptor, Handshake, Progress, Session, Tickets};

struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);

// SAFETY: hands everything to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: what the other allocates would count.
static ALONE: Mutex<()> = Mutex::new(());

fn session(acceptor: &Acceptor, certificate: &Certificate, version: &'static SupportedProtocolVersion) -> Box<Session> {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(certificate.config(version), name).unwrap();
    let mut handshake = Handshake::new(acceptor).unwrap();
    let mut received = Vec::new();
    loop {
        while client.wants_write() {
            client.write_tls(&mut received).unwrap();
        }
        let mut out = Vec::new();
        match handshake.advance(&mut received, &mut out).unwrap_or_else(|failure| panic!("{failure:?}")) {
            Progress::Done(established) => return established.session,
            Progress::Waiting(on) => handshake = on,
        }
        client.read_tls(&mut &out[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// Both keys with their tables, 544 bytes each, and in TLS 1.3 what makes the next ones.
#[test]
fn a_session_holds_two_keys_and_no_buffer() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let certificate = Certificate::new();
    let [chain, key] = certificate.settings().map(|setting| std::fs::read(setting.split_once('=').unwrap().1).unwrap());
    let acceptor = Acceptor::new(&chain, &key, &Tickets::new().unwrap()).unwrap_or_else(|fault| panic!("{fault:?}"));
    for (version, bytes_max) in [(&TLS12, 1_400), (&TLS13, 2_200)] {
        // What is made once, and kept.
        drop(session(&acceptor, &certificate, version));
        let before = BYTES.load(Relaxed);
        const COUNT: usize = 20;
        let mut sessions = Vec::with_capacity(COUNT);
        let table = BYTES.load(Relaxed) - before;
        sessions.extend((0..COUNT).map(|_| session(&acceptor, &certificate, version)));
        let each = (BYTES.load(Relaxed) - before - table) / COUNT as i64;
        println!("{version:?}: {each} bytes a session, {} of them the session itself", size_of::<Session>());
        assert!(each <= bytes_max, "{version:?}: {each} bytes a session");
    }
}

const FEW: usize = 300;
const MANY: usize = 1_500;

/// Resident memory of the server, the least of two seconds.
fn resident(server: &Server) -> u64 {
    let readings = (0..20).map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        server.get("/stats", &[]).json()["memoryUsage"].as_u64().unwrap()
    });
    readings.min().unwrap()
}

#[test]
fn a_server_plans_with_what_an_idle_connection_costs() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    throng::plane::os::raise_nofile_limit();
    let (certificate, port) = (Certificate::new(), free_port());
    let files = certificate.settings();
    let listen = format!("http.tls_listen=127.0.0.1:{port}");
    let server = Server::with_shards(1, &[&listen, &files[0], &files[1]]);
    let config = certificate.config(&TLS13);
    let mut clients: Vec<Client<Tls>> = Vec::new();
    let mut grow = |count: usize| {
        while clients.len() < count {
            clients.push(server.tls_client(port, &config, &format!("user-{}", clients.len())));
        }
        resident(&server)
    };
    let (few, many) = (grow(FEW), grow(MANY));
    let each = many.saturating_sub(few) / (MANY - FEW) as u64;
    println!("{few} bytes with {FEW} connections, {many} with {MANY}: {each} bytes each");
    let planned = throng::limits::CONNECTION_USER_BYTES + CONNECTION_TLS_BYTES;
    assert!(each <= planned, "{each} bytes for each connection, planned with {planned}");
}
