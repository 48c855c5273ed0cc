//! The naive model of rooms, and every check that one frame allows.
//!
//! A room is a list of events by offset; whoever sees an offset first says what it is, and everyone else must see the same. A
//! subscription sees N + 1, N + 2 and so on, each once. A live event stands at one place in a room's stream, the same for all who get it.
use super::Broken;
use super::conn::{Asked, Conn, Position};
use super::shape::Shape;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub type Check = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use ensure;

/// One durable event of a room's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    pub id: String,
    pub user: String,
    pub client_id: String,
    pub text: String,
    pub timestamp: u64,
}

#[derive(Default)]
pub struct Truth {
    pub epoch: Option<String>,
    pub events: BTreeMap<u64, Durable>,
}

/// A room as one subscription sees it.
#[derive(Default)]
pub struct View {
    pub next: u64,
    /// Who came or went last; others are not here, unless a resume did not say who is.
    present: BTreeMap<String, bool>,
    knows_all: bool,
    typing: BTreeMap<String, bool>,
    /// Last broadcast heard, by the sending connection.
    heard: BTreeMap<usize, u64>,
}

/// A broadcast, by sending connection, room and its number there.
pub type CastKey = (usize, String, u64);

pub struct Cast {
    pub include_self: bool,
    pub is_refused: bool,
    /// Durable events before it, as seen by the first who heard it.
    place: Option<u64>,
    pub heard: u64,
}

/// The first answer to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub room: String,
    pub offset: u64,
    pub id: String,
}

/// Broadcasts that one subscription did not get although it got a later one of the same sender.
struct Gap {
    receiver: usize,
    source: usize,
    room: String,
    numbers: std::ops::Range<u64>,
}

#[derive(Default)]
pub struct Model {
    pub rooms: BTreeMap<String, Truth>,
    /// Room and text of what was sent, by user and client id.
    pub sent: BTreeMap<(String, String), Vec<(String, String)>>,
    pub acked: BTreeMap<(String, String), Stored>,
    pub casts: BTreeMap<CastKey, Cast>,
    gaps: Vec<Gap>,
    /// The first thing that only a counted drop of a live event can explain.
    pub unexplained: Option<String>,
    /// Connections that asked to resume a session.
    pub resumed: BTreeMap<String, BTreeSet<usize>>,
    pub closes_seen: BTreeMap<u16, u64>,
    pub recovered_seen: [u64; 2],
    pub acks_seen: u64,
    pub is_draining: bool,
    /// What was observed: how much, and a digest of it.
    pub frames: u64,
    pub hash: u64,
}

impl Model {
    /// One text message of the server.
    pub fn observe(&mut self, conn: &mut Conn, message: &[u8], shape: &Shape) -> Check {
        self.frames += 1;
        self.note(conn.number as u64, message);
        let message: Value = serde_json::from_slice(message).map_err(|error| format!("no JSON: {error}"))?;
        let (kind, data) = (text(&message, "type")?, &message["data"]);
        ensure!(text(&message, "id")?.starts_with("evt_"), "an envelope without an event id");
        match &*kind {
            "ack" => self.ack(conn, data, shape),
            "error" => self.error(conn, data, shape),
            "connection_established" => self.ready(conn, data),
            "heartbeat_response" => {
                let id = number(data, "clientTimestamp")?.to_string();
                let due =
                    conn.asked.iter().find(|(_, asked)| matches!(asked, Asked::Heartbeat)).map(|(id, _)| id.clone());
                ensure!(
                    due.as_ref().is_some_and(|due| *due == request_id(conn.agent, &id)),
                    "heartbeat {id}, due is {due:?}"
                );
                conn.asked.remove(&request_id(conn.agent, &id));
                Ok(())
            }
            "token_expiring" => Ok(()),
            "server_closing" => {
                ensure!(self.is_draining, "a drain that nobody ordered");
                conn.was_told_closing = true;
                Ok(())
            }
            "room_state" => {
                let room = text(data, "roomId")?;
                let asked = conn.awaiting.get_mut(&room).and_then(|awaiting| awaiting.pop_front());
                conn.awaiting.retain(|_, awaiting| !awaiting.is_empty());
                let Some(recover) = asked else { return Err(format!("a snapshot of {room} that nobody asked for")) };
                self.snapshot(conn, &room, data, recover.as_ref(), shape)
            }
            _ => self.room_event(conn, &kind, data, shape),
        }
    }

    fn ready(&mut self, conn: &mut Conn, data: &Value) -> Check {
        ensure!(!conn.is_signed_in, "signed in twice");
        ensure!(!conn.asked.values().any(|asked| matches!(asked, Asked::Auth)), "signed in before the ack of auth");
        ensure!(text(data, "userId")? == conn.user, "signed in as somebody else");
        conn.is_signed_in = true;
        conn.session = Some((text(data, "sessionId")?, text(data, "resumeToken")?));
        Ok(())
    }

    fn room_event(&mut self, conn: &mut Conn, kind: &str, data: &Value, shape: &Shape) -> Check {
        let room = text(data, "roomId")?;
        if kind == "room_closed" {
            return self.room_closed(conn, room, data, shape);
        }
        ensure!(conn.views.contains_key(&room), "{kind} of {room}, which this session is not in");
        let is_crowd = shape.config.presence.events_max_users < shape.users as u64;
        let view = conn.views.get_mut(&room).expect("just seen");
        match kind {
            "chat_message" => {
                let (offset, next) = (number(data, "offset")?, view.next);
                ensure!(offset == next, "offset {offset} of {room} where {next} is due");
                view.next += 1;
                let epoch = text(data, "epoch")?;
                self.durable(&room, data)?;
                conn.positions.insert(room, (epoch, offset));
                Ok(())
            }
            "user_joined" | "user_left" => {
                let user = text(data, "userId")?;
                ensure!(user != conn.user, "{kind} of the user's own");
                let has_come = kind == "user_joined";
                let before = view.present.insert(user.clone(), has_come).or(view.knows_all.then_some(false));
                if before == Some(has_come) && !is_crowd {
                    self.unexplained(format!("connection {}: {kind} of {user} twice in {room}", conn.number));
                }
                Ok(())
            }
            "typing_indicator" => {
                let (user, is_typing) = (text(data, "userId")?, data["isTyping"].as_bool().unwrap_or_default());
                ensure!(user != conn.user, "typing of the user's own");
                let before = view.typing.insert(user.clone(), is_typing);
                if before == Some(false) && !is_typing && !is_crowd {
                    self.unexplained(format!("connection {}: {user} stopped typing twice in {room}", conn.number));
                }
                Ok(())
            }
            "room_occupancy" => {
                ensure!(is_crowd, "occupancy of a small room");
                Ok(())
            }
            "broadcast" => self.broadcast(conn, &room, data),
            _ => Err(format!("an unknown event {kind}")),
        }
    }

    /// Joins that were under way together were too many (R-ROOM-5).
    fn room_closed(&mut self, conn: &mut Conn, room: String, data: &Value, shape: &Shape) -> Check {
        let has_cause = text(data, "reason")? == "limit_reached" && shape.has_few_rooms();
        ensure!(has_cause, "{room} was closed: {data}");
        if conn.views.remove(&room).is_none() {
            // The answer to a resume that brought it comes when all of its rooms have answered.
            let resumes = |asked: &Asked| matches!(asked, Asked::Resume { rooms, .. } if rooms.contains_key(&room));
            ensure!(conn.asked.values().any(resumes), "{room} was closed, which this session is not in");
            conn.closed_early.insert(room);
        }
        Ok(())
    }

    fn broadcast(&mut self, conn: &mut Conn, room: &str, data: &Value) -> Check {
        let payload = &data["payload"];
        let (source, cast_number) = (number(payload, "from")? as usize, number(payload, "n")?);
        let key = (source, room.to_string(), cast_number);
        let Some(cast) = self.casts.get_mut(&key) else { return Err(format!("a broadcast {key:?} that nobody sent")) };
        ensure!(!cast.is_refused, "the refused broadcast {key:?}");
        ensure!(source != conn.number || cast.include_self, "the sender hears its own broadcast {key:?}");
        cast.heard += 1;
        let view = conn.views.get_mut(room).expect("the caller has seen it");
        let place = *cast.place.get_or_insert(view.next - 1);
        ensure!(
            place + 1 == view.next,
            "broadcast {key:?} stands behind {place} for some, behind {} for others",
            view.next - 1
        );
        if let Some(last) = view.heard.insert(source, cast_number) {
            ensure!(last < cast_number, "broadcast {key:?} behind {last}");
            if last + 1 < cast_number {
                let numbers = last + 1..cast_number;
                self.gaps.push(Gap { receiver: conn.number, source, room: room.into(), numbers });
            }
        }
        Ok(())
    }

    /// A snapshot, or one room of a resume: where live delivery begins, and what was missed.
    pub(super) fn snapshot(
        &mut self,
        conn: &mut Conn,
        room: &str,
        data: &Value,
        recover: Option<&Position>,
        shape: &Shape,
    ) -> Check {
        let (offset, epoch) = (number(data, "offset")?, text(data, "epoch")?);
        let recovered = data["recovered"].as_bool();
        ensure!(recovered.is_some() == recover.is_some(), "recovered is {recovered:?} after {recover:?}");
        if let (Some(recovered), Some((asked_epoch, asked))) = (recovered, recover) {
            self.recovered_seen[usize::from(recovered)] += 1;
            let is_possible = *asked_epoch == epoch && *asked <= offset;
            ensure!(!recovered || is_possible, "recovered from {asked_epoch}/{asked} at {epoch}/{offset}");
            let is_due = is_possible && offset - asked <= shape.config.recovery.limit;
            let is_ailing = shape.store.fails > 0.0 || shape.store.is_full > 0.0;
            ensure!(recovered || !is_due || is_ailing, "not recovered from {asked} at {offset}");
            if recovered {
                let events: Vec<_> = array(data, "events")?.iter().map(|event| &event["data"]).collect();
                self.run(room, &events, asked + 1, offset)?;
            }
        }
        if let Some(recent) = data["recentMessages"].as_array() {
            let count = shape.config.rooms.recent.min(offset);
            self.run(room, &recent.iter().collect::<Vec<_>>(), offset + 1 - count, offset)?;
        }
        // Who was in the room already begins anew: what was still to come of it is in the snapshot.
        let before = conn.views.get(room).map_or(0, |view| view.next);
        ensure!(before <= offset + 1, "a snapshot at {offset} where {before} is due");
        let mut view = View { next: offset + 1, ..View::default() };
        view.knows_all = data["users"].is_array();
        for user in data["users"].as_array().into_iter().flatten() {
            view.present.insert(user.as_str().unwrap_or_default().into(), true);
        }
        conn.views.insert(room.into(), view);
        conn.positions.insert(room.into(), (epoch.clone(), offset));
        self.epoch(room, &epoch)
    }

    /// Messages in a row: all offsets from `first` to `last`, each once.
    pub(super) fn run(&mut self, room: &str, messages: &[&Value], first: u64, last: u64) -> Check {
        let offsets: Result<Vec<u64>, _> = messages.iter().map(|message| number(message, "offset")).collect();
        ensure!(offsets.as_ref() == Ok(&(first..=last).collect()), "{room}: {offsets:?} for {first} to {last}");
        messages.iter().try_for_each(|message| self.durable(room, message))
    }

    /// A sighting of a durable event, wherever it is from.
    fn durable(&mut self, room: &str, data: &Value) -> Check {
        ensure!(text(data, "roomId")? == room, "an event of another room in {room}");
        self.epoch(room, &text(data, "epoch")?)?;
        let (offset, seen) = (
            number(data, "offset")?,
            Durable {
                id: text(data, "id")?,
                user: text(data, "userId")?,
                client_id: text(data, "clientId")?,
                text: text(data, "message")?,
                timestamp: number(data, "timestamp")?,
            },
        );
        let sent = self.sent.get(&(seen.user.clone(), seen.client_id.clone()));
        let is_sent = sent.is_some_and(|sent| sent.iter().any(|(to, text)| to == room && *text == seen.text));
        ensure!(is_sent, "{seen:?} in {room}, which nobody sent");
        let truth = self.rooms.entry(room.into()).or_default().events.entry(offset).or_insert_with(|| seen.clone());
        ensure!(*truth == seen, "offset {offset} of {room} is {truth:?} and {seen:?}");
        Ok(())
    }

    pub(super) fn epoch(&mut self, room: &str, epoch: &str) -> Check {
        let known = self.rooms.entry(room.into()).or_default().epoch.get_or_insert_with(|| epoch.into());
        ensure!(known == epoch, "{room} has the epochs {known} and {epoch}");
        Ok(())
    }

    /// Something that is wrong unless a live event was dropped and counted.
    fn unexplained(&mut self, what: String) {
        self.unexplained.get_or_insert(what);
    }

    /// Gaps between broadcasts that nothing but a counted drop explains. `is_over` says of a connection that it ended: what was refused
    /// to it may never have reached it.
    pub fn close_gaps(&mut self, is_over: impl Fn(usize) -> bool) {
        for gap in std::mem::take(&mut self.gaps) {
            if is_over(gap.source) {
                continue;
            }
            for missing in gap.numbers {
                let key = (gap.source, gap.room.clone(), missing);
                let is_for = |cast: &Cast| !cast.is_refused && (cast.include_self || gap.source != gap.receiver);
                if self.casts.get(&key).is_some_and(is_for) {
                    self.unexplained(format!("connection {} never got broadcast {key:?}", gap.receiver));
                }
            }
        }
    }

    /// A broadcast leaves its sender.
    pub fn cast(&mut self, key: CastKey, include_self: bool) {
        self.casts.insert(key, Cast { include_self, is_refused: false, place: None, heard: 0 });
    }

    /// FNV-1a over what happened.
    pub fn note(&mut self, what: u64, bytes: &[u8]) {
        for &byte in what.to_le_bytes().iter().chain(bytes) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// Deliveries that accepted broadcasts must have had: one for each of `members` in the room, but the sender if it is excluded.
    pub fn deliveries_due(&self, key: &CastKey, members: u64, broken: Broken) -> u64 {
        match self.casts.get(key) {
            Some(cast) if cast.is_refused => 0,
            Some(cast) if cast.include_self || broken == Broken::ForgottenExclusion => members,
            _ => members - 1,
        }
    }
}

pub fn request_id(agent: usize, number: &str) -> String {
    format!("a{agent}-{number:0>6}")
}

pub fn text(data: &Value, key: &str) -> Result<String, String> {
    data[key].as_str().map(Into::into).ok_or_else(|| format!("no text {key} in {data}"))
}

pub fn number(data: &Value, key: &str) -> Result<u64, String> {
    data[key].as_u64().ok_or_else(|| format!("no number {key} in {data}"))
}

pub fn array<'a>(data: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    data[key].as_array().ok_or_else(|| format!("no array {key} in {data}"))
}
