//! The store's port: what a back end must do, as two traits, and the jobs that pass through it.
//!
//! One *writer* applies jobs in batches. A batch is one transaction, and it is on disk (fsync) when
//! `commit` returns, before anyone is told (R-CHAT-4). The writer numbers each room's stream: offsets start at
//! 1, step by 1, and never have a hole, because a job that fails takes no offset. It is also the one
//! place that knows which client ids were used lately (R-CHAT-3), because every message passes here.
//! *Readers* see committed data only.
use crate::base::user::UserRef;
use crate::ids::{ConnRef, Ulid};

/// The back end's own short name for a room.
pub type RoomPk = i64;

/// R-ROOM-2: fixed when the room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomType {
    Public,
    Private,
    Direct,
}

impl RoomType {
    pub const fn as_str(self) -> &'static str {
        match self {
            RoomType::Public => "public",
            RoomType::Private => "private",
            RoomType::Direct => "direct",
        }
    }

    pub fn parse(text: &str) -> Option<RoomType> {
        [RoomType::Public, RoomType::Private, RoomType::Direct].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A member's role in one room. Ordered by power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May join a private room, is no member yet.
    Invited,
    Member,
    Moderator,
    Owner,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Invited => "invited",
            Role::Member => "member",
            Role::Moderator => "moderator",
            Role::Owner => "owner",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        [Role::Invited, Role::Member, Role::Moderator, Role::Owner].into_iter().find(|role| role.as_str() == text)
    }
}

/// A room's own facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRow {
    pub pk: RoomPk,
    pub id: Box<str>,
    pub kind: RoomType,
    pub name: Box<str>,
    pub description: Box<str>,
    pub created_at_ms: u64,
    pub slow_mode_s: u32,
    /// At most 16 characters; changes only if the log was lost or restored.
    pub epoch: Box<str>,
    /// Offset of the newest durable event, 0 if there is none.
    pub last_offset: u64,
    /// Members, not counting the invited.
    pub member_count: u64,
}

/// What a durable event of a room's stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A chat message: `body` is its text, `detail` its metadata object (JSON) if any.
    Message = 1,
    /// For the following `user_id` is the actor and `detail` the event's data object (JSON) without
    /// `roomId`, `offset` and `epoch`.
    MemberAdded = 2,
    MemberRemoved = 3,
    RoleChanged = 4,
    RoomUpdated = 5,
}

impl EventKind {
    pub fn from_u8(value: u8) -> Option<EventKind> {
        use EventKind::*;
        [Message, MemberAdded, MemberRemoved, RoleChanged, RoomUpdated].into_iter().find(|kind| *kind as u8 == value)
    }
}

/// One durable event of a room's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub offset: u64,
    pub kind: EventKind,
    pub id: Ulid,
    pub user_id: Box<str>,
    /// Only with `privacy.expose_email`.
    pub user_email: Option<Box<str>>,
    pub client_id: Option<Box<str>>,
    /// Message text; empty for other kinds.
    pub body: Box<str>,
    pub detail: Option<Box<str>>,
    pub at_ms: u64,
}

/// Who waits for a job, handed back with it untouched.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// Shard whose mailbox gets the finished job.
    pub shard: u16,
    /// The home shard's own key of the room.
    pub room_key: u32,
    /// The connection that asked, and its request id; none for the server's own work.
    pub conn: Option<ConnRef>,
    pub request: Box<str>,
    pub user: Option<UserRef>,
    /// Monotonic nanoseconds when the command was read: for the latency histograms.
    pub read_at_ns: u64,
}

/// Stores one event at the next offset of its room.
#[derive(Clone, Debug)]
pub struct Append {
    pub room: RoomPk,
    /// `offset` is filled in by the writer.
    pub event: EventRow,
    /// Makes the author a member if they are none yet (public rooms, R-ROOM-3).
    pub make_member: bool,
    /// Do not store: only say whether the client id was used (`Duplicate`, `Conflict`), else `Unused`. For a message that
    /// would be refused for another reason, because idempotency is checked first (R-CHAT-2).
    pub probe: bool,
}

#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// `pk`, `epoch`, `last_offset` and `member_count` are filled in by the writer; every creation has an epoch of its own.
    pub row: RoomRow,
    /// First members with their roles: owner, or both users of a direct room.
    pub members: Vec<(Box<str>, Role)>,
    /// For a direct room: its two users. The writer keeps one room per unordered pair.
    pub pair: Option<(Box<str>, Box<str>)>,
}

/// Changes one member and stores the event that tells of it, in one transaction.
#[derive(Clone, Debug)]
pub struct SetMember {
    pub room: RoomPk,
    pub user_id: Box<str>,
    /// None removes the member.
    pub role: Option<Role>,
    /// None: nobody is told (an invitation that its user turns into membership is told, leaving a public room is not).
    pub event: Option<EventRow>,
}

#[derive(Clone, Debug)]
pub struct UpdateRoom {
    pub room: RoomPk,
    pub name: Option<Box<str>>,
    pub description: Option<Box<str>>,
    pub slow_mode_s: Option<u32>,
    pub event: EventRow,
}

#[derive(Clone, Debug)]
pub enum Write {
    Append(Append),
    CreateRoom(CreateRoom),
    SetMember(SetMember),
    UpdateRoom(UpdateRoom),
    /// The room, its members and its stream are gone. Its name may be used again, with a new epoch.
    DeleteRoom(RoomPk),
}

#[derive(Clone, Debug)]
pub enum Read {
    /// A room by id, with roles and its newest events.
    Room {
        id: Box<str>,
        /// How many of its newest events to bring.
        recent: u32,
    },
    /// Messages (only) before or after an offset, for `get_history`.
    History { room: RoomPk, from: HistoryFrom, limit: u32 },
    /// All durable events with `after < offset`, at most `limit`, oldest first: for recovery.
    Events { room: RoomPk, after: u64, limit: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The newest ones.
    End,
    /// Those with a smaller offset, newest of them.
    Before(u64),
    /// Those with a larger offset, oldest of them.
    After(u64),
}

/// What a room is loaded with.
#[derive(Clone, Debug)]
pub struct RoomImage {
    pub row: RoomRow,
    /// Everyone for private and direct rooms; moderators and owners only for public ones.
    pub roles: Vec<(Box<str>, Role)>,
    /// Newest events, oldest first.
    pub recent: Vec<EventRow>,
}

/// The answer to a job.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Append: stored at this offset. `became_member` if the author was made a member by it.
    Appended {
        offset: u64,
        became_member: bool,
    },
    /// Append: the same user used this client id with the same content within `chat.dedupe_s`: the first result.
    Duplicate {
        offset: u64,
        id: Ulid,
        at_ms: u64,
    },
    /// Append: this client id was used with other content (another room counts). CreateRoom: the id is taken.
    Conflict,
    /// Append with `probe`: not used.
    Unused,
    /// CreateRoom: made, with this key. For a direct room that exists already: that room, `is_new` false. The image has no
    /// `recent` events.
    Created {
        image: Box<RoomImage>,
        is_new: bool,
    },
    /// SetMember, UpdateRoom: done; the offset of the event, 0 if there was none.
    Changed {
        offset: u64,
        member_count: u64,
    },
    Deleted,
    Room(Option<Box<RoomImage>>),
    /// History, Events: oldest first. `has_more`: there is more in the direction of reading.
    Page {
        rows: Vec<EventRow>,
        has_more: bool,
    },
    /// The room of the job is gone.
    NoRoom,
    /// The back end failed; nothing of this job is stored. The reason is logged, not shown.
    Failed,
}

/// A write on its way: to the writer, then back with its outcome.
#[derive(Clone, Debug)]
pub struct WriteJob {
    pub waiter: Waiter,
    pub write: Write,
}

#[derive(Clone, Debug)]
pub struct ReadJob {
    pub waiter: Waiter,
    pub read: Read,
}

/// A finished job of either kind. Jobs of one room come back in the order in which they were handed in, per kind.
#[derive(Clone, Debug)]
pub enum Done {
    Write { job: Box<WriteJob>, outcome: Outcome },
    Read { job: Box<ReadJob>, outcome: Outcome },
}

impl Done {
    pub fn waiter(&self) -> &Waiter {
        match self {
            Done::Write { job, .. } => &job.waiter,
            Done::Read { job, .. } => &job.waiter,
        }
    }
}

/// The one writer of a back end.
pub trait Writer: Send {
    /// Applies `jobs` in order in one transaction and pushes one outcome per job, in order. When it returns, every outcome other
    /// than `Failed` holds on disk. `now_ms` is Unix time, for the idempotency window.
    fn commit(&mut self, jobs: &[Box<WriteJob>], now_ms: u64, outcomes: &mut Vec<Outcome>);

    /// Whether a write would succeed now: for `/readyz`.
    fn probe(&mut self) -> bool;

    /// One small step of work that nobody waits for, such as `history.retention_days`; called when no job waits, and
    /// now and then when jobs always wait. True: there is more to do at once.
    fn housekeep(&mut self, _now_ms: u64) -> bool {
        false
    }
}

/// One of the readers of a back end.
pub trait Reader: Send {
    /// Answers with `Room`, `Page`, `NoRoom` or `Failed`.
    fn read(&mut self, read: &Read) -> Outcome;
}

/// Where a shard hands in its jobs. Bounded: a full queue gives the job back, and the command is refused as `overloaded`.
pub trait StorePort: Send {
    fn write(&self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>>;
    fn read(&self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>>;
}
