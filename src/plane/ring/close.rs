//! Closing. Whatever is armed holds the file, so that closing the row alone would tell the peer nothing; cancelling
//! costs tens of microseconds among many armed requests. A shutdown ends them all at once, and tells the peer. Direct
//! descriptors cannot be shut down by the system call, and the Shutdown request is always given to a kernel thread.
//! Hence: install an ordinary descriptor, shutdown(2), close(2), wait for the final completion of everything armed,
//! then close the row. With nothing armed, closing the row is all it takes: it drops the last reference.
use super::Ring;
use super::buffers::Buffer;
use super::setup::Sizes;
use super::table::Phase;
use super::token::Kind;
use super::wake::Doorbell;
use crate::plane::{Completion, Slot};
use io_uring::{opcode, types};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub(super) struct Closing {
    /// Rows to be shut down, each counting one as armed, so that it cannot be released from under the queue.
    waiting: VecDeque<Slot>,
    installs: usize,
    installs_max: usize,
    /// Descriptors held back, to be let go when the process has no other left to borrow.
    reserve: Vec<OwnedFd>,
    reserve_max: usize,
}

impl Closing {
    pub fn new(doorbell: &Doorbell, sizes: &Sizes) -> Closing {
        let mut closing = Closing {
            waiting: VecDeque::new(),
            installs: 0,
            installs_max: sizes.installs,
            reserve: Vec::with_capacity(sizes.reserve),
            reserve_max: sizes.reserve,
        };
        while closing.refill(doorbell) {}
        closing
    }

    pub fn shrink_to(&mut self, kept: usize) {
        self.waiting.shrink_to(kept);
    }

    /// Any file will do. False when the reserve is full, or the process has no descriptor left just now.
    fn refill(&mut self, doorbell: &Doorbell) -> bool {
        if self.reserve.len() == self.reserve_max {
            return false;
        }
        doorbell.duplicate().map(|fd| self.reserve.push(fd)).is_ok()
    }
}

impl Ring {
    /// Shuts down the sending direction by the same way; what is armed goes on.
    pub(super) fn begin_shutdown(&mut self, slot: Slot) {
        let Some(row) = self.table.get(slot) else { return };
        if !matches!(row.phase, Phase::Open | Phase::Ended) {
            return;
        }
        row.armed += 1;
        self.closing.waiting.push_back(slot);
        self.install_next();
    }

    pub(super) fn begin_close(&mut self, slot: Slot) {
        let Some(row) = self.table.get(slot) else { return };
        debug_assert!(matches!(row.phase, Phase::Open | Phase::Ended), "close of slot {slot}, which is not open");
        if !matches!(row.phase, Phase::Open | Phase::Ended) {
            return;
        }
        row.phase = Phase::Closing;
        if row.armed == 0 {
            return self.release_when_unarmed(slot);
        }
        row.armed += 1;
        self.closing.waiting.push_back(slot);
        self.install_next();
    }

    fn install_next(&mut self) {
        while self.closing.installs < self.closing.installs_max {
            let Some(slot) = self.closing.waiting.pop_front() else { return };
            let row = self.table.row(slot);
            if row.armed == 1 && row.phase == Phase::Closing {
                row.armed = 0; // everything else has ended while it waited for its turn
                self.release_when_unarmed(slot);
            } else {
                self.closing.installs += 1;
                self.install(slot);
            }
        }
    }

    /// The request takes over the count of `waiting`.
    fn install(&mut self, slot: Slot) {
        self.ask(Kind::Install, slot, opcode::FixedFdInstall::new(types::Fixed(slot), 0).build());
    }

    pub(super) fn installed(&mut self, slot: Slot, result: i32) {
        if result < 0 {
            if matches!(-result, libc::EMFILE | libc::ENFILE) && self.closing.reserve.pop().is_some() {
                return self.install(slot);
            }
            self.closing.installs -= 1;
            let how = self.direction(slot);
            self.ask(Kind::Shutdown, slot, opcode::Shutdown::new(types::Fixed(slot), how).build());
            return self.install_next();
        }
        // SAFETY: a fresh descriptor that the kernel gave to this process for this request; nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        let how = self.direction(slot);
        // SAFETY: the descriptor is open. A failure means that the peer was faster, and everything armed has ended.
        unsafe { libc::shutdown(socket.as_raw_fd(), how) };
        drop(socket);
        self.closing.refill(&self.doorbell);
        self.closing.installs -= 1;
        self.shut_down(slot);
        self.install_next();
    }

    /// What a shutdown of this slot ends: everything when it is being closed, else only what is sent.
    fn direction(&mut self, slot: Slot) -> i32 {
        match self.table.row(slot).phase {
            Phase::Closing => libc::SHUT_RDWR,
            _ => libc::SHUT_WR,
        }
    }

    /// The shutdown has been made; its own hold on the row ends.
    pub(super) fn shut_down(&mut self, slot: Slot) {
        self.table.row(slot).armed -= 1;
        self.release_when_unarmed(slot);
    }

    /// Closes the row of a closing connection that nothing holds any more.
    pub(super) fn release_when_unarmed(&mut self, slot: Slot) {
        let row = self.table.row(slot);
        if row.phase == Phase::Closing && row.armed == 0 {
            row.phase = Phase::Releasing;
            self.ask(Kind::Close, slot, opcode::Close::new(types::Fixed(slot)).build());
        }
    }

    pub(super) fn released(&mut self, slot: Slot, out: &mut Vec<Completion<Buffer>>) {
        self.table.release(slot);
        self.stats.released += 1;
        out.push(Completion::Released { slot });
    }
}
