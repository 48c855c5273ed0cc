//! wire
pub mod envelope;
pub mod json;
pub mod tape;
