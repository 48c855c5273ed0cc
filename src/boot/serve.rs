//! `throng serve`: starts the threads, waits for a signal, drains.
use super::cli::ServeOptions;
use std::process::ExitCode;

/// Runs until a signal ends it.
pub fn run(options: ServeOptions) -> ExitCode {
    eprintln!("throng: cannot listen on {}: this build holds no server", options.config.http.listen);
    ExitCode::FAILURE
}
