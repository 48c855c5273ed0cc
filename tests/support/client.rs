//! A client of the native protocol that blocks, keeps what it was not asked for, and checks what it reads.
use super::http::{self, Response};
use super::{PATIENCE, check_error};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

pub struct Client<S = TcpStream> {
    socket: WebSocket<S>,
    /// Read while waiting for something else.
    kept: VecDeque<Value>,
    /// `data` of `connection_established`; null before.
    pub ready: Value,
    /// The subprotocol that the server named.
    pub protocol: Option<String>,
}

impl<S: Read + Write> Client<S> {
    pub fn open(stream: S, port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Client<S>, Response> {
        let mut request = format!("ws://127.0.0.1:{port}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|value| value.to_str().unwrap().to_string());
                Ok(Client { socket, kept: VecDeque::new(), ready: Value::Null, protocol })
            }
            Err(HandshakeError::Failure(Error::Http(response))) => {
                let mut text = format!("HTTP/1.1 {}\r\n", response.status().as_u16());
                for (name, value) in response.headers() {
                    text += &format!("{name}: {}\r\n", value.to_str().unwrap());
                }
                let body = response.body().clone().unwrap_or_default();
                Err(http::Response::parse(&[text.as_bytes(), b"\r\n", &body].concat()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A client on a stream on which the upgrade is through.
    pub fn on(stream: S) -> Client<S> {
        let socket = WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Client, None);
        Client { socket, kept: VecDeque::new(), ready: Value::Null, protocol: None }
    }

    /// Reads `connection_established`, which must come next.
    pub fn greet(&mut self) -> Value {
        let event = self.next();
        assert_eq!(event["type"], "connection_established", "{event}");
        self.ready = event["data"].clone();
        self.ready.clone()
    }

    /// Reads `connection_established`; false if the connection was closed instead.
    pub fn try_greet(&mut self) -> bool {
        match self.receive() {
            Ok(event) => {
                self.kept.push_back(event);
                self.greet();
                true
            }
            Err(_) => false,
        }
    }

    // --- sending

    /// Sends a command under a fresh id, which is returned.
    pub fn send(&mut self, kind: &str, data: Value) -> String {
        // The client id of a message that names none (R-CHAT-3).
        let id = format!("r{}", unique());
        self.send_text(&json!({"id": id, "type": kind, "data": data, "timestamp": 1}).to_string());
        id
    }

    pub fn send_text(&mut self, text: &str) {
        self.write(Message::text(text));
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.write(Message::binary(bytes.to_vec()));
    }

    /// Bytes as they are, behind whatever was sent before.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// Sends several commands in one segment. Their ids are `p0`, `p1`, …
    pub fn send_together(&mut self, commands: &[(&str, Value)]) {
        let mut bytes = Vec::new();
        for (index, (kind, data)) in commands.iter().enumerate() {
            let text = json!({"id": format!("p{index}"), "type": kind, "data": data}).to_string();
            bytes.extend(text_frame(&text));
        }
        self.send_bytes(&bytes);
    }

    fn write(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    // --- reading

    /// The next message. Panics if there is none in time or the connection ends.
    pub fn next(&mut self) -> Value {
        match self.kept.pop_front() {
            Some(message) => message,
            None => self.receive().unwrap_or_else(|code| panic!("closed with {code:?} instead of a message")),
        }
    }

    /// The next message of this type; what comes before it is dropped.
    pub fn event(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message["data"].clone();
            }
        }
    }

    /// The answer to a command: `Ok` with the result of its ack, `Err` with its error. What comes before stays to be read.
    pub fn answer(&mut self, id: &str) -> Result<Value, Value> {
        let is_answer = |message: &Value| {
            message["data"]["requestId"] == id && (message["type"] == "ack" || message["type"] == "error")
        };
        let at = match self.kept.iter().position(is_answer) {
            Some(at) => at,
            None => loop {
                let message =
                    self.receive().unwrap_or_else(|code| panic!("closed with {code:?} instead of an answer to {id}"));
                self.kept.push_back(message);
                if self.kept.back().is_some_and(is_answer) {
                    break self.kept.len() - 1;
                }
            },
        };
        let message = self.kept.remove(at).unwrap();
        if message["type"] == "ack" {
            let ack = message["data"].as_object().unwrap();
            assert!(ack.len() == 2 && ack["result"].is_object(), "{message}");
            return Ok(message["data"]["result"].clone());
        }
        Err(message["data"].clone())
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, kind: &str, data: Value) -> Result<Value, Value> {
        let id = self.send(kind, data);
        self.answer(&id)
    }

    /// The result of a command that must succeed.
    pub fn ok(&mut self, kind: &str, data: Value) -> Value {
        let shown = format!("{kind} {data}");
        self.ask(kind, data).unwrap_or_else(|error| panic!("{shown}: {error}"))
    }

    /// The error of a command that must be refused with this code.
    pub fn refused(&mut self, code: &str, kind: &str, data: Value) -> Value {
        let shown = format!("{kind} {data}");
        match self.ask(kind, data) {
            Err(error) if error["code"] == code => error,
            other => panic!("{shown}: {other:?} instead of {code}"),
        }
    }

    /// Makes a room that bears this id; its RoomInfo.
    pub fn create_room(&mut self, room: &str, kind: &str) -> Value {
        self.ok("create_room", json!({"roomId": room, "name": "A room", "type": kind}))
    }

    /// Joins and returns the snapshot.
    pub fn join(&mut self, room: &str) -> Value {
        self.join_with(json!({"roomId": room}))
    }

    pub fn join_with(&mut self, data: Value) -> Value {
        self.ok("join_room", data);
        self.event("room_state")
    }

    /// Sends a message and returns the ack's result.
    pub fn say(&mut self, room: &str, text: &str) -> Value {
        self.ok("chat_message", json!({"roomId": room, "message": text}))
    }

    /// All that this client is told before `other`, who is in the room too, is heard to shout. Events of one room come in one order,
    /// so what is not there by then will not come.
    pub fn heard(&mut self, other: &mut Client<impl Read + Write>, room: &str) -> Vec<Value> {
        let mark = format!("mark-{}", unique());
        other.send("broadcast", json!({"roomId": room, "event": mark, "payload": null}));
        let mut before = Vec::new();
        loop {
            let message = self.next();
            match message["data"]["event"].as_str() {
                Some(event) if event == mark => return before,
                // Set by others, for others.
                Some(event) if event.starts_with("mark-") => {}
                _ => before.push(message),
            }
        }
    }

    /// Types of what was heard, with the user they are about.
    pub fn heard_types(&mut self, other: &mut Client<impl Read + Write>, room: &str) -> Vec<(String, String)> {
        let heard = self.heard(other, room);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        heard.iter().map(|message| (text(&message["type"]), text(&message["data"]["userId"]))).collect()
    }

    /// Everything up to the answer of a heartbeat.
    pub fn so_far(&mut self) -> Vec<Value> {
        let stamp = unique();
        self.send("heartbeat", json!({"timestamp": stamp}));
        let mut before = Vec::new();
        loop {
            let message = self.next();
            if message["type"] == "heartbeat_response" && message["data"]["clientTimestamp"] == stamp {
                return before;
            }
            before.push(message);
        }
    }

    /// The close code that the server ends this connection with; messages before it are dropped. Answers the close.
    pub fn closed(&mut self) -> u16 {
        self.kept.clear();
        loop {
            if let Err(code) = self.receive() {
                return code.expect("a close frame with a code");
            }
        }
    }

    /// Messages up to the close, and its code; no code if the connection was cut.
    pub fn rest(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut messages = Vec::from(std::mem::take(&mut self.kept));
        loop {
            match self.receive() {
                Ok(message) => messages.push(message),
                Err(code) => return (messages, code),
            }
        }
    }

    /// One message off the socket, or how the connection ended.
    fn receive(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(checked(&text)),
                Ok(Message::Close(Some(frame))) => {
                    let _ = self.socket.flush();
                    return Err(Some(frame.code.into()));
                }
                Ok(Message::Close(None)) => return Err(None),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing came within {PATIENCE:?}")
                }
                Err(_) => return Err(None),
            }
        }
    }

    // --- ending

    /// Closes with this code and waits for the server's answer.
    pub fn close(mut self, code: u16) {
        self.socket.close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() })).unwrap();
        self.kept.clear();
        while self.receive().is_ok() {}
    }

    /// Lets the connection drop without a word.
    pub fn cut(self) {}

    pub fn stream(&mut self) -> &mut S {
        self.socket.get_mut()
    }
}

impl Client {
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.socket.get_mut().set_read_timeout(Some(timeout)).unwrap();
    }
}

/// A number that no other client uses.
fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed)
}

/// A server's message, whose envelope is as R-ENV-1 says.
fn checked(text: &str) -> Value {
    let message: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let fields = message.as_object().unwrap_or_else(|| panic!("no object: {text}"));
    assert_eq!(fields.len(), 4, "{text}");
    let id = message["id"].as_str().unwrap_or_default();
    assert!(id.len() == 30 && id.starts_with("evt_"), "{text}");
    assert!(message["type"].is_string() && message["data"].is_object(), "{text}");
    assert!(message["timestamp"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000), "{text}");
    if message["type"] == "error" {
        check_error(&message["data"]);
        assert!(message["data"].get("requestId").is_some(), "{text}");
    }
    message
}

/// A client's frame: final or not, of this opcode, masked.
pub fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x88];
    let mut bytes = vec![u8::from(is_final) << 7 | opcode];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            bytes.push(0xfe);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0xff);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub fn text_frame(text: &str) -> Vec<u8> {
    frame(true, 1, text.as_bytes())
}
