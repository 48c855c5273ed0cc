//! Removing the client's mask, in place (RFC 6455 5.3).

/// XORs `bytes` with `key`, starting at the key's first byte. Masking and unmasking are the same.
///
/// Eight bytes at a time in a loop without branches, which the compiler turns into vector instructions.
pub fn apply(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // The tail starts at a multiple of eight, so the key starts over as well.
    for (byte, key) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// The key as it stands after `consumed` bytes of the payload: what the next piece must be unmasked with.
pub const fn rotated(key: [u8; 4], consumed: usize) -> [u8; 4] {
    let [a, b, c, d] = key;
    match consumed % 4 {
        0 => [a, b, c, d],
        1 => [b, c, d, a],
        2 => [c, d, a, b],
        _ => [d, a, b, c],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &mut [u8], key: [u8; 4]) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }

    #[test]
    fn unmasks_the_example_of_the_rfc() {
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut bytes, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&bytes, b"Hello");
    }

    #[test]
    fn agrees_with_the_definition_at_every_length_and_split() {
        let key = [0x12, 0x00, 0xff, 0x87];
        for len in 0..=67 {
            let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut expected = plain.clone();
            naive(&mut expected, key);
            for split in 0..=len {
                let mut bytes = plain.clone();
                apply(&mut bytes[..split], key);
                apply(&mut bytes[split..], rotated(key, split));
                assert_eq!(bytes, expected, "length {len}, split at {split}");
            }
        }
    }
}
