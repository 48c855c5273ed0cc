//! The life of a connection on its shard: opened, closed for a reason, ended by its peer, released.
//!
//! Every way out goes through `leave` (rooms, user) once and `finish` (socket) once, so nothing is left behind.
use super::conn::{Active, Conn, NONE, Stage, flag};
use super::conns::is_virtual;
use super::formats::Formats;
use super::mail::Parting;
use super::{Core, Departure};
use crate::auth::Identity;
use crate::base::close::CloseCode;
use crate::ids::ConnRef;
use crate::plane::{End, Plane, Slot};
use crate::session::format::Format;
use crate::telemetry::Ending;
use crate::tls::Session;
use slab::Slab;

/// What the front door hands over together with an accepted socket.
pub struct Opening {
    /// Bytes to be sent first: the 101 response.
    pub response: Vec<u8>,
    /// Who it is, if the request carried a token.
    pub identity: Option<Identity>,
    /// What it is to be sent.
    pub format: Format,
    /// What its bytes are sealed by; None without TLS.
    pub session: Option<Box<Session>>,
    /// Bytes that came behind the request.
    pub received: Vec<u8>,
    /// Entry in `Addresses` that counts it, if any; released with the connection.
    pub address: Option<u32>,
    /// Monotonic ns when it was accepted: for the handshake histogram.
    pub accepted_at_ns: u64,
    pub is_echo: bool,
}

/// Buffers of outboxes and assemblies, kept for reuse.
#[derive(Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
}

impl BufferPool {
    /// Buffers kept. A turn uses at most a few thousand.
    const FREE_MAX: usize = 256;
    /// Larger ones go back to the allocator, so that a burst's memory is not kept (a usual outbox is a few hundred bytes).
    const KEEP_BYTES_MAX: usize = 2 << 10;

    pub fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// Gives free buffers back to the allocator.
    pub fn trim(&mut self) {
        self.free = Vec::new();
    }

    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= Self::KEEP_BYTES_MAX && self.free.len() < Self::FREE_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

/// The side record of a connection, made if there is none.
pub fn activate<'a>(actives: &'a mut Slab<Active>, conn: &mut Conn) -> &'a mut Active {
    if conn.active == NONE {
        conn.active = actives.insert(Active::default()) as u32;
    }
    &mut actives[conn.active as usize]
}

impl<P: Plane> Core<P> {
    pub(super) fn conn_ref(&self, slot: Slot) -> ConnRef {
        ConnRef { slot, generation: self.conns[slot as usize].generation, shard: self.id }
    }

    /// The slot of a reference, if that connection is still live.
    pub(super) fn live(&self, conn: ConnRef) -> Option<Slot> {
        let record = self.conns.get(conn.slot as usize)?;
        (conn.shard == self.id && record.generation == conn.generation && record.is_live()).then_some(conn.slot)
    }

    pub(super) fn active(&mut self, slot: Slot) -> &mut Active {
        activate(&mut self.actives, &mut self.conns[slot as usize])
    }

    /// Where private bytes of a connection are appended. It is listed for the next flush.
    pub(super) fn outbox(&mut self, slot: Slot) -> &mut Vec<u8> {
        self.mark_dirty(slot);
        let active = activate(&mut self.actives, &mut self.conns[slot as usize]);
        if active.outbox.bytes.capacity() == 0 {
            active.outbox.bytes = self.buffers.take();
        }
        &mut active.outbox.bytes
    }

    /// Drops the side record if nothing in it must be remembered.
    pub(super) fn retire_active(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        if conn.active != NONE && self.actives[conn.active as usize].is_idle(self.now.mono_ns, self.now.mono_ms()) {
            let active = self.actives.remove(conn.active as usize);
            conn.active = NONE;
            self.buffers.give_back(active.assembly);
            self.buffers.give_back(active.outbox.bytes);
        }
    }

    /// Has the side record looked at in later ticks: a bucket in it was drawn from, and nothing else may come by.
    pub(super) fn cool(&mut self, slot: Slot) {
        if !std::mem::replace(&mut self.active(slot).is_cooling, true) {
            self.cooling.push(slot);
        }
    }

    /// One tick: drops the side records that were kept for a bucket alone.
    pub(super) fn retire_cooled(&mut self) {
        let mut cooling = std::mem::take(&mut self.cooling);
        let (now_ns, now_ms) = (self.now.mono_ns, self.now.mono_ms());
        cooling.retain(|slot| {
            let conn = &self.conns[*slot as usize];
            // The record may have gone with its connection, and the slot may be another's by now.
            if conn.active == NONE || !self.actives[conn.active as usize].is_cooling {
                return false;
            }
            let active = &mut self.actives[conn.active as usize];
            active.is_cooling = !active.is_cool(now_ns, now_ms);
            if active.is_cooling {
                return true;
            }
            // What keeps it still, if anything does, has its own end.
            self.retire_active(*slot);
            false
        });
        self.cooling = cooling;
    }

    /// Takes over an upgraded socket, with its session; gives it back if the plane's table, or that of formats, is full.
    pub(super) fn adopt(&mut self, socket: P::Socket, opening: &mut Opening) -> Result<Slot, P::Socket> {
        let Some(format) = self.formats.intern(&opening.format) else { return Err(socket) };
        let slot = self.plane.adopt(socket)?;
        self.conns.reach(slot);
        let conn = &mut self.conns[slot as usize];
        debug_assert!(conn.stage == Stage::Free, "the plane reuses a slot only after it was released");
        conn.stage = if opening.is_echo { Stage::Echo } else { Stage::Greeting };
        conn.kind.set_format(format);
        if opening.format.is_stream() {
            conn.generation |= ConnRef::LISTENER;
        }
        if let Some(session) = opening.session.take() {
            conn.kind.set_tls();
            self.keep_session(slot, session);
        }
        let conn = &mut self.conns[slot as usize];
        conn.address = opening.address.unwrap_or(NONE);
        (conn.heard, conn.spoke) = (self.tick, self.tick);
        match opening.format.is_stream() {
            true => self.counters.streams_opened += 1,
            false => self.counters.upgraded += 1,
        }
        self.open += 1;
        let handshake_ns = self.plane.now().mono_ns.saturating_sub(opening.accepted_at_ns);
        self.histograms.handshake.saturating_record(handshake_ns);
        self.outbox(slot).extend_from_slice(&opening.response);
        self.active(slot).outbox.partial = opening.response.len();
        self.schedule(slot);
        Ok(slot)
    }

    /// Ends a connection with a close frame; the socket follows when the peer has answered, or in time.
    pub(super) fn close(&mut self, slot: Slot, code: CloseCode) {
        if !self.conns[slot as usize].is_live() {
            return;
        }
        if is_virtual(slot) {
            return self.close_virtual(slot, code);
        }
        self.leave(slot, Ending::Code(code), code != CloseCode::Normal);
        if code == CloseCode::SlowConsumer {
            self.drop_unsent_frames(slot);
        }
        let is_stream = self.is_stream(slot);
        if is_stream {
            self.append_retry_for(slot, code);
        }
        self.append_close(slot, Some(code.number()), code.reason());
        self.begin_closing(slot);
        if is_stream || code.number() < 4000 && code != CloseCode::Normal {
            // A peer that broke the protocol is not expected to end it properly (RFC 6455 7.1.7), that of a stream has no word for it.
            self.conns[slot as usize].flags |= flag::LAST_WORDS;
        }
    }

    /// The peer's close frame: answered once (RFC 6455 5.5.1), then the server closes TCP (7.1.1).
    pub(super) fn peer_closes(&mut self, slot: Slot, code: Option<u16>) {
        if self.conns[slot as usize].is_live() {
            self.leave(slot, Ending::from_peer(code), code.is_some_and(|code| code != 1000));
            self.append_close(slot, code, "");
            self.begin_closing(slot);
        }
        self.conns[slot as usize].flags |= flag::LAST_WORDS;
        self.mark_dirty(slot);
    }

    /// Nothing may be said any more but the end of the stream, which goes out behind what is on its way: the peer has ended its own, or
    /// broken the protocol below this one.
    pub(super) fn hang_up(&mut self, slot: Slot) {
        if self.conns[slot as usize].is_live() {
            self.leave(slot, Ending::Lost, true);
            if self.conns[slot as usize].active != NONE {
                self.active(slot).outbox = Default::default();
            }
            self.begin_closing(slot);
        }
        self.conns[slot as usize].flags |= flag::LAST_WORDS;
        self.mark_dirty(slot);
    }

    /// The transport is gone.
    pub(super) fn ended(&mut self, slot: Slot, cause: End) {
        if self.conns[slot as usize].is_live() {
            tracing::debug!(shard = self.id, slot, ?cause, "connection lost");
            self.leave(slot, Ending::Lost, true);
        }
        self.finish(slot);
    }

    pub(super) fn transport_failed(&mut self, slot: Slot, errno: i32) {
        self.ended(slot, End::Failed(errno));
    }

    /// The last byte was sent: the peer is told so, and the socket is closed when it has read it.
    pub(super) fn linger(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        if conn.stage == Stage::Closing {
            conn.stage = Stage::Lingering;
            conn.spoke = self.tick;
            self.plane.end_stream(slot);
            self.schedule(slot);
        }
    }

    /// Tells the plane to close. Its `Released` ends the record's use.
    pub(super) fn finish(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        if matches!(conn.stage, Stage::Free | Stage::Closed) {
            return;
        }
        conn.stage = Stage::Closed;
        conn.flags &= flag::DIRTY;
        if !conn.kind.is_native() {
            self.streams.forget(slot);
        }
        if conn.active != NONE {
            let active = self.actives.remove(std::mem::replace(&mut conn.active, NONE) as usize);
            self.buffers.give_back(active.assembly);
            self.buffers.give_back(active.outbox.bytes);
        }
        if conn.kind.is_tls() {
            self.secured.remove(slot);
        }
        self.wheel.cancel(slot);
        match is_virtual(slot) {
            true => self.engines.released.push(slot),
            false => self.plane.close(slot),
        }
    }

    pub(super) fn released(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        // A lost connection may be released without having been asked to.
        debug_assert!(conn.stage == Stage::Closed && conn.user.is_none() && conn.active == NONE);
        if conn.address != NONE {
            self.addresses.release(conn.address);
        }
        let is_listed = conn.flags & flag::DIRTY;
        *conn = Conn::vacant(ConnRef::next_generation(conn.generation));
        conn.flags = is_listed;
        if is_virtual(slot) {
            return self.conns.free(slot);
        }
        self.open -= 1;
        self.totals.closed();
    }

    /// Leaves the rooms and the user's list. Called exactly once per connection.
    pub(super) fn leave(&mut self, slot: Slot, ending: Ending, is_abnormal: bool) {
        if self.conns[slot as usize].stage == Stage::Carrier {
            self.conns[slot as usize].stage = Stage::Closing;
            return self.carrier_left(slot, ending);
        }
        self.counters.closed.add(ending, 1);
        let conn = self.conn_ref(slot);
        let record = &mut self.conns[slot as usize];
        // An echo never signs in.
        if matches!(record.stage, Stage::Greeting | Stage::SigningIn | Stage::Echo) {
            self.totals.signed_in();
        }
        // A sign-in that is still being decided ends by its answer finding nobody.
        record.stage = Stage::Closing;
        let Some(user) = record.user.take() else { return };
        let parting = if is_abnormal { Parting::Lost } else { Parting::Closed };
        let departures = &mut self.departures;
        self.fanout.unsubscribe_all(&mut record.first_subscription, |room| {
            departures.push(Departure { conn, user: user.clone(), room, parting });
        });
        self.sign_out(conn, user);
    }

    fn begin_closing(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        conn.stage = Stage::Closing;
        // Nothing goes out behind the close frame.
        conn.flags &= !flag::PING_DUE;
        // From here on `spoke` is when closing began.
        conn.spoke = self.tick;
        if conn.active != NONE {
            let active = &mut self.actives[conn.active as usize];
            (active.held, active.resume, active.presence) = (Vec::new(), None, None);
        }
        self.schedule(slot);
    }

    fn append_close(&mut self, slot: Slot, code: Option<u16>, reason: &str) {
        let mut bytes = std::mem::take(&mut self.transcoded);
        bytes.clear();
        self.formats.get(self.conns[slot as usize].kind.format()).close(&mut bytes, code, reason);
        self.outbox(slot).extend_from_slice(&bytes);
        self.transcoded = bytes;
    }

    /// A slow reader's outbox is cut down to the frame that it is in the middle of.
    fn drop_unsent_frames(&mut self, slot: Slot) {
        let conn = &self.conns[slot as usize];
        if conn.active == NONE {
            return;
        }
        let format = self.formats.get(conn.kind.format());
        let outbox = &mut self.actives[conn.active as usize].outbox;
        let end = outbox.end_of_frame(outbox.sent, format);
        outbox.bytes.truncate(end);
    }
}

/// All outboxes of a shard, to look at.
#[derive(Clone, Copy)]
pub struct Outboxes<'a> {
    pub actives: &'a Slab<Active>,
    pub formats: &'a Formats,
}

impl Outboxes<'_> {
    /// Private bytes that count towards `limit` (R-CONN-5): all that is unsent or, if that is more, what is behind the first frame. One
    /// answer may be larger than the limit, a long recovery for instance, and whoever is reading it is not slow.
    pub fn waiting(self, conn: &Conn, limit: u64) -> u64 {
        if conn.active == NONE {
            return 0;
        }
        let outbox = &self.actives[conn.active as usize].outbox;
        let unsent = outbox.unsent() as u64;
        if unsent <= limit {
            return unsent;
        }
        let end = outbox.end_of_frame(outbox.sent + 1, self.formats.get(conn.kind.format()));
        (outbox.bytes.len() - end) as u64
    }
}
