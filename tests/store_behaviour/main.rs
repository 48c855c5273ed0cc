//! What every back end of the store does, in one suite: R-CHAT-3, R-CHAT-4, R-CHAT-6, R-REC-1, R-ROOM-1 to 3, R-SEC-14.
mod harness;
mod jobs;
mod model;

use harness::*;
use jobs::*;
use throng::ids::Ulid;
use throng::store::port::*;

macro_rules! suite {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&mut super::Store::new(&super::OnDisk::new())) })*
        }
        mod memory {
            $(#[test] fn $name() { super::$name(&mut super::Store::new(&super::InMemory::default())) })*
        }
    };
}

suite! {
    offsets_start_at_one_and_step_by_one_per_room
    jobs_without_a_room_take_no_offset
    everything_of_an_event_comes_back
    a_repeated_client_id_gives_the_first_result
    a_client_id_with_other_content_is_a_conflict
    client_ids_belong_to_their_user
    repeats_within_one_batch_count
    the_window_ends
    the_window_outlives_a_restart
    a_probe_looks_and_stores_nothing
    a_deleted_room_forgets_its_client_ids
    history_pages_over_messages_only
    recovery_reads_all_kinds_in_order
    reading_a_room_that_is_gone
    one_direct_room_per_pair
    a_taken_id_is_a_conflict
    public_rooms_bring_their_staff_only
    members_are_counted_without_the_invited
    the_first_message_makes_a_member_once
    a_change_of_members_may_be_silent
    updating_changes_what_is_given
    deleting_and_making_again_begins_a_new_stream
    a_room_keeps_its_stream_over_a_restart
    the_image_brings_the_newest_events
    readers_see_every_commit_and_nothing_else
    an_empty_batch_is_fine
    it_is_ready
}

fn offsets_start_at_one_and_step_by_one_per_room(store: &mut Store) {
    let (a, b) = (store.lobby("a").pk, store.lobby("b").pk);
    let mixed = [a, b, a, a, b].map(|room| Write::Append(message(room, "anna", "x")));
    assert_eq!(store.commit(mixed).iter().map(offset).collect::<Vec<_>>(), [1, 1, 2, 3, 2]);
    assert_eq!(offset(&store.append(message(b, "anna", "x"))), 3);
    let change = set_member(a, "bert", Some(Role::Member), true);
    assert_eq!(offset(&store.one(change)), 4);
    assert_eq!(store.events(a, 0, 10), (vec![1, 2, 3, 4], false));
}

fn jobs_without_a_room_take_no_offset(store: &mut Store) {
    let a = store.lobby("a").pk;
    let update = UpdateRoom {
        room: a + 1,
        name: None,
        description: None,
        slow_mode_s: None,
        event: event(EventKind::RoomUpdated, "anna", ""),
    };
    let outcomes = store.commit([
        Write::Append(message(a, "anna", "x")),
        Write::Append(message(a + 1, "anna", "x")),
        set_member(a + 1, "anna", None, true),
        Write::UpdateRoom(update),
        Write::DeleteRoom(a + 1),
        Write::Append(message(a, "anna", "x")),
    ]);
    assert_eq!((offset(&outcomes[0]), offset(&outcomes[5])), (1, 2));
    assert!(outcomes[1..5].iter().all(|outcome| matches!(outcome, Outcome::NoRoom)), "{outcomes:?}");
}

fn everything_of_an_event_comes_back(store: &mut Store) {
    let a = store.lobby("a").pk;
    let full = EventRow {
        offset: 99,
        kind: EventKind::Message,
        id: Ulid(u128::MAX - 5),
        user_id: "ünï\u{0}côde'\"--".into(),
        user_email: Some("a@example.org".into()),
        client_id: Some("c".into()),
        body: "''; DROP TABLE events; \u{1f600}".into(),
        detail: Some("{\"a\":1}".into()),
        at_ms: u64::MAX >> 1,
    };
    let bare = event(EventKind::MemberRemoved, "", "");
    let appends =
        [&full, &bare].map(|event| Append { room: a, event: event.clone(), make_member: false, probe: false });
    store.commit(appends.map(Write::Append));
    let Outcome::Page { rows, .. } = store.read(Read::Events { room: a, after: 0, limit: 5 }) else { panic!() };
    assert_eq!(rows, [EventRow { offset: 1, ..full }, EventRow { offset: 2, ..bare }]);
}

fn a_repeated_client_id_gives_the_first_result(store: &mut Store) {
    let a = store.lobby("a").pk;
    let first = named(a, "anna", "c1", "hello");
    assert_eq!(offset(&store.append(first.clone())), 1);
    // Another device: another event id, another time.
    let mut again = first.clone();
    (again.event.id, again.event.at_ms, again.event.user_email) = (Ulid(5), 4321, Some("a@b".into()));
    let outcome = store.append(again);
    assert!(
        matches!(outcome, Outcome::Duplicate { offset: 1, id, at_ms: 1000 } if id == first.event.id),
        "{outcome:?}"
    );
    assert_eq!(offset(&store.append(named(a, "anna", "c2", "hello"))), 2);
    assert_eq!(store.events(a, 0, 10).0, [1, 2]);
}

fn a_client_id_with_other_content_is_a_conflict(store: &mut Store) {
    let (a, b) = (store.lobby("a").pk, store.lobby("b").pk);
    let first = named(a, "anna", "c", "hello");
    store.append(first.clone());
    let mut others = [first.clone(), first.clone(), first.clone(), first.clone()];
    others[0].event.body = "hello!".into();
    others[1].event.detail = Some("{}".into());
    others[2].event.kind = EventKind::RoomUpdated;
    others[3].room = b;
    let outcomes = store.commit(others.map(Write::Append));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Conflict)), "{outcomes:?}");
    assert_eq!(offset(&store.append(message(a, "anna", "x"))), 2);
    assert_eq!(offset(&store.append(message(b, "anna", "x"))), 1);
}

fn client_ids_belong_to_their_user(store: &mut Store) {
    let a = store.lobby("a").pk;
    store.append(named(a, "anna", "c", "hello"));
    assert_eq!(offset(&store.append(named(a, "bert", "c", "hello"))), 2);
    // No two ways to cut the same text.
    assert_eq!(offset(&store.append(named(a, "ann", "ac", "hello"))), 3);
}

fn repeats_within_one_batch_count(store: &mut Store) {
    let a = store.lobby("a").pk;
    let outcomes = store.commit(["x", "x", "y"].map(|body| Write::Append(named(a, "anna", "c", body))));
    assert!(
        matches!(
            outcomes[..],
            [Outcome::Appended { offset: 1, .. }, Outcome::Duplicate { offset: 1, .. }, Outcome::Conflict]
        ),
        "{outcomes:?}"
    );
}

fn the_window_ends(store: &mut Store) {
    let a = store.lobby("a").pk;
    let again = || named(a, "anna", "c", "hello");
    store.append(again());
    store.now_ms += DEDUPE_S * 1000 - 1;
    // A repeat does not prolong it.
    assert!(matches!(store.append(again()), Outcome::Duplicate { offset: 1, .. }));
    store.now_ms += 1;
    assert_eq!(offset(&store.append(again())), 2);
    assert!(matches!(store.append(again()), Outcome::Duplicate { offset: 2, .. }));
}

fn the_window_outlives_a_restart(store: &mut Store) {
    let (a, b) = (store.lobby("a").pk, store.lobby("b").pk);
    store.append(named(a, "anna", "old", "x"));
    store.now_ms += DEDUPE_S * 600;
    store.commit([a, b, a].map(|room| Write::Append(named(room, "anna", &format!("c{room}"), "x"))));
    store.commit([Write::Append(named(a, "anna", "last", "x")), Write::DeleteRoom(b)]);
    store.restart(counting_ids(100));
    assert!(matches!(store.append(named(a, "anna", "old", "x")), Outcome::Duplicate { offset: 1, .. }));
    assert!(matches!(store.append(named(a, "anna", "last", "y")), Outcome::Conflict));
    assert_eq!(offset(&store.append(named(a, "anna", &format!("c{b}"), "x"))), 4);
    store.restart(counting_ids(200));
    store.now_ms += DEDUPE_S * 400;
    assert_eq!(offset(&store.append(named(a, "anna", "old", "x"))), 5);
    assert!(matches!(store.append(named(a, "anna", &format!("c{a}"), "x")), Outcome::Duplicate { offset: 2, .. }));
}

fn a_probe_looks_and_stores_nothing(store: &mut Store) {
    let a = store.lobby("a").pk;
    let probe = |append: Append| Append { probe: true, make_member: true, ..append };
    assert!(matches!(store.append(probe(named(a, "anna", "c", "x"))), Outcome::Unused));
    assert!(matches!(store.append(probe(message(a, "anna", "x"))), Outcome::Unused));
    assert!(matches!(store.append(probe(message(a + 1, "anna", "x"))), Outcome::NoRoom));
    assert_eq!(offset(&store.append(named(a, "anna", "c", "x"))), 1);
    assert!(matches!(store.append(probe(named(a, "anna", "c", "x"))), Outcome::Duplicate { offset: 1, .. }));
    assert!(matches!(store.append(probe(named(a, "anna", "c", "y"))), Outcome::Conflict));
    let image = store.image("a").unwrap();
    assert_eq!((image.row.last_offset, image.row.member_count), (1, 0));
}

fn a_deleted_room_forgets_its_client_ids(store: &mut Store) {
    let (a, b) = (store.lobby("a").pk, store.lobby("b").pk);
    store.append(named(a, "anna", "c", "x"));
    assert!(matches!(store.append(named(b, "anna", "c", "x")), Outcome::Conflict));
    store.one(Write::DeleteRoom(a));
    assert_eq!(offset(&store.append(named(b, "anna", "c", "x"))), 1);
    assert!(matches!(store.append(named(b, "anna", "c", "x")), Outcome::Duplicate { offset: 1, .. }));
}

/// A room with messages at 1, 2, 4, 5, 8 and other events at 3, 6, 7, 9.
fn mixed_room(store: &mut Store) -> RoomPk {
    let a = store.lobby("a").pk;
    let message = |body| Write::Append(message(a, "anna", body));
    let other = || set_member(a, "bert", Some(Role::Moderator), true);
    store.commit([message("1"), message("2"), other(), message("4"), message("5")]);
    store.commit([other(), other(), message("8"), other()]);
    a
}

fn history_pages_over_messages_only(store: &mut Store) {
    use HistoryFrom::*;
    let a = mixed_room(store);
    let mut check = |from, limit, offsets: &[u64], has_more| {
        assert_eq!(store.history(a, from, limit), (offsets.to_vec(), has_more), "{from:?} {limit}");
    };
    check(End, 2, &[5, 8], true);
    check(End, 5, &[1, 2, 4, 5, 8], false);
    check(End, 4, &[2, 4, 5, 8], true);
    check(Before(5), 2, &[2, 4], true);
    check(Before(4), 2, &[1, 2], false);
    check(Before(1), 2, &[], false);
    check(Before(0), 2, &[], false);
    check(Before(u64::MAX), 1, &[8], true);
    check(After(0), 3, &[1, 2, 4], true);
    check(After(2), 3, &[4, 5, 8], false);
    check(After(8), 3, &[], false);
    check(After(u64::MAX), 3, &[], false);
    check(End, 0, &[], true);
    check(End, u32::MAX, &[1, 2, 4, 5, 8], false);
}

fn recovery_reads_all_kinds_in_order(store: &mut Store) {
    let a = mixed_room(store);
    assert_eq!(store.events(a, 0, 300), ((1..=9).collect(), false));
    assert_eq!(store.events(a, 2, 7), ((3..=9).collect(), false));
    assert_eq!(store.events(a, 2, 6), ((3..=8).collect(), true));
    assert_eq!(store.events(a, 9, 6), (vec![], false));
    assert_eq!(store.events(a, u64::MAX, 6), (vec![], false));
}

fn reading_a_room_that_is_gone(store: &mut Store) {
    let a = mixed_room(store);
    store.one(Write::DeleteRoom(a));
    assert!(store.image("a").is_none());
    assert!(matches!(store.read(Read::Events { room: a, after: 0, limit: 5 }), Outcome::NoRoom));
    let history = Read::History { room: a, from: HistoryFrom::End, limit: 5 };
    assert!(matches!(store.read(history), Outcome::NoRoom));
}

fn one_direct_room_per_pair(store: &mut Store) {
    let (first, is_new) = created(store.one(Write::CreateRoom(direct("d1", "anna", "bert"))));
    assert!(is_new);
    assert_eq!(first.roles, [("anna".into(), Role::Member), ("bert".into(), Role::Member)]);
    assert_eq!(first.row.member_count, 2);
    store.append(message(first.row.pk, "anna", "x"));
    store.restart(counting_ids(100));
    let (again, is_new) = created(store.one(Write::CreateRoom(direct("d2", "bert", "anna"))));
    assert!(!is_new && again.recent.is_empty());
    assert_eq!(again.row, RoomRow { last_offset: 1, ..first.row.clone() });
    assert!(store.image("d2").is_none());
    // Other pairs, cut elsewhere, are other rooms; the id of a room that is there is taken.
    assert!(created(store.one(Write::CreateRoom(direct("d3", "ann", "abert")))).1);
    assert!(matches!(store.one(Write::CreateRoom(direct("d3", "x", "y"))), Outcome::Conflict));
    store.one(Write::DeleteRoom(first.row.pk));
    let (new, is_new) = created(store.one(Write::CreateRoom(direct("d1", "bert", "anna"))));
    assert!(is_new && new.row.last_offset == 0 && new.row.epoch != first.row.epoch);
}

fn a_taken_id_is_a_conflict(store: &mut Store) {
    let creates = ["a", "a"].map(|id| Write::CreateRoom(room(id, RoomType::Private, &[("anna", Role::Owner)])));
    let mut outcomes = store.commit(creates.clone());
    assert!(matches!(outcomes.pop(), Some(Outcome::Conflict)));
    let (image, is_new) = created(outcomes.remove(0));
    assert!(is_new && image.row.pk > 0);
    assert!(matches!(store.one(creates[0].clone()), Outcome::Conflict));
    let stored = store.image("a").unwrap();
    assert_eq!((stored.row, stored.roles), (image.row, image.roles));
}

fn public_rooms_bring_their_staff_only(store: &mut Store) {
    use Role::*;
    let all = [("a", Owner), ("b", Moderator), ("c", Member), ("d", Invited)];
    let roles = |count: usize| all[..count].iter().map(|(user, role)| ((*user).into(), *role)).collect::<Vec<_>>();
    for (id, kind, expected) in [("pub", RoomType::Public, roles(2)), ("priv", RoomType::Private, roles(4))] {
        let made = created(store.one(Write::CreateRoom(room(id, kind, &all)))).0;
        let stored = store.image(id).unwrap();
        assert_eq!((&made.roles, &stored.roles), (&expected, &expected));
        assert_eq!((made.row.member_count, stored.row.member_count), (3, 3));
        assert_eq!((stored.row.kind, &*stored.row.name, stored.row.created_at_ms), (kind, "A name", 5));
    }
}

fn members_are_counted_without_the_invited(store: &mut Store) {
    use Role::*;
    let a = created(store.one(Write::CreateRoom(room("a", RoomType::Private, &[("o", Owner)])))).0.row.pk;
    let steps = [
        ("u", Some(Invited), 1),
        ("u", Some(Member), 2),
        ("u", Some(Moderator), 2),
        ("u", Some(Moderator), 2),
        ("v", None, 2),
        ("u", Some(Invited), 1),
        ("u", None, 1),
        ("o", None, 0),
    ];
    for (user, role, expected) in steps {
        let outcome = store.one(set_member(a, user, role, false));
        assert!(
            matches!(outcome, Outcome::Changed { offset: 0, member_count } if member_count == expected),
            "{user} {role:?}: {outcome:?}"
        );
        assert_eq!(store.image("a").unwrap().row.member_count, expected);
    }
}

fn the_first_message_makes_a_member_once(store: &mut Store) {
    let a = store.lobby("a").pk;
    store.commit([
        set_member(a, "inge", Some(Role::Invited), false),
        set_member(a, "mona", Some(Role::Moderator), false),
    ]);
    let authors = ["anna", "anna", "inge", "mona", "inge"];
    let appends = authors.map(|user| Write::Append(Append { make_member: true, ..message(a, user, "x") }));
    let became = |outcome: &Outcome| matches!(outcome, Outcome::Appended { became_member: true, .. });
    assert_eq!(store.commit(appends).iter().map(became).collect::<Vec<_>>(), [true, false, true, false, false]);
    let image = store.image("a").unwrap();
    assert_eq!((image.row.member_count, image.roles), (3, vec![("mona".into(), Role::Moderator)]));
    // Nobody is made a member by the way.
    assert!(!became(&store.append(message(a, "carl", "x"))));
    assert_eq!(store.image("a").unwrap().row.member_count, 3);
}

fn a_change_of_members_may_be_silent(store: &mut Store) {
    let a = store.lobby("a").pk;
    let outcome = store.one(set_member(a, "anna", Some(Role::Member), false));
    assert!(matches!(outcome, Outcome::Changed { offset: 0, member_count: 1 }));
    let outcome = store.one(set_member(a, "anna", Some(Role::Owner), true));
    assert!(matches!(outcome, Outcome::Changed { offset: 1, member_count: 1 }));
    let image = store.image("a").unwrap();
    assert_eq!((image.recent.len(), image.recent[0].kind), (1, EventKind::RoleChanged));
}

fn updating_changes_what_is_given(store: &mut Store) {
    let a = store.lobby("a").pk;
    let mut update = |name: Option<&str>, description: Option<&str>, slow_mode_s| {
        let event = event(EventKind::RoomUpdated, "anna", "");
        let (name, description) = (name.map(Box::from), description.map(Box::from));
        let outcome = store.one(Write::UpdateRoom(UpdateRoom { room: a, name, description, slow_mode_s, event }));
        let row = store.image("a").unwrap().row;
        assert_eq!(offset(&outcome), row.last_offset);
        (row.name.into_string(), row.description.into_string(), row.slow_mode_s, row.last_offset)
    };
    assert_eq!(update(Some("new"), None, None), ("new".into(), "".into(), 0, 1));
    assert_eq!(update(None, Some("text"), Some(30)), ("new".into(), "text".into(), 30, 2));
    assert_eq!(update(None, Some(""), Some(0)), ("new".into(), "".into(), 0, 3));
}

fn deleting_and_making_again_begins_a_new_stream(store: &mut Store) {
    let first = store.lobby("a");
    store.append(Append { make_member: true, ..message(first.pk, "anna", "secret") });
    let recreate = Write::CreateRoom(room("a", RoomType::Private, &[]));
    let outcomes = store.commit([Write::DeleteRoom(first.pk), recreate, Write::DeleteRoom(first.pk)]);
    assert!(matches!((&outcomes[0], &outcomes[2]), (Outcome::Deleted, Outcome::NoRoom)));
    let second = store.image("a").unwrap();
    assert!(second.row.epoch != first.epoch && !second.row.epoch.is_empty() && second.row.epoch.len() <= 16);
    assert!(second.row.pk != first.pk, "jobs on their way must not reach another room");
    assert_eq!((second.row.last_offset, second.row.member_count, second.recent.len()), (0, 0, 0));
    assert!(second.roles.is_empty());
    assert_eq!(offset(&store.append(message(second.row.pk, "anna", "x"))), 1);
    // Also when the newest room is deleted and the store is opened anew.
    store.one(Write::DeleteRoom(second.row.pk));
    store.restart(counting_ids(100));
    let third = store.lobby("a");
    assert!(third.pk > second.row.pk && third.epoch != second.row.epoch);
}

fn a_room_keeps_its_stream_over_a_restart(store: &mut Store) {
    let a = mixed_room(store);
    let before = store.image("a").unwrap();
    store.restart(counting_ids(100));
    let after = store.image("a").unwrap();
    assert_eq!((before.row, before.roles, before.recent), (after.row, after.roles, after.recent));
    assert_eq!(offset(&store.append(message(a, "anna", "x"))), 10);
}

fn the_image_brings_the_newest_events(store: &mut Store) {
    mixed_room(store);
    let image = store.image("a").unwrap();
    assert_eq!(image.recent.iter().map(|event| event.offset).collect::<Vec<_>>(), [7, 8, 9]);
    assert_eq!(image.row.last_offset, 9);
    assert!(store.image("A").is_none() && store.image("").is_none());
}

fn readers_see_every_commit_and_nothing_else(store: &mut Store) {
    let a = store.lobby("a").pk;
    for count in 1..=5 {
        store.append(message(a, "anna", "x"));
        assert_eq!(store.events(a, 0, 10).0.len(), count);
    }
}

fn an_empty_batch_is_fine(store: &mut Store) {
    assert!(store.commit([]).is_empty());
}

fn it_is_ready(store: &mut Store) {
    assert!(store.open.as_mut().unwrap().0.probe());
    let a = store.lobby("a").pk;
    assert!(store.open.as_mut().unwrap().0.probe());
    assert_eq!(offset(&store.append(message(a, "anna", "x"))), 1);
}
