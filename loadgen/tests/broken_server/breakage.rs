//! The thread that writes to one connection, and what it does wrong.
//!
//! A swap needs a next message of the same publisher. If none comes within [`RELEASE`], the held one is written after all, late but
//! in order, and the fault is still owed: the next delivery to anyone tries again.
use super::{Fault, Shared};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long a held message waits for one that overtakes it.
const RELEASE: Duration = Duration::from_millis(200);
/// How many pass in [`Fault::Overtake`].
const OVERTAKERS: u32 = 10;

/// What is to be written, complete frames.
pub enum Outgoing {
    /// Never touched.
    Answer(Arc<[u8]>),
    /// A stamped message of `publisher`.
    Delivery { publisher: Arc<str>, frame: Arc<[u8]> },
    /// The last: then the connection ends.
    Close(Arc<[u8]>),
}

/// A message that others overtake.
struct Held {
    publisher: Arc<str>,
    frame: Arc<[u8]>,
    to_pass: u32,
    has_been_passed: bool,
}

struct Writer<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    buffer: Vec<u8>,
    held: Option<Held>,
}

/// Writes until the connection ends.
pub fn write(stream: TcpStream, outgoing: &Receiver<Outgoing>, shared: &Shared) {
    let mut writer = Writer { stream, shared, buffer: Vec::new(), held: None };
    loop {
        let next = match writer.held {
            Some(_) => outgoing.recv_timeout(RELEASE),
            None => outgoing.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(next) => {
                // What has gathered goes out in one write.
                let mut next = Some(next);
                while let Some(now) = next {
                    if !writer.take(now) {
                        return;
                    }
                    next = if writer.buffer.len() < 65_536 { outgoing.try_recv().ok() } else { None };
                }
            }
            Err(RecvTimeoutError::Timeout) => writer.release(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !writer.flush() {
            return;
        }
    }
}

impl Writer<'_> {
    /// `false`: this was the last.
    fn take(&mut self, outgoing: Outgoing) -> bool {
        match outgoing {
            Outgoing::Answer(frame) => self.buffer.extend_from_slice(&frame),
            Outgoing::Delivery { publisher, frame } => self.deliver(publisher, frame),
            Outgoing::Close(frame) => {
                self.buffer.extend_from_slice(&frame);
                self.flush();
                let _ = self.stream.shutdown(std::net::Shutdown::Write);
                return false;
            }
        }
        true
    }

    fn deliver(&mut self, publisher: Arc<str>, frame: Arc<[u8]>) {
        match self.fault() {
            None => self.buffer.extend_from_slice(&frame),
            Some(Fault::Drop) => return self.count(),
            Some(Fault::Repeat) => {
                self.buffer.extend_from_slice(&frame);
                self.buffer.extend_from_slice(&frame);
                self.count();
            }
            Some(fault @ (Fault::Swap | Fault::Overtake)) => {
                let to_pass = if fault == Fault::Swap { 1 } else { OVERTAKERS };
                self.held = Some(Held { publisher, frame, to_pass, has_been_passed: false });
                return;
            }
            Some(Fault::Delay(delay)) => {
                self.flush(); // what came before is not delayed
                std::thread::sleep(delay);
                self.buffer.extend_from_slice(&frame);
                self.count();
            }
        }
        self.pass(&publisher);
    }

    /// What is to be done to this delivery. While one is held back, nothing else is done.
    fn fault(&self) -> Option<Fault> {
        let count = self.shared.deliveries.fetch_add(1, Ordering::SeqCst) + 1;
        let breakage = self.shared.breakage?;
        if count.is_multiple_of(breakage.period) {
            self.shared.owed.fetch_add(1, Ordering::SeqCst);
        }
        (self.held.is_none() && decrement(&self.shared.owed)).then_some(breakage.fault)
    }

    /// A message of `publisher` was written.
    fn pass(&mut self, publisher: &Arc<str>) {
        let Some(held) = self.held.as_mut().filter(|held| held.publisher == *publisher) else { return };
        held.to_pass -= 1;
        let is_first = !std::mem::replace(&mut held.has_been_passed, true);
        let frame = (held.to_pass == 0).then(|| held.frame.clone());
        if is_first {
            self.count();
        }
        if let Some(frame) = frame {
            self.buffer.extend_from_slice(&frame);
            self.held = None;
        }
    }

    /// Nothing more overtakes.
    fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.buffer.extend_from_slice(&held.frame);
            if !held.has_been_passed {
                self.shared.owed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn count(&self) {
        self.shared.faults.fetch_add(1, Ordering::SeqCst);
    }

    /// `false`: the connection is gone.
    fn flush(&mut self) -> bool {
        let result = self.stream.write_all(&self.buffer);
        self.buffer.clear();
        result.is_ok()
    }
}

/// Whether there was something to take.
fn decrement(count: &AtomicU64) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}
