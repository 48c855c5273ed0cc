//! A hash table that grows and shrinks by one small bucket at a time (linear hashing; Litwin 1980).
//!
//! A table that doubles is half empty when it has just done so, and moves all of its entries at once: of a million users that were
//! ten bytes each, and a pause of a tenth of a second. Here an entry costs its own size, one byte of its hash and a share of its
//! bucket, whatever the number of entries, and no step moves more than a few hundred of them.
//!
//! A bucket is a chain of blocks of two cache lines, all of them full but the first. One size for all: lists that grew each by
//! itself would fill the allocator's pages of one size after the other, and leave them half empty behind. With each entry stands one
//! byte of its hash: a search compares those, and looks at an entry only where they agree.

/// Entries per bucket, on average: four blocks. More: longer searches. Fewer: the half of a block that is empty weighs more.
const BUCKET: usize = 4 * BLOCK;

/// Buckets are given back when there are twice as many as needed.
const SHRINK: usize = BUCKET / 2;

/// Entries of a block. With eight bytes each it takes 128 bytes.
const BLOCK: usize = 13;

struct Block<T> {
    next: Option<Box<Block<T>>>,
    /// The first `len` are there.
    entries: [Option<T>; BLOCK],
    /// Upper bits of the hashes.
    tags: [u8; BLOCK],
    len: u8,
}

const _: () = assert!(size_of::<Block<Box<u8>>>() <= 128);

/// A chain of blocks.
struct Bucket<T>(Option<Box<Block<T>>>);

/// Entries by a hash that the caller computes, and can compute again from an entry.
pub struct GradualTable<T> {
    /// Never empty. An entry is in the bucket that the middle bits of its hash name: as many bits as the number of buckets has, or
    /// one fewer if there is no such bucket yet. The lowest are alike where a hash has already chosen a shard.
    buckets: Vec<Bucket<T>>,
    len: usize,
}

impl<T> Default for GradualTable<T> {
    fn default() -> GradualTable<T> {
        GradualTable { buckets: vec![Bucket(None)], len: 0 }
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
        self.buckets[self.bucket(hash)].find(tag(hash), is_it)
    }

    /// Adds an entry, besides others that may be equal. `hash_of` is the hash of any entry.
    pub fn insert(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) {
        self.len += 1;
        let at = self.bucket(hash);
        self.buckets[at].push(tag(hash), entry);
        if self.len > self.buckets.len() * BUCKET {
            self.split(hash_of);
        }
    }

    pub fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let at = self.bucket(hash);
        let entry = self.buckets[at].remove(tag(hash), is_it)?;
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
        let source = self.source();
        if self.buckets.len() == self.buckets.capacity() {
            self.buckets.reserve_exact(self.buckets.len() / 8 + 1);
        }
        let mut old = std::mem::replace(&mut self.buckets[source], Bucket(None));
        self.buckets.push(Bucket(None));
        while let Some((tag, entry)) = old.pop() {
            let at = self.bucket(hash_of(&entry));
            self.buckets[at].push(tag, entry);
        }
    }

    /// The last bucket's entries go back to where they were split from.
    fn merge(&mut self) {
        let mut last = self.buckets.pop().expect("more than one");
        let target = self.source();
        while let Some((tag, entry)) = last.pop() {
            self.buckets[target].push(tag, entry);
        }
        if self.buckets.capacity() > 2 * self.buckets.len() {
            self.buckets.shrink_to_fit();
        }
    }
}

impl<T> Bucket<T> {
    fn find(&self, tag: u8, mut is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let mut next = &self.0;
        while let Some(block) = next {
            for (other, entry) in block.tags.iter().zip(&block.entries) {
                if *other == tag
                    && let Some(entry) = entry
                    && is_it(entry)
                {
                    return Some(entry);
                }
            }
            next = &block.next;
        }
        None
    }

    fn push(&mut self, tag: u8, entry: T) {
        match &mut self.0 {
            Some(first) if usize::from(first.len) < BLOCK => {
                let at = usize::from(first.len);
                (first.tags[at], first.entries[at]) = (tag, Some(entry));
                first.len += 1;
            }
            first => {
                let mut block = Box::new(Block {
                    next: first.take(),
                    entries: [const { None }; BLOCK],
                    tags: [tag; BLOCK],
                    len: 1,
                });
                block.entries[0] = Some(entry);
                *first = Some(block);
            }
        }
    }

    /// The last entry of the first block, with its tag.
    fn pop(&mut self) -> Option<(u8, T)> {
        let first = self.0.as_mut()?;
        first.len -= 1;
        let at = usize::from(first.len);
        let (tag, entry) = (first.tags[at], first.entries[at].take());
        if at == 0 {
            self.0 = first.next.take();
        }
        entry.map(|entry| (tag, entry))
    }

    fn remove(&mut self, tag: u8, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        self.find(tag, &mut is_it)?;
        // It is there: the last one takes its place, unless it is that one.
        let (last_tag, last) = self.pop()?;
        if last_tag == tag && is_it(&last) {
            return Some(last);
        }
        let mut next = &mut self.0;
        while let Some(block) = next {
            for (other, entry) in block.tags.iter_mut().zip(&mut block.entries) {
                if *other == tag && entry.as_ref().is_some_and(&mut is_it) {
                    *other = last_tag;
                    return entry.replace(last);
                }
            }
            next = &mut block.next;
        }
        None
    }
}

impl<T> Drop for Bucket<T> {
    /// One after the other: a chain that dropped itself would do so by recursion.
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut block) = next {
            next = block.next.take();
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
        let places = |table: &GradualTable<u32>| {
            let blocks =
                |bucket: &Bucket<u32>| std::iter::successors(bucket.0.as_ref(), |one| one.next.as_ref()).count();
            table.buckets.iter().map(blocks).sum::<usize>() * BLOCK
        };
        for number in 0..20_000u32 {
            table.insert(hash(&number), number, hash);
            assert!(places(&table) * 4 <= table.len() * 5 + 4 * BLOCK, "{} for {}", places(&table), table.len());
        }
        assert_eq!(table.buckets.len(), 20_000usize.div_ceil(BUCKET));
        for number in 0..20_000u32 {
            assert_eq!(table.find(hash(&number), |other| *other == number), Some(&number));
            assert_eq!(table.find(hash(&(number + 20_000)), |other| *other == number + 20_000), None);
        }
        for number in 0..20_000u32 {
            assert_eq!(table.remove(hash(&number), |other| *other == number), Some(number));
            assert!(places(&table) <= 2 * table.len() + 2 * BLOCK, "{} for {}", places(&table), table.len());
        }
        assert_eq!((table.len(), table.buckets.len(), places(&table)), (0, 1, 0));
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
