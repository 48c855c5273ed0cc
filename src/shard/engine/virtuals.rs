//! Virtual connections: one for each namespace that a client is in. Signed in as any connection, and closed as R-SIO-2 says.
use super::comeback::Pending;
use super::track::Memory;
use crate::auth::Identity;
use crate::base::close::CloseCode;
use crate::base::refusal::{Code, Refusal};
use crate::plane::{Plane, Slot};
use crate::session::format::{Format, Framing, Vocabulary};
use crate::session::socketio::{Action, Namespace};
use crate::session::transcode::socketio::SocketIo;
use crate::shard::Core;
use crate::shard::conn::Stage;
use crate::telemetry::{AuthFailure, Ending, EngineEnd};
use crate::wire::engineio::Sid;
use crate::wire::json;
use crate::wire::socketio::encode;

/// What a virtual connection has besides its record.
pub struct Virtual {
    /// Row of its session.
    pub session: u32,
    pub namespace: Namespace,
    /// Its CONNECT was answered.
    pub is_connected: bool,
    /// By which its client takes up what it missed; none without recovery.
    pub pid: Option<Sid>,
    /// A recovery under way.
    pub pending: Option<Box<Pending>>,
    pub memory: Memory,
}

impl<P: Plane> Core<P> {
    /// The client wants into a namespace: a token first, then the user's home decides (R-AUTH-1).
    pub(super) fn connect_namespace(
        &mut self,
        key: u32,
        namespace: Namespace,
        token: Option<&str>,
        claim: Option<(Sid, &str)>,
    ) {
        if self.drain.is_some() {
            return self.refuse_connect(key, namespace, crate::shard::commands::overloaded());
        }
        let known = self.engines.get(key).and_then(|session| session.token.clone());
        if let (Some(token), Some(known)) = (token, &known)
            && token != &**known
        {
            self.counters.auth_failures.add(AuthFailure::Conflicting, 1);
            return self.refuse_connect(key, namespace, Refusal::new(Code::AuthFailed));
        }
        let Some(token) = token.or(known.as_deref()) else {
            self.counters.auth_failures.add(AuthFailure::Missing, 1);
            return self.refuse_connect(key, namespace, Refusal::new(Code::AuthRequired));
        };
        let Ok(identity) = self.verify(token) else {
            return self.refuse_connect(key, namespace, Refusal::new(Code::AuthFailed));
        };
        let Some(slot) = self.open_virtual(key, namespace) else {
            return self.refuse_connect(key, namespace, crate::shard::commands::overloaded());
        };
        if let (Some((pid, offset)), Some(virtual_)) = (claim, self.engines.virtual_of(slot)) {
            virtual_.pending = Some(Box::new(Pending::new(pid, offset)));
        }
        self.sign_in_virtual(slot, &identity);
    }

    fn sign_in_virtual(&mut self, slot: Slot, identity: &Identity) {
        self.begin_session(slot, identity);
        if self.conns[slot as usize].is_live() {
            self.schedule(slot);
        }
    }

    /// A record for a namespace's connection; none if there are too many, or too many formats.
    pub(super) fn open_virtual(&mut self, key: u32, namespace: Namespace) -> Option<Slot> {
        let revision = self.engines.get(key)?.revision;
        let vocabulary = SocketIo {
            namespace: self.settings.sio.name(namespace).into(),
            revision,
            has_recovery: self.settings.recovery_ticks > 0,
            app_events: self.settings.sio.app_events,
        };
        let format = Format { vocabulary: Vocabulary::SocketIo(vocabulary), framing: Framing::WebSocket };
        let format = self.formats.intern(&format)?;
        let slot = self.conns.take_virtual()?;
        let conn = &mut self.conns[slot as usize];
        conn.stage = Stage::Greeting;
        conn.kind.set_format(format);
        (conn.heard, conn.spoke) = (self.tick, self.tick);
        let virtual_ = Virtual {
            session: key,
            namespace,
            is_connected: false,
            pid: None,
            pending: None,
            memory: Memory::default(),
        };
        self.engines.set_virtual(slot, virtual_);
        let session = self.engines.get(key)?;
        session.connections.push(slot);
        // The session was what had not signed in; from now on its connections are.
        if !std::mem::take(&mut session.is_unauthenticated) {
            self.totals.signing_in();
        }
        Some(slot)
    }

    /// The user's home has let it in. What the client missed, if it asks for that, is decided before its CONNECT is answered.
    pub(in crate::shard) fn virtual_admitted(&mut self, slot: Slot) {
        let claim = self.engines.virtual_of(slot).and_then(|virtual_| virtual_.pending.as_deref());
        match claim.map(|pending| (pending.pid, pending.offset.clone())) {
            Some((pid, offset)) if self.settings.recovery_ticks > 0 => self.claim(slot, pid, offset),
            _ => self.connect_fresh(slot),
        }
    }

    /// Answers CONNECT with ids that the client has not had before.
    pub(super) fn connect_fresh(&mut self, slot: Slot) {
        let conn = self.conn_ref(slot);
        let Some(owner) = self.owner(slot) else { return };
        let pid = (self.settings.recovery_ticks > 0)
            .then(|| self.engines.recoveries.add(self.id, &mut self.ids, conn, owner));
        if let Some(virtual_) = self.engines.virtual_of(slot) {
            virtual_.pending = None;
            virtual_.pid = pid;
        }
        self.connected(slot);
    }

    /// Answers CONNECT: from here on the namespace is open in both directions.
    pub(super) fn connected(&mut self, slot: Slot) {
        let session = self.conns[slot as usize].session();
        let Some(virtual_) = self.engines.virtual_of(slot) else { return };
        virtual_.is_connected = true;
        let (key, namespace, pid) = (virtual_.session, virtual_.namespace, virtual_.pid);
        // What the native protocol says at this point becomes the answer to CONNECT; its pid is session id and token.
        let token = match pid {
            Some(pid) => pid.text(&mut [0; Sid::TEXT_BYTES]).to_owned(),
            None => {
                let Some(user) = self.conns[slot as usize].user.clone() else { return };
                self.resume_token(&user, session)
            }
        };
        self.greet(slot, &token);
        let mut output = std::mem::take(&mut self.engines.output);
        let settings = &self.settings.sio;
        if let Some(session) = self.engines.sessions.get_mut(key as usize) {
            session.protocol.connected(settings, namespace, &mut output);
        }
        let (conn, actions) = (self.conn_ref(slot), output.take_actions());
        for action in &actions {
            if let Action::Command { message, .. } = action {
                self.command_later(conn, output.bytes(message));
            }
        }
        output.give_back(actions);
        self.engines.output = output;
        self.schedule_session(key);
    }

    /// CONNECT_ERROR: the namespace does not let the client in; the session goes on.
    fn refuse_connect(&mut self, key: u32, namespace: Namespace, refusal: Refusal) {
        let mut data = Vec::with_capacity(96);
        json::object(&mut data, |error| {
            error.plain("code", refusal.code.as_str(), "").plain("message", refusal.code.text(), "");
            error.bool("retryable", refusal.code.is_retryable());
            error.opt_num("retryAfterMs", refusal.retry_after_ms);
        });
        let Some(session) = self.engines.get(key) else { return };
        session.protocol.ended(namespace);
        let (revision, data) = (session.revision, std::str::from_utf8(&data).ok());
        let mut packet = Vec::with_capacity(160);
        let name = self.settings.sio.name(namespace);
        encode::connect_error(&mut packet, revision, name, refusal.code.text(), data);
        self.engine_push_text(key, std::str::from_utf8(&packet).unwrap_or_default());
    }

    /// Ends a virtual connection with a code (R-SIO-2). One after which the client is to come back drops the whole transport
    /// without a DISCONNECT, so that clients retry; a terminal one says `error`, then DISCONNECT.
    pub(in crate::shard) fn close_virtual(&mut self, slot: Slot, code: CloseCode) {
        let Some(virtual_) = self.engines.virtual_of(slot) else { return };
        let (key, is_connected) = (virtual_.session, virtual_.is_connected);
        let mut words = std::mem::take(&mut self.transcoded);
        words.clear();
        let scratch = &mut self.transcoder.socketio;
        // A virtual connection's format is Socket.IO's.
        let is_over = match &self.formats.get(self.conns[slot as usize].kind.format()).vocabulary {
            Vocabulary::SocketIo(to) if is_connected => to.part(code, scratch, &mut words),
            Vocabulary::SocketIo(to) => {
                to.refuse(code, scratch, &mut words);
                true
            }
            _ => false,
        };
        self.outbox(slot).extend_from_slice(&words);
        self.transcoded = words;
        if !is_over {
            return self.engine_end(key, EngineEnd::Server, Some(code));
        }
        self.copy_outbox(slot, key);
        self.part_virtual(slot, Ending::Code(code), false);
    }

    /// Takes a virtual connection out of its rooms and its session. `is_loss`: it may be taken up again, so its user has not left
    /// for good.
    pub(super) fn part_virtual(&mut self, slot: Slot, ending: Ending, is_loss: bool) {
        if !self.conns[slot as usize].is_live() {
            return;
        }
        match is_loss {
            true => self.keep_memory(slot),
            false => self.drop_memory(slot),
        }
        self.leave(slot, ending, is_loss);
        self.finish(slot);
        let row = (slot - crate::shard::conns::VIRTUAL_BASE) as usize;
        let Some(virtual_) = self.engines.virtuals.get_mut(row).and_then(Option::take) else { return };
        if let Some(session) = self.engines.get(virtual_.session) {
            session.connections.retain(|other| *other != slot);
            session.protocol.ended(virtual_.namespace);
        }
    }
}
