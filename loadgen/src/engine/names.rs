//! Names of users and rooms of a run. The salt keeps runs against the same server apart: rooms remember their messages, and the
//! server remembers client ids.

/// Names are a letter, six characters of the salt and five of the number, in base 36: as long as a decimal id of a large service.
/// The server keeps ids of up to 14 bytes without an allocation; what longer ones cost is in docs/DENSITY.md.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    salt: u64,
}

const SALT_CHARS: usize = 6;
/// 60 million.
const NUMBER_CHARS: usize = 5;

impl Names {
    pub fn new(salt: u64) -> Names {
        Names { salt: salt ^ salt >> 32 }
    }

    /// Fixed width, so that messages of all users have the same length.
    pub fn user(&self, connection: u32) -> String {
        self.name('u', connection)
    }

    pub fn room(&self, room: u32) -> String {
        self.name('r', room)
    }

    fn name(&self, kind: char, number: u32) -> String {
        let mut name = String::with_capacity(1 + SALT_CHARS + NUMBER_CHARS);
        name.push(kind);
        base36(self.salt, SALT_CHARS, &mut name);
        base36(number.into(), NUMBER_CHARS, &mut name);
        name
    }
}

/// The lowest `chars` digits.
fn base36(value: u64, chars: usize, out: &mut String) {
    let digit =
        |place: u32| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(value / 36u64.pow(place) % 36) as usize]);
    out.extend((0..chars as u32).rev().map(digit));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_short_distinct_and_allowed() {
        let (one, other) = (Names::new(7), Names::new(8));
        assert_eq!((one.user(35).as_str(), one.room(36).as_str()), ("u0000070000z", "r00000700010"));
        let all: BTreeSet<String> = (0..3_000).flat_map(|n| [one.user(n), one.room(n), other.user(n)]).collect();
        assert_eq!(all.len(), 9_000);
        assert!(all.iter().all(|name| name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_alphanumeric())));
    }
}
