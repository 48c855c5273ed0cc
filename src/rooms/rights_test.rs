//! Every command × every role without the right (product section 12, first row; R-SEC-3): the exact refusal, nothing stored, nobody
//! told. And with the right: done.
use super::Settings;
use super::command::RoomCommand;
use super::testing::{Client, Heard, JOIN, LEAVE, TYPE, World, ask, message};
use crate::base::refusal::Code;
use crate::base::user::GlobalRole;
use crate::store::port::{HistoryFrom, Role, RoomType};

/// What a command comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Done,
    No(Code),
}

const OK: Verdict = Verdict::Done;
const DENIED: Verdict = Verdict::No(Code::AccessDenied);
const FORBID: Verdict = Verdict::No(Code::Forbidden);
const OUT: Verdict = Verdict::No(Code::NotInRoom);

/// For members only; the column of the table says what they come to for someone who is not subscribed.
const OF_SUBSCRIBERS: [RoomCommand<'static>; 7] = [
    LEAVE,
    message("x"),
    RoomCommand::Broadcast { event: "x", payload: "1", include_self: false, wants_ack: false },
    TYPE,
    ask(None),
    RoomCommand::History { from: HistoryFrom::End, limit: 5 },
    RoomCommand::OnlineUsers { cursor: None, limit: 5 },
];

const MANAGING: [RoomCommand<'static>; 5] = [
    RoomCommand::Invite { user_id: "new" },
    RoomCommand::Remove { user_id: "member" },
    RoomCommand::SetRole { user_id: "member", role: Role::Moderator },
    RoomCommand::Update { name: Some("y"), description: None, slow_mode_s: None },
    RoomCommand::Delete,
];

type Row = (RoomType, &'static str, GlobalRole, Verdict, [Verdict; 5]);

/// Room type, user, server-wide role; join; invite, remove, set role, update, delete.
const TABLE: &[Row] = &[
    (RoomType::Public, "stranger", GlobalRole::None, OK, [FORBID; 5]),
    (RoomType::Public, "member", GlobalRole::None, OK, [FORBID; 5]),
    (RoomType::Public, "mod", GlobalRole::None, OK, [FORBID, OK, FORBID, FORBID, FORBID]),
    (RoomType::Public, "owner", GlobalRole::None, OK, [FORBID, OK, OK, OK, OK]),
    (RoomType::Public, "staff", GlobalRole::Moderator, OK, [FORBID, OK, FORBID, FORBID, FORBID]),
    (RoomType::Public, "boss", GlobalRole::Admin, OK, [FORBID, OK, OK, OK, OK]),
    (RoomType::Private, "stranger", GlobalRole::None, DENIED, [DENIED; 5]),
    (RoomType::Private, "guest", GlobalRole::None, OK, [FORBID; 5]),
    (RoomType::Private, "member", GlobalRole::None, OK, [FORBID; 5]),
    (RoomType::Private, "mod", GlobalRole::None, OK, [OK, OK, FORBID, FORBID, FORBID]),
    (RoomType::Private, "owner", GlobalRole::None, OK, [OK; 5]),
    (RoomType::Private, "staff", GlobalRole::Moderator, OK, [OK, OK, FORBID, FORBID, FORBID]),
    (RoomType::Private, "boss", GlobalRole::Admin, OK, [OK; 5]),
    (RoomType::Direct, "stranger", GlobalRole::None, DENIED, [DENIED; 5]),
    (RoomType::Direct, "staff", GlobalRole::Moderator, DENIED, [DENIED; 5]),
    (RoomType::Direct, "boss", GlobalRole::Admin, DENIED, [DENIED; 5]),
    (RoomType::Direct, "member", GlobalRole::None, OK, [FORBID; 5]),
];

/// A room with its owner in it, who watches, and a client of this user who is not in it.
fn prepared(kind: RoomType, user: &str, role: GlobalRole) -> (World, Client, Client) {
    let mut world = World::new(Settings::default());
    let watcher = world.furnished("club", kind);
    world.join(&watcher, "club");
    world.forget();
    let mut client = world.client(user);
    client.role = role;
    (world, watcher, client)
}

fn stored(world: &World) -> Vec<(String, usize, usize)> {
    let rooms = world.fx.store.rooms.values();
    rooms.map(|room| (format!("{:?}", room.row), room.members.len(), room.rows.len())).collect()
}

fn check(world: &mut World, watcher: &Client, client: &Client, command: RoomCommand<'static>, expected: Verdict) {
    let before = stored(world);
    let heard = world.run(client, "club", command);
    let verdict = match heard.iter().find(|heard| heard.is_answer()) {
        Some(Heard::Refused(refusal)) => Verdict::No(refusal.code),
        _ => Verdict::Done,
    };
    assert_eq!(verdict, expected, "{} {:?} {command:?}", client.user.id(), client.role);
    if expected != OK {
        assert_eq!(stored(world), before, "a refused command stores nothing");
        assert_eq!(world.take(watcher), [], "a refused command is told to nobody");
    }
}

#[test]
fn every_command_by_everyone_who_is_not_in_the_room() {
    for &(kind, user, role, join, managing) in TABLE {
        let (mut world, watcher, client) = prepared(kind, user, role);
        check(&mut world, &watcher, &client, JOIN, join);
        for command in OF_SUBSCRIBERS {
            let (mut world, watcher, client) = prepared(kind, user, role);
            check(&mut world, &watcher, &client, command, OUT);
            assert_eq!(
                world.answer(&client, "club", RoomCommand::Presence { user_ids: &["owner"] }),
                Heard::Presence(vec![])
            );
        }
        for (command, expected) in MANAGING.into_iter().zip(managing) {
            let (mut world, watcher, client) = prepared(kind, user, role);
            check(&mut world, &watcher, &client, command, expected);
        }
    }
}

#[test]
fn every_command_by_everyone_who_is_in_the_room() {
    for &(kind, user, role, join, managing) in TABLE.iter().filter(|row| row.3 == OK) {
        for (command, expected) in
            OF_SUBSCRIBERS.into_iter().map(|command| (command, join)).chain(MANAGING.into_iter().zip(managing))
        {
            let (mut world, watcher, client) = prepared(kind, user, role);
            world.join(&client, "club");
            world.forget();
            check(&mut world, &watcher, &client, command, expected);
        }
    }
}

/// Rights are checked when the command runs: a refreshed token may have taken the role that let someone in.
#[test]
fn who_lost_a_server_wide_role_may_only_leave() {
    for command in OF_SUBSCRIBERS.into_iter().chain(MANAGING) {
        let (mut world, watcher, mut client) = prepared(RoomType::Private, "boss", GlobalRole::Admin);
        world.join(&client, "club");
        world.forget();
        client.role = GlobalRole::None;
        check(&mut world, &watcher, &client, command, if command == LEAVE { OK } else { DENIED });
    }
}

/// R-SEC-3: a missing room answers like a hidden one.
#[test]
fn every_command_on_a_missing_room() {
    let everything = OF_SUBSCRIBERS.into_iter().chain(MANAGING);
    for command in everything {
        let (mut world, _, client) = prepared(RoomType::Private, "stranger", GlobalRole::None);
        let hidden = world.run(&client, "club", command);
        assert_eq!(world.run(&client, "missing", command), hidden, "{command:?}");
    }
}
