//! Receiving, in two tiers. An idle connection is a one-shot poll: the cheapest way to wait. One that speaks several
//! times in quick succession gets a multishot receive: the cheapest way to receive, at 600 bytes more of kernel
//! memory. Silence takes it back.
//!
//! Time is counted in ticks (`Plane::tick`, about ten a second): no clock is read per message.
use super::Ring;
use super::buffers::{BUFFER_GROUP, Buffer};
use super::table::{Note, Phase, Tier};
use super::token::{Kind, Token};
use crate::plane::{Completion, End, Slot};
use io_uring::{opcode, squeue, types};
use std::collections::VecDeque;

/// Receives in a row that make a connection hot. Fewer, and a client that says two things at a time flaps between
/// tiers; more, and a stream pays a poll and a receive per piece for longer.
const HITS_TO_PROMOTE: u8 = 3;

/// Two receives are in a row when at most this many ticks lie between them.
const HIT_GAP_TICKS: u16 = 2;

/// A hot connection is quiet after this many ticks without a byte. A cancel costs as much as some thirty messages
/// save, so it should be rare.
const QUIET_TICKS: u16 = 20;

/// A demotion is an AsyncCancel, whose cost grows with the requests armed (6 µs at 16,000): pace it. At the lower end the pace of
/// every day; after a rush in which thousands became hot a sixteenth of them, so that their 600 bytes each come back within half a
/// minute at some 6 % of a core.
const DEMOTIONS_PER_TICK: std::ops::RangeInclusive<usize> = 64..=1_024;
const DEMOTED_SHARE: usize = 16;

/// Hot rows looked at per tick: some ten microseconds, and all of a busy shard's within a second.
const SCANS_PER_TICK: usize = 4_096;

#[derive(Default)]
pub(super) struct Receiving {
    ticks: u16,
    /// Slots that were promoted and not yet found otherwise; `Note::Listed` says who is in it.
    hot: Vec<Slot>,
    /// Where the next tick goes on looking through `hot`.
    next: usize,
    /// Open rows with nothing armed for input, waiting until buffers are back.
    unarmed: Vec<Slot>,
    /// Idle rows that are readable, oldest first, with their generation: nothing is armed for them. They wait for a buffer each.
    ready: VecDeque<(Slot, u16)>,
}

impl Receiving {
    /// Something ended that waits to be armed again.
    pub fn has_unarmed(&self) -> bool {
        !self.unarmed.is_empty() || !self.ready.is_empty()
    }

    pub fn shrink_to(&mut self, kept: usize) {
        self.hot.shrink_to(kept);
        self.unarmed.shrink_to(kept);
        self.ready.shrink_to(kept);
    }

    /// There may be connections to demote.
    pub fn has_hot(&self) -> bool {
        !self.hot.is_empty()
    }

    /// Readable connections wait for buffers: there must be a next turn, whatever else happens.
    pub fn is_behind(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl Ring {
    pub(super) fn arm_poll(&mut self, slot: Slot) {
        // One-shot: a multishot poll would survive shutdown and close, and pin the socket.
        self.arm(Kind::Readable, slot, opcode::PollAdd::new(types::Fixed(slot), libc::POLLIN as u32).build());
    }

    /// A poll says that there is something: bytes, the end of the stream, or an error. The receive will tell.
    pub(super) fn readable(&mut self, slot: Slot, result: i32, out: &mut Vec<Completion<Buffer>>) {
        let row = self.table.row(slot);
        row.armed -= 1;
        match row.phase {
            Phase::Open if result < 0 => self.end(slot, End::Failed(-result), out),
            Phase::Open => {
                let generation = row.generation;
                self.receiving.ready.push_back((slot, generation));
            }
            _ => self.release_when_unarmed(slot),
        }
    }

    /// Asks for the bytes of readable connections, of as many as there are buffers: when thousands speak at once, each turn must
    /// cost what it receives and not what still waits. Whether any was asked; they complete in the next enter.
    pub(super) fn ask_ready(&mut self) -> bool {
        let mut free = self.pool.free();
        let mut has_asked = false;
        while free > 0
            && let Some((slot, generation)) = self.receiving.ready.pop_front()
        {
            let row = self.table.row(slot);
            if row.phase == Phase::Open && row.generation == generation {
                let receive = opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0)
                    .buf_group(BUFFER_GROUP)
                    .flags(libc::MSG_DONTWAIT)
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT);
                self.arm(Kind::Receive, slot, receive);
                (free, has_asked) = (free - 1, true);
            }
        }
        has_asked
    }

    /// A completion of either kind of receive. `last`: the request is over.
    pub(super) fn received(
        &mut self,
        slot: Slot,
        result: i32,
        buffer: Option<Buffer>,
        last: bool,
        out: &mut Vec<Completion<Buffer>>,
    ) {
        let row = self.table.row(slot);
        row.armed -= u8::from(last);
        if row.phase != Phase::Open {
            drop(buffer); // back before anything else asks for one
            return self.release_when_unarmed(slot);
        }
        match (result, buffer) {
            (1.., Some(buffer)) => {
                out.push(Completion::Received { slot, buffer });
                self.stats.receives += 1;
                self.count_hit(slot, last);
            }
            (1.., None) => self.end(slot, End::Failed(libc::EIO), out),
            (0, _) => self.end(slot, End::Eof, out),
            // Nothing is lost by any of these: what was not received stays in the socket.
            _ => match -result {
                libc::ECANCELED if last => self.fall_idle(slot),
                errno @ (libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => {
                    self.stats.out_of_buffers += u64::from(errno == libc::ENOBUFS);
                    let row = self.table.row(slot);
                    if last && errno == libc::ENOBUFS && row.tier != Tier::Demoting {
                        // Takes its turn with the others: armed again, it would only fail again. One receive makes a hot one hot again.
                        let was_hot = std::mem::replace(&mut row.tier, Tier::Idle) == Tier::Hot;
                        if was_hot {
                            row.set_hits(HITS_TO_PROMOTE - 1);
                        }
                        let generation = row.generation;
                        self.receiving.ready.push_back((slot, generation));
                    } else if last {
                        self.receiving.unarmed.push(slot);
                    }
                }
                errno => self.end(slot, End::Failed(errno), out),
            },
        }
    }

    /// Keeps count, and arms what comes next if the request is over.
    fn count_hit(&mut self, slot: Slot, last: bool) {
        let ticks = self.receiving.ticks;
        let row = self.table.row(slot);
        let gap = ticks.wrapping_sub(row.stamp);
        row.stamp = ticks;
        if !last {
            return;
        }
        if row.tier != Tier::Idle {
            // A multishot receive ends like this when the completion queue overflows.
            return self.receiving.unarmed.push(slot);
        }
        row.set_hits(if gap <= HIT_GAP_TICKS { row.hits() + 1 } else { 1 });
        if row.hits() < HITS_TO_PROMOTE {
            return self.arm_poll(slot);
        }
        self.stats.promoted += 1;
        self.become_hot(slot);
        self.receiving.unarmed.push(slot);
    }

    fn become_hot(&mut self, slot: Slot) {
        let row = self.table.row(slot);
        row.tier = Tier::Hot;
        row.set_hits(0);
        if !row.note(Note::Listed, true) {
            self.receiving.hot.push(slot);
        }
    }

    fn fall_idle(&mut self, slot: Slot) {
        let row = self.table.row(slot);
        row.tier = Tier::Idle;
        row.set_hits(0);
        self.stats.demoted += 1;
        self.arm_poll(slot);
    }

    fn end(&mut self, slot: Slot, cause: End, out: &mut Vec<Completion<Buffer>>) {
        self.table.row(slot).phase = Phase::Ended;
        out.push(Completion::Ended { slot, cause });
    }

    /// Arms again what ended for want of a buffer or of room for completions, in the order in which it ended.
    pub(super) fn rearm(&mut self) {
        let mut unarmed = std::mem::take(&mut self.receiving.unarmed);
        for slot in unarmed.drain(..) {
            let row = self.table.row(slot);
            match row.tier {
                _ if row.phase != Phase::Open => {}
                Tier::Hot => {
                    let stream = opcode::RecvMulti::new(types::Fixed(slot), BUFFER_GROUP).build();
                    self.arm(Kind::Stream, slot, stream);
                }
                Tier::Demoting => self.fall_idle(slot),
                Tier::Idle => self.arm_poll(slot),
            }
        }
        self.receiving.unarmed = unarmed; // for its allocation: nothing above adds to it
    }

    /// What stands between two messages is counted in these.
    pub(super) fn count_tick(&mut self) {
        self.receiving.ticks = self.receiving.ticks.wrapping_add(1);
    }

    /// Once a tick, as far as the pace allows.
    pub(super) fn demote_quiet(&mut self) {
        let mut demotions = 0;
        let pace = self.receiving.hot.len() / DEMOTED_SHARE;
        let pace = pace.clamp(*DEMOTIONS_PER_TICK.start(), *DEMOTIONS_PER_TICK.end());
        for _ in 0..self.receiving.hot.len().min(SCANS_PER_TICK) {
            if self.receiving.next >= self.receiving.hot.len() {
                self.receiving.next = 0;
            }
            let slot = self.receiving.hot[self.receiving.next];
            let (ticks, row) = (self.receiving.ticks, self.table.row(slot));
            if row.phase == Phase::Open && row.tier == Tier::Hot {
                if ticks.wrapping_sub(row.stamp) < QUIET_TICKS {
                    self.receiving.next += 1;
                    continue;
                }
                if demotions == pace {
                    return;
                }
                demotions += 1;
                row.tier = Tier::Demoting;
                let stream = Token::new(Kind::Stream, row.generation.into(), slot);
                let cancel = opcode::AsyncCancel::new(stream.to_bits()).build();
                self.ask(Kind::Cancel, slot, cancel.flags(squeue::Flags::SKIP_SUCCESS));
            }
            self.table.row(slot).note(Note::Listed, false);
            self.receiving.hot.swap_remove(self.receiving.next);
        }
    }

    /// The receive had ended before (ENOENT), and its own completion says how things stand, or it was just running
    /// (EALREADY) and goes on.
    pub(super) fn cancel_failed(&mut self, slot: Slot, result: i32) {
        let row = self.table.row(slot);
        if result == -libc::EALREADY && row.phase == Phase::Open && row.tier == Tier::Demoting {
            self.become_hot(slot);
        }
    }
}
