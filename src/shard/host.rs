//! The shard's thread: monoio waits, accepts and reads HTTP heads; the shard's turn does the rest.
//!
//! One task pumps turns and sleeps on the ring's descriptor, one ticks, one accepts, and each handshake is a short task of
//! its own. They share the shard by `RefCell`; no borrow is held across an await.
use super::front_door::{self, Door};
use super::{Parts, Shard};
use crate::base::mailbox::{Bell, Wake};
use crate::limits::TICK_MS;
use crate::plane::host::{self, Ready};
use crate::plane::{Plane, RingOptions, Rings, SetupError};
use socket2::SockRef;
use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Turns in a row before other tasks of the thread get their share.
const TURNS_MAX: u32 = 4;

/// Pause after accept failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A shard that has its rings, but not yet its place among the others: wakers are exchanged first.
pub struct Prepared {
    rings: Rings,
    runtime: host::Runtime,
    ready: Ready,
}

/// What the thread needs once all shards are prepared.
pub struct Start {
    pub parts: Parts,
    pub bell: Arc<Bell>,
    pub listener: TcpListener,
    /// For TLS alone; None: there is no TLS, or `listener` speaks it.
    pub tls_listener: Option<TcpListener>,
    pub door: Door,
    /// What `Prepared::run` gave at the end of an earlier process, of all shards: lost clients that may come back.
    pub lost: Arc<str>,
}

/// Makes the shard's rings, so many, and the runtime's. Call it in the shard's own thread: a ring has one submitting thread for life.
pub fn prepare(options: &RingOptions, rings: u32) -> Result<(Prepared, Box<dyn Wake>), SetupError> {
    let rings = Rings::new(options, rings)?;
    let mut runtime = host::runtime()?;
    let ready = runtime.block_on(async { Ready::new(&rings) })?;
    let waker = rings.waker();
    Ok((Prepared { rings, runtime, ready }, waker))
}

impl Prepared {
    /// Runs the shard until it is told to stop or has drained. What it gives back holds secrets.
    pub fn run(self, start: Start) -> io::Result<Vec<u8>> {
        let Prepared { rings, mut runtime, ready } = self;
        let mut closers = vec![start.listener.try_clone()?];
        closers.extend(start.tls_listener.as_ref().map(TcpListener::try_clone).transpose()?);
        let lost = runtime.block_on(serve(rings, ready, start, closers));
        // A drop would leak what is pending on the host's ring; the thread ends with the process.
        std::mem::forget(runtime);
        Ok(lost)
    }
}

async fn serve(rings: Rings, ready: Ready, start: Start, closers: Vec<TcpListener>) -> Vec<u8> {
    let Start { parts, bell, listener, tls_listener, mut door, lost } = start;
    let kick = rings.waker();
    let shard = Rc::new(Hosted { shard: RefCell::new(Shard::new(rings, parts)), kick });
    let is_tls = door.acceptor.is_some() && tls_listener.is_none();
    shard.shard.borrow_mut().set_acceptor(door.acceptor.take());
    shard.shard.borrow_mut().restore_lost(&lost);
    let door = Rc::new(door);
    monoio::spawn(accept(listener, is_tls, shard.clone(), door.clone()));
    if let Some(listener) = tls_listener {
        monoio::spawn(accept(listener, true, shard.clone(), door));
    }
    monoio::spawn(tick(shard.clone()));

    let mut in_a_row = 0;
    let mut is_accepting = true;
    loop {
        let is_busy = shard.shard.borrow_mut().turn();
        if shard.shard.borrow().is_stopped() {
            return shard.shard.borrow_mut().lost();
        }
        if is_accepting && shard.shard.borrow().is_leaving() {
            is_accepting = false;
            // Ends the pending accept; a listener that is only dropped would leak it.
            for closer in &closers {
                let _ = SockRef::from(closer).shutdown(Shutdown::Both);
            }
        }
        in_a_row += 1;
        // A turn that has left members of a room waiting was a long one.
        if is_busy && in_a_row < TURNS_MAX && !shard.shard.borrow().is_half_way() {
            continue;
        }
        in_a_row = 0;
        bell.going_to_sleep();
        if is_busy || shard.shard.borrow().has_mail() {
            shard.kick.wake();
        }
        if let Err(error) = ready.wait().await {
            tracing::error!(%error, "waiting for the ring failed");
        }
        bell.awake();
    }
}

/// The shard as the tasks of its thread share it.
pub(super) struct Hosted {
    pub shard: RefCell<Shard<Rings>>,
    kick: Box<dyn Wake>,
}

impl Hosted {
    /// A turn from outside the pump, which is woken if it has to go on.
    pub fn turn(&self) {
        let mut shard = self.shard.borrow_mut();
        if shard.turn() || shard.is_stopped() || shard.is_leaving() {
            self.kick.wake();
        }
    }
}

async fn tick(shard: Rc<Hosted>) {
    loop {
        monoio::time::sleep(Duration::from_millis(TICK_MS)).await;
        shard.turn();
    }
}

async fn accept(listener: TcpListener, is_tls: bool, shard: Rc<Hosted>, door: Rc<Door>) {
    let listener = match monoio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listener cannot be used"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => front_door::admit(stream, is_tls, peer, &shard, &door),
            Err(_) if shard.shard.borrow().is_leaving() => return,
            Err(error) => {
                tracing::warn!(%error, "accept failed; trying again");
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How many connections the shard's rings hold.
pub fn capacity(shard: &mut Shard<Rings>) -> u32 {
    shard.plane().capacity()
}
