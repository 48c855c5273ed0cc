//! The writer thread.
use super::{Clock, Delivery, Settings, take_waiting};
use crate::store::port::{Done, Outcome, WriteJob, Writer};
use crossbeam_channel::{Receiver, Sender, select};
use hdrhistogram::Histogram;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Between two steps of housekeeping when there is more to do: jobs come first.
const HOUSEKEEPING_PAUSE: Duration = Duration::from_millis(5);
/// Between two looks whether there is something to do, and between two steps when jobs always wait.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// Largest commit time that is told apart, ns: a minute.
const COMMIT_NS_MAX: u64 = 60_000_000_000;

/// What the writer thread has done since it started.
#[derive(Clone, Debug)]
pub struct WriterStats {
    pub commits: u64,
    pub jobs: u64,
    /// Batches with a job that failed.
    pub failed_commits: u64,
    pub failed_jobs: u64,
    /// Panics of the back end; their jobs have failed.
    pub panics: u64,
    /// Nanoseconds of a commit, from the first job's statement to the end of its fsync; three digits.
    pub commit_ns: Histogram<u64>,
    /// Jobs per commit; three digits.
    pub batch_jobs: Histogram<u64>,
}

pub(super) enum Control {
    Probe(Sender<bool>),
    Stats(Sender<Box<WriterStats>>),
}

pub(super) struct WriterThread {
    writer: Box<dyn Writer>,
    jobs: Receiver<Box<WriteJob>>,
    controls: Receiver<Control>,
    ended: Receiver<Infallible>,
    delivery: Delivery,
    batch_max: usize,
    clock: Clock,
    stats: WriterStats,
    #[expect(clippy::vec_box, reason = "jobs travel boxed: the queue and the way back move a pointer")]
    batch: Vec<Box<WriteJob>>,
    outcomes: Vec<Outcome>,
    /// Monotonic ns of the last step of housekeeping.
    housekept_at_ns: u64,
}

impl WriterThread {
    pub fn new(
        writer: Box<dyn Writer>,
        jobs: Receiver<Box<WriteJob>>,
        controls: Receiver<Control>,
        ended: Receiver<Infallible>,
        delivery: Delivery,
        settings: Settings,
    ) -> WriterThread {
        let batch_max = settings.batch_max.max(1);
        let stats = WriterStats {
            commits: 0,
            jobs: 0,
            failed_commits: 0,
            failed_jobs: 0,
            panics: 0,
            commit_ns: Histogram::new_with_bounds(1_000, COMMIT_NS_MAX, 3).expect("constant bounds"),
            batch_jobs: Histogram::new_with_max(batch_max.max(2) as u64, 3).expect("at least 2"),
        };
        let (batch, outcomes, clock, housekept_at_ns) = (Vec::new(), Vec::new(), settings.clock, 0);
        WriterThread {
            writer,
            jobs,
            controls,
            ended,
            delivery,
            batch_max,
            clock,
            stats,
            batch,
            outcomes,
            housekept_at_ns,
        }
    }

    pub fn run(mut self) {
        let mut pause = HOUSEKEEPING_PAUSE;
        let mut is_running = true;
        while is_running {
            select! {
                recv(self.jobs) -> job => match job {
                    Ok(job) => self.batch.push(job),
                    Err(_) => is_running = false,
                },
                recv(self.controls) -> control => match control {
                    Ok(control) => self.answer(control),
                    Err(_) => is_running = false,
                },
                recv(self.ended) -> _ => is_running = false,
                default(pause) => pause = self.housekeep(),
            }
            take_waiting(&self.jobs, &mut self.batch, self.batch_max);
            if !self.batch.is_empty() {
                self.commit();
                let since_ns = (self.clock)().mono_ns.saturating_sub(self.housekept_at_ns);
                if since_ns >= HOUSEKEEPING_INTERVAL.as_nanos() as u64 {
                    pause = self.housekeep();
                }
            }
        }
        // Whoever ended us has closed the gate: what is queued now is all there will be.
        loop {
            take_waiting(&self.jobs, &mut self.batch, self.batch_max);
            if self.batch.is_empty() {
                return;
            }
            self.commit();
        }
    }

    /// Commits the batch and delivers its results.
    fn commit(&mut self) {
        let started = (self.clock)();
        let WriterThread { writer, batch, outcomes, .. } = self;
        let committed = catch_unwind(AssertUnwindSafe(|| writer.commit(batch, started.unix_ms, outcomes)));
        let commit_ns = (self.clock)().mono_ns.saturating_sub(started.mono_ns);
        if committed.is_err() || outcomes.len() != batch.len() {
            tracing::error!(jobs = batch.len(), outcomes = outcomes.len(), "the store's back end broke off a batch");
            self.stats.panics += u64::from(committed.is_err());
            outcomes.clear();
            outcomes.resize_with(batch.len(), || Outcome::Failed);
        }
        let failed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed)).count() as u64;
        self.stats.commits += 1;
        self.stats.jobs += batch.len() as u64;
        self.stats.failed_commits += u64::from(failed > 0);
        self.stats.failed_jobs += failed;
        self.stats.commit_ns.saturating_record(commit_ns);
        self.stats.batch_jobs.saturating_record(batch.len() as u64);
        for (job, outcome) in batch.drain(..).zip(outcomes.drain(..)) {
            self.delivery.add(Done::Write { job, outcome });
        }
        self.delivery.flush();
    }

    /// How long to wait for jobs before the next step.
    fn housekeep(&mut self) -> Duration {
        let now = (self.clock)();
        self.housekept_at_ns = now.mono_ns;
        match catch_unwind(AssertUnwindSafe(|| self.writer.housekeep(now.unix_ms))) {
            Ok(true) => HOUSEKEEPING_PAUSE,
            Ok(false) => HOUSEKEEPING_INTERVAL,
            Err(_) => {
                self.stats.panics += 1;
                tracing::error!("the store's back end panicked in housekeeping");
                HOUSEKEEPING_INTERVAL
            }
        }
    }

    /// Whoever asked may have stopped waiting: then the answer goes nowhere.
    fn answer(&mut self, control: Control) {
        match control {
            Control::Probe(answer) => {
                let probed = catch_unwind(AssertUnwindSafe(|| self.writer.probe()));
                self.stats.panics += u64::from(probed.is_err());
                let _ = answer.try_send(probed.unwrap_or(false));
            }
            Control::Stats(answer) => drop(answer.try_send(Box::new(self.stats.clone()))),
        }
    }
}
