//! The examples of RFC 7692, hostile data, and round trips.
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: usize = 1 << 16;

fn inflated(deflated: &[u8]) -> Result<Vec<u8>, WsError> {
    bounded(deflated, LIMIT)
}

fn bounded(deflated: &[u8], bytes_max: usize) -> Result<Vec<u8>, WsError> {
    let mut out = Vec::new();
    let result = Inflater::default().inflate(deflated, &mut out, bytes_max);
    assert!(out.capacity() <= bytes_max.max(INFLATED_BYTES_FIRST) + ASSEMBLY_SLACK_BYTES, "{} bytes", out.capacity());
    result.map(|()| out)
}

/// The compressed payload of a message, whatever its size.
fn deflated(message: &[u8], level: u32, window_bits: u8) -> Vec<u8> {
    let mut deflater = Deflater::new(level, 0);
    assert!(deflater.deflate(message, window_bits));
    deflater.scratch
}

/// JSON as the server sends it.
fn json(len: usize) -> Vec<u8> {
    let one = r#"{"id":"evt_01M867TFW4SG89YS4GF52MMXHK","type":"chat_message","data":{"roomId":"lobby","message":"gr\u00fc\u00df dich"}}"#;
    one.bytes().cycle().take(len).collect()
}

#[test]
fn the_examples_of_rfc_7692_7_2_3() {
    let hello = Ok(b"Hello".to_vec());
    // 7.2.3.1: one block. As a message of two fragments (0x41 0x03 …, 0x80 0x04 …) it is the same bytes.
    assert_eq!(inflated(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), hello);
    // 7.2.3.2: the second message of a connection with context takeover refers to the first one, which is not remembered.
    assert_eq!(inflated(&[0xf2, 0x00, 0x11, 0x00, 0x00]), Err(WsError::InvalidDeflate));
    // 7.2.3.3: a block of stored bytes.
    assert_eq!(inflated(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]), hello);
    // 7.2.3.4: a block with BFINAL.
    assert_eq!(inflated(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]), hello);
    // 7.2.3.5: two blocks.
    assert_eq!(inflated(&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]), hello);
    // 7.2.3.6: an empty message.
    assert_eq!(inflated(&[0x00]), Ok(vec![]));
}

#[test]
fn what_is_sent_is_what_the_rfc_shows() {
    for level in 1..=9 {
        assert_eq!(deflated(b"Hello", level, 15), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], "level {level}");
        assert_eq!(deflated(b"", level, 15), [0x00], "level {level}");
    }
}

#[test]
fn final_blocks_may_stand_anywhere() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let twice = [&last[..], &last, &[0x00]].concat();
    assert_eq!(inflated(&twice), Ok(b"HelloHello".to_vec()));
    let mixed = [&last[..], &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]].concat();
    assert_eq!(inflated(&mixed), Ok(b"HelloHello".to_vec()));
    // Without the last byte there is no block whose rest the tail could be.
    assert_eq!(inflated(&last), Err(WsError::InvalidDeflate));
}

#[test]
fn a_message_that_was_cut_off_is_not_taken_for_a_whole_one() {
    let whole = deflated(&json(3_000), 6, 15);
    for len in 0..whole.len() {
        assert!(inflated(&whole[..len]).is_err(), "{len} of {}", whole.len());
    }
    assert_eq!(inflated(&whole), Ok(json(3_000)));
    // One whose stored block promises more than came, and one with nothing in it.
    assert_eq!(inflated(&[0x00, 0xff, 0x00, 0x00, 0xff, 0x48]), Err(WsError::InvalidDeflate));
    assert_eq!(inflated(&[]), Err(WsError::InvalidDeflate));
}

#[test]
fn bad_data_is_refused() {
    for bad in
        [&[0xff][..], &[0x06], &[0x00, 0x05, 0x00, 0x00, 0x00, 0x48], &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x41]]
    {
        assert_eq!(inflated(bad), Err(WsError::InvalidDeflate), "{bad:02x?}");
    }
}

#[test]
fn sizes_at_the_bound_and_one_beyond() {
    for len in [0, 1, 63, 64, 65, 1_023, 1_024, 1_025, 10_000] {
        let message = deflated(&json(len), 6, 15);
        assert_eq!(bounded(&message, len), Ok(json(len)), "{len}");
        if len > 0 {
            assert_eq!(bounded(&message, len - 1), Err(WsError::TooBig { bytes_max: len - 1 }), "{len}");
        }
    }
}

/// Sixteen million bytes in some sixteen thousand: known to be too much after the bound's worth, and never held.
#[test]
fn a_bomb_costs_no_more_than_the_bound() {
    let bomb = deflated(&vec![b' '; 16 << 20], 9, 15);
    assert!(bomb.len() < 20_000);
    let (mut inflater, mut out) = (Inflater::default(), Vec::new());
    for _ in 0..3 {
        assert_eq!(inflater.inflate(&bomb, &mut out, LIMIT), Err(WsError::TooBig { bytes_max: LIMIT }));
        assert!(out.capacity() <= LIMIT + ASSEMBLY_SLACK_BYTES);
        let worked_for = inflater.context.as_ref().unwrap().total_out();
        assert!(worked_for <= (LIMIT + ASSEMBLY_SLACK_BYTES) as u64, "{worked_for}");
    }
    assert_eq!(inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &mut out, LIMIT), Ok(()));
    assert_eq!(out, b"Hello");
}

#[test]
fn frames_are_compressed_where_it_pays() {
    let mut deflater = Deflater::new(6, 100);
    let mut out = vec![7];
    deflater.append_frame(&mut out, Opcode::Text, &json(99), 15);
    assert_eq!((out[1], out[2], out.len()), (0x81, 99, 102));
    out.clear();
    deflater.append_frame(&mut out, Opcode::Text, &json(500), 15);
    assert!(out[0] == 0xc1 && out.len() < 250, "{}", out.len());
    assert_eq!(super::super::frame_len(&out), Some(out.len()));
    let header_bytes = if out.len() < 128 { 2 } else { 4 };
    let counts = Counts { messages: 1, bytes_before: 500, bytes_after: (out.len() - header_bytes) as u64 };
    assert_eq!(deflater.counts(), counts);
    out.clear();
    // What does not become smaller.
    let noise: Vec<u8> = (0..1_000u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 13) ^ (i * i)) as u8).collect();
    deflater.append_frame(&mut out, Opcode::Binary, &noise, 9);
    assert_eq!((out[0], deflater.counts()), (0x82, counts));
}

#[test]
fn memory_of_large_messages_is_not_kept() {
    let mut deflater = Deflater::new(1, 0);
    deflater.append_frame(&mut Vec::new(), Opcode::Binary, &json(1 << 20), 15);
    assert_eq!(deflater.scratch.capacity(), 0);
    deflater.append_frame(&mut Vec::new(), Opcode::Text, &json(65_536), 15);
    assert!((1..=SCRATCH_KEPT_BYTES).contains(&deflater.scratch.capacity()));
}

/// Inflates with a small window and little output at a time, so that whatever lies further back than the window is gone.
fn inflated_by_a_small_window(deflated: &[u8], window_bits: u8) -> Vec<u8> {
    let mut inflate = Decompress::new_with_window_bits(false, window_bits);
    let bytes = [deflated, &TAIL].concat();
    let mut out = Vec::new();
    loop {
        let mut piece = Vec::with_capacity(7);
        let before = (inflate.total_in(), inflate.total_out());
        inflate.decompress_vec(&bytes[before.0 as usize..], &mut piece, FlushDecompress::Sync).unwrap();
        out.extend(piece);
        if before == (inflate.total_in(), inflate.total_out()) {
            return out;
        }
    }
}

/// Text with repeats at distances around the window sizes.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..300),
        (any::<u8>(), 0usize..2_000).prop_map(|(byte, len)| vec![byte; len]),
        (0usize..4_000).prop_map(json),
    ];
    vec(piece, 0..6).prop_map(|pieces| [pieces.concat(), pieces.concat()].concat())
}

proptest! {
    #[test]
    fn messages_come_back_whole(message in repetitive(), level in 1u32..=9, bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX) {
        let deflated = deflated(&message, level, bits);
        prop_assert!(deflated.len() <= compressed_bytes_max(message.len()));
        prop_assert_eq!(inflated(&deflated), Ok(message.clone()));
        prop_assert_eq!(inflated_by_a_small_window(&deflated, bits), message);
    }

    /// One pair of contexts for everything, whatever came before.
    #[test]
    fn nothing_is_taken_over(messages in vec((repetitive(), any::<bool>(), WINDOW_BITS_MIN..=WINDOW_BITS_MAX), 1..6)) {
        let (mut deflater, mut inflater, mut out) = (Deflater::new(6, 0), Inflater::default(), Vec::new());
        for (message, is_cut, bits) in messages {
            prop_assert!(deflater.deflate(&message, bits));
            prop_assert_eq!(&deflater.scratch, &deflated(&message, 6, bits));
            if is_cut {
                let half = &deflater.scratch[..deflater.scratch.len() / 2];
                let _ = inflater.inflate(half, &mut out, LIMIT);
            }
            prop_assert_eq!(inflater.inflate(&deflater.scratch, &mut out, LIMIT), Ok(()));
            prop_assert_eq!(&out, &message);
        }
    }

    /// R-SEC-13: whatever comes, the outcome is a message within the bound or an error.
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400), bytes_max in 0usize..3_000) {
        if let Ok(message) = bounded(&bytes, bytes_max) {
            prop_assert!(message.len() <= bytes_max);
        }
    }

    #[test]
    fn broken_messages_never_panic(
        message in repetitive(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        bytes_max in 0usize..20_000,
    ) {
        let mut bytes = deflated(&message, 6, 15);
        *at.get_mut(&mut bytes) = byte;
        if let Ok(message) = bounded(&bytes, bytes_max) {
            prop_assert!(message.len() <= bytes_max);
        }
    }
}
