//! The probe: a WebSocket that wants to take over from polling proves first that packets pass it both ways.
//!
//! `2probe` is answered by `3probe`; then the server ends the pending poll by a `6` (again for each further one), so that the client
//! can stop polling; `5` completes the upgrade, and only then does what is buffered go to the WebSocket. Anything else closes the
//! newcomer and leaves the session where it is. A client that needs no proof may say `5` at once, as to the reference.
use super::Packet;

/// How far a newcomer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Nothing came yet.
    #[default]
    Waiting,
    /// `3probe` has been sent.
    Answered,
}

/// What to do about a packet of the newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStep {
    /// Send `3probe` to the newcomer, and `6` to the poll that is pending or comes next.
    Answer,
    /// The session moves to the newcomer.
    Complete,
    /// Close the newcomer; the session stays on polling.
    Refuse,
}

impl Probe {
    /// The newcomer's next packet. The time that an upgrade may take, `sio.upgrade_timeout_ms`, is the caller's to keep.
    pub fn step(&mut self, packet: &Packet<'_>) -> ProbeStep {
        match (*self, packet) {
            (Probe::Waiting, Packet::Ping("probe")) => {
                *self = Probe::Answered;
                ProbeStep::Answer
            }
            // "Anything but a probe or an upgrade" is refused; a second probe is a probe.
            (Probe::Answered, Packet::Ping("probe")) => ProbeStep::Answer,
            (_, Packet::Upgrade) => ProbeStep::Complete,
            _ => ProbeStep::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_then_upgrade() {
        let mut probe = Probe::default();
        assert_eq!(probe.step(&Packet::Ping("probe")), ProbeStep::Answer);
        assert_eq!(probe.step(&Packet::Ping("probe")), ProbeStep::Answer);
        assert_eq!(probe.step(&Packet::Upgrade), ProbeStep::Complete);
        assert_eq!(Probe::Waiting.step(&Packet::Upgrade), ProbeStep::Complete);
    }

    #[test]
    fn anything_else_is_refused() {
        for packet in [Packet::Ping(""), Packet::Pong("probe"), Packet::Text("2"), Packet::Close] {
            assert_eq!(Probe::Waiting.step(&packet), ProbeStep::Refuse, "{packet:?}");
        }
        for packet in [Packet::Ping(""), Packet::Text("2"), Packet::Binary(b"x"), Packet::Noop] {
            assert_eq!(Probe::Answered.step(&packet), ProbeStep::Refuse, "{packet:?}");
        }
    }
}
