//! One room in memory: its state, and what all features share. Each feature is an `impl Room` in its own file.
use super::asks::{Asks, Register};
use super::command::{Caller, RoomCommand};
use super::effects::{Audience, Class, Effects, Handled, Requester, RoomTimer};
use super::event::{Ack, Event};
use super::join::{HeldJoin, Joiner};
use super::members::Change;
use super::occupancy::Occupancy;
use super::online::OnlineTable;
use super::rights::Roles;
use super::settings::Settings;
use super::slow_mode::SlowMode;
use super::typing::Typing;
use super::window::{Bounds, Window};
use crate::base::clock::Now;
use crate::base::refusal::{Code, Refusal};
use crate::ids::ConnRef;
use crate::limits::{OVERLOADED_RETRY_MS, ROOM_LINGER_MS};
use crate::store::port::{EventKind, EventRow, Read, ReadJob, RoomImage, RoomRow, Waiter, Write, WriteJob};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Room {
    pub row: RoomRow,
    pub roles: Roles,
    pub window: Window,
    pub online: OnlineTable,
    pub typing: Vec<Typing>,
    pub occupancy: Occupancy,
    /// Only while slow mode is on.
    pub slow_mode: Option<Box<SlowMode>>,
    /// Only while a question is open.
    pub asks: Option<Box<Asks>>,
    /// What to answer to the probes on their way, in order.
    pub probes: VecDeque<Refusal>,
    /// Joins that wait for events from disk.
    pub held: Vec<HeldJoin>,
    /// The structural write on its way; everything else waits for it (R-ENV-4).
    pub change: Option<Change>,
    /// Time of the newest durable event: times do not decrease along the stream.
    last_at_ms: u64,
}

/// What a room's code is given: configuration, time, the room's row in the table, and the way out.
pub(super) struct Cx<'a, E> {
    pub settings: &'a Settings,
    pub shard: u16,
    pub now: Now,
    pub id: &'a Arc<str>,
    pub meta: &'a mut Meta,
    /// The questions that are open in this shard's rooms.
    pub asks: &'a mut Register,
    pub fx: &'a mut E,
}

/// What the table knows of a room in every state.
#[derive(Debug)]
pub(super) struct Meta {
    pub key: u32,
    /// Differs between two rooms that use the same key one after the other.
    pub generation: u32,
    /// Store jobs on their way; the row stays until they are back.
    pub jobs: u32,
    /// When the earliest timer set comes, `u64::MAX` if none is.
    pub armed_ms: u64,
    /// Not forgotten before this.
    pub linger_until_ms: u64,
}

impl Room {
    pub fn new(image: RoomImage, now: Now, settings: &Settings) -> Room {
        let RoomImage { row, roles, recent } = image;
        let bounds = Bounds {
            messages: settings.recent,
            events: usize::try_from(settings.recovery_limit).unwrap_or(usize::MAX),
        };
        let last_at_ms = recent.last().map_or(0, |newest| newest.at_ms);
        let window = Window::new(recent, row.last_offset, bounds);
        let slow_mode = SlowMode::new(row.slow_mode_s, None, &window, now);
        Room {
            roles: Roles::new(row.kind, roles),
            row,
            window,
            online: OnlineTable::default(),
            typing: Vec::new(),
            occupancy: Occupancy::default(),
            slow_mode,
            asks: None,
            probes: VecDeque::new(),
            held: Vec::new(),
            change: None,
            last_at_ms,
        }
    }

    /// While loading: a page of the newest messages, because the newest events hold too few.
    pub fn add_messages<E: Effects>(&mut self, cx: &Cx<'_, E>, page: Vec<EventRow>, has_more: bool) {
        self.window.add_messages(page, has_more);
        self.slow_mode = SlowMode::new(self.row.slow_mode_s, None, &self.window, cx.now);
    }

    /// Nobody is here and nothing is under way; jobs are counted by `Meta`.
    pub fn is_idle(&self) -> bool {
        self.online.is_empty()
    }

    pub fn command<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        command: &RoomCommand<'_>,
    ) -> Handled {
        let is_room_busy = self.change.is_some();
        if is_room_busy || self.held.iter().any(|held| held.conn == caller.conn) {
            return Handled::Later { room_key: cx.meta.key, is_room_busy };
        }
        let result = match *command {
            RoomCommand::Join { room_type, grant, recover } => {
                self.join(cx, &Joiner { caller: *caller, room_type, grant, recover, is_resume: false }, false);
                Ok(())
            }
            RoomCommand::Resume { recover } => {
                let recover = Some(recover);
                let joiner = Joiner { caller: *caller, room_type: None, grant: None, recover, is_resume: true };
                self.join(cx, &joiner, false);
                Ok(())
            }
            RoomCommand::Leave { permanent } => self.leave(cx, caller, permanent),
            RoomCommand::Send { message, message_type, metadata, client_id } => {
                self.send(cx, caller, message, message_type, metadata, client_id)
            }
            RoomCommand::Broadcast { event, payload, include_self, wants_ack } => {
                self.broadcast(cx, caller, event, payload, include_self, wants_ack)
            }
            RoomCommand::Ask { event, payload, timeout_ms } => self.ask(cx, caller, event, payload, timeout_ms),
            RoomCommand::Answer { ask_id, payload } => self.answer(cx, caller, ask_id, payload),
            RoomCommand::Typing { is_typing } => self.set_typing(cx, caller, is_typing),
            RoomCommand::History { from, limit } => self.history(cx, caller, from, limit),
            RoomCommand::OnlineUsers { cursor, limit } => self.online_users(cx, caller, cursor, limit),
            RoomCommand::Invite { user_id } => self.invite(cx, caller, user_id),
            RoomCommand::Remove { user_id } => self.remove_member(cx, caller, user_id),
            RoomCommand::SetRole { user_id, role } => self.set_role(cx, caller, user_id, role),
            RoomCommand::Update { name, description, slow_mode_s } => {
                self.update(cx, caller, name, description, slow_mode_s)
            }
            RoomCommand::Delete => self.delete(cx, caller),
            RoomCommand::Create { kind, recipient_id, .. } => self.create_again(cx, caller, kind, recipient_id),
            RoomCommand::Presence { user_ids } => {
                self.presence(cx, caller, user_ids);
                Ok(())
            }
        };
        if let Err(refusal) = result {
            cx.fx.refuse(to(caller), refusal);
        }
        Handled::Done
    }

    /// What is due now: typing that ends, questions and graces that are over, an occupancy event.
    pub fn tick<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        self.expire_typing(cx);
        self.expire_asks(cx);
        self.end_graces(cx);
        self.send_due_occupancy(cx);
    }

    /// To the room's subscribed sessions, if there are any.
    pub fn publish<E: Effects>(
        &self,
        cx: &mut Cx<'_, E>,
        event: &Event<'_>,
        class: Class,
        except: &[ConnRef],
        read_at_ns: u64,
    ) {
        let shards = self.online.shards();
        if !shards.is_empty() {
            cx.fx.publish(cx.id, event, class, Audience { shards, except, read_at_ns });
        }
    }

    /// A durable event that the store has numbered: everyone hears of it, and the window keeps it.
    pub fn record<E: Effects>(&mut self, cx: &mut Cx<'_, E>, mut row: EventRow, offset: u64, read_at_ns: u64) {
        row.offset = offset;
        self.row.last_offset = offset;
        let event = Event::Durable { epoch: &self.row.epoch, row: &row };
        self.publish(cx, &event, Class::Durable, &[], read_at_ns);
        self.window.push(row);
    }

    /// A durable event of the caller's, not yet numbered.
    pub fn event<E: Effects>(&mut self, cx: &mut Cx<'_, E>, caller: &Caller<'_>, kind: EventKind) -> EventRow {
        self.last_at_ms = self.last_at_ms.max(cx.now.unix_ms);
        EventRow {
            offset: 0,
            kind,
            id: cx.fx.new_id(),
            user_id: caller.user.id().into(),
            user_email: caller.user.email().filter(|_| cx.settings.expose_email).map(Into::into),
            client_id: None,
            body: "".into(),
            detail: None,
            at_ms: self.last_at_ms,
        }
    }

    /// Forgets rows older than the retention time.
    pub fn expire_rows<E: Effects>(&mut self, cx: &Cx<'_, E>) {
        if cx.settings.retention_ms > 0 {
            self.window.expire(cx.now.unix_ms.saturating_sub(cx.settings.retention_ms));
        }
    }
}

impl<E: Effects> Cx<'_, E> {
    pub fn now_ms(&self) -> u64 {
        self.now.mono_ms()
    }

    /// Unix seconds.
    pub fn now_s(&self) -> u32 {
        u32::try_from(self.now.unix_ms / 1_000).unwrap_or(u32::MAX)
    }

    pub fn ack(&mut self, to: Requester<'_>, ack: &Ack<'_>) {
        self.fx.ack(to, self.id, ack);
    }

    /// Makes sure that the room is looked at then.
    pub fn arm(&mut self, at_ms: u64) {
        if at_ms < self.meta.armed_ms {
            self.meta.armed_ms = at_ms;
            let timer = RoomTimer::Room { room_key: self.meta.key, room_generation: self.meta.generation };
            self.fx.timer(at_ms, timer);
        }
    }

    /// Lets the commands that wait for this room go; they will find it here.
    pub fn retry(&mut self) {
        self.meta.linger_until_ms = self.now_ms() + ROOM_LINGER_MS;
        self.arm(self.meta.linger_until_ms);
        self.fx.retry(self.meta.key);
    }

    /// Hands a write in, for this caller.
    pub fn write(&mut self, caller: &Caller<'_>, write: Write) -> Result<(), Refusal> {
        let waiter = self.waiter(Some(caller));
        self.fx.write(Box::new(WriteJob { waiter, write })).map_err(|_| overloaded())?;
        self.meta.jobs += 1;
        Ok(())
    }

    /// Hands a read in; without a caller it is the room's own.
    pub fn read(&mut self, caller: Option<&Caller<'_>>, read: Read) -> Result<(), Refusal> {
        let waiter = self.waiter(caller);
        self.fx.read(Box::new(ReadJob { waiter, read })).map_err(|_| overloaded())?;
        self.meta.jobs += 1;
        Ok(())
    }

    fn waiter(&self, caller: Option<&Caller<'_>>) -> Waiter {
        Waiter {
            shard: self.shard,
            room_key: self.meta.key,
            conn: caller.map(|caller| caller.conn),
            request: caller.map_or("", |caller| caller.request).into(),
            user: caller.map(|caller| caller.user.clone()),
            read_at_ns: caller.map_or(0, |caller| caller.read_at_ns),
        }
    }
}

pub(super) fn to<'a>(caller: &Caller<'a>) -> Requester<'a> {
    Requester { conn: caller.conn, request: caller.request }
}

/// Whom a finished job's answer goes to.
pub(super) fn waiting(waiter: &Waiter) -> Option<Requester<'_>> {
    Some(Requester { conn: waiter.conn?, request: &waiter.request })
}

/// A store queue is full.
pub(super) fn overloaded() -> Refusal {
    Refusal::after_ms(Code::Overloaded, OVERLOADED_RETRY_MS)
}
