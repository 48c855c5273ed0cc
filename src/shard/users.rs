//! The directory of users whose home is this shard: one record per signed-in user, and who is connected.
//!
//! A user's record is shared by counting with the shards that hold the user's connections; only the home shard adds and removes it,
//! and notes in it who is connected. A user without connections is kept until the rate buckets are full again, so that
//! reconnecting does not refill them (R-SEC-12).
use crate::base::gradual::GradualTable;
use crate::base::hash::name_hash;
use crate::base::rate::Rate;
use crate::base::user::{User, UserRef};
use crate::config::Config;
use crate::ids::ConnRef;
use crate::limits::{COMMANDS_WINDOW_MS, ROOMS_CREATED_WINDOW_MS, SHARDS_MAX};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

pub struct Users {
    table: GradualTable<UserRef>,
    /// Connections of users that have two or more; one alone is noted in the user's record.
    several: HashMap<Box<str>, Vec<ConnRef>>,
    /// Users without connections, oldest first, until nothing about them need be remembered.
    lingering: VecDeque<UserRef>,
    connected: usize,
    pub rates: UserRates,
}

/// Of the buckets in a user's record: what they must be known by to see whether they are full.
#[derive(Clone, Copy, Debug)]
pub struct UserRates {
    pub messages: Rate,
    pub commands: Rate,
    pub rooms_created: Rate,
}

impl From<&Config> for UserRates {
    fn from(config: &Config) -> UserRates {
        let limits = &config.limits;
        UserRates {
            messages: Rate::per(limits.messages, limits.messages_window_s.saturating_mul(1_000)),
            commands: Rate::per(limits.commands, COMMANDS_WINDOW_MS),
            rooms_created: Rate::per(limits.rooms_created, ROOMS_CREATED_WINDOW_MS),
        }
    }
}

/// In `User::home`, where the number of a shard leaves room; else that is the user's only connection, or 0 for none.
const LISTED: u64 = 1 << 46;
const SEVERAL: u64 = 1 << 47;
const _: () = assert!(SHARDS_MAX as u64 <= 1 << (46 - 32));

/// Whom the home shard knows to be connected.
enum Connected {
    Nobody,
    One(ConnRef),
    /// See `Users::several`.
    Several,
}

fn connected(user: &User) -> Connected {
    match user.home.load(Relaxed) & !LISTED {
        0 => Connected::Nobody,
        SEVERAL => Connected::Several,
        bits => Connected::One(ConnRef::from_bits(bits)),
    }
}

/// Notes who is connected; whether the user is listed among those who linger stays.
fn set_connected(user: &User, connected: Connected) {
    let bits = match connected {
        Connected::Nobody => 0,
        Connected::One(conn) => conn.to_bits(),
        Connected::Several => SEVERAL,
    };
    user.home.store(user.home.load(Relaxed) & LISTED | bits, Relaxed);
}

impl Users {
    /// Lingering users looked at per tick: at least these, and a share of all, so that a storm's are forgotten within half a minute.
    const SWEEP: usize = 64;
    const SWEPT_SHARE: usize = 64;

    pub fn new(rates: UserRates) -> Users {
        Users {
            table: GradualTable::default(),
            several: HashMap::new(),
            lingering: VecDeque::new(),
            connected: 0,
            rates,
        }
    }

    /// Adds a connection. None if the user has `connections_max` already (0: no limit).
    pub fn sign_in(&mut self, conn: ConnRef, id: &str, email: Option<&str>, connections_max: u64) -> Option<UserRef> {
        let user = match self.find(id) {
            Some(user) if user.email() == email || !matches!(connected(&user), Connected::Nobody) => user,
            // The address changed while nobody was connected, or the user is new.
            _ => self.insert(UserRef::new(User::new(id, email))),
        };
        if connections_max != 0 && self.count(&user) as u64 >= connections_max {
            return None;
        }
        match connected(&user) {
            Connected::Nobody => {
                self.connected += 1;
                set_connected(&user, Connected::One(conn));
            }
            Connected::One(first) => {
                set_connected(&user, Connected::Several);
                self.several.insert(id.into(), vec![first, conn]);
            }
            Connected::Several => self.several.get_mut(id).expect("several connections are listed").push(conn),
        }
        Some(user)
    }

    pub fn sign_out(&mut self, conn: ConnRef, user: &UserRef, now_ns: u64) {
        match connected(user) {
            Connected::Nobody => {}
            Connected::One(_) => {
                set_connected(user, Connected::Nobody);
                self.connected -= 1;
                if !self.forget(user, now_ns) && user.home.fetch_or(LISTED, Relaxed) & LISTED == 0 {
                    self.lingering.push_back(user.clone());
                }
            }
            Connected::Several => {
                let list = self.several.get_mut(user.id()).expect("several connections are listed");
                list.retain(|other| *other != conn);
                if let [last] = list[..] {
                    set_connected(user, Connected::One(last));
                    self.several.remove(user.id());
                }
            }
        }
    }

    /// All connections of a user.
    pub fn connections(&self, id: &str) -> Vec<ConnRef> {
        let Some(user) = self.find(id) else { return Vec::new() };
        match connected(&user) {
            Connected::Nobody => Vec::new(),
            Connected::One(conn) => vec![conn],
            Connected::Several => self.several.get(id).cloned().unwrap_or_default(),
        }
    }

    /// Forgets users that have been away long enough.
    pub fn sweep(&mut self, now_ns: u64) {
        let count = self.lingering.len();
        for _ in 0..count.min(Self::SWEEP.max(count / Self::SWEPT_SHARE)) {
            let user = self.lingering.pop_front().expect("counted");
            if !matches!(connected(&user), Connected::Nobody) || self.forget(&user, now_ns) {
                user.home.fetch_and(!LISTED, Relaxed);
            } else {
                self.lingering.push_back(user);
            }
        }
        if self.lingering.is_empty() && self.lingering.capacity() > Self::SWEEP {
            self.lingering = VecDeque::new();
        }
    }

    /// Users with at least one connection.
    pub fn connected(&self) -> usize {
        self.connected
    }

    /// Users with a record, those included who are remembered for their rate buckets.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    fn count(&self, user: &User) -> usize {
        match connected(user) {
            Connected::Nobody => 0,
            Connected::One(_) => 1,
            Connected::Several => self.several.get(user.id()).map_or(0, Vec::len),
        }
    }

    fn find(&self, id: &str) -> Option<UserRef> {
        self.table.find(name_hash(id), |user| user.id() == id).cloned()
    }

    fn insert(&mut self, user: UserRef) -> UserRef {
        let hash = name_hash(user.id());
        self.table.remove(hash, |other| other.id() == user.id());
        self.table.insert(hash, user.clone(), |user| name_hash(user.id()));
        user
    }

    /// False if the user's buckets still have something to remember.
    fn forget(&mut self, user: &UserRef, now_ns: u64) -> bool {
        let UserRates { messages, commands, rooms_created } = self.rates;
        let is_full = user.messages.is_full(messages, now_ns)
            && user.commands.is_full(commands, now_ns)
            && user.rooms_created.is_full(rooms_created, now_ns);
        if is_full {
            self.table.remove(name_hash(user.id()), |other| UserRef::ptr_eq(other, user));
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let minute = Rate::per(1, 60_000);
        Users::new(UserRates { messages: minute, commands: minute, rooms_created: minute })
    }

    fn conn(slot: u32) -> ConnRef {
        ConnRef { slot, generation: 1, shard: 0 }
    }

    #[test]
    fn devices_of_one_user_share_a_record() {
        let mut users = users();
        let first = users.sign_in(conn(1), "anna", None, 3).unwrap();
        let second = users.sign_in(conn(2), "anna", None, 3).unwrap();
        assert!(UserRef::ptr_eq(&first, &second));
        assert_eq!(users.connections("anna"), [conn(1), conn(2)]);
        users.sign_in(conn(3), "anna", None, 3).unwrap();
        assert!(users.sign_in(conn(4), "anna", None, 3).is_none(), "connections_per_user");
        users.sign_out(conn(1), &first, 1);
        users.sign_out(conn(3), &first, 1);
        assert_eq!(users.connections("anna"), [conn(2)]);
        users.sign_out(conn(2), &first, 1);
        assert_eq!((users.table.len(), users.connections("anna")), (0, vec![]));
    }

    #[test]
    fn reconnecting_does_not_refill_a_bucket() {
        let (mut users, rate, second) = (users(), Rate::per(1, 60_000), 1_000_000_000);
        let user = users.sign_in(conn(1), "bob", None, 0).unwrap();
        user.messages.take(rate, second).unwrap();
        users.sign_out(conn(1), &user, second);
        let again = users.sign_in(conn(2), "bob", None, 0).unwrap();
        assert!(again.messages.take(rate, 2 * second).is_err());
        users.sign_out(conn(2), &again, 2 * second);
        users.sweep(3 * second);
        assert_eq!((users.table.len(), users.connected()), (1, 0));
        users.sweep(120 * second);
        users.sweep(121 * second);
        assert_eq!(users.table.len(), 0);
    }

    #[test]
    fn a_changed_address_is_taken_over_when_nobody_is_connected() {
        let mut users = users();
        let user = users.sign_in(conn(1), "eve", Some("old@example.org"), 0).unwrap();
        user.messages.take(Rate::per(1, 60_000), 5).unwrap();
        users.sign_out(conn(1), &user, 5);
        let user = users.sign_in(conn(2), "eve", Some("new@example.org"), 0).unwrap();
        assert_eq!((user.email(), users.table.len()), (Some("new@example.org"), 1));
    }

    /// After a storm in which nobody came back: 64 a tick would take five minutes for 200,000.
    #[test]
    fn many_who_left_are_forgotten_within_half_a_minute() {
        let (mut users, second) = (users(), 1_000_000_000);
        for number in 0..50_000 {
            let user = users.sign_in(conn(number), &format!("user-{number}"), None, 0).unwrap();
            user.commands.take(users.rates.commands, second).unwrap();
            users.sign_out(conn(number), &user, second);
        }
        assert_eq!((users.len(), users.connected()), (50_000, 0));
        let ticks = (1..).find(|_| {
            users.sweep(120 * second);
            users.len() == 0
        });
        assert!(ticks.is_some_and(|ticks| ticks <= 300), "{ticks:?} ticks");
        assert_eq!(users.lingering.capacity(), 0);
    }
}
