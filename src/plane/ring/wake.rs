//! Waking the shard from other threads: an eventfd on which the ring keeps a poll armed, so that whoever sleeps on
//! the ring's descriptor needs to wait for nothing else.
use super::Ring;
use super::token::{Kind, Token};
use crate::base::mailbox::Wake;
use io_uring::{opcode, types};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Doorbell(Arc<File>);

struct Waker(Arc<File>);

impl Wake for Waker {
    fn wake(&self) {
        // It fails only when the counter is full, and then the owner is about to wake anyway.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }
}

impl Doorbell {
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: makes a descriptor; touches no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor, ours alone.
        Ok(Doorbell(Arc::new(unsafe { File::from_raw_fd(fd) })))
    }

    pub fn waker(&self) -> Box<dyn Wake> {
        Box::new(Waker(self.0.clone()))
    }

    /// Another descriptor of the same file.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }
}

impl Ring {
    /// Answers the doorbell and listens again. A ring between the two is not lost: the poll looks at the level.
    pub(super) fn arm_doorbell(&mut self) {
        let _ = (&*self.doorbell.0).read(&mut [0; 8]); // empty the first time
        let poll = opcode::PollAdd::new(types::Fd(self.doorbell.0.as_raw_fd()), libc::POLLIN as u32);
        let poll = poll.build().user_data(Token::new(Kind::Wake, 0, 0).to_bits());
        // SAFETY: the request carries no pointer.
        unsafe { self.queue.push(&poll) };
    }
}
