//! Where service connections come from: handed over by shards, or accepted on `admin.listen`. Both bounded.
use super::conn::{Caller, Conn, Door, Timeouts};
use super::secured::Stream;
use crate::tls::Session;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Connections handed over that are served at once. What a shard has read so far is at most a head of 16 KiB, so the
/// bound keeps them under a few MiB.
pub const MAIN_CONNECTIONS_MAX: usize = 256;

/// Connections on `admin.listen` at once. Counted apart: outsiders cannot keep the operator's scraper out.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Connections waiting for a place. Beyond it they are dropped and counted.
pub const QUEUE_MAX: usize = 256;

/// One connection on its way from a shard.
pub struct Handed {
    pub stream: std::net::TcpStream,
    /// With TLS.
    pub session: Option<Box<Session>>,
    pub read_so_far: Vec<u8>,
    pub peer: SocketAddr,
}

/// What the services count of themselves. Written from several threads, so atomic; nothing here is hot.
#[derive(Default)]
pub struct ServiceCounts {
    /// Connections taken from shards.
    pub handed_over: AtomicU64,
    /// Connections dropped because the queue was full.
    pub dropped: AtomicU64,
    /// Requests answered.
    pub requests: AtomicU64,
}

/// The sending end that shards hold. Cloning is cheap.
#[derive(Clone)]
pub struct HandOver {
    queue: mpsc::Sender<Handed>,
    counts: Arc<ServiceCounts>,
}

impl HandOver {
    pub fn new(counts: Arc<ServiceCounts>) -> (HandOver, mpsc::Receiver<Handed>) {
        let (queue, handed) = mpsc::channel(QUEUE_MAX);
        (HandOver { queue, counts }, handed)
    }

    /// Passes a connection on with the bytes read so far; never waits. False: the queue was full (or the services have
    /// ended), the connection is closed and was counted.
    pub fn hand_over(
        &self,
        stream: std::net::TcpStream,
        session: Option<Box<Session>>,
        read_so_far: Vec<u8>,
        peer: SocketAddr,
    ) -> bool {
        let is_taken = self.queue.try_send(Handed { stream, session, read_so_far, peer }).is_ok();
        let count = if is_taken { &self.counts.handed_over } else { &self.counts.dropped };
        count.fetch_add(1, Relaxed);
        is_taken
    }
}

/// Connections from one door.
pub struct Doorway {
    door: Door,
    timeouts: Timeouts,
    places: Arc<Semaphore>,
    entry: Entry,
}

enum Entry {
    Handed(mpsc::Receiver<Handed>),
    Listener(TcpListener),
}

impl Doorway {
    pub fn main(handed: mpsc::Receiver<Handed>, timeouts: Timeouts) -> Doorway {
        let places = Arc::new(Semaphore::new(MAIN_CONNECTIONS_MAX));
        Doorway { door: Door::Main, timeouts, places, entry: Entry::Handed(handed) }
    }

    pub fn admin(listener: TcpListener, timeouts: Timeouts) -> Doorway {
        let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        Doorway { door: Door::Admin, timeouts, places, entry: Entry::Listener(listener) }
    }

    async fn next(&mut self, place: OwnedSemaphorePermit) -> io::Result<(Conn, Caller)> {
        let (stream, read_so_far, peer) = match &mut self.entry {
            Entry::Listener(listener) => {
                let (tcp, peer) = TcpListener::accept(listener).await?;
                (Stream::new(tcp, None), Vec::new(), peer)
            }
            Entry::Handed(queue) => match queue.recv().await {
                Some(Handed { stream, session, read_so_far, peer }) => {
                    stream.set_nonblocking(true)?;
                    (Stream::new(TcpStream::from_std(stream)?, session), read_so_far, peer)
                }
                // All shards have gone; the services end when they are told to.
                None => std::future::pending().await,
            },
        };
        Ok((Conn::new(stream, read_so_far, self.timeouts, place), Caller { door: self.door, peer }))
    }
}

impl Listener for Doorway {
    type Io = Conn;
    type Addr = Caller;

    async fn accept(&mut self) -> (Conn, Caller) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                // Nobody closes the semaphore.
                return std::future::pending().await;
            };
            match self.next(place).await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::debug!(%error, "service connection lost before it was served");
                    // Out of descriptors, for one, does not pass by itself at once.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        let peer = match &self.entry {
            Entry::Listener(listener) => listener.local_addr()?,
            Entry::Handed(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        Ok(Caller { door: self.door, peer })
    }
}

impl Connected<IncomingStream<'_, Doorway>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Doorway>) -> Caller {
        *stream.remote_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_the_connection_and_counts_it() {
        let counts = Arc::new(ServiceCounts::default());
        let (hand_over, handed) = HandOver::new(counts.clone());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = socket.local_addr().unwrap();
        // Any descriptor will do: nothing is read from it here.
        let stream = || std::net::TcpStream::from(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
        for _ in 0..QUEUE_MAX {
            assert!(hand_over.hand_over(stream(), None, Vec::new(), peer));
        }
        assert!(!hand_over.hand_over(stream(), None, Vec::new(), peer));
        assert_eq!((counts.handed_over.load(Relaxed), counts.dropped.load(Relaxed)), (QUEUE_MAX as u64, 1));
        drop(handed);
        assert!(!hand_over.clone().hand_over(stream(), None, Vec::new(), peer));
        assert_eq!(counts.dropped.load(Relaxed), 2);
    }
}
