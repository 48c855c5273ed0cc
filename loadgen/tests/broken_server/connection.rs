//! One connection: the upgrade, the frames that come, and the frames that go.
use super::breakage::{Outgoing, write};
use super::{Shared, lock};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use tungstenite::handshake::derive_accept_key;

const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// Until it ends.
pub fn serve(mut stream: TcpStream, shared: &Arc<Shared>) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut input = BufReader::new(copy);
    if upgrade(&mut input, &mut stream).is_some() {
        let (outgoing, receiver) = channel();
        let writer = std::thread::spawn({
            let (copy, shared) = (stream.try_clone(), shared.clone());
            move || copy.map(|copy| write(copy, &receiver, &shared))
        });
        let connection = lock(&shared.rooms).connected(outgoing.clone());
        while let Some((opcode, payload)) = message(&mut input) {
            match opcode {
                1 => lock(&shared.rooms).command(connection, &String::from_utf8_lossy(&payload)),
                8 => {
                    let _ = outgoing.send(Outgoing::Close(frame(8, &payload)));
                    break;
                }
                9 => drop(outgoing.send(Outgoing::Answer(frame(10, &payload)))),
                _ => {}
            }
        }
        lock(&shared.rooms).disconnected(connection);
        drop(outgoing);
        let _ = writer.join();
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Reads the request and answers it; `None`: refused.
fn upgrade(input: &mut BufReader<TcpStream>, output: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 || head.len() > 100 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let path = head.first()?.split(' ').nth(1)?.split('?').next()?;
    let field = |name: &str| {
        let mut fields = head.iter().filter_map(|line| line.split_once(':'));
        fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
    };
    let Some(key) = field("Sec-WebSocket-Key").filter(|_| path == "/ws") else {
        let _ = output.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return None;
    };
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key.as_bytes())
    );
    if field("Sec-WebSocket-Protocol").is_some_and(|offered| offered.split(',').any(|name| name.trim() == "throng.v1"))
    {
        answer += "Sec-WebSocket-Protocol: throng.v1\r\n";
    }
    answer += "\r\n";
    output.write_all(answer.as_bytes()).ok()
}

/// The next whole message or control frame, unmasked; `None`: the connection is over.
fn message(input: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let (mut opcode, mut message) = (0, Vec::new());
    loop {
        let mut head = [0; 2];
        input.read_exact(&mut head).ok()?;
        let length = match head[1] & 127 {
            126 => u64::from(u16::from_be_bytes(take(input)?)),
            127 => u64::from_be_bytes(take(input)?),
            length => u64::from(length),
        };
        let is_masked = head[1] & 128 != 0;
        if !is_masked || length + message.len() as u64 > MESSAGE_BYTES_MAX {
            return None;
        }
        let mask: [u8; 4] = take(input)?;
        let mut payload = vec![0; length as usize];
        input.read_exact(&mut payload).ok()?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let (is_final, code) = (head[0] & 128 != 0, head[0] & 15);
        if code >= 8 {
            return Some((code, payload)); // between two fragments: not from our clients, and the rest would be lost
        }
        opcode = if code == 0 { opcode } else { code };
        message.extend(payload);
        if is_final {
            return Some((opcode, message));
        }
    }
}

fn take<const N: usize>(input: &mut impl Read) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// An unmasked frame, as servers send it.
pub fn frame(opcode: u8, payload: &[u8]) -> Arc<[u8]> {
    let mut frame = vec![128 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65_536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame.into()
}
