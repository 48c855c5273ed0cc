//! Links that the test opens, feeds and closes; a clock that the test moves.
use super::super::*;
use crate::event::StateChange;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

pub const BEGIN_MS: u64 = 1_700_000_000_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

pub struct FakeLink {
    pub id: LinkId,
    pub url: String,
    pub sent: Vec<Sent>,
    /// As the client ended it.
    pub closed_by: Option<Close>,
    /// Whether it takes part in anything any more.
    pub is_open: bool,
}

/// Gives tokens; None: does not answer.
pub type Provider = Box<dyn FnMut(TokenReason) -> Option<Result<Option<String>, Error>>>;

pub struct World {
    pub core: Core,
    pub now: Now,
    pub random: Arc<Mutex<f64>>,
    pub links: Vec<FakeLink>,
    pub events: Vec<Event>,
    pub settled: HashMap<String, Result<Value, Error>>,
    pub connected: Vec<Result<(), Error>>,
    pub asked: Vec<(Ask, TokenReason)>,
    pub stored: BTreeMap<(String, String), StoredCommand>,
    provider: Provider,
    commands: usize,
}

impl World {
    pub fn new() -> World {
        World::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> World {
        let mut settings = Settings::new("wss://throng.test/ws");
        change(&mut settings);
        let random = Arc::new(Mutex::new(0.5));
        let dice = random.clone();
        let now = Now { mono_ms: 1000, unix_ms: BEGIN_MS };
        World {
            core: Core::new(settings, "id", Box::new(move || *dice.lock().unwrap()), now),
            now,
            random,
            links: Vec::new(),
            events: Vec::new(),
            settled: HashMap::new(),
            connected: Vec::new(),
            asked: Vec::new(),
            stored: BTreeMap::new(),
            provider: Box::new(|_| Some(Ok(Some("token-1".to_owned())))),
            commands: 0,
        }
    }

    pub fn roll(&self, random: f64) {
        *self.random.lock().unwrap() = random;
    }

    // ------------------------------------------------------------ doing what the core wants

    pub fn run(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Open { link, url } => {
                    let (sent, closed_by) = (Vec::new(), None);
                    self.links.push(FakeLink { id: link, url, sent, closed_by, is_open: true });
                }
                Output::Send { link, text } => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    let text = |name: &str| frame[name].as_str().expect("a text").to_owned();
                    let sent = Sent { id: text("id"), kind: text("type"), data: frame["data"].clone() };
                    assert!(frame["timestamp"].is_u64() && frame["data"].is_object(), "{frame}");
                    self.link_of(link).sent.push(sent);
                }
                Output::Close { link, how } => {
                    let link = self.link_of(link);
                    (link.closed_by, link.is_open) = (Some(how), false);
                }
                Output::AskToken { ask, reason } => {
                    self.asked.push((ask, reason));
                    if let Some(answer) = (self.provider)(reason) {
                        self.core.handle_token(ask, answer, self.now);
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Connected { connect, result } => {
                    assert_eq!(connect, self.core.connection.connects);
                    self.connected.push(result);
                }
                Output::Settled { id, result } => {
                    assert!(self.settled.insert(id.clone(), result).is_none(), "{id} was settled twice");
                }
                Output::Store { user_id, command } => {
                    self.stored.insert((user_id, command.id.clone()), command);
                }
                Output::Unstore { user_id, id } => {
                    self.stored.remove(&(user_id, id));
                }
            }
        }
    }

    fn link_of(&mut self, id: LinkId) -> &mut FakeLink {
        self.links.iter_mut().find(|link| link.id == id).expect("a link that was opened")
    }

    // ------------------------------------------------------------ the application

    pub fn provide(&mut self, provider: impl FnMut(TokenReason) -> Option<Result<Option<String>, Error>> + 'static) {
        self.provider = Box::new(provider);
    }

    /// `connect` with a fixed token.
    pub fn begin(&mut self) {
        self.begin_as("anna", false, Vec::new());
    }

    pub fn begin_as(&mut self, user: &str, has_provider: bool, stored: Vec<StoredCommand>) {
        self.core.connect(user, has_provider, stored, self.now);
        self.run();
    }

    pub fn disconnect(&mut self) {
        self.core.disconnect(false, self.now);
        self.run();
    }

    /// A command under the returned id.
    pub fn send(&mut self, kind: &str, data: Value) -> String {
        self.commands += 1;
        let id = format!("app-{}", self.commands);
        self.send_as(&id, kind, data);
        id
    }

    pub fn send_as(&mut self, id: &str, kind: &str, data: Value) {
        self.core.command(id, kind, data, self.now);
        self.run();
    }

    pub fn say(&mut self, room: &str, text: &str) -> String {
        self.send("chat_message", json!({"roomId": room, "message": text}))
    }

    /// The code of the error with which the command failed; "" if it succeeded or is not answered.
    pub fn failure(&self, id: &str) -> &str {
        self.settled.get(id).and_then(|result| result.as_ref().err()).map(Error::code).unwrap_or_default()
    }

    pub fn result(&self, id: &str) -> Value {
        self.settled[id].clone().expect("a result")
    }

    // ------------------------------------------------------------ the network

    pub fn link(&self) -> &FakeLink {
        self.links.last().expect("a link")
    }

    pub fn open_links(&self) -> usize {
        self.links.iter().filter(|link| link.is_open).count()
    }

    pub fn opens(&mut self) {
        let link = self.link().id;
        self.core.handle_opened(link, self.now);
        self.run();
    }

    pub fn says(&mut self, kind: &str, data: Value) {
        self.says_on(self.links.len() - 1, kind, data);
    }

    /// On the link of this number.
    pub fn says_on(&mut self, link: usize, kind: &str, data: Value) {
        let text = json!({"id": "evt_1", "type": kind, "data": data, "timestamp": 0}).to_string();
        self.says_text(link, &text);
    }

    pub fn says_text(&mut self, link: usize, text: &str) {
        self.core.handle_received(self.links[link].id, text, self.now);
        self.run();
    }

    pub fn acks(&mut self, sent: &Sent, result: Value) {
        self.says("ack", json!({"requestId": sent.id, "result": result}));
    }

    /// Acks the newest command of this type.
    pub fn acks_last(&mut self, kind: &str, result: Value) {
        let sent = self.last(kind);
        self.acks(&sent, result);
    }

    pub fn refuses_last(&mut self, kind: &str, code: &str, retry_after_ms: Option<u64>) {
        let id = self.last(kind).id;
        let mut data = json!({"code": code, "message": code, "retryable": retry_after_ms.is_some(), "requestId": id});
        if let Some(ms) = retry_after_ms {
            data["retryAfterMs"] = ms.into();
        }
        self.says("error", data);
    }

    pub fn closes(&mut self, code: u16) {
        self.closes_on(self.links.len() - 1, code, "");
    }

    pub fn closes_on(&mut self, link: usize, code: u16, reason: &str) {
        self.links[link].is_open = false;
        self.core.handle_closed(self.links[link].id, code, reason, self.now);
        self.run();
    }

    /// What was sent of this type on the newest link.
    pub fn of(&self, kind: &str) -> Vec<Sent> {
        self.of_on(self.links.len() - 1, kind)
    }

    pub fn of_on(&self, link: usize, kind: &str) -> Vec<Sent> {
        self.links[link].sent.iter().filter(|sent| sent.kind == kind).cloned().collect()
    }

    pub fn last(&self, kind: &str) -> Sent {
        self.of(kind).pop().unwrap_or_else(|| panic!("no {kind} was sent, but {:?}", self.kinds()))
    }

    /// Types of what was sent on the newest link.
    pub fn kinds(&self) -> Vec<&str> {
        self.link().sent.iter().map(|sent| sent.kind.as_str()).collect()
    }

    // ------------------------------------------------------------ time

    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(deadline) = self.core.deadline().filter(|deadline| *deadline <= end) {
            self.advance(deadline.max(self.now.mono_ms) - self.now.mono_ms);
            self.core.handle_timeout(self.now);
            self.run();
            assert!(self.core.deadline().is_none_or(|next| next > self.now.mono_ms), "a timer that fires for ever");
        }
        self.advance(end - self.now.mono_ms);
    }

    fn advance(&mut self, ms: u64) {
        self.now = Now { mono_ms: self.now.mono_ms + ms, unix_ms: self.now.unix_ms + ms };
    }

    /// Milliseconds until each timer.
    pub fn waits(&self) -> Vec<u64> {
        self.core.timers.running().into_iter().map(|at| at - self.now.mono_ms).collect()
    }

    // ------------------------------------------------------------ usual beginnings

    pub fn established(&self) -> Value {
        let n = self.links.len();
        json!({
            "connectionId": format!("conn_{n}"), "sessionId": format!("sess_{n}"), "resumeToken": format!("resume_{n}"),
            "userId": "anna", "expiresAt": self.now.unix_ms + 3_600_000, "heartbeatMs": 30_000, "timestamp": self.now.unix_ms,
        })
    }

    /// From `connect` to connected; the first connection has nothing to resume.
    pub fn connect(&mut self) {
        self.begin();
        self.sign_in();
    }

    /// With a provider.
    pub fn connect_with(
        &mut self,
        provider: impl FnMut(TokenReason) -> Option<Result<Option<String>, Error>> + 'static,
    ) {
        self.provide(provider);
        self.begin_as("anna", true, Vec::new());
        self.sign_in();
    }

    /// The newest link opens and signs in.
    pub fn sign_in(&mut self) {
        self.sign_in_with(json!({}));
    }

    pub fn sign_in_with(&mut self, change: Value) {
        self.opens();
        self.acks_last("auth", json!({"userId": "anna"}));
        let mut data = self.established();
        for (name, value) in change.as_object().expect("an object") {
            data[name] = value.clone();
        }
        self.says("connection_established", data);
    }

    /// After a lost connection: waits for the next one and signs in.
    pub fn sign_in_again(&mut self) {
        let count = self.links.len();
        for _ in 0..40 {
            if self.links.len() == count {
                self.pass(1000);
            }
        }
        self.sign_in();
    }

    /// And answers the resume.
    pub fn come_back(&mut self, rooms: Value) {
        self.sign_in_again();
        let token = format!("again_{}", self.links.len());
        self.acks_last("resume", json!({"connectionId": "conn_n", "resumeToken": token, "rooms": rooms}));
    }

    /// Joins a room, with its snapshot.
    pub fn join(&mut self, room: &str, offset: u64) {
        self.send("join_room", json!({ "roomId": room }));
        self.acks_last("join_room", json!({"role": null}));
        self.says("room_state", state(room, offset, json!({})));
    }

    // ------------------------------------------------------------ what the application was told

    pub fn changes(&self) -> Vec<&StateChange> {
        self.pick(|event| if let Event::State(change) = event { Some(change) } else { None })
    }

    pub fn states(&self) -> Vec<State> {
        self.changes().iter().map(|change| change.state).collect()
    }

    pub fn retry_in_ms(&self) -> Option<u128> {
        self.changes().last()?.retry_in.map(|wait| wait.as_millis())
    }

    /// Offsets of the messages that were told.
    pub fn offsets(&self) -> Vec<u64> {
        self.pick(|event| if let Event::ChatMessage(message) = event { Some(message.offset) } else { None })
    }

    pub fn recovered(&self) -> Vec<(&str, bool)> {
        self.pick(|event| match event {
            Event::Recovered { room_id, recovered } => Some((room_id.as_str(), *recovered)),
            _ => None,
        })
    }

    pub fn errors(&self) -> Vec<&str> {
        self.pick(|event| if let Event::Error(error) = event { Some(error.code()) } else { None })
    }

    pub fn stops(&self) -> Vec<(u16, &str, bool)> {
        self.pick(|event| match event {
            Event::Stopped { code, reason, is_token_needed } => Some((*code, reason.as_str(), *is_token_needed)),
            _ => None,
        })
    }

    pub fn unknown(&self) -> Vec<(&str, Value)> {
        self.pick(|event| match event {
            Event::Unknown { kind, data } => Some((kind.as_str(), Value::Object(data.clone()))),
            _ => None,
        })
    }

    pub fn pick<'a, T>(&'a self, pick: impl FnMut(&'a Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter_map(pick).collect()
    }
}

pub fn state(room: &str, offset: u64, change: Value) -> Value {
    let mut data = json!({
        "roomId": room, "roomInfo": {}, "recentMessages": [], "users": [], "onlineUsers": [], "onlineCount": 1, "role": null,
        "epoch": "E", "offset": offset, "timestamp": 0,
    });
    for (name, value) in change.as_object().expect("an object") {
        data[name] = value.clone();
    }
    data
}

pub fn message(room: &str, offset: u64) -> Value {
    let (id, text) = (format!("msg_{offset}"), format!("text {offset}"));
    json!({"id": id, "roomId": room, "userId": "bob", "message": text, "epoch": "E", "offset": offset})
}

/// As a resume or a snapshot brings them.
pub fn missed(room: &str, offsets: &[u64]) -> Value {
    offsets.iter().map(|offset| json!({"type": "chat_message", "data": message(room, *offset)})).collect()
}

/// A room's part of the answer to a resume.
pub fn back(room: &str, offset: u64, offsets: &[u64]) -> Value {
    json!({"roomId": room, "recovered": true, "epoch": "E", "offset": offset, "events": missed(room, offsets)})
}
