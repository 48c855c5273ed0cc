//! Why a connection ends: the close codes of product section 4, in bands that tell a client what to do.

/// 4000–4099 are terminal, 4100–4199 reconnect with back-off, 4200–4299 reconnect in the given range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    ProtocolError = 1002,
    Unsupported = 1003,
    InvalidText = 1007,
    TooBig = 1009,
    Internal = 1011,
    TokenRequired = 4001,
    AuthFailed = 4002,
    TokenExpired = 4003,
    Revoked = 4004,
    Disconnected = 4005,
    Banned = 4006,
    Abuse = 4007,
    TooManyConnections = 4008,
    ResumedElsewhere = 4009,
    Overloaded = 4100,
    SlowConsumer = 4101,
    Stale = 4102,
    NoPong = 4103,
    Flood = 4104,
    Drain = 4200,
    Migrated = 4201,
}

impl CloseCode {
    pub const ALL: [CloseCode; 22] = [
        CloseCode::Normal,
        CloseCode::ProtocolError,
        CloseCode::Unsupported,
        CloseCode::InvalidText,
        CloseCode::TooBig,
        CloseCode::Internal,
        CloseCode::TokenRequired,
        CloseCode::AuthFailed,
        CloseCode::TokenExpired,
        CloseCode::Revoked,
        CloseCode::Disconnected,
        CloseCode::Banned,
        CloseCode::Abuse,
        CloseCode::TooManyConnections,
        CloseCode::ResumedElsewhere,
        CloseCode::Overloaded,
        CloseCode::SlowConsumer,
        CloseCode::Stale,
        CloseCode::NoPong,
        CloseCode::Flood,
        CloseCode::Drain,
        CloseCode::Migrated,
    ];

    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The reason that goes into the close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            CloseCode::Normal => "",
            CloseCode::ProtocolError => "Protocol error",
            CloseCode::Unsupported => "Binary messages are not supported",
            CloseCode::InvalidText => "Text is not UTF-8",
            CloseCode::TooBig => "Message too big",
            CloseCode::Internal => "Internal error",
            CloseCode::TokenRequired => "Authentication token required",
            CloseCode::AuthFailed => "Authentication failed",
            CloseCode::TokenExpired => "Token expired",
            CloseCode::Revoked => "Token revoked",
            CloseCode::Disconnected => "Disconnected",
            CloseCode::Banned => "You are banned",
            CloseCode::Abuse => "Too many malformed messages",
            CloseCode::TooManyConnections => "Too many connections",
            CloseCode::ResumedElsewhere => "Session resumed elsewhere",
            CloseCode::Overloaded => "Server busy",
            CloseCode::SlowConsumer => "Too slow",
            CloseCode::Stale => "No activity",
            CloseCode::NoPong => "No pong",
            CloseCode::Flood => "Too many commands",
            CloseCode::Drain => "Server closing",
            CloseCode::Migrated => "Migrated",
        }
    }
}
