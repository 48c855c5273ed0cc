//! Small pieces that every layer may use and that know nothing of any layer.
pub mod clock;
pub mod close;
pub mod gradual;
pub mod hash;
pub mod mailbox;
pub mod rate;
pub mod refusal;
pub mod user;
