//! What breaks the protocol. Each of these closes the connection, as the protocol's text asks.
use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    #[error("no packet type from 0 to 6")]
    Type,
    /// No number, 0, no `-`, or more than `limits::ATTACHMENTS_MAX`.
    #[error("a wrong number of attachments")]
    Attachments,
    /// Above 2^53 - 1, which no client counts to.
    #[error("an ack id that is too large")]
    AckId,
    #[error("a namespace that is too long")]
    Namespace,
    #[error("a payload that is no JSON")]
    Json,
    /// Nested deeper than `limits::SOCKETIO_DEPTH_MAX`.
    #[error("a payload nested too deep")]
    Depth,
    /// Of another type than the packet's kind has.
    #[error("a payload that does not belong to the packet")]
    Payload,
    /// `connect`, `disconnect` and the like are never sent as events.
    #[error("a reserved event name")]
    ReservedEvent,
    /// A text message while attachments are due.
    #[error("text instead of an attachment")]
    TextInBinary,
    /// A binary message while no attachment is due.
    #[error("an unexpected attachment")]
    UnexpectedBinary,
    /// No number, out of range, or used twice.
    #[error("a wrong placeholder")]
    Placeholder,
    /// All of one packet above `sio.max_payload_bytes`, or a CONNECT above `limits::SOCKETIO_CONNECT_BYTES_MAX`.
    #[error("a packet that is too large")]
    TooLarge,
    /// A packet for a namespace that is not connected.
    #[error("a namespace that is not connected")]
    NotConnected,
    /// A second CONNECT to a namespace.
    #[error("a namespace that is connected already")]
    AlreadyConnected,
    /// CONNECT_ERROR comes from servers only.
    #[error("an error from a client")]
    ClientError,
    /// More CONNECTs than `limits::SOCKETIO_CONNECTS_MAX`.
    #[error("too many connects")]
    TooManyConnects,
}

impl Violation {
    pub const ALL: [Violation; 16] = [
        Violation::Type,
        Violation::Attachments,
        Violation::AckId,
        Violation::Namespace,
        Violation::Json,
        Violation::Depth,
        Violation::Payload,
        Violation::ReservedEvent,
        Violation::TextInBinary,
        Violation::UnexpectedBinary,
        Violation::Placeholder,
        Violation::TooLarge,
        Violation::NotConnected,
        Violation::AlreadyConnected,
        Violation::ClientError,
        Violation::TooManyConnects,
    ];
}
