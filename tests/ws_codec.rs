//! The WebSocket codec: any split of the stream gives the one-shot result, garbage is harmless, and tungstenite
//! understands the same bytes the same way. With permessage-deflate the same holds for compressed messages.
use flate2::{Compress, Compression, FlushCompress};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{Cursor, Read, Write};
use throng::wire::ws::{
    Decoder, FrameBuffer, Inflater, Item, Opcode, Place, WsError, append_frame, close_frame, frame_len,
};
use tungstenite::protocol::{Role, WebSocket};

const LIMIT: usize = 512;
const SLACK: usize = 64;

/// An item with its bytes, for comparison.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

/// Control frames (is it a ping, payload) that come before a piece of a message, and the piece.
type Fragment = (Vec<(bool, Vec<u8>)>, Vec<u8>);

/// A data message cut into fragments, with control frames before each of them.
#[derive(Clone, Debug)]
struct Message {
    is_text: bool,
    fragments: Vec<Fragment>,
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let payload = prop_oneof![
        "[a-z\u{e9}\u{20ac}\u{1f600}]{0,40}".prop_map(|text| (true, text.into_bytes())),
        vec(any::<u8>(), 0..150).prop_map(|bytes| (false, bytes)),
    ];
    let control = (any::<bool>(), prop_oneof![vec(any::<u8>(), 0..6), vec(any::<u8>(), 120..=125)]);
    let message = (payload, vec((vec(control, 0..2), any::<prop::sample::Index>()), 1..4));
    vec(message.prop_map(|((is_text, payload), cuts)| cut(is_text, &payload, cuts)), 0..4)
}

type Cut = (Vec<(bool, Vec<u8>)>, prop::sample::Index);

/// Cuts anywhere, also within a code point.
fn cut(is_text: bool, payload: &[u8], cuts: Vec<Cut>) -> Message {
    let mut rest = payload;
    let last = cuts.len() - 1;
    let mut fragments = Vec::new();
    for (i, (controls, index)) in cuts.into_iter().enumerate() {
        let (piece, after) = rest.split_at(if i == last { rest.len() } else { index.index(rest.len() + 1) });
        fragments.push((controls, piece.to_vec()));
        rest = after;
    }
    Message { is_text, fragments }
}

/// A client frame, written independently of the code under test.
fn client_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], key: [u8; 4]) {
    out.push(first);
    if payload.len() < 126 {
        out.push(0x80 | payload.len() as u8);
    } else {
        out.push(0x80 | 126);
        out.extend((payload.len() as u16).to_be_bytes());
    }
    out.extend(key);
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
}

/// The bytes of the messages and what a decoder must make of them.
fn stream(messages: &[Message], key: [u8; 4]) -> (Vec<u8>, Vec<Seen>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for message in messages {
        let mut whole = Vec::new();
        for (i, (controls, piece)) in message.fragments.iter().enumerate() {
            for (is_ping, payload) in controls {
                client_frame(&mut bytes, if *is_ping { 0x89 } else { 0x8a }, payload, key);
                expected.push(if *is_ping { Seen::Ping(payload.clone()) } else { Seen::Pong(payload.clone()) });
            }
            let opcode = match (i, message.is_text) {
                (0, true) => 1,
                (0, false) => 2,
                _ => 0,
            };
            let last = if i + 1 == message.fragments.len() { 0x80 } else { 0 };
            client_frame(&mut bytes, last | opcode, piece, key);
            whole.extend(piece);
        }
        expected.push(if message.is_text { Seen::Text(whole) } else { Seen::Binary(whole) });
    }
    (bytes, expected)
}

/// Decodes pieces as a shard would, checking what must hold at every step.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Option<WsError>) {
    decode_of(pieces, false)
}

/// A compressed message, as a shard takes it.
fn inflated(is_text: bool, deflated: &[u8]) -> Result<Seen, WsError> {
    let mut message = Vec::new();
    Inflater::default().inflate(deflated, &mut message, LIMIT)?;
    match is_text {
        true if std::str::from_utf8(&message).is_err() => Err(WsError::InvalidText),
        true => Ok(Seen::Text(message)),
        false => Ok(Seen::Binary(message)),
    }
}

/// `is_deflate`: compression was agreed on.
fn decode_of<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_deflate: bool) -> (Vec<Seen>, Option<WsError>) {
    // By an eighth, in which a compressed message may exceed what it inflates to, and the heads of its blocks.
    let assembled_max = if is_deflate { LIMIT + LIMIT / 8 + 64 } else { LIMIT };
    let (mut decoder, mut assembly, mut seen) = (Decoder::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut input = [piece, &[0xaa; SLACK]].concat();
        let end = piece.len();
        let mut cursor = 0;
        loop {
            let before = cursor;
            let result = match is_deflate {
                false => decoder.next(&mut input, &mut cursor, end, &mut assembly, LIMIT),
                true => decoder.next_deflate(&mut input, &mut cursor, end, &mut assembly, LIMIT),
            };
            assert!(before <= cursor && cursor <= end);
            assert!(assembly.capacity() <= assembled_max + SLACK + 125, "{} bytes kept", assembly.capacity());
            match result {
                Err(e) => {
                    assert!(assembly.is_empty() && decoder.is_idle());
                    return (seen, Some(e));
                }
                Ok(None) => {
                    assert_eq!(cursor, end);
                    assert!(!decoder.is_idle() || assembly.is_empty());
                    break;
                }
                Ok(Some(item)) => {
                    let mut take = |place| match place {
                        Place::Input(range) => input[range].to_vec(),
                        Place::Assembly => std::mem::take(&mut assembly),
                    };
                    seen.push(match item {
                        Item::Text(place) => Seen::Text(take(place)),
                        Item::Binary(place) => Seen::Binary(take(place)),
                        Item::Deflated { is_text, place } => match inflated(is_text, &take(place)) {
                            Ok(message) => message,
                            Err(error) => return (seen, Some(error)),
                        },
                        Item::Ping(control) => Seen::Ping(control.as_bytes().to_vec()),
                        Item::Pong(control) => Seen::Pong(control.as_bytes().to_vec()),
                        Item::Close { code, reason } => Seen::Close(code, reason.as_bytes().to_vec()),
                    });
                }
            }
        }
        assert_eq!(input[end..], [0xaa; SLACK], "wrote into the slack");
    }
    (seen, None)
}

/// Each of these messages compressed and cut anew, with RSV1 on its first frame, and what is to be seen of them.
fn compressed_stream(messages: &[Message], key: [u8; 4], cuts: &[Vec<Cut>]) -> (Vec<u8>, Vec<Seen>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for (message, cuts) in messages.iter().zip(cuts) {
        let whole: Vec<u8> = message.fragments.iter().flat_map(|(_, piece)| piece).copied().collect();
        let mut deflated = Vec::with_capacity(whole.len() + whole.len() / 8 + 64);
        Compress::new(Compression::default(), false)
            .compress_vec(&whole, &mut deflated, FlushCompress::Sync)
            .expect("a fresh context");
        deflated.truncate(deflated.len() - 4);
        let recut = cut(message.is_text, &deflated, cuts.clone());
        let (mut frames, mut seen) = stream(std::slice::from_ref(&recut), key);
        // The first frame that is no control frame.
        let mut at = 0;
        while frames[at] & 0x08 != 0 {
            at += 6 + usize::from(frames[at + 1] & 0x7f);
        }
        frames[at] |= 0x40;
        seen.pop();
        seen.push(if message.is_text { Seen::Text(whole) } else { Seen::Binary(whole) });
        bytes.extend(frames);
        expected.extend(seen);
    }
    (bytes, expected)
}

fn all_cuts() -> impl Strategy<Value = Vec<Vec<Cut>>> {
    let control = (any::<bool>(), vec(any::<u8>(), 0..6));
    vec(vec((vec(control, 0..2), any::<prop::sample::Index>()), 1..5), 4)
}

/// Bytes that look like frames often enough to get past the first checks.
fn near_frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let frame = (first, vec(prop_oneof![4 => 0x20u8..0x7f, 1 => any::<u8>()], 0..20), any::<[u8; 4]>(), 0u8..20);
    vec(frame, 0..8).prop_map(|frames| {
        let mut bytes = Vec::new();
        for (first, payload, key, damage) in frames {
            let start = bytes.len();
            client_frame(&mut bytes, first, &payload, key);
            match damage {
                0 => bytes[start + 1] ^= 0x80,
                1 => bytes[start + 1] |= 0x7f,
                2 => bytes.truncate(start + 3),
                _ => {}
            }
        }
        bytes
    })
}

/// An in-memory socket: reads what it was given, keeps what is written.
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.input.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn tungstenite(input: Vec<u8>, role: Role) -> WebSocket<Pipe> {
    WebSocket::from_raw_socket(Pipe { input: Cursor::new(input), output: Vec::new() }, role, None)
}

/// What tungstenite reads until it finds fault or the end.
fn read_by_tungstenite(bytes: Vec<u8>, role: Role) -> Vec<Seen> {
    let mut socket = tungstenite(bytes, role);
    let mut seen = Vec::new();
    while let Ok(message) = socket.read() {
        seen.push(match message {
            tungstenite::Message::Text(text) => Seen::Text(text.as_bytes().to_vec()),
            tungstenite::Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
            tungstenite::Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
            tungstenite::Message::Pong(bytes) => Seen::Pong(bytes.to_vec()),
            tungstenite::Message::Close(None) => Seen::Close(None, vec![]),
            tungstenite::Message::Close(Some(close)) => {
                Seen::Close(Some(close.code.into()), close.reason.as_bytes().to_vec())
            }
            tungstenite::Message::Frame(_) => unreachable!("never returned by read"),
        });
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_chunk_size_and_every_split_gives_the_same_items(messages in messages(), key in any::<[u8; 4]>()) {
        let (bytes, expected) = stream(&messages, key);
        let expected = (expected, None);
        for size in 1..=bytes.len().max(1) {
            // Large chunks differ from each other only in where the one cut is, which the splits below cover.
            if size > 40 && size < bytes.len() { continue }
            prop_assert_eq!(&decode(bytes.chunks(size)), &expected, "chunks of {}", size);
        }
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            prop_assert_eq!(&decode([a, b].into_iter()), &expected, "split at {}", at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn compressed_messages_come_whole_out_of_any_fragments_and_chunks(
        messages in messages(),
        cuts in all_cuts(),
        key in any::<[u8; 4]>(),
        size in 1usize..60,
    ) {
        let (bytes, expected) = compressed_stream(&messages, key, &cuts);
        let expected = (expected, None);
        prop_assert_eq!(&decode_of(std::iter::once(&bytes[..]), true), &expected);
        prop_assert_eq!(&decode_of(bytes.chunks(size), true), &expected);
    }

    /// Where compression was agreed on, uncompressed messages are read as ever.
    #[test]
    fn plain_messages_are_read_alike_beside_compressed_ones(messages in messages(), size in 1usize..60) {
        let (bytes, expected) = stream(&messages, [1, 2, 3, 4]);
        prop_assert_eq!(decode_of(bytes.chunks(size), true), (expected, None));
    }

    #[test]
    fn garbage_with_reserved_bits_never_panics(
        mut bytes in prop_oneof![vec(any::<u8>(), 0..300), near_frames()],
        size in 1usize..20,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first |= 0x40;
        }
        let whole = decode_of(std::iter::once(&bytes[..]), true);
        prop_assert_eq!(decode_of(bytes.chunks(size), true), whole);
    }

    #[test]
    fn garbage_never_panics_and_any_chunking_finds_the_same(
        bytes in prop_oneof![vec(any::<u8>(), 0..300), near_frames()],
        size in 1usize..20,
    ) {
        let whole = decode(std::iter::once(&bytes[..]));
        prop_assert_eq!(decode(bytes.chunks(size)), whole);
    }

    /// tungstenite is more lenient, so it must understand what we understand, and the same by it.
    #[test]
    fn what_we_accept_tungstenite_reads_alike(bytes in near_frames()) {
        let (seen, error) = decode(std::iter::once(&bytes[..]));
        let theirs = read_by_tungstenite(bytes, Role::Server);
        if error.is_none() {
            prop_assert_eq!(seen, theirs);
        } else {
            prop_assert_eq!(&seen[..], &theirs[..seen.len().min(theirs.len())]);
        }
    }

    #[test]
    fn frames_of_a_tungstenite_client_decode(messages in vec(
        prop_oneof![
            any::<String>().prop_filter("limit", |text| text.len() <= LIMIT).prop_map(|text| Seen::Text(text.into())),
            vec(any::<u8>(), 0..=LIMIT).prop_map(Seen::Binary),
            vec(any::<u8>(), 0..=125).prop_map(Seen::Ping),
            vec(any::<u8>(), 0..=125).prop_map(Seen::Pong),
        ], 0..6), size in 1usize..700) {
        let mut client = tungstenite(Vec::new(), Role::Client);
        for message in &messages {
            client.send(match message.clone() {
                Seen::Text(bytes) => tungstenite::Message::text(String::from_utf8(bytes).unwrap()),
                Seen::Binary(bytes) => tungstenite::Message::binary(bytes),
                Seen::Ping(bytes) => tungstenite::Message::Ping(bytes.into()),
                Seen::Pong(bytes) => tungstenite::Message::Pong(bytes.into()),
                Seen::Close(..) => unreachable!("not generated"),
            }).unwrap();
        }
        let bytes = &client.get_ref().output;
        prop_assert_eq!(decode(bytes.chunks(size)), (messages, None));
    }

    #[test]
    fn our_frames_are_read_by_a_tungstenite_client(
        payloads in vec((vec(any::<u8>(), 0..400), any::<bool>()), 0..6),
        large in prop_oneof![Just(0usize), Just(125), Just(126), Just(65_535), Just(65_536)],
        reason in "[a-z\u{20ac}]{0,80}",
    ) {
        let (mut out, mut expected, mut boundaries) = (Vec::new(), Vec::new(), vec![]);
        let mut buffer = FrameBuffer::default();
        for (payload, with_buffer) in payloads.into_iter().chain([(vec![b'x'; large], true)]) {
            boundaries.push(out.len());
            if with_buffer {
                buffer.clear();
                buffer.payload().extend_from_slice(&payload);
                out.extend_from_slice(buffer.finish(Opcode::Binary));
            } else {
                append_frame(&mut out, Opcode::Binary, &payload);
            }
            expected.push(Seen::Binary(payload));
        }
        boundaries.push(out.len());
        append_frame(&mut out, Opcode::Ping, b"ping");
        expected.push(Seen::Ping(b"ping".to_vec()));
        boundaries.push(out.len());
        append_frame(&mut out, Opcode::Text, reason.as_bytes());
        expected.push(Seen::Text(reason.clone().into_bytes()));
        boundaries.push(out.len());
        close_frame(&mut out, Some(4200), &reason);
        let cut = reason.floor_char_boundary(123);
        expected.push(Seen::Close(Some(4200), reason.as_bytes()[..cut].to_vec()));
        boundaries.push(out.len());
        for pair in boundaries.windows(2) {
            prop_assert_eq!(frame_len(&out[pair[0]..]), Some(pair[1] - pair[0]));
        }
        prop_assert_eq!(read_by_tungstenite(out, Role::Client), expected);
    }
}
