//! From a message to what is to happen: session commands here, room commands at the room's home shard.
//!
//! A command that must be executed elsewhere, or later, travels as the bytes it came in and is parsed again there: there is
//! no second, owned form of every command.
use super::charge::Budget;
use super::conn::{NONE, PendingPresence, PendingResume, Stage, flag};
use super::mail::{Mail, ResumeRoom};
use super::{Core, Shard};
use crate::base::hash::home_shard;
use crate::base::refusal::{Code, Refusal};
use crate::base::user::{GlobalRole, User, UserRef};
use crate::ids::{ConnRef, Prefix, Ulid};
use crate::plane::{Plane, SLACK_BYTES, Slot};
use crate::rooms::command::{Caller, RoomCommand, RoomGrant};
use crate::rooms::effects::{Effects, Handled, Requester};
use crate::rooms::{Rooms, home_of_ask};
use crate::session::command::{Command, ResumeRooms, UserIds};
use crate::session::decode::{Scratch, decode};
use crate::session::encode::Resumed;
use crate::store::port::Role;
use crate::telemetry::{AuthFailure, DropReason};
use crate::wire::envelope::Parser;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What parsing needs, kept warm.
#[derive(Default)]
pub struct Tools {
    pub parser: Parser,
    pub scratch: Scratch,
    /// The message as it came, if parsing alters it (it holds a backslash).
    original: Vec<u8>,
}

impl Tools {
    /// Keeps what `bytes` will give back after `padded[..len]` was parsed.
    fn keep(&mut self, message: &[u8]) {
        self.original.clear();
        if memchr::memchr(b'\\', message).is_some() {
            self.original.extend_from_slice(message);
        }
    }

    fn bytes<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        if self.original.is_empty() { message } else { &self.original }
    }
}

/// What remains to be done with a message.
enum Next {
    Done,
    /// Its room's home is that shard.
    Forward(u16, Budget),
    /// Its room is busy.
    Park(u32, Budget),
    /// The connection is still being signed in.
    Hold,
}

/// A room command that cannot be executed yet.
pub struct Waiting {
    pub room_key: u32,
    /// As in `Handled::Later`.
    pub is_room_busy: bool,
    pub mail: Mail,
}

impl<P: Plane> Shard<P> {
    /// One text message of a connection, with slack behind it.
    pub(super) fn message(&mut self, slot: Slot, padded: &mut [u8], len: usize) {
        self.core.counters.messages_received += 1;
        self.tools.keep(&padded[..len]);
        match self.dispatch(slot, padded, len) {
            Next::Done => {}
            Next::Hold => {
                let message = self.tools.bytes(&padded[..len]).into();
                self.core.hold(slot, message);
            }
            next @ (Next::Forward(_, budget) | Next::Park(_, budget)) => {
                let record = &self.core.conns[slot as usize];
                let Some(user) = record.user.clone() else { return };
                let mail = Mail::Command {
                    from: self.core.conn_ref(slot),
                    user,
                    role: record.kind.role(),
                    budget,
                    message: self.tools.bytes(&padded[..len]).into(),
                    read_at_ns: self.core.now.mono_ns,
                };
                match next {
                    Next::Park(room_key, _) => self.park(room_key, mail),
                    Next::Forward(home, _) => self.forward(home, mail, padded, len),
                    Next::Done | Next::Hold => {}
                }
            }
        }
        self.settle_rooms();
    }

    fn dispatch(&mut self, slot: Slot, padded: &mut [u8], len: usize) -> Next {
        let Shard { core, rooms, tools, .. } = self;
        let envelope = match tools.parser.parse(padded, len) {
            Ok(envelope) => envelope,
            Err(error) => {
                if core.admit(slot) {
                    core.invalid_message(slot, error.id);
                }
                return Next::Done;
            }
        };
        let request = envelope.id();
        let command = match decode(&envelope, &mut tools.scratch) {
            Ok(command) => command,
            Err(refusal) => {
                let kind = (refusal.code == Code::UnknownType).then_some(envelope.kind());
                if core.admit(slot) {
                    core.refuse_undecoded(slot, request, kind, refusal);
                }
                return Next::Done;
            }
        };
        let stage = core.conns[slot as usize].stage;
        if stage == Stage::SigningIn {
            return Next::Hold;
        }
        let budget = Budget::of(&command);
        if (stage != Stage::Open || budget == Budget::Commands) && !core.admit(slot) {
            return Next::Done;
        }
        match (stage, command) {
            (Stage::Greeting, Command::Auth { token }) => core.authenticate(slot, token, request),
            (Stage::Greeting, _) => core.refuse_here(slot, request, Refusal::new(Code::AuthRequired)),
            (Stage::Open, command) => {
                let Some(user) = core.conns[slot as usize].user.clone() else { return Next::Done };
                core.charge.begin(budget);
                if let Err(wait_ns) = core.take_token(slot, &user, budget) {
                    core.refuse_rate(slot, request, wait_ns);
                    core.charge.end();
                    return Next::Done;
                }
                let conn = core.conn_ref(slot);
                let next = session_command(core, rooms, slot, &user, request, command, budget);
                if core.charge.end() {
                    core.give_back(conn, &user, budget);
                }
                return next;
            }
            _ => {}
        }
        Next::Done
    }

    /// A command whose room's home is another shard.
    fn forward(&mut self, home: u16, mail: Mail, padded: &mut [u8], len: usize) {
        let is_refused = self.core.mesh.is_congested(home);
        if !is_refused {
            return self.core.mesh.post(home, mail);
        }
        let Mail::Command { from, user, budget, .. } = mail else { return };
        self.core.counters.dropped.add(DropReason::MailboxFullCommand, 1);
        // The id is needed once more, and only now.
        let request: Box<str> = match self.tools.parser.parse(padded, len) {
            Ok(envelope) => envelope.id().into(),
            Err(_) => return,
        };
        self.core.refuse_unexecuted(Requester { conn: from, request: &request }, &user, budget, overloaded());
    }

    /// Commands held during the sign-in are taken up in their order.
    pub(super) fn take_up_held(&mut self) {
        while let Some(conn) = self.core.admitted.pop() {
            let Some(slot) = self.core.live(conn) else { continue };
            let held = std::mem::take(&mut self.core.active(slot).held);
            for message in held {
                let mut padded = message.into_vec();
                let len = padded.len();
                padded.resize(len + SLACK_BYTES, 0);
                if self.core.live(conn).is_some() {
                    self.message(slot, &mut padded, len);
                }
            }
        }
    }

    /// A room command that was forwarded here or parked; None when it is done, else it is to be parked.
    pub(super) fn execute(&mut self, mail: Mail) -> Option<Waiting> {
        let Shard { core, rooms, tools, .. } = self;
        let now = core.now;
        let handled = match &mail {
            // Whoever is gone waits for nothing any more.
            Mail::Command { from, .. } if from.shard == core.id && core.live(*from).is_none() => return None,
            Mail::Command { from, user, role, budget, message, read_at_ns } => {
                let mut padded = Vec::with_capacity(message.len() + SLACK_BYTES);
                padded.extend_from_slice(message);
                padded.resize(message.len() + SLACK_BYTES, 0);
                let Ok(envelope) = tools.parser.parse(&mut padded, message.len()) else { return None };
                let Ok(command) = decode(&envelope, &mut tools.scratch) else { return None };
                let caller = Caller { conn: *from, user, role: *role, request: envelope.id(), read_at_ns: *read_at_ns };
                core.charge.begin(*budget);
                let handled = match command {
                    Command::Room { room, command, room_token } => {
                        room_command(core, rooms, &caller, room, command, room_token)
                    }
                    Command::Answer { ask_id, payload } => rooms.answer(&caller, ask_id, payload, now, core),
                    Command::Create { room_id: Some(room), command } => {
                        rooms.command(&caller, room, &command, now, core)
                    }
                    Command::Create { room_id: None, command } => {
                        let room = core.room_id_at_home();
                        rooms.command(&caller, &room, &command, now, core)
                    }
                    _ => Handled::Done,
                };
                if core.charge.end() {
                    core.give_back(*from, user, *budget);
                }
                handled
            }
            Mail::Resume(resume) => {
                let caller = Caller {
                    conn: resume.from,
                    user: &resume.user,
                    role: resume.role,
                    request: &resume.request,
                    read_at_ns: resume.read_at_ns,
                };
                let recover = crate::rooms::command::Position { epoch: &resume.epoch, offset: resume.offset };
                rooms.command(&caller, &resume.room, &RoomCommand::Resume { recover }, now, core)
            }
            Mail::Presence { from, user, room, user_ids } => {
                let user_ids: Vec<&str> = user_ids.iter().map(|id| &**id).collect();
                let caller = Caller { conn: *from, user, role: GlobalRole::None, request: "", read_at_ns: now.mono_ns };
                rooms.command(&caller, room, &RoomCommand::Presence { user_ids: &user_ids }, now, core)
            }
            _ => Handled::Done,
        };
        match handled {
            Handled::Done => None,
            Handled::Later { room_key, is_room_busy } => Some(Waiting { room_key, is_room_busy, mail }),
        }
    }
}

pub fn overloaded() -> Refusal {
    /// A mailbox or queue empties within milliseconds once its owner runs; a second spares it the same crowd at once.
    const RETRY_AFTER_MS: u64 = 1_000;
    Refusal::after_ms(Code::Overloaded, RETRY_AFTER_MS)
}

/// A command of a signed-in connection.
fn session_command<P: Plane>(
    core: &mut Core<P>,
    rooms: &mut Rooms,
    slot: Slot,
    user: &UserRef,
    request: &str,
    command: Command<'_>,
    budget: Budget,
) -> Next {
    match command {
        Command::Auth { .. } => core.refuse_here(slot, request, Refusal::new(Code::Conflict)),
        Command::Heartbeat { timestamp } => {
            core.send_private(slot, |native, out, stamp| native.heartbeat(out, stamp, timestamp))
        }
        Command::Activity => core.touch(user),
        Command::RefreshToken { token } => core.refresh_token(slot, token, request),
        Command::Resume { session_id, resume_token, rooms: list } => {
            resume(core, rooms, slot, user, request, session_id, resume_token, list)
        }
        Command::GetPresence { user_ids } => presence(core, rooms, slot, user, request, user_ids),
        Command::Room { room, command, room_token } => {
            if let RoomCommand::Join { .. } = command
                && !core.may_join(slot, room)
            {
                core.refuse_here(slot, request, Refusal::new(Code::LimitReached));
                return Next::Done;
            }
            match home_shard(room, core.shards) {
                home if home == core.id => {
                    let caller = core.caller(slot, user, request);
                    return match room_command(core, rooms, &caller, room, command, room_token) {
                        Handled::Done => Next::Done,
                        Handled::Later { room_key, .. } => Next::Park(room_key, budget),
                    };
                }
                home => return Next::Forward(home, budget),
            }
        }
        Command::Answer { ask_id, payload } => match home_of_ask(ask_id) {
            home if home == core.id => {
                let (caller, now) = (core.caller(slot, user, request), core.now);
                return match rooms.answer(&caller, ask_id, payload, now, core) {
                    Handled::Done => Next::Done,
                    Handled::Later { room_key, .. } => Next::Park(room_key, budget),
                };
            }
            home if home < core.shards => return Next::Forward(home, budget),
            _ => core.refuse_here(slot, request, Refusal::new(Code::NotFound)),
        },
        Command::Create { room_id, command } => {
            let fresh;
            let room = match room_id {
                Some(room) => room,
                None => {
                    fresh = core.room_id_at_home();
                    &fresh
                }
            };
            match home_shard(room, core.shards) {
                home if home == core.id => {
                    let (caller, now) = (core.caller(slot, user, request), core.now);
                    return match rooms.command(&caller, room, &command, now, core) {
                        Handled::Done => Next::Done,
                        Handled::Later { room_key, .. } => Next::Park(room_key, budget),
                    };
                }
                home => return Next::Forward(home, budget),
            }
        }
    }
    Next::Done
}

/// A command at its room's home: the room token is checked, then the domain decides.
fn room_command<P: Plane>(
    core: &mut Core<P>,
    rooms: &mut Rooms,
    caller: &Caller<'_>,
    room: &str,
    mut command: RoomCommand<'_>,
    room_token: Option<&str>,
) -> Handled {
    let now = core.now;
    if let (RoomCommand::Join { grant, .. }, Some(token)) = (&mut command, room_token) {
        match core.verifier.verify_room_token(token, caller.user.id(), room, now.unix_ms) {
            Ok(granted) => *grant = Some(RoomGrant { role: granted.role.and_then(Role::parse) }),
            Err(error) => {
                core.counters.auth_failures.add(super::sign_in::auth_failure(&error), 1);
                let to = Requester { conn: caller.conn, request: caller.request };
                core.refuse(to, Refusal::new(Code::AccessDenied));
                return Handled::Done;
            }
        }
    }
    rooms.command(caller, room, &command, now, core)
}

#[allow(clippy::too_many_arguments)] // the fields of one command
fn resume<P: Plane>(
    core: &mut Core<P>,
    rooms: &mut Rooms,
    slot: Slot,
    user: &UserRef,
    request: &str,
    session_id: &str,
    resume_token: &str,
    list: ResumeRooms<'_>,
) {
    let session = Ulid::parse_prefixed(Prefix::Session, session_id);
    let is_valid = |session: &Ulid| core.resume_key.verify(resume_token, user.id(), *session, core.now.unix_ms);
    let Some(session) = session.filter(is_valid) else {
        core.counters.auth_failures.add(AuthFailure::ResumeToken, 1);
        return core.refuse_here(slot, request, Refusal::new(Code::NotFound));
    };
    if core.active(slot).resume.is_some() {
        return core.refuse_here(slot, request, Refusal::new(Code::Conflict));
    }
    let conn = core.conn_ref(slot);
    core.end_session(user, session, conn);
    core.counters.resumed += 1;
    let connection_id = core.conns[slot as usize].session();
    core.conns[slot as usize].set_session(session);
    core.conns[slot as usize].flags |= flag::HOLD_LOGS;
    core.active(slot).resume = Some(Box::new(PendingResume {
        connection_id,
        request: request.into(),
        // One more than the rooms: the answer cannot be complete before all were asked.
        remaining: 1,
        parts: Vec::new(),
    }));
    let mut rooms_left = core.rooms_left(slot);
    for room in list {
        core.expect_resumed(slot, 1);
        if !core.is_in(slot, room.room) {
            if rooms_left == 0 {
                let mut json = Vec::new();
                core.native.resume_part(&mut json, room.room, None);
                core.room_resumed(conn, &json);
                continue;
            }
            rooms_left -= 1;
        }
        let mail = Box::new(ResumeRoom {
            from: conn,
            user: user.clone(),
            role: core.conns[slot as usize].kind.role(),
            request: request.into(),
            room: room.room.into(),
            epoch: room.recover.epoch.into(),
            offset: room.recover.offset,
            read_at_ns: core.now.mono_ns,
        });
        match home_shard(room.room, core.shards) {
            home if home != core.id => core.mesh.post(home, Mail::Resume(mail)),
            _ => {
                let (caller, now) = (core.caller(slot, user, request), core.now);
                let command = RoomCommand::Resume { recover: room.recover };
                if let Handled::Later { room_key, .. } = rooms.command(&caller, room.room, &command, now, core) {
                    core.parking.push((room_key, Mail::Resume(mail)));
                }
            }
        }
    }
    core.room_resumed(conn, b"");
}

fn presence<P: Plane>(
    core: &mut Core<P>,
    rooms: &mut Rooms,
    slot: Slot,
    user: &UserRef,
    request: &str,
    user_ids: UserIds<'_>,
) {
    if core.active(slot).presence.is_some() {
        return core.refuse_here(slot, request, Refusal::after_ms(Code::RateLimited, 1_000));
    }
    let asked: Arc<[Box<str>]> = user_ids.map(Box::from).collect();
    core.active(slot).presence = Some(Box::new(PendingPresence {
        request: request.into(),
        remaining: 1,
        asked: asked.clone(),
        found: Vec::new(),
    }));
    let conn = core.conn_ref(slot);
    let first = core.conns[slot as usize].first_subscription;
    let shared: Vec<Arc<str>> = core
        .fanout
        .list(first)
        .map(|key| core.fanout.rooms[core.fanout.subscriptions[key as usize].room as usize].id.clone())
        .collect();
    for room in shared {
        if let Some(pending) = &mut core.active(slot).presence {
            pending.remaining += 1;
        }
        let mail = Mail::Presence { from: conn, user: user.clone(), room: room.clone(), user_ids: asked.clone() };
        match home_shard(&room, core.shards) {
            home if home != core.id => core.mesh.post(home, mail),
            _ => {
                let ids: Vec<&str> = asked.iter().map(|id| &**id).collect();
                let (caller, now) = (core.caller(slot, user, ""), core.now);
                let command = RoomCommand::Presence { user_ids: &ids };
                if let Handled::Later { room_key, .. } = rooms.command(&caller, &room, &command, now, core) {
                    core.parking.push((room_key, mail));
                }
            }
        }
    }
    core.presence_found(conn, Vec::new());
}

impl<P: Plane> Core<P> {
    pub(super) fn caller<'a>(&self, slot: Slot, user: &'a UserRef, request: &'a str) -> Caller<'a> {
        let role = self.conns[slot as usize].kind.role();
        Caller { conn: self.conn_ref(slot), user, role, request, read_at_ns: self.now.mono_ns }
    }

    /// The user did something (R-PRES-4).
    fn touch(&self, user: &User) {
        user.last_active_s.store((self.now.unix_ms / 1000) as u32, Relaxed);
    }

    /// `limits.rooms_per_session`; joining a room again is always possible.
    pub(super) fn may_join(&self, slot: Slot, room: &str) -> bool {
        self.rooms_left(slot) > 0 || self.is_in(slot, room)
    }

    fn rooms_left(&self, slot: Slot) -> usize {
        let rooms = self.fanout.list(self.conns[slot as usize].first_subscription).count();
        self.settings.rooms_per_session.saturating_sub(rooms)
    }

    fn is_in(&self, slot: Slot, room: &str) -> bool {
        self.fanout.subscription_to(self.conns[slot as usize].first_subscription, room).is_some()
    }

    /// A fresh server id for a room whose home is this shard.
    fn room_id_at_home(&mut self) -> String {
        loop {
            let id = format!("{}{}", Prefix::Room.as_str(), self.ids.next(self.now.unix_ms));
            if home_shard(&id, self.shards) == self.id {
                return id;
            }
        }
    }

    fn refuse_undecoded(&mut self, slot: Slot, request: &str, kind: Option<&str>, refusal: Refusal) {
        if matches!(self.conns[slot as usize].stage, Stage::Greeting) {
            return self.refuse_here(slot, request, Refusal::new(Code::AuthRequired));
        }
        self.counters.commands_refused.add(refusal.code, 1);
        self.send_private(slot, |native, out, stamp| native.error(out, stamp, Some(request), kind, &refusal));
    }

    fn hold(&mut self, slot: Slot, message: Box<[u8]>) {
        /// Bytes of commands held during a sign-in, which takes one hop there and back.
        const HELD_BYTES_MAX: usize = 64 << 10;
        let active = self.active(slot);
        let held: usize = active.held.iter().map(|message| message.len()).sum();
        match held + message.len() <= HELD_BYTES_MAX {
            true => active.held.push(message),
            false => self.close(slot, crate::base::close::CloseCode::Overloaded),
        }
    }

    fn expect_resumed(&mut self, slot: Slot, rooms: u32) {
        if let Some(pending) = &mut self.active(slot).resume {
            pending.remaining += rooms;
        }
    }

    /// One room of a resume has answered; the last one completes the ack, and only then may the rooms' events follow.
    pub(super) fn room_resumed(&mut self, conn: ConnRef, part: &[u8]) {
        let Some(slot) = self.live(conn) else { return };
        if self.conns[slot as usize].active == NONE || self.active(slot).resume.is_none() {
            return self.room_recovered(conn, part);
        }
        let Some(pending) = &mut self.active(slot).resume else { return };
        if !part.is_empty() {
            pending.parts.push(part.into());
        }
        pending.remaining -= 1;
        if pending.remaining > 0 {
            return;
        }
        let pending = self.active(slot).resume.take().expect("just seen");
        let Some(user) = self.conns[slot as usize].user.clone() else { return };
        let resume_token = self.resume_token(&user, self.conns[slot as usize].session());
        self.send_private(slot, |native, out, stamp| {
            let resumed = Resumed { connection_id: pending.connection_id, resume_token: &resume_token };
            native.resumed(out, stamp, &pending.request, &resumed, &pending.parts)
        });
        self.conns[slot as usize].flags &= !flag::HOLD_LOGS;
        self.mark_dirty(slot);
    }

    /// One room's share of a `get_presence`.
    pub(super) fn presence_found(&mut self, conn: ConnRef, online: Vec<(Box<str>, crate::rooms::event::Status, u64)>) {
        let Some(slot) = self.live(conn) else { return };
        let Some(pending) = &mut self.active(slot).presence else { return };
        pending.found.extend(online);
        pending.remaining -= 1;
        if pending.remaining > 0 {
            return;
        }
        let pending = self.active(slot).presence.take().expect("just seen");
        self.send_private(slot, |native, out, stamp| {
            native.presence(out, stamp, &pending.request, pending.entries());
        });
    }
}
