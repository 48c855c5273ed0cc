//! From the first byte of a connection to its session.
use super::acceptor::Acceptor;
use super::session::Session;
use crate::limits::TLS_HANDSHAKE_BYTES_MAX;
use crate::telemetry::{TlsFailure, TlsHandshake};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{Error, HandshakeKind, InvalidMessage, PeerIncompatible};

/// Content type of handshake records, which is the first byte of every TLS connection (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// A handshake under way. Give it what was received whenever more has come, and send what it writes.
pub struct Handshake {
    connection: UnbufferedServerConnection,
    /// Bytes taken from the peer.
    taken: usize,
    /// What the client sent right behind its last handshake message.
    early: Vec<u8>,
}

/// How far it has come.
pub enum Progress {
    /// More must be received.
    Waiting(Box<Handshake>),
    Done(Established),
}

/// A handshake that is through.
pub struct Established {
    pub session: Box<Session>,
    /// Plaintext that came with the last bytes of the handshake. Records behind it, if any, are left in `received`.
    pub plaintext: Vec<u8>,
    pub kind: TlsHandshake,
}

/// Whether these first bytes look like a request without TLS.
pub fn looks_like_http(received: &[u8]) -> bool {
    let word = received.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    word >= 3 && received.get(word) == Some(&b' ')
}

impl Handshake {
    pub fn new(acceptor: &Acceptor) -> Result<Box<Handshake>, TlsFailure> {
        let connection = UnbufferedServerConnection::new(acceptor.config.clone()).map_err(|_| TlsFailure::Internal)?;
        Ok(Box::new(Handshake { connection, taken: 0, early: Vec::new() }))
    }

    /// Goes on with what has come; used bytes are taken off the front of `received`. What is appended to `out` must be sent whatever
    /// the result: on a failure it is the alert that says why.
    pub fn advance(mut self: Box<Self>, received: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Progress, TlsFailure> {
        if self.taken == 0 && received.first().is_some_and(|first| *first != HANDSHAKE_RECORD) {
            return Err(TlsFailure::NotTls);
        }
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(received);
            let mut is_done = false;
            let mut is_waiting = false;
            let failure = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out).err(),
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It is in `out`, in order.
                    data.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => {
                    is_waiting = true;
                    None
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    is_done = true;
                    None
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut failure = None;
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => self.early.extend_from_slice(record.payload),
                            Err(error) => failure = Some(reason(&error)),
                        }
                    }
                    failure
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(TlsFailure::Gone),
                // Early data is switched off, and there is no other state.
                Ok(_) => Some(TlsFailure::Internal),
                Err(error) => Some(reason(&error)),
            };
            received.drain(..discard);
            self.taken += discard;
            if let Some(failure) = failure {
                self.last_words(received, out);
                return Err(failure);
            }
            if is_done {
                return self.establish();
            }
            if is_waiting {
                return match self.taken + received.len() > TLS_HANDSHAKE_BYTES_MAX {
                    true => Err(TlsFailure::TooBig),
                    false => Ok(Progress::Waiting(self)),
                };
            }
        }
    }

    /// The alert about an error.
    fn last_words(&mut self, received: &mut Vec<u8>, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(received);
            let is_encoded = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out).is_ok(),
                _ => false,
            };
            received.drain(..discard);
            if !is_encoded {
                return;
            }
        }
    }

    fn establish(self: Box<Self>) -> Result<Progress, TlsFailure> {
        let Handshake { connection, early, .. } = *self;
        let kind = match (connection.handshake_kind(), connection.protocol_version()) {
            (Some(HandshakeKind::Resumed), Some(rustls::ProtocolVersion::TLSv1_2)) => TlsHandshake::Resumed12,
            (Some(HandshakeKind::Resumed), _) => TlsHandshake::Resumed13,
            (_, Some(rustls::ProtocolVersion::TLSv1_2)) => TlsHandshake::Full12,
            _ => TlsHandshake::Full13,
        };
        let (secrets, keys) = connection.dangerous_into_kernel_connection().map_err(|_| TlsFailure::Internal)?;
        let session = Session::new(secrets, keys).ok_or(TlsFailure::Internal)?;
        Ok(Progress::Done(Established { session: Box::new(session), plaintext: early, kind }))
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) -> Result<(), TlsFailure> {
    let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) else {
        return Err(TlsFailure::Internal);
    };
    let start = out.len();
    out.resize(start + needed.required_size, 0);
    data.encode(&mut out[start..]).map(drop).map_err(|_| TlsFailure::Internal)
}

/// Why a handshake failed, as it is counted.
fn reason(error: &Error) -> TlsFailure {
    match error {
        Error::AlertReceived(_) => TlsFailure::Alert,
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            TlsFailure::NotTls
        }
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => TlsFailure::Version,
        Error::PeerIncompatible(_) => TlsFailure::NothingInCommon,
        Error::NoApplicationProtocol => TlsFailure::Alpn,
        Error::General(_) | Error::FailedToGetRandomBytes | Error::FailedToGetCurrentTime | Error::EncryptError => {
            TlsFailure::Internal
        }
        _ => TlsFailure::Malformed,
    }
}
