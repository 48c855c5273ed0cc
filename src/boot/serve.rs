//! `throng serve`: starts everything in order, waits, and ends everything in the reverse order.
//!
//! Start: store → shards' rings (each in its own thread) → mailboxes between them all → services → listeners.
//! End (SIGTERM, SIGINT): shards drain and end → the store commits and delivers what it has → the services end → exit 0.
//! A second signal exits at once: whatever was acknowledged is on disk already (R-CONN-6).
use super::cli::ServeOptions;
use super::control::{Control, Event};
use super::key_watch::KeyWatch;
use super::source::ProcessSource;
use super::{reload, welcome};
use crate::auth::{ResumeKey, Settings as AuthSettings, Verifier};
use crate::base::mailbox::{Bell, Sender, Wake, mailbox};
use crate::config::Config;
use crate::config::Inputs;
use crate::ids::UlidSource;
use crate::limits::{SHARDS_MAX, mailbox_capacity};
use crate::plane::{RingOptions, host};
use crate::services::{Services, ServicesOptions, Timeouts};
use crate::shard::host::{Prepared, Start, prepare};
use crate::shard::mail::Mail;
use crate::shard::mesh::Mesh;
use crate::shard::{Addresses, Door, Parts, Totals};
use crate::store::port::{Reader, Writer};
use crate::store::sqlite::{self, OpenError, Sqlite};
use crate::store::threads::{Settings as StoreSettings, Sink, StoreThreads};
use std::io::{ErrorKind, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Exit codes: 0 drained, 2 wrong command or configuration (`cli`), and these.
pub const EXIT_DATA: u8 = 3;
pub const EXIT_RING: u8 = 4;
pub const EXIT_LISTEN: u8 = 5;
pub const EXIT_CRASH: u8 = 70;
/// By a second signal.
pub const EXIT_AT_ONCE: u8 = 130;

/// Descriptors that are not connections: database, rings, listeners, services, handshakes in progress.
const DESCRIPTOR_RESERVE: u64 = 512;

/// Connections waiting to be accepted, per shard; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4_096;

/// What stops the start: the text names cause and remedy.
pub struct StartError {
    pub code: u8,
    pub text: String,
}

fn fail(code: u8) -> impl Fn(String) -> StartError {
    move |text| StartError { code, text }
}

/// Runs until a signal ends it.
pub fn run(options: ServeOptions) -> ExitCode {
    start_log(&options.config.server.log);
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throng: {}", error.text);
            ExitCode::from(error.code)
        }
    }
}

fn start_log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Already set when several servers run in one test process.
    let _ = log.try_init();
}

fn serve(options: ServeOptions) -> Result<(), StartError> {
    let ServeOptions { config, dev: is_dev, keys, inputs } = options;
    let config = Arc::new(config);
    // Before the first socket, so that nothing is lost if it is asked to end while starting.
    let control = Control::start().map_err(|error| fail(EXIT_CRASH)(format!("signals: {error}")))?;
    let descriptors = host::raise_nofile_limit();
    let shards = shard_count(&config);
    let slots = slots_per_shard(&config, descriptors);
    let listeners = listen(&config, shards).map_err(|error| fail(EXIT_LISTEN)(error.to_string()))?;
    let address = listeners[0].local_addr().map_err(|error| fail(EXIT_LISTEN)(error.to_string()))?;

    let store = open_store(&config)?;
    let resume_key = ResumeKey::load_or_create(&config.server.data_dir).map_err(|error| {
        fail(EXIT_DATA)(format!("{}: {error}", config.server.data_dir.join(ResumeKey::FILE).display()))
    })?;
    let mut threads = ShardThreads::prepare(shards, slots, &config)?;
    let bells: Vec<Arc<Bell>> = threads.wakers.drain(..).map(Bell::new).collect();
    let mut post = Post::new(&bells);

    let is_over = Arc::new(AtomicBool::new(false));
    let sinks = (0..shards).map(|shard| post.store_sink(shard, is_over.clone())).collect();
    let settings = StoreSettings {
        queue: config.store.queue as usize,
        batch_max: config.store.batch_max as usize,
        clock: Arc::new(host::now),
    };
    let store = StoreThreads::start(store.0, store.1, sinks, settings)
        .map_err(|error| fail(EXIT_CRASH)(format!("store threads: {error}")))?;

    let verifier = Arc::new(Verifier::new(AuthSettings::from(&config.auth), keys.keys));
    let mut key_watch = KeyWatch::start(keys.sources, &config, post.controls())
        .map_err(|error| fail(EXIT_CRASH)(format!("key refresh: {error}")))?;
    let source = Arc::new(ProcessSource::new(post.controls(), store.monitor(), store.port()));
    let services = Services::start(ServicesOptions {
        admin_listen: config.admin.listen,
        origin_allowed: crate::wire::http::origin_allowed,
        allowed_origins: config.http.allowed_origins.clone(),
        timeouts: Timeouts {
            request: Duration::from_millis(config.http.head_timeout_ms),
            idle: Duration::from_secs(60),
        },
        demo: is_dev,
        source: source.clone(),
    })
    .map_err(|error| fail(EXIT_LISTEN)(error.to_string()))?;

    let capacity = u64::from(slots) * u64::from(shards);
    let addresses = Arc::new(Addresses::new(capacity as usize, &config.limits));
    let totals = Arc::new(Totals::default());
    let unknown_key = key_watch.unknown_key();
    for (shard, (listener, bell)) in (0..shards).zip(listeners.into_iter().zip(&bells)) {
        let hand_over = services.hand_over_handle();
        threads.start(Start {
            parts: Parts {
                id: shard,
                shards,
                config: config.clone(),
                verifier: verifier.clone(),
                resume_key: resume_key.clone(),
                unknown_key: unknown_key.clone(),
                addresses: addresses.clone(),
                totals: totals.clone(),
                mesh: post.mesh(shard),
                store: Box::new(store.port()),
                ids: UlidSource::new(Box::new(host::os_random)),
            },
            bell: bell.clone(),
            listener,
            door: Door {
                trusted_proxies: trusted_proxies(&config),
                addresses: addresses.clone(),
                totals: totals.clone(),
                capacity,
                services: Box::new(move |stream, read, peer| hand_over.hand_over(stream, read, peer)),
                is_dev,
            },
        });
    }
    source.started();
    tracing::info!(%address, shards, connections_max = capacity, version = env!("CARGO_PKG_VERSION"), "ready");
    if is_dev {
        welcome::print(&config, address);
    }

    let is_crashed =
        wait(&control, &mut threads, &post, &source, &config, &inputs, &mut key_watch, &totals, &addresses);
    is_over.store(true, Relaxed);
    store.flush_and_stop();
    services.stop();
    drop(key_watch);
    match is_crashed {
        true => Err(fail(EXIT_CRASH)("a shard failed; everything acknowledged is stored".into())),
        false => {
            tracing::info!("stopped");
            Ok(())
        }
    }
}

#[allow(clippy::too_many_arguments)] // what a running process consists of
/// Waits for signals and for the shards' end. True if a shard failed.
fn wait(
    control: &Control,
    threads: &mut ShardThreads,
    post: &Post,
    source: &ProcessSource,
    config: &Config,
    inputs: &Inputs,
    key_watch: &mut KeyWatch,
    totals: &Totals,
    addresses: &Addresses,
) -> bool {
    let mut is_draining = false;
    let mut config = config.clone();
    loop {
        match control.next(Duration::from_millis(100)) {
            Some(Event::Stop) if is_draining => {
                tracing::warn!("second signal: exit at once; everything acknowledged is stored");
                std::process::exit(EXIT_AT_ONCE.into());
            }
            Some(Event::Stop) => {
                is_draining = true;
                source.draining();
                tracing::info!(
                    connections = totals.connections(),
                    deadline_ms = config.drain.deadline_ms,
                    "draining; a second signal exits at once"
                );
                post.controls().iter().for_each(|control| post_until_taken(control, Mail::Drain));
            }
            Some(Event::Reload) => {
                if let Some(next) = reload::reload(&config, inputs) {
                    config = next;
                    addresses.configure(&config.limits);
                    let shared = Arc::new(config.clone());
                    let all = post.controls();
                    all.iter().for_each(|control| post_until_taken(control, Mail::Config(shared.clone())));
                }
                // Also if the configuration is the same: files may hold other keys by now.
                key_watch.reload(&config, inputs.dev);
            }
            None => {}
        }
        let (ended, is_crashed) = threads.reap();
        if is_crashed {
            return true;
        }
        if ended {
            return false;
        }
    }
}

/// A mailbox of a running shard empties within milliseconds.
pub(super) fn post_until_taken(control: &Sender<Mail>, mut mail: Mail) {
    for _ in 0..1_000 {
        match control.push(mail) {
            Ok(()) => return control.ring(),
            Err(back) => mail = back,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    tracing::error!("a shard does not read its mail");
}

fn shard_count(config: &Config) -> u16 {
    match config.server.shards {
        0 => host::available_cores().len().clamp(1, SHARDS_MAX.into()) as u16,
        shards => shards.min(SHARDS_MAX.into()) as u16,
    }
}

/// A ring's table has at most RLIMIT_NOFILE rows, and a connection in the table needs no other descriptor.
fn slots_per_shard(config: &Config, descriptors: u64) -> u32 {
    let most = descriptors.saturating_sub(DESCRIPTOR_RESERVE).max(64);
    match config.plane.connections_per_shard {
        0 => most as u32,
        slots => slots.min(descriptors) as u32,
    }
}

fn trusted_proxies(config: &Config) -> Vec<ipnet::IpNet> {
    let parse = |text: &String| text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into)).ok();
    config.http.trusted_proxies.iter().filter_map(parse).collect()
}

/// One listener per shard on the same address. The first try is exclusive: another server on the port is found out.
fn listen(config: &Config, shards: u16) -> std::io::Result<Vec<TcpListener>> {
    let address = free_address(config.http.listen)?;
    (0..shards).map(|_| host::listener(address, true, BACKLOG)).collect()
}

/// The address, with its port if that is 0, once no other server listens on it: of one that was killed the kernel takes the rings
/// apart after its end, and the listeners that their requests hold with them.
fn free_address(address: SocketAddr) -> std::io::Result<SocketAddr> {
    const WAIT: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match host::listener(address, false, BACKLOG) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && waited < WAIT => {
                if waited.is_zero() {
                    tracing::warn!(%address, "the port is in use; waiting up to 2 s for a former server to release it");
                }
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            listener => return listener?.local_addr(),
        }
    }
}

type Opened = (Box<dyn Writer>, Vec<Box<dyn Reader>>);

fn open_store(config: &Config) -> Result<Opened, StartError> {
    let folder = config.server.data_dir.display();
    let data = |error: OpenError| {
        fail(EXIT_DATA)(match error {
            OpenError::InUse(_) => format!("{error}; stop it, or choose another folder with --data-dir"),
            OpenError::File { .. } => format!("{error}; the server must read and write in the folder of --data-dir"),
            OpenError::TooNew { .. } => format!("{folder}: {error}, or choose another folder with --data-dir"),
            OpenError::Database(_) => {
                format!("{folder}: {error}; restore a backup, or choose another folder with --data-dir")
            }
        })
    };
    let options = sqlite::Options {
        dedupe_s: config.chat.dedupe_s,
        retention_days: config.history.retention_days,
        ids: UlidSource::new(Box::new(host::os_random)),
    };
    let mut store = Sqlite::open(&config.server.data_dir, options).map_err(data)?;
    let writer = store.writer().expect("a store that was just opened has its writer");
    let readers: Result<Vec<Box<dyn Reader>>, _> =
        (0..config.store.readers.max(1)).map(|_| store.reader().map(|reader| Box::new(reader) as _)).collect();
    Ok((Box::new(writer), readers.map_err(data)?))
}

/// All mailboxes of all shards.
struct Post {
    meshes: Vec<Option<Mesh>>,
    stores: Vec<Sender<Mail>>,
    controls: Arc<[Sender<Mail>]>,
}

impl Post {
    fn new(bells: &[Arc<Bell>]) -> Post {
        let (count, capacity) = (bells.len(), mailbox_capacity(bells.len()));
        let mut out: Vec<Vec<Option<Sender<Mail>>>> = (0..count).map(|_| Vec::new()).collect();
        let mut inboxes: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for (from, out) in out.iter_mut().enumerate() {
            for (to, (bell, inboxes)) in bells.iter().zip(&mut inboxes).enumerate() {
                out.push((from != to).then(|| {
                    let (sender, receiver) = mailbox(capacity, bell);
                    inboxes.push(receiver);
                    sender
                }));
            }
        }
        let mut others = || -> Vec<Sender<Mail>> {
            let pairs = bells.iter().map(|bell| mailbox(capacity, bell));
            pairs.zip(&mut inboxes).map(|((sender, receiver), inboxes)| (sender, inboxes.push(receiver)).0).collect()
        };
        let (stores, controls) = (others(), others().into());
        let meshes = out.into_iter().zip(inboxes).map(|(out, inboxes)| Some(Mesh::new(out, inboxes))).collect();
        Post { meshes, stores, controls }
    }

    fn mesh(&mut self, shard: u16) -> Mesh {
        self.meshes[usize::from(shard)].take().expect("each shard takes its mesh once")
    }

    fn controls(&self) -> Arc<[Sender<Mail>]> {
        self.controls.clone()
    }

    /// After `is_over` the shards read no mail any more, and what comes is nobody's.
    fn store_sink(&self, shard: u16, is_over: Arc<AtomicBool>) -> Sink {
        let mailbox = self.stores[usize::from(shard)].clone();
        Box::new(move |finished| match mailbox.push(Mail::Stored(finished)) {
            Ok(()) => {
                mailbox.ring();
                Ok(())
            }
            Err(_) if is_over.load(Relaxed) => Ok(()),
            Err(Mail::Stored(finished)) => Err(finished),
            Err(_) => unreachable!("a full mailbox gives back what was pushed"),
        })
    }
}

/// The shards' threads, between their preparation and their end.
struct ShardThreads {
    wakers: Vec<Box<dyn Wake>>,
    starts: Vec<crossbeam_channel::Sender<Start>>,
    threads: Vec<JoinHandle<Result<(), String>>>,
    started: usize,
}

impl ShardThreads {
    /// Makes each ring in its own thread, pinned to a core if there are no more shards than cores.
    fn prepare(shards: u16, slots: u32, config: &Config) -> Result<ShardThreads, StartError> {
        let cores = host::available_cores();
        let mut threads = ShardThreads { wakers: Vec::new(), starts: Vec::new(), threads: Vec::new(), started: 0 };
        for shard in 0..shards {
            let (ready, is_ready) = crossbeam_channel::bounded(1);
            let (start, starts) = crossbeam_channel::bounded::<Start>(1);
            let options = RingOptions {
                slots,
                buffers: config.plane.receive_buffers as u32,
                buffer_bytes: config.plane.receive_buffer_bytes as u32,
            };
            let core = (usize::from(shards) <= cores.len()).then(|| cores[usize::from(shard)]);
            let body = move || -> Result<(), String> {
                if let Some(core) = core
                    && let Err(error) = host::pin_to_core(core)
                {
                    tracing::warn!(core, %error, "cannot pin the shard to its core");
                }
                let prepared: Prepared = match prepare(&options) {
                    Ok((prepared, waker)) => {
                        let _ = ready.send(Ok(waker));
                        prepared
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return Ok(());
                    }
                };
                match starts.recv() {
                    Ok(start) => prepared.run(start).map_err(|error| error.to_string()),
                    Err(_) => Ok(()), // the start was given up
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("shard-{shard}"))
                .spawn(body)
                .map_err(|error| fail(EXIT_CRASH)(format!("shard thread: {error}")))?;
            threads.threads.push(thread);
            threads.starts.push(start);
            match is_ready.recv() {
                Ok(Ok(waker)) => threads.wakers.push(waker),
                Ok(Err(error)) => return Err(fail(EXIT_RING)(format!("shard {shard}: {error}"))),
                Err(_) => return Err(fail(EXIT_RING)(format!("shard {shard}: its thread ended"))),
            }
        }
        Ok(threads)
    }

    /// Starts the next shard in order.
    fn start(&mut self, start: Start) {
        let _ = self.starts[self.started].send(start);
        self.started += 1;
    }

    /// Whether all have ended, and whether one failed.
    fn reap(&mut self) -> (bool, bool) {
        let mut is_crashed = false;
        let mut running = Vec::new();
        for thread in self.threads.drain(..) {
            if !thread.is_finished() {
                running.push(thread);
                continue;
            }
            match thread.join() {
                Ok(Ok(())) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports below the ephemeral ones, different for tests that run at the same time.
    fn occupied() -> (TcpListener, SocketAddr) {
        let first = 20_000 + (std::process::id() % 1_000) as u16 * 10;
        let open = |port| TcpListener::bind(("127.0.0.1", port)).ok();
        let other = (first..first + 1_000).find_map(open).expect("a free port");
        let address = other.local_addr().unwrap();
        (other, address)
    }

    #[test]
    fn a_port_that_is_released_soon_is_waited_for() {
        let (former, address) = occupied();
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(former);
        });
        assert_eq!(free_address(address).unwrap(), address);
        release.join().unwrap();
    }

    #[test]
    fn a_port_that_stays_in_use_is_an_error() {
        let (_other, address) = occupied();
        let error = free_address(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("is another server running?"), "{error}");
    }
}
