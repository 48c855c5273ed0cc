//! What one thread tells another: a closed set, each with what happens when it cannot be queued.
//!
//! Requests form no cycle: commands go from a connection's shard to a room's or user's home, answers and events come back, and
//! neither waits for the other. A full mailbox never blocks its sender: what may be lost is refused or dropped and
//! counted; what must not be lost waits in the sender's backlog, in order.
use super::UnknownKey;
use super::charge::Budget;
use super::engine::{Answer, Asked, Claim, Recovered, Remembered, Reply, Upgrade};
use crate::auth::Verifier;
use crate::base::user::{GlobalRole, UserRef};
use crate::config::Config;
use crate::ids::{ConnRef, Ulid};
use crate::rooms::effects::Class;
use crate::rooms::event::Status;
use crate::store::port::Done;
use crate::telemetry::ShardReport;
use crate::tls::Acceptor;
use crate::wire::engineio::Sid;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

pub enum Mail {
    // --- from a connection's shard to a room's home. Full: the command is refused as `overloaded`.
    /// A room command as the bytes it came in; it is parsed where it is executed.
    Command {
        from: ConnRef,
        user: UserRef,
        role: GlobalRole,
        budget: Budget,
        message: Box<[u8]>,
        read_at_ns: u64,
    },
    /// One room of a resume.
    Resume(Box<ResumeRoom>),
    /// One room's share of a `get_presence`.
    Presence {
        from: ConnRef,
        user: UserRef,
        room: Arc<str>,
        user_ids: Arc<[Box<str>]>,
    },
    // --- the same way, never lost: waits in the backlog.
    /// A subscription ends without a command.
    Parted {
        conn: ConnRef,
        user: UserRef,
        room: Arc<str>,
        parting: Parting,
    },

    // --- from a room's home to a connection's shard, never lost, in order per room.
    /// Frames for one connection.
    Frame {
        to: ConnRef,
        frame: Bytes,
        /// It refuses something that draws from the connection's flood bucket only then.
        draws: bool,
    },
    Subscribe {
        conn: ConnRef,
        user: UserRef,
        room: Arc<str>,
    },
    Unsubscribe {
        conn: ConnRef,
        room: Arc<str>,
    },
    /// JSON of one resumed room.
    Resumed {
        to: ConnRef,
        part: Bytes,
    },
    PresenceFound {
        to: ConnRef,
        online: Vec<(Box<str>, Status, u64)>,
    },
    /// A frame for the room's sessions on this shard. Full: a live one is dropped and counted, a durable one waits.
    Publish {
        room: Arc<str>,
        frame: Bytes,
        class: Class,
        except: SmallVec<[ConnRef; 1]>,
        read_at_ns: u64,
        sent_at_ns: u64,
    },

    // --- between a connection's shard and its user's home, never lost.
    SignIn {
        conn: ConnRef,
        id: Box<str>,
        email: Option<Box<str>>,
    },
    SignedIn {
        conn: ConnRef,
        user: Option<UserRef>,
    },
    SignOut {
        conn: ConnRef,
        user: UserRef,
    },
    /// Close the connection that still holds this session, unless it is `except` (R-REC-2): to the user's home, which passes it on.
    EndSession {
        user: UserRef,
        session: Ulid,
        except: ConnRef,
    },
    CloseSession {
        conn: ConnRef,
        session: Ulid,
    },

    // --- about engine sessions (`engine`), between a front door, a session's shard and the shard of a pid.
    /// A polling request for a session of another shard. Full: the front door answers 503.
    EngineAsk(Box<Asked>),
    /// Its answer. Never lost.
    EngineAnswer(Box<(Reply, Answer)>),
    /// A WebSocket that wants to take over a session of another shard. Full: the front door answers 503.
    EngineUpgrade(Box<Upgrade>),
    /// Somebody wants what a pid stands for, and the answer. Never lost: a client's CONNECT waits for it.
    EngineClaim(Box<Claim>),
    EngineRecovered(Box<Recovered>),
    /// This connection's client has come back elsewhere. Never lost.
    EngineYield(ConnRef),
    /// What a lost connection leaves; none if there is nothing to recover. Never lost.
    EngineKeep(Box<(Sid, Option<Remembered>)>),

    // --- from the store, the services and boot. The sender waits and tries again.
    Stored(Vec<Done>),
    Report(crossbeam_channel::Sender<Box<ShardReport>>),
    /// New settings or keys; in force for what comes after.
    Config(Arc<Config>),
    /// With the way to ask for more keys, if that has changed too.
    Keys(Arc<Verifier>, Option<UnknownKey>),
    /// Another certificate, for the handshakes that come.
    Certificate(Arc<Acceptor>),
    /// Close connections in batches with the drain code, then stop (R-CONN-6).
    Drain,
    /// Stop now.
    Stop,
}

impl Mail {
    /// From a connection's shard to a room's home, whose answers may be large. All other mail asks for little or nothing.
    pub fn is_for_room(&self) -> bool {
        matches!(self, Mail::Command { .. } | Mail::Resume(_) | Mail::Presence { .. } | Mail::Parted { .. })
    }
}

/// Why a subscription ends without a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Its connection was closed in order.
    Closed,
    /// Its connection is gone; the user may come back within the leave grace.
    Lost,
    /// Its session is in too many rooms. The connection stays, so only the room's home can end it: what it has sent on its way, a
    /// later join's subscription perhaps, is still to come.
    OverLimit,
}

pub struct ResumeRoom {
    pub from: ConnRef,
    pub user: UserRef,
    pub role: GlobalRole,
    pub request: Box<str>,
    pub room: Box<str>,
    pub epoch: Box<str>,
    pub offset: u64,
    pub read_at_ns: u64,
}

/// The hot variants are moved through the queues whole; keep them within two cache lines.
const _: () = assert!(size_of::<Mail>() <= 128);
