//! Commands of the application and their answers: what waits, what is under way, what has to be repeated.
use super::outbox::{Born, LIFE_MS, RETRY_MS};
use super::output::{Output, StoredCommand};
use super::rooms::room_id_of;
use super::timers::Timer;
use super::{Core, Now, envelope};
use crate::command::Kind;
use crate::error::Error;
use crate::event::Event;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A command whose answer is waited for and that is not in the outbox.
pub(super) struct Pending {
    pub id: String,
    born: Born,
    kind: PendingKind,
    /// Of a `refresh_token`: takes the place of the old one when accepted.
    token: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PendingKind {
    Request,
    /// Waits for its room.
    Join,
    /// Done, too, when the connection is gone.
    Leave,
}

impl Core {
    // ------------------------------------------------------------ commands

    pub(super) fn give(&mut self, id: &str, kind: &str, data: Value) {
        let fields = match data {
            Value::Null => Map::new(),
            Value::Object(fields) => fields,
            _ => return self.settle(id, Err(Error::InvalidArgument("the data is no JSON object".to_owned()))),
        };
        let data = Value::Object(fields.clone()).to_string();
        if let Some(refusal) = self.refusal(id, kind, &data) {
            return self.settle(id, Err(refusal));
        }
        let room_id = room_id_of(&fields).to_owned();
        match Kind::of(kind) {
            Kind::Durable => {
                self.order += 1;
                let (since_ms, order) = (self.now.unix_ms, self.order);
                let command = StoredCommand { id: id.to_owned(), kind: kind.to_owned(), data, since_ms, order };
                self.outbox.add(command.clone(), self.now);
                self.store(command);
                self.arm_expiry();
                self.flush();
            }
            Kind::Join => {
                self.expect(id, PendingKind::Join, None);
                self.recovery.rooms.want(&room_id, fields, id.to_owned());
                self.join_due();
            }
            Kind::Leave => {
                self.leave(&room_id);
                let is_permanent = fields.get("permanent") == Some(&Value::Bool(true));
                match self.ready_link() {
                    // Without a connection there is no subscription to end.
                    None if !is_permanent => self.settle(id, Ok(json!({}))),
                    None => self.settle(id, Err(Error::NotConnected)),
                    Some(link) => {
                        self.send(link, id, kind, &data);
                        self.expect(id, if is_permanent { PendingKind::Request } else { PendingKind::Leave }, None);
                    }
                }
            }
            Kind::Live => match self.ready_link() {
                None => self.settle(id, Err(Error::NotConnected)),
                Some(link) => {
                    self.send(link, id, kind, &data);
                    self.settle(id, Ok(Value::Null));
                }
            },
            Kind::Request | Kind::Own => match self.ready_link() {
                None => self.settle(id, Err(Error::NotConnected)),
                Some(link) => {
                    self.send(link, id, kind, &data);
                    let token = fields.get("token").and_then(Value::as_str).filter(|_| kind == "refresh_token");
                    self.expect(id, PendingKind::Request, token.map(str::to_owned));
                }
            },
        }
    }

    fn refusal(&self, id: &str, kind: &str, data: &str) -> Option<Error> {
        let invalid = |why: &str| Some(Error::InvalidArgument(why.to_owned()));
        if !envelope::is_name(id) {
            return invalid("an id has 1 to 64 characters");
        }
        if !envelope::is_name(kind) {
            return invalid("a type has 1 to 64 characters");
        }
        let of = Kind::of(kind);
        if of == Kind::Own {
            return invalid("the client does this by itself");
        }
        let (bytes, max) = (envelope::encode(id, kind, data, self.now.unix_ms).len(), self.settings.message_bytes_max);
        if bytes > max {
            return Some(Error::MessageTooLong { bytes, max });
        }
        let max = self.settings.queue_max;
        let is_full = match of {
            Kind::Durable => self.outbox.is_full(),
            Kind::Live => self.unsent + self.outputs.len() >= max,
            _ => self.pending.len() >= max,
        };
        is_full.then_some(Error::QueueFull { max })
    }

    fn expect(&mut self, id: &str, kind: PendingKind, token: Option<String>) {
        self.pending.push_back(Pending { id: id.to_owned(), born: Born::at(self.now), kind, token });
        self.arm_expiry();
    }

    fn store(&mut self, command: StoredCommand) {
        if let Some(user_id) = self.connection.user_id.clone() {
            self.outputs.push_back(Output::Store { user_id, command });
        }
    }

    /// The user is known: what earlier processes left goes first, and what waits already is stored.
    pub(super) fn restore(&mut self, mut found: Vec<StoredCommand>) {
        // Settled, but not taken out of the storage yet.
        let is_settled = |id: &str| {
            self.outputs.iter().any(|output| matches!(output, Output::Unstore { id: settled, .. } if settled == id))
        };
        found.retain(|command| !is_settled(&command.id));
        for command in self.outbox.commands().cloned().collect::<Vec<_>>() {
            self.store(command);
        }
        self.outbox.restore(found, self.now);
        self.arm_expiry();
    }

    /// Sends what may go now; called whenever that may have changed.
    pub(super) fn flush(&mut self) {
        let Some(link) = self.connection.link.as_ref().filter(|link| link.is_ready() && !link.is_ending) else {
            return;
        };
        let link = link.id;
        let rooms = &self.recovery.rooms;
        let due = self.outbox.due(self.now, |room, is_restored| rooms.is_open(room, is_restored));
        for command in due.send {
            self.send(link, &command.id, &command.kind, &command.data);
        }
        if let Some(at_ms) = due.look_at_ms {
            self.timers.start(Timer::Resend, at_ms);
        }
    }

    // ------------------------------------------------------------ answers

    pub(super) fn command_answered(&mut self, id: &str, answer: Result<Value, Error>) {
        let Some(answer) = self.join_answered(id, answer) else {
            // A room was joined, or given up: its messages may go, or learn why not.
            return self.flush();
        };
        if self.outbox.has(id) {
            match answer {
                Err(error) if error.is_retryable() => self.delay(id, error),
                answer => self.settle(id, answer),
            }
            return self.flush();
        }
        match (self.pending.iter_mut().find(|pending| pending.id == id), answer) {
            (Some(pending), Ok(result)) => {
                if let Some(token) = pending.token.take() {
                    self.token_accepted(token, &result);
                }
                self.settle(id, Ok(result));
            }
            (Some(_), Err(error)) => self.settle(id, Err(error)),
            // A refused live command: its answer was given long ago.
            (None, Err(error)) => self.tell(Event::Error(error)),
            (None, Ok(_)) => {}
        }
    }

    fn delay(&mut self, id: &str, error: Error) {
        let retry_in = error.retry_after().unwrap_or(Duration::from_millis(RETRY_MS));
        let wait_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
        self.outbox.retry_later(id, self.now.mono_ms.saturating_add(wait_ms));
        self.tell(Event::Delayed { id: id.to_owned(), error, retry_in });
    }

    /// The ack may be lost, but the message itself shows that it was stored.
    pub(super) fn saw_message(&mut self, data: &Map<String, Value>) {
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        let Some(client_id) = text("clientId").filter(|id| self.outbox.has(id)) else { return };
        if text("userId") != self.connection.user_id.as_deref() {
            return;
        }
        let field = |name: &str| data.get(name).cloned().unwrap_or_default();
        let result = json!({
            "messageId": field("id"), "offset": field("offset"), "epoch": field("epoch"),
            "timestamp": field("timestamp"), "duplicate": true,
        });
        self.settle(client_id, Ok(result));
    }

    pub(super) fn settle(&mut self, id: &str, result: Result<Value, Error>) {
        self.pending.retain(|pending| pending.id != id);
        if let Some(command) = self.outbox.remove(id) {
            if let Some(user_id) = self.connection.user_id.clone() {
                self.outputs.push_back(Output::Unstore { user_id, id: id.to_owned() });
            }
            let data = serde_json::from_str(&command.data).unwrap_or_default();
            self.tell(Event::Settled { id: command.id, kind: command.kind, data, result: result.clone() });
        }
        self.outputs.push_back(Output::Settled { id: id.to_owned(), result });
    }

    // ------------------------------------------------------------ ends

    fn arm_expiry(&mut self) {
        let Now { mono_ms, .. } = self.now;
        let oldest =
            [self.outbox.oldest_ms(self.now), self.pending.front().map(|pending| pending.born.age_ms(self.now))];
        match oldest.into_iter().flatten().max() {
            Some(age_ms) => self.timers.start(Timer::Expiry, mono_ms.saturating_add(LIFE_MS.saturating_sub(age_ms))),
            None => self.timers.stop(Timer::Expiry),
        }
    }

    /// All that is too old fails.
    pub(super) fn expire(&mut self) {
        for id in self.outbox.expired(self.now) {
            self.settle(&id, Err(Error::Timeout));
        }
        while let Some(pending) = self.pending.front().filter(|pending| pending.born.age_ms(self.now) >= LIFE_MS) {
            let (id, kind) = (pending.id.clone(), pending.kind);
            if kind == PendingKind::Join {
                self.join_expired(&id);
            }
            self.settle(&id, Err(Error::Timeout));
        }
        self.arm_expiry();
        self.flush();
    }

    pub(super) fn commands_lost(&mut self) {
        self.stop_timers(&[Timer::Resend, Timer::Rejoin]);
        self.rooms_lost();
        self.outbox.link_lost();
        let under_way = self.pending.iter().filter(|pending| pending.kind != PendingKind::Join);
        for (id, kind) in under_way.map(|pending| (pending.id.clone(), pending.kind)).collect::<Vec<_>>() {
            self.settle(&id, if kind == PendingKind::Leave { Ok(json!({})) } else { Err(Error::ConnectionLost) });
        }
    }

    /// Everything that waits fails: the application disconnected, or another user takes over.
    pub(super) fn abandon(&mut self, is_forgotten: bool) {
        self.stop_timers(&[Timer::Expiry, Timer::Resend, Timer::Rejoin]);
        self.abandon_rooms(&Error::Disconnected, is_forgotten);
        let durable = self.outbox.commands().map(|command| command.id.clone());
        let others = self.pending.iter().map(|pending| pending.id.clone());
        for id in durable.chain(others).collect::<Vec<_>>() {
            self.settle(&id, Err(Error::Disconnected));
        }
    }
}
