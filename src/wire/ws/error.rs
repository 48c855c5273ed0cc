//! Why a WebSocket connection must end: who is to blame is the variant, the close code follows from it.
use crate::base::close::CloseCode;
use thiserror::Error;

/// A fatal error of one connection. The answer is a close frame with [`WsError::close_code`], then the end.
///
/// The texts name rules, never content: they may be logged (R-SEC-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WsError {
    /// The peer broke the framing rules.
    #[error("peer misbehaved: {0}")]
    PeerMisbehaved(#[from] Misbehaviour),
    /// The peer sent text, or a close reason, that is not UTF-8 (RFC 6455 8.1).
    #[error("peer sent text that is not UTF-8")]
    InvalidText,
    /// The peer sent a compressed message that is no DEFLATE data (RFC 7692 section 7.2.2).
    #[error("peer sent a compressed message that cannot be inflated")]
    InvalidDeflate,
    /// The peer announced a message above the limit that we set, or one that grew beyond it while being inflated (RFC 6455 10.4,
    /// R-ENV-3).
    #[error("message above the limit of {bytes_max} bytes")]
    TooBig {
        /// The limit in force, bytes of payload over all fragments, of a compressed message inflated.
        bytes_max: usize,
    },
}

impl WsError {
    /// The one close code that tells the peer.
    pub const fn close_code(self) -> CloseCode {
        match self {
            // RFC 7692 names no code; 1007 would say that the text is not UTF-8.
            WsError::PeerMisbehaved(_) | WsError::InvalidDeflate => CloseCode::ProtocolError,
            WsError::InvalidText => CloseCode::InvalidText,
            WsError::TooBig { .. } => CloseCode::TooBig,
        }
    }
}

/// A rule of RFC 6455 that the peer broke; all of them close 1002.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Misbehaviour {
    /// One that no extension gives a meaning here (RFC 7692 section 6: on the first frame of a data message only).
    #[error("reserved bit without an extension (5.2)")]
    ReservedBit,
    #[error("unknown opcode (5.2)")]
    UnknownOpcode,
    #[error("frame is not masked (5.1)")]
    NotMasked,
    #[error("length is not in its shortest form (5.2)")]
    LengthNotMinimal,
    #[error("top bit of a 64-bit length (5.2)")]
    LengthTopBit,
    #[error("fragmented control frame (5.5)")]
    ControlFragmented,
    #[error("control frame above 125 bytes (5.5)")]
    ControlTooLong,
    #[error("continuation without a message (5.4)")]
    ContinuationWithoutStart,
    #[error("new data frame inside a message (5.4)")]
    InterleavedMessage,
    #[error("too many fragments in one message (10.4)")]
    TooManyFragments,
    #[error("close body of one byte (5.5.1)")]
    CloseBodyTooShort,
    #[error("close code that must not be sent (7.4)")]
    InvalidCloseCode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_decides_the_close_code() {
        assert_eq!(WsError::from(Misbehaviour::ReservedBit).close_code(), CloseCode::ProtocolError);
        assert_eq!(WsError::InvalidDeflate.close_code(), CloseCode::ProtocolError);
        assert_eq!(WsError::InvalidText.close_code(), CloseCode::InvalidText);
        assert_eq!(WsError::TooBig { bytes_max: 1 }.close_code(), CloseCode::TooBig);
    }
}
