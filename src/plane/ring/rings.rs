//! Several rings in one thread that look like one. A ring's table has at most RLIMIT_NOFILE rows; a shard of more
//! connections takes more rings, rather than the server more shards: these would not share a core's turn, and rooms
//! would be spread over them.
//!
//! A slot is the ring's number times the rows of a ring, plus the row. Rings are filled in order, so that slots stay
//! dense and low. The host waits on the first ring's descriptor alone (`neighbours`); the others are looked at in
//! shared memory, and cost no system call while they are quiet. With one ring, all of this is a branch.
use super::buffers::Buffer;
use super::setup::{FIRST, FURTHER, SetupError, Sizes};
use super::{Ring, RingOptions, send};
use crate::base::clock::Now;
use crate::base::mailbox::Wake;
use crate::plane::{Completion, Plane, PlaneStats, Shortfall, Slot, os};
use std::ops::Add;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// See the module. Stays in the thread that made it, as each of its rings.
pub struct Rings {
    /// At least one.
    rings: Vec<Ring>,
    /// Of each.
    rows: u32,
    /// All rings before it are full.
    first_with_room: usize,
    /// Which ring's quiet connections are looked for next.
    next_to_demote: usize,
}

impl Rings {
    /// `options` are of one ring. The calling thread is the rings' from now on. See `Ring::new`.
    ///
    /// # Panics
    /// When `count` is 0 or there are more slots than numbers.
    pub fn new(options: &RingOptions, count: u32) -> Result<Rings, SetupError> {
        Rings::sized(options, count, &FIRST, &FURTHER)
    }

    fn sized(options: &RingOptions, count: u32, first: &Sizes, further: &Sizes) -> Result<Rings, SetupError> {
        assert!(count > 0 && options.slots.checked_mul(count).is_some(), "{count} rings of {} slots", options.slots);
        let first = Ring::first(options, first)?;
        let doorbell = first.doorbell.clone();
        let mut rings = vec![first];
        for number in 1..count {
            let ring = Ring::silent(&options.further(count), further, doorbell.clone())?;
            rings[0].arm_neighbour(number, ring.as_fd());
            rings.push(ring);
        }
        rings[0].queue.submit();
        Ok(Rings { rings, rows: options.slots, first_with_room: 0, next_to_demote: 0 })
    }

    /// Makes the descriptor readable from any thread.
    pub fn waker(&self) -> Box<dyn Wake> {
        self.rings[0].waker()
    }

    /// The ring of a slot, and its row there.
    fn locate(&mut self, slot: Slot) -> (&mut Ring, Slot) {
        match &mut self.rings[..] {
            [ring] => (ring, slot),
            rings => (&mut rings[(slot / self.rows) as usize], slot % self.rows),
        }
    }
}

impl Plane for Rings {
    type Socket = OwnedFd;
    type Buffer = Buffer;

    fn socket(descriptor: OwnedFd) -> Option<OwnedFd> {
        Some(descriptor)
    }

    fn capacity(&self) -> u32 {
        self.rings.len() as u32 * self.rows
    }

    fn adopt(&mut self, socket: OwnedFd) -> Result<Slot, OwnedFd> {
        while self.first_with_room + 1 < self.rings.len() && self.rings[self.first_with_room].table.is_full() {
            self.first_with_room += 1;
        }
        let row = self.rings[self.first_with_room].adopt(socket)?;
        Ok(self.first_with_room as u32 * self.rows + row)
    }

    fn collect(&mut self, completions: &mut Vec<Completion<Buffer>>) {
        if let [ring] = &mut self.rings[..] {
            return ring.collect(completions);
        }
        for (number, ring) in self.rings.iter_mut().enumerate() {
            if !ring.has_work() {
                continue;
            }
            let (before, released) = (completions.len(), ring.stats.released);
            ring.collect(completions);
            if ring.stats.released > released {
                self.first_with_room = self.first_with_room.min(number);
            }
            let offset = number as u32 * self.rows;
            completions[before..].iter_mut().for_each(|completion| *completion.slot_mut() += offset);
        }
    }

    fn give_back(&mut self, buffer: Buffer) {
        drop(buffer);
    }

    fn send_batch<'a, I>(&mut self, sends: I, shortfalls: &mut Vec<Shortfall>)
    where
        I: Iterator<Item = (Slot, &'a [u8])>,
    {
        match &mut self.rings[..] {
            [ring] => ring.send_all(sends, shortfalls),
            rings => send::send_over(rings, self.rows, sends, shortfalls),
        }
    }

    fn want_writable(&mut self, slot: Slot) {
        let (ring, row) = self.locate(slot);
        ring.want_writable(row);
    }

    fn end_stream(&mut self, slot: Slot) {
        let (ring, row) = self.locate(slot);
        ring.end_stream(row);
    }

    fn close(&mut self, slot: Slot) {
        let (ring, row) = self.locate(slot);
        ring.close(row);
    }

    /// Demotes in one ring a tick, of those that have whom to: as many as a single ring would, whatever their number.
    fn tick(&mut self) -> bool {
        let count = self.rings.len();
        self.rings.iter_mut().for_each(Ring::count_tick);
        let in_turn = (0..count).map(|step| (self.next_to_demote + step) % count);
        if let Some(number) = in_turn.into_iter().find(|&number| self.rings[number].receiving.has_hot()) {
            self.rings[number].demote_quiet();
            self.next_to_demote = (number + 1) % count;
        }
        let stats = self.rings.iter().map(|ring| ring.stats).fold(PlaneStats::default(), PlaneStats::add);
        self.rings[0].quiet.tick(&stats)
    }

    fn release_memory(&mut self) {
        self.rings.iter_mut().for_each(Ring::shrink);
        os::release_memory();
    }

    fn submit(&mut self) {
        let [first, further @ ..] = &mut self.rings[..] else { return };
        further.iter_mut().for_each(Ring::submit);
        while let Some(number) = first.fired.pop() {
            first.arm_neighbour(number, further[number as usize - 1].as_fd());
        }
        first.submit();
    }

    fn now(&self) -> Now {
        os::now()
    }

    fn stats(&self) -> PlaneStats {
        self.rings.iter().map(Ring::stats).fold(PlaneStats::default(), PlaneStats::add)
    }
}

impl AsFd for Rings {
    /// The descriptor to wait on: readable while there is something to collect from any ring.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rings[0].as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Received;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// Queues that overflow at once.
    const TINY: Sizes = Sizes { submissions: 4, completions: 8, installs: 2, reserve: 1 };
    const ROWS: usize = 12;

    /// Three full rings, and the peers by slot.
    fn full() -> (Rings, Vec<UnixStream>) {
        let options = RingOptions { slots: ROWS as u32, buffers: 16, buffer_bytes: 64 };
        let mut rings = Rings::sized(&options, 3, &TINY, &TINY).expect("rings");
        let peers = (0..3 * ROWS as u32).map(|slot| {
            let (peer, socket) = UnixStream::pair().expect("a pair");
            assert_eq!(rings.adopt(socket.into()).expect("room"), slot);
            peer
        });
        let peers = peers.collect();
        rings.submit();
        (rings, peers)
    }

    /// Whether the descriptor becomes readable in this time.
    fn is_readable(rings: &Rings, timeout_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd: rings.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: the kernel reads and writes one `pollfd`, which is ours.
            let ready = unsafe { libc::poll(&mut poll, 1, timeout_ms) };
            if ready >= 0 {
                return ready == 1;
            }
        }
    }

    /// A turn, after a sleep; the slots of what it received.
    fn turn(rings: &mut Rings) -> Vec<Slot> {
        assert!(is_readable(rings, 20_000), "asleep with something to collect");
        heard(rings)
    }

    fn heard(rings: &mut Rings) -> Vec<Slot> {
        let mut completions = Vec::new();
        rings.collect(&mut completions);
        let heard = completions.into_iter().map(|completion| match completion {
            Completion::Received { slot, mut buffer } => {
                assert_eq!((buffer.len(), buffer.bytes()[0]), (1, slot as u8), "the slot whose bytes it is");
                slot
            }
            other => panic!("{other:?}"),
        });
        let heard = heard.collect();
        rings.submit();
        heard
    }

    fn say(peers: &mut [UnixStream], slot: Slot) {
        peers[slot as usize].write_all(&[slot as u8]).expect("write");
    }

    /// Nothing keeps the descriptor readable when nothing has happened.
    fn fall_quiet(rings: &mut Rings) {
        let turns = (0..10).take_while(|_| is_readable(rings, 0) && heard(rings).is_empty()).count();
        assert!(turns < 10, "it never sleeps");
    }

    #[test]
    fn overflow_in_any_ring_wakes_and_loses_nothing() {
        let (mut rings, mut peers) = full();
        for round in 0..300 {
            // All of one ring: more than its queue holds.
            let first = (round % 3 * ROWS) as u32;
            let speakers: Vec<Slot> = (first..first + ROWS as u32).collect();
            speakers.iter().for_each(|&slot| say(&mut peers, slot));
            let mut all = Vec::new();
            while all.len() < ROWS {
                all.extend(turn(&mut rings));
            }
            all.sort_unstable();
            assert_eq!(all, speakers);
            fall_quiet(&mut rings);
        }
    }

    /// Each turn receives as many as there are buffers, and is not charged for those that wait.
    #[test]
    fn a_crowd_is_received_in_turns_of_the_buffers() {
        const CROWD: u32 = 200;
        let options = RingOptions { slots: CROWD, buffers: 16, buffer_bytes: 64 };
        let mut rings = Rings::new(&options, 1).expect("a ring");
        let connect = |slot| {
            let (peer, socket) = UnixStream::pair().expect("a pair");
            assert_eq!(rings.adopt(socket.into()).expect("room"), slot);
            peer
        };
        let mut peers: Vec<UnixStream> = (0..CROWD).map(connect).collect();
        rings.submit();
        for _ in 0..20 {
            (0..CROWD).for_each(|slot| say(&mut peers, slot));
            let mut all = Vec::new();
            while all.len() < CROWD as usize {
                let heard = turn(&mut rings);
                assert!(heard.len() <= 16, "{} with 16 buffers", heard.len());
                all.extend(heard);
            }
            all.sort_unstable();
            assert_eq!(all, (0..CROWD).collect::<Vec<_>>());
            fall_quiet(&mut rings);
        }
        // Those that have become hot take buffers by themselves, and run out of them once for each message at most.
        let stats = rings.stats();
        assert!(stats.promoted > 0 && stats.out_of_buffers <= u64::from(CROWD) * 20, "{stats:?}");
    }

    /// What arrives between `collect` and the sleep, with the poll on its ring armed or fired.
    #[test]
    fn nothing_is_missed_on_the_way_to_sleep() {
        let (mut rings, mut peers) = full();
        for round in 0..2_000u32 {
            let (one, other) = (round % 36, (round * 7 + 12) % 36);
            say(&mut peers, one);
            assert!(is_readable(&rings, 20_000));
            let mut completions = Vec::new();
            rings.collect(&mut completions);
            drop(completions);
            if round % 2 == 0 {
                say(&mut peers, other);
                rings.submit();
            } else {
                rings.submit();
                say(&mut peers, other);
            }
            let mut all = Vec::new();
            while !all.contains(&other) {
                all = turn(&mut rings);
            }
        }
    }

    #[test]
    fn what_a_ring_sets_aside_keeps_the_descriptor_readable() {
        let (mut rings, mut peers) = full();
        for number in [1, 2] {
            let slot = (number * ROWS) as u32;
            say(&mut peers, slot);
            assert!(is_readable(&rings, 20_000));
            rings.rings[0].collect(&mut Vec::new()); // the poll has fired
            rings.rings[number].queue.enter();
            rings.rings[number].queue.set_aside();
            rings.submit();
            assert_eq!(turn(&mut rings), [slot]);
            fall_quiet(&mut rings);
        }
    }

    #[test]
    fn a_batch_over_all_rings_is_settled_in_its_order() {
        let (mut rings, mut peers) = full();
        let large = vec![7; 1 << 20];
        // Every third is too large; the order goes to and fro between rings.
        let slots: Vec<Slot> = (0..36).map(|index| index * 13 % 36).collect();
        let sends =
            slots.iter().enumerate().map(|(index, &slot)| (slot, if index % 3 == 0 { &large[..] } else { b"x" }));
        let mut shortfalls = Vec::new();
        rings.send_batch(sends, &mut shortfalls);
        let indices: Vec<u32> = shortfalls.iter().map(|shortfall| shortfall.index).collect();
        assert_eq!(indices, (0..36).step_by(3).collect::<Vec<_>>());
        assert_eq!(rings.stats().short_sends, 12);
        for (index, &slot) in slots.iter().enumerate() {
            let whole = if index % 3 == 0 { shortfalls[index / 3].taken.expect("not broken") as usize } else { 1 };
            let mut bytes = vec![0; whole];
            peers[slot as usize].read_exact(&mut bytes).expect("what was taken is there");
            peers[slot as usize].set_nonblocking(true).expect("option");
            assert!(peers[slot as usize].read(&mut [0; 1]).is_err(), "and no more");
        }
    }
}
