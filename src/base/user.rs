//! A signed-in user, shared by all connections of that user on all shards.
use super::rate::SharedBucket;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// How a user's record is shared: counted, without the second counter that weak references would need.
pub type UserRef = triomphe::Arc<User>;

/// One per user with at least one connection (and, after that, until its buckets are full again).
/// Made and found by the user's home shard; shards share it by `UserRef` and touch only the atomics.
///
/// With the reference count it fills 48 bytes, a size class of the allocator: most users have one connection, so this counts
/// once per connection.
#[derive(Debug, Default)]
pub struct User {
    text: Text,
    /// `limits.messages`, shared by everything that makes a message (R-CHAT-5).
    pub messages: SharedBucket,
    /// `limits.commands`, all other commands (R-CHAT-5).
    pub commands: SharedBucket,
    /// `limits.rooms_created` (R-ROOM-1).
    pub rooms_created: SharedBucket,
    /// Unix seconds of the last message, typing or `activity`; 0 = none since sign-in (R-PRES-4).
    pub last_active_s: AtomicU32,
    /// What the home shard alone knows of the user's connections; its own matter (`shard/users.rs`). 0 at first.
    pub home: AtomicU64,
}

const _: () = assert!(size_of::<User>() + size_of::<usize>() <= 48);

/// A user's id and e-mail address in 16 bytes, and an allocation only if they do not fit.
#[derive(Debug)]
enum Text {
    /// An id without an address.
    Short {
        len: u8,
        bytes: [u8; SHORT_BYTES_MAX],
    },
    Long(Box<Long>),
}

const SHORT_BYTES_MAX: usize = 14;
const _: () = assert!(size_of::<Text>() == 16);

#[derive(Debug)]
struct Long {
    /// The id, then the address.
    text: Box<str>,
    /// Characters of a user id: at most 128, so at most 512 bytes.
    id_bytes: u16,
}

impl Default for Text {
    fn default() -> Text {
        Text::Short { len: 0, bytes: [0; SHORT_BYTES_MAX] }
    }
}

impl User {
    pub fn new(id: &str, email: Option<&str>) -> User {
        let text = match (email, id.len()) {
            (None, len @ ..=SHORT_BYTES_MAX) => {
                let mut bytes = [0; SHORT_BYTES_MAX];
                bytes[..len].copy_from_slice(id.as_bytes());
                Text::Short { len: len as u8, bytes }
            }
            (email, len) => {
                let text = [id, email.unwrap_or("")].concat().into_boxed_str();
                Text::Long(Box::new(Long { text, id_bytes: len as u16 }))
            }
        };
        User { text, ..User::default() }
    }

    pub fn id(&self) -> &str {
        match &self.text {
            Text::Short { len, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*len)]).expect("copied from a str whole")
            }
            Text::Long(long) => &long.text[..usize::from(long.id_bytes)],
        }
    }

    /// Shown to others only if `privacy.expose_email` is on (R-SEC-6).
    pub fn email(&self) -> Option<&str> {
        match &self.text {
            Text::Short { .. } => None,
            Text::Long(long) => Some(&long.text[usize::from(long.id_bytes)..]).filter(|email| !email.is_empty()),
        }
    }
}

/// What the token's `role` claim grants server-wide (R-ID-3). Ordered by power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GlobalRole {
    #[default]
    None,
    Moderator,
    Admin,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_addresses_of_any_length() {
        for id in ["a", "fourteen-bytes", "fifteen-bytes-x", &"\u{fc}".repeat(128)] {
            for email in [None, Some("a@example.org")] {
                let user = User::new(id, email);
                assert_eq!((user.id(), user.email()), (id, email));
            }
        }
        assert_eq!(User::new("a", Some("")).email(), None);
    }
}
