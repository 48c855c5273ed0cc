//! The store's threads: one writer and a few readers behind bounded queues, so that no shard ever waits for a disk.
//!
//! Group commit without a timer: the writer takes whatever has queued up while the previous batch was on its way to the
//! disk, commits that, and hands each shard its finished jobs in one piece. So the batch grows with the load, and a lone
//! message waits for nothing but its own fsync.
//!
//! * Queues are bounded; a full one gives the job back (`StorePort`).
//! * Results are never lost: a full mailbox makes the store thread wait, and its own queue then fills up.
//! * Reads of one room go to one reader, so they come back in the order in which they were handed in.
//! * A back end that panics has failed its jobs; the thread goes on.
mod delivery;
mod reader;
mod writer;

pub use delivery::Sink;
pub use writer::WriterStats;

use super::port::{ReadJob, Reader, StorePort, WriteJob, Writer};
use crate::base::clock::Now;
use crossbeam_channel::{Receiver, Sender, bounded};
use delivery::Delivery;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use writer::{Control, WriterThread};

/// Reads both clocks.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

pub struct Settings {
    /// `store.queue`: jobs that wait for the writer, and for each reader.
    pub queue: usize,
    /// `store.batch_max`: writes in one transaction, at least 1.
    pub batch_max: usize,
    pub clock: Clock,
}

/// Questions to the writer that wait for an answer, at most; more are answered with no.
const CONTROLS_MAX: usize = 16;

/// The running threads. Dropping it stops them as `flush_and_stop` does.
pub struct StoreThreads {
    port: Port,
    monitor: Monitor,
    readers: Group,
    writer: Group,
}

/// Threads that end together.
struct Group {
    /// Its end tells the threads to finish what is queued and stop.
    alive: Option<Sender<Infallible>>,
    ended: Receiver<Infallible>,
    threads: Vec<JoinHandle<()>>,
}

impl StoreThreads {
    /// `readers`: at least one, `store.readers`; each gets a thread. `sinks`: by shard number.
    pub fn start(
        writer: Box<dyn Writer>,
        readers: Vec<Box<dyn Reader>>,
        sinks: Vec<Sink>,
        settings: Settings,
    ) -> io::Result<StoreThreads> {
        let sinks: Arc<[Sink]> = sinks.into();
        let (write, writes) = bounded(settings.queue);
        let (control, controls) = bounded(CONTROLS_MAX);
        let (read, reads): (Vec<_>, Vec<_>) = readers.iter().map(|_| bounded(settings.queue)).unzip();
        let gate = Arc::new(Gate::default());
        let mut threads = StoreThreads {
            port: Port { write, read: read.into(), gate },
            monitor: Monitor { control, clock: settings.clock.clone() },
            readers: Group::new(),
            writer: Group::new(),
        };
        let delivery = Delivery::new(sinks.clone());
        let thread = WriterThread::new(writer, writes, controls, threads.writer.ended.clone(), delivery, settings);
        threads.writer.spawn("store-writer".into(), move || thread.run())?;
        for (number, (reader, jobs)) in readers.into_iter().zip(reads).enumerate() {
            let (delivery, ended) = (Delivery::new(sinks.clone()), threads.readers.ended.clone());
            let run = move || reader::run(reader, jobs, ended, delivery);
            threads.readers.spawn(format!("store-reader-{number}"), run)?;
        }
        Ok(threads)
    }

    /// For one shard.
    pub fn port(&self) -> Port {
        self.port.clone()
    }

    /// For `/readyz` and `/metrics`.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Takes no more jobs; when it returns, every job that was taken is done and delivered, and the threads are gone.
    pub fn flush_and_stop(self) {
        drop(self);
    }
}

impl Drop for StoreThreads {
    fn drop(&mut self) {
        self.port.gate.close();
        // The last to close SQLite's database folds the log into it, which a reader has no right to: so the writer goes last.
        self.readers.end();
        self.writer.end();
    }
}

impl Group {
    fn new() -> Group {
        let (alive, ended) = bounded(0);
        Group { alive: Some(alive), ended, threads: Vec::new() }
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    fn end(&mut self) {
        self.alive = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a store thread ended in a panic");
            }
        }
    }
}

/// A shard's way in. Never blocks.
#[derive(Clone)]
pub struct Port {
    write: Sender<Box<WriteJob>>,
    /// By reader.
    read: Arc<[Sender<Box<ReadJob>>]>,
    gate: Arc<Gate>,
}

impl Port {
    /// Jobs that wait for the writer.
    pub fn queue_len(&self) -> usize {
        self.write.len()
    }
}

impl StorePort for Port {
    fn write(&self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>> {
        self.gate.pass(job, |job| self.write.try_send(job).map_err(|refused| refused.into_inner()))
    }

    fn read(&self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>> {
        let room = (job.waiter.room_key as usize).wrapping_mul(31).wrapping_add(job.waiter.shard.into());
        match self.read.get(room % self.read.len().max(1)) {
            Some(queue) => self.gate.pass(job, |job| queue.try_send(job).map_err(|refused| refused.into_inner())),
            None => Err(job),
        }
    }
}

/// Asks the writer thread. Blocks the caller: not for shards.
#[derive(Clone)]
pub struct Monitor {
    control: Sender<Control>,
    clock: Clock,
}

impl Monitor {
    /// Whether storage accepted a write within `timeout` (R-OPS-2). The write takes its turn on the writer thread, so a
    /// writer that hangs is not ready either.
    pub fn ready(&self, timeout: Duration) -> bool {
        self.ask(Control::Probe, timeout).unwrap_or(false)
    }

    /// The writer's counters and histograms. None: no answer within `timeout`.
    pub fn stats(&self, timeout: Duration) -> Option<Box<WriterStats>> {
        self.ask(Control::Stats, timeout)
    }

    fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Control, timeout: Duration) -> Option<T> {
        let started_ns = (self.clock)().mono_ns;
        let (answer, answers) = bounded(1);
        self.control.send_timeout(question(answer), timeout).ok()?;
        let waited = Duration::from_nanos((self.clock)().mono_ns.saturating_sub(started_ns));
        answers.recv_timeout(timeout.saturating_sub(waited)).ok()
    }
}

/// Lets jobs into the queues until it is closed. Once `close` has returned, no job comes in any more.
#[derive(Default)]
struct Gate {
    is_closed: AtomicBool,
    /// Threads between the look at `is_closed` and the end of their send.
    inside: AtomicUsize,
}

impl Gate {
    fn pass<T>(&self, job: T, send: impl FnOnce(T) -> Result<(), T>) -> Result<(), T> {
        // Sequentially consistent: whoever is not seen inside by `close` sees that it is closed.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let result = if self.is_closed.load(Ordering::SeqCst) { Err(job) } else { send(job) };
        self.inside.fetch_sub(1, Ordering::SeqCst);
        result
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        while self.inside.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    }
}

/// Takes what else is in a queue, up to `max` in all.
fn take_waiting<T>(queue: &Receiver<T>, taken: &mut Vec<T>, max: usize) {
    let wanted = max.saturating_sub(taken.len());
    taken.extend(queue.try_iter().take(wanted));
}

#[cfg(test)]
mod tests;
