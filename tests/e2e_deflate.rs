//! permessage-deflate (RFC 7692) over real sockets: what is agreed on, that a compressed client hears what a plain one does, that a
//! broadcast is compressed once, and how hostile compressed messages end.
mod support;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use support::{Response, Server, frame, upgrade_request};

/// A first bit that says "compressed" (RFC 7692 section 6).
const RSV1: u8 = 0x40;

/// A client that speaks the extension; what the server sends is inflated with the window that was agreed on.
struct Client {
    stream: TcpStream,
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    answer: Option<String>,
    unread: Vec<u8>,
    inflate: Decompress,
    /// Messages that came compressed, and others.
    compressed: usize,
    plain: usize,
}

impl Client {
    fn open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Client {
        let mut stream = server.tcp();
        stream.write_all(upgrade_request(path, server.port, headers).as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let response = Response { status: 101, head, body: String::new() };
        let answer = response.header("sec-websocket-extensions").map(str::to_string);
        let bits = answer.as_deref().and_then(|answer| answer.split_once("server_max_window_bits="));
        let bits = bits.map_or(15, |(_, bits)| bits.parse().unwrap());
        let inflate = Decompress::new_with_window_bits(false, bits);
        Client { stream, answer, unread: Vec::new(), inflate, compressed: 0, plain: 0 }
    }

    /// Signed in, with this offer, and greeted.
    fn sign_in(server: &Server, user: &str, offer: &str) -> Client {
        let bearer = format!("Bearer {}", server.token(user));
        let mut client =
            Client::open(server, "/ws", &[("Authorization", &bearer), ("Sec-WebSocket-Extensions", offer)]);
        assert!(client.answer.is_some(), "{offer} was declined");
        assert_eq!(client.next()["type"], "connection_established");
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn command(&mut self, id: &str, kind: &str, data: Value) {
        let text = json!({"id": id, "type": kind, "data": data}).to_string();
        self.send(&deflated_frame(true, 1, &deflated(text.as_bytes())));
    }

    /// First byte and payload of the next frame.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(len) = throng::wire::ws::frame_len(&self.unread)
                && self.unread.len() >= len
            {
                let rest = self.unread.split_off(len);
                let frame = std::mem::replace(&mut self.unread, rest);
                return (frame[0], throng::wire::ws::payload(&frame).to_vec());
            }
            let mut piece = [0; 4_096];
            let len = self.stream.read(&mut piece).unwrap();
            assert!(len > 0, "closed without a close frame");
            self.unread.extend_from_slice(&piece[..len]);
        }
    }

    /// Opcode and payload of the next message, inflated.
    fn message(&mut self) -> (u8, Vec<u8>) {
        let (first, payload) = self.frame();
        if first & RSV1 == 0 {
            self.plain += 1;
            return (first & 0x0f, payload);
        }
        self.compressed += 1;
        let bytes = [&payload[..], &[0, 0, 0xff, 0xff]].concat();
        let mut message = Vec::with_capacity(1 << 20);
        self.inflate.reset(false);
        self.inflate.decompress_vec(&bytes, &mut message, FlushDecompress::Sync).unwrap();
        assert_eq!(self.inflate.total_in(), bytes.len() as u64);
        (first & 0x0f, message)
    }

    fn next(&mut self) -> Value {
        let (opcode, message) = self.message();
        assert_eq!(opcode, 1, "{message:?}");
        serde_json::from_slice(&message).unwrap()
    }

    fn event(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
        }
    }

    fn join(&mut self, room: &str) {
        self.command("join", "join_room", json!({"roomId": room}));
        self.event("room_state");
    }

    /// The code that the server closes with.
    fn closed(&mut self) -> u16 {
        loop {
            let (first, payload) = self.frame();
            if first == 0x88 {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }
}

/// A compressed message, by a context of its own.
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 64);
    Compress::new(Compression::best(), false).compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

fn deflated_frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(is_final, opcode, payload);
    bytes[0] |= RSV1;
    bytes
}

#[test]
fn compression_is_agreed_on_where_it_is_configured_and_offered() {
    let answer = |server: &Server, path: &str, headers: &[(&str, &str)]| Client::open(server, path, headers).answer;
    let offer = &[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")][..];
    let plain = Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_string());
    let off = Server::start(&[]);
    assert_eq!(answer(&off, "/ws?deflate=1", offer), None);
    let ask = Server::start(&["ws.deflate=ask"]);
    assert_eq!(answer(&ask, "/ws", offer), None);
    assert_eq!(answer(&ask, "/ws?deflate=0", offer), None);
    assert_eq!(answer(&ask, "/ws?deflate=1", offer), plain);
    let on = Server::start(&["ws.deflate=on"]);
    assert_eq!(answer(&on, "/ws", offer), plain);
    assert_eq!(answer(&on, "/echo", offer), plain);
    assert_eq!(answer(&on, "/ws", &[]), None);
    let declined = [("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=8")];
    assert_eq!(answer(&on, "/ws", &declined), None);
    let second = [declined[0], ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=11")];
    assert_eq!(answer(&on, "/ws", &second), plain.map(|plain| plain + "; server_max_window_bits=11"));
}

#[test]
fn a_room_hears_the_same_compressed_or_not_and_is_compressed_once_per_window() {
    let server = Server::with_shards(1, &["ws.deflate=on", "limits.live=0", "limits.messages=0"]);
    let (mut speaker, mut plain) = (server.client("speaker"), server.client("plain"));
    speaker.join("lobby");
    plain.join("lobby");
    let mut compressed: Vec<Client> = [
        ("anna", "permessage-deflate"),
        ("berta", "permessage-deflate; client_max_window_bits"),
        ("carla", "permessage-deflate; server_max_window_bits=15"),
        ("dora", "permessage-deflate; server_max_window_bits=9"),
    ]
    .map(|(user, offer)| Client::sign_in(&server, user, offer))
    .into();
    for client in &mut compressed {
        client.join("lobby");
    }
    // All joins were heard of: what is sent from here on is what is counted.
    plain.heard(&mut speaker, "lobby");
    for client in &mut compressed {
        client.event("broadcast");
        (client.compressed, client.plain) = (0, 0);
    }
    let counted = |name: &str| server.metric(&format!("throng_deflate_{name}_total"));
    let before = (counted("messages"), counted("input_bytes"), counted("output_bytes"));
    const EVENTS: usize = 20;
    for number in 0..EVENTS {
        let payload = json!({"number": number, "text": "a broadcast is long enough to be compressed ".repeat(10)});
        speaker.send("broadcast", json!({"roomId": "lobby", "event": "x", "payload": payload}));
    }
    for number in 0..EVENTS {
        let expected = plain.next();
        assert_eq!(expected["data"]["payload"]["number"], number);
        for client in &mut compressed {
            assert_eq!(client.next(), expected);
        }
    }
    // Once for three members with a window of 15 bits and once for the one with 9.
    assert_eq!(counted("messages") - before.0, 2.0 * EVENTS as f64);
    let (input, output) = (counted("input_bytes") - before.1, counted("output_bytes") - before.2);
    assert!(output > 0.0 && output * 2.0 < input, "{input} -> {output}");
    // What is stored arrives alike, and what is short stays as it is.
    speaker.say("lobby", &"durable ".repeat(100));
    let expected = plain.next();
    for client in &mut compressed {
        assert_eq!(client.next(), expected);
        assert_eq!((client.compressed, client.plain), (EVENTS + 1, 0));
    }
    speaker.send("typing_start", json!({"roomId": "lobby"}));
    let expected = plain.next();
    for client in &mut compressed {
        assert_eq!(client.next(), expected);
        assert_eq!((client.compressed, client.plain), (EVENTS + 1, 1));
    }
}

#[test]
fn compressed_commands_are_taken_however_they_are_cut() {
    let server = Server::start(&["ws.deflate=on", "limits.commands=0"]);
    let mut client = Client::sign_in(&server, "anna", "permessage-deflate");
    let heartbeat = |stamp: u64| json!({"id": "h", "type": "heartbeat", "data": {"timestamp": stamp}}).to_string();
    let expect = |client: &mut Client, stamp: u64| {
        assert_eq!(client.event("heartbeat_response")["data"]["clientTimestamp"], stamp);
    };
    client.send(&deflated_frame(true, 1, &deflated(heartbeat(1).as_bytes())));
    expect(&mut client, 1);
    // Not compressed, which is up to the sender.
    client.send(&frame(true, 1, heartbeat(2).as_bytes()));
    expect(&mut client, 2);
    // Cut anywhere, a ping in between.
    let message = deflated(heartbeat(3).as_bytes());
    for at in 0..=message.len() {
        let first = deflated_frame(false, 1, &message[..at]);
        client.send(&[first, frame(true, 9, b"still there?"), frame(true, 0, &message[at..])].concat());
        assert_eq!(client.frame(), (0x8a, b"still there?".to_vec()));
        expect(&mut client, 3);
    }
    // A block with BFINAL (7.2.3.4), several blocks, and escapes that are rewritten when parsed.
    let mut last = Vec::with_capacity(500);
    Compress::new(Compression::fast(), false)
        .compress_vec(heartbeat(4).as_bytes(), &mut last, FlushCompress::Finish)
        .unwrap();
    last.push(0);
    client.send(&deflated_frame(true, 1, &last));
    expect(&mut client, 4);
    client.join("lobby");
    client.command("c", "chat_message", json!({"roomId": "lobby", "message": "a \"quoted\" \\ line\n".repeat(50)}));
    let message = client.event("chat_message");
    assert_eq!(message["data"]["message"], "a \"quoted\" \\ line\n".repeat(50).trim_end());
    assert!(server.metric("throng_inflate_messages_total") >= message["data"]["offset"].as_f64().unwrap());
}

#[test]
fn the_echo_compresses_text_and_binary() {
    let server = Server::start(&["ws.deflate=on"]);
    let mut client = Client::open(&server, "/echo", &[("Sec-WebSocket-Extensions", "permessage-deflate")]);
    for opcode in [1, 2] {
        for len in [0, 1, 255, 256, 5_000, 65_536] {
            let message = b"echo ".iter().copied().cycle().take(len).collect::<Vec<u8>>();
            client.send(&deflated_frame(true, opcode, &deflated(&message)));
            assert_eq!(client.message(), (opcode, message));
        }
    }
    assert_eq!((client.compressed, client.plain), (6, 6));
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let server = Server::start(&["ws.deflate=on", "limits.commands=0"]);
    let close_of = |bytes: &[u8]| {
        let mut client = Client::sign_in(&server, "anna", "permessage-deflate");
        client.send(bytes);
        client.closed()
    };
    let hello = deflated(b"hello");
    // RSV1 where it has no meaning.
    assert_eq!(close_of(&[deflated_frame(false, 1, &hello[..2]), deflated_frame(true, 0, &hello[2..])].concat()), 1002);
    assert_eq!(close_of(&deflated_frame(true, 9, b"ping")), 1002);
    // No DEFLATE data; cut off; from a context that is not taken over (7.2.3.2).
    assert_eq!(close_of(&deflated_frame(true, 1, &[0xff; 10])), 1002);
    assert_eq!(close_of(&deflated_frame(true, 1, &deflated(&[b'x'; 500])[..4])), 1002);
    assert_eq!(close_of(&deflated_frame(true, 1, &[0xf2, 0x00, 0x11, 0x00, 0x00])), 1002);
    assert_eq!(close_of(&deflated_frame(true, 1, &[])), 1002);
    assert_eq!(close_of(&deflated_frame(true, 1, &deflated(b"a\xffb"))), 1007);
    assert_eq!(close_of(&deflated_frame(true, 2, &hello)), 1003);
    let mut plain = server.client("anna");
    plain.send_bytes(&deflated_frame(true, 1, &hello));
    assert_eq!(plain.closed(), 1002);
}

/// A thousand times larger when inflated: the bound is that of plain messages, held while inflating.
#[test]
fn bombs_end_at_the_bound_of_a_message() {
    let server = Server::start(&["ws.deflate=on", "limits.commands=0"]);
    let padded = |len: usize| {
        let text = json!({"id": "h", "type": "heartbeat", "data": {}}).to_string();
        deflated_frame(true, 1, &deflated(format!("{text}{}", " ".repeat(len - text.len())).as_bytes()))
    };
    let mut client = Client::sign_in(&server, "anna", "permessage-deflate");
    client.send(&padded(65_536));
    client.event("heartbeat_response");
    client.send(&padded(65_537));
    assert_eq!(client.closed(), 1009);
    let bomb = padded(60 << 20);
    assert!(bomb.len() < 65_536);
    for _ in 0..20 {
        let mut client = Client::sign_in(&server, "anna", "permessage-deflate");
        client.send(&bomb);
        assert_eq!(client.closed(), 1009);
    }
    // Before sign-in a message has 8192 bytes (R-AUTH-1).
    let offer = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    let mut stranger = Client::open(&server, "/ws", &offer);
    stranger.send(&padded(8_192));
    assert_eq!(stranger.next()["data"]["code"], "auth_required");
    stranger.send(&padded(8_193));
    assert_eq!(stranger.closed(), 1009);
    assert_eq!(server.metric("throng_websocket_errors_total{code=\"1009\"}"), 22.0);
}
