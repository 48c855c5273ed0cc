//! The floor: what moving these bytes costs if a server does nothing else.
//!
//! One thread, one io_uring ring, no logic: a completion says that a message came, and as many bytes as Throng would
//! send go to as many sockets. Nothing is unmasked, parsed, checked or encoded; nothing is bounded, and a reader that
//! does not keep up ends the program. The mechanism is Throng's (direct descriptors, multishot receives into provided
//! buffers, silent sends, one `enter` per turn), so the distance to it is the price of the product, not of the kernel.
use crate::frame;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

/// Connections; the kernel refuses more rows than RLIMIT_NOFILE.
const SLOTS: u32 = 8_192;
const SUBMISSIONS: u32 = 8_192;
const COMPLETIONS: u32 = 32_768;
/// Power of two.
const BUFFERS: u16 = 4_096;
const BUFFER_BYTES: usize = 2_048;
const BUFFER_GROUP: u16 = 1;
/// Messages that one send can cover, far above any depth of the comparison.
const BATCH_MAX: usize = 256;

/// What a completion is about; the low half of the token is the row.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const CLOSE: u64 = 4 << 32;

/// What the floor sends.
pub struct Script {
    /// The answer to each message.
    pub reply: String,
    /// With rooms, the first message of a connection joins the one room and gets this instead; each later message
    /// sends `reply` to everyone in it.
    pub joined: Option<String>,
}

#[derive(Default)]
struct Row {
    is_open: bool,
    is_upgraded: bool,
    is_member: bool,
    /// Replies due in this turn.
    due: usize,
    /// A head or frame whose end has not arrived.
    partial: Vec<u8>,
}

struct Floor {
    ring: IoUring,
    buffers: BufferRing,
    listener: types::Fd,
    rows: Vec<Row>,
    members: Vec<u32>,
    has_room: bool,
    /// Messages to the room in this turn.
    room_due: usize,
    dirty: Vec<u32>,
    /// `BATCH_MAX` replies in a row: one send covers any number up to it.
    replies: Vec<u8>,
    reply_bytes: usize,
    joined: Vec<u8>,
    /// Handshake answers, kept until the ring has taken them.
    answers: Vec<Vec<u8>>,
}

/// Serves until killed.
pub fn serve(port: u16, script: &Script) -> Result<(), String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).map_err(|e| format!("port {port}: {e}"))?;
    // Accepted sockets inherit it. Without it a second small message waits for the first one's acknowledgement.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
    let mut floor = Floor::new(types::Fd(listener.as_raw_fd()), script).map_err(|e| format!("io_uring: {e}"))?;
    floor.accept();
    loop {
        floor.turn()?;
    }
}

impl Floor {
    fn new(listener: types::Fd, script: &Script) -> std::io::Result<Floor> {
        let mut builder = IoUring::builder();
        // Nobody polls this ring, so it may use the cheapest mode.
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        let ring: IoUring = builder.setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?;
        ring.submitter().register_files_sparse(SLOTS)?;
        let reply = frame::unmasked(frame::TEXT, script.reply.as_bytes());
        Ok(Floor {
            buffers: BufferRing::register(&ring)?,
            ring,
            listener,
            rows: (0..SLOTS).map(|_| Row::default()).collect(),
            members: Vec::new(),
            has_room: script.joined.is_some(),
            room_due: 0,
            dirty: Vec::new(),
            replies: reply.repeat(BATCH_MAX),
            reply_bytes: reply.len(),
            joined: frame::unmasked(frame::TEXT, script.joined.as_deref().unwrap_or("").as_bytes()),
            answers: Vec::new(),
        })
    }

    /// The sends of the last turn and the wait for the next completions are one system call.
    fn turn(&mut self) -> Result<(), String> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            Err(e) => return Err(format!("io_uring_enter: {e}")),
        }
        if self.ring.submission().is_empty() {
            self.answers.clear();
        }
        let completions: Vec<cqueue::Entry> = self.ring.completion().collect();
        completions.iter().try_for_each(|entry| self.handle(entry))?;
        self.flush()
    }

    fn handle(&mut self, entry: &cqueue::Entry) -> Result<(), String> {
        let (kind, slot, result) = (entry.user_data() >> 32 << 32, entry.user_data() as u32, entry.result());
        match kind {
            ACCEPT => {
                if result < 0 {
                    return Err(format!("accept: {}", std::io::Error::from_raw_os_error(-result)));
                }
                self.rows[result as usize] = Row { is_open: true, ..Row::default() };
                self.receive(result as u32);
                if !cqueue::more(entry.flags()) {
                    self.accept();
                }
            }
            RECEIVE => {
                if let Some(id) = cqueue::buffer_select(entry.flags()) {
                    let outcome = self.received(slot, id, result.max(0) as usize);
                    self.buffers.give_back(id);
                    outcome?;
                }
                if !cqueue::more(entry.flags()) {
                    match result {
                        1.. => self.receive(slot),
                        n if n == -libc::ENOBUFS => self.receive(slot),
                        _ => self.close(slot),
                    }
                }
            }
            // Successful sends are silent.
            SEND if result == -libc::EPIPE || result == -libc::ECONNRESET || !self.rows[slot as usize].is_open => {}
            SEND => return Err(format!("a send did not fit ({result}): the floor has no backlog")),
            CLOSE => {}
            _ => return Err(format!("unknown completion {kind:x}")),
        }
        Ok(())
    }

    fn received(&mut self, slot: u32, id: u16, len: usize) -> Result<(), String> {
        let row = &mut self.rows[slot as usize];
        let data = self.buffers.bytes(id, len);
        let mut joined = std::mem::take(&mut row.partial);
        let data = if joined.is_empty() {
            data
        } else {
            joined.extend(data);
            &joined
        };
        if !row.is_upgraded {
            let Some(answer) = upgrade(data)? else {
                row.partial = data.to_vec();
                return Ok(());
            };
            row.is_upgraded = true;
            self.answers.push(answer);
            let answer = self.answers.last().expect("just pushed");
            let (start, len) = (answer.as_ptr(), answer.len());
            self.send(slot, start, len);
            return Ok(());
        }
        let (mut used, mut count) = (0, 0);
        while let Some(frame) = frame::first(&data[used..], true)? {
            used += frame.bytes;
            count += (frame.opcode == frame::TEXT) as usize;
        }
        if used < data.len() {
            row.partial = data[used..].to_vec();
        }
        if count > 0 && self.has_room && !row.is_member {
            row.is_member = true;
            self.members.push(slot);
            let (start, len) = (self.joined.as_ptr(), self.joined.len());
            self.send(slot, start, len);
        } else if self.has_room {
            self.room_due += count;
        } else if count > 0 {
            if row.due == 0 {
                self.dirty.push(slot);
            }
            row.due += count;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        let room_bytes = self.batch_bytes(self.room_due)?;
        self.room_due = 0;
        for at in 0..if room_bytes > 0 { self.members.len() } else { 0 } {
            self.send(self.members[at], self.replies.as_ptr(), room_bytes);
        }
        while let Some(slot) = self.dirty.pop() {
            let bytes = self.batch_bytes(self.rows[slot as usize].due)?;
            self.rows[slot as usize].due = 0;
            self.send(slot, self.replies.as_ptr(), bytes);
        }
        Ok(())
    }

    fn batch_bytes(&self, messages: usize) -> Result<usize, String> {
        if messages <= BATCH_MAX {
            Ok(messages * self.reply_bytes)
        } else {
            Err(format!("{messages} messages in one turn"))
        }
    }

    fn close(&mut self, slot: u32) {
        self.rows[slot as usize] = Row::default();
        self.members.retain(|member| *member != slot);
        self.push(opcode::Close::new(types::Fixed(slot)).build().user_data(CLOSE | u64::from(slot)));
    }

    fn accept(&mut self) {
        let accept = opcode::AcceptMulti::new(self.listener).allocate_file_index(true).build();
        self.push(accept.user_data(ACCEPT));
    }

    fn receive(&mut self, slot: u32) {
        let receive = opcode::RecvMulti::new(types::Fixed(slot), BUFFER_GROUP).build();
        self.push(receive.user_data(RECEIVE | u64::from(slot)));
    }

    /// DONTWAIT: done or refused inside `enter`. WAITALL: a short send is a failure, so silence is success.
    fn send(&mut self, slot: u32, start: *const u8, len: usize) {
        let send = opcode::Send::new(types::Fixed(slot), start, len as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.push(send.user_data(SEND | u64::from(slot)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: sends point into `replies`, `joined` (never changed) or `answers` (kept until the ring is empty);
        // receives use the registered buffers, which live as long as the process.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit().expect("io_uring_enter with a full submission queue");
        }
    }
}

/// The answer to a complete handshake.
fn upgrade(data: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if !data.ends_with(b"\r\n\r\n") {
        return Ok(None);
    }
    let head = String::from_utf8_lossy(data);
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).ok_or("a request without key")?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    Ok(Some(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes(),
    ))
}

/// Provided-buffer ring: entries shared with the kernel, and the buffers they point at.
struct BufferRing {
    entries: *mut types::BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl BufferRing {
    fn register(ring: &IoUring) -> std::io::Result<BufferRing> {
        let entries = map(BUFFERS as usize * size_of::<types::BufRingEntry>())?.cast();
        let memory = map(BUFFERS as usize * BUFFER_BYTES)?;
        // SAFETY: page-aligned mappings that are never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, BUFFER_GROUP, 0)? };
        let mut buffers = BufferRing { entries, memory, tail: 0 };
        (0..BUFFERS).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// The caller reads it before `give_back(id)`.
    fn bytes(&self, id: u16, len: usize) -> &'static [u8] {
        // SAFETY: the mapping lives as long as the process, `id` and `len` come from the kernel, which does not touch
        // the buffer again before `give_back`.
        unsafe { std::slice::from_raw_parts(self.memory.add(id as usize * BUFFER_BYTES), len) }
    }

    fn give_back(&mut self, id: u16) {
        // SAFETY: the index is masked into the ring and we are its only writer. Release publishes the entry before
        // the tail that makes the kernel look at it.
        unsafe {
            let entry = &mut *self.entries.add((self.tail & (BUFFERS - 1)) as usize);
            entry.set_addr(self.memory.add(id as usize * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

fn map(bytes: usize) -> std::io::Result<*mut u8> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh anonymous mapping touches no memory that exists.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if start == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(start.cast()) }
}
