//! A small server of the native protocol that breaks its promises on purpose: one delivery in every so many is dropped, repeated,
//! swapped, overtaken or delayed. Told to break nothing it is correct, so that a checker can be tried on both.
//!
//! It speaks what a load generator needs: the upgrade on `/ws` (no token is asked for), `join_room` with and without `recover`,
//! `leave_room`, `broadcast`, `chat_message` with acks, offsets, epochs and recognised repeats, `heartbeat`; `typing_start`,
//! `typing_stop` and `activity` are taken and do nothing. Messages are written field by field in the order of docs/PROTOCOL.md.
//!
//! Two threads for each connection, one that reads and one that writes; the rooms are behind one lock. Good for some hundred
//! connections. Faults happen in the writing thread, so they touch one receiver only ([`breakage`]).
mod breakage;
mod connection;
mod rooms;

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is done to a delivery. A delivery is one message to one receiver; only messages that carry a stamp are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // not every test that shares this module uses every fault
pub enum Fault {
    /// It never comes. Seen as lost.
    Drop,
    /// It comes twice in a row. Seen as duplicated.
    Repeat,
    /// It comes right after the next one of its publisher. Seen as reordered.
    Swap,
    /// A delay in which later ones pass: it comes after ten more of its publisher. Seen as reordered.
    Overtake,
    /// A delay that keeps the order: it and all behind it on this connection wait. No disorder; seen in the latency's maximum alone.
    Delay(Duration),
}

/// How often.
#[derive(Clone, Copy, Debug)]
pub struct Breakage {
    pub fault: Fault,
    /// One in so many deliveries, counted over all receivers.
    pub period: u64,
}

/// A running server; ends with the value.
pub struct BrokenServer {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What all threads see.
struct Shared {
    rooms: Mutex<rooms::Rooms>,
    breakage: Option<Breakage>,
    /// Stamped deliveries so far.
    deliveries: AtomicU64,
    /// Faults that are due and not done yet.
    owed: AtomicU64,
    /// Faults that a receiver could see.
    faults: AtomicU64,
    is_ending: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

#[allow(dead_code)] // not every test that shares this module asks everything
impl BrokenServer {
    /// On a free port of 127.0.0.1 below the ephemeral ones. `None`: a correct server.
    pub fn start(breakage: Option<Breakage>) -> BrokenServer {
        let listener = listen();
        let port = listener.local_addr().expect("a listener has an address").port();
        let shared = Arc::new(Shared {
            rooms: Mutex::default(),
            breakage,
            deliveries: AtomicU64::new(0),
            owed: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let acceptor = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        BrokenServer { port, shared, acceptor: Some(acceptor) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// For `--url`.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }

    /// Stamped deliveries so far, the dropped ones included.
    pub fn deliveries(&self) -> u64 {
        self.shared.deliveries.load(Ordering::SeqCst)
    }

    /// Faults done so far.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Drop for BrokenServer {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Ports 20000 to 31999, from a place that differs between processes and between calls.
fn listen() -> TcpListener {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let call = NEXT.fetch_add(1, Ordering::SeqCst);
        assert!(call < 100_000, "every port from 20000 to 31999 is in use");
        let port = 20_000 + (u64::from(std::process::id()) * 131 + call) % 12_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port as u16)) {
            return listener;
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_ending.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let Ok(copy) = stream.try_clone() else { continue };
        lock(&shared.streams).push(copy);
        let shared = shared.clone();
        std::thread::spawn(move || connection::serve(stream, &shared));
    }
}

/// A thread that panicked has failed its test already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
