//! A reader of server-sent events, written after the text of the standard (WHATWG HTML 9.2.6, "Interpreting an event stream") and
//! independently of the server's writer: bytes in, in any pieces; events out.
#![allow(dead_code, reason = "each test file uses its part")]

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// `message` if the stream named none.
    pub kind: String,
    pub data: String,
    /// The last event id at that time.
    pub id: String,
}

/// "Lines must be processed, in the order they are received".
#[derive(Default)]
pub struct EventReader {
    line: Vec<u8>,
    is_after_cr: bool,
    is_after_bom: bool,
    data: String,
    kind: String,
    id_buffer: String,
    /// "The last event ID string of the event source": what a reconnect brings.
    pub last_id: String,
    /// "The event stream's reconnection time", ms.
    pub retry_ms: Option<u64>,
    pub comments: usize,
    pub events: Vec<Dispatched>,
}

impl EventReader {
    pub fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                // "a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair" is one end
                b'\n' if std::mem::take(&mut self.is_after_cr) => {}
                b'\n' | b'\r' => {
                    self.is_after_cr = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.end_of_line(&String::from_utf8_lossy(&line));
                }
                _ => {
                    self.is_after_cr = false;
                    self.line.push(*byte);
                }
            }
        }
    }

    /// As after a stream before, whose last id this was.
    pub fn start_from(&mut self, last_id: &str) {
        (self.id_buffer, self.last_id) = (last_id.to_owned(), last_id.to_owned());
    }

    /// A block has begun and not ended.
    pub fn is_in_a_block(&self) -> bool {
        !self.line.is_empty() || !self.data.is_empty() || !self.kind.is_empty() || self.id_buffer != self.last_id
    }

    fn end_of_line(&mut self, line: &str) {
        let line = match std::mem::replace(&mut self.is_after_bom, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(line),
            true => line,
        };
        match line.split_once(':') {
            _ if line.is_empty() => self.dispatch(),
            Some(("", _)) => self.comments += 1,
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(line, ""),
        }
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => self.kind = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id_buffer = value.to_owned(),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok();
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.last_id.clone_from(&self.id_buffer);
        let kind = std::mem::take(&mut self.kind);
        let mut data = std::mem::take(&mut self.data);
        // "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty string and return."
        if data.is_empty() {
            return;
        }
        // "If the data buffer's last character is a U+000A LINE FEED (LF) character, then remove the last character"
        data.pop();
        let kind = if kind.is_empty() { "message".to_owned() } else { kind };
        self.events.push(Dispatched { kind, data, id: self.last_id.clone() });
    }
}
