//! `throng serve`: starts everything in order, waits, and ends everything in the reverse order.
//!
//! Start: store → shards' rings (each in its own thread) → mailboxes between them all → services → listeners.
//! End (SIGTERM, SIGINT): shards drain and end → the store commits and delivers what it has → the services end → exit 0.
//! A second signal exits at once: whatever was acknowledged is on disk already (R-CONN-6).
use super::certificate::{self, CertificateWatch, Loaded};
use super::control::{Control, Event};
use super::key_watch::KeyWatch;
use super::lost_clients;
use super::options::{EXIT_AT_ONCE, EXIT_CRASH, EXIT_DATA, EXIT_USAGE, ServeOptions, StartError, fail, no_listener};
use super::post::{Post, post_until_taken};
use super::source::ProcessSource;
use super::tables::Tables;
use super::threads::ShardThreads;
use super::{reload, welcome};
use crate::auth::{ResumeKey, Settings as AuthSettings, Verifier};
use crate::base::mailbox::Bell;
use crate::config::Config;
use crate::config::Inputs;
use crate::ids::UlidSource;
use crate::plane::os;
use crate::services::{Services, ServicesOptions, Timeouts};
use crate::shard::host::Start;
use crate::shard::mail::Mail;
use crate::shard::{Addresses, Door, Parts, Totals};
use crate::store::port::{Reader, Writer};
use crate::store::sqlite::{self, OpenError, Sqlite};
use crate::store::threads::{Settings as StoreSettings, StoreThreads};
use crate::tls::Tickets;
use std::io::{ErrorKind, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Connections waiting to be accepted, per shard; the kernel caps it at net.core.somaxconn.
pub(super) const BACKLOG: i32 = 4_096;

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
    let descriptors = os::raise_nofile_limit();
    os::disable_huge_pages();
    let tables = Tables::of(&config, descriptors);
    let shards = tables.shards;
    let tickets = Tickets::new().map_err(|error| fail(EXIT_CRASH)(format!("session tickets: {error}")))?;
    let acceptor = match certificate::load(&config, &tickets, os::now().unix_ms / 1_000).map_err(fail(EXIT_USAGE))? {
        None => None,
        Some(Loaded { acceptor, warnings }) => {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            Some(acceptor)
        }
    };
    let listeners = listen(config.http.listen, shards).map_err(|error| no_listener(&error))?;
    let address = listeners[0].local_addr().map_err(|error| no_listener(&error))?;
    let tls_listeners = match config.http.tls_listen {
        None => Vec::new(),
        Some(address) => listen(address, shards).map_err(|error| no_listener(&error))?,
    };

    let store = open_store(&config)?;
    let resume_key = ResumeKey::load_or_create(&config.server.data_dir).map_err(|error| {
        fail(EXIT_DATA)(format!("{}: {error}", config.server.data_dir.join(ResumeKey::FILE).display()))
    })?;
    let mut threads = ShardThreads::prepare(&tables, &config)?;
    let bells: Vec<Arc<Bell>> = threads.wakers.drain(..).map(Bell::new).collect();
    let mut post = Post::new(&bells);

    let is_over = Arc::new(AtomicBool::new(false));
    let sinks = (0..shards).map(|shard| post.store_sink(shard, is_over.clone())).collect();
    let settings = StoreSettings {
        queue: config.store.queue as usize,
        batch_max: config.store.batch_max as usize,
        clock: Arc::new(os::now),
    };
    let store = StoreThreads::start(store.0, store.1, sinks, settings)
        .map_err(|error| fail(EXIT_CRASH)(format!("store threads: {error}")))?;

    let verifier = Arc::new(Verifier::new(AuthSettings::from(&config.auth), keys.keys));
    let mut key_watch = KeyWatch::start(keys.sources, &config, post.controls())
        .map_err(|error| fail(EXIT_CRASH)(format!("key refresh: {error}")))?;
    let mut certificate_watch = CertificateWatch::new(&config, tickets, post.controls());
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
    .map_err(|error| no_listener(&error))?;

    let capacity = tables.capacity();
    let addresses = Arc::new(Addresses::new(capacity as usize, &config.limits));
    let totals = Arc::new(Totals::default());
    let unknown_key = key_watch.unknown_key();
    let lost = lost_clients::take(&config.server.data_dir);
    let mut tls_listeners = tls_listeners.into_iter();
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
                ids: UlidSource::new(Box::new(os::os_random)),
            },
            bell: bell.clone(),
            listener,
            lost: lost.clone(),
            tls_listener: tls_listeners.next(),
            door: Door {
                trusted_proxies: trusted_proxies(&config),
                addresses: addresses.clone(),
                totals: totals.clone(),
                capacity,
                services: Box::new(move |stream, session, read, peer| hand_over.hand_over(stream, session, read, peer)),
                is_dev,
                acceptor: acceptor.clone(),
            },
        });
    }
    source.started();
    let rings = tables.rings;
    let tls = match (&acceptor, config.http.tls_listen) {
        (None, _) => "off".into(),
        (Some(_), None) => address.to_string(),
        (Some(_), Some(address)) => address.to_string(),
    };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(%address, tls, shards, rings, connections_max = capacity, version, "ready");
    if is_dev {
        welcome::print(&config, address);
    }

    let watches = (&mut key_watch, &mut certificate_watch);
    let is_crashed = wait(&control, &mut threads, &post, &source, &config, &inputs, watches, &totals, &addresses);
    is_over.store(true, Relaxed);
    lost_clients::keep(&config.server.data_dir, &threads.lost);
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
    (key_watch, certificate_watch): (&mut KeyWatch, &mut Option<CertificateWatch>),
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
                match certificate_watch.as_mut() {
                    Some(watch) => watch.reload(&config),
                    None if config.tls.cert_file.is_none() => {}
                    None => tracing::warn!(key = "tls.cert_file", "changed, but TLS begins with a restart only"),
                }
            }
            None => {}
        }
        if let Some(watch) = certificate_watch.as_mut() {
            watch.look();
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

fn trusted_proxies(config: &Config) -> Vec<ipnet::IpNet> {
    let parse = |text: &String| text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into)).ok();
    config.http.trusted_proxies.iter().filter_map(parse).collect()
}

/// One listener per shard on the same address. The first try is exclusive: another server on the port is found out.
fn listen(address: SocketAddr, shards: u16) -> std::io::Result<Vec<TcpListener>> {
    let address = free_address(address)?;
    (0..shards).map(|_| os::listener(address, true, BACKLOG)).collect()
}

/// The address, with its port if that is 0, once no other server listens on it: of one that was killed the kernel takes the rings
/// apart after its end, and the listeners that their requests hold with them.
fn free_address(address: SocketAddr) -> std::io::Result<SocketAddr> {
    const WAIT: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match os::listener(address, false, BACKLOG) {
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
        ids: UlidSource::new(Box::new(os::os_random)),
    };
    let mut store = Sqlite::open(&config.server.data_dir, options).map_err(data)?;
    let writer = store.writer().expect("a store that was just opened has its writer");
    let readers: Result<Vec<Box<dyn Reader>>, _> =
        (0..config.store.readers.max(1)).map(|_| store.reader().map(|reader| Box::new(reader) as _)).collect();
    Ok((Box::new(writer), readers.map_err(data)?))
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
