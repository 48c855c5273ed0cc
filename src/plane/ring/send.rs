//! Sending: one request per connection and turn, complete when `send_batch` returns.
//!
//! MSG_DONTWAIT: a send is done or refused inside io_uring_enter and never parked, so its memory has to hold only
//! until then. MSG_WAITALL: a short send counts as a failure. CQE_SKIP_SUCCESS: only failures complete. Without
//! WAITALL, a short send would count as a success and its completion be skipped: bytes would be lost in silence.
use super::Ring;
use super::buffers::Buffer;
use super::queue::Queue;
use super::table::{Note, Phase};
use super::token::{GENERATION_MASK, Kind, Token};
use crate::plane::{Completion, Shortfall, Slot};
use io_uring::{opcode, squeue, types};

/// The kernel cuts longer requests short without saying so. No outbox comes near it (R-CONN-5).
const SEND_BYTES_MAX: usize = 1 << 30;

/// Enters until the submission queue is empty, also when the caller's iterator panics.
struct Flush<'a> {
    queue: &'a mut Queue,
    pushed: bool,
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        if self.pushed {
            self.queue.enter();
        }
    }
}

impl Ring {
    pub(super) fn send_all<'a>(
        &mut self,
        sends: impl Iterator<Item = (Slot, &'a [u8])>,
        shortfalls: &mut Vec<Shortfall>,
    ) {
        self.batch = self.batch.wrapping_add(1) & GENERATION_MASK;
        let batch = self.batch;
        let mut flush = Flush { queue: &mut self.queue, pushed: false };
        for (index, (slot, bytes)) in (0..).zip(sends) {
            debug_assert!(
                self.table.get(slot).is_some_and(|row| matches!(row.phase, Phase::Open | Phase::Ended)),
                "send to slot {slot}, which is not open"
            );
            assert!(bytes.len() <= SEND_BYTES_MAX, "a send of {} bytes", bytes.len());
            if bytes.is_empty() {
                continue;
            }
            flush.pushed = true;
            let send = request(slot, bytes, batch, index);
            // SAFETY: the kernel reads `bytes` only inside io_uring_enter (DONTWAIT, see the module), and the
            // slices live for 'a, which outlasts this call. `flush` enters until the queue is empty before the call
            // ends: by the drop below, or by unwinding if `sends` panics. Should that enter fail for good, it
            // panics; while unwinding that is an abort. So no request is ever left behind that points at freed
            // memory.
            unsafe { flush.queue.push(&send) };
        }
        let pushed = flush.pushed;
        drop(flush);
        if !pushed {
            return;
        }
        self.settle(shortfalls);
    }

    /// Appends what the batch has fallen short of. The queue is empty and every send has run: those that were not taken
    /// whole have completions by now.
    fn settle(&mut self, shortfalls: &mut Vec<Shortfall>) {
        let batch = self.batch;
        let before = shortfalls.len();
        self.queue.peek(|bits, result| match Token::from_bits(bits) {
            Some(Token { kind: Kind::Send, generation, subject }) if generation == batch => {
                shortfalls.push(Shortfall { index: subject, taken: taken(result) });
            }
            _ => {}
        });
        self.stats.short_sends += (shortfalls.len() - before) as u64;
    }

    pub(super) fn arm_writable(&mut self, slot: Slot) {
        let Some(row) = self.table.get(slot) else { return };
        debug_assert!(matches!(row.phase, Phase::Open | Phase::Ended), "slot {slot} is not open");
        if matches!(row.phase, Phase::Open | Phase::Ended) && !row.note(Note::AwaitsRoom, true) {
            let poll = opcode::PollAdd::new(types::Fixed(slot), libc::POLLOUT as u32);
            self.arm(Kind::Writable, slot, poll.build());
        }
    }

    pub(super) fn writable(&mut self, slot: Slot, out: &mut Vec<Completion<Buffer>>) {
        let row = self.table.row(slot);
        row.armed -= 1;
        row.note(Note::AwaitsRoom, false);
        match row.phase {
            Phase::Open | Phase::Ended => out.push(Completion::Writable { slot }),
            _ => self.release_when_unarmed(slot),
        }
    }
}

/// A send of all of `bytes`, which is to complete only when it was not.
fn request(row: Slot, bytes: &[u8], batch: u32, index: u32) -> squeue::Entry {
    opcode::Send::new(types::Fixed(row), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(Token::new(Kind::Send, batch, index).to_bits())
}

/// The rings of a batch that goes to several: enters each that has sends of it, also when the caller's iterator panics.
struct FlushAll<'a>(&'a mut [Ring]);

impl Drop for FlushAll<'_> {
    fn drop(&mut self) {
        /// A panic at one ring would leave the sends of the others behind.
        struct Abort;
        impl Drop for Abort {
            fn drop(&mut self) {
                std::process::abort();
            }
        }
        let abort = Abort;
        self.0.iter_mut().filter(|ring| ring.is_in_batch).for_each(|ring| ring.queue.enter());
        std::mem::forget(abort);
    }
}

/// `Plane::send_batch` over several rings of so many rows: all are pushed in order, then each ring is entered once.
pub(super) fn send_over<'a>(
    rings: &mut [Ring],
    rows: u32,
    sends: impl Iterator<Item = (Slot, &'a [u8])>,
    shortfalls: &mut Vec<Shortfall>,
) {
    // Also of a batch that was cut off by a panic.
    rings.iter_mut().for_each(|ring| ring.is_in_batch = false);
    let flush = FlushAll(rings);
    for (index, (slot, bytes)) in (0..).zip(sends) {
        let (ring, row) = (&mut flush.0[(slot / rows) as usize], slot % rows);
        debug_assert!(
            ring.table.get(row).is_some_and(|row| matches!(row.phase, Phase::Open | Phase::Ended)),
            "send to slot {slot}, which is not open"
        );
        assert!(bytes.len() <= SEND_BYTES_MAX, "a send of {} bytes", bytes.len());
        if bytes.is_empty() {
            continue;
        }
        if !std::mem::replace(&mut ring.is_in_batch, true) {
            ring.batch = ring.batch.wrapping_add(1) & GENERATION_MASK;
        }
        let send = request(row, bytes, ring.batch, index);
        // SAFETY: as in `Ring::send_all`: the kernel reads `bytes` only inside io_uring_enter, and the slices outlast this
        // call. The ring is marked, so `flush` enters until its queue is empty before the call ends, in order or by
        // unwinding. Should the enter of any ring fail for good, `flush` aborts: no request is left behind in another.
        unsafe { ring.queue.push(&send) };
    }
    drop(flush);
    let before = shortfalls.len();
    rings.iter_mut().filter(|ring| ring.is_in_batch).for_each(|ring| ring.settle(shortfalls));
    shortfalls[before..].sort_unstable_by_key(|shortfall| shortfall.index);
}

/// Bytes taken, none for a passing lack of room or memory, or the errno of a broken connection.
fn taken(result: i32) -> Result<u32, i32> {
    match -result {
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR => Ok(0),
        1.. => Err(-result),
        _ => Ok(result as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_shortfalls() {
        assert_eq!(taken(7), Ok(7));
        assert_eq!(taken(0), Ok(0));
        assert_eq!(taken(-libc::EAGAIN), Ok(0));
        assert_eq!(taken(-libc::EPIPE), Err(libc::EPIPE));
    }
}
