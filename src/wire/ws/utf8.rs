//! UTF-8, checked while text arrives in pieces.
//!
//! RFC 6455 8.1 wants a connection to fail on text that is not UTF-8; it may fail as soon as that is certain, and
//! waiting for the end of a long message would let a peer make us collect what is already lost.

/// The bytes are not UTF-8, whatever may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// Whether the whole span is UTF-8.
pub fn is_valid(span: &[u8]) -> bool {
    simdutf8::basic::from_utf8(span).is_ok()
}

/// Checks a span that starts at a code point and may end within one.
///
/// Returns how many bytes at its end (0 to 3) begin a code point that the span does not finish: the *carry*. The next
/// span must start with them.
pub fn check_prefix(span: &[u8]) -> Result<u8, Invalid> {
    // The fast check does not say where it failed; most pieces end between code points and never need to know.
    if is_valid(span) {
        return Ok(0);
    }
    match simdutf8::compat::from_utf8(span) {
        Ok(_) => Ok(0),
        Err(e) if e.error_len().is_none() => Ok((span.len() - e.valid_up_to()) as u8),
        Err(_) => Err(Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn carries_what_may_still_become_a_code_point() {
        assert_eq!(check_prefix(b""), Ok(0));
        assert_eq!(check_prefix("κόσμε".as_bytes()), Ok(0));
        assert_eq!(check_prefix(b"a\xce"), Ok(1));
        assert_eq!(check_prefix(b"a\xe2\x82"), Ok(2));
        assert_eq!(check_prefix(b"a\xf0\x9f\x98"), Ok(3));
        assert_eq!(check_prefix(b"\xf4\x8f"), Ok(2));
    }

    #[test]
    fn fails_at_the_first_byte_that_makes_it_certain() {
        for bytes in [
            &b"\xff"[..],
            b"\x80",
            b"\xc0",             // overlong of two
            b"\xc1",             // overlong of two
            b"\xe0\x80",         // overlong of three
            b"\xf0\x80",         // overlong of four
            b"\xed\xa0",         // surrogate
            b"\xf4\x90",         // above U+10FFFF
            b"\xf5",             // above U+10FFFF
            b"\xce\xce",         // lead after lead
            b"a\xf0\x9f\x98a",   // cut off in the middle
            b"\xe2\x82a and on", // cut off, then text
        ] {
            assert_eq!(check_prefix(bytes), Err(Invalid), "{bytes:02x?}");
        }
    }

    proptest! {
        /// Against the standard library, which reports the same thing for the whole text.
        #[test]
        fn spans_agree_with_the_whole(
            bytes in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..12),
                proptest::collection::vec(prop_oneof![Just(0xf4), Just(0xed), 0x80u8..0xc0, Just(b'a')], 0..12),
            ],
            step in 1usize..6,
        ) {
            let mut carry = 0;
            let mut start = 0;
            let mut streamed = Ok(0);
            while start < bytes.len() {
                let end = (start + step).min(bytes.len());
                streamed = check_prefix(&bytes[start - carry..end]);
                let Ok(left) = streamed else { break };
                carry = usize::from(left);
                start = end;
            }
            prop_assert_eq!(streamed == Ok(0), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
