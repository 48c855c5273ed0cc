//! Signals as events: SIGTERM and SIGINT stop, SIGHUP reads the configuration again.
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Stop,
    Reload,
}

pub struct Control {
    events: Receiver<Event>,
}

impl Control {
    pub fn start() -> io::Result<Control> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let (sender, events) = bounded(16);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                let event = if signal == SIGHUP { Event::Reload } else { Event::Stop };
                if sender.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Control { events })
    }

    /// The next event, waiting at most this long.
    pub fn next(&self, timeout: Duration) -> Option<Event> {
        self.events.recv_timeout(timeout).ok()
    }
}
