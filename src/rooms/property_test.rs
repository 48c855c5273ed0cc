//! Random commands of several users, devices and rooms, with a store whose answers come late or fail, against naive models:
//! * every subscriber hears every durable event exactly once, in order, from its snapshot on (R-ROOM-4, R-CHAT-4);
//! * joined and left alternate per user, and every subscriber's view of who is here is right (R-PRES-1, R-PRES-2);
//! * `recovered: true` never has a gap (R-REC-1);
//! * a question is over in time, with as many answers as it says;
//! * every command is answered once, and no acked message is missing from the store;
//! * when everyone is gone, no memory is left.
use super::Settings;
use super::command::{Position, RoomCommand};
use super::testing::{Client, Heard, JOIN, LEAVE, Line, TYPE, World, ask, message, message_as};
use crate::base::rate::Rate;
use crate::base::user::GlobalRole;
use crate::store::port::{EventKind, Role, RoomType};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};

/// Another seed each time unless THRONG_ROOMS_SEED names one: a failure prints the seed, with which it repeats.
fn seed() -> u64 {
    let named =
        std::env::var("THRONG_ROOMS_SEED").ok().map(|text| text.parse().expect("THRONG_ROOMS_SEED is a number"));
    let seed = named.unwrap_or_else(rand_seed);
    eprintln!("repeat with THRONG_ROOMS_SEED={seed}");
    seed
}

fn rand_seed() -> u64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system's random source");
    u32::from_ne_bytes(bytes).into()
}

const ROOMS: [&str; 3] = ["lobby", "club", "hall"];
const USERS: [&str; 4] = ["anna", "berta", "carla", "boss"];
const DEVICES: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    Command(usize, usize, Act),
    Disconnect(usize, bool),
    Store { is_write: bool, is_apply: bool },
    Settle,
    Advance(u64),
    Failures(u32),
    Full(bool),
}

#[derive(Clone, Debug)]
enum Act {
    Join,
    /// From the last position heard, less so many.
    Recover(u64, bool),
    Leave(bool),
    Send,
    SendAs(usize),
    Broadcast,
    Ask(u64),
    Answer,
    Type(bool),
    Invite(usize),
    Remove(usize),
    SetRole(usize, Role),
    SlowMode(u32),
    Create,
    Delete,
}

fn act() -> impl Strategy<Value = Act> {
    let user = 0..USERS.len();
    let role = prop_oneof![Just(Role::Member), Just(Role::Moderator), Just(Role::Owner)];
    prop_oneof![
        6 => Just(Act::Join),
        6 => (0u64..40, any::<bool>()).prop_map(|(back, is_resume)| Act::Recover(back, is_resume)),
        3 => any::<bool>().prop_map(Act::Leave),
        12 => Just(Act::Send),
        2 => (0usize..3).prop_map(Act::SendAs),
        1 => Just(Act::Broadcast),
        3 => (1u64..5_000).prop_map(Act::Ask),
        8 => Just(Act::Answer),
        2 => any::<bool>().prop_map(Act::Type),
        2 => user.clone().prop_map(Act::Invite),
        1 => user.clone().prop_map(Act::Remove),
        1 => (user, role).prop_map(|(user, role)| Act::SetRole(user, role)),
        1 => (0u32..3).prop_map(Act::SlowMode),
        1 => Just(Act::Create),
        1 => Just(Act::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..DEVICES, 0..ROOMS.len(), act()).prop_map(|(device, room, act)| Step::Command(device, room, act)),
        3 => (0..DEVICES, any::<bool>()).prop_map(|(device, is_abnormal)| Step::Disconnect(device, is_abnormal)),
        25 => any::<(bool, bool)>().prop_map(|(is_write, is_apply)| Step::Store { is_write, is_apply }),
        4 => Just(Step::Settle),
        4 => (0u64..15_000).prop_map(Step::Advance),
        1 => (1u32..4).prop_map(Step::Failures),
        1 => any::<bool>().prop_map(Step::Full),
    ]
}

/// What one subscription has heard.
#[derive(Debug)]
struct View {
    next: u64,
    online: BTreeSet<String>,
}

struct Checker {
    world: World,
    clients: Vec<Client>,
    views: BTreeMap<(String, crate::ids::ConnRef), View>,
    /// Last position heard, by user and room.
    positions: BTreeMap<(String, String), (String, u64)>,
    asked: BTreeMap<String, (crate::ids::ConnRef, String, RoomCommand<'static>)>,
    answers: BTreeMap<String, usize>,
    sent: u32,
    /// The last question heard in each room.
    questions: BTreeMap<String, u64>,
    /// Rooms that somebody asked to delete: a message may have been acked in an earlier life of theirs.
    deletions: BTreeSet<String>,
}

impl Checker {
    fn new() -> Checker {
        let settings = Settings {
            recent: 3,
            recovery_limit: 12,
            messages: Rate::per(30, 60_000),
            rooms_created: Rate::OFF,
            ..Settings::default()
        };
        let mut world = World::new(settings);
        let clients = (0..DEVICES).map(|device| client(&mut world, device)).collect();
        Checker {
            world,
            clients,
            views: BTreeMap::new(),
            positions: BTreeMap::new(),
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            sent: 0,
            questions: BTreeMap::new(),
            deletions: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Command(device, room, ref act) => self.command(device, ROOMS[room], act),
            Step::Disconnect(device, is_abnormal) => self.disconnect(device, is_abnormal),
            Step::Store { is_write, is_apply: true } => self.world.apply(is_write),
            Step::Store { is_write, is_apply: false } => self.world.tell(is_write),
            Step::Settle => self.world.settle(),
            Step::Advance(ms) => self.world.advance(ms),
            Step::Failures(failures) => self.world.fx.store.failures = failures,
            Step::Full(is_full) => self.world.fx.is_full = is_full,
        }
        for line in std::mem::take(&mut self.world.fx.lines) {
            self.check(line);
        }
    }

    fn command(&mut self, device: usize, room: &'static str, act: &Act) {
        let client = self.clients[device].clone();
        self.sent += 1;
        let command = match *act {
            Act::Join => JOIN,
            Act::Recover(back, is_resume) => {
                let key = (client.user.id().to_string(), room.to_string());
                let Some((epoch, offset)) = self.positions.get(&key) else { return };
                let recover = Position { epoch: epoch.clone().leak(), offset: offset.saturating_sub(back) };
                match is_resume {
                    true => RoomCommand::Resume { recover },
                    false => RoomCommand::Join { room_type: None, grant: None, recover: Some(recover) },
                }
            }
            Act::Leave(permanent) => RoomCommand::Leave { permanent },
            Act::Send => message(format!("text {}", self.sent).leak()),
            Act::SendAs(n) => message_as(["c0", "c1", "c2"][n], "same"),
            Act::Broadcast => RoomCommand::Broadcast { event: "e", payload: "1", include_self: true, wants_ack: false },
            Act::Ask(timeout_ms) => ask(Some(timeout_ms)),
            Act::Answer => {
                let Some(&ask_id) = self.questions.get(room) else { return };
                RoomCommand::Answer { ask_id, payload: "1" }
            }
            Act::Type(is_typing) => RoomCommand::Typing { is_typing },
            Act::Invite(user) => RoomCommand::Invite { user_id: USERS[user] },
            Act::Remove(user) => RoomCommand::Remove { user_id: USERS[user] },
            Act::SetRole(user, role) => RoomCommand::SetRole { user_id: USERS[user], role },
            Act::SlowMode(seconds) => RoomCommand::Update { name: None, description: None, slow_mode_s: Some(seconds) },
            Act::Create => {
                let kind = if room == "club" { RoomType::Private } else { RoomType::Public };
                RoomCommand::Create { name: "x", description: "", kind, recipient_id: None }
            }
            Act::Delete => {
                self.deletions.insert(room.to_string());
                RoomCommand::Delete
            }
        };
        let request = format!("q{}", self.sent).leak();
        self.asked.insert(request.to_string(), (client.conn, room.to_string(), command));
        self.world.ask_as(&client, room, request, command);
    }

    fn disconnect(&mut self, device: usize, is_abnormal: bool) {
        let gone = std::mem::replace(&mut self.clients[device], client(&mut self.world, device));
        for room in ROOMS {
            self.views.remove(&(room.to_string(), gone.conn));
            self.world.disconnect(&gone, room, is_abnormal);
        }
        // What it still hears goes nowhere.
        self.asked.retain(|_, (conn, ..)| *conn != gone.conn);
    }

    fn check(&mut self, line: Line) {
        let Line { conn, room, request, heard } = line;
        let Some(client) = self.clients.iter().find(|client| client.conn == conn).cloned() else { return };
        let user = client.user.id().to_string();
        let key = (room.clone(), conn);
        if let Some(request) = &request {
            assert!(heard.is_answer());
            let count = self.answers.entry(request.clone()).or_default();
            *count += 1;
            assert_eq!(*count, 1, "answered twice: {request}");
        }
        let asked = request.and_then(|request| self.asked.get(&request).cloned());
        match heard {
            Heard::Snapshot(shown) | Heard::Resumed(Some(shown)) => {
                if let Some(view) = self.views.get(&key) {
                    assert_eq!(shown.offset + 1, view.next, "a second snapshot continues the first");
                }
                if shown.recovered == Some(true) {
                    let first = shown.events.first().copied().unwrap_or(shown.offset + 1);
                    assert!(shown.events.iter().copied().eq(first..=shown.offset), "a gap: {shown:?}");
                    assert!(shown.recent.is_empty());
                    if let Some((_, _, RoomCommand::Resume { recover })) = asked {
                        assert_eq!((recover.epoch, recover.offset + 1), (&*shown.epoch, first));
                    }
                } else {
                    self.check_recent(&room, &shown.epoch, shown.offset, &shown.recent);
                    assert!(shown.events.is_empty());
                }
                assert_eq!(shown.online.len() as u64, shown.online_count);
                assert!(shown.online.contains(&user));
                self.positions.insert((user, room), (shown.epoch, shown.offset));
                self.views.insert(key, View { next: shown.offset + 1, online: shown.online.into_iter().collect() });
            }
            Heard::Durable { offset, .. } => {
                let view = self.views.get_mut(&key).expect("durable events go to subscribers");
                assert_eq!(offset, view.next, "{room}");
                view.next += 1;
                self.positions.get_mut(&(user, room)).expect("had a snapshot").1 = offset;
            }
            Heard::Came(other) => {
                assert!(
                    other != user && self.views.get_mut(&key).unwrap().online.insert(other.clone()),
                    "{other} twice"
                );
            }
            Heard::Went(other) => {
                assert!(
                    other != user && self.views.get_mut(&key).unwrap().online.remove(&other),
                    "{other} was not here"
                );
            }
            Heard::Closed(_) => {
                assert!(self.views.remove(&key).is_some());
            }
            Heard::Done if matches!(asked, Some((_, _, RoomCommand::Leave { .. }))) => {
                assert!(self.views.remove(&key).is_some(), "only subscribers leave");
            }
            Heard::Sent { offset, is_duplicate: false } => {
                let stored = self.world.fx.store.by_name(&room);
                if let (Some(stored), Some((_, _, RoomCommand::Send { message, .. }))) = (stored, asked) {
                    let is_stored = |row: &&_| {
                        let row: &crate::store::port::EventRow = row;
                        row.offset == offset && *row.user_id == *user && *row.body == *message
                    };
                    let is_later_life = self.deletions.contains(&room);
                    assert!(is_later_life || stored.rows.iter().any(|row| is_stored(&row)), "acked, not stored");
                }
                assert!(self.views.get(&key).is_none_or(|view| view.next <= offset), "the ack comes first");
            }
            Heard::Question { ask_id, .. } => {
                assert!(self.views.contains_key(&key), "questions go to subscribers");
                self.questions.insert(room, ask_id);
            }
            Heard::Asked { asked, answers, dropped, is_complete } => {
                assert!(answers.len() as u64 <= asked && dropped == 0);
                assert_eq!(is_complete, answers.len() as u64 == asked);
            }
            Heard::Typing(other, _) => assert_ne!(other, user),
            _ => {}
        }
    }

    fn check_recent(&mut self, room: &str, epoch: &str, offset: u64, recent: &[u64]) {
        let Some(stored) = self.world.fx.store.by_name(room).filter(|stored| *stored.row.epoch == *epoch) else {
            return;
        };
        let messages = stored.rows.iter().filter(|row| row.kind == EventKind::Message && row.offset <= offset);
        let messages: Vec<u64> = messages.map(|row| row.offset).collect();
        assert_eq!(recent, &messages[messages.len().saturating_sub(3)..], "{room}");
    }

    fn finish(mut self) {
        self.world.fx.store.failures = 0;
        self.world.fx.is_full = false;
        self.step(&Step::Settle);
        self.step(&Step::Advance(30_000));
        self.step(&Step::Settle);
        assert_eq!(self.world.waiting_count(), 0);
        // Graces are over: who is here is who is subscribed.
        for room in ROOMS {
            let here: BTreeSet<String> = self
                .clients
                .iter()
                .filter(|client| self.world.fx.subscribed.contains(&(room.to_string(), client.conn)))
                .map(|client| client.user.id().to_string())
                .collect();
            let newest = self.world.fx.store.by_name(room).map_or(0, |stored| stored.row.last_offset);
            for client in &self.clients {
                let view = self.views.get(&(room.to_string(), client.conn));
                let is_subscribed = self.world.fx.subscribed.contains(&(room.to_string(), client.conn));
                assert_eq!(view.is_some(), is_subscribed);
                if let Some(view) = view {
                    assert_eq!((&view.online, view.next), (&here, newest + 1), "{room}");
                }
            }
        }
        for (request, (_, _, command)) in &self.asked {
            let count = self.answers.get(request).copied().unwrap_or(0);
            let is_silent = matches!(
                command,
                RoomCommand::Typing { .. } | RoomCommand::Broadcast { .. } | RoomCommand::Answer { .. }
            );
            assert!(count == 1 || is_silent, "{command:?} has {count} answers");
        }
        for device in 0..DEVICES {
            self.disconnect(device, device % 2 == 0);
        }
        self.step(&Step::Advance(30_000));
        assert_eq!((self.world.rooms.row_count(), self.world.fx.timers.len()), (0, 0));
        assert!(self.world.fx.subscribed.is_empty());
    }
}

/// Two devices of each user; "boss" is an administrator.
fn client(world: &mut World, device: usize) -> Client {
    let user = USERS[device / 2];
    let role = if user == "boss" { GlobalRole::Admin } else { GlobalRole::None };
    Client { role, ..world.client(user) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, rng_seed: RngSeed::Fixed(seed()), ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_commands_and_answers_keeps_the_promises(steps in prop::collection::vec(step(), 1..250)) {
        let mut checker = Checker::new();
        steps.iter().for_each(|step| checker.step(step));
        checker.finish();
    }
}

/// The checker is no rubber stamp: a store that skips an offset is noticed.
#[test]
#[should_panic(expected = "assertion")]
fn a_skipped_offset_is_noticed() {
    let mut checker = Checker::new();
    for act in [Act::Join, Act::Send] {
        checker.step(&Step::Command(0, 0, act));
        checker.step(&Step::Settle);
    }
    checker.world.fx.store.by_name("lobby").unwrap().row.last_offset += 1;
    checker.step(&Step::Command(0, 0, Act::Send));
    checker.step(&Step::Settle);
}

/// What once went wrong, or nearly did.
#[test]
fn named_sequences() {
    let settle = Step::Settle;
    let say = |act: Act| Step::Command(0, 1, act);
    for steps in [
        // A held recovery, then the room is deleted under it.
        vec![
            say(Act::Create),
            say(Act::Join),
            settle.clone(),
            Step::Disconnect(2, true),
            say(Act::Delete),
            settle.clone(),
        ],
        // Leaving while the own message is on its way.
        vec![say(Act::Create), say(Act::Join), settle.clone(), say(Act::Send), say(Act::Leave(false)), settle.clone()],
        // Typing, then gone within the grace and back.
        vec![
            Step::Command(2, 0, Act::Join),
            Step::Command(0, 0, Act::Join),
            settle.clone(),
            Step::Command(0, 0, Act::Type(true)),
            Step::Disconnect(0, true),
            Step::Advance(9_000),
            Step::Command(0, 0, Act::Join),
            Step::Advance(9_000),
        ],
        // Back in memory, the room's newest events are no messages, and the store has no place for the read that would bring
        // these: no snapshot is better than one that lacks them.
        vec![
            say(Act::Join),
            say(Act::Send),
            say(Act::Send),
            say(Act::Send),
            settle.clone(),
            Step::Command(6, 1, Act::Remove(0)),
            settle.clone(),
            say(Act::Leave(false)),
            Step::Advance(30_000),
            say(Act::Join),
            Step::Full(true),
            settle.clone(),
            Step::Full(false),
            say(Act::Join),
            settle.clone(),
        ],
    ] {
        let mut checker = Checker::new();
        steps.iter().for_each(|step| checker.step(step));
        checker.finish();
    }
    assert_eq!((LEAVE, TYPE), (RoomCommand::Leave { permanent: false }, RoomCommand::Typing { is_typing: true }));
}
