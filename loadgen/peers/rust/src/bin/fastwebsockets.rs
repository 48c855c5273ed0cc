//! Peer: crate fastwebsockets, with a handshake of our own: its own one would bring an HTTP server along. Usage: fastwebsockets PORT
use bytes::Bytes;
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocketError, WebSocketWrite};
use throng_loadgen_peers::{Rooms, Session, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::{TcpStream, tcp::OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> std::io::Result<()> {
    run(|stream, rooms| async move {
        // However it ends, it ends this connection alone.
        let _ = serve(stream, rooms).await;
    })
}

/// A frame that the protocol itself demands (pong, echo of a close), and its opcode.
type Control = (OpCode, Vec<u8>);

async fn serve(mut stream: TcpStream, rooms: &Rooms) -> Result<(), Failure> {
    upgrade(&mut stream).await?;
    let (read, write) = stream.into_split();
    let write = BufWriter::with_capacity(2048, write);
    let (read, write) = fastwebsockets::after_handshake_split(read, write, Role::Server);
    let (outbox, outgoing) = unbounded_channel();
    let (controls, control) = unbounded_channel::<Control>();
    let mut session = Session::new(rooms, outbox);
    let mut read = FragmentCollectorRead::new(read);
    let reading = async {
        loop {
            let mut oblige = |frame: Frame<'_>| {
                let _ = controls.send((frame.opcode, frame.payload.to_vec()));
                std::future::ready(Ok::<(), WebSocketError>(()))
            };
            let frame = read.read_frame(&mut oblige).await?;
            match frame.opcode {
                OpCode::Text => session.message(&frame.payload)?,
                // Its echo ends the writing.
                OpCode::Close => std::future::pending().await,
                _ => {}
            }
        }
    };
    // Both stay where they are until one ends: neither may be dropped in the middle of a frame.
    tokio::select! {
        result = reading => result,
        result = writing(write, outgoing, control) => result,
    }
}

async fn writing(
    mut write: WebSocketWrite<BufWriter<OwnedWriteHalf>>,
    mut outgoing: UnboundedReceiver<Bytes>,
    mut control: UnboundedReceiver<Control>,
) -> Result<(), Failure> {
    loop {
        tokio::select! {
            Some(event) = outgoing.recv() => {
                // All that is there goes out with one write.
                write.write_frame(Frame::text(Payload::Borrowed(&event))).await?;
                while let Ok(event) = outgoing.try_recv() {
                    write.write_frame(Frame::text(Payload::Borrowed(&event))).await?;
                }
                write.flush().await?;
            }
            Some((opcode, payload)) = control.recv() => {
                write.write_frame(Frame::new(true, opcode, None, Payload::Borrowed(&payload))).await?;
                write.flush().await?;
                if opcode == OpCode::Close {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads the request and accepts it. Frames may not come before our answer, so nothing stands behind the head.
async fn upgrade(stream: &mut TcpStream) -> Result<(), Failure> {
    const HEAD_BYTES_MAX: usize = 8192;
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Err("no request".into());
        }
    }
    let head = std::str::from_utf8(&head)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let Some(key) = key else {
        stream.write_all(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n").await?;
        return Err("no upgrade".into());
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(())
}
