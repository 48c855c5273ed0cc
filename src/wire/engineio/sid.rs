//! The Engine.IO session id: where the session lives, and a secret.
//!
//! Who knows it can read and write as its client over polling: a bearer secret, never the public Socket.IO id, never logged. The
//! place in front of the secret lets any shard pass a request on without a table.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use subtle::ConstantTimeEq;

/// A session id, parsed. Whether such a session exists says the shard; compare with [`Sid::is`], which takes equally long for
/// every secret.
#[derive(Clone, Copy)]
pub struct Sid {
    /// Of this node.
    pub shard: u16,
    /// Differs between two sessions that use the same slot one after the other.
    pub generation: u16,
    pub slot: u32,
    /// From the operating system.
    secret: [u8; Sid::SECRET_BYTES],
}

impl Sid {
    /// 96 bits: guessing one of a million sessions at a million tries a second takes a billion years.
    pub const SECRET_BYTES: usize = 12;
    const BYTES: usize = 8 + Self::SECRET_BYTES;
    /// 20 bytes in base64url without padding.
    pub const TEXT_BYTES: usize = 27;

    pub fn new(shard: u16, generation: u16, slot: u32, secret: [u8; Sid::SECRET_BYTES]) -> Sid {
        Sid { shard, generation, slot, secret }
    }

    /// Parses a `sid` of a query. `None`: it is none of ours, and unknown whatever it says.
    pub fn parse(text: &str) -> Option<Sid> {
        if text.len() != Self::TEXT_BYTES {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        // The decoder refuses a last character with bits to spare, so that no session has two names.
        if URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(bytes.len()) {
            return None;
        }
        let (shard, rest) = bytes.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (slot, rest) = rest.split_first_chunk()?;
        Some(Sid {
            shard: u16::from_be_bytes(*shard),
            generation: u16::from_be_bytes(*generation),
            slot: u32::from_be_bytes(*slot),
            secret: rest.try_into().ok()?,
        })
    }

    /// The text for the client: URL-safe, 27 characters.
    pub fn text(self, buffer: &mut [u8; Sid::TEXT_BYTES]) -> &str {
        let written = URL_SAFE_NO_PAD.encode_slice(self.bytes(), buffer);
        debug_assert_eq!(written, Ok(Self::TEXT_BYTES));
        std::str::from_utf8(buffer).unwrap_or_default()
    }

    /// Whether both name the same session, secret included.
    pub fn is(self, other: Sid) -> bool {
        self.bytes().ct_eq(&other.bytes()).into()
    }

    fn bytes(self) -> [u8; Sid::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..2].copy_from_slice(&self.shard.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.generation.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.slot.to_be_bytes());
        bytes[8..].copy_from_slice(&self.secret);
        bytes
    }
}

/// Without the secret.
impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sid({}:{}:{})", self.shard, self.slot, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_url_safe_and_no_secret_is_printed() {
        let sid = Sid::new(0xfffe, 0xfbff, 0xffff_fffe, [0xff; 12]);
        let mut buffer = [0; Sid::TEXT_BYTES];
        let text = sid.text(&mut buffer);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(format!("{sid:?}"), "Sid(65534:4294967294:64511)");
    }

    #[test]
    fn every_bit_counts() {
        let sid = Sid::new(1, 2, 3, *b"secret-bytes");
        assert!(sid.is(Sid::new(1, 2, 3, *b"secret-bytes")));
        for other in [
            Sid::new(0, 2, 3, *b"secret-bytes"),
            Sid::new(1, 3, 3, *b"secret-bytes"),
            Sid::new(1, 2, 2, *b"secret-bytes"),
            Sid::new(1, 2, 3, *b"secret-bytet"),
        ] {
            assert!(!sid.is(other));
        }
        // The same bytes in another spelling are another text, and no sid.
        let mut buffer = [0; Sid::TEXT_BYTES];
        let text = sid.text(&mut buffer).to_owned();
        for last in 'A'..='Z' {
            let other = format!("{}{last}", &text[..26]);
            assert!(other == text || Sid::parse(&other).is_none_or(|parsed| !parsed.is(sid)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(shard: u16, generation: u16, slot: u32, secret: [u8; 12]) {
            let sid = Sid::new(shard, generation, slot, secret);
            let mut buffer = [0; Sid::TEXT_BYTES];
            let parsed = Sid::parse(sid.text(&mut buffer)).unwrap();
            prop_assert!(parsed.is(sid));
            prop_assert_eq!((parsed.shard, parsed.generation, parsed.slot), (shard, generation, slot));
        }

        /// R-SEC-13.
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}|[A-Za-z0-9_-]{27}") {
            if let Some(sid) = Sid::parse(&text) {
                let mut buffer = [0; Sid::TEXT_BYTES];
                prop_assert_eq!(sid.text(&mut buffer), text);
            }
        }
    }
}
