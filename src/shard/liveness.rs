//! What time does to a connection: ping and pong, staleness, token expiry, write and close timeouts.
//!
//! An event stream's client never says anything, so its silence means nothing: it is sent a comment at each interval, and a peer that is
//! gone does not acknowledge it, which ends the TCP connection (`front_door`).
//!
//! Each connection has one timer in the wheel, set to its nearest deadline. Traffic does not move it: when it fires, it looks
//! at what happened meanwhile and is set anew, so a heartbeat costs one store and a busy connection no timer work.
use super::Core;
use super::conn::{NONE, Stage, flag};
use super::conns::is_virtual;
use crate::base::close::CloseCode;
use crate::limits::TICK_MS;
use crate::plane::{Plane, Slot};
use crate::telemetry::{AuthFailure, DropReason};

/// `token_expiring` goes out this long before the token ends, seconds (R-AUTH-4).
const EXPIRY_WARNING_S: u64 = 60;

/// Milliseconds as ticks, rounded up: nothing times out early.
pub fn ticks(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2)
}

/// What is to be done about a connection now.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Ping,
    WarnOfExpiry,
    Close(CloseCode),
    /// The peer did not answer the close frame in time.
    Finish,
}

impl<P: Plane> Core<P> {
    /// Sets the connection's timer to its nearest deadline.
    pub(super) fn schedule(&mut self, slot: Slot) {
        let (deadline, _) = self.next_due(slot);
        self.wheel.set(slot, deadline);
    }

    /// Moves the wheels and acts on what is due.
    pub(super) fn expire_connections(&mut self) {
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(self.tick, &mut expired);
        for slot in expired.drain(..) {
            self.connection_due(slot);
        }
        self.expired = expired;
    }

    fn connection_due(&mut self, slot: Slot) {
        if matches!(self.conns[slot as usize].stage, Stage::Free | Stage::Closed) {
            return;
        }
        let (deadline, due) = self.next_due(slot);
        if deadline > self.tick {
            self.wheel.set(slot, deadline);
            return;
        }
        match due {
            Due::Nothing => {}
            Due::Ping => {
                // Silence is the occasion: nothing else comes by a connection that has become idle.
                self.retire_active(slot);
                match self.is_stream(slot) {
                    true => {
                        // When it was last pinged: nothing is heard from it.
                        self.conns[slot as usize].heard = self.tick;
                        self.conns[slot as usize].flags |= flag::PING_DUE;
                    }
                    false => self.conns[slot as usize].flags |= flag::PINGED | flag::PING_DUE,
                }
                self.mark_dirty(slot);
                self.counters.pings_sent += 1;
            }
            Due::WarnOfExpiry => {
                self.conns[slot as usize].flags |= flag::EXPIRY_WARNED;
                let expires_at_ms = u64::from(self.conns[slot as usize].expires_at_s) * 1000;
                self.send_private(slot, |native, out, stamp| native.token_expiring(out, stamp, expires_at_ms));
            }
            Due::Close(code) => {
                match code {
                    CloseCode::SlowConsumer => self.counters.dropped.add(DropReason::WriteTimeout, 1),
                    CloseCode::TokenRequired => self.counters.auth_failures.add(AuthFailure::Missing, 1),
                    CloseCode::TokenExpired => self.counters.auth_failures.add(AuthFailure::Expired, 1),
                    _ => {}
                }
                self.close(slot, code);
                return; // it has set its own timer
            }
            Due::Finish => return self.finish(slot),
        }
        self.schedule(slot);
    }

    /// The nearest deadline and what it brings. A passed deadline is due now.
    fn next_due(&self, slot: Slot) -> (u32, Due) {
        let (conn, settings) = (&self.conns[slot as usize], &self.settings);
        let mut next = (u32::MAX / 2, Due::Nothing);
        // A timeout of 0 is off.
        let mut consider = |from: u32, timeout: u32, due: Due| {
            let deadline = from.saturating_add(timeout);
            if timeout != 0 && deadline < next.0 {
                next = (deadline, due);
            }
        };
        // What a virtual connection waits for is its transport, whose own deadlines are kept where that is.
        if conn.has(flag::BLOCKED) && conn.active != NONE && !is_virtual(slot) {
            let since = self.actives[conn.active as usize].blocked_since;
            let due = if conn.is_live() { Due::Close(CloseCode::SlowConsumer) } else { Due::Finish };
            consider(since, settings.write_timeout, due);
        }
        match conn.stage {
            Stage::Free | Stage::Closed | Stage::Echo => {}
            // Its session is what pings. A WebSocket that is still on trial has its time for it.
            Stage::Carrier if self.is_candidate(slot) => {
                consider(conn.spoke, settings.upgrade_timeout, Due::Close(CloseCode::Normal))
            }
            Stage::Carrier => {}
            Stage::Closing | Stage::Lingering => consider(conn.spoke, settings.close_timeout, Due::Finish),
            Stage::Greeting | Stage::SigningIn => {
                consider(conn.spoke, settings.auth_timeout, Due::Close(CloseCode::TokenRequired))
            }
            Stage::Open => {
                match conn.has(flag::PINGED) {
                    // The pongs of its session count as messages (product section 3.1).
                    _ if is_virtual(slot) => {}
                    false => consider(conn.heard, settings.ping_interval, Due::Ping),
                    true => consider(
                        conn.heard,
                        settings.ping_interval + settings.pong_timeout,
                        Due::Close(CloseCode::NoPong),
                    ),
                }
                if !is_virtual(slot) && !self.is_stream(slot) {
                    consider(conn.spoke, settings.stale, Due::Close(CloseCode::Stale));
                }
                let expires_ms = u64::from(conn.expires_at_s) * 1000;
                let (at_ms, due) = match conn.has(flag::EXPIRY_WARNED) {
                    // Before the time that the client was told, which knows no leeway.
                    false => (expires_ms.saturating_sub(EXPIRY_WARNING_S * 1000), Due::WarnOfExpiry),
                    // The same leeway as when the token was checked.
                    true => (expires_ms + settings.leeway_ms, Due::Close(CloseCode::TokenExpired)),
                };
                let at = self.tick.saturating_add(ticks(at_ms.saturating_sub(self.now.unix_ms)));
                if at < next.0 {
                    next = (at, due);
                }
            }
        }
        next
    }
}
