//! Waiting for several rings at once: the first ring of a shard keeps a poll armed on the descriptor of each other, so that
//! whoever sleeps on the first needs to wait for nothing else.
//!
//! No wake-up is lost. A poll looks at the level when it is armed, and from then on each completion that is posted fires it. A
//! fired poll is armed again before the shard sleeps; in between its ring may be emptied or not. Work that the kernel holds
//! back for this thread (COOP_TASKRUN) belongs to the thread, not to a ring: the host's wait does it, and the completions that
//! it posts fire the poll. (A deferred ring, DEFER_TASKRUN, would wait to be entered itself.) Completions that overflow count
//! as readable, and for those set aside stands an empty request (`Queue::submit`).
use super::Ring;
use super::token::{Kind, Token};
use io_uring::{opcode, types};
use std::os::fd::{AsRawFd, BorrowedFd};

impl Ring {
    /// Becomes readable when another ring is. One-shot, as a multishot poll on a ring falls back to that anyway.
    pub(super) fn arm_neighbour(&mut self, number: u32, ring: BorrowedFd<'_>) {
        let poll = opcode::PollAdd::new(types::Fd(ring.as_raw_fd()), libc::POLLIN as u32);
        let poll = poll.build().user_data(Token::new(Kind::Neighbour, 0, number).to_bits());
        // SAFETY: the request carries no pointer.
        unsafe { self.queue.push(&poll) };
    }

    /// Whether `collect` would do anything: found out without a system call.
    pub(super) fn has_work(&mut self) -> bool {
        self.receiving.has_unarmed() || self.queue.has_completions()
    }
}
