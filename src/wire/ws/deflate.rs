//! permessage-deflate: messages compressed and inflated (RFC 7692 section 7.2), each on its own.
//!
//! No context is taken over from message to message, so one [`Inflater`] and one [`Deflater`] serve all connections of a shard. Both
//! take their memory when they are first used: a shard whose clients do not compress holds none.
//!
//! A message may inflate to a thousand times its size. So the bound is held while it is being inflated: what lies beyond is neither
//! written nor worked for, and no more memory is taken than the bound says.
use super::decode::ASSEMBLY_SLACK_BYTES;
use super::encode::{append_deflated_frame, append_frame};
use super::error::WsError;
use super::header::Opcode;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Base-2 logarithms of window sizes. RFC 7692 section 7.1.2 begins at 8, which zlib cannot compress with.
pub const WINDOW_BITS_MIN: u8 = 9;
pub const WINDOW_BITS_MAX: u8 = 15;

/// What a sender takes off the end and a receiver puts back (7.2.1, 7.2.2): the length of an empty block of stored bytes.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The tail and behind it a last block, empty too. zlib by itself does not tell a message that was cut off from a whole one; but if
/// the stream does not end there, neither before nor later, the message did not end where a block does. (That it does is no proof:
/// the rest of a code could by chance end so. Then the message is taken as 7.2.2 has it decompressed.)
const TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// First guess of what a message inflates to.
const INFLATED_BYTES_FIRST: usize = 1_024;

/// Scratch memory that is kept from message to message: what a message of the default `ws.max_message_bytes` takes, compressed or
/// inflated. Beyond it the memory of a large message goes back to the allocator.
pub const SCRATCH_KEPT_BYTES: usize = compressed_bytes_max(64 << 10) + ASSEMBLY_SLACK_BYTES;

/// Most bytes that a message of `message_bytes_max` bytes takes when compressed, however badly: nine bits for each byte with the
/// fixed code (RFC 1951 section 3.2.6), and the heads of blocks. More cannot be such a message, and is refused by the frame's header.
pub const fn compressed_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 8).saturating_add(64)
}

/// Inflates messages with the largest window, which any smaller one fits into. About 50 KiB once used.
#[derive(Debug, Default)]
pub struct Inflater {
    context: Option<Box<Decompress>>,
}

impl Inflater {
    /// Replaces what is in `out` by what the message inflates to.
    ///
    /// `out` grows at most to `message_bytes_max` and the slack of a parser. Errors: no DEFLATE data, or more than
    /// `message_bytes_max` bytes.
    pub fn inflate(&mut self, deflated: &[u8], out: &mut Vec<u8>, message_bytes_max: usize) -> Result<(), WsError> {
        out.clear();
        let context =
            self.context.get_or_insert_with(|| Box::new(Decompress::new_with_window_bits(false, WINDOW_BITS_MAX)));
        context.reset(false);
        let mut unread = deflated;
        let mut is_tail = false;
        loop {
            if out.len() == out.capacity() {
                grow(out, deflated.len(), message_bytes_max);
            }
            let (read, written) = (context.total_in(), out.len());
            let status =
                context.decompress_vec(unread, out, FlushDecompress::None).map_err(|_| WsError::InvalidDeflate)?;
            let read = (context.total_in() - read) as usize;
            unread = &unread[read..];
            if out.len() > message_bytes_max {
                return Err(WsError::TooBig { bytes_max: message_bytes_max });
            }
            match status {
                Status::StreamEnd if is_tail => {
                    return if unread.is_empty() { Ok(()) } else { Err(WsError::InvalidDeflate) };
                }
                // A block with BFINAL ends what zlib takes for the stream, but not the message (7.2.3.4).
                Status::StreamEnd => context.reset(false),
                // There may be more to write.
                _ if out.len() == out.capacity() => {}
                _ if unread.is_empty() && !is_tail => (unread, is_tail) = (&TAIL_AND_END, true),
                _ if unread.is_empty() || (read == 0 && out.len() == written) => return Err(WsError::InvalidDeflate),
                _ => {}
            }
        }
    }
}

/// Doubles, but not beyond what a message may need.
fn grow(out: &mut Vec<u8>, deflated_bytes: usize, message_bytes_max: usize) {
    let ceiling = message_bytes_max.saturating_add(ASSEMBLY_SLACK_BYTES);
    let wanted = (out.capacity() * 2).max(deflated_bytes * 2).max(INFLATED_BYTES_FIRST);
    // At the ceiling there is room for more than the limit, so nobody comes here again.
    out.reserve_exact(wanted.min(ceiling).saturating_sub(out.len()).max(1));
}

/// Compresses messages: one context for each window size in use, 250 to 375 KiB each.
#[derive(Debug)]
pub struct Deflater {
    /// By `window_bits - WINDOW_BITS_MIN`.
    contexts: [Option<Box<Compress>>; (WINDOW_BITS_MAX - WINDOW_BITS_MIN) as usize + 1],
    level: Compression,
    bytes_min: usize,
    scratch: Vec<u8>,
    counts: Counts,
}

/// What was compressed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub messages: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Default for Deflater {
    /// At zlib's own default level, and every message.
    fn default() -> Deflater {
        Deflater::new(6, 0)
    }
}

impl Deflater {
    /// `level` is zlib's, 1 to 9; messages of fewer bytes than `bytes_min` stay as they are.
    pub fn new(level: u32, bytes_min: usize) -> Deflater {
        Deflater {
            contexts: Default::default(),
            level: Compression::new(level.clamp(1, 9)),
            bytes_min,
            scratch: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Appends a frame with the whole message, compressed where that makes it smaller. The receiver takes either ("messages may stay
    /// uncompressed", section 6).
    pub fn append_frame(&mut self, out: &mut Vec<u8>, opcode: Opcode, message: &[u8], window_bits: u8) {
        let is_tried = message.len() >= self.bytes_min && self.deflate(message, window_bits);
        if is_tried && self.scratch.len() < message.len() {
            append_deflated_frame(out, opcode, &self.scratch);
            self.counts.messages += 1;
            self.counts.bytes_before += message.len() as u64;
            self.counts.bytes_after += self.scratch.len() as u64;
        } else {
            append_frame(out, opcode, message);
        }
        if self.scratch.capacity() > SCRATCH_KEPT_BYTES {
            self.scratch = Vec::new();
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The compressed message → `scratch`. False if there is no such window, or zlib failed, of which it has no reason.
    fn deflate(&mut self, message: &[u8], window_bits: u8) -> bool {
        let Some(slot) = self.contexts.get_mut(usize::from(window_bits.wrapping_sub(WINDOW_BITS_MIN))) else {
            return false;
        };
        let context =
            slot.get_or_insert_with(|| Box::new(Compress::new_with_window_bits(self.level, false, window_bits)));
        context.reset();
        self.scratch.clear();
        let mut unread = message;
        loop {
            // Room for all of it: a flush that has to go on in a second call may write its mark twice.
            self.scratch.reserve(compressed_bytes_max(unread.len()));
            let read = context.total_in();
            if context.compress_vec(unread, &mut self.scratch, FlushCompress::Sync).is_err() {
                *slot = None;
                return false;
            }
            unread = &unread[(context.total_in() - read) as usize..];
            if unread.is_empty() && self.scratch.len() < self.scratch.capacity() {
                break;
            }
        }
        let len = self.scratch.strip_suffix(&TAIL).map(<[u8]>::len);
        self.scratch.truncate(len.unwrap_or(0));
        len.is_some()
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
