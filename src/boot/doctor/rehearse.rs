//! One connection's walk through a small ring: adopted, heard, answered, closed.
use crate::plane::{Completion, Plane, Received, Ring, RingOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Looks at the ring before it is given up on, and the time between two: two seconds.
const LOOKS: u32 = 400;
const PAUSE: Duration = Duration::from_millis(5);

/// What went wrong, if anything. Call it in a thread of its own.
pub fn rehearse() -> Result<(), String> {
    let options = RingOptions { slots: 4, buffers: 16, buffer_bytes: 256 };
    let mut ring = Ring::new(&options).map_err(|error| error.to_string())?;
    let (mut client, server) = UnixStream::pair().map_err(|error| format!("a pair of sockets: {error}"))?;
    client.set_read_timeout(Some(PAUSE * LOOKS)).map_err(|error| error.to_string())?;
    let slot = ring.adopt(server.into()).map_err(|_| "the ring does not take a socket")?;
    ring.submit();

    client.write_all(b"ping").map_err(|error| format!("writing: {error}"))?;
    let heard = until(&mut ring, |completion| match completion {
        Completion::Received { mut buffer, .. } => {
            let len = buffer.len();
            let is_ping = &buffer.bytes()[..len] == b"ping";
            Some((is_ping, Some(buffer)))
        }
        Completion::Ended { .. } => Some((false, None)),
        _ => None,
    });
    let (is_ping, buffer) = heard.ok_or("nothing is received")?;
    buffer.into_iter().for_each(|buffer| ring.give_back(buffer));
    if !is_ping {
        return Err("what is received is not what was sent".into());
    }

    let mut shortfalls = Vec::new();
    ring.send_batch([(slot, &b"pong"[..])].into_iter(), &mut shortfalls);
    let mut answer = [0; 4];
    client.read_exact(&mut answer).map_err(|error| format!("no answer: {error}"))?;
    if &answer != b"pong" || !shortfalls.is_empty() {
        return Err(format!("a send went wrong: {shortfalls:?}"));
    }

    ring.close(slot);
    let is_released =
        |completion| matches!(completion, Completion::Released { slot: freed } if freed == slot).then_some(());
    until(&mut ring, is_released).ok_or("a closed connection is not released")?;
    match client.read(&mut answer) {
        Ok(0) => Ok(()),
        other => Err(format!("the peer does not hear of the close: {other:?}")),
    }
}

/// The first completion that `pick` takes.
fn until<T>(ring: &mut Ring, pick: impl Fn(Completion<<Ring as Plane>::Buffer>) -> Option<T>) -> Option<T> {
    let mut completions = Vec::new();
    for _ in 0..LOOKS {
        ring.submit();
        ring.collect(&mut completions);
        if let Some(found) = completions.drain(..).find_map(&pick) {
            return Some(found);
        }
        std::thread::sleep(PAUSE);
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_connection_is_carried() {
        assert_eq!(std::thread::spawn(super::rehearse).join().expect("a thread"), Ok(()));
    }
}
