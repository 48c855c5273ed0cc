//! The shards' threads: each makes its rings, waits until all have theirs, and runs.
use super::options::{EXIT_CRASH, EXIT_RESOURCES, StartError, fail, no_ring};
use super::tables::Tables;
use crate::base::mailbox::Wake;
use crate::config::Config;
use crate::plane::os;
use crate::shard::host::{Prepared, Start, prepare};
use std::thread::JoinHandle;

/// The shards' threads, between their preparation and their end.
pub(super) struct ShardThreads {
    /// One per shard, for its mailboxes.
    pub wakers: Vec<Box<dyn Wake>>,
    starts: Vec<crossbeam_channel::Sender<Start>>,
    threads: Vec<JoinHandle<Result<Vec<u8>, String>>>,
    started: usize,
    /// What the shards that have ended gave back.
    pub lost: Vec<u8>,
}

impl ShardThreads {
    /// Makes each shard's rings in its own thread, pinned to a core if there are no more shards than cores.
    pub fn prepare(tables: &Tables, config: &Config) -> Result<ShardThreads, StartError> {
        let &Tables { shards, rings, .. } = tables;
        let options = tables.ring_options(config);
        let cores = os::available_cores();
        let mut threads =
            ShardThreads { wakers: Vec::new(), starts: Vec::new(), threads: Vec::new(), started: 0, lost: Vec::new() };
        for shard in 0..shards {
            let (ready, is_ready) = crossbeam_channel::bounded(1);
            let (start, starts) = crossbeam_channel::bounded::<Start>(1);
            let core = (usize::from(shards) <= cores.len()).then(|| cores[usize::from(shard)]);
            let body = move || -> Result<Vec<u8>, String> {
                if let Some(core) = core
                    && let Err(error) = os::pin_to_core(core)
                {
                    tracing::warn!(core, %error, "cannot pin the shard to its core");
                }
                let prepared: Prepared = match prepare(&options, rings) {
                    Ok((prepared, waker)) => {
                        let _ = ready.send(Ok(waker));
                        prepared
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return Ok(Vec::new());
                    }
                };
                match starts.recv() {
                    Ok(start) => prepared.run(start).map_err(|error| error.to_string()),
                    Err(_) => Ok(Vec::new()), // the start was given up
                }
            };
            let thread = std::thread::Builder::new().name(format!("shard-{shard}")).spawn(body).map_err(|error| {
                fail(EXIT_RESOURCES)(format!(
                    "no thread for shard {shard}: {error}. Remedy: raise ulimit -u (TasksMax= in a unit) or ulimit -v"
                ))
            })?;
            threads.threads.push(thread);
            threads.starts.push(start);
            match is_ready.recv() {
                Ok(Ok(waker)) => threads.wakers.push(waker),
                Ok(Err(error)) => return Err(no_ring(shard, &error)),
                Err(_) => return Err(fail(EXIT_CRASH)(format!("shard {shard}: its thread ended"))),
            }
        }
        Ok(threads)
    }

    /// Starts the next shard in order.
    pub fn start(&mut self, start: Start) {
        let _ = self.starts[self.started].send(start);
        self.started += 1;
    }

    /// Whether all have ended, and whether one failed.
    pub fn reap(&mut self) -> (bool, bool) {
        let mut is_crashed = false;
        let mut running = Vec::new();
        for thread in self.threads.drain(..) {
            if !thread.is_finished() {
                running.push(thread);
                continue;
            }
            match thread.join() {
                Ok(Ok(lost)) => self.lost.extend(lost),
                Ok(Err(error)) => {
                    tracing::error!(error, "shard failed");
                    is_crashed = true;
                }
                Err(_) => {
                    tracing::error!("shard panicked");
                    is_crashed = true;
                }
            }
        }
        self.threads = running;
        (self.threads.is_empty(), is_crashed)
    }
}
