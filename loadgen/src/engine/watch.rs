//! The coordinator: says when traffic begins, and looks once a second at what server and client use.
use super::EngineError;
use super::clock::{MS, SECOND};
use super::record::SecondPart;
use super::signals::{Stage, Times};
use super::worker::Shared;
use crate::result::{Phase, Second, ServerCost, Witness};
use crate::server::process::{Process, Usage};
use crate::server::slab::{self, slab};
use crate::server::witness::{Between, Snapshot, percentiles};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// No client became ready for this long: the connect phase has failed.
const CONNECT_PATIENCE: u64 = 60 * SECOND;
/// Between the word and the start, so that all workers hear of it in time.
const HEAD_START: u64 = 100 * MS;
const LOOK: Duration = Duration::from_millis(20);

/// What the coordinator saw.
#[derive(Default)]
pub struct Watched {
    pub series: Vec<Second>,
    pub server: ServerCost,
    pub witness: Witness,
    pub measured_ns: u64,
    pub client_cpu_ns: u64,
    pub client_rss_before_bytes: u64,
    pub client_rss_connected_bytes: u64,
}

/// Looks on. Make it before the first connection: what it sees then is what all growth is counted from.
pub struct Watch<'a> {
    shared: &'a Shared<'a>,
    server: Option<Process>,
    client: Process,
    watched: Watched,
    /// By second: what the processes used.
    samples: BTreeMap<u64, Sample>,
    last: (u64, Option<Usage>, Usage),
    phase: Phase,
    first_words: Option<Snapshot>,
}

struct Sample {
    phase: Phase,
    connected: u64,
    server_cores: f64,
    client_cores: f64,
    server_rss_bytes: u64,
    client_rss_bytes: u64,
    slab_bytes: Option<u64>,
}

impl<'a> Watch<'a> {
    pub fn new(shared: &'a Shared<'a>) -> Watch<'a> {
        let client = Process::own();
        let server = shared.target.pid.map(Process::new);
        let usage = client.usage().unwrap_or_default();
        let server_usage = server.as_ref().and_then(Process::usage);
        let client_rss_before_bytes = client.rss_exact_bytes().unwrap_or(0);
        let mut watched = Watched { client_rss_before_bytes, ..Watched::default() };
        watched.server.pid = shared.target.pid;
        watched.server.cores = shared.target.pid.map(crate::server::cores::of_process).unwrap_or_default();
        watched.server.rss_before_bytes = server.as_ref().and_then(Process::rss_exact_bytes);
        watched.server.slab_before = slab();
        let last = (shared.clock.now_ns(), server_usage, usage);
        let phase = Phase::Connect;
        let mut watch =
            Watch { shared, server, client, watched, samples: BTreeMap::new(), last, phase, first_words: None };
        watch.first_words = watch.words();
        watch
    }

    /// Runs beside the workers until they have settled.
    pub fn run(self) -> Result<Watched, EngineError> {
        let shared = self.shared;
        let result = self.watch();
        if result.is_err() {
            shared.signals.abort();
        }
        result
    }

    fn watch(mut self) -> Result<Watched, EngineError> {
        let begun = self.last.1.clone();
        let first_words = self.first_words.take();
        self.connect_phase()?;
        if let (Some(before), Some(now)) = (&begun, self.server_usage()) {
            self.watched.server.cpu_connect_ns = Some(now.since(before).total_ns());
        }
        self.shared.signals.go(self.shared.clock.now_ns() + HEAD_START);
        let times = self.shared.signals.times(&self.shared.scenario.time).expect("just said");
        self.enter(Phase::Warmup, times.go_ns, times.measure_ns);
        self.wait_until(times.measure_ns)?;
        let window = self.measure_phase(times)?;
        self.enter(Phase::Settle, self.shared.clock.now_ns(), 0);
        while !self.shared.signals.have_arrived(Stage::Settled) {
            self.look()?;
        }
        if let (Some(first), Some(last), Some(window)) = (first_words, self.words(), window) {
            self.watched.server.version = last.version();
            self.watched.server.shards = last.shards();
            self.watched.witness = Between::to_witness(&window, &last.since(&first));
        }
        self.watched.series = self.series();
        Ok(self.watched)
    }

    fn enter(&mut self, phase: Phase, from_ns: u64, until_ns: u64) {
        self.phase = phase;
        let progress = &self.shared.control.progress;
        progress.phase.store(phase as u8, Ordering::Relaxed);
        progress.phase_from_ns.store(from_ns, Ordering::Relaxed);
        progress.phase_until_ns.store(until_ns, Ordering::Relaxed);
    }

    fn connect_phase(&mut self) -> Result<(), EngineError> {
        let mut progress = (0, self.shared.clock.now_ns());
        while !self.shared.signals.have_arrived(Stage::Connected) {
            self.look()?;
            let (ready, now) = (self.ready(), self.shared.clock.now_ns());
            if ready != progress.0 {
                progress = (ready, now);
            }
            if self.shared.control.is_stopped() {
                return Err(EngineError::Failed("interrupted while connecting".into()));
            }
            if now > progress.1 + CONNECT_PATIENCE {
                let all = self.shared.scenario.connections;
                return Err(EngineError::Failed(format!(
                    "only {ready} of {all} clients are ready, and for {} s it was not one more",
                    CONNECT_PATIENCE / SECOND
                )));
            }
        }
        Ok(())
    }

    fn measure_phase(&mut self, times: Times) -> Result<Option<Between>, EngineError> {
        self.watched.server.slab_connected = slab();
        self.watched.client_rss_connected_bytes = self.client.rss_exact_bytes().unwrap_or(0);
        self.watched.server.rss_connected_bytes = self.server.as_ref().and_then(Process::rss_exact_bytes);
        self.enter(Phase::Measure, times.measure_ns, times.until_ns);
        let words = self.words();
        let began = self.shared.clock.now_ns();
        let (server_before, client_before) = (self.server_usage(), self.client.usage().unwrap_or_default());
        self.wait_until(times.until_ns)?;
        let (server_after, client_after) = (self.server_usage(), self.client.usage().unwrap_or_default());
        let ended = self.shared.clock.now_ns();
        self.watched.measured_ns = ended - began;
        self.watched.client_cpu_ns = client_after.since(&client_before).total_ns();
        if let (Some(before), Some(after)) = (server_before, server_after) {
            let (server, cpu) = (&mut self.watched.server, after.since(&before));
            server.cpu_user_ns = Some(cpu.user_ns);
            server.cpu_system_ns = Some(cpu.system_ns);
            let share = |(name, used): (String, u64)| (name, used as f64 / (ended - began).max(1) as f64);
            server.busiest_thread = after.busiest_since(&before).map(share);
        }
        Ok(words.and_then(|before| Some(self.words()?.since(&before))))
    }

    fn wait_until(&mut self, at_ns: u64) -> Result<(), EngineError> {
        while self.shared.clock.now_ns() < at_ns && !self.shared.control.is_stopped() {
            self.look()?;
        }
        Ok(())
    }

    fn ready(&self) -> u64 {
        self.shared.control.progress.ready.load(Ordering::Relaxed)
    }

    fn server_usage(&self) -> Option<Usage> {
        self.server.as_ref().and_then(Process::usage)
    }

    /// What the server says itself, if it says anything.
    fn words(&self) -> Option<Snapshot> {
        let admin = self.shared.target.admin.as_ref()?;
        Snapshot::fetch(admin).inspect_err(|error| tracing::warn!("the server's own figures: {error}")).ok()
    }

    /// Sleeps a moment; takes a sample when a second is over.
    fn look(&mut self) -> Result<(), EngineError> {
        std::thread::sleep(LOOK);
        if self.shared.signals.is_aborted() {
            return Err(EngineError::Aborted);
        }
        let now = self.shared.clock.now_ns();
        if now / SECOND == self.last.0 / SECOND {
            return Ok(());
        }
        let (client, server) = (self.client.usage().unwrap_or_default(), self.server_usage());
        let span = (now - self.last.0).max(1) as f64;
        let cores = |before: &Usage, after: &Usage| after.since(before).total_ns() as f64 / span;
        let server_rss_bytes = self.server.as_ref().and_then(Process::rss_bytes);
        let sample = Sample {
            phase: self.phase,
            connected: self.ready(),
            server_cores: self.last.1.as_ref().zip(server.as_ref()).map_or(0.0, |(before, after)| cores(before, after)),
            client_cores: cores(&self.last.2, &client),
            server_rss_bytes: server_rss_bytes.unwrap_or(0),
            client_rss_bytes: self.client.rss_bytes().unwrap_or(0),
            slab_bytes: slab::total_bytes(),
        };
        let max = &mut self.watched.server.rss_max_bytes;
        *max = (*max).max(server_rss_bytes);
        self.samples.insert(self.last.0 / SECOND, sample);
        self.last = (now, server, client);
        // Workers add a second within their turn after it; two seconds later all have.
        let finished = self.shared.seconds.take_before((now / SECOND).saturating_sub(2));
        self.finish(finished);
        Ok(())
    }

    fn finish(&mut self, parts: BTreeMap<u64, SecondPart>) {
        for (second, part) in parts {
            let mut entry =
                Second { t_s: second as f64, sent: part.sent, delivered: part.delivered, ..Second::default() };
            (entry.acked, entry.lag_max_ns) = (part.acked, part.lag_max_ns);
            if let Some(latency) = &part.latency {
                let percentiles = percentiles(latency);
                (entry.p50_ns, entry.p99_ns) = (percentiles.p50, percentiles.p99);
                (entry.p999_ns, entry.max_ns) = (percentiles.p999, percentiles.max);
                self.shared.control.progress.p99_ns.store(entry.p99_ns, Ordering::Relaxed);
            }
            self.watched.series.push(entry);
        }
    }

    /// All seconds, with what was sampled in them.
    fn series(&mut self) -> Vec<Second> {
        let rest = self.shared.seconds.take_before(u64::MAX);
        self.finish(rest);
        let mut series = std::mem::take(&mut self.watched.series);
        for entry in &mut series {
            // The last part of a second, after the last look, has the look before.
            let Some((_, sample)) = self.samples.range(..=entry.t_s as u64).next_back() else { continue };
            entry.phase = sample.phase;
            entry.connected = sample.connected;
            entry.server_cores = sample.server_cores;
            entry.client_cores = sample.client_cores;
            entry.server_rss_bytes = sample.server_rss_bytes;
            entry.client_rss_bytes = sample.client_rss_bytes;
            entry.kernel_slab_bytes = sample.slab_bytes;
        }
        series
    }
}
