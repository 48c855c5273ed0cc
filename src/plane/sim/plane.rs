//! The plane that a simulated shard holds: it deals out what the net has in store, in random order, with faults, and
//! panics on a caller that breaks the trait's rules.
use super::net::World;
use super::{ClientId, SimOptions, SimSocket};
use crate::base::clock::Now;
use crate::plane::{Completion, End, Plane, PlaneStats, Received, SLACK_BYTES, Shortfall, Slot};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A received piece. Behind its bytes is garbage.
#[derive(Debug)]
pub struct SimBuffer {
    memory: Box<[u8]>,
    len: usize,
    plane: u32,
}

impl Received for SimBuffer {
    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len + SLACK_BYTES]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Free,
    Open,
    Closing,
}

#[derive(Debug)]
struct Row {
    client: ClientId,
    phase: Phase,
    /// Adoption, or the close, has been submitted.
    submitted: bool,
    ended: bool,
    wants_room: bool,
    room_submitted: bool,
    /// Last batch that had a send for this slot.
    batch: u64,
    stream_ended: bool,
}

/// See the module `sim`.
pub struct SimPlane {
    id: u32,
    world: Rc<RefCell<World>>,
    options: SimOptions,
    rows: Vec<Row>,
    /// Last in, first out: a slot is reused at once.
    free: Vec<Slot>,
    pool: Vec<Box<[u8]>>,
    /// Slots about which something was asked since the last submit.
    asked: Vec<Slot>,
    batch: u64,
    stats: PlaneStats,
}

/// What one collect has left to do for a slot.
struct Pending {
    slot: Slot,
    /// Nothing more is received in this collect, and so the end does not show either.
    dry: bool,
}

impl SimPlane {
    pub(super) fn new(id: u32, options: SimOptions, world: Rc<RefCell<World>>) -> SimPlane {
        let buffer = || vec![0; options.buffer_bytes + SLACK_BYTES].into_boxed_slice();
        SimPlane {
            id,
            world,
            rows: Vec::with_capacity(options.slots as usize),
            free: Vec::new(),
            pool: (0..options.buffers).map(|_| buffer()).collect(),
            asked: Vec::new(),
            batch: 0,
            options,
            stats: PlaneStats::default(),
        }
    }

    /// Slots in use, closing ones included.
    pub fn in_use(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// The row of a slot that the caller may use.
    fn open_row(&mut self, slot: Slot, what: &str) -> &mut Row {
        let row = self.rows.get_mut(slot as usize);
        match row {
            Some(row) if row.phase == Phase::Open => row,
            Some(row) => panic!("{what} slot {slot}, which is {:?}", row.phase),
            None => panic!("{what} slot {slot}, which was never open"),
        }
    }

    /// The next completion of this slot, if any is left in this collect.
    fn step(&mut self, pending: &mut Pending) -> Option<Completion<SimBuffer>> {
        let slot = pending.slot;
        let world = &mut *self.world.borrow_mut();
        let faults = world.faults;
        let row = &mut self.rows[slot as usize];
        let client = row.client;
        if row.phase == Phase::Closing {
            if !row.submitted || world.rng.chance(faults.late_completion) {
                return None;
            }
            row.phase = Phase::Free;
            self.free.push(slot);
            self.stats.released += 1;
            return Some(Completion::Released { slot });
        }
        let has_room = row.room_submitted && world.room(client, self.options.socket_bytes) > 0;
        if has_room && world.rng.below(2) == 0 && !world.rng.chance(faults.late_completion) {
            (row.wants_room, row.room_submitted) = (false, false);
            return Some(Completion::Writable { slot });
        }
        if pending.dry || row.ended {
            return None;
        }
        let receivable = world.receivable(client);
        if receivable == 0 {
            pending.dry = true;
            if world.rng.chance(faults.late_completion) {
                return None;
            }
            let cause = world.end(client)?;
            row.ended = true;
            return Some(Completion::Ended { slot, cause });
        }
        let Some(mut memory) = self.pool.pop() else {
            pending.dry = true;
            self.stats.out_of_buffers += 1;
            return None;
        };
        let mut len = receivable.min(self.options.buffer_bytes);
        if world.rng.chance(faults.short_read) {
            len = world.rng.part_of(len);
            pending.dry = world.rng.below(2) == 0; // the rest of it comes in another turn
        }
        let link = world.link(client);
        memory[..len].iter_mut().zip(link.inbound.drain(..len)).for_each(|(to, from)| *to = from);
        if link.inbound.is_empty() {
            link.inbound = VecDeque::new(); // a quiet link keeps no memory
        }
        world.rng.fill(&mut memory[len..]);
        self.stats.receives += 1;
        Some(Completion::Received { slot, buffer: SimBuffer { memory, len, plane: self.id } })
    }

    fn note(&self, completion: &Completion<SimBuffer>) {
        let code = |kind: u64, slot: Slot| kind << 56 | u64::from(self.id) << 32 | u64::from(slot);
        let mut world = self.world.borrow_mut();
        match completion {
            Completion::Received { slot, buffer } => world.note(code(1, *slot), &buffer.memory[..buffer.len]),
            Completion::Ended { slot, cause: End::Eof } => world.note(code(2, *slot), &[]),
            Completion::Ended { slot, cause: End::Failed(errno) } => world.note(code(3, *slot), &errno.to_le_bytes()),
            Completion::Writable { slot } => world.note(code(4, *slot), &[]),
            Completion::Released { slot } => world.note(code(5, *slot), &[]),
        }
    }
}

impl Plane for SimPlane {
    type Socket = SimSocket;
    type Buffer = SimBuffer;

    fn socket(_: OwnedFd) -> Option<SimSocket> {
        None
    }

    fn capacity(&self) -> u32 {
        self.options.slots
    }

    fn adopt(&mut self, mut socket: SimSocket) -> Result<Slot, SimSocket> {
        assert!(Rc::ptr_eq(&socket.world, &self.world), "a socket of another net");
        if self.in_use() == self.options.slots as usize {
            return Err(socket);
        }
        socket.adopted = true;
        let row = Row {
            client: socket.client,
            phase: Phase::Open,
            submitted: false,
            ended: false,
            wants_room: false,
            room_submitted: false,
            batch: 0,
            stream_ended: false,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.rows[slot as usize] = row;
                slot
            }
            None => {
                self.rows.push(row);
                self.rows.len() as Slot - 1
            }
        };
        self.asked.push(slot);
        self.stats.adopted += 1;
        Ok(slot)
    }

    fn collect(&mut self, completions: &mut Vec<Completion<SimBuffer>>) {
        let missing = self.options.buffers - self.pool.len();
        assert!(missing == 0, "{missing} buffers of the last turn were not given back before collect");
        let faults = self.world.borrow().faults;
        let starved = self.world.borrow_mut().rng.chance(faults.no_buffers);
        self.stats.out_of_buffers += u64::from(starved);
        let mut pending = Vec::new();
        for (slot, row) in self.rows.iter().enumerate() {
            if row.phase == Phase::Free || (row.phase == Phase::Open && !row.submitted) {
                continue;
            }
            let mut world = self.world.borrow_mut();
            if row.phase == Phase::Open && world.rng.chance(faults.reset) {
                world.reset(row.client);
            }
            pending.push(Pending { slot: slot as Slot, dry: starved });
        }
        // The order within a connection holds; between connections anything goes.
        while !pending.is_empty() {
            let index = self.world.borrow_mut().rng.below(pending.len());
            match self.step(&mut pending[index]) {
                Some(completion) => {
                    self.note(&completion);
                    completions.push(completion);
                    if self.rows[pending[index].slot as usize].phase == Phase::Free {
                        pending.swap_remove(index);
                    }
                }
                None => drop(pending.swap_remove(index)),
            }
        }
    }

    fn give_back(&mut self, buffer: SimBuffer) {
        assert!(buffer.plane == self.id, "a buffer of another plane");
        self.pool.push(buffer.memory);
    }

    fn send_batch<'a, I>(&mut self, sends: I, shortfalls: &mut Vec<Shortfall>)
    where
        I: Iterator<Item = (Slot, &'a [u8])>,
    {
        self.batch += 1;
        for (index, (slot, bytes)) in (0..).zip(sends) {
            let (batch, socket_bytes) = (self.batch, self.options.socket_bytes);
            let row = self.open_row(slot, "send to");
            assert!(!row.stream_ended, "send to slot {slot} behind the end of its stream");
            assert!(row.batch != batch, "two sends to slot {slot} in one batch");
            row.batch = batch;
            let client = row.client;
            let world = &mut *self.world.borrow_mut();
            let mut len = bytes.len().min(world.room(client, socket_bytes));
            if world.rng.chance(world.faults.partial_send) {
                len = world.rng.below(len + 1);
            }
            let taken = world.send(client, &bytes[..len]).map(|()| len as u32);
            if taken != Ok(bytes.len() as u32) {
                world.note(6 << 56 | u64::from(slot), &len.to_le_bytes());
                self.stats.short_sends += 1;
                shortfalls.push(Shortfall { index, taken });
            }
        }
    }

    fn want_writable(&mut self, slot: Slot) {
        self.open_row(slot, "want_writable of").wants_room = true;
        self.asked.push(slot);
    }

    fn end_stream(&mut self, slot: Slot) {
        let row = self.open_row(slot, "end_stream of");
        assert!(!row.stream_ended, "the stream of slot {slot} was ended before");
        row.stream_ended = true;
        self.asked.push(slot);
    }

    fn close(&mut self, slot: Slot) {
        let row = self.open_row(slot, "close of");
        (row.phase, row.submitted) = (Phase::Closing, false);
        self.asked.push(slot);
    }

    /// Every time is a busy time that has just ended.
    fn tick(&mut self) -> bool {
        true
    }

    fn release_memory(&mut self) {}

    fn submit(&mut self) {
        self.stats.enters += 1;
        for slot in self.asked.drain(..) {
            let row = &mut self.rows[slot as usize];
            row.submitted = true;
            row.room_submitted = row.wants_room;
            if row.phase == Phase::Closing || row.stream_ended {
                self.world.borrow_mut().link(row.client).server_closed = true;
            }
        }
    }

    fn now(&self) -> Now {
        self.world.borrow().now()
    }

    fn stats(&self) -> PlaneStats {
        self.stats
    }
}

impl Drop for SimPlane {
    /// The process of the shard has died: its sockets are closed.
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        for row in self.rows.iter().filter(|row| row.phase != Phase::Free) {
            world.link(row.client).server_closed = true;
        }
    }
}
