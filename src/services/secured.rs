//! A socket as the services see it: without TLS, or with the session that a shard began.
use crate::tls::{Opened, Session};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Plaintext sealed at once, a full record. The next is taken when this one has gone.
const SEALED_BYTES_MAX: usize = 16 << 10;

/// Bytes received at once.
const READ_BYTES: usize = 4 << 10;

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Secured>),
}

/// A socket and what its bytes are sealed by.
pub struct Secured {
    tcp: TcpStream,
    session: Box<Session>,
    /// Opened and not yet read: `0 <= taken <= plaintext.len()`.
    plaintext: Vec<u8>,
    taken: usize,
    /// The peer has ended its direction.
    has_ended: bool,
}

impl Stream {
    pub fn new(tcp: TcpStream, session: Option<Box<Session>>) -> Stream {
        match session {
            None => Stream::Plain(tcp),
            Some(session) => {
                Stream::Tls(Box::new(Secured { tcp, session, plaintext: Vec::new(), taken: 0, has_ended: false }))
            }
        }
    }
}

impl Secured {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.taken < self.plaintext.len() {
                let rest = &self.plaintext[self.taken..];
                let count = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..count]);
                self.taken += count;
                return Poll::Ready(Ok(()));
            }
            (self.plaintext, self.taken) = (Vec::new(), 0);
            if self.has_ended {
                return Poll::Ready(Ok(()));
            }
            let mut records = [0; READ_BYTES];
            let mut received = ReadBuf::new(&mut records);
            ready!(Pin::new(&mut self.tcp).poll_read(context, &mut received))?;
            let end = received.filled().len();
            self.has_ended = end == 0;
            self.open(&mut records, end)?;
        }
    }

    fn open(&mut self, records: &mut [u8], end: usize) -> io::Result<()> {
        let mut cursor = 0;
        loop {
            match self.session.open(records, &mut cursor, end) {
                Ok(None) => return Ok(()),
                Ok(Some(Opened::Input(range))) => self.plaintext.extend_from_slice(&records[range]),
                Ok(Some(Opened::Assembled(len))) => self.plaintext.extend_from_slice(&self.session.assembled()[..len]),
                Ok(Some(Opened::End)) => self.has_ended = true,
                Err(fault) => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{fault:?}"))),
            }
        }
    }

    /// Sends what was sealed.
    fn poll_sealed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.unsent().is_empty() {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(context, self.session.unsent()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.took(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_sealed(context))?;
        let taken = bytes.len().min(SEALED_BYTES_MAX);
        self.session.seal(&[&bytes[..taken]]).map_err(|_| io::ErrorKind::BrokenPipe)?;
        // What does not go now goes with the next call, or the flush.
        match self.poll_sealed(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sealed(context))?;
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.end();
        ready!(self.poll_sealed(context))?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Stream::Tls(secured) => secured.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Stream::Tls(secured) => secured.poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Stream::Tls(secured) => secured.poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Stream::Tls(secured) => secured.poll_shutdown(context),
        }
    }
}
