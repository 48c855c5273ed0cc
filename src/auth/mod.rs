//! Who someone is: token verification against pinned keys, room tokens, resume tokens.
//!
//! Everything is told the time; only the thread of `jwks` reads a clock. Nothing here prints a token or a key (R-SEC-1).
pub mod error;
pub mod jwk;
pub mod jwks;
pub mod keys;
pub mod resume;
pub mod secret_file;
pub mod sources;
mod token;
pub mod verify;

pub use error::AuthError;
pub use jwks::JwksSource;
pub use keys::{Algorithm, Key, KeySet};
pub use resume::ResumeKey;
pub use verify::{Identity, RoomGrant, Settings, Verifier};
