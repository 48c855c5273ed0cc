//! One slow reader: blocking until it is in its room, then it reads as much as it is told to.
use crate::wire::frame;
use crate::wire::{Command, Dialect, Identity, Incoming, Reply};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The smallest that the kernel accepts is near this; it doubles it. What lies here the server believes to be read.
const RECEIVE_BUFFER_BYTES: usize = 4_096;
/// For connecting, signing in, joining: it blocks all slow readers.
const PATIENCE: Duration = Duration::from_secs(5);
const CHUNK_BYTES: usize = 16 << 10;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a close frame with this code.
    Closed(u16),
    /// Without one, or by something that is no protocol.
    Broken,
}

impl End {
    /// The bands of the protocol: 4100 and up mean "come back", and so does a broken link.
    pub fn asks_to_come_back(self) -> bool {
        match self {
            End::Closed(code) => (4_100..4_300).contains(&code),
            End::Broken => true,
        }
    }
}

pub struct Reader {
    stream: TcpStream,
    dialect: Dialect,
    /// Read and not yet taken apart.
    buffer: Vec<u8>,
    pub live: u64,
    pub durable: u64,
    pub bytes: u64,
}

impl Reader {
    /// Connects with a small receive buffer, signs in and joins.
    pub fn connect(
        address: SocketAddr,
        dialect: Dialect,
        host: &str,
        user: &str,
        token: Option<&str>,
        room: &str,
    ) -> Result<Reader, String> {
        let stream = narrow(address).map_err(|error| format!("{address}: {error}"))?;
        let mut reader = Reader { stream, dialect, buffer: Vec::new(), live: 0, durable: 0, bytes: 0 };
        let mut out = Vec::new();
        dialect.upgrade(&mut out, host, &Identity { user, token }, &[room]);
        reader.write(&out)?;
        let deadline = Instant::now() + PATIENCE;
        let head = loop {
            match dialect.accepted(&reader.buffer)? {
                Some(head) => break head,
                None => reader.fill(deadline)?,
            }
        };
        reader.buffer.drain(..head);
        // nchan names the room in the upgrade, and says nothing more.
        if dialect != Dialect::Nchan {
            reader.say(&Command::Hello { token })?;
            reader.wait_for(deadline, |incoming| matches!(incoming, Incoming::Ready))?;
            reader.say(&Command::Join { room, request: 1, recover: None })?;
            reader.wait_for(deadline, |incoming| matches!(incoming, Incoming::Joined { .. }))?;
        }
        reader.stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(reader)
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads at most `limit` bytes, if they are there. How many it read, and whether that was the end.
    pub fn read(&mut self, limit: usize) -> (usize, Option<End>) {
        let mut read = 0;
        let mut chunk = [0; CHUNK_BYTES];
        while read < limit {
            let wanted = CHUNK_BYTES.min(limit - read);
            match self.stream.read(&mut chunk[..wanted]) {
                Ok(0) => return (read, Some(End::Broken)),
                Ok(bytes) => {
                    read += bytes;
                    self.bytes += bytes as u64;
                    self.buffer.extend_from_slice(&chunk[..bytes]);
                    if let Some(end) = self.take_apart() {
                        return (read, Some(end));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return (read, Some(End::Broken)),
            }
        }
        (read, None)
    }

    /// Counts the whole messages in the buffer and answers pings.
    fn take_apart(&mut self) -> Option<End> {
        let mut out = Vec::new();
        let mut at = 0;
        let mut end = None;
        while end.is_none() {
            let frame = match frame::first(&self.buffer[at..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return Some(End::Broken),
            };
            match self.dialect.read(frame.opcode, frame.payload) {
                Incoming::Live(_) => self.live += 1,
                Incoming::Durable { .. } => self.durable += 1,
                Incoming::Reply(reply) => {
                    self.dialect.write(&Command::Reply(reply), &mut out);
                    if let Reply::Close(code) = reply {
                        end = Some(End::Closed(code));
                    }
                }
                _ => {}
            }
            at += frame.bytes;
        }
        self.buffer.drain(..at);
        // A pong that does not fit is lost: this reader is not one that keeps its promises.
        let _ = self.stream.write(&out);
        end
    }

    fn say(&mut self, command: &Command) -> Result<(), String> {
        let mut out = Vec::new();
        self.dialect.write(command, &mut out);
        self.write(&out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("writing: {error}"))
    }

    /// Blocking: reads frames until `wanted`.
    fn wait_for(&mut self, deadline: Instant, wanted: impl Fn(&Incoming) -> bool) -> Result<(), String> {
        loop {
            let Some(frame) = frame::first(&self.buffer).map_err(|error| error.to_string())? else {
                self.fill(deadline)?;
                continue;
            };
            let incoming = self.dialect.read(frame.opcode, frame.payload);
            let is_wanted = wanted(&incoming);
            match incoming {
                Incoming::Refused { code, .. } => return Err(format!("refused: {code}")),
                Incoming::Reply(Reply::Close(code)) => return Err(format!("closed {code}")),
                _ => {}
            }
            let bytes = frame.bytes;
            self.buffer.drain(..bytes);
            if is_wanted {
                return Ok(());
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), String> {
        let mut chunk = [0; CHUNK_BYTES];
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        match self.stream.read(&mut chunk) {
            Ok(0) => Err("closed without an answer".into()),
            Ok(bytes) => {
                self.buffer.extend_from_slice(&chunk[..bytes]);
                Ok(())
            }
            Err(error) => Err(format!("no answer: {error}")),
        }
    }
}

fn narrow(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Before the connect: the window that is offered then is never taken back.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let stream: TcpStream = socket.into();
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;
    use std::net::TcpListener;

    fn text(payload: &str) -> Vec<u8> {
        let mut frame = vec![0x81, 126];
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        frame.extend_from_slice(payload.as_bytes());
        frame
    }

    fn live(number: u32) -> Vec<u8> {
        let stamp = Stamp { room: 0, publisher: 0, number, intended_ns: 1 }.to_text();
        let stamp = str::from_utf8(&stamp).expect("hexadecimal");
        text(&format!(
            r#"{{"id":"evt_01M867TFMHKMQZZ8D5PSYCX34Z","type":"broadcast","data":{{"roomId":"r","userId":"u","event":"load","payload":"{stamp}","timestamp":1}},"timestamp":1}}"#
        ))
    }

    /// A connected reader and the server's end of it.
    fn pair() -> (Reader, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = narrow(listener.local_addr().expect("an address")).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("set");
        (Reader { stream, dialect: Dialect::Native, buffer: Vec::new(), live: 0, durable: 0, bytes: 0 }, server)
    }

    /// Reads in portions of `limit` until something has ended it, or as many bytes as `bytes` were read.
    fn read_all(reader: &mut Reader, limit: usize, bytes: usize) -> Option<End> {
        loop {
            let (read, end) = reader.read(limit);
            assert!(read <= limit);
            if end.is_some() || reader.bytes >= bytes as u64 {
                return end;
            }
            if read == 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        for limit in [1, 7, 100, 1_000] {
            let (mut reader, mut server) = pair();
            let all: Vec<u8> = (1..=5).flat_map(live).collect();
            server.write_all(&all).expect("written");
            assert_eq!(read_all(&mut reader, limit, all.len()), None);
            assert_eq!((reader.live, reader.durable, reader.buffer.len()), (5, 0, 0), "{limit}");
        }
    }

    #[test]
    fn the_close_code_is_found_behind_what_lies_before_it() {
        let (mut reader, mut server) = pair();
        let close = [&[0x88, 2][..], &4_101_u16.to_be_bytes()].concat();
        let all = [live(1), close].concat();
        server.write_all(&all).expect("written");
        assert_eq!(read_all(&mut reader, 10, usize::MAX), Some(End::Closed(4_101)));
        assert_eq!(reader.live, 1);
        drop(server);
        assert!(End::Closed(4_101).asks_to_come_back());
        assert!(!End::Closed(1_000).asks_to_come_back());
    }

    #[test]
    fn an_end_without_a_close_is_told_apart() {
        let (mut reader, server) = pair();
        drop(server);
        assert_eq!(read_all(&mut reader, 10, usize::MAX), Some(End::Broken));
    }

    #[test]
    fn a_server_that_refuses_is_quoted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut head = [0; 4_096];
            let _ = stream.read(&mut head).expect("a request");
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").expect("written");
        });
        let refused = Reader::connect(address, Dialect::Native, "h", "u", None, "r").err().expect("refused");
        assert!(refused.contains("401"), "{refused}");
        server.join().expect("a server");
    }
}
