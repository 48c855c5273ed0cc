//! What every back end names in the same way.
use crate::ids::{Ulid, UlidSource};

/// Characters of an epoch.
const EPOCH_CHARS: usize = 16;

/// A fresh epoch: the 80 random bits of a ULID as 16 characters.
pub fn new_epoch(ids: &mut UlidSource, now_ms: u64) -> Box<str> {
    let mut text = [0; Ulid::TEXT_BYTES];
    ids.next(now_ms).text(&mut text)[Ulid::TEXT_BYTES - EPOCH_CHARS..].into()
}

/// Names an unordered pair of users: equal for (a, b) and (b, a), different for any other pair, whatever characters the
/// ids have (R-ROOM-1: one direct room per pair).
pub fn direct_key(one: &str, other: &str) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    format!("{}:{first}{second}", first.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_unordered_and_distinct() {
        assert_eq!(direct_key("a", "b"), direct_key("b", "a"));
        assert_ne!(direct_key("a", "bc"), direct_key("ab", "c"));
        assert_ne!(direct_key("1:", "x"), direct_key("1", ":x"));
    }

    #[test]
    fn epochs_depend_on_the_random_bits_only() {
        let mut counter = 0;
        let mut ids = UlidSource::new(Box::new(move |bytes| {
            bytes.iter_mut().for_each(|byte| {
                counter += 1;
                *byte = counter as u8;
            })
        }));
        let epochs = [new_epoch(&mut ids, 5), new_epoch(&mut ids, 5), new_epoch(&mut ids, 1 << 47)];
        assert!(epochs.iter().all(|epoch| epoch.len() == EPOCH_CHARS));
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
        let mut same = UlidSource::new(Box::new(|bytes| bytes.fill(3)));
        assert_eq!(new_epoch(&mut same, 1), new_epoch(&mut same, 1 << 47));
    }
}
