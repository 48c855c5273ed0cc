//! A hash table that grows and shrinks by one small bucket at a time (linear hashing; Litwin 1980).
//!
//! A table that doubles is half empty when it has just done so, and moves all of its entries at once: of a million users that were
//! ten bytes each, and a pause of a tenth of a second. Here an entry costs its own size, one byte and a share of its bucket, whatever
//! the number of entries, and no step moves more than two hundred of them.
//!
//! A bucket is a list with one byte of each entry's hash beside it: a search compares those, sixteen and more at a time, and looks
//! at an entry only where they agree.

/// Entries per bucket, on average. More: longer searches. Fewer: the 48 bytes of a bucket weigh more.
const BUCKET: usize = 64;

/// Buckets are given back when there are twice as many as needed.
const SHRINK: usize = BUCKET / 2;

struct Bucket<T> {
    /// Upper bits of the hashes.
    tags: Vec<u8>,
    entries: Vec<T>,
}

impl<T> Default for Bucket<T> {
    fn default() -> Bucket<T> {
        Bucket { tags: Vec::new(), entries: Vec::new() }
    }
}

/// Entries by a hash that the caller computes, and can compute again from an entry.
pub struct GradualTable<T> {
    /// Never empty. An entry is in the bucket that the middle bits of its hash name: as many bits as the number of buckets has, or
    /// one fewer if there is no such bucket yet. The lowest are alike where a hash has already chosen a shard.
    buckets: Vec<Bucket<T>>,
    len: usize,
}

impl<T> Default for GradualTable<T> {
    fn default() -> GradualTable<T> {
        GradualTable { buckets: vec![Bucket::default()], len: 0 }
    }
}

impl<T> GradualTable<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let bucket = &self.buckets[self.bucket(hash)];
        bucket.find(hash, is_it).map(|at| &bucket.entries[at])
    }

    /// Adds an entry, besides others that may be equal. `hash_of` is the hash of any entry.
    pub fn insert(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) {
        self.len += 1;
        let at = self.bucket(hash);
        self.buckets[at].push(hash, entry);
        if self.len > self.buckets.len() * BUCKET {
            self.split(hash_of);
        }
    }

    pub fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let at = self.bucket(hash);
        let bucket = &mut self.buckets[at];
        let found = bucket.find(hash, is_it)?;
        bucket.tags.swap_remove(found);
        let entry = bucket.entries.swap_remove(found);
        bucket.shrink();
        self.len -= 1;
        if self.buckets.len() > 1 && self.len < self.buckets.len() * SHRINK {
            self.merge();
        }
        Some(entry)
    }

    fn bucket(&self, hash: u64) -> usize {
        let mask = self.buckets.len().next_power_of_two() - 1;
        match (hash >> 16) as usize & mask {
            bucket if bucket < self.buckets.len() => bucket,
            bucket => bucket & (mask >> 1),
        }
    }

    /// The bucket whose entries a further bucket takes a half of.
    fn source(&self) -> usize {
        let count = self.buckets.len();
        count - (count + 1).next_power_of_two() / 2
    }

    fn split(&mut self, hash_of: impl Fn(&T) -> u64) {
        let (source, target) = (self.source(), self.buckets.len());
        let old = std::mem::take(&mut self.buckets[source]);
        if target == self.buckets.capacity() {
            self.buckets.reserve_exact(target / 8 + 1);
        }
        self.buckets.push(Bucket::default());
        let stays = old.entries.iter().filter(|entry| self.bucket(hash_of(entry)) == source).count();
        self.buckets[source].reserve(stays);
        self.buckets[target].reserve(old.entries.len() - stays);
        for entry in old.entries {
            let hash = hash_of(&entry);
            let at = self.bucket(hash);
            self.buckets[at].push(hash, entry);
        }
    }

    /// The last bucket's entries go back to where they were split from.
    fn merge(&mut self) {
        let mut last = self.buckets.pop().expect("more than one");
        let target = self.source();
        let bucket = &mut self.buckets[target];
        bucket.reserve(last.entries.len());
        bucket.tags.append(&mut last.tags);
        bucket.entries.append(&mut last.entries);
        if self.buckets.capacity() > 2 * self.buckets.len() {
            self.buckets.shrink_to_fit();
        }
    }
}

impl<T> Bucket<T> {
    fn find(&self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<usize> {
        memchr::memchr_iter(tag(hash), &self.tags).find(|at| is_it(&self.entries[*at]))
    }

    fn push(&mut self, hash: u64, entry: T) {
        if self.tags.len() == self.tags.capacity() {
            self.reserve(self.tags.len() / 8 + 1);
        }
        self.tags.push(tag(hash));
        self.entries.push(entry);
    }

    /// No more than asked for: an allocator's own steps are room enough.
    fn reserve(&mut self, more: usize) {
        self.tags.reserve_exact(more);
        self.entries.reserve_exact(more);
    }

    fn shrink(&mut self) {
        if self.entries.capacity() > 2 * self.entries.len() + BUCKET / 8 {
            self.tags.shrink_to_fit();
            self.entries.shrink_to_fit();
        }
    }
}

/// The bits that do not name the bucket.
fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Spreads, and differs in all bits.
    fn hash(number: &u32) -> u64 {
        (u64::from(*number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    #[test]
    fn memory_follows_the_entries_both_ways() {
        let mut table = GradualTable::default();
        let places = |table: &GradualTable<u32>| table.buckets.iter().map(|one| one.entries.capacity()).sum::<usize>();
        for number in 0..20_000u32 {
            table.insert(hash(&number), number, hash);
            assert!(number < 100 || places(&table) * 4 <= table.len() * 5, "{} for {}", places(&table), table.len());
        }
        assert_eq!(table.buckets.len(), 20_000usize.div_ceil(BUCKET));
        let longest = table.buckets.iter().map(|bucket| bucket.entries.len()).max().unwrap();
        assert!(longest < 4 * BUCKET, "{longest} in one bucket");
        for number in 0..20_000u32 {
            assert_eq!(table.find(hash(&number), |other| *other == number), Some(&number));
            assert_eq!(table.find(hash(&(number + 20_000)), |other| *other == number + 20_000), None);
        }
        for number in 0..20_000u32 {
            assert_eq!(table.remove(hash(&number), |other| *other == number), Some(number));
            assert!(places(&table) <= 3 * table.len() + 2 * BUCKET, "{} for {}", places(&table), table.len());
        }
        assert_eq!((table.len(), table.buckets.len(), places(&table) < BUCKET), (0, 1, true));
    }

    proptest! {
        /// Against an ordered set. Hashes of few bits meet in tags and buckets.
        #[test]
        fn behaves_like_a_set(steps in proptest::collection::vec((any::<bool>(), 0..600u32), 0..2_000), bits in 0..64u32) {
            let hash = |number: &u32| hash(number) << bits;
            let (mut table, mut model) = (GradualTable::default(), BTreeSet::new());
            for (is_insert, number) in steps {
                let found = table.find(hash(&number), |other| *other == number).copied();
                prop_assert_eq!(found, model.get(&number).copied());
                if is_insert && model.insert(number) {
                    table.insert(hash(&number), number, hash);
                } else if !is_insert {
                    let removed = table.remove(hash(&number), |other| *other == number);
                    prop_assert_eq!(removed.is_some(), model.remove(&number));
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
