//! Random jobs: the durable back end against the plain one.
use crate::harness::*;
use crate::jobs::*;
use proptest::prelude::*;
use throng::store::memory::Memory;
use throng::store::port::*;

/// What a random test does next.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    Read(Read),
    Wait(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few names, so that everything meets everything; rooms 1 to 5 exist sooner or later.
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let role = || prop::sample::select(vec![None, Some(Role::Invited), Some(Role::Member), Some(Role::Owner)]);
    let append = (1..6i64, name(), prop::option::of(name()), name(), any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(room, user, client_id, body, make_member, probe)| {
            let mut append = Append { make_member, probe, ..message(room, user, body) };
            append.event.client_id = client_id.map(Box::from);
            Write::Append(append)
        });
    let create = (name(), any::<bool>(), role()).prop_map(|(id, is_public, role)| {
        let kind = if is_public { RoomType::Public } else { RoomType::Private };
        let members: Vec<_> = role.map(|role| ("a", role)).into_iter().collect();
        Write::CreateRoom(room(id, kind, &members))
    });
    let direct = (name(), name(), name()).prop_map(|(id, one, other)| Write::CreateRoom(direct(id, one, other)));
    let set = (1..6i64, name(), role(), any::<bool>())
        .prop_map(|(room, user, role, told)| set_member(room, user, role, told));
    let update = (1..6i64, prop::option::of(name())).prop_map(|(room, text)| {
        let event = event(EventKind::RoomUpdated, "a", "");
        let name = text.map(Box::from);
        Write::UpdateRoom(UpdateRoom { room, name, description: None, slow_mode_s: Some(3), event })
    });
    let delete = (1..6i64).prop_map(Write::DeleteRoom);
    let write = prop_oneof![10 => append, 3 => create, 1 => direct, 2 => set, 1 => update, 1 => delete];
    let from = prop_oneof![
        Just(HistoryFrom::End),
        (0..8u64).prop_map(HistoryFrom::Before),
        (0..8u64).prop_map(HistoryFrom::After)
    ];
    let read = prop_oneof![
        (name(), 0..5u32).prop_map(|(id, recent)| Read::Room { id: id.into(), recent }),
        (1..6i64, from, 0..5u32).prop_map(|(room, from, limit)| Read::History { room, from, limit }),
        (1..6i64, 0..8u64, 0..5u32).prop_map(|(room, after, limit)| Read::Events { room, after, limit }),
    ];
    // Quarters of the window: its end is met to the millisecond.
    let step = prop_oneof![
        6 => prop::collection::vec(write, 0..8).prop_map(Step::Commit),
        6 => read.prop_map(Step::Read),
        2 => (0..=4u64).prop_map(|quarters| Step::Wait(quarters * DEDUPE_S * 250)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The durable back end and the plain one cannot be told apart.
    #[test]
    fn both_back_ends_answer_alike(steps in steps()) {
        let (disk, memory) = (OnDisk::new(), InMemory::default());
        let mut stores = [&disk as &dyn Backend, &memory].map(Store::new);
        stores.iter_mut().for_each(|store| store.restart(equal_ids()));
        // The model keeps the source that it was made with.
        memory.0.replace(Some(Memory::new(DEDUPE_S, equal_ids())));
        stores[1].restart(equal_ids());
        for step in &steps {
            let [on_disk, in_memory] = stores.each_mut().map(|store| match step {
                Step::Commit(writes) => store.commit(writes.clone()),
                Step::Read(read) => vec![store.read(read.clone())],
                Step::Wait(wait_ms) => {
                    store.now_ms += wait_ms;
                    // Work that nobody waits for changes nothing that can be seen.
                    store.open.as_mut().unwrap().0.housekeep(store.now_ms);
                    vec![]
                }
                Step::Restart => {
                    store.restart(equal_ids());
                    vec![]
                }
            });
            prop_assert_eq!(format!("{on_disk:#?}"), format!("{in_memory:#?}"), "{:?}", step);
        }
    }
}
