//! From a token to a user: verification here, admission by the user's home shard, and the session's begin, refresh and end.
use super::Core;
use super::conn::Stage;
use super::conns::is_virtual;
use super::mail::Mail;
use crate::auth::{AuthError, Identity};
use crate::base::close::CloseCode;
use crate::base::hash::home_shard;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::{User, UserRef};
use crate::ids::{ConnRef, Ulid};
use crate::plane::{Plane, Slot};
use crate::session::encode::Ready;
use crate::telemetry::AuthFailure;

/// The counter's label for what was wrong with a token.
pub fn auth_failure(error: &AuthError) -> AuthFailure {
    match error {
        AuthError::Malformed => AuthFailure::Malformed,
        AuthError::TooLong => AuthFailure::TooLong,
        AuthError::WrongAlgorithm => AuthFailure::WrongAlgorithm,
        AuthError::UnknownKey { .. } => AuthFailure::UnknownKey,
        AuthError::BadSignature => AuthFailure::BadSignature,
        AuthError::MissingClaim(_) => AuthFailure::MissingClaim,
        AuthError::BadClaim(_) => AuthFailure::BadClaim,
        AuthError::BadUser => AuthFailure::BadUser,
        AuthError::Expired => AuthFailure::Expired,
        AuthError::NotYetValid => AuthFailure::NotYetValid,
        AuthError::WrongIssuer => AuthFailure::WrongIssuer,
        AuthError::WrongAudience => AuthFailure::WrongAudience,
        AuthError::RoomToken => AuthFailure::RoomToken,
        AuthError::OtherUser => AuthFailure::OtherUser,
        AuthError::OtherRoom => AuthFailure::OtherRoom,
    }
}

/// In the record's unit. What ends after 2106 counts as ending then, rather than as having ended.
fn expiry_s(expires_at_ms: u64) -> u32 {
    u32::try_from(expires_at_ms / 1000).unwrap_or(u32::MAX)
}

impl<P: Plane> Core<P> {
    /// Checks a token and counts a failure. Asks for newer keys if its key is unknown.
    pub(super) fn verify(&mut self, token: &str) -> Result<Identity, AuthError> {
        let result = self.verifier.verify(token, self.now.unix_ms);
        if let Err(error) = &result {
            self.counters.auth_failures.add(auth_failure(error), 1);
            if let AuthError::UnknownKey { kid } = error {
                (self.unknown_key)(kid.as_deref());
            }
        }
        result
    }

    /// The `auth` command (R-AUTH-1).
    pub(super) fn authenticate(&mut self, slot: Slot, token: &str, request: &str) {
        match self.verify(token) {
            Ok(identity) => {
                self.active(slot).auth_request = Some(request.into());
                self.begin_session(slot, &identity);
            }
            Err(_) => self.close(slot, CloseCode::AuthFailed),
        }
    }

    /// Asks the user's home shard to admit the connection.
    pub(super) fn begin_session(&mut self, slot: Slot, identity: &Identity) {
        let conn = self.conn_ref(slot);
        let record = &mut self.conns[slot as usize];
        record.stage = Stage::SigningIn;
        record.kind.set_role(identity.role);
        record.expires_at_s = expiry_s(identity.expires_at_ms);
        let (id, email) = (identity.user_id.clone(), identity.email.clone());
        match home_shard(&id, self.shards) {
            home if home == self.id => {
                let user = self.users.sign_in(conn, &id, email.as_deref(), self.settings.connections_per_user);
                self.session_admitted(conn, user);
            }
            home => self.mesh.post(home, Mail::SignIn { conn, id, email }),
        }
    }

    /// The user's home shard has answered.
    pub(super) fn session_admitted(&mut self, conn: ConnRef, user: Option<UserRef>) {
        let slot = self.live(conn).filter(|slot| self.conns[*slot as usize].stage == Stage::SigningIn);
        let (slot, user) = match (slot, user) {
            (Some(slot), Some(user)) => (slot, user),
            (Some(slot), None) => return self.close(slot, CloseCode::TooManyConnections),
            (None, Some(user)) => return self.sign_out(conn, user),
            (None, None) => return,
        };
        let session = self.ids.next(self.now.unix_ms);
        let record = &mut self.conns[slot as usize];
        record.stage = Stage::Open;
        record.user = Some(user.clone());
        record.set_session(session);
        record.spoke = self.tick;
        self.totals.signed_in();
        self.counters.signed_in += 1;
        if is_virtual(slot) {
            return self.virtual_admitted(slot);
        }
        let resume_token = self.resume_token(&user, session);
        self.greet(slot, &resume_token);
    }

    /// Tells a connection that it is signed in, and who it is.
    pub(super) fn greet(&mut self, slot: Slot, resume_token: &str) {
        let conn = self.conn_ref(slot);
        let record = &self.conns[slot as usize];
        let (Some(user), session) = (record.user.clone(), record.session()) else { return };
        let expires_at_ms = u64::from(record.expires_at_s) * 1000;
        if let Some(request) = self.active(slot).auth_request.take() {
            self.send_private(slot, |native, out, stamp| {
                native.signed_in(out, stamp, &request, user.id(), expires_at_ms)
            });
        }
        let heartbeat_ms = self.settings.heartbeat_ms;
        self.send_private(slot, |native, out, stamp| {
            let ready = Ready {
                // A fresh session and its first connection share a ULID: the record keeps only one.
                connection_id: session,
                session_id: session,
                resume_token,
                user_id: user.id(),
                expires_at_ms,
                heartbeat_ms,
            };
            native.ready(out, stamp, &ready)
        });
        self.schedule(slot);
        // Commands that came meanwhile are taken up by the shard.
        if !self.active(slot).held.is_empty() {
            self.admitted.push(conn);
        }
    }

    pub(super) fn sign_out(&mut self, conn: ConnRef, user: UserRef) {
        match home_shard(user.id(), self.shards) {
            home if home == self.id => self.users.sign_out(conn, &user, self.now.mono_ns),
            home => self.mesh.post(home, Mail::SignOut { conn, user }),
        }
    }

    /// R-AUTH-4: a new token of the same user extends the session and applies its role.
    pub(super) fn refresh_token(&mut self, slot: Slot, token: &str, request: &str) {
        let identity = match self.verify(token) {
            Ok(identity) => identity,
            Err(_) => return self.refuse_here(slot, request, Refusal::new(Code::AuthFailed)),
        };
        let record = &mut self.conns[slot as usize];
        if record.user.as_ref().is_none_or(|user| user.id() != &*identity.user_id) {
            self.counters.auth_failures.add(AuthFailure::OtherUser, 1);
            return self.refuse_here(slot, request, Refusal::new(Code::AuthFailed));
        }
        record.kind.set_role(identity.role);
        record.expires_at_s = expiry_s(identity.expires_at_ms);
        record.flags &= !super::conn::flag::EXPIRY_WARNED;
        self.counters.tokens_refreshed += 1;
        self.send_private(slot, |native, out, stamp| native.refreshed(out, stamp, request, identity.expires_at_ms));
        self.schedule(slot);
    }

    /// A resume token for the session, valid from now.
    pub(super) fn resume_token(&self, user: &User, session: Ulid) -> String {
        self.resume_key.issue(user.id(), session, self.now.unix_ms + self.settings.session_token_ms)
    }

    /// Closes the other connection that holds this session: first to the user's home, which knows the user's connections.
    pub(super) fn end_session(&mut self, user: &UserRef, session: Ulid, except: ConnRef) {
        match home_shard(user.id(), self.shards) {
            home if home == self.id => self.pass_on_end_session(user, session, except),
            home => self.mesh.post(home, Mail::EndSession { user: user.clone(), session, except }),
        }
    }

    pub(super) fn pass_on_end_session(&mut self, user: &UserRef, session: Ulid, except: ConnRef) {
        for conn in self.users.connections(user.id()).into_iter().filter(|conn| *conn != except) {
            match conn.shard == self.id {
                true => self.close_session(conn, session),
                false => self.mesh.post(conn.shard, Mail::CloseSession { conn, session }),
            }
        }
    }

    pub(super) fn close_session(&mut self, conn: ConnRef, session: Ulid) {
        if let Some(slot) = self.live(conn)
            && self.conns[slot as usize].session() == session
        {
            self.close(slot, CloseCode::ResumedElsewhere);
        }
    }
}
