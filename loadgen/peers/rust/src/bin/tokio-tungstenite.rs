//! Peer: crate tokio-tungstenite. Usage: tokio-tungstenite PORT
use futures_util::{SinkExt, StreamExt};
use throng_loadgen_peers::{Rooms, Session, run};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

fn main() -> std::io::Result<()> {
    run(|stream, rooms| async move {
        // However it ends, it ends this connection alone.
        let _ = serve(stream, rooms).await;
    })
}

async fn serve(stream: TcpStream, rooms: &Rooms) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // The default of 128 KiB for reading would be the whole of an idle connection's memory.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    let (outbox, mut outgoing) = unbounded_channel();
    let mut session = Session::new(rooms, outbox);
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => match message? {
                    Message::Text(text) => session.message(text.as_bytes())?,
                    Message::Close(_) => {
                        // The answer to it is written by going on until the end.
                        while socket.next().await.is_some() {}
                        return Ok(());
                    }
                    _ => {}
                },
                None => return Ok(()),
            },
            Some(event) = outgoing.recv() => {
                // All that is there goes out with one write.
                socket.feed(Message::Text(Utf8Bytes::try_from(event)?)).await?;
                while let Ok(event) = outgoing.try_recv() {
                    socket.feed(Message::Text(Utf8Bytes::try_from(event)?)).await?;
                }
                socket.flush().await?;
            }
        }
    }
}
