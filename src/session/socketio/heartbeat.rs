//! Who pings, and when the other is gone: the server in revision 4, the client in revision 3.
use super::Settings;
use crate::wire::engineio::Revision;

/// The state of one session's heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Monotonic ms: when to ping, or when the peer counts as gone.
    deadline_ms: u64,
    /// Whether the peer is to speak next: a pong is due, or in revision 3 a ping.
    is_peer_due: bool,
}

/// What a deadline asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Gone,
}

impl Heartbeat {
    pub fn new(settings: &Settings, revision: Revision, now_ms: u64) -> Heartbeat {
        match revision {
            Revision::V4 => Heartbeat { deadline_ms: now_ms + settings.ping_interval_ms, is_peer_due: false },
            // The client pings each interval; a ping that is a timeout late is lost.
            Revision::V3 => Heartbeat {
                deadline_ms: now_ms + settings.ping_interval_ms + settings.ping_timeout_ms,
                is_peer_due: true,
            },
        }
    }

    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// The client's ping (revision 3) or pong (revision 4). A pong that nobody asked for only moves the next ping.
    pub(super) fn heard(&mut self, settings: &Settings, revision: Revision, now_ms: u64) {
        *self = Heartbeat::new(settings, revision, now_ms);
    }

    pub(super) fn due(&mut self, settings: &Settings, now_ms: u64) -> Due {
        if now_ms < self.deadline_ms {
            return Due::Nothing;
        }
        if self.is_peer_due {
            return Due::Gone;
        }
        *self = Heartbeat { deadline_ms: now_ms + settings.ping_timeout_ms, is_peer_due: true };
        Due::Ping
    }
}
