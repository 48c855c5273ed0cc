//! What a start is given, and how it can fail.
use super::keys::LoadedKeys;
use crate::config::{Config, Inputs};

/// What `serve::run` gets: a checked configuration and at least one key.
pub struct ServeOptions {
    pub config: Config,
    /// Development mode.
    pub dev: bool,
    pub keys: LoadedKeys,
    /// To read the configuration again on SIGHUP: `config::load(&inputs)`, then `keys::load`.
    pub inputs: Inputs,
}

/// Exit codes: 0 drained, and these. A wrong command line, configuration or key:
pub const EXIT_USAGE: u8 = 2;
/// The data folder or what is in it.
pub const EXIT_DATA: u8 = 3;
pub const EXIT_RING: u8 = 4;
pub const EXIT_LISTEN: u8 = 5;
pub const EXIT_CRASH: u8 = 70;
/// By a second signal.
pub const EXIT_AT_ONCE: u8 = 130;

/// What stops the start: the text names cause and remedy.
pub struct StartError {
    pub code: u8,
    pub text: String,
}

pub(super) fn fail(code: u8) -> impl Fn(String) -> StartError {
    move |text| StartError { code, text }
}
