//! WebSockets that carry a session: opened with it, or taking over from polling after a probe.
//!
//! A carrier is a row of the plane like any other (`Stage::Carrier`): its frames go through the same decoder, its outbox through the
//! same flush. It signs nobody in and has no rooms.
use super::session::{Candidate, Counted, Transport};
use crate::base::close::CloseCode;
use crate::plane::{Plane, Slot};
use crate::session::socketio;
use crate::shard::conn::{NONE, Stage};
use crate::shard::mail::Mail;
use crate::shard::{Core, Opening, Shard};
use crate::telemetry::{DropReason, Ending, EngineEnd};
use crate::tls::Session;
use crate::wire::engineio::{Packet, Probe, ProbeStep, RequestError, Revision, Sid, Transport as Means};
use crate::wire::http::Answer;
use std::os::fd::OwnedFd;

/// Mail: a WebSocket whose sid belongs to another shard. Its 101 was not sent yet.
pub struct Upgrade {
    pub sid: Sid,
    /// What the request speaks.
    pub revision: Revision,
    pub socket: OwnedFd,
    pub opening: Opening,
}

impl<P: Plane> Shard<P> {
    /// A session that begins on a WebSocket. Gives the socket back if there is no room for it.
    pub(in crate::shard) fn engine_open(
        &mut self,
        socket: P::Socket,
        mut opening: Opening,
        revision: Revision,
        token: Option<Box<str>>,
    ) -> Result<(), P::Socket> {
        self.core.now = self.core.plane.now();
        let slot = self.core.adopt_carrier(socket, &mut opening)?;
        let key = self.core.add_session(revision, Transport::Carrier(slot), token);
        self.core.conns[slot as usize].set_carried(key);
        let open = self.core.open_packet(key, Means::WebSocket);
        self.core.engine_push_text(key, &open);
        self.core.schedule_session(key);
        self.engine_greet(key);
        self.engine_read_on(slot, opening.received);
        Ok(())
    }

    /// A session that begins on polling; the text of its open packet.
    pub(in crate::shard) fn engine_handshake(
        &mut self,
        counted: Counted,
        revision: Revision,
        token: Option<Box<str>>,
    ) -> Vec<u8> {
        self.core.now = self.core.plane.now();
        let core = &mut self.core;
        let key = core.add_session(revision, Transport::Polling(super::session::Polling::default()), token);
        if let Some(session) = core.engines.get(key) {
            session.counted = Some(counted);
        }
        core.schedule_session(key);
        let open = core.open_packet(key, Means::Polling);
        let mut body = Vec::with_capacity(open.len() + 8);
        crate::wire::engineio::PayloadWriter::new(revision, &mut body).text(&open);
        self.engine_greet(key);
        body
    }

    /// A WebSocket that wants to take over a session: here, or on the session's shard. Gives the socket back if that shard takes no
    /// more mail for now.
    pub(in crate::shard) fn engine_upgrade(
        &mut self,
        sid: Sid,
        revision: Revision,
        socket: OwnedFd,
        opening: Opening,
    ) -> Result<(), OwnedFd> {
        self.core.now = self.core.plane.now();
        let upgrade = Box::new(Upgrade { sid, revision, socket, opening });
        if sid.shard == self.core.id || sid.shard >= self.core.shards {
            self.engine_upgraded(*upgrade);
            return Ok(());
        }
        match self.core.mesh.offer(sid.shard, Mail::EngineUpgrade(upgrade)) {
            Ok(()) => Ok(()),
            Err(Mail::EngineUpgrade(upgrade)) => {
                self.core.counters.dropped.add(DropReason::MailboxFullEngine, 1);
                Err(upgrade.socket)
            }
            Err(_) => unreachable!("what was offered comes back"),
        }
    }

    /// On the session's shard.
    pub(in crate::shard) fn engine_upgraded(&mut self, upgrade: Upgrade) {
        let Upgrade { sid, revision, socket, mut opening } = upgrade;
        let core = &mut self.core;
        let found = match core.engines.find(sid) {
            None => Err(RequestError::UnknownSid),
            Some(key) if core.engines.get(key).is_some_and(|session| session.revision == revision) => Ok(key),
            Some(_) => Err(RequestError::BadRequest),
        };
        let key = match found {
            Ok(key) => key,
            Err(error) => {
                core.counters.engine_refused.add(error.label(), 1);
                refuse(socket, opening.session.take(), error);
                return core.release_opening(&opening);
            }
        };
        let Some(socket) = P::socket(socket) else { return core.release_opening(&opening) };
        let Ok(slot) = core.adopt_carrier(socket, &mut opening) else {
            return core.release_opening(&opening);
        };
        let session = core.engines.get(key).filter(|session| session.closing_since.is_none());
        match session {
            // A second attempt, or one of a session that has its WebSocket: only the newcomer is closed.
            Some(session) if session.candidate.is_none() && session.carrier().is_none() => {
                session.candidate = Some(Candidate { slot, probe: Probe::default() });
                core.conns[slot as usize].set_carried(key);
                // The deadline of an upgrade is the carrier's own.
                core.schedule(slot);
                self.engine_read_on(slot, opening.received);
            }
            _ => core.drop_carrier(slot, CloseCode::Normal),
        }
    }

    /// What came behind the request.
    fn engine_read_on(&mut self, slot: Slot, mut received: Vec<u8>) {
        if !received.is_empty() {
            let end = received.len();
            received.resize(end + crate::plane::SLACK_BYTES, 0);
            self.read(slot, &mut received, end);
        }
        self.settle_rooms();
    }

    /// A whole text message of a carrier.
    pub(in crate::shard) fn carrier_text(&mut self, slot: Slot, text: &[u8]) {
        // The decoder has checked that it is UTF-8.
        let text = std::str::from_utf8(text).unwrap_or_default();
        match Packet::from_text(text) {
            Ok(packet) => self.carrier_packet(slot, packet),
            Err(_) => self.core.carrier_error(slot),
        }
    }

    /// A whole binary message of a carrier.
    pub(in crate::shard) fn carrier_binary(&mut self, slot: Slot, bytes: &[u8]) {
        let key = self.core.conns[slot as usize].carried();
        let Some(revision) = self.core.engines.get(key).map(|session| session.revision) else { return };
        match Packet::from_binary(revision, bytes) {
            Ok(packet) => self.carrier_packet(slot, packet),
            Err(_) => self.core.carrier_error(slot),
        }
    }

    fn carrier_packet(&mut self, slot: Slot, packet: Packet<'_>) {
        let key = self.core.conns[slot as usize].carried();
        let Some(session) = self.core.engines.get(key) else { return };
        match &mut session.candidate {
            Some(candidate) if candidate.slot == slot => match candidate.probe.step(&packet) {
                ProbeStep::Answer => self.core.answer_probe(key, slot),
                ProbeStep::Complete => self.core.complete_upgrade(key, slot),
                ProbeStep::Refuse => {
                    session.candidate = None;
                    self.core.drop_carrier(slot, CloseCode::Normal);
                }
            },
            _ => self.engine_packet(key, packet),
        }
    }
}

impl<P: Plane> Core<P> {
    fn add_session(&mut self, revision: Revision, transport: Transport, token: Option<Box<str>>) -> u32 {
        self.counters.engine_opened += 1;
        let protocol = socketio::Session::new(&self.settings.sio, revision, self.now.mono_ms());
        let key = self.engines.add(self.id, &mut self.ids, transport, protocol);
        if let Some(session) = self.engines.get(key) {
            session.token = token;
        }
        key
    }

    /// A row of the plane for a WebSocket that carries a session.
    fn adopt_carrier(&mut self, socket: P::Socket, opening: &mut Opening) -> Result<Slot, P::Socket> {
        let slot = self.adopt(socket, opening)?;
        let conn = &mut self.conns[slot as usize];
        conn.stage = Stage::Carrier;
        conn.set_carried(NONE);
        self.schedule(slot);
        Ok(slot)
    }

    /// The socket was not adopted: what it was counted for ends here.
    fn release_opening(&mut self, opening: &Opening) {
        self.release_counted(Counted { address: opening.address });
    }

    /// The open packet of a session.
    fn open_packet(&mut self, key: u32, transport: Means) -> String {
        let Some(session) = self.engines.sessions.get(key as usize) else { return String::new() };
        let open = crate::wire::engineio::Open {
            sid: session.sid,
            transport,
            ping_interval_ms: self.config.sio.ping_interval_ms,
            ping_timeout_ms: self.config.sio.ping_timeout_ms,
            max_payload_bytes: self.config.sio.max_payload_bytes,
        };
        let mut packet = Vec::with_capacity(160);
        crate::wire::engineio::write_open(&mut packet, &open);
        String::from_utf8(packet).unwrap_or_default()
    }

    fn answer_probe(&mut self, key: u32, slot: Slot) {
        crate::wire::ws::append_frame(self.outbox(slot), crate::wire::ws::Opcode::Text, b"3probe");
        self.end_pending_poll(key);
        self.schedule_session(key);
    }

    /// The session moves to the WebSocket, with all that waits for its client, in order.
    fn complete_upgrade(&mut self, key: u32, slot: Slot) {
        // A poll may still wait, of a client that does not stop polling before it says `5`.
        self.end_pending_poll(key);
        let Some(session) = self.engines.get(key) else { return };
        session.candidate = None;
        let counted = session.counted.take();
        let before = std::mem::replace(&mut session.transport, Transport::Carrier(slot));
        if let Transport::Polling(polling) = before {
            self.outbox(slot).extend_from_slice(&polling.buffer);
            if let Some(reply) = polling.get {
                self.engine_answer(reply, super::Answer::Refused(RequestError::BadRequest));
            }
        }
        if let Some(counted) = counted {
            self.release_counted(counted);
        }
        self.counters.engine_upgraded += 1;
        self.schedule(slot);
        self.transport_drained(key);
    }

    /// The carrier's peer does not speak the protocol.
    fn carrier_error(&mut self, slot: Slot) {
        let key = self.conns[slot as usize].carried();
        let Some(session) = self.engines.get(key) else { return self.close(slot, CloseCode::ProtocolError) };
        match &session.candidate {
            Some(candidate) if candidate.slot == slot => {
                session.candidate = None;
                self.drop_carrier(slot, CloseCode::Normal);
            }
            _ => self.engine_end(key, EngineEnd::ParseError, None),
        }
    }

    /// A carrier is going away, by itself or because it was closed: if it was a session's transport, the session ends.
    pub(in crate::shard) fn carrier_left(&mut self, slot: Slot, ending: Ending) {
        let key = self.conns[slot as usize].carried();
        self.conns[slot as usize].set_carried(NONE);
        let Some(session) = self.engines.get(key) else { return };
        if session.candidate.as_ref().is_some_and(|candidate| candidate.slot == slot) {
            session.candidate = None;
            return;
        }
        match ending {
            Ending::Code(code) if code.number() >= 4000 => self.engine_end(key, EngineEnd::Server, Some(code)),
            Ending::Lost => self.engine_end(key, EngineEnd::TransportError, None),
            _ => self.engine_end(key, EngineEnd::TransportClosed, None),
        }
    }

    /// Whether a carrier is still on trial: then it has a deadline of its own.
    pub(in crate::shard) fn is_candidate(&self, slot: Slot) -> bool {
        let session = self.engines.sessions.get(self.conns[slot as usize].carried() as usize);
        let candidate = session.and_then(|session| session.candidate.as_ref());
        candidate.is_some_and(|candidate| candidate.slot == slot)
    }
}

/// The answer to an upgrade that is refused: in text, and the connection ends (as npm `engine.io`).
pub fn refusal(error: RequestError) -> Vec<u8> {
    let (status, text) = error.upgrade_answer();
    let mut response = Vec::with_capacity(256);
    let answer = Answer { status, is_last: true, content_type: Some("text/html"), body: text.as_bytes() };
    answer.write(&mut response, "");
    response
}

/// Refuses an upgrade whose socket is in no plane.
fn refuse(socket: OwnedFd, session: Option<Box<Session>>, error: RequestError) {
    let mut response = refusal(error);
    if let Some(mut session) = session {
        if session.seal(&[&response]).is_err() {
            return;
        }
        session.end();
        response = session.unsent().to_vec();
    }
    let socket = socket2::Socket::from(socket);
    // A socket on which nothing was sent yet takes a few hundred bytes at once or is broken.
    let _ = socket.send_with_flags(&response, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}
