//! The thread that keeps key sets fresh (R-AUTH-2): it reads the sources every `auth.jwks_refresh_s`, and on an unknown
//! `kid` at most once in 30 s, and publishes each changed set as a whole. The only place of `auth` that reads a clock.
use super::keys::KeySet;
use super::sources::KeySources;
use crate::limits;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// When to read next, in monotonic milliseconds.
#[derive(Clone, Debug)]
pub struct Schedule {
    refresh_ms: u64,
    last_ms: u64,
    failures: u32,
    is_wanted: bool,
}

/// First wait after a failure, ms; doubles up to `limits::JWKS_UNKNOWN_KID_MS`.
const RETRY_MS: u64 = 2_000;

impl Schedule {
    /// `now_ms`: when the sources were read for the first time.
    pub fn new(refresh_ms: u64, now_ms: u64) -> Schedule {
        Schedule { refresh_ms, last_ms: now_ms, failures: 0, is_wanted: false }
    }

    /// Somebody showed a token of an unknown key.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Milliseconds until the next reading; 0: now.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        let mut after_ms = self.refresh_ms;
        if self.is_wanted {
            after_ms = after_ms.min(limits::JWKS_UNKNOWN_KID_MS);
        }
        if self.failures > 0 {
            let retry_ms = RETRY_MS << (self.failures - 1).min(4);
            after_ms = after_ms.min(retry_ms.min(limits::JWKS_UNKNOWN_KID_MS));
        }
        (self.last_ms + after_ms).saturating_sub(now_ms)
    }

    /// A reading ended.
    pub fn done(&mut self, now_ms: u64, is_ok: bool) {
        self.last_ms = now_ms;
        self.failures = if is_ok { 0 } else { self.failures.saturating_add(1) };
        self.is_wanted = false;
    }
}

/// The thread that keeps the keys fresh. Dropping it ends the thread at its next step.
pub struct JwksSource {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_wanted: AtomicBool,
    is_stopping: AtomicBool,
}

/// Tells the thread of an unknown key. Shards hold one each.
#[derive(Clone)]
pub struct RefreshRequest {
    shared: Arc<Shared>,
    thread: Thread,
}

impl RefreshRequest {
    /// Never blocks. Costs one atomic, and one wake in each 30 s at most.
    pub fn unknown_key(&self) {
        if !self.shared.is_wanted.swap(true, Relaxed) {
            self.thread.unpark();
        }
    }
}

impl JwksSource {
    /// `sources` were read once already. `publish` runs on the thread, for each changed set.
    pub fn start(
        sources: KeySources,
        refresh_s: u64,
        publish: impl Fn(Arc<KeySet>) + Send + 'static,
    ) -> io::Result<JwksSource> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let handle = thread::Builder::new()
            .name("jwks".into())
            .spawn(move || run(sources, refresh_s.saturating_mul(1_000), &of_thread, publish))?;
        Ok(JwksSource { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    pub fn request(&self) -> RefreshRequest {
        RefreshRequest { shared: self.shared.clone(), thread: self.thread.clone() }
    }

    /// Ends the thread and waits for it: up to 10 s if it is reading.
    pub fn stop(mut self) {
        self.end();
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }

    fn end(&self) {
        self.shared.is_stopping.store(true, Relaxed);
        self.thread.unpark();
    }
}

impl Drop for JwksSource {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(mut sources: KeySources, refresh_ms: u64, shared: &Shared, publish: impl Fn(Arc<KeySet>)) {
    let start = Instant::now();
    let now_ms = || start.elapsed().as_millis() as u64;
    let mut schedule = Schedule::new(refresh_ms, now_ms());
    while !shared.is_stopping.load(Relaxed) {
        if shared.is_wanted.load(Relaxed) {
            schedule.want();
        }
        let wait_ms = schedule.wait_ms(now_ms());
        if wait_ms > 0 {
            thread::park_timeout(Duration::from_millis(wait_ms));
            continue;
        }
        let refreshed = sources.refresh();
        schedule.done(now_ms(), refreshed.failures.is_empty());
        // Only now: requests that came while the old set was in use are answered by this reading.
        shared.is_wanted.store(false, Relaxed);
        for cause in &refreshed.failures {
            tracing::warn!("{cause}; the keys known so far stay in use");
        }
        for key in &refreshed.left_out {
            tracing::debug!("key set: {key}");
        }
        if let Some(keys) = refreshed.changed {
            tracing::info!(keys = keys.keys().len(), version = keys.version, "new verification keys");
            publish(keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::jwk::Origin;
    use super::super::sources::tests::{document, kids};
    use super::*;
    use std::sync::mpsc;
    use std::sync::mpsc::Receiver;

    #[test]
    fn unknown_kids_bring_at_most_one_reading_in_30_s() {
        let mut schedule = Schedule::new(300_000, 0);
        assert_eq!(schedule.wait_ms(0), 300_000);
        schedule.want();
        assert_eq!((schedule.wait_ms(0), schedule.wait_ms(30_000)), (30_000, 0));
        schedule.done(31_000, true);
        assert_eq!(schedule.wait_ms(31_000), 300_000);
        schedule.want();
        schedule.want();
        assert_eq!(schedule.wait_ms(31_000), 30_000);
        assert_eq!(schedule.wait_ms(200_000), 0, "the last reading is long ago: at once");
    }

    #[test]
    fn failures_are_retried_with_growing_waits() {
        let mut schedule = Schedule::new(300_000, 0);
        let mut waits = vec![];
        for _ in 0..40 {
            schedule.done(0, false);
            waits.push(schedule.wait_ms(0));
        }
        assert_eq!(waits[..6], [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(waits[39], 30_000);
        schedule.done(0, true);
        assert_eq!(schedule.wait_ms(0), 300_000);
    }

    /// The thread reads by itself, publishes what changed, and ends when told. A refresh of 0 s reads without pause.
    #[test]
    fn the_thread_publishes_new_sets() {
        let (feed, answers): (_, Receiver<Result<String, String>>) = mpsc::channel();
        let mut sources = KeySources::new(vec![]);
        sources.add(move || answers.recv().unwrap_or(Err("closed".into())), Origin::Network);
        feed.send(Ok(document(&["a"]))).unwrap();
        assert!(sources.refresh().changed.is_some());
        let (publish, published) = mpsc::channel();
        let source = JwksSource::start(sources, 0, move |keys| drop(publish.send(keys))).unwrap();
        source.request().unknown_key();
        for (index, name) in ["b", "c"].into_iter().enumerate() {
            feed.send(Ok(document(&[name]))).unwrap();
            let keys = published.recv().unwrap();
            assert_eq!((kids(&keys), keys.version), (vec![name], index as u64 + 2));
        }
        drop(feed);
        source.stop();
        assert!(published.try_recv().is_err());
    }
}
