//! The connection record: what one connection costs while it is silent. Everything rarer is in `Active`,
//! which exists only while something is half-way: a partial message, unsent bytes, a rate bucket in use.
use super::formats::FormatId;
use crate::base::user::{GlobalRole, UserRef};
use crate::ids::Ulid;
use crate::rooms::event::Status;
use crate::session::encode::PresenceEntry;
use crate::session::format::Format;
use crate::wire::ws::Decoder;
use std::sync::Arc;

/// "No index": the end of a list, or no side record.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The slot is unused, or waits for its `Released`.
    #[default]
    Free,
    /// No token yet: an `auth` frame must come.
    Greeting,
    /// The user's home shard was asked.
    SigningIn,
    Open,
    /// A close frame is on its way out; only the peer's answer is of interest.
    Closing,
    /// All was said and the outgoing stream has ended; the peer is to end its own.
    Lingering,
    /// The plane was told to close.
    Closed,
    /// Development only: returns every message, for protocol test suites.
    Echo,
    /// Carries an engine session (`engine`): signs nobody in, is in no room.
    Carrier,
}

/// Conditions of a connection, one bit each.
pub mod flag {
    /// Listed in `Deliveries::dirty`.
    pub const DIRTY: u8 = 1;
    /// The socket has no room; a `Writable` will come.
    pub const BLOCKED: u8 = 2;
    /// A resume is being answered: room logs wait until its ack is in the outbox.
    pub const HOLD_LOGS: u8 = 4;
    /// A ping is unanswered.
    pub const PINGED: u8 = 8;
    /// `token_expiring` was sent for the current token.
    pub const EXPIRY_WARNED: u8 = 16;
    /// Close the socket as soon as the outbox is empty.
    pub const LAST_WORDS: u8 = 32;
    /// A drain has announced the end: what still comes is not taken up.
    pub const LEAVING: u8 = 64;
    /// A ping goes out with the next flush.
    pub const PING_DUE: u8 = 128;
}

/// What a connection is: its user's role, whether its bytes are sealed, and the format of what it is sent, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind(u8);

impl Kind {
    const ROLE: u8 = 0b11;
    const TLS: u8 = 0b100;
    /// Bits from here on are the format's.
    const FORMAT_SHIFT: u32 = 3;

    pub fn role(self) -> GlobalRole {
        match self.0 & Self::ROLE {
            0 => GlobalRole::None,
            1 => GlobalRole::Moderator,
            _ => GlobalRole::Admin,
        }
    }

    pub fn set_role(&mut self, role: GlobalRole) {
        self.0 = self.0 & !Self::ROLE | role as u8;
    }

    /// It has a session in `Core::secured`, and is sent to by way of it alone.
    pub fn is_tls(self) -> bool {
        self.0 & Self::TLS != 0
    }

    pub fn set_tls(&mut self) {
        self.0 |= Self::TLS;
    }

    pub fn format(self) -> FormatId {
        FormatId::from_bits(self.0 >> Self::FORMAT_SHIFT)
    }

    pub fn set_format(&mut self, format: FormatId) {
        self.0 = (self.0 & ((1 << Self::FORMAT_SHIFT) - 1)) | format.bits() << Self::FORMAT_SHIFT;
    }

    /// Native messages go out as they are.
    pub fn is_native(self) -> bool {
        self.0 >> Self::FORMAT_SHIFT == FormatId::NATIVE.bits()
    }
}

const _: () = assert!(FormatId::COUNT_MAX as u32 <= 1 << (u8::BITS - Kind::FORMAT_SHIFT));

/// 56 bytes. Times are in ticks (`limits::TICK_MS`).
pub struct Conn {
    pub user: Option<UserRef>,
    /// Two words rather than a u128, whose alignment would pad the record.
    session: [u64; 2],
    /// Head of the list of subscriptions.
    pub first_subscription: u32,
    /// Index of the `Active` record, NONE while there is none.
    pub active: u32,
    /// Unix seconds at which the token expires.
    pub expires_at_s: u32,
    /// When bytes last came from the peer.
    pub heard: u32,
    /// When the peer last sent something other than control frames; before sign-in, when it came.
    pub spoke: u32,
    /// Entry in `Addresses`, NONE if not counted.
    pub address: u32,
    /// 1.. ; counts up when the slot is reused (`ConnRef::next_generation`), and says whether the connection only listens.
    pub generation: u16,
    /// Messages lately, less what time has taken off: see `Flood` (R-CHAT-5).
    pub flood: u16,
    pub stage: Stage,
    pub flags: u8,
    pub kind: Kind,
    /// Flush round in which bytes were last offered, modulo 256: one send per connection and round. To be taken for busy by
    /// accident costs one more round.
    pub round: u8,
}

const _: () = assert!(size_of::<Conn>() <= 56, "a million connections hold a million of these");

impl Conn {
    pub fn vacant(generation: u16) -> Conn {
        Conn {
            user: None,
            session: [0; 2],
            address: NONE,
            first_subscription: NONE,
            active: NONE,
            expires_at_s: 0,
            heard: 0,
            spoke: 0,
            round: 0,
            generation,
            flood: 0,
            stage: Stage::Free,
            flags: 0,
            kind: Kind::default(),
        }
    }

    pub fn session(&self) -> Ulid {
        Ulid(u128::from(self.session[0]) << 64 | u128::from(self.session[1]))
    }

    pub fn set_session(&mut self, session: Ulid) {
        self.session = [(session.0 >> 64) as u64, session.0 as u64];
    }

    /// A carrier's engine session, NONE if it has none. It has no session of its own: the words are free for it.
    pub fn carried(&self) -> u32 {
        debug_assert!(self.user.is_none());
        self.session[0] as u32
    }

    pub fn set_carried(&mut self, engine: u32) {
        self.session = [engine.into(), 0];
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Commands are read and events delivered.
    pub fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Greeting | Stage::SigningIn | Stage::Open | Stage::Echo | Stage::Carrier)
    }
}

/// What a connection needs only while something is going on. Its buffers come from a pool.
#[derive(Default)]
pub struct Active {
    pub decoder: Decoder,
    /// Pieces of a message that did not arrive in one buffer.
    pub assembly: Vec<u8>,
    pub outbox: Outbox,
    /// Bucket of `limits.live`, as a TAT.
    pub live_tat_ns: u64,
    /// Malformed messages, and when counting them began (R-ENV-3).
    pub invalid: u32,
    pub invalid_since_ms: u64,
    /// Listed in `Core::cooling`.
    pub is_cooling: bool,
    /// Tick since which nothing could be sent, 0 while not blocked.
    pub blocked_since: u32,
    /// Request id of the `auth` command that waits for its answer.
    pub auth_request: Option<Box<str>>,
    /// Commands that came while the sign-in was being decided.
    pub held: Vec<Box<[u8]>>,
    pub resume: Option<Box<PendingResume>>,
    pub presence: Option<Box<PendingPresence>>,
}

/// A `resume` whose rooms have not all answered.
pub struct PendingResume {
    pub connection_id: Ulid,
    pub request: Box<str>,
    pub remaining: u32,
    /// JSON of one room each.
    pub parts: Vec<Box<[u8]>>,
}

/// A `get_presence` whose rooms have not all answered.
pub struct PendingPresence {
    pub request: Box<str>,
    pub remaining: u32,
    pub asked: Arc<[Box<str>]>,
    pub found: Vec<(Box<str>, Status, u64)>,
}

impl PendingPresence {
    /// One entry for each user asked for. Who is not online in a room that the caller shares is offline as far as the
    /// caller can know (R-PRES-4).
    pub fn entries(&self) -> impl Iterator<Item = PresenceEntry<'_>> {
        self.asked.iter().map(|user_id| {
            let seen = self.found.iter().filter(|(user, ..)| user == user_id).max_by_key(|(.., at_ms)| *at_ms);
            PresenceEntry {
                user_id,
                status: seen.map_or(Status::Offline, |(_, status, _)| *status),
                last_activity_ms: seen.map(|(.., at_ms)| *at_ms),
            }
        })
    }
}

impl Active {
    /// Buckets are full and counts have lapsed: nothing in it must be remembered for its time alone.
    pub fn is_cool(&self, now_ns: u64, now_ms: u64) -> bool {
        self.live_tat_ns <= now_ns
            && (self.invalid == 0 || now_ms.saturating_sub(self.invalid_since_ms) > crate::limits::INVALID_WINDOW_MS)
    }

    /// Nothing in it that must be remembered.
    pub fn is_idle(&self, now_ns: u64, now_ms: u64) -> bool {
        self.decoder.is_idle()
            && self.assembly.is_empty()
            && self.outbox.is_empty()
            && self.blocked_since == 0
            && self.is_cool(now_ns, now_ms)
            && self.auth_request.is_none()
            && self.held.is_empty()
            && self.resume.is_none()
            && self.presence.is_none()
    }
}

/// Private bytes for one connection, in order: answers, snapshots, control frames.
#[derive(Default)]
pub struct Outbox {
    pub bytes: Vec<u8>,
    /// 0 <= sent <= bytes.len(): the prefix the kernel has taken.
    pub sent: usize,
    /// 0 <= partial <= bytes.len(): a prefix that is no whole frame: the rest of one that was cut, the HTTP response, or an answer of
    /// several frames that is not to be cut between them. Whole frames follow.
    pub partial: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    pub fn unsent(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The first end of a frame at `position` or behind it.
    pub fn end_of_frame(&self, position: usize, format: &Format) -> usize {
        let mut end = self.partial;
        while end < position {
            end += format.frame_len(&self.bytes[end..]).expect("the outbox holds whole frames");
        }
        end
    }
}
