//! Service pages over HTTP: health, metrics, statistics and, in development mode, a demo chat page (R-OPS-1, R-OPS-2).
//!
//! One thread with one tokio runtime, off the hot path: nothing that a shard does waits for it. A shard that reads a
//! request for one of these pages hands the connection over with the bytes read so far; `admin.listen` adds a listener of
//! its own. Every connection has a place, a deadline and a bound; numbers come from the shards by message, at most one
//! round at a time, and a shard that does not answer is reported as such.
//!
//! On the main door each connection serves one request: the next one might be meant for a shard.
mod access;
mod conn;
mod demo;
pub mod exposition;
mod flight;
mod listener;
pub mod metrics;
mod pages;
pub mod process;
mod secured;
mod source;
pub mod stats;

pub use conn::{Caller, Door, Timeouts};
pub use listener::{ADMIN_CONNECTIONS_MAX, HandOver, MAIN_CONNECTIONS_MAX, QUEUE_MAX, ServiceCounts};
pub use pages::OriginCheck;
pub use source::{Collected, REPORT_DEADLINE, ShardState, Source};

use crate::tls::Session;
use listener::Doorway;
use pages::Pages;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long requests that are being answered may take when the services end.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Threads for reports and probes: two kinds of work, one run of each at a time.
const BLOCKING_THREADS: usize = 2;

/// How to run the services.
pub struct ServicesOptions {
    /// `admin.listen`: the operator's pages are here, and nowhere else, if set.
    pub admin_listen: Option<SocketAddr>,
    /// `wire::http::origin_allowed`.
    pub origin_allowed: OriginCheck,
    /// `http.allowed_origins`.
    pub allowed_origins: Vec<String>,
    pub timeouts: Timeouts,
    /// Serve the demo chat page at `/`: development mode only.
    pub demo: bool,
    pub source: Arc<dyn Source>,
}

/// The running services. Dropping them stops them.
pub struct Services {
    hand_over: HandOver,
    admin_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Services {
    /// Binds `admin.listen` and starts the thread. Fails if the address cannot be bound or the thread not be made.
    pub fn start(options: ServicesOptions) -> io::Result<Services> {
        let admin = options.admin_listen.map(bind).transpose()?;
        let admin_addr = admin.as_ref().map(|listener| listener.local_addr()).transpose()?;
        let counts = Arc::new(ServiceCounts::default());
        let (hand_over, handed) = HandOver::new(counts.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("services-work")
            .build()?;
        let timeouts = options.timeouts;
        let pages = Arc::new(Pages {
            collector: source::Collector::new(options.source.clone()),
            source: options.source,
            counts,
            origin_allowed: options.origin_allowed,
            allowed_origins: options.allowed_origins,
            has_admin_door: admin.is_some(),
            has_demo: options.demo,
            started: Instant::now(),
        });
        let (stop, stopped) = watch::channel(false);
        let run = async move {
            // The listener belongs to the runtime's reactor, so it is made in here.
            let admin = admin.map(tokio::net::TcpListener::from_std).transpose();
            let admin =
                admin.inspect_err(|error| tracing::error!(%error, "admin.listen is not served")).unwrap_or(None);
            let main = serve(Doorway::main(handed, timeouts), pages.clone(), Door::Main, stopped.clone());
            let admin = async {
                if let Some(listener) = admin {
                    serve(Doorway::admin(listener, timeouts), pages.clone(), Door::Admin, stopped.clone()).await;
                }
            };
            tokio::join!(main, admin);
        };
        let body = move || {
            runtime.block_on(run);
            // A report or probe that hangs must not hang the exit.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("services".into()).spawn(body)?;
        Ok(Services { hand_over, admin_addr, stop, thread: Some(thread) })
    }

    /// What a shard keeps in order to pass connections on.
    pub fn hand_over_handle(&self) -> HandOver {
        self.hand_over.clone()
    }

    /// See [`HandOver::hand_over`].
    pub fn hand_over(
        &self,
        stream: TcpStream,
        session: Option<Box<Session>>,
        read_so_far: Vec<u8>,
        peer: SocketAddr,
    ) -> bool {
        self.hand_over.hand_over(stream, session, read_so_far, peer)
    }

    /// Where `admin.listen` is bound; differs from the option if that named port 0.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Takes no more connections, finishes the requests under way (for at most two seconds) and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the services' thread panicked");
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.end();
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("admin.listen = {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve(doorway: Doorway, pages: Arc<Pages>, door: Door, stopped: watch::Receiver<bool>) {
    let service = pages::router(pages, door).into_make_service_with_connect_info::<Caller>();
    let until = |mut stopped: watch::Receiver<bool>| async move {
        // An error means that the handle is gone, which is the same.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let served = axum::serve(doorway, service).with_graceful_shutdown(until(stopped.clone()));
    let limit = async {
        until(stopped).await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        result = served => {
            if let Err(error) = result {
                tracing::error!(%error, "services ended");
            }
        }
        () = limit => tracing::warn!("services ended with requests under way"),
    }
}
