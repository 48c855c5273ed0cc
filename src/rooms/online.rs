//! Who is online in a room: one entry of 16 bytes per user, whatever number of devices, and a table to find it.
//!
//! An entry keeps its place while the user is online, so paging by place shows everyone who stays exactly once. A user whose last
//! connection broke stays for a grace, *away*, without sessions.
use crate::base::hash::name_hash;
use crate::base::user::UserRef;
use crate::ids::ConnRef;
use crate::limits::SHARDS_MAX;
use crate::store::port::Role;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) struct Online {
    pub user: UserRef,
    packed: Packed,
}

const _: () = assert!(size_of::<Online>() <= 16 && size_of::<Option<Online>>() <= 16);

/// A user's sessions and notes in eight bytes: what kind of sessions in the upper two bits, then four bits of notes, then the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    One(ConnRef),
    /// Place in `OnlineTable::several`.
    Several(u32),
    Away {
        until_ms: u64,
    },
}

/// Generation, shard and slot of a session.
const SESSION_BITS: u32 = 16 + SHARD_BITS + 32;
const SHARD_BITS: u32 = 10;
const _: () = assert!(SHARDS_MAX as u32 <= 1 << SHARD_BITS);

const MEMBER_BIT: u32 = SESSION_BITS;
const GRANT_BITS: u32 = SESSION_BITS + 1;
const KIND_BITS: u32 = 62;
const _: () = assert!(GRANT_BITS + 3 == KIND_BITS);

const SESSIONS_MASK: u64 = 3 << KIND_BITS | ((1 << SESSION_BITS) - 1);

const GRANTS: [Option<Role>; 5] =
    [None, Some(Role::Invited), Some(Role::Member), Some(Role::Moderator), Some(Role::Owner)];

impl Packed {
    fn new(sessions: Sessions) -> Packed {
        let (kind, value) = match sessions {
            Sessions::One(conn) => (
                0,
                u64::from(conn.generation) << (32 + SHARD_BITS) | u64::from(conn.shard) << 32 | u64::from(conn.slot),
            ),
            Sessions::Several(place) => (1, u64::from(place)),
            Sessions::Away { until_ms } => (2, until_ms),
        };
        Packed(kind << KIND_BITS | value & SESSIONS_MASK)
    }

    fn get(self) -> Sessions {
        let value = self.0 & ((1 << SESSION_BITS) - 1);
        match self.0 >> KIND_BITS {
            0 => Sessions::One(ConnRef {
                slot: value as u32,
                shard: (value >> 32) as u16 & ((1 << SHARD_BITS) - 1),
                generation: (value >> (32 + SHARD_BITS)) as u16,
            }),
            1 => Sessions::Several(value as u32),
            _ => Sessions::Away { until_ms: value },
        }
    }
}

impl Online {
    fn sessions(&self) -> Sessions {
        self.packed.get()
    }

    /// The notes stay.
    fn set_sessions(&mut self, sessions: Sessions) {
        self.packed = Packed(self.packed.0 & !SESSIONS_MASK | Packed::new(sessions).0);
    }

    /// What a room token grants as long as the user has sessions here.
    pub fn granted(&self) -> Option<Role> {
        GRANTS.get(self.packed.0 as usize >> GRANT_BITS & 7).copied().flatten()
    }

    pub fn grant(&mut self, role: Option<Role>) {
        let code = GRANTS.iter().position(|grant| *grant == role).unwrap_or(0) as u64;
        self.packed = Packed(self.packed.0 & !(7 << GRANT_BITS) | code << GRANT_BITS);
    }

    /// Known to be a member of a public room (members of others are in the room's roles).
    pub fn is_member(&self) -> bool {
        self.packed.0 >> MEMBER_BIT & 1 == 1
    }

    pub fn set_member(&mut self, is_member: bool) {
        self.packed = Packed(self.packed.0 & !(1 << MEMBER_BIT) | u64::from(is_member) << MEMBER_BIT);
    }
}

/// What a session's coming means for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The user was not online here.
    First,
    /// The user was away, in the grace after a broken connection.
    Returned,
    /// A further device.
    Another,
    /// This session was here already.
    Already,
}

/// Finds a user's place by id.
#[derive(Debug)]
enum Index {
    /// Of few users: one byte of the hash of each one's id, by place. A search compares them sixteen and more at a time.
    Tags(Vec<u8>),
    /// Of many: their places.
    Places(Box<HashTable<u32>>),
}

impl Default for Index {
    fn default() -> Index {
        Index::Tags(Vec::new())
    }
}

/// Users of a room up to whom a byte each is index enough. More: each search looks at one more of another user, and a real index
/// costs little beside so many. Fewer: the usual room has one, of five to ten bytes a user.
const TAGGED_MAX: usize = 256;

/// Bits of a hash that have chosen neither a shard nor a bucket.
fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8
}

#[derive(Debug, Default)]
pub(super) struct OnlineTable {
    users: Slab<Online>,
    index: Index,
    /// Sessions of users with several.
    several: Slab<Vec<ConnRef>>,
    /// Shards with sessions, ascending; `counts` has their numbers of sessions.
    shards: Vec<u16>,
    counts: Vec<u32>,
    /// Ends of graces, ascending; an entry counts only if its user is still away until then.
    graces: VecDeque<(u64, u32)>,
}

impl OnlineTable {
    /// Users, those away included.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Subscribed sessions.
    pub fn session_count(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// Shards that have subscribed sessions.
    pub fn shards(&self) -> &[u16] {
        &self.shards
    }

    pub fn find(&self, user_id: &str) -> Option<u32> {
        let hash = name_hash(user_id);
        match &self.index {
            Index::Tags(tags) => {
                // Of a place that is free by now, the tag is still there.
                let is_it = |place: &usize| self.users.get(*place).is_some_and(|entry| entry.user.id() == user_id);
                memchr::memchr_iter(tag(hash), tags).find(is_it).map(|place| place as u32)
            }
            Index::Places(places) => {
                places.find(hash, |&place| self.users[place as usize].user.id() == user_id).copied()
            }
        }
    }

    /// The user's place, if this session of theirs is subscribed.
    pub fn subscribed(&self, user_id: &str, conn: ConnRef) -> Option<u32> {
        let place = self.find(user_id)?;
        let is_here = match self.users[place as usize].sessions() {
            Sessions::One(one) => one == conn,
            Sessions::Several(list) => self.several[list as usize].contains(&conn),
            Sessions::Away { .. } => false,
        };
        is_here.then_some(place)
    }

    pub fn get(&self, place: u32) -> &Online {
        &self.users[place as usize]
    }

    pub fn get_mut(&mut self, place: u32) -> &mut Online {
        &mut self.users[place as usize]
    }

    pub fn sessions(&self, place: u32) -> SmallVec<[ConnRef; 4]> {
        match self.users[place as usize].sessions() {
            Sessions::One(conn) => SmallVec::from_slice(&[conn]),
            Sessions::Several(list) => SmallVec::from_slice(&self.several[list as usize]),
            Sessions::Away { .. } => SmallVec::new(),
        }
    }

    /// All sessions, of whatever user.
    pub fn all_sessions(&self) -> impl Iterator<Item = ConnRef> {
        self.users.iter().flat_map(|(place, _)| self.sessions(place as u32))
    }

    /// Adds a session.
    pub fn join(&mut self, user: &UserRef, conn: ConnRef, now_s: u32) -> (u32, Came) {
        let Some(place) = self.find(user.id()) else {
            let sessions = Sessions::One(conn);
            // Who has not been active since sign-in counts from the first join.
            let _ = user.last_active_s.compare_exchange(0, now_s, Relaxed, Relaxed);
            let entry = Online { user: user.clone(), packed: Packed::new(sessions) };
            if self.users.len() == self.users.capacity() {
                // By an eighth, not by doubling: most rooms are small and stay so, and half of a table would stand empty.
                self.users.reserve_exact(self.users.len() / 8 + 4);
            }
            let place = self.users.insert(entry) as u32;
            self.list(place);
            self.count(conn.shard);
            return (place, Came::First);
        };
        let entry = &mut self.users[place as usize];
        let came = match entry.sessions() {
            Sessions::One(one) if one == conn => Came::Already,
            Sessions::One(one) => {
                let list = self.several.insert(vec![one, conn]) as u32;
                entry.set_sessions(Sessions::Several(list));
                Came::Another
            }
            Sessions::Several(list) => {
                let list = &mut self.several[list as usize];
                if list.contains(&conn) {
                    Came::Already
                } else {
                    list.push(conn);
                    Came::Another
                }
            }
            Sessions::Away { .. } => {
                // After a while without connections the user may be known by a new allocation.
                entry.user = user.clone();
                entry.grant(None);
                entry.set_sessions(Sessions::One(conn));
                Came::Returned
            }
        };
        if came != Came::Already {
            self.count(conn.shard);
        }
        (place, came)
    }

    /// Takes a subscribed session away. True if it was the last: then `go_away` or `remove` must follow.
    pub fn part(&mut self, place: u32, conn: ConnRef) -> bool {
        let entry = &mut self.users[place as usize];
        let is_last = match entry.sessions() {
            Sessions::One(_) => {
                entry.set_sessions(Sessions::Away { until_ms: 0 });
                true
            }
            Sessions::Several(list) => {
                let sessions = &mut self.several[list as usize];
                sessions.retain(|&one| one != conn);
                if let [last] = sessions[..] {
                    self.several.remove(list as usize);
                    entry.set_sessions(Sessions::One(last));
                }
                false
            }
            Sessions::Away { .. } => return true,
        };
        self.uncount(conn.shard);
        is_last
    }

    /// Lets a user without sessions stay until then.
    pub fn go_away(&mut self, place: u32, until_ms: u64) {
        self.users[place as usize].set_sessions(Sessions::Away { until_ms });
        self.graces.push_back((until_ms, place));
    }

    /// Removes a user with all sessions.
    pub fn remove(&mut self, place: u32) -> UserRef {
        for conn in self.sessions(place) {
            self.part(place, conn);
        }
        let hash = name_hash(self.users[place as usize].user.id());
        if let Index::Places(places) = &mut self.index
            && let Ok(entry) = places.find_entry(hash, |&other| other == place)
        {
            entry.remove();
        }
        self.users.remove(place as usize).user
    }

    /// Makes a newcomer known to `find`.
    fn list(&mut self, place: u32) {
        let users = &self.users;
        let hash = |&place: &u32| name_hash(users[place as usize].user.id());
        match &mut self.index {
            Index::Tags(tags) if (place as usize) < TAGGED_MAX => {
                if tags.len() <= place as usize {
                    tags.reserve_exact(users.capacity().min(TAGGED_MAX) - tags.len());
                    tags.resize(place as usize + 1, 0);
                }
                tags[place as usize] = tag(hash(&place));
            }
            Index::Tags(_) => {
                let mut places = Box::<HashTable<u32>>::default();
                users.iter().for_each(|(place, _)| {
                    let place = place as u32;
                    places.insert_unique(hash(&place), place, hash);
                });
                self.index = Index::Places(places);
            }
            Index::Places(places) => _ = places.insert_unique(hash(&place), place, hash),
        }
    }

    /// A user whose grace is over, if any.
    pub fn pop_grace(&mut self, now_ms: u64) -> Option<u32> {
        while let Some((until_ms, place)) = self.graces.pop_front_if(|(until_ms, _)| *until_ms <= now_ms) {
            let away = Sessions::Away { until_ms };
            if self.users.get(place as usize).is_some_and(|entry| entry.sessions() == away) {
                return Some(place);
            }
        }
        if self.graces.is_empty() {
            // After a storm every room would keep the places.
            self.graces = VecDeque::new();
        }
        None
    }

    /// When `pop_grace` should be asked next.
    pub fn next_grace_ms(&self) -> Option<u64> {
        self.graces.front().map(|&(until_ms, _)| until_ms)
    }

    /// Users by place, from this place on.
    pub fn from(&self, place: usize) -> impl Iterator<Item = (usize, &Online)> {
        (place..self.users.capacity()).filter_map(|place| Some((place, self.users.get(place)?)))
    }

    fn count(&mut self, shard: u16) {
        match self.shards.binary_search(&shard) {
            Ok(at) => self.counts[at] += 1,
            Err(at) => {
                self.shards.insert(at, shard);
                self.counts.insert(at, 1);
            }
        }
    }

    fn uncount(&mut self, shard: u16) {
        if let Ok(at) = self.shards.binary_search(&shard) {
            self.counts[at] -= 1;
            if self.counts[at] == 0 {
                self.shards.remove(at);
                self.counts.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::user::User;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn conn(slot: u32) -> ConnRef {
        ConnRef { slot, generation: u16::MAX, shard: (slot % 3) as u16 }
    }

    #[test]
    fn notes_and_sessions_do_not_touch_each_other() {
        let user = UserRef::new(User::new("anna", None));
        let mut entry = Online { user, packed: Packed::new(Sessions::One(conn(7))) };
        for role in GRANTS {
            for is_member in [true, false] {
                for sessions in [Sessions::One(conn(u32::MAX)), Sessions::Several(3), Sessions::Away { until_ms: 9 }] {
                    entry.grant(role);
                    entry.set_member(is_member);
                    entry.set_sessions(sessions);
                    assert_eq!((entry.granted(), entry.is_member(), entry.sessions()), (role, is_member, sessions));
                }
            }
        }
    }

    #[test]
    fn packed_sessions_round_trip() {
        for sessions in [
            Sessions::One(ConnRef { slot: u32::MAX, generation: u16::MAX, shard: SHARDS_MAX - 1 }),
            Sessions::One(ConnRef { slot: 0, generation: 1, shard: 0 }),
            Sessions::Several(u32::MAX),
            Sessions::Away { until_ms: 1 << 57 },
        ] {
            assert_eq!(Packed::new(sessions).get(), sessions);
        }
    }

    #[test]
    fn a_return_within_the_grace_outlives_its_old_end() {
        let (mut table, anna) = (OnlineTable::default(), UserRef::new(User::new("anna", None)));
        let (place, came) = table.join(&anna, conn(1), 0);
        assert_eq!(came, Came::First);
        assert!(table.part(place, conn(1)));
        table.go_away(place, 100);
        assert_eq!(table.join(&anna, conn(2), 0), (place, Came::Returned));
        assert!(table.part(place, conn(2)));
        table.go_away(place, 150);
        assert_eq!(table.pop_grace(149), None);
        assert_eq!(table.pop_grace(150), Some(place));
        table.remove(place);
        assert!(table.is_empty() && table.find("anna").is_none() && table.next_grace_ms().is_none());
    }

    /// Whether by a byte each or by an index.
    #[test]
    fn many_are_found_as_well_as_few() {
        let users: Vec<UserRef> = (0..400).map(|n| UserRef::new(User::new(&format!("u{n}"), None))).collect();
        let mut table = OnlineTable::default();
        for _ in 0..2 {
            let places: Vec<u32> = users.iter().map(|user| table.join(user, conn(1), 0).0).collect();
            assert!(matches!(&table.index, Index::Places(places) if places.len() == 400));
            for (user, place) in users.iter().zip(&places) {
                assert_eq!(table.find(user.id()), Some(*place));
            }
            assert_eq!(table.find("u400"), None);
            places.into_iter().for_each(|place| _ = table.remove(place));
            assert!(table.is_empty() && users.iter().all(|user| table.find(user.id()).is_none()));
        }
        // Places are used again last in, first out, which is the highest first.
        let places: Vec<u32> = users[..5].iter().map(|user| table.join(user, conn(1), 0).0).collect();
        for (user, place) in users.iter().zip(&places) {
            assert_eq!(table.find(user.id()), Some(*place));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        /// Against a plain map from user to sessions.
        #[test]
        fn equals_a_plain_map(steps in prop::collection::vec((0usize..6, 0u32..12, any::<bool>()), 1..120)) {
            let users: Vec<UserRef> = (0..6).map(|n| UserRef::new(User::new(&format!("u{n}"), None))).collect();
            let mut table = OnlineTable::default();
            let mut model: BTreeMap<usize, BTreeSet<ConnRef>> = BTreeMap::new();
            for (user, slot, is_join) in steps {
                let id = users[user].id();
                if is_join {
                    let (_, came) = table.join(&users[user], conn(slot), 0);
                    let sessions = model.entry(user).or_default();
                    let expected = match (sessions.is_empty(), sessions.contains(&conn(slot))) {
                        (true, _) => Came::First,
                        (_, true) => Came::Already,
                        _ => Came::Another,
                    };
                    sessions.insert(conn(slot));
                    prop_assert_eq!(came, expected);
                } else if let Some(place) = table.subscribed(id, conn(slot)) {
                    let sessions = model.get_mut(&user).unwrap();
                    prop_assert!(sessions.remove(&conn(slot)));
                    prop_assert_eq!(table.part(place, conn(slot)), sessions.is_empty());
                    if sessions.is_empty() {
                        model.remove(&user);
                        table.remove(place);
                    }
                } else {
                    prop_assert!(!model.get(&user).is_some_and(|sessions| sessions.contains(&conn(slot))));
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.session_count(), model.values().map(|s| s.len() as u64).sum::<u64>());
                let shards: BTreeSet<u16> = model.values().flatten().map(|conn| conn.shard).collect();
                prop_assert_eq!(table.shards(), &shards.into_iter().collect::<Vec<_>>()[..]);
                for (&user, sessions) in &model {
                    let place = table.find(users[user].id()).unwrap();
                    prop_assert_eq!(&table.sessions(place).into_iter().collect::<BTreeSet<_>>(), sessions);
                }
                prop_assert_eq!(table.from(0).count(), model.len());
            }
        }
    }
}
