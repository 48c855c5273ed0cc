//! One WebSocket: a task that opens it, reads, writes and closes, and reports to the driver.
use crate::core::LinkId;
use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The longest message taken. The server keeps 1 MiB for a reader (`conn.out_queue_bytes`), unless told otherwise: sixteen times that.
const INBOUND_BYTES_MAX: usize = 16 << 20;
/// How long the other side may take for its close frame; the server waits as long (`ws.close_timeout_ms`).
const CLOSE: Duration = Duration::from_secs(5);
const SUBPROTOCOL: &str = "throng.v1";

/// Gone without a close frame, and closed by one without a code (RFC 6455, section 7.1.5).
const LOST: u16 = 1006;
const NO_CODE: u16 = 1005;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) enum Outgoing {
    Text(String),
    Close { code: u16, reason: &'static str },
}

pub(crate) enum Report {
    Opened,
    Text(Utf8Bytes),
    /// A binary message, which no server sends.
    Unreadable,
    Closed {
        code: u16,
        reason: String,
    },
}

/// How an end came about.
type End = (u16, String);

/// Runs until the connection has ended, which is its last report. Cut by dropping it.
pub(crate) async fn run(
    link: LinkId,
    url: String,
    tls: Tls,
    mut outgoing: Receiver<Outgoing>,
    reports: Sender<(LinkId, Report)>,
) {
    let socket = tokio::select! {
        // Before it is open, nothing can come but the wish to close.
        _ = outgoing.recv() => return,
        socket = open(&url, &tls) => socket,
    };
    let (code, reason) = match socket {
        // Nobody listens any more: the client is gone.
        Ok(_) if reports.send((link, Report::Opened)).await.is_err() => return,
        Ok(socket) => talk(link, socket, &mut outgoing, &reports).await,
        Err(error) => (LOST, error.to_string()),
    };
    let _ = reports.send((link, Report::Closed { code, reason })).await;
}

async fn open(url: &str, tls: &Tls) -> Result<Socket, Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    let config =
        WebSocketConfig::default().max_message_size(Some(INBOUND_BYTES_MAX)).max_frame_size(Some(INBOUND_BYTES_MAX));
    tls.connect(request, config).await
}

/// Reads and writes at the same time: neither waits for the other.
async fn talk(
    link: LinkId,
    socket: Socket,
    outgoing: &mut Receiver<Outgoing>,
    reports: &Sender<(LinkId, Report)>,
) -> End {
    let (mut sink, mut stream) = socket.split();
    let mut read = std::pin::pin!(async {
        loop {
            let report = match stream.next().await {
                Some(Ok(Message::Text(text))) => Report::Text(text),
                Some(Ok(Message::Binary(_))) => Report::Unreadable,
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Close(None))) => return (NO_CODE, String::new()),
                Some(Ok(_)) => continue, // pings are answered by the library
                Some(Err(error)) => return (LOST, error.to_string()),
                None => return (LOST, String::new()),
            };
            if reports.send((link, report)).await.is_err() {
                return (LOST, String::new());
            }
        }
    });
    let write = async {
        while let Some(first) = outgoing.recv().await {
            let mut next = Some(first);
            while let Some(Outgoing::Text(text)) = next {
                sink.feed(Message::text(text)).await?;
                next = outgoing.try_recv().ok();
            }
            if let Some(Outgoing::Close { code, reason }) = next {
                let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) };
                return sink.send(Message::Close(Some(frame))).await;
            }
            sink.flush().await?;
        }
        Ok(())
    };
    let end = tokio::select! {
        end = &mut read => end,
        written = write => match written {
            // The close frame is out: the other side's is waited for.
            Ok(()) => timeout(CLOSE, read).await.unwrap_or((LOST, String::new())),
            Err(error) => (LOST, error.to_string()),
        },
    };
    // Answers the other side's close frame.
    let _ = timeout(CLOSE, sink.close()).await;
    end
}

/// How `wss://` is done, if it can be.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    pub config: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl Tls {
    #[cfg(not(feature = "tls"))]
    async fn connect<R>(&self, request: R, config: WebSocketConfig) -> Result<Socket, Error>
    where
        R: IntoClientRequest + Unpin,
    {
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await?;
        Ok(socket)
    }

    #[cfg(feature = "tls")]
    async fn connect<R>(&self, request: R, config: WebSocketConfig) -> Result<Socket, Error>
    where
        R: IntoClientRequest + Unpin,
    {
        use tokio_tungstenite::{Connector, connect_async_tls_with_config};
        let connector = self.config.clone().map(Connector::Rustls);
        let (socket, _) = connect_async_tls_with_config(request, Some(config), true, connector).await?;
        Ok(socket)
    }

    /// The machine's trust store; only read if an address needs it.
    #[cfg(feature = "tls")]
    pub fn of_machine() -> Result<std::sync::Arc<rustls::ClientConfig>, crate::SetupError> {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(crate::SetupError::NoTrust(why.join("; ")));
        }
        // A provider of its own: the process may have installed none, or two may be built in.
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| crate::SetupError::NoTrust(error.to_string()))?;
        Ok(std::sync::Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}
