//! One connection: how far it has come, and whether it lives.
use super::output::LinkId;
use serde_json::{Map, Value};

/// What a later connection needs to go on as this one. A secret of this client.
#[derive(Clone)]
pub(super) struct Session {
    pub session_id: String,
    pub resume_token: String,
}

impl Session {
    pub fn read(data: &Map<String, Value>) -> Option<Session> {
        let text = |name: &str| data.get(name)?.as_str().map(str::to_owned);
        Some(Session { session_id: text("sessionId")?, resume_token: text("resumeToken")? })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No socket yet.
    Opening,
    /// `auth` is out.
    SigningIn,
    /// `resume` is out.
    Resuming,
    /// All commands may go.
    Ready,
}

pub(super) struct Link {
    pub id: LinkId,
    pub phase: Phase,
    /// Of a migration; None for an ordinary connection.
    pub migration_token: Option<String>,
    /// `server_closing` came: commands may go unanswered, so durable ones wait for the next connection.
    pub is_ending: bool,
    /// From `connection_established`: what this connection is if there is nothing to resume.
    pub session: Option<Session>,
    /// The `resume` that was sent on it.
    pub resume_id: Option<String>,
    /// Nothing has come since a heartbeat was sent.
    pub is_heartbeat_out: bool,
}

impl Link {
    pub fn new(id: LinkId, migration_token: Option<String>) -> Link {
        let (session, resume_id) = (None, None);
        Link {
            id,
            phase: Phase::Opening,
            migration_token,
            is_ending: false,
            session,
            resume_id,
            is_heartbeat_out: false,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }
}
