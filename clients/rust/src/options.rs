//! What a client can be told.
use crate::core::{ANSWER_MS, MESSAGE_BYTES_MAX, PROGRESS_MS, QUEUE_MAX, Random, Settings};
use crate::error::SetupError;
use crate::storage::CommandStorage;
use std::time::Duration;
use tokio_tungstenite::tungstenite::http::Uri;

/// Events that wait for the application before the client leaves some out: a second of a very busy room, a few MiB.
pub const EVENTS_MAX: usize = 4096;

/// Of a [`Client`](crate::Client). `Options::new(url)` has the defaults; change what is to be another.
#[non_exhaustive]
pub struct Options {
    /// `ws://…/ws`, or with the feature `tls` `wss://…/ws`.
    pub url: String,
    /// Retries in a row before the client gives up. None: unlimited.
    pub max_reconnect_attempts: Option<u32>,
    /// Durable commands that may wait at most (1000).
    pub queue_max: usize,
    /// Events that may wait for the application at most (4096). Beyond that live ones are left out, and rooms are recovered when the
    /// application takes events again.
    pub events_max: usize,
    /// Keeps waiting durable commands over restarts of the process. None: they end with it.
    pub storage: Option<Box<dyn CommandStorage>>,
    /// None: as the server says, which is 30 s.
    pub heartbeat: Option<Duration>,
    /// No frame so long after a heartbeat: reconnect (10 s).
    pub heartbeat_timeout: Duration,
    /// A connection attempt that makes no progress for so long is given up (15 s).
    pub connect_timeout: Duration,
    /// The server's `ws.max_message_bytes`, if it is another than 65 536.
    pub max_message_bytes: usize,
    /// For tests: numbers in [0, 1) in place of chance.
    pub random: Option<Random>,
    /// Whom to trust, in place of the machine's own store of certificates.
    #[cfg(feature = "tls")]
    pub tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl Options {
    /// The defaults of the product.
    pub fn new(url: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            max_reconnect_attempts: None,
            queue_max: QUEUE_MAX,
            events_max: EVENTS_MAX,
            storage: None,
            heartbeat: None,
            heartbeat_timeout: Duration::from_millis(ANSWER_MS),
            connect_timeout: Duration::from_millis(PROGRESS_MS),
            max_message_bytes: MESSAGE_BYTES_MAX,
            random: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Refuses what can never work.
    pub(crate) fn settings(&self) -> Result<Settings, SetupError> {
        check_url(&self.url)?;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(Settings {
            url: self.url.clone(),
            max_reconnect_attempts: self.max_reconnect_attempts,
            queue_max: self.queue_max,
            message_bytes_max: self.max_message_bytes,
            heartbeat_ms: self.heartbeat.map(ms),
            answer_ms: ms(self.heartbeat_timeout),
            progress_ms: ms(self.connect_timeout),
        })
    }
}

fn check_url(url: &str) -> Result<(), SetupError> {
    let bad = |why: String| Err(SetupError::BadUrl { url: url.to_owned(), why });
    let uri: Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => return bad(format!("{error}")),
    };
    match uri.scheme_str() {
        _ if uri.host().is_none_or(str::is_empty) => bad("it has no host".to_owned()),
        Some("ws") => Ok(()),
        Some("wss") if cfg!(feature = "tls") => Ok(()),
        Some("wss") => Err(SetupError::NoTls { url: url.to_owned() }),
        _ => bad(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_can_never_work_are_refused_with_a_remedy() {
        for url in ["", "localhost:8080", "http://localhost/ws", "ws://", "ws:///ws", "ws://a b/", "WS://host/ws"] {
            let error = Options::new(url).settings().expect_err(url).to_string();
            assert!(error.contains("give one like ws://"), "{url}: {error}");
        }
        for url in ["ws://localhost:8080/ws", "ws://[::1]/ws"] {
            assert!(Options::new(url).settings().is_ok(), "{url}");
        }
        let secure = Options::new("wss://localhost/ws").settings();
        assert_eq!(secure.is_ok(), cfg!(feature = "tls"));
    }
}
