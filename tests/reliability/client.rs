//! A client on a blocking socket, small enough for thousands: it writes frames by hand and reads when asked to.
use super::{PATIENCE, Server, source_address};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
    /// `received[..taken]` has been looked at.
    taken: usize,
    requests: u64,
    /// Off: plays a peer that is gone.
    pub answers: bool,
    /// Messages that came while waiting for another.
    pub stash: Vec<Value>,
}

/// What a read brought.
#[derive(Debug)]
pub enum Got {
    Message(Value),
    /// The server's close frame.
    Closed(u16),
    /// The connection ended without one.
    Lost,
    /// Nothing in the time given.
    Nothing,
}

impl Client {
    /// Connects and signs in; the ready message has been taken.
    pub fn connect(server: &Server, user: &str) -> Client {
        Client::try_connect(server, user).expect("a connection")
    }

    /// None if the server does not want it.
    pub fn try_connect(server: &Server, user: &str) -> Option<Client> {
        let mut client = Client::begin(server, connect_from(source_address(0), server.address)?, Some(user));
        match client.status()? {
            101 => {}
            _ => return None,
        }
        client.wait_for("connection_established")?;
        Some(client)
    }

    /// Connects and sends the request, with a token if there is a user, and reads nothing.
    pub fn begin(server: &Server, stream: TcpStream, user: Option<&str>) -> Client {
        let mut client = Client::over(stream);
        client.write(&upgrade_request(server, user));
        client
    }

    pub fn over(stream: TcpStream) -> Client {
        Client { stream, received: Vec::new(), taken: 0, requests: 0, answers: true, stash: Vec::new() }
    }

    /// Sends; a peer that is gone is found out by reading.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a command under an id, which it returns.
    pub fn send(&mut self, kind: &str, data: Value) -> String {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        self.write(&message(&id, kind, &data));
        id
    }

    /// Sends a command and waits for its ack.
    ///
    /// # Panics
    /// If it is refused, or the connection ends.
    pub fn request(&mut self, kind: &str, data: Value) -> Value {
        let id = self.send(kind, data);
        self.result(&id).unwrap_or_else(|error| panic!("{kind}: {error}"))
    }

    /// The result of a request, or what came instead.
    pub fn result(&mut self, id: &str) -> Result<Value, String> {
        loop {
            match self.next(PATIENCE) {
                Got::Message(mut message) if message["data"]["requestId"] == id => {
                    return match message["type"].as_str() {
                        Some("ack") => Ok(message["data"]["result"].take()),
                        _ => Err(message.to_string()),
                    };
                }
                Got::Message(message) => self.stash.push(message),
                other => return Err(format!("{other:?}")),
            }
        }
    }

    /// Joins a room; the snapshot. With a position, recovers from there.
    pub fn join(&mut self, room: &str, recover: Option<(&str, u64)>) -> Value {
        self.request("join_room", join_data(room, recover));
        self.wait_for("room_state").expect("a snapshot")
    }

    /// All messages of a room that history has.
    pub fn history(&mut self, room: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.request("get_history", json!({"roomId": room, "after": after, "limit": 100}));
            all.extend(page["messages"].as_array().unwrap().iter().cloned());
            if page["hasMore"] != true {
                return all;
            }
            after = all.last().unwrap()["offset"].as_u64().unwrap();
        }
    }

    /// The data of the next message of this type. Others before it are stashed. None if the connection ends.
    pub fn wait_for(&mut self, kind: &str) -> Option<Value> {
        if let Some(found) = self.stash.iter().position(|message| message["type"] == kind) {
            return Some(self.stash.remove(found)["data"].take());
        }
        loop {
            match self.next(PATIENCE) {
                Got::Message(mut message) if message["type"] == kind => return Some(message["data"].take()),
                Got::Message(message) => self.stash.push(message),
                Got::Nothing => panic!("no {kind} came"),
                Got::Closed(_) | Got::Lost => return None,
            }
        }
    }

    /// Reads to the end and says how the connection ended: the code of the close frame, or none.
    pub fn ending(&mut self) -> Option<u16> {
        loop {
            match self.next(PATIENCE) {
                Got::Message(message) => self.stash.push(message),
                Got::Closed(code) => return Some(code),
                Got::Lost => return None,
                Got::Nothing => panic!("the connection did not end"),
            }
        }
    }

    /// What comes next, waiting at most this long. Pings and the close are answered.
    pub fn next(&mut self, wait: Duration) -> Got {
        let deadline = Instant::now() + wait;
        loop {
            while let Some((opcode, payload)) = self.take_frame() {
                match opcode {
                    1 => return Got::Message(serde_json::from_slice(&payload).expect("JSON")),
                    8 => {
                        if self.answers {
                            self.write(&frame(8, &payload));
                        }
                        return Got::Closed(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)));
                    }
                    9 if self.answers => self.write(&frame(10, &payload)),
                    9 | 10 => {}
                    other => panic!("a server never sends opcode {other} here"),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.read_more(left.max(Duration::from_millis(1))) {
                Ok(0) => return Got::Lost,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if left.is_zero() {
                        return Got::Nothing;
                    }
                }
                Err(_) => return Got::Lost,
            }
        }
    }

    /// Reads the answer to the request; its status. None if there was none.
    pub fn status(&mut self) -> Option<u16> {
        let head = self.head()?;
        head.split(' ').nth(1)?.parse().ok()
    }

    /// Reads the head of an HTTP response.
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                self.taken = end + 4;
                return Some(String::from_utf8(self.received[..end].to_vec()).expect("a head is ASCII"));
            }
            if self.read_more(PATIENCE).ok()? == 0 {
                return None;
            }
        }
    }

    /// Ends the connection with a reset, as a crash of the peer's machine would look once it is back.
    pub fn reset(self) {
        Socket::from(self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn read_more(&mut self, wait: Duration) -> std::io::Result<usize> {
        if self.taken == self.received.len() {
            self.received.clear();
        } else {
            self.received.drain(..self.taken);
        }
        self.taken = 0;
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let mut piece = [0; 16_384];
        let read = self.stream.read(&mut piece)?;
        self.received.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    /// The next whole frame. The server's are neither masked nor fragmented.
    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let bytes = &self.received[self.taken..];
        let [first, second, rest @ ..] = bytes else { return None };
        assert_eq!((first & 0xf0, second & 0x80), (0x80, 0), "not a whole, unmasked frame");
        let (len, head) = match second {
            126 => (u16::from_be_bytes(*rest.first_chunk()?) as usize, 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?) as usize, 10),
            len => (usize::from(*len), 2),
        };
        let payload = bytes.get(head..head + len)?.to_vec();
        let opcode = first & 0x0f;
        self.taken += head + len;
        Some((opcode, payload))
    }
}

pub fn join_data(room: &str, recover: Option<(&str, u64)>) -> Value {
    match recover {
        None => json!({"roomId": room}),
        Some((epoch, offset)) => json!({"roomId": room, "recover": {"epoch": epoch, "offset": offset}}),
    }
}

/// A client's frame. RFC 6455 5.3 wants each key unpredictable, which matters to proxies only.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x5a, 0xc3, 0x17, 0x88];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A command in its frame.
pub fn message(id: &str, kind: &str, data: &Value) -> Vec<u8> {
    frame(1, json!({"id": id, "type": kind, "data": data, "timestamp": 0}).to_string().as_bytes())
}

pub fn upgrade_request(server: &Server, user: Option<&str>) -> Vec<u8> {
    let token = user.map_or(String::new(), |user| format!("authorization: Bearer {}\r\n", server.token(user)));
    format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{token}\r\n",
        server.address
    )
    .into_bytes()
}

/// None if nobody listens.
pub fn connect_from(source: IpAddr, target: SocketAddr) -> Option<TcpStream> {
    connect_narrow(source, target, None)
}

/// With a receive buffer of this many bytes, so that not reading is felt early.
pub fn connect_narrow(source: IpAddr, target: SocketAddr, receive_bytes: Option<usize>) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&target.into()).ok()?;
    socket.set_tcp_nodelay(true).unwrap();
    Some(socket.into())
}
