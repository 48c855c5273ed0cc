//! A room's broadcast log: frames appended once, contiguously, and read by any number of cursors.
//!
//! Positions count bytes since the room got its log and never go back. Frames never span two chunks, so a
//! chunk's end is a frame boundary. A log whose readers have all caught up gives its chunks back to the
//! shard's pool: an idle room holds no chunk.
use std::collections::VecDeque;

/// Bytes of a pooled chunk. A frame that is larger gets a chunk of its own size, which is not pooled.
/// Smaller: more sends per lagging reader. Larger: more memory per room that is in the middle of a broadcast.
const CHUNK_BYTES: usize = 16 << 10;

/// Free chunks of one shard.
#[derive(Default)]
pub struct ChunkPool {
    free: Vec<Vec<u8>>,
    /// Bytes held by logs.
    in_use: usize,
}

impl ChunkPool {
    /// Chunks kept for reuse: beyond 1 MiB a burst's memory goes back to the allocator.
    const FREE_MAX: usize = 64;

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let chunk = match bytes <= CHUNK_BYTES {
            true => self.free.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES)),
            false => Vec::with_capacity(bytes),
        };
        self.in_use += chunk.capacity();
        chunk
    }

    fn give_back(&mut self, mut chunk: Vec<u8>) {
        self.in_use -= chunk.capacity();
        if chunk.capacity() == CHUNK_BYTES && self.free.len() < Self::FREE_MAX {
            chunk.clear();
            self.free.push(chunk);
        }
    }

    /// Gives free chunks back to the allocator.
    pub fn trim(&mut self) {
        self.free = Vec::new();
    }

    pub fn bytes_in_use(&self) -> usize {
        self.in_use
    }
}

struct Chunk {
    /// Position of its first byte.
    start: u64,
    bytes: Vec<u8>,
}

#[derive(Default)]
pub struct Log {
    /// Oldest first. Invariant: consecutive, and the last one ends at `head`.
    chunks: VecDeque<Chunk>,
    head: u64,
}

impl Log {
    /// Position behind the newest byte.
    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn append(&mut self, frame: &[u8], pool: &mut ChunkPool) {
        let has_room = |chunk: &Chunk| chunk.bytes.capacity() - chunk.bytes.len() >= frame.len();
        if !self.chunks.back().is_some_and(has_room) {
            self.chunks.push_back(Chunk { start: self.head, bytes: pool.take(frame.len()) });
        }
        self.chunks.back_mut().expect("just pushed").bytes.extend_from_slice(frame);
        self.head += frame.len() as u64;
    }

    /// Bytes that can be sent in one piece from `position`: up to the end of its chunk, empty at the head.
    /// `position` must not have been released.
    pub fn readable(&self, position: u64) -> &[u8] {
        // A reader is nearly always in the last chunk.
        let chunk = self.chunks.iter().rev().find(|chunk| chunk.start <= position);
        chunk.map_or(&[], |chunk| &chunk.bytes[(position - chunk.start) as usize..])
    }

    /// Gives back the chunks that lie wholly before `position`; all of them if that is the head.
    pub fn release_before(&mut self, position: u64, pool: &mut ChunkPool) {
        while let Some(chunk) = self.chunks.front()
            && chunk.start + chunk.bytes.len() as u64 <= position
        {
            pool.give_back(self.chunks.pop_front().expect("there is a front").bytes);
        }
        if self.chunks.is_empty() && self.chunks.capacity() > 8 {
            self.chunks = VecDeque::new();
        }
    }

    /// Position from a cursor that keeps only the low 32 bits: no reader lags by 4 GiB.
    pub fn position(&self, cursor: u32) -> u64 {
        self.head - u64::from((self.head as u32).wrapping_sub(cursor))
    }

    #[cfg(test)]
    fn bytes_held(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_idle_log_holds_nothing() {
        let (mut log, mut pool) = (Log::default(), ChunkPool::default());
        log.append(b"hello", &mut pool);
        assert_eq!((log.readable(0), log.readable(2), log.readable(5)), (&b"hello"[..], &b"llo"[..], &b""[..]));
        assert_eq!(pool.bytes_in_use(), CHUNK_BYTES);
        log.release_before(log.head(), &mut pool);
        assert_eq!((log.bytes_held(), pool.bytes_in_use(), log.head()), (0, 0, 5));
        assert_eq!(log.position(5), 5);
    }

    #[test]
    fn positions_survive_the_wrap_of_a_cursor() {
        let log = Log { head: (1 << 33) + 10, ..Log::default() };
        assert_eq!(log.position(((1u64 << 33) - 20) as u32), (1 << 33) - 20);
    }

    proptest! {
        /// A reader that stops anywhere reads exactly what was appended, and chunks in front of it go.
        #[test]
        fn readers_see_every_byte_once(
            frames in proptest::collection::vec(1..40_000usize, 1..20),
            steps in proptest::collection::vec(1..30_000usize, 1..60),
        ) {
            let (mut log, mut pool) = (Log::default(), ChunkPool::default());
            let (mut read, mut position) = (Vec::new(), 0u64);
            let mut steps = steps.into_iter().cycle();
            let frames: Vec<Vec<u8>> = frames.iter().map(|len| (0..*len).map(|i| (i * 31 + len) as u8).collect()).collect();
            for frame in &frames {
                log.append(frame, &mut pool);
                let piece = log.readable(position);
                let piece = &piece[..piece.len().min(steps.next().unwrap())];
                read.extend_from_slice(piece);
                position += piece.len() as u64;
                prop_assert_eq!(log.position(position as u32), position);
                log.release_before(position, &mut pool);
            }
            while position < log.head() {
                let piece = log.readable(position).to_vec();
                prop_assert!(!piece.is_empty());
                position += piece.len() as u64;
                read.extend(piece);
            }
            prop_assert_eq!(read, frames.concat());
            log.release_before(position, &mut pool);
            prop_assert_eq!(pool.bytes_in_use(), 0);
        }
    }
}
