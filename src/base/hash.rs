//! One stable hash for names: it picks a room's or a user's home shard and indexes their tables.
use std::hash::Hasher;

/// SipHash-1-3 with fixed keys: equal in every shard and in every run, which simulation needs.
/// A client that picks names to collide can skew load between shards, not break anything.
pub fn name_hash(name: &str) -> u64 {
    // DefaultHasher::new() is documented to be the same for all instances.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// The shard that owns the room or user of this name.
pub fn home_shard(name: &str, shards: u16) -> u16 {
    (name_hash(name) % u64::from(shards)) as u16
}
