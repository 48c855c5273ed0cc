//! Ctrl-C, and the signal of `kill`: the first ends the run early but in order, the second at once.
use crate::engine::Control;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// As shells say it of a program that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// What a second signal must not leave behind.
#[derive(Clone, Default)]
pub struct Interrupt {
    server: Arc<Mutex<Option<Server>>>,
}

/// A server that we started.
struct Server {
    pid: u32,
    /// `None`: it stays.
    folder: Option<PathBuf>,
}

impl Interrupt {
    /// From now on signals go to `control`. The thread lives as long as the program.
    pub fn listen(control: Arc<Control>) -> Result<Interrupt, String> {
        let interrupt = Interrupt::default();
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("signals: {error}"))?;
        let thread = std::thread::Builder::new().name("signals".into()).spawn({
            let interrupt = interrupt.clone();
            move || {
                for _ in signals.forever() {
                    if control.stop.swap(true, Ordering::Relaxed) {
                        interrupt.end_server();
                        std::process::exit(EXIT_INTERRUPTED);
                    }
                    eprintln!("\nthrong-loadgen: ending early; once more ends at once");
                }
            }
        });
        thread.map(|_| interrupt).map_err(|error| format!("signals: {error}"))
    }

    /// A server that a second signal is to take along, and its folder, unless that is to stay.
    pub fn server_started(&self, pid: u32, folder: Option<PathBuf>) {
        self.set(Some(Server { pid, folder }));
    }

    /// It has ended, and its number may become another's.
    pub fn server_ended(&self) {
        self.set(None);
    }

    fn set(&self, server: Option<Server>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    fn end_server(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Server { pid, folder }) = server else { return };
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(folder) = folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
