//! What the server writes is what a reader after the standard reads (WHATWG HTML 9.2), in whatever pieces it comes.
#[path = "support/event_stream.rs"]
mod event_stream;

use event_stream::{Dispatched, EventReader};
use proptest::collection::vec;
use proptest::prelude::*;
use throng::wire::sse::{Block, PING, block_len};

/// A block to be written.
#[derive(Clone, Debug)]
enum Written {
    Event { kind: String, id: Option<String>, data: Vec<String> },
    Retry(u64),
    Ping,
}

fn blocks() -> impl Strategy<Value = Vec<Written>> {
    let text = "[a-z :\r\n\u{e9}\u{1f600}\u{2028}]{0,12}";
    // Also what must not get onto the wire: line ends in names, NUL in ids.
    let name = prop_oneof![4 => "[a-z_]{1,10}", 1 => "[a\r\n]{1,4}"];
    let id = prop_oneof![4 => "[A-Z0-9:,-]{0,20}", 1 => "[A\0\r\n]{1,4}"];
    let event = (name, proptest::option::of(id), vec(text, 1..4));
    let block = prop_oneof![
        6 => event.prop_map(|(kind, id, data)| Written::Event { kind, id, data }),
        1 => any::<u64>().prop_map(Written::Retry),
        1 => Just(Written::Ping),
    ];
    vec(block, 0..8)
}

fn write(blocks: &[Written]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in blocks {
        match block {
            Written::Event { kind, id, data } => {
                let pieces: Vec<&[u8]> = data.iter().map(|piece| piece.as_bytes()).collect();
                let block = Block::new(&mut out).event(kind.as_bytes());
                let block = match id {
                    Some(id) => block.id(id.as_bytes()),
                    None => block,
                };
                block.data(&pieces).end();
            }
            Written::Retry(ms) => Block::new(&mut out).retry(*ms).end(),
            Written::Ping => out.extend_from_slice(PING),
        }
    }
    out
}

/// What should be heard of them.
fn expected(blocks: &[Written]) -> (Vec<Dispatched>, Option<u64>) {
    let (mut events, mut retry, mut last_id) = (Vec::new(), None, String::new());
    let is_line = |text: &str| !text.contains(['\r', '\n']);
    for block in blocks {
        match block {
            Written::Event { kind, id, data } => {
                if let Some(id) = id.as_ref().filter(|id| is_line(id) && !id.contains('\0')) {
                    last_id.clone_from(id);
                }
                let kind = if is_line(kind) { kind.clone() } else { "message".into() };
                let data = data.concat().replace("\r\n", "\n").replace('\r', "\n");
                events.push(Dispatched { kind, data, id: last_id.clone() });
            }
            Written::Retry(ms) => retry = Some(*ms),
            Written::Ping => {}
        }
    }
    (events, retry)
}

proptest! {
    #[test]
    fn any_pieces_read_as_written(blocks in blocks(), cuts in vec(1usize..20, 1..10)) {
        let bytes = write(&blocks);
        let (events, retry) = expected(&blocks);
        let mut reader = EventReader::default();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
            reader.read(piece);
            rest = after;
        }
        prop_assert!(!reader.is_in_a_block());
        prop_assert_eq!((&reader.events, reader.retry_ms), (&events, retry));
        prop_assert_eq!(reader.comments, blocks.iter().filter(|block| matches!(block, Written::Ping)).count());
    }

    /// A block ends where `block_len` says, and a stream that is cut before loses that block and nothing else.
    #[test]
    fn blocks_end_where_they_are_said_to(blocks in blocks(), cut in any::<prop::sample::Index>()) {
        let bytes = write(&blocks);
        let (mut ends, mut at) = (vec![0], 0);
        while at < bytes.len() {
            at += block_len(&bytes[at..]).expect("whole blocks");
            ends.push(at);
        }
        prop_assert_eq!(ends.len() - 1, blocks.len());
        let cut = cut.index(bytes.len() + 1);
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let mut reader = EventReader::default();
        reader.read(&bytes[..cut]);
        prop_assert_eq!(&reader.events, &expected(&blocks[..whole]).0);
    }
}

/// The examples of the standard, to know that the reader is one.
#[test]
fn the_reader_reads_the_standards_examples() {
    let read = |text: &str| {
        let mut reader = EventReader::default();
        reader.read(text.as_bytes());
        let events: Vec<_> = reader.events.into_iter().map(|event| (event.kind, event.data, event.id)).collect();
        (events, reader.last_id)
    };
    let event = |data: &str, id: &str| ("message".to_owned(), data.to_owned(), id.to_owned());
    assert_eq!(read("data: YHOO\ndata: +2\ndata: 10\n\n").0, [event("YHOO\n+2\n10", "")]);
    let stream = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n";
    assert_eq!(read(stream), (vec![event("first event", "1"), event("second event", "")], "".into()));
    assert_eq!(read("data\n\ndata\ndata\n\ndata:\n").0, [event("", ""), event("\n", "")]);
    assert_eq!(read("data:test\r\n\r\ndata: test\r\r").0, [event("test", ""), event("test", "")]);
    assert_eq!(read("\u{feff}data: x\n\nid: 7\n\n"), (vec![event("x", "")], "7".into()));
}
