//! The question: what does the vocabulary cost per message, apart from sockets and rooms?
//! Unit: one message, on a warm parser, in one thread. The bytes are copied in before each parse, as the frame
//! decoder's unmasking would write them; that copy is in the figure.
//! What it cannot tell: cache misses of a server with many connections, where buffers are cold.
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use throng::ids::Ulid;
use throng::rooms::event::Event;
use throng::session::decode::{Scratch, decode};
use throng::session::encode::{Encoder, Native, Stamp};
use throng::store::port::{EventKind, EventRow};
use throng::wire::envelope::{PADDING_BYTES, Parser};

const CHAT: &[u8] = br#"{"id":"c-00000000001","type":"chat_message","data":{"roomId":"lobby","message":"Hello everybody, how are you?"},"timestamp":1700000000000}"#;
const HEARTBEAT: &[u8] = br#"{"id":"c-000000002","type":"heartbeat","data":{"timestamp":1700000000000}}"#;
const LIVE: &[u8] = br#"{"id":"c-000000003","type":"broadcast","data":{"roomId":"lobby","event":"move","payload":{"x":12.5,"y":-3,"t":[1,2,3]}}}"#;

fn parse_and_decode(c: &mut Criterion) {
    assert_eq!(CHAT.len(), 138);
    for (name, text) in [("chat_message", CHAT), ("heartbeat", HEARTBEAT), ("broadcast", LIVE)] {
        let (mut parser, mut scratch) = (Parser::new(), Scratch::default());
        let mut bytes = vec![0; text.len() + PADDING_BYTES];
        c.bench_function(&format!("parse and decode {name}, {} bytes", text.len()), |b| {
            b.iter(|| {
                bytes[..text.len()].copy_from_slice(black_box(text));
                let envelope = parser.parse(&mut bytes, text.len()).expect("an envelope");
                let command = decode(&envelope, &mut scratch).expect("a command");
                black_box(&command);
            });
        });
    }
}

fn encode(c: &mut Criterion) {
    let row = EventRow {
        offset: 123_456,
        kind: EventKind::Message,
        id: Ulid::from_parts(1_700_000_000_000, [7; 10]),
        user_id: "user-4711".into(),
        user_email: None,
        client_id: Some("c-000000001".into()),
        body: "Hello everybody, how are you?".into(),
        detail: None,
        at_ms: 1_700_000_000_000,
    };
    let encoder = Encoder { vocabulary: Native, expose_email: false };
    let stamp = Stamp { id: Ulid::from_parts(1_700_000_000_001, [9; 10]), unix_ms: 1_700_000_000_001 };
    let mut out = Vec::new();
    c.bench_function("encode a chat_message event", |b| {
        b.iter(|| {
            out.clear();
            encoder.event(&mut out, stamp, "lobby", &Event::Durable { epoch: "ep01", row: black_box(&row) });
            black_box(&out);
        });
    });
}

criterion_group!(benches, parse_and_decode, encode);
criterion_main!(benches);
