//! A client of event streams over a raw socket: it knows its last id, as an EventSource does, and nothing else.
#![allow(dead_code, reason = "each test file uses its part")]
use super::event_stream::{Dispatched, EventReader};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

pub struct Stream {
    socket: TcpStream,
    /// Status line and headers.
    pub head: String,
    pub reader: EventReader,
    events: VecDeque<Dispatched>,
    has_ended: bool,
}

/// `GET /events` of this query, with further headers.
pub fn request(query: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("GET /events?{query} HTTP/1.1\r\nHost: chat.example\r\n");
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    text + "\r\n"
}

impl Stream {
    /// A stream of these rooms; `last_id` is empty for a first visit.
    pub fn open(mut socket: TcpStream, token: &str, rooms: &str, last_id: &str) -> Stream {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", &*bearer), ("Last-Event-ID", last_id)];
        let headers = if last_id.is_empty() { &headers[..1] } else { &headers[..] };
        socket.write_all(request(&format!("rooms={rooms}"), headers).as_bytes()).unwrap();
        let mut stream = Stream::on(socket);
        stream.reader.start_from(last_id);
        stream
    }

    /// On a socket whose request is sent; reads the response's head, which must be that of a stream.
    pub fn on(mut socket: TcpStream) -> Stream {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(socket.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        Stream { socket, head, reader: EventReader::default(), events: VecDeque::new(), has_ended: false }
    }

    /// Reads at most so many bytes; false at the end of the stream. What was dispatched is in `taken`.
    pub fn read_some(&mut self, bytes_max: usize) -> bool {
        let mut buffer = vec![0; bytes_max];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.has_ended = true,
            Ok(count) => self.reader.read(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.has_ended = true,
            Err(error) => panic!("{error}; last {:?}", self.reader.last_id),
        }
        self.events.extend(self.reader.events.drain(..));
        !self.has_ended
    }

    /// Everything dispatched and not taken yet.
    pub fn taken(&mut self) -> Vec<Dispatched> {
        self.events.drain(..).collect()
    }

    /// The next event: type, data and last id. None at the end.
    pub fn next(&mut self) -> Option<(String, Value, String)> {
        loop {
            if let Some(Dispatched { kind, data, id }) = self.events.pop_front() {
                let data = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {kind} {data}"));
                return Some((kind, data, id));
            }
            if self.has_ended {
                return None;
            }
            self.read_some(4_096);
        }
    }

    /// Data and id of the next event of this type; what comes before it is dropped.
    pub fn event(&mut self, wanted: &str) -> (Value, String) {
        loop {
            match self.next() {
                Some((kind, data, id)) if kind == wanted => return (data, id),
                Some(_) => {}
                None => panic!("the stream ended before a {wanted}"),
            }
        }
    }

    /// The last event, which must say why, and then the end of the stream.
    pub fn closed(&mut self) -> Value {
        let (data, _) = self.event("closed");
        assert_eq!(self.next(), None, "something came behind the last event");
        data
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }
}
