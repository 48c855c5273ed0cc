//! Virtual connections: one for each namespace that a client is in. Signed in as any connection, and closed as R-SIO-2 says.
use super::recovery::Pending;
use super::track::Memory;
use crate::auth::Identity;
use crate::base::close::CloseCode;
use crate::base::refusal::{Code, Refusal};
use crate::ids::{Prefix, Ulid};
use crate::plane::{Plane, Slot};
use crate::session::socketio::{Action, Namespace};
use crate::shard::Core;
use crate::shard::conn::Stage;
use crate::telemetry::{AuthFailure, EngineEnd, Ending};
use crate::wire::engineio::{Revision, Sid};
use crate::wire::json;
use crate::wire::socketio::encode;
use crate::wire::ws::{self, Opcode};

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
        let Some(token) = token else {
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
    fn open_virtual(&mut self, key: u32, namespace: Namespace) -> Option<Slot> {
        let revision = self.engines.get(key)?.revision;
        let format = super::format(&self.settings.sio, namespace, revision);
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
        let Some(user) = self.conns[slot as usize].user.clone() else { return };
        let pid = (self.settings.recovery_ticks > 0)
            .then(|| self.engines.recoveries.add(self.id, &mut self.ids, conn, user.id()));
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
        let Some(revision) = self.engines.get(key).map(|session| session.revision) else { return };
        let mut packet = Vec::with_capacity(96);
        let pid = pid.map(|pid| pid.text(&mut [0; Sid::TEXT_BYTES]).to_owned());
        let sid = public_id(session);
        encode::connect(&mut packet, revision, self.settings.sio.name(namespace), &sid, pid.as_deref());
        ws::append_frame(self.outbox(slot), Opcode::Text, &packet);
        self.greet(slot);
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
            error.plain("code", refusal.code.as_str(), "").bool("retryable", refusal.code.is_retryable());
            error.opt_num("retryAfterMs", refusal.retry_after_ms);
        });
        self.push_connect_error(key, namespace, refusal.code.text(), &data);
    }

    fn push_connect_error(&mut self, key: u32, namespace: Namespace, message: &str, data: &[u8]) {
        let Some(session) = self.engines.get(key) else { return };
        session.protocol.ended(namespace);
        let revision = session.revision;
        let mut packet = Vec::with_capacity(160);
        let data = std::str::from_utf8(data).ok();
        encode::connect_error(&mut packet, revision, self.settings.sio.name(namespace), message, data);
        self.engine_push_text(key, std::str::from_utf8(&packet).unwrap_or_default());
    }

    /// Ends a virtual connection with a code (R-SIO-2). One after which the client is to come back drops the whole transport
    /// without a DISCONNECT, so that clients retry; a terminal one says `error`, then DISCONNECT.
    pub(in crate::shard) fn close_virtual(&mut self, slot: Slot, code: CloseCode) {
        let Some(virtual_) = self.engines.virtual_of(slot) else { return };
        let (key, namespace, is_connected) = (virtual_.session, virtual_.namespace, virtual_.is_connected);
        if is_connected && is_temporary(code) {
            return self.engine_end(key, EngineEnd::Server, Some(code));
        }
        if is_connected {
            let refusal = Refusal::new(refusal_code(code));
            self.send_private(slot, |native, out, stamp| native.error(out, stamp, None, None, &refusal));
            let mut packet = Vec::with_capacity(32);
            encode::disconnect(&mut packet, self.settings.sio.name(namespace));
            ws::append_frame(self.outbox(slot), Opcode::Text, &packet);
            self.copy_outbox(slot, key);
        } else {
            let mut data = Vec::with_capacity(96);
            json::object(&mut data, |error| {
                error.plain("code", refusal_code(code).as_str(), "").bool("retryable", is_temporary(code));
                error.num("closeCode", code.number().into());
            });
            self.push_connect_error(key, namespace, code.reason(), &data);
        }
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

/// How others, and the client itself, know the connection: no credential (R-SEC-4).
fn public_id(session: Ulid) -> String {
    format!("{}{session}", Prefix::Connection.as_str())
}

/// The client is to come back by itself: 1011 and 4100 to 4299.
fn is_temporary(code: CloseCode) -> bool {
    code == CloseCode::Internal || code.number() >= 4100
}

/// The error of product section 3.3 that says what a close code says.
fn refusal_code(code: CloseCode) -> Code {
    match code {
        CloseCode::TokenRequired => Code::AuthRequired,
        CloseCode::AuthFailed | CloseCode::TokenExpired | CloseCode::Revoked => Code::AuthFailed,
        CloseCode::Banned => Code::Banned,
        CloseCode::TooManyConnections => Code::LimitReached,
        CloseCode::Normal | CloseCode::Disconnected | CloseCode::ResumedElsewhere => Code::Forbidden,
        CloseCode::ProtocolError
        | CloseCode::Unsupported
        | CloseCode::InvalidText
        | CloseCode::TooBig
        | CloseCode::Abuse => Code::InvalidFormat,
        CloseCode::Internal => Code::Internal,
        CloseCode::Overloaded
        | CloseCode::SlowConsumer
        | CloseCode::Stale
        | CloseCode::NoPong
        | CloseCode::Flood
        | CloseCode::Drain
        | CloseCode::Migrated => Code::Overloaded,
    }
}

