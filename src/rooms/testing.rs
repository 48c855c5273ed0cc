//! A world around `Rooms` for tests: a store in memory (`store`) whose answers come when the test says so, a shard's share of the work
//! (subscriptions, waiting commands, timers), a virtual clock, and everything that sessions hear, in order.
mod store;

pub use self::store::Store;
use super::command::{Caller, Metadata, Position, RoomCommand};
use super::effects::{Audience, Class, Effects, Handled, Requester, RoomTimer};
use super::event::{Ack, Event, Snapshot, Status};
use super::{Rooms, Settings};
use crate::base::clock::Now;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::{GlobalRole, User, UserRef};
use crate::ids::{ConnRef, Ulid};
use crate::store::port::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a session hears, owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Done,
    Joined(Option<Role>),
    Sent { offset: u64, is_duplicate: bool },
    Room(String),
    History { offsets: Vec<u64>, has_more: bool },
    OnlineUsers { users: Vec<String>, next: Option<String>, count: u64 },
    Refused(Refusal),
    Resumed(Option<Shown>),
    Presence(Vec<(String, Status, u64)>),
    Snapshot(Shown),
    Durable { offset: u64, kind: EventKind, user: String, text: String },
    Came(String),
    Went(String),
    Typing(String, bool),
    Broadcast { user: String, event: String },
    Question { user: String, event: String, ask_id: u64 },
    Asked { asked: u64, answers: Vec<(String, String)>, dropped: u64, is_complete: bool },
    Occupancy { online: u64, members: u64 },
    Closed(String),
}

impl Heard {
    pub fn refused(code: Code) -> Heard {
        Heard::Refused(code.into())
    }

    /// The answer to a command, no event.
    pub fn is_answer(&self) -> bool {
        use Heard::*;
        matches!(
            self,
            Done | Joined(_)
                | Sent { .. }
                | Room(_)
                | History { .. }
                | OnlineUsers { .. }
                | Asked { .. }
                | Refused(_)
                | Resumed(_)
                | Presence(_)
        )
    }
}

/// A snapshot, owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub epoch: String,
    pub recovered: Option<bool>,
    pub recent: Vec<u64>,
    pub events: Vec<u64>,
    pub online: Vec<String>,
    pub online_count: u64,
    pub role: Option<Role>,
    pub offset: u64,
    pub member_count: u64,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub conn: ConnRef,
    pub room: String,
    /// Of the command that this answers.
    pub request: Option<String>,
    pub heard: Heard,
}

#[derive(Clone, Debug)]
pub struct Client {
    pub conn: ConnRef,
    pub user: UserRef,
    pub role: GlobalRole,
}

/// The store and the recording way out.
#[derive(Default)]
pub struct Fx {
    pub lines: Vec<Line>,
    pub subscribed: BTreeSet<(String, ConnRef)>,
    pub store: Store,
    /// Handed in, not yet applied.
    pub writes: VecDeque<Box<WriteJob>>,
    pub reads: VecDeque<Box<ReadJob>>,
    /// Applied, not yet told.
    pub told: [VecDeque<Done>; 2],
    /// The queues of the store are full.
    pub is_full: bool,
    pub timers: BTreeSet<(u64, u32, u32)>,
    retries: Vec<u32>,
    ids: u128,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Fx {
    fn hear(&mut self, conn: ConnRef, room: &str, request: Option<&str>, heard: Heard) {
        self.lines.push(Line { conn, room: room.into(), request: request.map(Into::into), heard });
    }
}

impl Effects for Fx {
    fn ack(&mut self, to: Requester<'_>, room: &str, ack: &Ack<'_>) {
        let heard = match *ack {
            Ack::Done => Heard::Done,
            Ack::Joined { role } => Heard::Joined(role),
            Ack::Sent { offset, is_duplicate, .. } => Heard::Sent { offset, is_duplicate },
            Ack::Asked { asked, answers, dropped, is_complete, .. } => Heard::Asked {
                asked,
                answers: answers.iter().map(|one| (one.user.id().into(), one.payload.to_string())).collect(),
                dropped,
                is_complete,
            },
            Ack::Room(row) => Heard::Room(row.id.to_string()),
            Ack::History { rows, has_more, .. } => {
                Heard::History { offsets: rows.iter().map(|row| row.offset).collect(), has_more }
            }
            Ack::OnlineUsers { users, next_cursor, online_count } => Heard::OnlineUsers {
                users: users.iter().map(|listed| listed.user.id().into()).collect(),
                next: next_cursor.map(Into::into),
                count: online_count,
            },
        };
        self.hear(to.conn, room, Some(to.request), heard);
    }

    fn refuse(&mut self, to: Requester<'_>, refusal: Refusal) {
        self.hear(to.conn, "", Some(to.request), Heard::Refused(refusal));
    }

    fn send(&mut self, to: ConnRef, room: &str, event: &Event<'_>) {
        let is_subscribed = self.subscribed.contains(&(room.to_string(), to));
        assert!(!(matches!(event, Event::Closed { .. }) && is_subscribed), "events may come behind the last one");
        self.hear(to, room, None, heard(event));
    }

    fn publish(&mut self, room: &Arc<str>, event: &Event<'_>, class: Class, audience: Audience<'_>) {
        assert_eq!(class == Class::Durable, matches!(event, Event::Durable { .. }));
        assert!(audience.shards.is_sorted() && !audience.shards.is_empty());
        let readers: Vec<ConnRef> =
            self.subscribed.iter().filter(|(name, _)| **name == **room).map(|&(_, conn)| conn).collect();
        let shards: BTreeSet<u16> = readers.iter().map(|conn| conn.shard).collect();
        assert!(shards.iter().eq(audience.shards), "audience {:?} of readers {readers:?}", audience.shards);
        for conn in readers.into_iter().filter(|conn| !audience.except.contains(conn)) {
            self.hear(conn, room, None, heard(event));
        }
    }

    fn subscribe(&mut self, conn: ConnRef, _user: &UserRef, room: &Arc<str>) {
        assert!(self.subscribed.insert((room.to_string(), conn)), "subscribed twice");
    }

    fn unsubscribe(&mut self, conn: ConnRef, room: &Arc<str>) {
        assert!(self.subscribed.remove(&(room.to_string(), conn)), "was not subscribed");
    }

    fn resumed(&mut self, to: Requester<'_>, room: &str, part: Option<&Snapshot<'_>>) {
        self.hear(to.conn, room, Some(to.request), Heard::Resumed(part.map(shown)));
    }

    fn presence(&mut self, to: Requester<'_>, online: &[(&str, Status, u64)]) {
        let online = online.iter().map(|&(user, status, at)| (user.into(), status, at)).collect();
        self.hear(to.conn, "", Some(to.request), Heard::Presence(online));
    }

    fn write(&mut self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>> {
        if self.is_full {
            return Err(job);
        }
        self.writes.push_back(job);
        Ok(())
    }

    fn read(&mut self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>> {
        if self.is_full {
            return Err(job);
        }
        self.reads.push_back(job);
        Ok(())
    }

    fn timer(&mut self, at_mono_ms: u64, timer: RoomTimer) {
        let RoomTimer::Room { room_key, room_generation } = timer;
        self.timers.insert((at_mono_ms, room_key, room_generation));
    }

    fn retry(&mut self, room_key: u32) {
        self.retries.push(room_key);
    }

    fn new_id(&mut self) -> Ulid {
        self.ids += 1;
        Ulid(self.ids)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

fn shown(snapshot: &Snapshot<'_>) -> Shown {
    let offsets = |rows: &[&EventRow]| rows.iter().map(|row| row.offset).collect();
    Shown {
        epoch: snapshot.row.epoch.to_string(),
        recovered: snapshot.recovered,
        recent: offsets(&snapshot.recent),
        events: offsets(&snapshot.events),
        online: snapshot.online.iter().map(|listed| listed.user.id().into()).collect(),
        online_count: snapshot.online_count,
        role: snapshot.role,
        offset: snapshot.offset,
        member_count: snapshot.row.member_count,
    }
}

fn heard(event: &Event<'_>) -> Heard {
    match *event {
        Event::Durable { row, .. } => Heard::Durable {
            offset: row.offset,
            kind: row.kind,
            user: row.user_id.to_string(),
            text: row.detail.as_ref().unwrap_or(&row.body).to_string(),
        },
        Event::Joined { user, .. } => Heard::Came(user.id().into()),
        Event::Left { user, .. } => Heard::Went(user.id().into()),
        Event::Typing { user, is_typing, .. } => Heard::Typing(user.id().into(), is_typing),
        Event::Broadcast { user, event, .. } => Heard::Broadcast { user: user.id().into(), event: event.into() },
        Event::Question { user, event, ask_id, .. } => {
            Heard::Question { user: user.id().into(), event: event.into(), ask_id }
        }
        Event::Occupancy { online, members } => Heard::Occupancy { online, members },
        Event::Snapshot(snapshot) => Heard::Snapshot(shown(snapshot)),
        Event::Closed { reason } => Heard::Closed(reason.into()),
    }
}

type Waiting = (Client, String, &'static str, RoomCommand<'static>);

pub struct World {
    pub rooms: Rooms,
    pub fx: Fx,
    pub now: Now,
    waiting: BTreeMap<u32, VecDeque<Waiting>>,
    users: BTreeMap<String, UserRef>,
    conns: u32,
    requests: u32,
}

/// Unix time at which every world begins.
pub const START_MS: u64 = 1_700_000_000_000;

impl World {
    pub fn new(settings: Settings) -> World {
        World {
            rooms: Rooms::new(0, settings),
            fx: Fx::default(),
            now: Now { mono_ns: 3_600_000_000_000_000, unix_ms: START_MS },
            waiting: BTreeMap::new(),
            users: BTreeMap::new(),
            conns: 0,
            requests: 0,
        }
    }

    /// A new connection of this user; connections are spread over three shards.
    pub fn client(&mut self, user: &str) -> Client {
        let user = self.users.entry(user.into()).or_insert_with(|| UserRef::new(User::new(user, None))).clone();
        self.conns += 1;
        let conn = ConnRef { slot: self.conns, generation: 1, shard: (self.conns % 3) as u16 };
        Client { conn, user, role: GlobalRole::None }
    }

    /// Runs a command as a shard does; the answer may come later. Returns its request id.
    pub fn ask(&mut self, client: &Client, room: &str, command: RoomCommand<'static>) -> &'static str {
        self.requests += 1;
        let request = format!("r{}", self.requests).leak();
        self.ask_as(client, room, request, command);
        request
    }

    pub fn ask_as(&mut self, client: &Client, room: &str, request: &'static str, command: RoomCommand<'static>) {
        let waiting = (client.clone(), room.to_string(), request, command);
        let is_mine = |(other, name, ..): &Waiting| other.conn == client.conn && name == room;
        match self.waiting.values_mut().find(|list| list.iter().any(is_mine)) {
            Some(list) => list.push_back(waiting),
            None => {
                if let Some((room_key, waiting)) = self.command(waiting) {
                    self.waiting.entry(room_key).or_default().push_back(waiting);
                }
            }
        }
        self.retry();
    }

    /// Runs a command, answers everything in the store, and returns what the client heard.
    pub fn run(&mut self, client: &Client, room: &str, command: RoomCommand<'static>) -> Vec<Heard> {
        let from = self.fx.lines.len();
        self.ask(client, room, command);
        self.settle();
        self.heard_since(client, from)
    }

    /// The last thing the client hears after a command.
    pub fn answer(&mut self, client: &Client, room: &str, command: RoomCommand<'static>) -> Heard {
        let heard = self.run(client, room, command);
        heard.into_iter().find(Heard::is_answer).expect("every command is answered")
    }

    pub fn join(&mut self, client: &Client, room: &str) -> Shown {
        let heard = self.run(client, room, JOIN);
        let shown = heard.iter().find_map(|heard| match heard {
            Heard::Snapshot(shown) => Some(shown.clone()),
            _ => None,
        });
        shown.unwrap_or_else(|| panic!("no snapshot in {heard:?}"))
    }

    pub fn join_all(&mut self, clients: &[&Client], room: &str) {
        clients.iter().for_each(|client| drop(self.join(client, room)));
    }

    pub fn send(&mut self, client: &Client, room: &str, text: &'static str) -> Heard {
        self.answer(client, room, message(text))
    }

    pub fn disconnect(&mut self, client: &Client, room: &str, is_abnormal: bool) {
        self.fx.subscribed.remove(&(room.to_string(), client.conn));
        // A shard drops what the connection still waits for.
        for list in self.waiting.values_mut() {
            list.retain(|(waiting, name, ..)| waiting.conn != client.conn || name != room);
        }
        self.waiting.retain(|_, list| !list.is_empty());
        self.rooms.disconnected(client.conn, &client.user, room, is_abnormal, self.now, &mut self.fx);
        self.retry();
    }

    /// Everything that this client heard and was not taken yet.
    pub fn take(&mut self, client: &Client) -> Vec<Heard> {
        let (mine, rest) = std::mem::take(&mut self.fx.lines).into_iter().partition(|line| line.conn == client.conn);
        self.fx.lines = rest;
        let mine: Vec<Line> = mine;
        mine.into_iter().map(|line| line.heard).collect()
    }

    pub fn forget(&mut self) {
        self.fx.lines.clear();
    }

    fn heard_since(&self, client: &Client, from: usize) -> Vec<Heard> {
        let lines = self.fx.lines[from..].iter().filter(|line| line.conn == client.conn);
        lines.map(|line| line.heard.clone()).collect()
    }

    /// The command back, with its room's key, if it is to be tried later.
    fn command(&mut self, waiting: Waiting) -> Option<(u32, Waiting)> {
        let (client, room, request, command) = waiting;
        let read_at_ns = self.now.mono_ns;
        let caller = Caller { conn: client.conn, user: &client.user, role: client.role, request, read_at_ns };
        match self.rooms.command(&caller, &room, &command, self.now, &mut self.fx) {
            Handled::Done => None,
            Handled::Later { room_key, .. } => Some((room_key, (client, room, request, command))),
        }
    }

    fn retry(&mut self) {
        while let Some(room_key) = self.fx.retries.pop() {
            while let Some(waiting) = self.waiting.get_mut(&room_key).and_then(VecDeque::pop_front) {
                if let Some((key, waiting)) = self.command(waiting) {
                    assert_eq!(key, room_key);
                    self.waiting.entry(key).or_default().push_front(waiting);
                    break;
                }
            }
            if self.waiting.get(&room_key).is_some_and(VecDeque::is_empty) {
                self.waiting.remove(&room_key);
            }
        }
    }

    /// The store applies the next write or read.
    pub fn apply(&mut self, is_write: bool) {
        let done = if is_write {
            let Some(job) = self.fx.writes.pop_front() else { return };
            let outcome = self.fx.store.write(&job.write);
            Done::Write { job, outcome }
        } else {
            let Some(job) = self.fx.reads.pop_front() else { return };
            let outcome = self.fx.store.read(&job.read);
            Done::Read { job, outcome }
        };
        self.fx.told[usize::from(is_write)].push_back(done);
    }

    /// The next applied write or read is told to the rooms.
    pub fn tell(&mut self, is_write: bool) {
        if let Some(done) = self.fx.told[usize::from(is_write)].pop_front() {
            self.rooms.finished(done, self.now, &mut self.fx);
            self.retry();
        }
    }

    /// Until the store has nothing to do.
    pub fn settle(&mut self) {
        loop {
            for is_write in [true, false] {
                self.apply(is_write);
                self.tell(is_write);
            }
            let is_quiet = self.fx.writes.is_empty() && self.fx.reads.is_empty();
            if is_quiet && self.fx.told.iter().all(VecDeque::is_empty) {
                return;
            }
        }
    }

    /// Lets time pass; timers come on time.
    pub fn advance(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms() + ms;
        while let Some(&(at_ms, room_key, room_generation)) = self.fx.timers.first().filter(|timer| timer.0 <= end_ms) {
            self.fx.timers.pop_first();
            self.set_time(at_ms.max(self.now.mono_ms()));
            self.rooms.timer(RoomTimer::Room { room_key, room_generation }, self.now, &mut self.fx);
            self.retry();
        }
        self.set_time(end_ms);
    }

    fn set_time(&mut self, mono_ms: u64) {
        self.now.unix_ms += mono_ms - self.now.mono_ms();
        self.now.mono_ns = mono_ms * 1_000_000;
    }

    /// No command waits for ever.
    pub fn waiting_count(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// A room of this type with an owner "owner", a moderator "mod", a member "member" and an invited user "guest".
    pub fn furnished(&mut self, room: &'static str, kind: RoomType) -> Client {
        let (owner, rows) = (self.client("owner"), self.rooms.row_count());
        let recipient_id = (kind == RoomType::Direct).then_some("member");
        let create = RoomCommand::Create { name: "Room", description: "", kind, recipient_id };
        assert_eq!(self.answer(&owner, room, create), Heard::Room(room.into()));
        let stored = self.fx.store.by_name(room).expect("made just now");
        if kind != RoomType::Direct {
            for (user, role) in [("mod", Role::Moderator), ("member", Role::Member), ("guest", Role::Invited)] {
                stored.members.insert(user.into(), role);
            }
        }
        self.advance(2_000);
        assert!(self.rooms.row_count() <= rows, "an unused room is forgotten");
        owner
    }
}

pub const JOIN: RoomCommand<'static> = RoomCommand::Join { room_type: None, grant: None, recover: None };
pub const LEAVE: RoomCommand<'static> = RoomCommand::Leave { permanent: false };
pub const TYPE: RoomCommand<'static> = RoomCommand::Typing { is_typing: true };

pub const fn ask(timeout_ms: Option<u64>) -> RoomCommand<'static> {
    RoomCommand::Ask { event: "vote", payload: "1", timeout_ms }
}

pub const fn message(message: &'static str) -> RoomCommand<'static> {
    RoomCommand::Send { message, message_type: None, metadata: None, client_id: None }
}

pub fn message_as(client_id: &'static str, message: &'static str) -> RoomCommand<'static> {
    RoomCommand::Send { message, message_type: None, metadata: None, client_id: Some(client_id) }
}

pub fn with_metadata(is_object: bool, json: &'static str) -> RoomCommand<'static> {
    let metadata = Some(Metadata { is_object, json });
    RoomCommand::Send { message: "x", message_type: Some("text"), metadata, client_id: None }
}

pub fn recover(world: &mut World, room: &str, offset: u64) -> RoomCommand<'static> {
    let epoch = world.fx.store.by_name(room).expect("a stored room").row.epoch.to_string().leak();
    RoomCommand::Join { room_type: None, grant: None, recover: Some(Position { epoch, offset }) }
}
