//! Who may do what in a room (R-ID-3, R-ROOM-2, R-ROOM-3, R-SEC-3). Asked when a command runs, not when its session joined.
use super::command::{Caller, RoomGrant};
use super::room::Room;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::GlobalRole;
use crate::store::port::{Role, RoomType};

/// Roles in one room: everyone's in private and direct ones, only moderators' and owners' in public ones. Sorted by user id.
#[derive(Debug, Default)]
pub(super) struct Roles {
    kind_is_public: bool,
    list: Vec<(Box<str>, Role)>,
}

impl Roles {
    pub fn new(kind: RoomType, mut list: Vec<(Box<str>, Role)>) -> Roles {
        let kind_is_public = kind == RoomType::Public;
        list.retain(|(_, role)| !kind_is_public || *role > Role::Member);
        list.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Roles { kind_is_public, list }
    }

    pub fn get(&self, user_id: &str) -> Option<Role> {
        self.find(user_id).ok().map(|at| self.list[at].1)
    }

    pub fn set(&mut self, user_id: &str, role: Option<Role>) {
        let role = role.filter(|role| !self.kind_is_public || *role > Role::Member);
        match (self.find(user_id), role) {
            (Ok(at), Some(role)) => self.list[at].1 = role,
            (Ok(at), None) => drop(self.list.remove(at)),
            (Err(at), Some(role)) => self.list.insert(at, (user_id.into(), role)),
            (Err(_), None) => {}
        }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether this user is the room's only owner.
    pub fn is_last_owner(&self, user_id: &str) -> bool {
        self.get(user_id) == Some(Role::Owner) && self.list.iter().filter(|(_, role)| *role == Role::Owner).count() == 1
    }

    fn find(&self, user_id: &str) -> Result<usize, usize> {
        self.list.binary_search_by(|(id, _)| (**id).cmp(user_id))
    }
}

impl Room {
    /// The role that a member has, as far as it is known here: an ordinary member of a public room is known only after writing
    /// something while online.
    pub(super) fn stored_role(&self, user_id: &str) -> Option<Role> {
        let is_member = || self.online.find(user_id).is_some_and(|place| self.online.get(place).is_member());
        self.roles.get(user_id).or_else(|| is_member().then_some(Role::Member))
    }

    /// The role that the caller acts with: the strongest of the stored one, a room token's and the server-wide one. In direct
    /// rooms only the stored one counts (R-ID-3).
    pub(super) fn role(&self, caller: &Caller<'_>) -> Option<Role> {
        let stored = self.stored_role(caller.user.id());
        if self.row.kind == RoomType::Direct {
            return stored;
        }
        let granted = self.online.find(caller.user.id()).and_then(|place| self.online.get(place).granted());
        stored.max(granted).max(global(caller.role))
    }

    /// R-ROOM-2: public: all; private: members, invited users or by room token; direct: its two users.
    pub(super) fn may_join(&self, caller: &Caller<'_>, grant: Option<RoomGrant>) -> bool {
        match self.row.kind {
            RoomType::Public => true,
            RoomType::Private => grant.is_some() || self.role(caller).is_some(),
            RoomType::Direct => self.role(caller).is_some(),
        }
    }

    /// For subscribed sessions: their right may have ended with a role of their token.
    pub(super) fn may_read(&self, caller: &Caller<'_>) -> bool {
        self.row.kind == RoomType::Public || self.role(caller) >= Some(Role::Member)
    }

    /// The place of a caller who is subscribed and may read.
    pub(super) fn subscribed(&self, caller: &Caller<'_>) -> Result<u32, Refusal> {
        let place = self.online.subscribed(caller.user.id(), caller.conn).ok_or(Code::NotInRoom)?;
        if !self.may_read(caller) {
            return Err(Code::AccessDenied.into());
        }
        Ok(place)
    }

    /// The caller's role if it is at least this one. Who cannot even see the room learns nothing about it (R-SEC-3).
    pub(super) fn require(&self, caller: &Caller<'_>, least: Role) -> Result<Role, Refusal> {
        match self.role(caller) {
            Some(role) if role >= least => Ok(role),
            None if self.row.kind != RoomType::Public => Err(Code::AccessDenied.into()),
            _ => Err(Code::Forbidden.into()),
        }
    }
}

fn global(role: GlobalRole) -> Option<Role> {
    match role {
        GlobalRole::None => None,
        GlobalRole::Moderator => Some(Role::Moderator),
        GlobalRole::Admin => Some(Role::Owner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_public_rooms_keep_moderators_and_owners_only() {
        let list = vec![("o".into(), Role::Owner), ("m".into(), Role::Member), ("a".into(), Role::Moderator)];
        let mut public = Roles::new(RoomType::Public, list.clone());
        assert_eq!((public.get("o"), public.get("m"), public.len()), (Some(Role::Owner), None, 2));
        public.set("a", Some(Role::Member));
        assert_eq!((public.get("a"), public.len()), (None, 1));
        let mut private = Roles::new(RoomType::Private, list);
        assert_eq!(private.get("m"), Some(Role::Member));
        private.set("m", None);
        private.set("b", Some(Role::Invited));
        assert_eq!((private.get("m"), private.get("b")), (None, Some(Role::Invited)));
    }

    #[test]
    fn the_last_owner_is_known() {
        let mut roles = Roles::new(RoomType::Private, vec![("o".into(), Role::Owner), ("m".into(), Role::Member)]);
        assert!(roles.is_last_owner("o") && !roles.is_last_owner("m") && !roles.is_last_owner("x"));
        roles.set("m", Some(Role::Owner));
        assert!(!roles.is_last_owner("o"));
    }
}
