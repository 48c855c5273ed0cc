//! What is seen of a run while it runs: bars on a terminal, a line every 5 s elsewhere.
use crate::engine::Control;
use crate::report::units;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const BAR_TICK: Duration = Duration::from_millis(200);
const LINE_TICK: Duration = Duration::from_secs(5);

/// Shows a run until it is dropped.
pub struct Progress {
    /// Dropped to wake the thread.
    alive: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows what `control` says on standard error; nothing if `is_quiet`. `connections` is where the first bar ends.
    pub fn show(control: Arc<Control>, connections: u32, is_quiet: bool) -> Progress {
        if is_quiet {
            return Progress { alive: None, thread: None };
        }
        // What an earlier run has left there.
        let progress = &control.progress;
        progress.phase.store(0, Ordering::Relaxed);
        for figure in [&progress.ready, &progress.sent, &progress.delivered, &progress.p99_ns] {
            figure.store(0, Ordering::Relaxed);
        }
        let (alive, ended) = mpsc::channel();
        let is_terminal = std::io::stderr().is_terminal();
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || match is_terminal {
            true => bars(&control, connections, &ended),
            false => lines(&control, connections, &ended),
        });
        // Without it the run is none the worse.
        Progress { alive: Some(alive), thread: thread.ok() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bars(control: &Control, connections: u32, ended: &mpsc::Receiver<()>) {
    let bar = ProgressBar::with_draw_target(Some(connections.into()), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix:>8} [{bar:30}] {msg}").expect("a template of known keys");
    bar.set_style(style.progress_chars("=> "));
    let mut rates = Rates::new();
    while ended.recv_timeout(BAR_TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
        let view = View::of(control, connections, rates.phase_s(control));
        bar.set_length(view.length);
        bar.set_position(view.position);
        bar.set_prefix(view.phase);
        bar.set_message(view.text(rates.update(control)));
    }
    bar.finish_and_clear();
}

fn lines(control: &Control, connections: u32, ended: &mpsc::Receiver<()>) {
    let mut rates = Rates::new();
    while ended.recv_timeout(LINE_TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
        let view = View::of(control, connections, rates.phase_s(control));
        eprintln!("{}: {}", view.phase, view.text(rates.update(control)));
    }
}

/// A moment of the run, in the units of a bar.
#[derive(Debug, PartialEq)]
struct View {
    phase: &'static str,
    /// Connections while they connect, then ms of the phase; an end that is not known is the present.
    position: u64,
    length: u64,
    ready: u64,
    connections: u32,
    p99_ns: u64,
}

impl View {
    /// `phase_s` is how long the phase has lasted.
    fn of(control: &Control, connections: u32, phase_s: f64) -> View {
        let progress = &control.progress;
        let ready = progress.ready.load(Ordering::Relaxed);
        let p99_ns = progress.p99_ns.load(Ordering::Relaxed);
        let phase = progress.phase.load(Ordering::Relaxed);
        let from_ns = progress.phase_from_ns.load(Ordering::Relaxed);
        let until_ns = progress.phase_until_ns.load(Ordering::Relaxed);
        let passed_ms = (phase_s * 1_000.0) as u64;
        let length_ms = until_ns.saturating_sub(from_ns) / 1_000_000;
        let (position, length) = match (phase, length_ms) {
            (0, _) => (ready, connections.into()),
            (_, 0) => (passed_ms, passed_ms.max(1)),
            (_, length_ms) => (passed_ms.min(length_ms), length_ms),
        };
        let name = ["connect", "warm-up", "measure", "settle"].get(usize::from(phase)).copied();
        View { phase: name.unwrap_or("end"), position, length, ready, connections, p99_ns }
    }

    fn text(&self, rates: (f64, f64)) -> String {
        let ready = units::count(self.ready);
        if self.phase == "connect" {
            return format!("{ready} of {} connected", units::count(self.connections.into()));
        }
        let (sent, delivered) = rates;
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        format!(
            "{:.0} of {:.0} s, {ready} connected, {} sent/s, {} delivered/s, p99 {}",
            seconds(self.position),
            seconds(self.length),
            units::count(sent.round() as u64),
            units::count(delivered.round() as u64),
            units::duration(self.p99_ns as f64)
        )
    }
}

/// What has grown since the last look. Phases are timed here: the engine's clock is not ours.
struct Rates {
    at: Instant,
    sent: u64,
    delivered: u64,
    phase: u8,
    phase_at: Instant,
}

impl Rates {
    fn new() -> Rates {
        let now = Instant::now();
        Rates { at: now, sent: 0, delivered: 0, phase: 0, phase_at: now }
    }

    fn phase_s(&mut self, control: &Control) -> f64 {
        let phase = control.progress.phase.load(Ordering::Relaxed);
        if phase != self.phase {
            self.phase = phase;
            self.phase_at = Instant::now();
        }
        self.phase_at.elapsed().as_secs_f64()
    }

    /// Per second: sent, delivered.
    fn update(&mut self, control: &Control) -> (f64, f64) {
        let now = Instant::now();
        let seconds = now.duration_since(self.at).as_secs_f64().max(1e-3);
        let sent = control.progress.sent.load(Ordering::Relaxed);
        let delivered = control.progress.delivered.load(Ordering::Relaxed);
        let rates = (
            sent.saturating_sub(self.sent) as f64 / seconds,
            delivered.saturating_sub(self.delivered) as f64 / seconds,
        );
        (self.at, self.sent, self.delivered) = (now, sent, delivered);
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(phase: u8, ready: u64, until_ns: u64) -> Control {
        let control = Control::default();
        control.progress.phase.store(phase, Ordering::Relaxed);
        control.progress.ready.store(ready, Ordering::Relaxed);
        control.progress.phase_from_ns.store(1_000_000_000, Ordering::Relaxed);
        control.progress.phase_until_ns.store(until_ns, Ordering::Relaxed);
        control.progress.p99_ns.store(2_500_000, Ordering::Relaxed);
        control
    }

    #[test]
    fn connections_are_counted_then_seconds() {
        let connect = View::of(&control(0, 1_500, 0), 5_000, 1.0);
        assert_eq!((connect.phase, connect.position, connect.length), ("connect", 1_500, 5_000));
        assert_eq!(connect.text((0.0, 0.0)), "1,500 of 5,000 connected");
        let measure = View::of(&control(2, 5_000, 21_000_000_000), 5_000, 4.0);
        assert_eq!((measure.phase, measure.position, measure.length), ("measure", 4_000, 20_000));
        let text = measure.text((1_000.2, 99_900.0));
        assert!(text.starts_with("4 of 20 s, 5,000 connected, 1,000 sent/s, 99,900 delivered/s, p99 2.5"), "{text}");
        let settle = View::of(&control(3, 5_000, 0), 5_000, 0.0);
        assert_eq!((settle.phase, settle.position, settle.length), ("settle", 0, 1), "an end that is not known");
    }

    #[test]
    fn a_phase_never_passes_its_end() {
        let view = View::of(&control(1, 1, 2_000_000_000), 1, 60.0);
        assert_eq!((view.position, view.length), (1_000, 1_000));
    }

    #[test]
    fn showing_ends_with_its_value() {
        drop(Progress::show(Arc::default(), 1, false));
        drop(Progress::show(Arc::default(), 1, true));
    }
}
