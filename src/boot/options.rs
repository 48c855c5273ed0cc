//! What a start is given, and how it can fail.
use super::keys::LoadedKeys;
use crate::config::{Config, Inputs};
use crate::plane::{SetupCause, SetupError};
use std::io;

/// What `serve::run` gets: a checked configuration and at least one key.
pub struct ServeOptions {
    pub config: Config,
    /// Development mode.
    pub dev: bool,
    pub keys: LoadedKeys,
    /// To read the configuration again on SIGHUP: `config::load(&inputs)`, then `keys::load`.
    pub inputs: Inputs,
}

/// `throng doctor`: the machine cannot hold the connections.
pub const EXIT_CANNOT_HOLD: u8 = 1;

/// Exit codes of a server: 0 drained, and these, one for each party that can mend the cause. A wrong command line, configuration or key:
pub const EXIT_USAGE: u8 = 2;
/// The data folder or what is in it.
pub const EXIT_DATA: u8 = 3;
/// A sysctl, a seccomp filter or a security module forbids io_uring.
pub const EXIT_FORBIDDEN: u8 = 4;
/// Somebody else listens on the port.
pub const EXIT_PORT_IN_USE: u8 = 5;
/// The kernel is too old, or was built without io_uring.
pub const EXIT_KERNEL: u8 = 6;
/// Not enough memory or descriptors for the rings: limits.
pub const EXIT_RESOURCES: u8 = 7;
/// The address cannot be listened on for another reason: privileges, no such address.
pub const EXIT_ADDRESS: u8 = 8;
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

/// Why there is no listener.
pub(super) fn no_listener(error: &io::Error) -> StartError {
    let code = if error.kind() == io::ErrorKind::AddrInUse { EXIT_PORT_IN_USE } else { EXIT_ADDRESS };
    StartError { code, text: error.to_string() }
}

/// Why a shard has no ring.
pub(super) fn no_ring(shard: u16, error: &SetupError) -> StartError {
    StartError { code: ring_exit_code(error.cause()), text: format!("shard {shard}: {error}") }
}

pub(super) fn ring_exit_code(cause: SetupCause) -> u8 {
    match cause {
        SetupCause::Forbidden => EXIT_FORBIDDEN,
        SetupCause::Kernel => EXIT_KERNEL,
        SetupCause::Resources => EXIT_RESOURCES,
        SetupCause::Options => EXIT_USAGE,
    }
}
