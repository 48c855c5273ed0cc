//! A service connection: a socket, the bytes that were read from it before it came here, and its deadlines.
use super::secured::Stream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// How long a service connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request until its answer begins; also the longest stall while it is written. Trickling
    /// bytes do not extend it.
    pub request: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// A stream that first yields what was read before. It fails with `TimedOut` when its deadline passes.
pub struct Conn {
    stream: Stream,
    read_so_far: Vec<u8>,
    /// `0 <= taken <= read_so_far.len()`.
    taken: usize,
    deadline: Pin<Box<Sleep>>,
    /// A request has begun and nothing of its answer was written yet.
    is_in_request: bool,
    timeouts: Timeouts,
    /// Held as long as the connection lives: one of the listener's places.
    _place: OwnedSemaphorePermit,
}

impl Conn {
    pub fn new(stream: Stream, read_so_far: Vec<u8>, timeouts: Timeouts, place: OwnedSemaphorePermit) -> Conn {
        let deadline = Box::pin(tokio::time::sleep(timeouts.request));
        Conn { stream, read_so_far, taken: 0, deadline, is_in_request: true, timeouts, _place: place }
    }

    /// Fails if the deadline has passed; else arranges to be woken then.
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn set_deadline(&mut self, is_in_request: bool, after: Duration) {
        self.is_in_request = is_in_request;
        self.deadline.as_mut().reset(Instant::now() + after);
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.taken < this.read_so_far.len() {
            let rest = &this.read_so_far[this.taken..];
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            this.taken += count;
            if this.taken == this.read_so_far.len() {
                (this.read_so_far, this.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        this.check_deadline(context)?;
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before && !this.is_in_request {
            this.set_deadline(true, this.timeouts.request);
        }
        result
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_write(context, bytes) {
            Poll::Pending => {
                this.check_deadline(context)?;
                Poll::Pending
            }
            written => {
                this.set_deadline(false, this.timeouts.idle);
                written
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Through which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `http.listen`: everyone.
    Main,
    /// `admin.listen`: whoever the operator lets near it.
    Admin,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub door: Door,
    pub peer: SocketAddr,
}
