//! One plain client: a `tungstenite` connection, blocking until it is in its rooms, then never.
use super::envelope::{self, Event};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use tungstenite::client::{ClientRequestBuilder, client};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// For connecting, signing in and joining.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Client {
    socket: WebSocket<TcpStream>,
    /// Something was written that the kernel did not take yet.
    pub is_unflushed: bool,
    /// Why it ended; nothing more is read or sent then.
    pub ended: Option<String>,
    /// Came while an answer was awaited.
    early: VecDeque<Event>,
}

/// The answer to a join.
pub struct Joined {
    pub epoch: String,
    pub offset: u64,
}

impl Client {
    /// Connects, signs in by the header, and waits for `connection_established`.
    pub fn connect(address: SocketAddr, host: &str, token: Option<&str>) -> Result<Client, String> {
        let url = format!("ws://{host}/ws");
        let uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let mut request = ClientRequestBuilder::new(uri).with_sub_protocol("throng.v1");
        if let Some(token) = token {
            request = request.with_header("Authorization", format!("Bearer {token}"));
        }
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| format!("{address}: {error}"))?;
        let prepare = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
        prepare.map_err(|error| format!("{address}: {error}"))?;
        let (socket, _) = client(request, stream).map_err(|error| match error {
            HandshakeError::Failure(error) => format!("{address}: handshake: {error}"),
            HandshakeError::Interrupted(_) => format!("{address}: no answer to the handshake in {PATIENCE:?}"),
        })?;
        let mut client = Client { socket, is_unflushed: false, ended: None, early: VecDeque::new() };
        client.wait_for("connection_established", |event| (*event == Event::Established).then_some(()))?;
        Ok(client)
    }

    /// Joins and waits for both answers: ack, then `room_state`.
    pub fn join(&mut self, id: &str, room: &str) -> Result<Joined, String> {
        self.socket.send(Message::text(envelope::join(id, room))).map_err(|error| format!("join: {error}"))?;
        self.wait_for("ack", |event| match event {
            Event::Ack { request, .. } if request == id => Some(Ok(())),
            Event::Error { request, code } if request.as_deref() == Some(id) => Some(Err(format!("join: {code}"))),
            _ => None,
        })??;
        self.wait_for("room_state", |event| match event {
            Event::RoomState { room: other, epoch, offset } if other == room => {
                Some(Joined { epoch: epoch.clone(), offset: *offset })
            }
            _ => None,
        })
    }

    /// From now on `poll` and `send` return at once.
    pub fn unblock(&mut self) -> io::Result<()> {
        self.socket.get_ref().set_nonblocking(true)
    }

    pub fn send(&mut self, text: String) {
        if self.ended.is_none() {
            let sent = self.socket.send(Message::text(text));
            self.after_write(sent);
        }
    }

    pub fn flush(&mut self) {
        if self.ended.is_none() {
            let flushed = self.socket.flush();
            self.after_write(flushed);
        }
    }

    /// The next message, if there is one. An error is a breach of the protocol; the connection goes on.
    pub fn poll(&mut self) -> Option<Result<Event, String>> {
        if let Some(event) = self.early.pop_front() {
            return Some(Ok(event));
        }
        while self.ended.is_none() {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(envelope::read(&text)),
                Ok(Message::Binary(_)) => return Some(Err("a binary message".into())),
                Ok(Message::Close(frame)) => {
                    self.ended =
                        Some(frame.map_or("closed without a code".into(), |frame| format!("closed {}", frame.code)));
                }
                Ok(_) => self.is_unflushed = true,
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => self.ended = Some(error.to_string()),
            }
        }
        None
    }

    /// Says goodbye; the server's own goodbye is not awaited.
    pub fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // It may be closed already, and then there is nothing to say.
        let _ = self.socket.close(Some(frame)).and_then(|()| self.socket.flush());
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }

    fn after_write(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => self.is_unflushed = false,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => self.is_unflushed = true,
            Err(error) => self.ended = Some(error.to_string()),
        }
    }

    fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> Result<T, String> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let event = match self.socket.read() {
                Ok(Message::Text(text)) => envelope::read(&text)?,
                Ok(Message::Close(frame)) => return Err(format!("{what}: closed instead: {frame:?}")),
                Ok(_) => continue,
                Err(error) => return Err(format!("{what}: {error}")),
            };
            match wanted(&event) {
                Some(found) => return Ok(found),
                None => self.early.push_back(event),
            }
        }
        Err(format!("{what} did not come in {PATIENCE:?}"))
    }
}
