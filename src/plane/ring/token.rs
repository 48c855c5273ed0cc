//! What a completion is about, in the 64 bits that travel with each request:
//! `kind << 56 | generation << 32 | subject`. The subject is a slot, save for sends, where it is the position in
//! the batch and the generation is the batch's number.

/// Which request completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// One-shot PollAdd(POLLIN): the cheap way to wait.
    Readable = 1,
    /// One-shot Recv after a poll: the idle tier's way to receive.
    Receive,
    /// RecvMulti: the hot tier's way to receive.
    Stream,
    /// Completes only when short or failed.
    Send,
    /// One-shot PollAdd(POLLOUT) after a short send.
    Writable,
    /// Demotion. Answers only when it found nothing to cancel; the receive itself ends with -ECANCELED.
    Cancel,
    /// An ordinary descriptor, borrowed in order to call shutdown(2).
    Install,
    /// The Shutdown request, when no descriptor could be had.
    Shutdown,
    /// The table row is free again.
    Close,
    /// The waker's eventfd became readable.
    Wake,
    /// Makes the ring's descriptor readable because completions were set aside.
    Nudge,
    /// Another ring of the shard became readable; the subject is its number.
    Neighbour,
}

/// Generations wrap here. Nothing armed survives its generation, so the number only has to differ from the last.
pub(super) const GENERATION_MASK: u32 = 0xff_ffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub generation: u32,
    pub subject: u32,
}

impl Token {
    pub fn new(kind: Kind, generation: u32, subject: u32) -> Token {
        debug_assert!(generation <= GENERATION_MASK);
        Token { kind, generation, subject }
    }

    pub fn to_bits(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.subject)
    }

    /// None for bits that no request of ours carries.
    pub fn from_bits(bits: u64) -> Option<Token> {
        const KINDS: [Kind; 12] = [
            Kind::Readable,
            Kind::Receive,
            Kind::Stream,
            Kind::Send,
            Kind::Writable,
            Kind::Cancel,
            Kind::Install,
            Kind::Shutdown,
            Kind::Close,
            Kind::Wake,
            Kind::Nudge,
            Kind::Neighbour,
        ];
        let kind = *KINDS.get(((bits >> 56) as usize).wrapping_sub(1))?;
        Some(Token { kind, generation: (bits >> 32) as u32 & GENERATION_MASK, subject: bits as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_round_trips() {
        let mut kinds = 0;
        for bits in 0..=255u64 {
            let Some(token) = Token::from_bits(bits << 56 | 0xab_cdef << 32 | 0x1234_5678) else { continue };
            kinds += 1;
            assert_eq!((token.generation, token.subject), (0xab_cdef, 0x1234_5678));
            assert_eq!(token.to_bits() >> 56, bits);
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
        assert_eq!(kinds, Kind::Neighbour as u64);
    }
}
