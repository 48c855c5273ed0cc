//! The ring's two queues: handing requests over without losing one, and taking completions without missing one.
use super::token::{Kind, Token};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::mem::ManuallyDrop;

pub(super) struct Queue {
    ring: IoUring,
    /// Completions that had to leave the kernel's queue early, older than any that are in it now.
    aside: Vec<cqueue::Entry>,
    /// Calls of io_uring_enter.
    pub enters: u64,
}

impl Queue {
    pub fn new(ring: IoUring) -> Queue {
        Queue { ring, aside: Vec::new(), enters: 0 }
    }

    pub fn shrink_to(&mut self, kept: usize) {
        self.aside.shrink_to(kept);
    }

    pub fn ring(&self) -> &IoUring {
        &self.ring
    }

    /// Queues a request; enters when the queue is full.
    ///
    /// # Safety
    /// Memory that the request points at must stay valid until the request has completed.
    #[inline]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.enter();
        }
    }

    /// Hands all queued requests over. Returns only with an empty submission queue: that is what lets a silent
    /// send be read as a success.
    pub fn enter(&mut self) {
        loop {
            self.enters += 1;
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The kernel wants completions taken, or is short of memory that they would free.
                    Some(libc::EBUSY | libc::EAGAIN) => self.set_aside(),
                    _ => panic!("io_uring_enter on the data ring failed: {error}"),
                },
            }
            if self.ring.submission().is_empty() {
                return;
            }
        }
    }

    /// Enters if there is anything to hand over. Completions set aside would not wake whoever waits on the ring's
    /// descriptor, so an empty request stands in for them.
    pub fn submit(&mut self) {
        if !self.aside.is_empty() {
            self.nudge();
        }
        if !self.ring.submission().is_empty() {
            self.enter();
        }
    }

    /// Whether there is anything to take: a look at memory that is shared with the kernel.
    pub fn has_completions(&mut self) -> bool {
        let submission = self.ring.submission();
        let held_back = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        held_back || !self.aside.is_empty() || !self.ring.completion().is_empty()
    }

    /// Makes the descriptor readable.
    pub fn nudge(&mut self) {
        let nudge = opcode::Nop::new().build().user_data(Token::new(Kind::Nudge, 0, 0).to_bits());
        // SAFETY: the request carries no pointer.
        unsafe { self.push(&nudge) };
    }

    /// Takes every completion, also those the kernel holds back: task work to run, or overflow.
    pub fn take(&mut self, into: &mut Vec<cqueue::Entry>) {
        loop {
            let submission = self.ring.submission();
            let held_back = submission.taskrun() || submission.cq_overflow();
            drop(submission);
            if held_back {
                self.enter();
            }
            into.append(&mut self.aside);
            into.extend(self.ring.completion());
            if !self.ring.submission().cq_overflow() {
                return;
            }
        }
    }

    /// Shows every completion and leaves it where it is, so that the ring's descriptor stays readable on its
    /// account and the next `take` returns it.
    pub fn peek(&mut self, mut look: impl FnMut(u64, i32)) {
        // Overflowed completions can only be seen after those before them have gone.
        while self.ring.submission().cq_overflow() {
            self.set_aside();
            self.enter();
        }
        self.aside.iter().for_each(|entry| look(entry.user_data(), entry.result()));
        // Its drop would tell the kernel that these were consumed.
        let mut completions = ManuallyDrop::new(self.ring.completion());
        (&mut *completions).for_each(|entry| look(entry.user_data(), entry.result()));
    }

    pub(super) fn set_aside(&mut self) {
        self.aside.extend(self.ring.completion());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queues that overflow at once.
    fn tiny() -> Queue {
        Queue::new(IoUring::builder().setup_submit_all().setup_cqsize(8).build(4).expect("ring"))
    }

    fn push_nops(queue: &mut Queue, numbers: std::ops::Range<u64>) {
        for number in numbers {
            // SAFETY: the request carries no pointer.
            unsafe { queue.push(&opcode::Nop::new().build().user_data(number)) };
        }
        queue.enter();
    }

    fn take(queue: &mut Queue) -> Vec<u64> {
        let mut entries = Vec::new();
        queue.take(&mut entries);
        entries.iter().map(cqueue::Entry::user_data).collect()
    }

    fn peek(queue: &mut Queue) -> Vec<u64> {
        let mut seen = Vec::new();
        queue.peek(|bits, _| seen.push(bits));
        seen
    }

    #[test]
    fn overflow_loses_and_reorders_nothing() {
        let mut queue = tiny();
        push_nops(&mut queue, 0..1_000);
        assert_eq!(take(&mut queue), (0..1_000).collect::<Vec<_>>());
        assert!(!queue.has_completions() && take(&mut queue).is_empty());
    }

    #[test]
    fn a_look_leaves_everything_in_place() {
        for count in [5, 1_000] {
            let mut queue = tiny();
            push_nops(&mut queue, 0..count);
            let all: Vec<u64> = (0..count).collect();
            assert_eq!(peek(&mut queue), all);
            assert!(queue.has_completions());
            assert_eq!(peek(&mut queue), all);
            push_nops(&mut queue, count..count + 1);
            assert_eq!(take(&mut queue), (0..=count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_was_set_aside_keeps_the_descriptor_readable() {
        let mut queue = tiny();
        push_nops(&mut queue, 0..3);
        queue.set_aside();
        assert!(queue.ring.completion().is_empty() && queue.has_completions());
        queue.submit();
        assert!(!queue.ring.completion().is_empty());
        let taken = take(&mut queue);
        assert_eq!((taken.len(), &taken[..3]), (4, &[0, 1, 2][..]));
        queue.submit();
        assert!(queue.ring.completion().is_empty(), "one nudge is enough");
    }
}
