//! What does the WebSocket codec cost per frame?
//!
//! Unit: time and bytes per second for one frame that is already in memory. `decode` includes unmasking and the UTF-8
//! check; the input is masked again by the same XOR in each round, so every round decodes masked bytes. It cannot tell
//! what a message costs in the server: there is no socket, no cache miss on a fresh buffer and no JSON here.
//!
//! Run: `cargo bench --bench codec`.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use throng::wire::ws::{Decoder, FrameBuffer, Item, Opcode, Place, mask};

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

criterion_group!(benches, decode, encode);
criterion_main!(benches);
