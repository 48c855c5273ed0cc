//! A small model of the server, as far as a client can tell: rooms with logs, repeats, sessions, recovery, refusals, death.
use super::super::super::{LinkId, Now};
use super::Packet;
use fastrand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub const ROOMS: &[&str] = &["red", "blue"];
/// `recovery.limit`, near enough to be met.
const RECOVERY_MAX: u64 = 20;
/// `rooms.recent`.
const RECENT_MAX: usize = 3;
/// `chat.dedupe_s`: a repeat that comes later is a second message.
const DEDUPE_MS: u64 = 300_000;
const EPOCH: &str = "E";

pub struct Stored {
    pub user: String,
    pub client_id: String,
    data: Value,
    at_ms: u64,
}

#[derive(Default)]
struct Conn {
    user: Option<String>,
    session: String,
    rooms: BTreeSet<String>,
}

pub struct Model {
    pub is_up: bool,
    pub out: Vec<Packet>,
    rng: Rng,
    logs: BTreeMap<String, Vec<Stored>>,
    conns: BTreeMap<(usize, LinkId), Conn>,
    /// Resume token → user and session; outlives restarts, as the signed one does.
    tokens: BTreeMap<String, (String, String)>,
    count: u64,
    refusals: bool,
}

impl Model {
    pub fn new(rng: Rng) -> Model {
        let logs = ROOMS.iter().map(|room| (room.to_string(), Vec::new())).collect();
        let (conns, tokens) = (BTreeMap::new(), BTreeMap::new());
        Model { is_up: true, out: Vec::new(), rng, logs, conns, tokens, count: 0, refusals: true }
    }

    pub fn log(&self, room: &str) -> &[Stored] {
        &self.logs[room]
    }

    /// No refusals any more.
    pub fn heal(&mut self) {
        self.refusals = false;
    }

    // ------------------------------------------------------------ its life

    /// SIGKILL: connections end without a word.
    pub fn kill(&mut self) {
        self.is_up = false;
        for (client, link) in std::mem::take(&mut self.conns).into_keys() {
            self.out.push(Packet::DownEnd { client, link, code: 1006 });
        }
    }

    /// SIGTERM.
    pub fn drain(&mut self) {
        self.is_up = false;
        for (client, link) in std::mem::take(&mut self.conns).into_keys() {
            self.say(client, link, "server_closing", json!({"retryMinMs": 100, "retryMaxMs": 2000}));
            self.out.push(Packet::DownEnd { client, link, code: 4200 });
        }
    }

    /// Asks one client to another server, which is this one again.
    pub fn migrate(&mut self) {
        let signed_in: Vec<(usize, LinkId)> =
            self.conns.iter().filter(|(_, conn)| conn.user.is_some()).map(|(key, _)| *key).collect();
        if let Some(&(client, link)) = self.rng.choice(&signed_in) {
            let data = json!({"newServerUrl": "ws://other.test/ws", "migrationToken": "once"});
            self.say(client, link, "migrate", data);
        }
    }

    pub fn lost(&mut self, client: usize, link: LinkId) {
        if self.conns.remove(&(client, link)).is_some() {
            self.out.push(Packet::DownEnd { client, link, code: 1000 });
        }
    }

    // ------------------------------------------------------------ commands

    pub fn received(&mut self, client: usize, link: LinkId, text: &str, now: Now) {
        if !self.is_up {
            return;
        }
        let frame: Value = serde_json::from_str(text).expect("JSON");
        let (id, data) = (frame["id"].as_str().expect("an id"), &frame["data"]);
        let kind = frame["type"].as_str().expect("a type");
        let key = (client, link);
        if kind == "auth" {
            self.conns.insert(key, Conn::default());
            return self.auth(key, id, data, now);
        }
        let Some(conn) = self.conns.get(&key) else { return }; // closed meanwhile
        let user = conn.user.clone().expect("nothing goes out before sign-in");
        match kind {
            "resume" => self.resume(key, id, &user, data),
            "join_room" => self.join(key, id, data),
            "chat_message" => self.chat(key, id, &user, data, now),
            "heartbeat" => self.say(client, link, "heartbeat_response", json!({"timestamp": now.unix_ms})),
            "refresh_token" => self.ack(key, id, json!({"expiresAt": now.unix_ms + 60_000})),
            _ => panic!("unexpected {kind}"),
        }
    }

    fn auth(&mut self, key: (usize, LinkId), id: &str, data: &Value, now: Now) {
        let user = data["token"].as_str().expect("a token").to_owned();
        self.count += 1;
        let session = format!("sess{}", self.count);
        let token = self.new_token(&user, &session);
        let conn = self.conns.get_mut(&key).expect("made above");
        (conn.user, conn.session) = (Some(user.clone()), session.clone());
        self.ack(key, id, json!({}));
        let data = json!({
            "connectionId": "c", "sessionId": session, "resumeToken": token, "userId": user, "heartbeatMs": 3000,
            "expiresAt": now.unix_ms + 60_000, "timestamp": now.unix_ms,
        });
        self.say(key.0, key.1, "connection_established", data);
    }

    fn new_token(&mut self, user: &str, session: &str) -> String {
        self.count += 1;
        let token = format!("token{}", self.count);
        self.tokens.insert(token.clone(), (user.to_owned(), session.to_owned()));
        token
    }

    fn resume(&mut self, key: (usize, LinkId), id: &str, user: &str, data: &Value) {
        let token = data["resumeToken"].as_str().expect("a token");
        let session = data["sessionId"].as_str().expect("a session").to_owned();
        let is_good = self.tokens.get(token) == Some(&(user.to_owned(), session.clone()));
        if !is_good || self.refuses() {
            return self.refuse(key, id, "not_found", None);
        }
        let old: Vec<(usize, LinkId)> = self
            .conns
            .iter()
            .filter(|(other, conn)| **other != key && conn.session == session)
            .map(|(key, _)| *key)
            .collect();
        for (client, link) in old {
            self.conns.remove(&(client, link));
            self.out.push(Packet::DownEnd { client, link, code: 4009 });
        }
        let mut rooms = Vec::new();
        for (room, position) in data["rooms"].as_object().expect("rooms") {
            let end = self.logs[room].len() as u64;
            let missed = self.missed(room, position);
            self.conns.get_mut(&key).expect("a connection").rooms.insert(room.clone());
            let (recovered, events) = (missed.is_some(), missed.unwrap_or_default());
            rooms
                .push(json!({"roomId": room, "recovered": recovered, "epoch": EPOCH, "offset": end, "events": events}));
        }
        let token = self.new_token(user, &session);
        self.conns.get_mut(&key).expect("a connection").session = session;
        self.ack(key, id, json!({"connectionId": "c", "resumeToken": token, "rooms": rooms}));
    }

    fn missed(&self, room: &str, position: &Value) -> Option<Vec<Value>> {
        let (log, offset) = (&self.logs[room], position["offset"].as_u64()?);
        let count = (log.len() as u64).checked_sub(offset).expect("a position that was given");
        let is_known = position["epoch"] == EPOCH && count <= RECOVERY_MAX;
        let events = log[offset as usize..].iter().map(|stored| json!({"type": "chat_message", "data": stored.data}));
        is_known.then(|| events.collect())
    }

    fn join(&mut self, key: (usize, LinkId), id: &str, data: &Value) {
        if self.refuses() {
            return self.refuse(key, id, "overloaded", Some(300));
        }
        let room = data["roomId"].as_str().expect("a room");
        let recovery = data.get("recover").map(|position| self.missed(room, position));
        let log = &self.logs[room];
        let mut state = json!({"roomId": room, "epoch": EPOCH, "offset": log.len(), "role": null});
        match recovery {
            Some(Some(events)) => (state["recovered"], state["events"]) = (true.into(), events.into()),
            other => {
                let recent: Vec<&Value> = log.iter().rev().take(RECENT_MAX).rev().map(|stored| &stored.data).collect();
                state["recentMessages"] = json!(recent);
                if other.is_some() {
                    state["recovered"] = false.into();
                }
            }
        }
        self.conns.get_mut(&key).expect("a connection").rooms.insert(room.to_owned());
        self.ack(key, id, json!({"role": null}));
        self.say(key.0, key.1, "room_state", state);
    }

    fn chat(&mut self, key: (usize, LinkId), id: &str, user: &str, data: &Value, now: Now) {
        let room = data["roomId"].as_str().expect("a room");
        if !self.conns[&key].rooms.contains(room) {
            return self.refuse(key, id, "not_in_room", None);
        }
        let log = &self.logs[room];
        let is_repeat =
            |stored: &Stored| stored.user == user && stored.client_id == id && now.unix_ms - stored.at_ms < DEDUPE_MS;
        if let Some(place) = log.iter().position(is_repeat) {
            let result =
                json!({"messageId": format!("msg{place}"), "offset": place + 1, "epoch": EPOCH, "duplicate": true});
            return self.ack(key, id, result);
        }
        if self.refuses() {
            return self.refuse(key, id, "rate_limited", Some(500));
        }
        let (place, timestamp) = (self.logs[room].len(), now.unix_ms);
        let data = json!({
            "id": format!("msg{place}"), "roomId": room, "userId": user, "message": data["message"], "clientId": id,
            "offset": place + 1, "epoch": EPOCH, "timestamp": timestamp,
        });
        let (user, client_id) = (user.to_owned(), id.to_owned());
        let stored = Stored { user, client_id, data: data.clone(), at_ms: timestamp };
        self.logs.get_mut(room).expect("a room").push(stored);
        self.ack(key, id, json!({"messageId": data["id"], "offset": place + 1, "epoch": EPOCH, "duplicate": false}));
        let readers: Vec<(usize, LinkId)> =
            self.conns.iter().filter(|(_, conn)| conn.rooms.contains(room)).map(|(key, _)| *key).collect();
        for (client, link) in readers {
            // Now and then one is left out, as a reader would be whose queue is full: it must notice.
            if !self.refuses() {
                self.say(client, link, "chat_message", data.clone());
            }
        }
    }

    // ------------------------------------------------------------ answers

    /// One in thirty, until it is healed.
    fn refuses(&mut self) -> bool {
        self.refusals && self.rng.u32(0..30) == 0
    }

    fn ack(&mut self, (client, link): (usize, LinkId), id: &str, result: Value) {
        self.say(client, link, "ack", json!({"requestId": id, "result": result}));
    }

    fn refuse(&mut self, (client, link): (usize, LinkId), id: &str, code: &str, retry_after_ms: Option<u64>) {
        let mut data = json!({"code": code, "message": code, "retryable": retry_after_ms.is_some(), "requestId": id});
        if let Some(ms) = retry_after_ms {
            data["retryAfterMs"] = ms.into();
        }
        self.say(client, link, "error", data);
    }

    fn say(&mut self, client: usize, link: LinkId, kind: &str, data: Value) {
        let text = json!({"id": "evt", "type": kind, "data": data, "timestamp": 0}).to_string();
        self.out.push(Packet::Down { client, link, text });
    }
}
