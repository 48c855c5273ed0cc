//! The stages of a run as a worker goes through them: connect, traffic, settle. Each ends where all workers have come so far.
use super::EngineError;
use super::clock::{seconds, thread_cpu_ns};
use super::link::State;
use super::signals::Stage;
use super::worker::Worker;
use crate::check::Sent;
use crate::result::Integrity;
use crate::schedule::Schedule;

impl Worker<'_> {
    pub(super) fn connect_all(&mut self) -> Result<(), EngineError> {
        while self.ready < self.links.len() as u32 {
            self.turn(None)?;
        }
        self.shared.signals.arrive(Stage::Connected);
        while self.shared.signals.go_ns().is_none() {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Warm-up and measured window.
    pub(super) fn traffic_time(&mut self) -> Result<(), EngineError> {
        let scenario = self.shared.scenario;
        let times = self.shared.signals.times(&scenario.time).expect("go");
        let seed = self.shared.seed;
        self.measured = times.measure_ns..times.until_ns;
        self.schedule = Some(Schedule::new(scenario, self.connections.clone(), seed, times.go_ns, times.until_ns));
        self.heartbeats.end_at(times.until_ns);
        self.recorder.close_links();
        while self.shared.clock.now_ns() < times.measure_ns && !self.is_stopped() {
            self.turn(Some(times.measure_ns))?;
        }
        let cpu_before = thread_cpu_ns();
        let begun = self.shared.clock.now_ns();
        self.recorder.measure(true);
        if scenario.storm.is_some() || scenario.churn.is_some() {
            self.recorder.restart_links();
        }
        self.disturbances.begin(times.measure_ns, times.until_ns);
        (self.load.busy_max, self.load.lag_max_ns) = (0.0, 0);
        while self.shared.clock.now_ns() < times.until_ns && !self.is_stopped() {
            self.turn(Some(times.until_ns))?;
        }
        self.recorder.measure(false);
        let ended = self.shared.clock.now_ns();
        self.load.busy = (thread_cpu_ns() - cpu_before) as f64 / (ended - begun).max(1) as f64;
        self.schedule = None;
        self.heartbeats.stop();
        self.disturbances.stop();
        Ok(())
    }

    /// Waits for what is under way: first for acks and clients that are still away, then, knowing what all workers have sent,
    /// for the deliveries.
    pub(super) fn settle(&mut self) -> Result<(), EngineError> {
        let patience = self.shared.clock.now_ns() + seconds(self.shared.scenario.time.settle_s);
        while self.shared.clock.now_ns() < patience && !self.is_complete_alone() {
            self.turn(Some(patience))?;
        }
        let own = std::mem::replace(&mut self.sent, Sent::new(self.shared.scenario));
        self.shared.signals.hand_in(own);
        while self.shared.signals.all_sent().is_none() {
            self.turn(None)?;
        }
        let patience = self.shared.clock.now_ns() + seconds(self.shared.scenario.time.settle_s);
        let sent = self.shared.signals.all_sent().expect("just seen");
        while self.shared.clock.now_ns() < patience && self.checker.outstanding(sent) > 0 {
            for _ in 0..4 {
                self.turn(Some(patience))?;
            }
        }
        self.shared.signals.arrive(Stage::Settled);
        while !self.shared.signals.have_arrived(Stage::Settled) {
            self.turn(None)?;
        }
        Ok(())
    }

    fn is_complete_alone(&self) -> bool {
        let is_home = self.ready == self.links.iter().filter(|link| link.state != State::Gone).count() as u32;
        is_home && self.unacked.is_empty() && self.links.iter().all(|link| link.unanswered == 0)
    }

    pub(super) fn judge(&mut self) -> Integrity {
        let sent = self.shared.signals.all_sent().expect("settled");
        let mut integrity = self.checker.finish(sent);
        integrity.unanswered = self.links.iter().map(|link| u64::from(link.unanswered)).sum();
        integrity
    }
}
