//! What does the WebSocket codec cost per frame?
//!
//! Unit: time and bytes per second for one frame that is already in memory. `decode` includes unmasking and the UTF-8
//! check; the input is masked again by the same XOR in each round, so every round decodes masked bytes. It cannot tell
//! what a message costs in the server: there is no socket, no cache miss on a fresh buffer and no JSON here.
//! `deflate` and `inflate` are permessage-deflate without context takeover, the resets included, on messages as the server sends
//! them: a chat message, and a snapshot of forty, whose likeness compresses better than real talk does.
//!
//! Run: `cargo bench --bench codec`.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use throng::wire::ws::{Decoder, Deflater, FrameBuffer, Inflater, Item, Opcode, Place, mask, payload as payload_of};

const SIZES: [usize; 3] = [64, 1_024, 16_384];
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMIT: usize = 65_536;

/// JSON-like text of `len` bytes with a few characters that are not ASCII.
fn payload(len: usize) -> Vec<u8> {
    let mut text = "{\"type\":\"message\",\"text\":\"gr\u{fc}\u{df} dich\"} ".repeat(len / 16 + 1);
    text.truncate(text.floor_char_boundary(len));
    text.extend(std::iter::repeat_n(' ', len - text.len()));
    text.into_bytes()
}

fn client_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x81];
    if payload.len() < 126 {
        out.push(0x80 | payload.len() as u8);
    } else {
        out.push(0x80 | 126);
        out.extend((payload.len() as u16).to_be_bytes());
    }
    out.extend(KEY);
    let start = out.len();
    out.extend(payload);
    mask::apply(&mut out[start..], KEY);
    out
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for size in SIZES {
        let mut input = client_frame(&payload(size));
        let end = input.len();
        let (mut decoder, mut assembly) = (Decoder::default(), Vec::new());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("text and mask again", size), |b| {
            b.iter(|| {
                let item = decoder.next(&mut input, &mut 0, end, &mut assembly, LIMIT);
                let Ok(Some(Item::Text(Place::Input(range)))) = item else { panic!("{item:?}") };
                mask::apply(&mut input[range], KEY);
            });
        });
    }
    for size in SIZES {
        let mut bytes = payload(size);
        group.throughput(Throughput::Bytes(size as u64));
        // The part of the above that only puts the mask back.
        group.bench_function(BenchmarkId::new("mask alone", size), |b| {
            b.iter(|| mask::apply(black_box(&mut bytes), black_box(KEY)));
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for size in SIZES {
        let payload = payload(size);
        let mut buffer = FrameBuffer::default();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("copy and frame", size), |b| {
            b.iter(|| {
                buffer.clear();
                buffer.payload().extend_from_slice(black_box(&payload));
                black_box(buffer.finish(Opcode::Text));
            });
        });
    }
    group.finish();
}

/// So many chat messages.
fn chat(count: usize) -> Vec<u8> {
    let message = |number| {
        format!(
            r#"{{"id":"msg_01M867TKNMAS545BEC94MMGQG0","roomId":"lobby","userId":"bob","message":"number {number}","messageType":"text","metadata":{{}},"timestamp":1795505868468,"edited":false,"reactions":{{}},"reactionCounts":{{}},"offset":{number},"epoch":"BWVWB22S4MV24GZ8","clientId":"bob-{number}","deleted":false}}"#
        )
    };
    let messages: Vec<String> = (0..count).map(message).collect();
    format!(r#"{{"id":"evt_01M867TFW4SG89YS4GF52MMXHK","type":"chat_message","data":[{}]}}"#, messages.join(","))
        .into_bytes()
}

fn deflate(c: &mut Criterion) {
    for message in [chat(1), chat(40)] {
        let (mut inflater, mut out, mut inflated) = (Inflater::default(), Vec::new(), Vec::new());
        for level in [1, 6] {
            let mut deflater = Deflater::new(level, 0);
            let mut group = c.benchmark_group("deflate");
            group.throughput(Throughput::Bytes(message.len() as u64));
            group.bench_function(BenchmarkId::new(format!("level {level}"), message.len()), |b| {
                b.iter(|| {
                    out.clear();
                    deflater.append_frame(&mut out, Opcode::Text, black_box(&message), 15);
                });
            });
        }
        let deflated = payload_of(&out).to_vec();
        let mut group = c.benchmark_group("inflate");
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(BenchmarkId::new("level 6", message.len()), |b| {
            b.iter(|| inflater.inflate(black_box(&deflated), &mut inflated, LIMIT));
        });
        assert_eq!(inflated, message);
    }
}

criterion_group!(benches, decode, encode, deflate);
criterion_main!(benches);
