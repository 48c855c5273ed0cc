//! What the service pages ask of the rest of the process, answered over the shards' mailboxes.
use crate::base::mailbox::Sender;
use crate::services::Source;
use crate::shard::mail::Mail;
use crate::store::threads::{Monitor, Port};
use crate::telemetry::{ShardReport, StoreReport};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Longest wait for the store's threads.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);

pub struct ProcessSource {
    controls: Arc<[Sender<Mail>]>,
    store: Monitor,
    port: Port,
    is_started: AtomicBool,
    is_draining: AtomicBool,
}

impl ProcessSource {
    pub fn new(controls: Arc<[Sender<Mail>]>, store: Monitor, port: Port) -> ProcessSource {
        let flag = || AtomicBool::new(false);
        ProcessSource { controls, store, port, is_started: flag(), is_draining: flag() }
    }

    pub fn started(&self) {
        self.is_started.store(true, Relaxed);
    }

    pub fn draining(&self) {
        self.is_draining.store(true, Relaxed);
    }
}

impl Source for ProcessSource {
    fn shards(&self) -> u16 {
        self.controls.len() as u16
    }

    fn request(&self, shard: u16, reply: crossbeam_channel::Sender<Box<ShardReport>>) -> bool {
        let control = &self.controls[usize::from(shard)];
        let is_queued = control.push(Mail::Report(reply)).is_ok();
        control.ring();
        is_queued
    }

    fn store(&self) -> Option<StoreReport> {
        let stats = self.store.stats(STORE_TIMEOUT)?;
        Some(StoreReport {
            commit: stats.commit_ns,
            commits: stats.commits,
            jobs: stats.jobs,
            failures: stats.failed_jobs,
            queue_len: self.port.queue_len() as u64,
        })
    }

    fn store_ready(&self) -> bool {
        self.store.ready(STORE_TIMEOUT)
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    fn is_started(&self) -> bool {
        self.is_started.load(Relaxed)
    }
}
