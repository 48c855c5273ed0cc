//! A room's row in the table: what is known of it, from the first command that names it until it is forgotten.
//!
//! ```text
//! Empty → Loading → Ready ⇄ (a change on its way) → Closing → Missing
//!   ↓        ↓ ↘ Failed      ↑
//!   ↓        Missing → Creating
//!   ↓………………………………………………↗
//! ```
use super::command::{Caller, RoomCommand};
use super::create::{Creation, Plan};
use super::effects::{Effects, Handled};
use super::join::{Joiner, deny};
use super::room::{Cx, Meta, Room, to, waiting};
use super::send::give_back;
use crate::base::refusal::{Code, Refusal};
use crate::store::port::{HistoryFrom, Outcome, Read, ReadJob, Write, WriteJob};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Slot {
    pub id: Arc<str>,
    pub meta: Meta,
    pub state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// Nothing is known. A command that needs the room loads it.
    Empty,
    /// A read is on its way. Some: the room is there, but its events hold too few messages for a snapshot, and those are read.
    Loading(Option<Box<Room>>),
    Creating(Creation),
    Ready(Box<Room>),
    /// Deleted, but reads of it are still on their way.
    Closing,
    /// There is no such room. Known for `ROOM_LINGER_MS`, for the commands that waited.
    Missing,
    /// It could not be loaded. Known for `ROOM_LINGER_MS`, so that an ailing store is not asked by every command.
    Failed,
}

impl State {
    pub fn command<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        command: &RoomCommand<'_>,
    ) -> Handled {
        match self {
            State::Ready(room) => return room.command(cx, caller, command),
            State::Loading(_) | State::Creating(_) | State::Closing => {
                return Handled::Later { room_key: cx.meta.key, is_room_busy: true };
            }
            State::Empty | State::Missing | State::Failed => {}
        }
        if needs_subscription(command) {
            refuse(cx, caller, command, Code::NotInRoom.into());
            return Handled::Done;
        }
        if let RoomCommand::Create { name, description, kind, recipient_id } = *command {
            let result = self.create(cx, caller, Plan { name, description, kind, recipient_id });
            if let Err(refusal) = result {
                cx.fx.refuse(to(caller), refusal);
            }
            return Handled::Done;
        }
        match (&*self, command) {
            (State::Empty, _) => {
                let read = Read::Room { id: (**cx.id).into(), recent: recent(cx) };
                match cx.read(None, read) {
                    Ok(()) => {
                        *self = State::Loading(None);
                        return Handled::Later { room_key: cx.meta.key, is_room_busy: true };
                    }
                    Err(refusal) => refuse(cx, caller, command, refusal),
                }
            }
            (State::Missing, &RoomCommand::Join { room_type, grant, recover }) => {
                let joiner = Joiner { caller: *caller, room_type, grant, recover, is_resume: false };
                if !self.create_by_join(cx, &joiner) {
                    deny(cx, &joiner, Code::AccessDenied.into());
                }
            }
            (State::Failed, RoomCommand::Join { .. }) => refuse(cx, caller, command, Code::JoinFailed.into()),
            (State::Failed, _) => refuse(cx, caller, command, Code::Internal.into()),
            _ => refuse(cx, caller, command, Code::AccessDenied.into()),
        }
        Handled::Done
    }

    pub fn read_done<E: Effects>(&mut self, cx: &mut Cx<'_, E>, job: ReadJob, outcome: Outcome) {
        match (&mut *self, job.read) {
            (State::Loading(None), Read::Room { .. }) => self.loaded(cx, outcome),
            (State::Loading(room), Read::History { .. }) => {
                let Some(mut room) = room.take() else { return };
                match outcome {
                    Outcome::Page { rows, has_more } => {
                        room.add_messages(cx, rows, has_more);
                        *self = State::Ready(room);
                    }
                    _ => self.failed(cx),
                }
                cx.retry();
            }
            (State::Ready(room), Read::History { .. }) => room.history_read(cx, &job.waiter, outcome),
            (State::Ready(room), Read::Events { .. }) => room.filled(cx, outcome),
            (_, Read::History { .. }) => {
                if let Some(asker) = waiting(&job.waiter) {
                    cx.fx.refuse(asker, Code::NotInRoom.into());
                }
            }
            _ => {}
        }
        self.close_when_done(cx);
    }

    pub fn write_done<E: Effects>(&mut self, cx: &mut Cx<'_, E>, job: WriteJob, outcome: Outcome) {
        let WriteJob { waiter, write } = job;
        match (&mut *self, write) {
            (State::Creating(_), Write::CreateRoom(_)) => self.created(cx, &waiter, outcome),
            (State::Ready(room), Write::Append(append)) => room.appended(cx, &waiter, append, outcome),
            (State::Ready(room), Write::SetMember(set)) => {
                room.member_changed(cx, &waiter, set, outcome);
                cx.retry();
            }
            (State::Ready(room), Write::UpdateRoom(update)) => {
                room.updated(cx, &waiter, update, outcome);
                cx.retry();
            }
            (State::Ready(room), Write::DeleteRoom(_)) => {
                if room.deleted(cx, &waiter, outcome) {
                    *self = State::Closing;
                } else {
                    cx.retry();
                }
            }
            // Not reached as long as the writer keeps the order; whoever waits is told all the same.
            (_, write) => {
                let is_append = matches!(write, Write::Append(_));
                if matches!(write, Write::Append(append) if !append.probe) {
                    give_back(cx, waiter.user.as_deref());
                }
                if let Some(asker) = waiting(&waiter) {
                    cx.fx.refuse(asker, if is_append { Code::SendFailed } else { Code::Internal }.into());
                }
            }
        }
        self.close_when_done(cx);
    }

    fn loaded<E: Effects>(&mut self, cx: &mut Cx<'_, E>, outcome: Outcome) {
        match outcome {
            Outcome::Room(Some(image)) => {
                cx.fx.count("rooms_loaded");
                let room = Box::new(Room::new(*image, cx.now, cx.settings));
                if room.window.lacks_messages() {
                    let limit = recent(cx);
                    let read = Read::History { room: room.row.pk, from: HistoryFrom::End, limit };
                    if cx.read(None, read).is_ok() {
                        *self = State::Loading(Some(room));
                        return;
                    }
                    self.failed(cx);
                } else {
                    *self = State::Ready(room);
                }
            }
            Outcome::Room(None) | Outcome::NoRoom => *self = State::Missing,
            _ => self.failed(cx),
        }
        cx.retry();
    }

    /// The room cannot be had whole: better none than one whose snapshots lack messages. Whoever waits is told to try again.
    fn failed<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        cx.fx.count("rooms_failed");
        *self = State::Failed;
    }

    /// A deleted room is gone once nothing of it is on its way.
    fn close_when_done<E: Effects>(&mut self, cx: &mut Cx<'_, E>) {
        if matches!(self, State::Closing) && cx.meta.jobs == 0 {
            *self = State::Missing;
            cx.retry();
        }
    }

    /// Whether the row may be forgotten, as far as the room's state goes.
    pub fn is_idle(&self) -> bool {
        match self {
            State::Ready(room) => room.is_idle(),
            State::Empty | State::Missing | State::Failed => true,
            State::Loading(_) | State::Creating(_) | State::Closing => false,
        }
    }
}

/// Commands of subscribed sessions: of a room that is not in memory there are none.
pub(super) fn needs_subscription(command: &RoomCommand<'_>) -> bool {
    match command {
        RoomCommand::Leave { .. }
        | RoomCommand::Send { .. }
        | RoomCommand::Broadcast { .. }
        | RoomCommand::Ask { .. }
        | RoomCommand::Answer { .. }
        | RoomCommand::Typing { .. }
        | RoomCommand::History { .. }
        | RoomCommand::OnlineUsers { .. }
        | RoomCommand::Presence { .. } => true,
        RoomCommand::Join { .. }
        | RoomCommand::Resume { .. }
        | RoomCommand::Invite { .. }
        | RoomCommand::Remove { .. }
        | RoomCommand::SetRole { .. }
        | RoomCommand::Update { .. }
        | RoomCommand::Delete
        | RoomCommand::Create { .. } => false,
    }
}

/// The answer "no" to a command, in the form that it expects.
fn refuse<E: Effects>(cx: &mut Cx<'_, E>, caller: &Caller<'_>, command: &RoomCommand<'_>, refusal: Refusal) {
    refuse_unknown(cx.fx, cx.id, caller, command, refusal);
}

pub(super) fn refuse_unknown<E: Effects>(
    fx: &mut E,
    room: &str,
    caller: &Caller<'_>,
    command: &RoomCommand<'_>,
    refusal: Refusal,
) {
    match command {
        RoomCommand::Resume { .. } => fx.resumed(to(caller), room, None),
        RoomCommand::Presence { .. } => fx.presence(to(caller), &[]),
        _ => fx.refuse(to(caller), refusal),
    }
}

/// How many events a room is loaded with: the messages of a snapshot, if all of them are messages.
fn recent<E: Effects>(cx: &Cx<'_, E>) -> u32 {
    u32::try_from(cx.settings.recent).unwrap_or(u32::MAX)
}
