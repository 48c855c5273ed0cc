//! An established connection: records opened and sealed (RFC 8446 section 5, RFC 5246 section 6.2).
//!
//! What is received is opened in place, what is sent is sealed from where it lies; between two records a session holds its two keys and
//! no buffer. Besides data a record may bring: the end of the stream, an alert, and in TLS 1.3 a change of keys, which is answered.
//!
//! Order of keys: a session seals under one key at a time, and `unsent` is a queue, so whatever announces new keys is sent before the
//! first record under them.
use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, HandshakeType, ProtocolVersion,
    SupportedCipherSuite,
};
use std::mem;
use std::ops::Range;

/// Content type, version, length (RFC 8446 section 5.1).
const HEADER_BYTES: usize = 5;

/// Plaintext of one record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// What sealing may add to a record (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
const EXPANSION_BYTES_MAX: usize = 256;
const EXPANSION_BYTES_MAX_12: usize = 2_048;

/// Bytes behind plaintext that did not lie in the input, for a parser that reads in vectors.
pub const ASSEMBLED_SLACK_BYTES: usize = 64;

/// Records without data in a row that are put up with: empty ones, changes of keys, warnings. They cost CPU and bring nothing, so more of
/// them end the connection. Real peers send none, or one.
const FRUITLESS_RECORDS_MAX: u8 = 32;

/// `key_update`, asking for nothing and asking for ours (RFC 8446 section 4.6.3).
const KEY_UPDATE: [u8; KEY_UPDATE_BYTES] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUESTED: [u8; KEY_UPDATE_BYTES] = [24, 0, 0, 1, 1];
const KEY_UPDATE_BYTES: usize = 5;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What the peer's bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// Plaintext, in the input.
    Input(Range<usize>),
    /// So many bytes of plaintext, to be had by `assembled` until the next call.
    Assembled(usize),
    /// The peer will send no more (`close_notify`). Nothing comes after it.
    End,
}

/// What is wrong with a record. The peer has been told by the alert that is in `unsent`, and the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// The peer says so, by an alert of its own.
    Alert(u8),
    /// No such record, or not here.
    Malformed,
    TooLong,
    /// Not sealed under the keys of this connection.
    Forged,
    /// Too many records without data.
    Fruitless,
}

/// No more may be sealed: the key was used as often as it may be, and TLS 1.2 has no way to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// See the module.
pub struct Session {
    encrypter: Box<dyn MessageEncrypter>,
    decrypter: Box<dyn MessageDecrypter>,
    /// Records under the key in use.
    sealed: u64,
    opened: u64,
    /// Records that may be sealed under one key.
    sealed_max: u64,
    suite: SupportedCipherSuite,
    /// Makes the next keys; None in TLS 1.2, which keeps those that it has.
    next_keys: Option<Box<KernelConnection<ServerConnectionData>>>,
    /// A record of which only the beginning came; after `Assembled`, its plaintext and slack.
    partial: Vec<u8>,
    /// Sealed, and `sent` bytes of it gone: `0 <= sent <= outgoing.len()`.
    outgoing: Vec<u8>,
    sent: usize,
    /// The beginning of a `key_update` that its sender cut.
    handshake: [u8; KEY_UPDATE_BYTES],
    handshake_len: u8,
    fruitless: u8,
    /// `partial` holds plaintext that was handed out.
    is_assembled: bool,
    /// The peer has ended its direction, or broken the protocol: what still comes is not looked at.
    is_deaf: bool,
    /// `close_notify` or a fatal alert was sealed: nothing may follow.
    is_silent: bool,
    /// An answer to the peer's change of keys is in `outgoing`. One answers for several (RFC 8446 section 4.6.3).
    is_update_unsent: bool,
}

impl Session {
    /// None if the keys are of a suite that cannot be had, which the handshake does not allow.
    pub(super) fn new(secrets: ExtractedSecrets, keys: KernelConnection<ServerConnectionData>) -> Option<Session> {
        let suite = keys.negotiated_cipher_suite();
        let (sealed, secret) = secrets.tx;
        let encrypter = encrypter(suite, secret)?;
        let (opened, secret) = secrets.rx;
        let decrypter = decrypter(suite, secret)?;
        let sealed_max = match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        Some(Session {
            encrypter,
            decrypter,
            sealed,
            opened,
            sealed_max,
            suite,
            next_keys: suite.tls13().is_some().then(|| Box::new(keys)),
            partial: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            handshake: [0; KEY_UPDATE_BYTES],
            handshake_len: 0,
            fruitless: 0,
            is_assembled: false,
            is_deaf: false,
            is_silent: false,
            is_update_unsent: false,
        })
    }

    /// Opens `input[*cursor..end]` up to and including the next record that means something, and moves `cursor` behind it.
    ///
    /// `Ok(None)`: all was taken. `Ok(Some(_))`: act on it, then call again. After an error, or `End`, the rest is ignored.
    /// Plaintext in the input may have any bytes behind it, and at least as many as `input` has behind `end`.
    pub fn open(&mut self, input: &mut [u8], cursor: &mut usize, end: usize) -> Result<Option<Opened>, RecordFault> {
        if mem::take(&mut self.is_assembled) {
            self.partial = Vec::new();
        }
        let result = self.next(input, cursor, end);
        match result {
            Err(fault) => {
                self.alert(FATAL, fault.alert());
                self.is_deaf = true;
            }
            Ok(Some(Opened::End)) => self.is_deaf = true,
            Ok(_) => {}
        }
        if self.is_deaf {
            (*cursor, self.partial) = (end, Vec::new());
        }
        result
    }

    /// The plaintext that `Opened::Assembled` told of, with `ASSEMBLED_SLACK_BYTES` behind it.
    pub fn assembled(&mut self) -> &mut [u8] {
        &mut self.partial[HEADER_BYTES..]
    }

    /// Seals the bytes of all chunks, as if they were one.
    pub fn seal(&mut self, chunks: &[&[u8]]) -> Result<(), Exhausted> {
        let mut rest = OutboundChunks::new(chunks);
        while !rest.is_empty() {
            // Alerts may always be sealed, and what renews the key takes a record under the old one.
            if self.sealed.saturating_add(1) >= self.sealed_max {
                self.renew_own_key()?;
            }
            let (record, behind) = rest.split_at(RECORD_BYTES_MAX);
            self.seal_record(ContentType::ApplicationData, record)?;
            rest = behind;
        }
        Ok(())
    }

    /// Tells the peer that no more will come (`close_notify`), once.
    pub fn end(&mut self) {
        self.alert(WARNING, AlertDescription::CloseNotify);
    }

    /// What must go to the peer next.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// So many bytes of `unsent` have gone.
    pub fn took(&mut self, bytes: usize) {
        self.sent += bytes;
        debug_assert!(self.sent <= self.outgoing.len());
        if self.sent >= self.outgoing.len() {
            (self.outgoing, self.sent) = (Vec::new(), 0);
            self.is_update_unsent = false;
        }
    }

    /// Whether `close_notify` or a fatal alert was sealed.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    fn next(&mut self, input: &mut [u8], cursor: &mut usize, end: usize) -> Result<Option<Opened>, RecordFault> {
        while !self.is_deaf {
            if self.partial.is_empty() {
                let Some((kind, len)) = self.header(&input[*cursor..end])? else { break };
                let start = *cursor + HEADER_BYTES;
                if end - start < len {
                    break;
                }
                *cursor = start + len;
                match self.record(kind, &mut input[start..start + len])? {
                    Inner::Data(len) => return Ok(Some(Opened::Input(start..start + len))),
                    Inner::End => return Ok(Some(Opened::End)),
                    Inner::Nothing => {}
                }
            } else {
                match self.complete(input, cursor, end)? {
                    Some(Inner::Data(len)) => return Ok(Some(Opened::Assembled(len))),
                    Some(Inner::End) => return Ok(Some(Opened::End)),
                    Some(Inner::Nothing) => self.partial = Vec::new(),
                    None => return Ok(None),
                }
            }
        }
        if *cursor < end {
            self.partial.extend_from_slice(&input[*cursor..end]);
            *cursor = end;
        }
        Ok(None)
    }

    /// Adds to the record that has begun; opens it where it is once it is whole.
    fn complete(&mut self, input: &[u8], cursor: &mut usize, end: usize) -> Result<Option<Inner>, RecordFault> {
        loop {
            let header = self.header(&self.partial)?;
            let whole = header.map_or(HEADER_BYTES, |(_, len)| HEADER_BYTES + len);
            if let (Some((kind, _)), true) = (header, self.partial.len() == whole) {
                let mut record = mem::take(&mut self.partial);
                let inner = self.record(kind, &mut record[HEADER_BYTES..]);
                if let Ok(Inner::Data(len)) = inner {
                    record.resize((HEADER_BYTES + len + ASSEMBLED_SLACK_BYTES).max(record.len()), 0);
                    self.is_assembled = true;
                }
                self.partial = record;
                return inner.map(Some);
            }
            let more = (whole - self.partial.len()).min(end - *cursor);
            if more == 0 {
                return Ok(None);
            }
            self.partial.extend_from_slice(&input[*cursor..*cursor + more]);
            *cursor += more;
        }
    }

    /// Content type and length of the record that begins here; None if its header is not whole.
    fn header(&self, bytes: &[u8]) -> Result<Option<(ContentType, usize)>, RecordFault> {
        let Some(&[kind, major, _, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let kind = ContentType::from(kind);
        // "All records … after the handshake are application_data outside" (RFC 8446 section 5.2); before TLS 1.3 they show their type.
        let (is_expected, expansion) = match self.suite {
            SupportedCipherSuite::Tls13(_) => (kind == ContentType::ApplicationData, EXPANSION_BYTES_MAX),
            SupportedCipherSuite::Tls12(_) => (
                matches!(kind, ContentType::ApplicationData | ContentType::Alert | ContentType::Handshake),
                EXPANSION_BYTES_MAX_12,
            ),
        };
        if !is_expected || major != 3 {
            return Err(RecordFault::Malformed);
        }
        if len > RECORD_BYTES_MAX + expansion {
            return Err(RecordFault::TooLong);
        }
        Ok(Some((kind, len)))
    }

    /// Opens one record in place and acts on what is not data. Data then begins where the record's payload did.
    fn record(&mut self, kind: ContentType, payload: &mut [u8]) -> Result<Inner, RecordFault> {
        let sealed = InboundOpaqueMessage::new(kind, ProtocolVersion::TLSv1_2, payload);
        let plain = self.decrypter.decrypt(sealed, self.opened).map_err(|error| match error {
            Error::PeerSentOversizedRecord => RecordFault::TooLong,
            Error::PeerMisbehaved(_) => RecordFault::Malformed,
            _ => RecordFault::Forged,
        })?;
        // Unreachable in practice: 2⁶⁴ records.
        self.opened = self.opened.checked_add(1).ok_or(RecordFault::Fruitless)?;
        if self.handshake_len > 0 && plain.typ != ContentType::Handshake {
            return Err(RecordFault::Malformed);
        }
        if plain.typ == ContentType::ApplicationData && !plain.payload.is_empty() {
            self.fruitless = 0;
            return Ok(Inner::Data(plain.payload.len()));
        }
        self.fruitless += 1;
        if self.fruitless > FRUITLESS_RECORDS_MAX {
            return Err(RecordFault::Fruitless);
        }
        match plain.typ {
            ContentType::ApplicationData => Ok(Inner::Nothing),
            ContentType::Alert => self.alerted(<[u8; 2]>::try_from(plain.payload).map_err(|_| RecordFault::Malformed)?),
            // It may be cut anywhere, but a change of keys ends its record, and none is longer.
            ContentType::Handshake if plain.payload.len() <= KEY_UPDATE_BYTES || self.next_keys.is_none() => {
                let mut message = [0; KEY_UPDATE_BYTES];
                let len = plain.payload.len().min(KEY_UPDATE_BYTES);
                message[..len].copy_from_slice(&plain.payload[..len]);
                self.handshaken(&message[..len])
            }
            _ => Err(RecordFault::Malformed),
        }
    }

    fn alerted(&mut self, [level, description]: [u8; 2]) -> Result<Inner, RecordFault> {
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => Ok(Inner::End),
            // Of the rest only fatal ones are left in TLS 1.3 (RFC 8446 section 6); before it, warnings are no end.
            AlertDescription::UserCanceled => Ok(Inner::Nothing),
            _ if level == WARNING && self.next_keys.is_none() => Ok(Inner::Nothing),
            _ => Err(RecordFault::Alert(description)),
        }
    }

    /// A piece of a handshake message: TLS 1.3 has the change of keys. TLS 1.2 has new handshakes, which rustls does not know, and which
    /// are declined by a warning (RFC 5246 section 7.2.2).
    fn handshaken(&mut self, piece: &[u8]) -> Result<Inner, RecordFault> {
        if self.next_keys.is_none() {
            return match piece.first() == Some(&u8::from(HandshakeType::ClientHello)) {
                true => {
                    self.alert(WARNING, AlertDescription::NoRenegotiation);
                    Ok(Inner::Nothing)
                }
                false => Err(RecordFault::Malformed),
            };
        }
        let start = usize::from(self.handshake_len);
        let Some(free) = self.handshake.get_mut(start..start + piece.len()) else { return Err(RecordFault::Malformed) };
        free.copy_from_slice(piece);
        self.handshake_len += piece.len() as u8;
        let message = self.handshake;
        let len = usize::from(self.handshake_len);
        if len < KEY_UPDATE_BYTES {
            return match KEY_UPDATE.starts_with(&message[..len]) && !piece.is_empty() {
                true => Ok(Inner::Nothing),
                false => Err(RecordFault::Malformed),
            };
        }
        self.handshake_len = 0;
        let is_asked = match message {
            KEY_UPDATE => false,
            KEY_UPDATE_REQUESTED => true,
            _ => return Err(RecordFault::Malformed),
        };
        let keys = self.next_keys.as_mut().ok_or(RecordFault::Malformed)?;
        let (opened, secret) = keys.update_rx_secret().map_err(|_| RecordFault::Malformed)?;
        self.decrypter = decrypter(self.suite, secret).ok_or(RecordFault::Malformed)?;
        self.opened = opened;
        if is_asked && !self.is_update_unsent && !self.is_silent {
            self.renew_own_key().map_err(|Exhausted| RecordFault::Malformed)?;
            self.is_update_unsent = true;
        }
        Ok(Inner::Nothing)
    }

    /// Announces the next key under the old one, and goes over to it.
    fn renew_own_key(&mut self) -> Result<(), Exhausted> {
        if self.next_keys.is_none() {
            return Err(Exhausted);
        }
        self.seal_record(ContentType::Handshake, OutboundChunks::Single(&KEY_UPDATE))?;
        let keys = self.next_keys.as_mut().ok_or(Exhausted)?;
        let (sealed, secret) = keys.update_tx_secret().map_err(|_| Exhausted)?;
        self.encrypter = encrypter(self.suite, secret).ok_or(Exhausted)?;
        self.sealed = sealed;
        Ok(())
    }

    fn alert(&mut self, level: u8, description: AlertDescription) {
        if self.is_silent {
            return;
        }
        // An alert that cannot be sealed is not sent; the connection ends all the same.
        let _ = self.seal_record(ContentType::Alert, OutboundChunks::Single(&[level, description.into()]));
        self.is_silent = level == FATAL || description == AlertDescription::CloseNotify;
    }

    fn seal_record(&mut self, kind: ContentType, payload: OutboundChunks<'_>) -> Result<(), Exhausted> {
        if self.is_silent {
            return Err(Exhausted);
        }
        let plain = OutboundPlainMessage { typ: kind, version: ProtocolVersion::TLSv1_2, payload };
        let record = self.encrypter.encrypt(plain, self.sealed).map_err(|_| Exhausted)?.encode();
        self.sealed = self.sealed.checked_add(1).ok_or(Exhausted)?;
        match self.outgoing.is_empty() {
            true => self.outgoing = record,
            false => self.outgoing.extend_from_slice(&record),
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn partial_is_empty(&self) -> bool {
        self.partial.capacity() == 0
    }

    #[cfg(test)]
    pub(crate) fn set_sealed_max(&mut self, records: u64) {
        self.sealed_max = records;
    }
}

/// What a record holds.
enum Inner {
    /// So many bytes of data, at the place of the payload.
    Data(usize),
    End,
    Nothing,
}

impl RecordFault {
    /// What the peer is told (RFC 8446 section 6.2). Its own alert is not answered by another one, but by the end.
    fn alert(self) -> AlertDescription {
        match self {
            RecordFault::Alert(_) => AlertDescription::CloseNotify,
            RecordFault::Malformed | RecordFault::Fruitless => AlertDescription::UnexpectedMessage,
            RecordFault::TooLong => AlertDescription::RecordOverflow,
            RecordFault::Forged => AlertDescription::BadRecordMac,
        }
    }
}

fn encrypter(suite: SupportedCipherSuite, secret: ConnectionTrafficSecrets) -> Option<Box<dyn MessageEncrypter>> {
    let (key, iv) = parts(secret)?;
    Some(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            // The nonce's fixed part and the start of its explicit one, put together when the secret was extracted.
            let (fixed, explicit) = iv.as_ref().split_at(suite.aead_alg.key_block_shape().fixed_iv_len);
            suite.aead_alg.encrypter(key, fixed, explicit)
        }
    })
}

fn decrypter(suite: SupportedCipherSuite, secret: ConnectionTrafficSecrets) -> Option<Box<dyn MessageDecrypter>> {
    let (key, iv) = parts(secret)?;
    Some(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let fixed = &iv.as_ref()[..suite.aead_alg.key_block_shape().fixed_iv_len];
            suite.aead_alg.decrypter(key, fixed)
        }
    })
}

fn parts(secret: ConnectionTrafficSecrets) -> Option<(rustls::crypto::cipher::AeadKey, rustls::crypto::cipher::Iv)> {
    match secret {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Some((key, iv)),
        _ => None,
    }
}
