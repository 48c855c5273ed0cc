//! The directory of users whose home is this shard: one record per signed-in user, and who is connected.
//!
//! A user's record is shared by `Arc` with the shards that hold the user's connections; only the home shard adds, counts and
//! removes. A user without connections is kept until the rate buckets are full again, so that reconnecting
//! does not refill them (R-SEC-12).
use crate::base::hash::name_hash;
use crate::base::user::{User, UserRef};
use crate::ids::ConnRef;
use hashbrown::HashTable;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

#[derive(Default)]
pub struct Users {
    table: HashTable<UserRef>,
    /// Connections of users that have two or more; one alone is kept in the user's record.
    several: HashMap<Box<str>, Vec<ConnRef>>,
    /// Users without connections, oldest first, until nothing about them need be remembered.
    lingering: VecDeque<UserRef>,
    connected: usize,
}

impl Users {
    /// Lingering users looked at per tick.
    const SWEEP: usize = 64;

    /// Adds a connection. None if the user has `connections_max` already (0: as many as can be counted, 65,535).
    pub fn sign_in(&mut self, conn: ConnRef, id: &str, email: Option<&str>, connections_max: u64) -> Option<UserRef> {
        let user = match self.find(id) {
            Some(user) if user.email() == email || user.connections.load(Relaxed) > 0 => user,
            // The address changed while nobody was connected, or the user is new.
            _ => self.insert(UserRef::new(User::new(id, email))),
        };
        let count = user.connections.load(Relaxed);
        if count == u16::MAX || (connections_max != 0 && u64::from(count) >= connections_max) {
            return None;
        }
        match count {
            0 => {
                self.connected += 1;
                user.sole_connection.store(conn.to_bits(), Relaxed);
            }
            1 => {
                let first = ConnRef::from_bits(user.sole_connection.swap(0, Relaxed));
                self.several.insert(id.into(), vec![first, conn]);
            }
            _ => self.several.get_mut(id).expect("several connections are listed").push(conn),
        }
        user.connections.store(count + 1, Relaxed);
        Some(user)
    }

    pub fn sign_out(&mut self, conn: ConnRef, user: &UserRef, now_ns: u64) {
        match user.connections.load(Relaxed) {
            0 => return,
            1 => user.sole_connection.store(0, Relaxed),
            _ => {
                let list = self.several.get_mut(user.id()).expect("several connections are listed");
                list.retain(|other| *other != conn);
                if let [last] = list[..] {
                    user.sole_connection.store(last.to_bits(), Relaxed);
                    self.several.remove(user.id());
                }
            }
        }
        if user.connections.fetch_sub(1, Relaxed) == 1 {
            self.connected -= 1;
            if !self.forget(user, now_ns) && !user.is_lingering.swap(true, Relaxed) {
                self.lingering.push_back(user.clone());
            }
        }
    }

    /// All connections of a user.
    pub fn connections(&self, id: &str) -> Vec<ConnRef> {
        let Some(user) = self.find(id) else { return Vec::new() };
        match user.sole_connection.load(Relaxed) {
            0 => self.several.get(id).cloned().unwrap_or_default(),
            bits => vec![ConnRef::from_bits(bits)],
        }
    }

    /// Forgets users that have been away long enough.
    pub fn sweep(&mut self, now_ns: u64) {
        for _ in 0..self.lingering.len().min(Self::SWEEP) {
            let user = self.lingering.pop_front().expect("counted");
            if user.connections.load(Relaxed) > 0 || self.forget(&user, now_ns) {
                user.is_lingering.store(false, Relaxed);
            } else {
                self.lingering.push_back(user);
            }
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

    fn find(&self, id: &str) -> Option<UserRef> {
        self.table.find(name_hash(id), |user| user.id() == id).cloned()
    }

    fn insert(&mut self, user: UserRef) -> UserRef {
        let hash = name_hash(user.id());
        if let Ok(entry) = self.table.find_entry(hash, |other| other.id() == user.id()) {
            entry.remove();
        }
        self.table.insert_unique(hash, user.clone(), |user| name_hash(user.id()));
        user
    }

    /// False if the user's buckets still have something to remember.
    fn forget(&mut self, user: &UserRef, now_ns: u64) -> bool {
        let is_full =
            user.messages.is_full(now_ns) && user.commands.is_full(now_ns) && user.rooms_created.is_full(now_ns);
        if is_full && let Ok(entry) = self.table.find_entry(name_hash(user.id()), |other| UserRef::ptr_eq(other, user))
        {
            entry.remove();
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rate::Rate;

    fn conn(slot: u32) -> ConnRef {
        ConnRef { slot, generation: 1, shard: 0 }
    }

    #[test]
    fn devices_of_one_user_share_a_record() {
        let mut users = Users::default();
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
        let (mut users, rate, second) = (Users::default(), Rate::per(1, 60_000), 1_000_000_000);
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
        let mut users = Users::default();
        let user = users.sign_in(conn(1), "eve", Some("old@example.org"), 0).unwrap();
        user.messages.take(Rate::per(1, 1000), 5).unwrap();
        users.sign_out(conn(1), &user, 5);
        let user = users.sign_in(conn(2), "eve", Some("new@example.org"), 0).unwrap();
        assert_eq!((user.email(), users.table.len()), (Some("new@example.org"), 1));
    }
}
