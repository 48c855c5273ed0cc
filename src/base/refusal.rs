//! Errors that a client can see: one table of code, text and "may it be retried" (product section 3.3).

macro_rules! codes {
    ($($variant:ident $code:literal $text:literal $retry:literal;)*) => {
        /// Why a command was refused. The texts are exact and part of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($variant,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The wire name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            /// The text that goes with it.
            pub const fn text(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// Whether the same command may succeed later without change.
            pub const fn is_retryable(self) -> bool {
                match self { $(Code::$variant => $retry,)* }
            }
        }
    };
}

codes! {
    UnknownType "unknown_type" "Unknown message type" false;
    InvalidFormat "invalid_format" "Invalid message format" false;
    InvalidArgument "invalid_argument" "Invalid field" false;
    AuthRequired "auth_required" "Authentication token required" false;
    AuthFailed "auth_failed" "Authentication failed" false;
    Forbidden "forbidden" "Not allowed" false;
    NotFound "not_found" "Not found" false;
    Conflict "conflict" "Already used with other content" false;
    AccessDenied "access_denied" "Access denied to room" false;
    NotInRoom "not_in_room" "You are not in this room" false;
    EmptyMessage "empty_message" "Message cannot be empty" false;
    MessageTooLong "message_too_long" "Message too long" false;
    TypeNotAllowed "type_not_allowed" "Type not allowed" false;
    LimitReached "limit_reached" "Limit reached" false;
    RateLimited "rate_limited" "Rate limit exceeded. Please slow down." true;
    SlowMode "slow_mode" "Slow mode is on" true;
    Overloaded "overloaded" "Server busy" true;
    JoinFailed "join_failed" "Failed to join room" true;
    SendFailed "send_failed" "Failed to send message" true;
    Internal "internal" "Internal error" true;
}

/// A refused command: it changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// The field at fault, for `invalid_argument`.
    pub field: Option<&'static str>,
    /// When a retry may succeed; set for `rate_limited`, `slow_mode`, `overloaded`.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    pub const fn new(code: Code) -> Refusal {
        Refusal { code, field: None, retry_after_ms: None }
    }

    pub const fn field(field: &'static str) -> Refusal {
        Refusal { code: Code::InvalidArgument, field: Some(field), retry_after_ms: None }
    }

    /// Rounds up, so that a client that waits as told is not refused again.
    pub const fn after_ns(code: Code, wait_ns: u64) -> Refusal {
        Refusal { code, field: None, retry_after_ms: Some(wait_ns.div_ceil(1_000_000)) }
    }

    pub const fn after_ms(code: Code, wait_ms: u64) -> Refusal {
        Refusal { code, field: None, retry_after_ms: Some(wait_ms) }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Refusal {
        Refusal::new(code)
    }
}
