//! An accepted connection on its way through the front door: without TLS or with it, read and written alike.
//!
//! With TLS the first `read` shakes hands, so the deadline of the head holds for both, and the CPU of a handshake is spent between turns.
use super::READ_BYTES;
use crate::plane::host::into_owned_fd;
use crate::telemetry::{TlsFailure, TlsHandshake};
use crate::tls::{Acceptor, Established, Handshake, Opened, Progress, Session, looks_like_http};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;

/// See the module.
pub struct Stream {
    tcp: TcpStream,
    layer: Layer,
    /// None without TLS. A handshake that nobody has ended yet ends by its deadline.
    outcome: Option<Result<TlsHandshake, TlsFailure>>,
}

/// What lies between TCP and HTTP.
enum Layer {
    Plain,
    /// With what has come of the next record.
    Shaking(Box<Handshake>, Vec<u8>),
    Open(Box<Session>),
    /// Nothing may be said any more, except to who spoke HTTP where TLS is spoken.
    Failed {
        is_http: bool,
    },
}

/// Why there is nothing to read.
pub enum ReadError {
    /// The peer went away: there is nobody to tell.
    Gone,
    Tls,
}

impl Stream {
    pub fn plain(tcp: TcpStream) -> Stream {
        Stream { tcp, layer: Layer::Plain, outcome: None }
    }

    /// A connection that begins with a handshake.
    pub fn tls(tcp: TcpStream, acceptor: &Acceptor) -> Stream {
        let (layer, failure) = match Handshake::new(acceptor) {
            Ok(handshake) => (Layer::Shaking(handshake, Vec::new()), TlsFailure::Timeout),
            Err(failure) => (Layer::Failed { is_http: false }, failure),
        };
        Stream { tcp, layer, outcome: Some(Err(failure)) }
    }

    /// What the handshake came to, to be counted once; none without TLS.
    pub fn outcome(&self) -> Option<Result<TlsHandshake, TlsFailure>> {
        self.outcome
    }

    /// Appends what comes next, at least one byte.
    pub async fn read(&mut self, received: &mut Vec<u8>) -> Result<(), ReadError> {
        let before = received.len();
        while received.len() == before {
            self.read_some(received).await?;
        }
        Ok(())
    }

    /// Reads once: with TLS that may bring no byte yet.
    pub async fn read_some(&mut self, received: &mut Vec<u8>) -> Result<(), ReadError> {
        let (result, bytes) = self.tcp.read(Vec::with_capacity(READ_BYTES)).await;
        if !matches!(result, Ok(1..)) {
            return Err(self.gone());
        }
        match mem::replace(&mut self.layer, Layer::Failed { is_http: false }) {
            Layer::Plain => {
                self.layer = Layer::Plain;
                received.extend_from_slice(&bytes);
                Ok(())
            }
            Layer::Shaking(handshake, mut records) => {
                records.extend_from_slice(&bytes);
                let out = self.shake(handshake, records, received);
                self.send(out).await.map_err(|_| self.gone())?;
                match self.layer {
                    Layer::Failed { .. } => Err(ReadError::Tls),
                    _ => Ok(()),
                }
            }
            Layer::Open(session) => {
                self.layer = Layer::Open(session);
                let before = received.len();
                let is_over = self.open(bytes, received);
                self.flush().await.map_err(|_| ReadError::Gone)?;
                match is_over && received.len() == before {
                    true => Err(ReadError::Gone),
                    false => Ok(()),
                }
            }
            Layer::Failed { .. } => Err(ReadError::Tls),
        }
    }

    /// Returns when there is something to read, or the peer has ended its stream. Nothing is lost if it is not waited for to the end.
    pub async fn readable(&self) -> io::Result<()> {
        self.tcp.readable(false).await
    }

    /// Sends all of it.
    pub async fn write_all(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain | Layer::Failed { is_http: true } => self.send(bytes).await,
            Layer::Open(session) => {
                session.seal(&[&bytes]).map_err(|_| io::ErrorKind::BrokenPipe)?;
                self.flush().await
            }
            Layer::Shaking(..) | Layer::Failed { is_http: false } => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Ends the outgoing direction.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Open(session) => {
                session.end();
                self.flush().await?;
            }
            // Who is turned away before it could shake hands does not get to it now.
            Layer::Shaking(..) => self.layer = Layer::Failed { is_http: false },
            Layer::Plain | Layer::Failed { .. } => {}
        }
        self.tcp.shutdown().await
    }

    /// The socket and, with TLS, its session. None if a handshake is not through: nothing may go on without it.
    pub fn into_parts(self) -> Option<(OwnedFd, Option<Box<Session>>)> {
        let session = match self.layer {
            Layer::Plain => None,
            Layer::Open(session) => Some(session),
            Layer::Shaking(..) | Layer::Failed { .. } => return None,
        };
        Some((into_owned_fd(self.tcp), session))
    }

    /// Goes on with the handshake; what must be sent now.
    fn shake(&mut self, handshake: Box<Handshake>, mut records: Vec<u8>, received: &mut Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        match handshake.advance(&mut records, &mut out) {
            Ok(Progress::Waiting(handshake)) => self.layer = Layer::Shaking(handshake, records),
            Ok(Progress::Done(Established { session, plaintext, kind })) => {
                received.extend_from_slice(&plaintext);
                (self.layer, self.outcome) = (Layer::Open(session), Some(Ok(kind)));
                self.open(records, received);
            }
            Err(failure) => {
                self.layer = Layer::Failed { is_http: failure == TlsFailure::NotTls && looks_like_http(&records) };
                self.outcome = Some(Err(failure));
            }
        }
        out
    }

    /// Appends the plaintext of what came. True if no more will come.
    fn open(&mut self, mut records: Vec<u8>, received: &mut Vec<u8>) -> bool {
        let Layer::Open(session) = &mut self.layer else { return true };
        let (mut cursor, end) = (0, records.len());
        loop {
            match session.open(&mut records, &mut cursor, end) {
                Ok(None) => return false,
                Ok(Some(Opened::Input(range))) => received.extend_from_slice(&records[range]),
                Ok(Some(Opened::Assembled(len))) => received.extend_from_slice(&session.assembled()[..len]),
                Ok(Some(Opened::End)) | Err(_) => return true,
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let Layer::Open(session) = &mut self.layer else { return Ok(()) };
        let bytes = session.unsent().to_vec();
        session.took(bytes.len());
        self.send(bytes).await
    }

    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.tcp.write_all(bytes).await.0.map(drop)
    }

    fn gone(&mut self) -> ReadError {
        if let Some(Err(failure @ TlsFailure::Timeout)) = &mut self.outcome {
            *failure = TlsFailure::Gone;
        }
        ReadError::Gone
    }
}
