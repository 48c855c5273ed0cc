//! The decoder on hand-made cases; `tests/ws_codec.rs` has the properties.
use super::*;
use crate::limits::FRAGMENTS_MAX;
use crate::wire::ws::Misbehaviour;

const LIMIT: usize = 1_000;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ ..126 => out.push(0x80 | len as u8),
        len @ ..65_536 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(KEY);
    let start = out.len();
    out.extend(payload);
    mask::apply(&mut out[start..], KEY);
    out
}

fn text(payload: &str) -> String {
    format!("text {payload}")
}

/// Feeds pieces and describes what came out; an error ends the list.
fn run(pieces: &[&[u8]]) -> (Vec<String>, Option<WsError>) {
    run_of(pieces, false)
}

/// The same where compression was agreed on.
fn run_deflate(pieces: &[&[u8]]) -> (Vec<String>, Option<WsError>) {
    run_of(pieces, true)
}

fn run_of(pieces: &[&[u8]], is_deflate: bool) -> (Vec<String>, Option<WsError>) {
    let mut decoder = Decoder::default();
    let mut assembly = Vec::new();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut cursor = 0;
        let end = input.len();
        loop {
            let result = match is_deflate {
                false => decoder.next(&mut input, &mut cursor, end, &mut assembly, LIMIT),
                true => decoder.next_deflate(&mut input, &mut cursor, end, &mut assembly, LIMIT),
            };
            match result {
                Ok(None) => break,
                Ok(Some(item)) => seen.push(describe(item, &input, &mut assembly)),
                Err(e) => {
                    assert!(assembly.is_empty() && decoder.is_finished());
                    return (seen, Some(e));
                }
            }
        }
        assert_eq!(cursor, end);
    }
    (seen, None)
}

fn describe(item: Item, input: &[u8], assembly: &mut Vec<u8>) -> String {
    let mut message = |place| match place {
        Place::Input(range) => input[range].escape_ascii().to_string(),
        Place::Assembly => std::mem::take(assembly).escape_ascii().to_string(),
    };
    match item {
        Item::Text(place) => text(&message(place)),
        Item::Binary(place) => format!("binary {}", message(place)),
        Item::Deflated { is_text: true, place } => format!("deflated text {}", message(place)),
        Item::Deflated { is_text: false, place } => format!("deflated binary {}", message(place)),
        Item::Ping(control) => format!("ping {}", control.as_str().unwrap()),
        Item::Pong(control) => format!("pong {}", control.as_str().unwrap()),
        Item::Close { code, reason } => format!("close {code:?} {}", reason.as_str().unwrap()),
    }
}

fn error_of(pieces: &[&[u8]]) -> WsError {
    run(pieces).1.expect("must fail")
}

#[test]
fn the_examples_of_rfc_6455_5_7() {
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(run(&[&hello]), (vec![text("Hello")], None));
    let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(run(&[&ping]), (vec!["ping Hello".into()], None));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(run(&[&pong]), (vec!["pong Hello".into()], None));
    let fragments = [frame(0x01, b"Hel"), frame(0x80, b"lo")].concat();
    assert_eq!(run(&[&fragments]), (vec![text("Hello")], None));
    // The unmasked examples are what a client must not send.
    assert_eq!(error_of(&[&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]]), Misbehaviour::NotMasked.into());
}

#[test]
fn a_message_that_lies_whole_in_the_input_is_not_copied() {
    let mut input = [frame(0x81, b"one"), frame(0x82, b"two")].concat();
    let end = input.len();
    input.extend([0xaa; 64]);
    let (mut decoder, mut assembly, mut cursor) = (Decoder::default(), Vec::new(), 0);
    let item = decoder.next(&mut input, &mut cursor, end, &mut assembly, LIMIT);
    assert_eq!(item, Ok(Some(Item::Text(Place::Input(6..9)))));
    assert_eq!(&input[6..9], b"one");
    let item = decoder.next(&mut input, &mut cursor, end, &mut assembly, LIMIT);
    assert_eq!(item, Ok(Some(Item::Binary(Place::Input(15..18)))));
    assert_eq!(decoder.next(&mut input, &mut cursor, end, &mut assembly, LIMIT), Ok(None));
    assert_eq!((cursor, assembly.capacity()), (end, 0));
    assert!(decoder.is_idle() && !decoder.is_finished());
    assert_eq!(input[end..], [0xaa; 64], "the slack is not touched");
}

#[test]
fn a_split_header_before_a_whole_payload_still_needs_no_copy() {
    let bytes = frame(0x81, b"abc");
    let (mut decoder, mut assembly) = (Decoder::default(), Vec::new());
    let mut first = bytes[..3].to_vec();
    assert_eq!(decoder.next(&mut first, &mut 0, 3, &mut assembly, LIMIT), Ok(None));
    assert!(!decoder.is_idle(), "a part of a header is something");
    let mut second = bytes[3..].to_vec();
    let item = decoder.next(&mut second, &mut 0, bytes.len() - 3, &mut assembly, LIMIT);
    assert_eq!(item, Ok(Some(Item::Text(Place::Input(3..6)))));
    assert_eq!(assembly.capacity(), 0);
}

#[test]
fn control_frames_between_and_within_fragments() {
    let ping = frame(0x89, b"are you there");
    let bytes = [frame(0x01, "a\u{20ac}".as_bytes()), ping, frame(0x8a, b""), frame(0x80, b"z")].concat();
    let expected = vec!["ping are you there".to_string(), "pong ".into(), text("a\\xe2\\x82\\xacz")];
    for split in 0..bytes.len() {
        assert_eq!(run(&[&bytes[..split], &bytes[split..]]), (expected.clone(), None), "split at {split}");
    }
}

#[test]
fn empty_fragments_are_legal() {
    let bytes = [frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")].concat();
    assert_eq!(run(&[&bytes]), (vec![text("")], None));
    let bytes = [frame(0x02, b""), frame(0x00, b"ab"), frame(0x80, b"")].concat();
    assert_eq!(run(&[&bytes]), (vec!["binary ab".into()], None));
}

#[test]
fn code_points_may_be_split_over_fragments() {
    let bytes = [frame(0x01, b"\xf0\x9f"), frame(0x89, b"p"), frame(0x00, b"\x98"), frame(0x80, b"\x80!")].concat();
    assert_eq!(run(&[&bytes]), (vec!["ping p".into(), text("\\xf0\\x9f\\x98\\x80!")], None));
    // A binary message is not looked at, even right after text that ended in a carry.
    assert_eq!(run(&[&frame(0x82, b"\xff\xfe")]), (vec!["binary \\xff\\xfe".into()], None));
}

#[test]
fn bad_text_fails_as_soon_as_it_is_certain() {
    // Whole, at the end of a message, and in an unfinished frame whose rest never comes.
    assert_eq!(error_of(&[&frame(0x81, b"a\xffb")]), WsError::InvalidText);
    assert_eq!(error_of(&[&frame(0x81, b"a\xe2\x82")]), WsError::InvalidText);
    assert_eq!(error_of(&[&frame(0x01, b"a\xe2"), &frame(0x80, b"")]), WsError::InvalidText);
    assert_eq!(error_of(&[&frame(0x01, b"a\xe2"), &frame(0x00, b"a")]), WsError::InvalidText);
    for surrogate_or_overlong in [&b"\xed\xa0"[..], b"\xe0\x80", b"\xc0", b"\xf0\x80", b"\xf4\x90", b"\xf5"] {
        let payload = [b"ok ", surrogate_or_overlong, &[0x80; 20]].concat();
        let bytes = frame(0x01, &payload);
        let until = 6 + 3 + surrogate_or_overlong.len();
        assert_eq!(error_of(&[&bytes[..until]]), WsError::InvalidText, "{surrogate_or_overlong:02x?}");
    }
}

#[test]
fn sizes_at_the_limit_and_one_beyond() {
    let exact = [frame(0x02, &[b'x'; LIMIT - 1]), frame(0x80, b"x")].concat();
    assert_eq!(run(&[&exact]).0.len(), 1);
    let beyond = [frame(0x02, &[b'x'; LIMIT - 1]), frame(0x80, b"xx")].concat();
    assert_eq!(error_of(&[&beyond]), WsError::TooBig { bytes_max: LIMIT });
    // From the header alone.
    let huge = frame(0x81, &[b'x'; LIMIT + 1]);
    assert_eq!(error_of(&[&huge[..4]]), WsError::TooBig { bytes_max: LIMIT });
}

#[test]
fn fragments_at_the_limit_and_one_beyond() {
    let mut bytes = frame(0x02, b"");
    for _ in 2..FRAGMENTS_MAX {
        bytes.extend(frame(0x00, b""));
    }
    let exact = [bytes.clone(), frame(0x80, b"x")].concat();
    assert_eq!(run(&[&exact]), (vec!["binary x".into()], None));
    let beyond = [bytes, frame(0x00, b""), frame(0x80, b"x")].concat();
    assert_eq!(error_of(&[&beyond]), Misbehaviour::TooManyFragments.into());
}

#[test]
fn close_frames() {
    assert_eq!(run(&[&frame(0x88, b"")]), (vec!["close None ".into()], None));
    let bytes = frame(0x88, b"\x03\xe9going");
    for split in 0..bytes.len() {
        let seen = run(&[&bytes[..split], &bytes[split..]]);
        assert_eq!(seen, (vec!["close Some(1001) going".into()], None));
    }
    assert_eq!(error_of(&[&frame(0x88, b"\x03")]), Misbehaviour::CloseBodyTooShort.into());
    assert_eq!(error_of(&[&frame(0x88, b"\x03\xed")]), Misbehaviour::InvalidCloseCode.into());
    assert_eq!(error_of(&[&frame(0x88, b"\x03\xe8\xed\xa0\x80")]), WsError::InvalidText);
}

#[test]
fn nothing_is_read_after_a_close_frame() {
    let bytes = [frame(0x01, b"unfinished"), frame(0x88, b"\x03\xe8"), frame(0x80, b"late"), vec![0xff; 40]].concat();
    assert_eq!(run(&[&bytes, b"\xff\xff", &frame(0x81, b"later")]), (vec!["close Some(1000) ".into()], None));
}

#[test]
fn memory_follows_received_bytes_and_stays_below_the_limit() {
    let (mut decoder, mut assembly) = (Decoder::default(), Vec::new());
    let mut bytes = frame(0x02, &[7; LIMIT]);
    let first = 8 + 10;
    assert_eq!(decoder.next(&mut bytes[..first], &mut 0, first, &mut assembly, LIMIT), Ok(None));
    assert!(assembly.capacity() < 64, "a promise of {LIMIT} bytes reserved {}", assembly.capacity());
    for piece in bytes[first..].chunks_mut(7) {
        let len = piece.len();
        decoder.next(piece, &mut 0, len, &mut assembly, LIMIT).unwrap();
    }
    assert_eq!(assembly, [7; LIMIT]);
    assert!(assembly.capacity() <= LIMIT + ASSEMBLY_SLACK_BYTES);
}

#[test]
fn the_limit_may_change_between_messages() {
    let (mut decoder, mut assembly) = (Decoder::default(), Vec::new());
    let mut bytes = frame(0x81, &[b'x'; 100]);
    let end = bytes.len();
    assert!(decoder.clone().next(&mut bytes.clone(), &mut 0, end, &mut assembly, 99).is_err());
    assert!(decoder.next(&mut bytes, &mut 0, end, &mut assembly, 100).is_ok());
}

/// RFC 7692 section 6, with the fragments of its example in 7.2.3.1.
#[test]
fn compressed_messages_are_put_together_and_handed_out_as_they_are() {
    let whole = frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    let expected = "deflated text \\xf2H\\xcd\\xc9\\xc9\\x07\\x00".to_string();
    assert_eq!(run_deflate(&[&whole]), (vec![expected.clone()], None));
    let fragments = [frame(0x41, b"\xf2\x48\xcd"), frame(0x89, b"p"), frame(0x80, b"\xc9\xc9\x07\x00")].concat();
    for split in 0..fragments.len() {
        let seen = run_deflate(&[&fragments[..split], &fragments[split..]]);
        assert_eq!(seen, (vec!["ping p".into(), expected.clone()], None), "split at {split}");
    }
    let empty_first = [frame(0x42, b""), frame(0x00, b"\xff"), frame(0x80, b"\xfe")].concat();
    assert_eq!(run_deflate(&[&empty_first]), (vec!["deflated binary \\xff\\xfe".into()], None));
    // Messages may stay uncompressed, and their text is checked as ever.
    let mixed = [whole, frame(0x81, b"plain"), frame(0x81, b"\xff")].concat();
    assert_eq!(run_deflate(&[&mixed]), (vec![expected, text("plain")], Some(WsError::InvalidText)));
}

#[test]
fn reserved_bits_where_nothing_gives_them_a_meaning() {
    assert_eq!(error_of(&[&frame(0xc1, b"x")]), Misbehaviour::ReservedBit.into());
    let continued = [frame(0x41, b"x"), frame(0xc0, b"y")].concat();
    assert_eq!(run_deflate(&[&continued]).1, Some(Misbehaviour::ReservedBit.into()));
    let plain_continued = [frame(0x01, b"x"), frame(0xc0, b"y")].concat();
    assert_eq!(run_deflate(&[&plain_continued]).1, Some(Misbehaviour::ReservedBit.into()));
    assert_eq!(run_deflate(&[&frame(0xc9, b"x")]).1, Some(Misbehaviour::ReservedBit.into()));
}

/// What inflates to the limit may be a little longer than it when compressed, by one frame or several.
#[test]
fn compressed_sizes_at_the_bound_and_one_beyond() {
    let bytes_max = compressed_bytes_max(LIMIT);
    let whole = frame(0xc2, &vec![b'x'; bytes_max]);
    assert_eq!(run_deflate(&[&whole]).0.len(), 1);
    let too_big = WsError::TooBig { bytes_max };
    assert_eq!(run_deflate(&[&frame(0xc2, &vec![b'x'; bytes_max + 1])[..4]]).1, Some(too_big));
    let cut = [frame(0x42, &vec![b'x'; bytes_max - 1]), frame(0x80, b"x")].concat();
    assert_eq!(run_deflate(&[&cut]).0.len(), 1);
    let cut = [frame(0x42, &vec![b'x'; bytes_max - 1]), frame(0x80, b"xx")].concat();
    assert_eq!(run_deflate(&[&cut]).1, Some(too_big));
    // The next message's bound is its own.
    let plain = [whole, frame(0x82, &[b'x'; LIMIT + 1])].concat();
    assert_eq!(run_deflate(&[&plain]).1, Some(WsError::TooBig { bytes_max: LIMIT }));
}
