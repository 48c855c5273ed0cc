//! Identifiers (R-ID-1, R-ID-2): ULIDs with a prefix for what the server names, and validation of what
//! applications name. An id is never a credential.
use std::fmt;

/// 48 bits of Unix milliseconds, then 80 bits from the operating system's random source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ulid(pub u128);

impl Ulid {
    pub const TEXT_BYTES: usize = ulid::ULID_LEN;

    pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Ulid {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Ulid(u128::from_be_bytes(bytes))
    }

    /// The 26 characters, without prefix.
    pub fn parse(text: &str) -> Option<Ulid> {
        ulid::Ulid::from_string(text).ok().map(|id| Ulid(id.0))
    }

    /// Parses `prefix` + ULID, for example `sess_01J…`.
    pub fn parse_prefixed(prefix: Prefix, text: &str) -> Option<Ulid> {
        Ulid::parse(text.strip_prefix(prefix.as_str())?)
    }

    pub fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// Text form without allocation.
    pub fn text(self, buffer: &mut [u8; Ulid::TEXT_BYTES]) -> &str {
        ulid::Ulid(self.0).array_to_str(buffer)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; Ulid::TEXT_BYTES]))
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What kind of thing an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    Connection,
    Session,
    Room,
    Message,
    Event,
}

impl Prefix {
    pub const fn as_str(self) -> &'static str {
        match self {
            Prefix::Connection => "conn_",
            Prefix::Session => "sess_",
            Prefix::Room => "room_",
            Prefix::Message => "msg_",
            Prefix::Event => "evt_",
        }
    }
}

/// All prefixes that the server uses or will use (R-ID-1); no application name may start with one.
pub const SERVER_PREFIXES: [&str; 17] = [
    "conn_", "sess_", "room_", "msg_", "evt_", "thr_", "upl_", "file_", "sch_", "poll_", "ntf_", "tpl_", "grp_",
    "exp_", "rpt_", "key_", "node_",
];

/// R-ID-2: 1–128 of `A-Za-z0-9_.:-`, no server prefix.
pub fn is_app_room_name(name: &str) -> bool {
    is_room_characters(name) && !SERVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A room id that a client may name: an application's name, or one that the server gave out.
pub fn is_room_id(id: &str) -> bool {
    Ulid::parse_prefixed(Prefix::Room, id).is_some() || is_app_room_name(id)
}

fn is_room_characters(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

/// 1–128 characters (code points), no control characters.
pub fn is_user_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 512 && id.chars().count() <= 128 && !id.chars().any(char::is_control)
}

/// Client ids, envelope ids, event names: 1–64 characters.
pub fn is_short_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 256 && id.chars().count() <= 64
}

/// Envelope ids that the server makes for protocols whose messages have none begin with this. They repeat, so they are no
/// idempotency keys (R-SIO-1).
pub const MADE_ID_MARK: char = '~';

/// The client id of a message that names none: its envelope's, if a client made it.
pub fn client_id_of_envelope(id: &str) -> Option<&str> {
    (!id.starts_with(MADE_ID_MARK)).then_some(id)
}

/// Overwrites its argument with random bytes: the operating system's, or a seeded source's in tests.
pub type Fill = Box<dyn FnMut(&mut [u8]) + Send>;

/// Makes ULIDs from a supply of random bytes, refilled in bulk: one system call per 400 ids.
pub struct UlidSource {
    fill: Fill,
    supply: Box<[u8; UlidSource::SUPPLY_BYTES]>,
    used: usize,
}

impl UlidSource {
    const SUPPLY_BYTES: usize = 4000;

    pub fn new(fill: Fill) -> UlidSource {
        UlidSource { fill, supply: Box::new([0; Self::SUPPLY_BYTES]), used: Self::SUPPLY_BYTES }
    }

    pub fn next(&mut self, unix_ms: u64) -> Ulid {
        Ulid::from_parts(unix_ms, self.random())
    }

    /// Random bytes that were given to nobody else: for secrets.
    pub fn random<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > Self::SUPPLY_BYTES {
            (self.fill)(&mut self.supply[..]);
            self.used = 0;
        }
        let supply = &mut self.supply[self.used..self.used + N];
        let random = (&*supply).try_into().expect("as many bytes");
        // A secret is not to stay in memory.
        supply.fill(0);
        self.used += N;
        random
    }
}

/// Names one connection in the whole process. Never leaves it.
///
/// `generation` differs between two connections that use the same slot one after the other, so a
/// reference that outlives its connection is recognised. Its highest bit says that the connection only listens (an event stream), so
/// that whoever holds a reference knows whom it is of no use to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnRef {
    pub slot: u32,
    pub generation: u16,
    pub shard: u16,
}

impl ConnRef {
    /// The bit of a generation that is set for those that only listen.
    pub const LISTENER: u16 = 1 << 15;

    pub fn is_listener(self) -> bool {
        self.generation & ConnRef::LISTENER != 0
    }

    /// The generation after this one, of a connection that speaks: 1 to 32,767, then from 1 again.
    pub const fn next_generation(generation: u16) -> u16 {
        match (generation & !ConnRef::LISTENER) + 1 {
            ConnRef::LISTENER => 1,
            next => next,
        }
    }

    /// Never 0: generations start at 1.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 48 | u64::from(self.shard) << 32 | u64::from(self.slot)
    }

    pub fn from_bits(bits: u64) -> ConnRef {
        ConnRef { slot: bits as u32, shard: (bits >> 32) as u16, generation: (bits >> 48) as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulids_carry_their_time_and_sort_by_it() {
        let mut source = UlidSource::new(Box::new(|bytes| bytes.fill(0xa5)));
        let (early, late) = (source.next(1_700_000_000_000), source.next(1_700_000_000_001));
        assert_eq!(early.unix_ms(), 1_700_000_000_000);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(Ulid::parse(&early.to_string()), Some(early));
        assert_eq!(Ulid::parse_prefixed(Prefix::Session, &format!("sess_{early}")), Some(early));
        assert_eq!(Ulid::parse_prefixed(Prefix::Session, &format!("conn_{early}")), None);
    }

    #[test]
    fn room_names() {
        for good in ["lobby", "a", "game:42.x-Y_z", &"x".repeat(128)] {
            assert!(is_app_room_name(good) && is_room_id(good), "{good}");
        }
        for bad in ["", "room_x", "msg_1", "sp ace", "ü", &"x".repeat(129), "a/b", "node_1"] {
            assert!(!is_app_room_name(bad), "{bad}");
        }
        assert!(is_room_id("room_01ARZ3NDEKTSV4RRFFQ69G5FAV"));
        assert!(!is_room_id("room_01ARZ3NDEKTSV4RRFFQ69G5FA"));
    }

    #[test]
    fn user_ids_count_code_points() {
        assert!(is_user_id("anna") && is_user_id(&"ü".repeat(128)));
        assert!(!is_user_id("") && !is_user_id(&"ü".repeat(129)) && !is_user_id("a\nb"));
    }

    #[test]
    fn conn_refs_round_trip() {
        let conn = ConnRef { slot: u32::MAX, generation: 7, shard: 300 };
        assert_eq!(ConnRef::from_bits(conn.to_bits()), conn);
        assert!(!conn.is_listener() && ConnRef { generation: 7 | ConnRef::LISTENER, ..conn }.is_listener());
    }

    #[test]
    fn generations_are_never_0_and_forget_who_listened() {
        let next = |generation| ConnRef::next_generation(generation);
        assert_eq!([1, 32_766, 32_767, 5 | ConnRef::LISTENER, u16::MAX].map(next), [2, 32_767, 1, 6, 1]);
    }
}
