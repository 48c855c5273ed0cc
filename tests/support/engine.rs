//! A client of Engine.IO and Socket.IO as the bytes go: HTTP connections that stay open, WebSockets, packets.
use super::{PATIENCE, Response, Server};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, Message, WebSocket};

pub const EIO: &str = "/socket.io/?EIO=4";

/// An HTTP/1.1 connection that is used again and again.
pub struct Http<S = TcpStream> {
    pub stream: S,
    port: u16,
    read: Vec<u8>,
}

impl Http {
    pub fn new(server: &Server) -> Http {
        Http::on(server.tcp(), server.port)
    }
}

impl<S: Read + Write> Http<S> {
    pub fn on(stream: S, port: u16) -> Http<S> {
        Http { stream, port, read: Vec::new() }
    }

    /// Sends a request with its length; the answer is read by `answer`.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", self.port);
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        if method == "POST" {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        self.stream.write_all(&[text.as_bytes(), b"\r\n", body].concat()).unwrap();
    }

    /// The next answer. Status 0: the connection ended instead.
    pub fn answer(&mut self) -> Response {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = Response::parse(&self.read[..end + 4]);
                let len: usize = head.header("content-length").map_or(0, |len| len.parse().unwrap());
                if self.read.len() >= end + 4 + len {
                    let response = Response::parse(&self.read[..end + 4 + len]);
                    self.read.drain(..end + 4 + len);
                    return response;
                }
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Response::parse(b""),
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Response::parse(b""),
                Err(error) => panic!("{error} instead of an answer"),
            }
        }
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, &[], b"");
        self.answer()
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Response {
        self.send("POST", path, &[("Content-Type", "text/plain;charset=UTF-8")], body);
        self.answer()
    }

    /// A new session on polling; its sid.
    pub fn handshake(&mut self) -> String {
        let response = self.get(&format!("{EIO}&transport=polling"));
        assert_eq!(response.status, 200, "{response:?}");
        sid_of(&response.body)
    }
}

fn sid_of(open: &str) -> String {
    let open: Value = serde_json::from_str(open.strip_prefix('0').expect("an open packet")).unwrap();
    open["sid"].as_str().unwrap().to_owned()
}

/// Path and query of a session's polls.
pub fn polling(sid: &str) -> String {
    format!("{EIO}&transport=polling&sid={sid}")
}

/// A WebSocket on the Engine.IO path.
pub struct Socket<S = TcpStream> {
    pub socket: WebSocket<S>,
}

impl Socket {
    pub fn open(server: &Server, query: &str) -> Result<Socket, (u16, String)> {
        Socket::open_at(server, &format!("{EIO}&transport=websocket{query}"))
    }

    pub fn open_at(server: &Server, path: &str) -> Result<Socket, (u16, String)> {
        Socket::on(server.tcp(), server.port, path)
    }
}

impl<S: Read + Write> Socket<S> {
    /// On a stream on which nothing was sent yet.
    pub fn on(stream: S, port: u16, path: &str) -> Result<Socket<S>, (u16, String)> {
        let request = format!("ws://127.0.0.1:{port}{path}").into_client_request().unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Socket { socket }),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
            }
            Err(_) => panic!("no handshake"),
        }
    }

    pub fn send(&mut self, packet: &str) {
        self.socket.send(Message::text(packet)).unwrap();
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).unwrap();
    }

    /// The next message: text, or `b` and the bytes in hexadecimal. None: the socket was closed.
    pub fn next(&mut self) -> Option<String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(Message::Binary(bytes)) => return Some(binary(&bytes)),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) => {
                    let _ = self.socket.flush();
                    return None;
                }
                Ok(other) => panic!("{other:?}"),
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing came within {PATIENCE:?}")
                }
                Err(_) => return None,
            }
        }
    }

    /// Lets it drop without a word.
    pub fn cut(self) {}
}

fn binary(bytes: &[u8]) -> String {
    bytes.iter().fold("b".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A Socket.IO client on either transport, for one or more namespaces.
pub struct Packets {
    way: Way,
    /// Packets that were read while waiting for others.
    pub kept: VecDeque<String>,
    ack: u64,
    pub sid: String,
}

enum Way {
    /// Where polls go: a connection for GETs, one for POSTs.
    Polling(Http, Http),
    Socket(Socket),
}

impl Packets {
    pub fn polling(server: &Server) -> Packets {
        let mut http = Http::new(server);
        let sid = http.handshake();
        Packets { way: Way::Polling(Http::new(server), http), kept: VecDeque::new(), ack: 0, sid }
    }

    /// On polling; the handshake's request has these headers.
    pub fn with_headers(server: &Server, headers: &[(&str, &str)]) -> Packets {
        let mut http = Http::new(server);
        http.send("GET", &format!("{EIO}&transport=polling"), headers, b"");
        let sid = sid_of(&http.answer().body);
        Packets { way: Way::Polling(Http::new(server), http), kept: VecDeque::new(), ack: 0, sid }
    }

    pub fn socket(server: &Server) -> Packets {
        let mut socket = Socket::open(server, "").unwrap();
        let open = socket.next().unwrap();
        let sid = sid_of(&open);
        Packets { way: Way::Socket(socket), kept: VecDeque::new(), ack: 0, sid }
    }

    /// Polls and posts go to other connections from now on, and so perhaps to other shards.
    pub fn reconnect(&mut self, server: &Server) {
        if let Way::Polling(get, post) = &mut self.way {
            (*get, *post) = (Http::new(server), Http::new(server));
        }
    }

    pub fn send(&mut self, packet: &str) {
        match &mut self.way {
            Way::Socket(socket) => socket.send(packet),
            Way::Polling(_, http) => {
                let response = http.post(&polling(&self.sid), packet.as_bytes());
                assert_eq!((response.status, &*response.body), (200, "ok"), "{packet}");
            }
        }
    }

    /// A binary packet.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Socket(socket) => socket.send_binary(bytes),
            Way::Polling(..) => panic!("over polling binary is base64 in a payload"),
        }
    }

    /// The next packet, pings answered. None: the session has ended.
    pub fn next(&mut self) -> Option<String> {
        loop {
            let packet = match self.kept.pop_front() {
                Some(packet) => packet,
                None => self.read()?,
            };
            match &*packet {
                "2" => self.send("3"),
                "6" => {}
                "1" => return None,
                _ => return Some(packet),
            }
        }
    }

    fn read(&mut self) -> Option<String> {
        match &mut self.way {
            Way::Socket(socket) => socket.next(),
            Way::Polling(http, _) => {
                let response = http.get(&polling(&self.sid));
                if response.status != 200 {
                    return None;
                }
                self.kept.extend(response.body.split('\u{1e}').map(str::to_owned));
                self.kept.pop_front()
            }
        }
    }

    /// Goes on over a WebSocket, as the protocol says, with the polls that a client has open meanwhile.
    pub fn upgrade(&mut self, server: &Server) {
        let mut socket = Socket::open(server, &format!("&sid={}", self.sid)).unwrap();
        socket.send("2probe");
        assert_eq!(socket.next().as_deref(), Some("3probe"));
        let Way::Polling(http, _) = &mut self.way else { panic!("not on polling") };
        // A poll that waits is ended, so that the client can stop.
        let response = http.get(&polling(&self.sid));
        assert_eq!(response.status, 200, "{response:?}");
        self.kept.extend(response.body.split('\u{1e}').map(str::to_owned));
        socket.send("5");
        self.way = Way::Socket(socket);
    }

    /// Joins a namespace with a user's token: the answer to CONNECT.
    pub fn connect(&mut self, namespace: &str, auth: Value) -> Result<Value, Value> {
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        self.send(&format!("40{prefix}{auth}"));
        let mut others = VecDeque::new();
        loop {
            let packet = self.next().expect("an answer to CONNECT");
            if let Some(reply) = packet.strip_prefix(&format!("40{prefix}")) {
                others.append(&mut self.kept);
                self.kept = others;
                return Ok(serde_json::from_str(reply).unwrap());
            }
            if let Some(error) = packet.strip_prefix(&format!("44{prefix}")) {
                return Err(serde_json::from_str(error).unwrap());
            }
            others.push_back(packet);
        }
    }

    /// Signed in, and greeted.
    pub fn sign_in(&mut self, server: &Server, user: &str) -> Value {
        let reply = self.connect("/", json!({"token": server.token(user)})).unwrap();
        assert_eq!(self.event("connection_established")[1]["userId"], user);
        reply
    }

    pub fn emit(&mut self, event: Value) {
        self.send(&format!("42{event}"));
    }

    /// An event with an ack, and what the ack says.
    pub fn ask(&mut self, event: Value) -> Value {
        self.ack += 1;
        self.send(&format!("42{}{event}", self.ack));
        let prefix = format!("43{}[", self.ack);
        let mut others = VecDeque::new();
        loop {
            let packet = self.next().unwrap_or_else(|| panic!("no ack of {event}; before: {others:?}"));
            if packet.starts_with(&prefix) {
                others.append(&mut self.kept);
                self.kept = others;
                let ack: Value = serde_json::from_str(&packet[prefix.len() - 1..]).unwrap();
                assert_eq!(ack.as_array().unwrap().len(), 1, "{packet}");
                return ack[0].clone();
            }
            others.push_back(packet);
        }
    }

    /// The result of an event that must succeed.
    pub fn ok(&mut self, event: Value) -> Value {
        let ack = self.ask(event.clone());
        assert_eq!(ack["ok"], true, "{event}: {ack}");
        ack["result"].clone()
    }

    /// The next event of this name in `/`, as its array; what comes before is dropped.
    pub fn event(&mut self, name: &str) -> Value {
        loop {
            let packet = self.next().unwrap_or_else(|| panic!("the session ended instead of {name}"));
            if let Some(event) = packet.strip_prefix("42")
                && let Ok(event) = serde_json::from_str::<Value>(event)
                && event[0] == name
            {
                return event;
            }
        }
    }

    pub fn join(&mut self, room: &str) -> Value {
        self.ok(json!(["join_room", {"roomId": room}]));
        self.event("room_joined")[1].clone()
    }

    /// Lets all connections drop.
    pub fn cut(self) {}
}
