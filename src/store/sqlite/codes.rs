//! Numbers that stand for values in the tables. They are on disk: never renumber.
use crate::store::port::{Role, RoomType};

pub const fn role_code(role: Role) -> i64 {
    match role {
        Role::Invited => 0,
        Role::Member => 1,
        Role::Moderator => 2,
        Role::Owner => 3,
    }
}

pub fn role_of(code: i64) -> Option<Role> {
    [Role::Invited, Role::Member, Role::Moderator, Role::Owner].into_iter().find(|role| role_code(*role) == code)
}

pub const fn room_type_code(kind: RoomType) -> i64 {
    match kind {
        RoomType::Public => 1,
        RoomType::Private => 2,
        RoomType::Direct => 3,
    }
}

pub fn room_type_of(code: i64) -> Option<RoomType> {
    [RoomType::Public, RoomType::Private, RoomType::Direct].into_iter().find(|kind| room_type_code(*kind) == code)
}

/// SQLite integers are signed. Offsets and times that are larger than those name nothing that exists.
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_fixed_and_reversible() {
        assert_eq!(
            [0, 1, 2, 3].map(|code| role_of(code).map(Role::as_str)),
            [Some("invited"), Some("member"), Some("moderator"), Some("owner")]
        );
        assert_eq!(
            [1, 2, 3].map(|code| room_type_of(code).map(RoomType::as_str)),
            [Some("public"), Some("private"), Some("direct")]
        );
        assert_eq!((role_of(4), role_of(-1), room_type_of(0), room_type_of(4)), (None, None, None, None));
        // The index members_staff and its query know this number.
        assert_eq!(role_code(Role::Moderator), 2);
    }

    #[test]
    fn integers_saturate() {
        assert_eq!((int(0), int(u64::MAX), int(i64::MAX as u64)), (0, i64::MAX, i64::MAX));
    }
}
