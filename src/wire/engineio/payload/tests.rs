use super::*;
use crate::wire::ws::append_frame;
use proptest::prelude::*;

/// A packet that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
}

fn text(packet: &str) -> Owned {
    Owned::Text(packet.into())
}

fn binary(bytes: &[u8]) -> Owned {
    Owned::Binary(bytes.into())
}

fn read_all(mut reader: PayloadReader<'_>) -> Result<Vec<Owned>, PayloadError> {
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        packets.push(match packet? {
            Packet::Binary(bytes) => binary(bytes),
            packet => {
                let mut out = Vec::new();
                packet.write(Revision::V4, &mut out);
                Owned::Text(String::from_utf8(out).unwrap())
            }
        });
    }
    assert!(reader.next_packet().is_none(), "the end stays the end");
    Ok(packets)
}

fn read(revision: Revision, body: &[u8]) -> Result<Vec<Owned>, PayloadError> {
    read_all(PayloadReader::new(revision, body))
}

fn write(revision: Revision, packets: &[Owned]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = PayloadWriter::new(revision, &mut out);
    for packet in packets {
        match packet {
            Owned::Text(packet) => writer.text(packet),
            Owned::Binary(bytes) => writer.binary(bytes),
        }
    }
    out
}

/// The examples of the protocol's text, revision 4: "4hello\x1e2\x1e4world" and "4hello\x1ebAQIDBA==".
#[test]
fn examples_of_revision_4() {
    for (body, packets) in [
        ("4hello\u{1e}2\u{1e}4world", vec![text("4hello"), text("2"), text("4world")]),
        ("4hello\u{1e}bAQIDBA==", vec![text("4hello"), binary(&[1, 2, 3, 4])]),
        ("4€", vec![text("4€")]),
        ("b", vec![binary(&[])]),
    ] {
        assert_eq!(read(Revision::V4, body.as_bytes()), Ok(packets.clone()));
        assert_eq!(write(Revision::V4, &packets), body.as_bytes());
    }
}

/// The examples of the protocol's text, revision 3: lengths count UTF-16 code units.
#[test]
fn examples_of_revision_3() {
    for (body, packets) in [
        ("6:4hello2:4€", vec![text("4hello"), text("4€")]),
        ("2:4€10:b4AQIDBA==", vec![text("4€"), binary(&[1, 2, 3, 4])]),
        ("3:4😀1:2", vec![text("4😀"), text("2")]),
        ("1:1", vec![text("1")]),
    ] {
        assert_eq!(read(Revision::V3, body.as_bytes()), Ok(packets.clone()), "{body}");
        assert_eq!(write(Revision::V3, &packets), body.as_bytes());
    }
    assert_eq!(read(Revision::V3, b""), Ok(vec![]));
}

/// What browsers send if a message holds an attachment: the text's example `4€` and `01 02 03 04`.
#[test]
fn the_binary_form_of_revision_3() {
    let body = b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04";
    assert_eq!(read_all(PayloadReader::binary_v3(body)), Ok(vec![text("4€"), binary(&[1, 2, 3, 4])]));
    let long = [&b"\x00\x01\x02\xff4"[..], &[b'x'; 11]].concat();
    assert_eq!(read_all(PayloadReader::binary_v3(&long)), Ok(vec![text("4xxxxxxxxxxx")]));
    for (bad, error) in [
        (&b"\x00"[..], PayloadError::Length),
        (b"\x00\xff", PayloadError::Length),
        (b"\x00\x0a\xff4", PayloadError::Length),
        (b"\x00\x02\xff4", PayloadError::Length),
        (b"\x02\x01\xff4", PayloadError::Length),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff4", PayloadError::Length),
        (b"\x00\x02\xff4\xff", PayloadError::Utf8),
        (b"\x01\x02\xff\x02x", PacketError::BinaryType.into()),
        (b"\x01\x00\xff", PacketError::Empty.into()),
    ] {
        assert_eq!(read_all(PayloadReader::binary_v3(bad)), Err(error), "{bad:?}");
    }
}

#[test]
fn what_is_no_payload() {
    for (revision, body, error) in [
        (Revision::V4, &b""[..], PacketError::Empty.into()),
        (Revision::V4, b"4a\x1e", PacketError::Empty.into()),
        (Revision::V4, b"\x1e4a", PacketError::Empty.into()),
        (Revision::V4, b"4a\x1e9", PacketError::Type.into()),
        (Revision::V4, b"b!", PacketError::Base64.into()),
        (Revision::V4, b"bAQ", PacketError::Base64.into()),
        (Revision::V4, b"4\xff", PayloadError::Utf8),
        (Revision::V3, b"4hello", PayloadError::Length),
        (Revision::V3, b":4", PayloadError::Length),
        (Revision::V3, b"x:4", PayloadError::Length),
        (Revision::V3, b"-1:4", PayloadError::Length),
        (Revision::V3, b"3:4a", PayloadError::Length),
        (Revision::V3, b"0:", PacketError::Empty.into()),
        (Revision::V3, "2:4😀".as_bytes(), PayloadError::Length),
        (Revision::V3, b"0000000001:4", PayloadError::Length),
        (Revision::V3, b"3:b2x", PacketError::BinaryType.into()),
    ] {
        assert_eq!(read(revision, body), Err(error), "{revision:?} {body:?}");
    }
}

#[test]
fn after_an_error_it_stays() {
    let mut reader = PayloadReader::new(Revision::V4, b"9\x1e4fine");
    for _ in 0..3 {
        assert_eq!(reader.next_packet(), Some(Err(PacketError::Type.into())));
    }
}

/// The passing count and the one beyond.
#[test]
fn packets_are_counted() {
    for (count, is_good) in [(ENGINE_PAYLOAD_PACKETS_MAX, true), (ENGINE_PAYLOAD_PACKETS_MAX + 1, false)] {
        for (revision, one, between) in [(Revision::V4, "2", "\u{1e}"), (Revision::V3, "1:2", "")] {
            let body = vec![one; count].join(between);
            match read(revision, body.as_bytes()) {
                Ok(packets) => assert!(is_good && packets.len() == count),
                Err(error) => assert!(!is_good && error == PayloadError::TooMany),
            }
        }
    }
}

#[test]
fn frames_become_packets() {
    for (revision, expected) in
        [(Revision::V4, &b"451-x\x1ebAQIDBA==\x1e2"[..]), (Revision::V3, b"5:451-x10:b4AQIDBA==1:2")]
    {
        let mut frames = Vec::new();
        append_frame(&mut frames, Opcode::Text, b"451-x");
        append_frame(&mut frames, Opcode::Binary, &[super::super::binary_prefix(revision), &[1, 2, 3, 4]].concat());
        append_frame(&mut frames, Opcode::Ping, b"");
        append_frame(&mut frames, Opcode::Text, b"2");
        let mut out = Vec::new();
        assert_eq!(PayloadWriter::new(revision, &mut out).frames(&frames, 1_000), frames.len());
        assert_eq!(out, expected);
        // Any cut of the frames leaves the unfinished one where it is.
        for cut in 0..frames.len() {
            let mut out = Vec::new();
            let taken = PayloadWriter::new(revision, &mut out).frames(&frames[..cut], 1_000);
            assert!(taken <= cut && expected.starts_with(&out));
        }
    }
}

#[test]
fn a_body_is_bounded_but_never_empty() {
    let mut frames = Vec::new();
    for len in [70_000, 10, 200, 5] {
        append_frame(&mut frames, Opcode::Text, &vec![b'4'; len]);
    }
    let (mut rest, mut bodies) = (&frames[..], Vec::new());
    while !rest.is_empty() {
        let mut out = Vec::new();
        let taken = PayloadWriter::new(Revision::V4, &mut out).frames(rest, 215);
        bodies.push(out.len());
        rest = &rest[taken..];
    }
    assert_eq!(bodies, [70_000, 211, 5]);
}

fn any_packet() -> impl Strategy<Value = Owned> {
    prop_oneof![
        "[0-6][^\u{1e}]{0,20}".prop_map(|packet| {
            // Types that carry nothing are read back without what followed.
            let bare = matches!(packet.as_bytes()[0], b'1' | b'5' | b'6');
            Owned::Text(if bare { packet[..1].into() } else { packet })
        }),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Owned::Binary),
    ]
}

proptest! {
    #[test]
    fn round_trip(packets in proptest::collection::vec(any_packet(), 1..10), is_v3: bool) {
        let revision = if is_v3 { Revision::V3 } else { Revision::V4 };
        let body = write(revision, &packets);
        prop_assert_eq!(read(revision, &body), Ok(packets));
    }

    /// R-SEC-13.
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..100), like in "[0-9:b\u{1e}€😀]{0,40}") {
        for body in [&body, like.as_bytes()] {
            for revision in [Revision::V3, Revision::V4] {
                let _ = read(revision, body);
            }
            let _ = read_all(PayloadReader::binary_v3(body));
            let _ = PayloadWriter::new(Revision::V4, &mut Vec::new()).frames(body, 50);
        }
    }
}
