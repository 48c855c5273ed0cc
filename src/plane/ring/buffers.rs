//! The provided-buffer ring: receive buffers that the kernel picks when data is there, so that a silent connection
//! holds none.
//!
//! The memory is mapped once and never unmapped, not even when the ring is dropped: the kernel tears a ring down
//! behind our back and handles may still be about. A process makes its rings at start, so this leaks nothing that
//! the end of the process does not return.
use super::setup::{SetupError, Step};
use crate::plane::{Received, SLACK_BYTES};
use io_uring::{IoUring, types::BufRingEntry};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

pub(super) const BUFFER_GROUP: u16 = 0;

/// Most entries that the kernel allows in a buffer ring.
pub(super) const BUFFERS_MAX: u32 = 32_768;

/// Memory of all buffers and the queue of free ones that the kernel takes from. Not `Sync`, so that handles stay in
/// the ring's thread.
pub(super) struct Pool {
    /// `count` entries, page-aligned; the first one's last field is the tail.
    entries: NonNull<BufRingEntry>,
    /// `count` strides.
    memory: NonNull<u8>,
    stride: usize,
    buffer_bytes: u32,
    /// A power of two.
    count: u16,
    tail: Cell<u16>,
    /// Handed out and not yet back.
    out: Cell<u16>,
}

impl Pool {
    /// Maps `count` buffers (a power of two, at most `BUFFERS_MAX`), gives all to the kernel and registers them.
    pub fn register(ring: &IoUring, count: u16, buffer_bytes: u32) -> Result<&'static Pool, SetupError> {
        let failed = |error| SetupError::from_io(Step::Buffers, error);
        // Whole cache lines, so that two buffers never share one.
        let stride = (buffer_bytes as usize + SLACK_BYTES).next_multiple_of(64);
        let bytes = usize::from(count) * stride;
        let mapped = |bytes| map(bytes).map_err(|_| SetupError::NoAddressSpace { bytes });
        let pool = Box::leak(Box::new(Pool {
            entries: mapped(usize::from(count) * size_of::<BufRingEntry>())?.cast(),
            memory: mapped(bytes)?,
            stride,
            buffer_bytes,
            count,
            tail: Cell::new(0),
            out: Cell::new(0),
        }));
        let address = pool.entries.as_ptr() as u64;
        // SAFETY: a page-aligned mapping of `count` entries that is never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }.map_err(failed)?;
        (0..count).for_each(|id| pool.provide(id));
        Ok(pool)
    }

    /// The buffer of a completion that has received `len` bytes into it.
    ///
    /// # Safety
    /// The kernel must just have handed out buffer `id` of this pool, and this be the only handle to it.
    pub unsafe fn take(&'static self, id: u16, len: u32) -> Buffer {
        debug_assert!(id < self.count && len <= self.buffer_bytes);
        self.out.set(self.out.get() + 1);
        Buffer { pool: self, len, id }
    }

    /// Buffers that the kernel has.
    pub fn free(&self) -> usize {
        usize::from(self.count - self.out.get())
    }

    fn start(&self, id: u16) -> NonNull<u8> {
        // SAFETY: ids are below `count`, so this stays in the mapping.
        unsafe { self.memory.add(usize::from(id) * self.stride) }
    }

    /// Gives a buffer to the kernel, which writes to it from now on.
    fn provide(&self, id: u16) {
        let tail = self.tail.get();
        // SAFETY: the index is masked into the ring, and this thread is its only writer. The kernel reads no entry
        // at or behind the tail; Release publishes the entry before the tail that makes the kernel look at it.
        unsafe {
            let entry = self.entries.add(usize::from(tail & (self.count - 1))).as_mut();
            entry.set_addr(self.start(id).as_ptr() as u64);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(id);
            let published = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*published).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
    }
}

/// Received bytes. Dropping it gives the memory back to the kernel, which is all that `give_back` does; a
/// forgotten one is missing from then on.
pub struct Buffer {
    pool: &'static Pool,
    len: u32,
    id: u16,
}

impl Received for Buffer {
    fn len(&self) -> usize {
        self.len as usize
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: between `take` and `provide` the kernel leaves the buffer alone, and this is its only handle. The
        // stride has SLACK_BYTES behind the part that the kernel may fill. Fresh mappings read as zeros, so all of
        // it is initialised; it is never unmapped.
        unsafe { std::slice::from_raw_parts_mut(self.pool.start(self.id).as_ptr(), self.len as usize + SLACK_BYTES) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.out.set(self.pool.out.get() - 1);
        self.pool.provide(self.id);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("id", &self.id).field("len", &self.len).finish()
    }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh anonymous mapping touches no memory that exists already.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
