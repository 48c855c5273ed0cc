//! Key sets that change while the server runs (R-AUTH-2): read again every `auth.jwks_refresh_s`, and on an unknown `kid`
//! at most once in 30 s. Known keys outlive an outage: a source that fails keeps what it gave last.
//!
//! Three pieces: `KeySources` reads and remembers, `Schedule` says when, `JwksSource` is the thread that does both and
//! publishes each changed set as a whole. The thread is the only place of `auth` that reads a clock.
use super::jwk::{self, Origin};
use super::keys::{Key, KeySet};
use crate::limits;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Brings a document. May block for some seconds.
pub trait Fetch: Send {
    /// The text, or the cause for the log.
    fn fetch(&mut self) -> Result<String, String>;
}

impl<F: FnMut() -> Result<String, String> + Send> Fetch for F {
    fn fetch(&mut self) -> Result<String, String> {
        self()
    }
}

/// `auth.jwks_file`.
pub struct FileFetch(pub PathBuf);

impl Fetch for FileFetch {
    fn fetch(&mut self) -> Result<String, String> {
        let path = self.0.display();
        let size = fs::metadata(&self.0).map_err(|error| format!("{path}: {error}"))?.len();
        if size > limits::JWKS_BYTES_MAX {
            return Err(format!("{path}: {size} bytes; at most {} are read", limits::JWKS_BYTES_MAX));
        }
        fs::read_to_string(&self.0).map_err(|error| format!("{path}: {error}"))
    }
}

/// `auth.jwks_url`: HTTPS only, no redirect, at most `limits::JWKS_BYTES_MAX`, 10 s in all.
pub struct HttpsFetch {
    url: String,
    agent: ureq::Agent,
}

impl HttpsFetch {
    pub fn new(url: &str) -> HttpsFetch {
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .timeout_connect(Some(Duration::from_secs(5)))
            .user_agent(concat!("throng/", env!("CARGO_PKG_VERSION")))
            .build();
        HttpsFetch { url: url.into(), agent: config.into() }
    }
}

impl Fetch for HttpsFetch {
    fn fetch(&mut self) -> Result<String, String> {
        let named = |cause: &dyn std::fmt::Display| format!("auth.jwks_url: {cause}");
        let mut response = self.agent.get(&self.url).call().map_err(|error| named(&error))?;
        if response.status() != 200 {
            return Err(named(&format!("HTTP status {}", response.status().as_u16())));
        }
        response.body_mut().with_config().limit(limits::JWKS_BYTES_MAX).read_to_string().map_err(|error| named(&error))
    }
}

/// The keys that do not change, and the sources of those that may.
pub struct KeySources {
    fixed: Vec<Arc<Key>>,
    sources: Vec<Source>,
    version: u64,
}

struct Source {
    fetch: Box<dyn Fetch>,
    origin: Origin,
    document: String,
    keys: Vec<Arc<Key>>,
}

/// What one reading of all sources brought.
#[derive(Debug)]
pub struct Refreshed {
    /// The new set, if it differs from the last one.
    pub changed: Option<Arc<KeySet>>,
    /// Sources that failed: their keys stay.
    pub failures: Vec<String>,
    /// Keys left out of documents that were taken.
    pub left_out: Vec<String>,
}

impl KeySources {
    pub fn new(fixed: Vec<Arc<Key>>) -> KeySources {
        KeySources { fixed, sources: vec![], version: 0 }
    }

    pub fn add(&mut self, fetch: impl Fetch + 'static, origin: Origin) {
        self.sources.push(Source { fetch: Box::new(fetch), origin, document: String::new(), keys: vec![] });
    }

    /// Whether nothing can change: no thread is needed.
    pub fn is_fixed(&self) -> bool {
        self.sources.is_empty()
    }

    /// All keys known now.
    pub fn key_set(&self) -> Arc<KeySet> {
        let read = self.sources.iter().flat_map(|source| &source.keys);
        Arc::new(KeySet::new(self.fixed.iter().chain(read).cloned().collect(), self.version))
    }

    /// Reads every source once. Blocks.
    pub fn refresh(&mut self) -> Refreshed {
        let mut refreshed = Refreshed { changed: None, failures: vec![], left_out: vec![] };
        let mut is_changed = false;
        for source in &mut self.sources {
            let taken = source.fetch.fetch().and_then(|document| source.take(document));
            match taken {
                Ok(None) => {}
                Ok(Some(left_out)) => {
                    is_changed = true;
                    refreshed.left_out.extend(left_out);
                }
                Err(cause) => refreshed.failures.push(cause),
            }
        }
        if is_changed {
            self.version += 1;
            refreshed.changed = Some(self.key_set());
        }
        refreshed
    }
}

impl Source {
    /// `None`: the document is the one we have. A set without a usable key counts as a failure: it is a mishap of the
    /// provider far more often than a wish that nobody may sign in.
    fn take(&mut self, document: String) -> Result<Option<Vec<String>>, String> {
        if document == self.document {
            return Ok(None);
        }
        let parsed = jwk::parse(&document, self.origin)?;
        (self.document, self.keys) = (document, parsed.keys);
        Ok(Some(parsed.left_out))
    }
}

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
    use super::*;
    use std::sync::mpsc;
    use std::sync::mpsc::Receiver;

    fn document(kids: &[&str]) -> String {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let keys: Vec<_> =
            kids.iter().map(|kid| format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#)).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    fn kids(keys: &KeySet) -> Vec<&str> {
        keys.keys().iter().filter_map(|key| key.kid()).collect()
    }

    #[test]
    fn known_keys_outlive_an_outage_and_changes_are_published_once() {
        let mut answers = vec![
            Ok(document(&["a"])),
            Ok(document(&["a"])),
            Err("down".to_string()),
            Ok(r#"{"keys":[]}"#.into()),
            Ok("<html>".into()),
            Ok(document(&["b", "c"])),
        ]
        .into_iter();
        let fixed = Arc::new(Key::secret(Some("fixed"), &[1; 32]).unwrap());
        let mut sources = KeySources::new(vec![fixed]);
        sources.add(move || answers.next().unwrap(), Origin::Network);
        let first = sources.refresh().changed.unwrap();
        assert_eq!((kids(&first), first.version), (vec!["fixed", "a"], 1));
        assert!(sources.refresh().changed.is_none(), "the same document");
        for _ in 0..3 {
            let refreshed = sources.refresh();
            assert!(refreshed.changed.is_none() && refreshed.failures.len() == 1);
            assert_eq!(kids(&sources.key_set()), ["fixed", "a"]);
        }
        let last = sources.refresh().changed.unwrap();
        assert_eq!((kids(&last), last.version), (vec!["fixed", "b", "c"], 2));
    }

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

    #[test]
    fn files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        fs::write(&path, " ".repeat(1 << 20)).unwrap();
        assert!(FileFetch(path.clone()).fetch().is_ok());
        fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
        assert!(FileFetch(path).fetch().unwrap_err().contains("1048577 bytes"));
        assert!(FileFetch("/nonexistent".into()).fetch().is_err());
    }

    /// Nothing is asked for over plain HTTP, whatever a configuration says.
    #[test]
    fn plain_http_is_refused() {
        assert!(HttpsFetch::new("http://127.0.0.1:9/jwks").fetch().unwrap_err().starts_with("auth.jwks_url: "));
    }
}
