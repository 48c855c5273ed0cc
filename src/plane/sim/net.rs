//! The world outside the planes: links between clients and sockets, the virtual clock, the seed.
use super::{Faults, SimOptions, SimPlane, SimRng};
use crate::base::clock::Now;
use crate::plane::End;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Virtual time starts here: midnight of 1 January 2024, UTC.
const START_UNIX_MS: u64 = 1_704_067_200_000;

/// A monotonic clock that starts at zero would hide sums that underflow.
const START_MONO_MS: u64 = 1_000_000;

/// One client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(super) usize);

/// Both directions of one connection.
#[derive(Default)]
pub(super) struct Link {
    /// Written by the client, not yet received.
    pub inbound: VecDeque<u8>,
    inbound_due_ms: u64,
    client_closed: bool,
    pub reset: bool,
    /// Taken from the server, not yet arrived.
    pub outbound: VecDeque<u8>,
    outbound_due_ms: u64,
    /// Arrived, not yet read by whoever plays the client.
    inbox: Vec<u8>,
    read_stalled: bool,
    pub server_closed: bool,
}

pub(super) struct World {
    pub rng: SimRng,
    pub faults: Faults,
    links: Vec<Link>,
    now_ms: u64,
    trace: u64,
    planes: u32,
}

/// The handle of tests. Clones are the same net.
#[derive(Clone)]
pub struct SimNet {
    world: Rc<RefCell<World>>,
}

/// The server's end of a connection, before a plane adopts it. Dropping it closes the connection.
pub struct SimSocket {
    pub(super) client: ClientId,
    pub(super) world: Rc<RefCell<World>>,
    pub(super) adopted: bool,
}

impl SimNet {
    pub fn new(seed: u64, faults: Faults) -> SimNet {
        let rng = SimRng::new(seed);
        let world = World { rng, faults, links: Vec::new(), now_ms: 0, trace: 0xcbf2_9ce4_8422_2325, planes: 0 };
        SimNet { world: Rc::new(RefCell::new(world)) }
    }

    /// A plane in this net.
    pub fn plane(&self, options: SimOptions) -> SimPlane {
        self.world.borrow_mut().planes += 1;
        let id = self.world.borrow().planes;
        SimPlane::new(id, options, self.world.clone())
    }

    /// From now on; for example `Faults::NONE` to see that everything comes to rest.
    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().faults = faults;
    }

    pub fn now(&self) -> Now {
        self.world.borrow().now()
    }

    pub fn advance(&self, ms: u64) {
        self.world.borrow_mut().now_ms += ms;
    }

    /// A new connection: the server's end and the client's.
    pub fn connect(&self) -> (SimSocket, ClientId) {
        let mut world = self.world.borrow_mut();
        world.links.push(Link::default());
        let client = ClientId(world.links.len() - 1);
        (SimSocket { client, world: self.world.clone(), adopted: false }, client)
    }

    /// False when the connection is known to be over; the bytes are lost then.
    pub fn client_write(&self, client: ClientId, bytes: &[u8]) -> bool {
        let mut world = self.world.borrow_mut();
        let due_ms = world.arrival_ms();
        let link = world.link(client);
        if link.client_closed || link.reset || link.server_closed {
            return false;
        }
        link.inbound.extend(bytes);
        link.inbound_due_ms = link.inbound_due_ms.max(due_ms);
        true
    }

    /// What has arrived since the last call.
    pub fn client_read(&self, client: ClientId) -> Vec<u8> {
        let mut world = self.world.borrow_mut();
        world.deliver(client);
        std::mem::take(&mut world.link(client).inbox)
    }

    /// How the server's side ended, once all before it has been read; None as long as it has not. A reset overtakes.
    pub fn client_ended(&self, client: ClientId) -> Option<End> {
        let mut world = self.world.borrow_mut();
        world.deliver(client);
        let link = world.link(client);
        match link {
            Link { reset: true, .. } => Some(End::Failed(libc::ECONNRESET)),
            Link { server_closed: true, .. } if link.outbound.is_empty() && link.inbox.is_empty() => Some(End::Eof),
            _ => None,
        }
    }

    /// The client closes. What it wrote before still arrives; what the server sends from now on comes to nothing.
    pub fn client_close(&self, client: ClientId) {
        self.world.borrow_mut().link(client).client_closed = true;
    }

    /// The client resets: a part of what it wrote may still arrive.
    pub fn client_reset(&self, client: ClientId) {
        self.world.borrow_mut().reset(client);
    }

    /// While stalled, the client takes nothing from its socket, which fills up.
    pub fn set_read_stalled(&self, client: ClientId, stalled: bool) {
        self.world.borrow_mut().link(client).read_stalled = stalled;
    }

    /// Digest of every completion and shortfall so far: two runs that agree in it went the same way.
    pub fn trace_hash(&self) -> u64 {
        self.world.borrow().trace
    }
}

impl World {
    pub fn now(&self) -> Now {
        Now { mono_ns: (START_MONO_MS + self.now_ms) * 1_000_000, unix_ms: START_UNIX_MS + self.now_ms }
    }

    pub fn link(&mut self, client: ClientId) -> &mut Link {
        &mut self.links[client.0]
    }

    /// When something that leaves now arrives.
    fn arrival_ms(&mut self) -> u64 {
        let Faults { delay, delay_ms_max, .. } = self.faults;
        let wait_ms = if self.rng.chance(delay) { self.rng.below(delay_ms_max as usize + 1) as u64 } else { 0 };
        self.now_ms + wait_ms
    }

    /// Bytes that the server may receive now.
    pub fn receivable(&mut self, client: ClientId) -> usize {
        let now_ms = self.now_ms;
        let link = self.link(client);
        if link.inbound_due_ms <= now_ms || link.reset { link.inbound.len() } else { 0 }
    }

    /// How the client's side ended, once everything before it has been received.
    pub fn end(&mut self, client: ClientId) -> Option<End> {
        self.deliver(client);
        let link = self.link(client);
        match link {
            _ if !link.inbound.is_empty() => None,
            Link { reset: true, .. } => Some(End::Failed(libc::ECONNRESET)),
            Link { client_closed: true, .. } => Some(End::Eof),
            _ => None,
        }
    }

    /// Free bytes of the server's send buffer. A broken connection counts as having room: a send would tell.
    pub fn room(&mut self, client: ClientId, socket_bytes: usize) -> usize {
        self.deliver(client);
        let link = self.link(client);
        if link.reset || link.client_closed { socket_bytes } else { socket_bytes - link.outbound.len() }
    }

    /// Takes all of `bytes`, for which there is room.
    pub fn send(&mut self, client: ClientId, bytes: &[u8]) -> Result<(), i32> {
        let due_ms = self.arrival_ms();
        let link = self.link(client);
        if link.reset {
            return Err(libc::EPIPE);
        }
        if link.client_closed {
            link.reset = true; // that is how a closed socket answers
            return Ok(());
        }
        link.outbound.extend(bytes);
        link.outbound_due_ms = link.outbound_due_ms.max(due_ms);
        self.deliver(client);
        Ok(())
    }

    pub fn reset(&mut self, client: ClientId) {
        let left = self.links[client.0].inbound.len();
        let arrived = self.rng.below(left + 1);
        let link = self.link(client);
        link.reset = true;
        link.inbound.truncate(arrived);
        link.outbound.clear();
    }

    fn deliver(&mut self, client: ClientId) {
        let now_ms = self.now_ms;
        let link = self.link(client);
        if !link.read_stalled && !link.client_closed && link.outbound_due_ms <= now_ms {
            // Taken whole: a quiet link keeps no memory, so that tests can weigh what a shard keeps.
            link.inbox.extend(std::mem::take(&mut link.outbound));
            // Behind everything stands the end of the stream, which a client that reads answers by ending its own.
            link.client_closed |= link.server_closed;
        }
    }

    /// FNV-1a over what happened.
    pub fn note(&mut self, what: u64, bytes: &[u8]) {
        for &byte in what.to_le_bytes().iter().chain(bytes) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if !self.adopted {
            self.world.borrow_mut().link(self.client).server_closed = true;
        }
    }
}

impl std::fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimSocket").field(&self.client).finish()
    }
}
