//! HTTP/1.1 at the shard's front door: request heads, WebSocket upgrades, and the answers that end a connection.
//!
//! Sans-IO, like all of `wire`. Bodies are not handled here: who expects one reads it behind the head.
pub mod answer;
pub mod chunked;
pub mod client_ip;
pub mod cors;
pub mod head;
pub mod origin;
pub mod response;
pub mod token;
pub mod upgrade;

pub use answer::{Answer, cors_headers};
pub use chunked::{Chunked, ChunkedError};
pub use client_ip::{address_key, client_address};
pub use head::{Head, HeadError, parse_head};
pub use origin::origin_allowed;
pub use response::{Failure, write_response};
pub use token::{Credentials, TokenError, bearer_token, request_token};
pub(in crate::wire) use upgrade::is_token_byte;
pub use upgrade::{Refused, Upgrade, check, offered_deflate, write_accept};
