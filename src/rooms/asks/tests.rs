use super::*;
use crate::base::user::User;
use crate::rooms::Settings;
use crate::rooms::command::RoomCommand;
use crate::rooms::testing::{Client, Heard, JOIN, LEAVE, World, ask};
use crate::store::port::RoomType;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn answer(ask_id: u64, payload: &'static str) -> RoomCommand<'static> {
    RoomCommand::Answer { ask_id, payload }
}

fn asked(asked: u64, answers: &[(&str, &str)]) -> Heard {
    let answers: Vec<_> = answers.iter().map(|(user, payload)| (user.to_string(), payload.to_string())).collect();
    Heard::Asked { asked, is_complete: answers.len() as u64 == asked, answers, dropped: 0 }
}

/// The id of the one question that this client has heard.
fn heard(world: &mut World, client: &Client) -> u64 {
    match &world.take(client)[..] {
        [Heard::Question { user, event, ask_id }] if user == "anna" && event == "vote" => *ask_id,
        other => panic!("{other:?}"),
    }
}

/// Three in the lobby, of whom anna asks.
fn prepared() -> (World, Client, Client, Client) {
    let mut world = World::new(Settings::default());
    let (anna, tablet, berta) = (world.client("anna"), world.client("anna"), world.client("berta"));
    world.join_all(&[&anna, &tablet, &berta], "lobby");
    world.forget();
    (world, anna, tablet, berta)
}

/// No memory of questions is left.
fn assert_none(world: &World) {
    assert_eq!(world.rooms.open_asks(), 0);
}

#[test]
fn the_ack_comes_when_all_have_answered() {
    let (mut world, anna, tablet, berta) = prepared();
    assert_eq!(world.run(&anna, "lobby", ask(None)), []);
    let id = heard(&mut world, &berta);
    assert_eq!((heard(&mut world, &tablet), home_of_ask(id)), (id, 0));
    assert_eq!(world.run(&berta, "lobby", answer(id, r#"{"x":1}"#)), [], "no ack");
    assert_eq!(world.take(&anna), []);
    world.run(&tablet, "lobby", answer(id, "2"));
    assert_eq!(world.take(&anna), [asked(2, &[("berta", r#"{"x":1}"#), ("anna", "2")])]);
    assert_none(&world);
    world.advance(60_000);
    assert_eq!(world.take(&anna), [], "once");
}

#[test]
fn what_is_no_answer_is_refused() {
    let (mut world, anna, tablet, berta) = prepared();
    let late = world.client("late");
    world.run(&anna, "lobby", ask(Some(1_000)));
    let id = heard(&mut world, &berta);
    world.join(&late, "lobby");
    world.forget();
    let stranger = world.client("stranger");
    world.run(&berta, "lobby", answer(id, "1"));
    for (client, id, code) in [
        (&berta, id, Code::Conflict),
        (&late, id, Code::Forbidden),
        (&anna, id, Code::Forbidden),
        (&tablet, id + 1, Code::NotFound),
        (&stranger, id, Code::NotInRoom),
    ] {
        assert_eq!(world.run(client, "lobby", answer(id, "1")), [Heard::refused(code)], "{code:?}");
    }
    world.forget();
    world.advance(999);
    assert_eq!(world.take(&anna), []);
    world.advance(1);
    assert_eq!(world.take(&anna), [asked(2, &[("berta", "1")])], "what came in time");
    assert_eq!(world.run(&tablet, "lobby", answer(id, "1")), [Heard::refused(Code::NotFound)]);
    assert_eq!(world.fx.counts["questions_timed_out"], 1);
    assert_none(&world);
}

/// As the acks of Socket.IO come. Who is not in the question's room learns nothing of it.
#[test]
fn an_answer_need_not_name_its_room() {
    let (mut world, anna, tablet, berta) = prepared();
    let stranger = world.client("stranger");
    world.run(&anna, "lobby", ask(None));
    let id = heard(&mut world, &berta);
    let mut answers = |client: &Client, id| {
        let read_at_ns = world.now.mono_ns;
        let caller = Caller { conn: client.conn, user: &client.user, role: client.role, request: "a", read_at_ns };
        assert_eq!(
            world.rooms.answer(&caller, id, "1", world.now, &mut world.fx),
            super::super::effects::Handled::Done
        );
        world.take(client)
    };
    assert_eq!(answers(&stranger, id), [Heard::refused(Code::NotFound)]);
    assert_eq!(answers(&berta, id + 256), [Heard::refused(Code::NotFound)]);
    assert_eq!(answers(&berta, id), []);
    assert_eq!(answers(&berta, id), [Heard::refused(Code::Conflict)]);
    world.run(&tablet, "lobby", LEAVE);
    assert_eq!(world.take(&anna), [asked(2, &[("berta", "1")])]);
}

#[test]
fn who_is_gone_is_not_waited_for() {
    for way in 0..3 {
        let (mut world, anna, tablet, berta) = prepared();
        world.run(&anna, "lobby", ask(None));
        let id = heard(&mut world, &tablet);
        world.run(&tablet, "lobby", answer(id, "1"));
        match way {
            0 => drop(world.run(&berta, "lobby", LEAVE)),
            1 => world.disconnect(&berta, "lobby", true),
            // Who has answered may go, too.
            _ => {
                world.run(&tablet, "lobby", LEAVE);
                assert_eq!(world.take(&anna), []);
                world.disconnect(&berta, "lobby", false);
            }
        }
        let heard = world.take(&anna);
        assert_eq!(heard.first(), Some(&asked(2, &[("anna", "1")])), "way {way}");
        assert_none(&world);
    }
}

/// A session that leaves is still there to be told; a connection that is gone is not.
#[test]
fn an_asker_that_goes_ends_its_questions() {
    let (mut world, anna, _, berta) = prepared();
    world.run(&anna, "lobby", ask(None));
    let id = heard(&mut world, &berta);
    assert_eq!(world.run(&anna, "lobby", LEAVE), [Heard::Done, asked(2, &[])]);
    assert_eq!(world.run(&berta, "lobby", answer(id, "1")), [Heard::refused(Code::NotFound)]);
    assert_none(&world);
    world.join(&anna, "lobby");
    world.run(&anna, "lobby", ask(None));
    world.forget();
    world.disconnect(&anna, "lobby", false);
    assert_eq!(world.take(&anna), []);
    assert_none(&world);
}

#[test]
fn a_deleted_room_and_a_removed_member_end_them() {
    for is_deleted in [true, false] {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", RoomType::Private);
        let member = world.client("member");
        world.join_all(&[&owner, &member], "club");
        world.forget();
        world.run(&member, "club", ask(None));
        let command = if is_deleted { RoomCommand::Delete } else { RoomCommand::Remove { user_id: "member" } };
        world.run(&owner, "club", command);
        let heard = world.take(&member);
        assert!(heard.contains(&asked(1, &[])) && heard.iter().any(|one| matches!(one, Heard::Closed(_))), "{heard:?}");
        assert_none(&world);
    }
}

#[test]
fn nobody_to_ask_is_an_answer() {
    let mut world = World::new(Settings::default());
    let anna = world.client("anna");
    // An event stream hears, and is not asked.
    let mut stream = world.client("stream");
    stream.conn.generation |= ConnRef::LISTENER;
    world.join_all(&[&anna, &stream], "lobby");
    world.forget();
    assert_eq!(world.run(&anna, "lobby", ask(None)), [asked(0, &[])]);
    let id = heard(&mut world, &stream);
    assert_eq!(world.run(&stream, "lobby", answer(id, "1")), [Heard::refused(Code::NotFound)]);
    assert_none(&world);
}

#[test]
fn fields_are_checked_in_pairs() {
    let mut world = World::new(Settings { ask_timeout_ms: 700, ..Settings::default() });
    let (anna, berta) = (world.client("anna"), world.client("berta"));
    world.join_all(&[&anna, &berta], "lobby");
    world.forget();
    for timeout_ms in [0, 701] {
        assert_eq!(world.run(&anna, "lobby", ask(Some(timeout_ms))), [Heard::Refused(Refusal::field("timeoutMs"))]);
    }
    let nameless = RoomCommand::Ask { event: "", payload: "1", timeout_ms: None };
    assert_eq!(world.run(&anna, "lobby", nameless), [Heard::Refused(Refusal::field("event"))]);
    assert_eq!(world.take(&berta), []);
    world.forget();
    for timeout_ms in [Some(700), None] {
        world.run(&anna, "lobby", ask(timeout_ms));
        world.advance(699);
        assert_eq!(world.take(&anna), []);
        world.advance(1);
        assert_eq!(world.take(&anna), [asked(1, &[])]);
    }
    assert!(world.fx.writes.is_empty());
}

/// One question more than may be open, of a session and of the room.
#[test]
fn open_questions_are_bounded() {
    let mut world = World::new(Settings::default());
    let askers: Vec<_> = (0..=ASKS_OF_ROOM_MAX / ASKS_OF_SESSION_MAX).map(|n| world.client(&format!("u{n}"))).collect();
    world.join_all(&askers.iter().collect::<Vec<_>>(), "lobby");
    world.forget();
    let (last, askers) = askers.split_last().unwrap();
    for (n, asker) in askers.iter().enumerate() {
        for _ in 0..ASKS_OF_SESSION_MAX {
            world.run(asker, "lobby", ask(Some(1_000 + n as u64)));
        }
        world.forget();
        assert_eq!(
            world.run(asker, "lobby", ask(None)),
            [Heard::Refused(Refusal::after_ms(Code::RateLimited, 1_000 + n as u64))]
        );
    }
    world.forget();
    let refused = Heard::Refused(Refusal::after_ms(Code::Overloaded, 1_000));
    assert_eq!(world.run(last, "lobby", ask(None)), [refused]);
    world.advance(1_000);
    world.forget();
    assert_eq!(world.run(last, "lobby", ask(None)), []);
    world.advance(5_000);
    assert_none(&world);
}

#[test]
fn rooms_that_are_too_large_are_not_asked() {
    let mut world = World::new(Settings { events_max_users: 0, ..Settings::default() });
    let anna = world.client("anna");
    world.join(&anna, "lobby");
    let others: Vec<_> = (0..=ASKED_MAX).map(|n| world.client(&format!("u{n}"))).collect();
    let (last, others) = others.split_last().unwrap();
    for other in others {
        world.run(other, "lobby", JOIN);
        world.forget();
    }
    assert_eq!(world.run(&anna, "lobby", ask(None)), []);
    world.join(last, "lobby");
    world.forget();
    assert_eq!(world.run(&anna, "lobby", ask(None)), [Heard::refused(Code::LimitReached)]);
}

fn conn(slot: u32) -> ConnRef {
    ConnRef { slot, generation: 1, shard: 0 }
}

fn open(id: u64, asker: u32, members: &[u32], until_ms: u64) -> Ask {
    let members: HashMap<ConnRef, bool> = members.iter().map(|slot| (conn(*slot), false)).collect();
    let asked = members.len() as u32;
    Ask {
        id,
        asker: conn(asker),
        request: "r".into(),
        until_ms,
        asked,
        waiting: asked,
        members,
        answers: Vec::new(),
        bytes: 0,
        dropped: 0,
    }
}

/// The passing number and bytes of answers, and one beyond.
#[test]
fn answers_are_bounded_and_what_does_not_fit_is_counted() {
    let members: Vec<u32> = (1..=ANSWERS_MAX as u32 + 1).collect();
    let user = UserRef::new(User::new("u", None));
    let mut ask = open(1, 0, &members, 1);
    for slot in &members {
        assert_eq!(ask.answer(conn(*slot), &user, "1"), Ok(*slot as usize > ANSWERS_MAX));
    }
    assert_eq!((ask.answers.len(), ask.dropped, ask.is_complete()), (ANSWERS_MAX, 1, true));
    let mut ask = open(1, 0, &members, 1);
    let half = "x".repeat(ANSWER_BYTES_MAX / 2 - 1);
    for (slot, payload, dropped) in [(1, &*half, 0), (2, &half, 0), (3, "", 1)] {
        assert!(!ask.answer(conn(slot), &user, payload).unwrap());
        assert_eq!(ask.dropped, dropped, "{slot}");
    }
    assert_eq!((ask.answers.len(), ask.bytes), (2, ANSWER_BYTES_MAX));
}

#[test]
fn ids_name_their_home_and_do_not_repeat() {
    let mut register = Register::new(255);
    let ids: Vec<u64> = (0..3).map(|room| register.open(room)).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]) && ids.iter().all(|id| home_of_ask(*id) == 255));
    assert_eq!((register.room(ids[1]), register.room(ids[0] + 1)), (Some(1), None));
    register.close(ids[1]);
    assert_eq!(register.room(ids[1]), None);
}

#[derive(Clone, Debug)]
enum Step {
    Ask { asker: u32, members: Vec<u32>, lasts_ms: u64 },
    Answer { ask: usize, slot: u32 },
    Part(u32),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0_u32..6;
    prop_oneof![
        2 => (slot.clone(), prop::collection::vec(0_u32..6, 1..6), 1_u64..50)
            .prop_map(|(asker, members, lasts_ms)| Step::Ask { asker, members, lasts_ms }),
        6 => (0_usize..12, slot.clone()).prop_map(|(ask, slot)| Step::Answer { ask, slot }),
        1 => slot.prop_map(Step::Part),
        1 => (1_u64..30).prop_map(Step::Pass),
    ]
}

/// What is known of one question, kept as plainly as can be.
struct Model {
    asker: u32,
    until_ms: u64,
    asked: usize,
    here: BTreeMap<u32, bool>,
    answers: Vec<u32>,
}

proptest! {
    /// Each question ends once: when it must, neither before nor later, and with the answers that were taken.
    #[test]
    fn a_table_of_questions_behaves_like_a_plain_list(steps in prop::collection::vec(step(), 0..60)) {
        let (mut asks, mut model) = (Asks::default(), BTreeMap::<u64, Model>::new());
        let (mut now_ms, mut last) = (0, 0);
        let user = |slot: u32| UserRef::new(User::new(format!("u{slot}").as_str(), None));
        for step in steps {
            let mut over = Vec::new();
            let mut refused = None;
            match step {
                Step::Ask { asker, members, lasts_ms } => {
                    let members: Vec<u32> = members.into_iter().filter(|slot| *slot != asker).collect();
                    if members.is_empty() {
                        continue;
                    }
                    last += 1;
                    let ask = open(last, asker, &members, now_ms + lasts_ms);
                    let here: BTreeMap<u32, bool> = members.iter().map(|slot| (*slot, false)).collect();
                    let until_ms = now_ms + lasts_ms;
                    model.insert(last, Model { asker, until_ms, asked: here.len(), here, answers: Vec::new() });
                    asks.open.push(ask);
                }
                Step::Answer { ask, slot } => {
                    let id = ask as u64;
                    match asks.answer(id, conn(slot), &user(slot), "1") {
                        Ok(ended) => over.extend(ended),
                        Err(code) => refused = Some(code),
                    }
                    let expected = match model.get_mut(&id).map(|ask| (ask.here.get(&slot).copied(), ask)) {
                        None => Some(Code::NotFound),
                        Some((None, _)) => Some(Code::Forbidden),
                        Some((Some(true), _)) => Some(Code::Conflict),
                        Some((Some(false), ask)) => {
                            ask.here.insert(slot, true);
                            ask.answers.push(slot);
                            None
                        }
                    };
                    prop_assert_eq!(refused, expected);
                }
                Step::Part(slot) => {
                    asks.part(conn(slot), |ask| over.push(ask));
                    for ask in model.values_mut() {
                        ask.here.remove(&slot);
                        if ask.asker == slot {
                            ask.here.clear();
                        }
                    }
                }
                Step::Pass(ms) => {
                    now_ms += ms;
                    asks.expire(now_ms, |ask| over.push(ask));
                }
            }
            let is_over = |ask: &Model| ask.until_ms <= now_ms || ask.here.values().all(|has_answered| *has_answered);
            let mut ended: Vec<u64> = over.iter().map(|ask| ask.id).collect();
            ended.sort_unstable();
            let expected: Vec<u64> = model.iter().filter(|(_, ask)| is_over(ask)).map(|(id, _)| *id).collect();
            prop_assert_eq!(&ended, &expected);
            for ask in &over {
                let known = model.remove(&ask.id).unwrap();
                let users: Vec<String> = known.answers.iter().map(|slot| format!("u{slot}")).collect();
                prop_assert!(ask.answers.iter().map(|one| one.user.id()).eq(users.iter().map(|user| &**user)));
                prop_assert_eq!((ask.asked as usize, ask.is_complete()), (known.asked, known.answers.len() == known.asked));
            }
            prop_assert_eq!(asks.next_ms(), model.values().map(|ask| ask.until_ms).min());
        }
    }
}
