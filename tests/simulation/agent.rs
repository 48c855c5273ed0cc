//! Client programs: what they keep from one connection to the next, and how they come back.
use super::conn::{Asked, Conn, Position};
use super::model::request_id;
use super::server::{Handshake, identity, token};
use super::world::World;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A message and the id it is known by.
#[derive(Clone, Debug)]
pub struct Message {
    pub room: String,
    pub client_id: String,
    pub text: String,
}

/// A client program: what it keeps over its connections.
pub struct Agent {
    pub index: usize,
    pub user: String,
    pub current: Option<usize>,
    pub counter: u64,
    pub positions: BTreeMap<String, Position>,
    pub session: Option<(String, String)>,
    /// Sent, and the connection was lost before an answer.
    pub unacked: Vec<Message>,
    /// Sent lately.
    pub recent: Vec<Message>,
}

impl Agent {
    pub fn new(index: usize, user: String) -> Agent {
        Agent {
            index,
            user,
            current: None,
            counter: 0,
            positions: BTreeMap::new(),
            session: None,
            unacked: Vec::new(),
            recent: Vec::new(),
        }
    }

    pub fn next_id(&mut self) -> String {
        self.counter += 1;
        request_id(self.index, &self.counter.to_string())
    }

    /// Keeps what the next connection needs.
    pub fn remember(&mut self, conn: &Conn) {
        self.positions = conn.positions.clone();
        self.session = conn.session.clone().or(self.session.take());
        for asked in conn.asked.values() {
            if let Asked::Send { room, client_id, text, .. } = asked {
                let message = Message { room: room.clone(), client_id: client_id.clone(), text: text.clone() };
                self.unacked.push(message);
            }
        }
    }
}

const FOREVER_MS: u64 = 30 * 86_400_000;
const SHORT_MS: u64 = 70_000;

impl World {
    pub fn room(&self, index: usize) -> String {
        format!("room-{index}")
    }

    pub fn any_room(&mut self) -> String {
        let index = self.rng.below(self.shape.rooms);
        self.room(index)
    }

    /// Opens a connection and, if there was one before, takes up its rooms again: by `resume` or by joins with `recover`.
    pub fn connect(&mut self, agent: usize) {
        let (socket, client) = self.net.connect();
        let (number, user) = (self.conns.len(), self.agents[agent].user.clone());
        let mut conn = Conn::new(number, agent, &user, client, self.shape.dribbles && !self.is_healed);
        conn.positions = self.agents[agent].positions.clone();
        let is_echo = !self.is_healed && self.rng.chance(0.03);
        let brings_token = self.is_healed || self.rng.chance(0.6);
        let expires_ms = self.net.now().unix_ms + if self.shape.short_tokens { SHORT_MS } else { FOREVER_MS };
        conn.echoes = is_echo.then(Default::default);
        conn.has_auth = brings_token;
        conn.is_mute = !brings_token && self.rng.chance(0.1);
        self.conns.push(conn);
        self.agents[agent].current = Some(number);
        if !is_echo {
            if !brings_token && !self.conns[number].is_mute && self.rng.chance(0.7) {
                self.authenticate(number);
            }
            if self.conns[number].has_auth && (self.is_healed || self.rng.chance(0.8)) {
                self.take_up(number);
            }
        }
        let received = if self.rng.chance(0.5) { self.conns[number].take_unsent() } else { Vec::new() };
        let handshake = Handshake {
            identity: (brings_token && !is_echo).then(|| identity(&user, expires_ms)),
            received,
            address: agent as u64 + 1,
            is_echo,
        };
        let shard = self.rng.below(self.server.shards.len());
        if !self.server.open(shard, socket, handshake, &self.net) {
            // Turned away: as if it had never been.
            self.end(number);
        }
    }

    pub fn authenticate(&mut self, conn: usize) {
        let expires_ms = self.net.now().unix_ms + if self.shape.short_tokens { SHORT_MS } else { FOREVER_MS };
        let mut token = token(&self.conns[conn].user, expires_ms);
        self.conns[conn].has_auth = true;
        if !self.is_healed && self.rng.chance(0.05) {
            token.push('x');
            self.conns[conn].may_close.insert(4002);
            self.ask(conn, "auth", json!({ "token": token }), Asked::Auth);
            self.conns[conn].is_poisoned = true;
            return;
        }
        self.ask(conn, "auth", json!({ "token": token }), Asked::Auth);
    }

    /// Rooms and unacknowledged messages of the connection before.
    fn take_up(&mut self, conn: usize) {
        let agent = self.conns[conn].agent;
        let (positions, session) = (self.agents[agent].positions.clone(), self.agents[agent].session.clone());
        match session.filter(|_| self.rng.chance(0.5)) {
            Some((session, token)) => {
                self.model.resumed.entry(session.clone()).or_default().insert(conn);
                let rooms: Map<String, Value> = positions
                    .iter()
                    .map(|(room, (epoch, offset))| (room.clone(), json!({ "epoch": epoch, "offset": offset })))
                    .collect();
                let data = json!({ "sessionId": session, "resumeToken": token, "rooms": rooms });
                self.ask(conn, "resume", data, Asked::Resume { session, rooms: positions });
            }
            None => {
                for (room, position) in positions {
                    if self.is_healed || self.rng.chance(0.7) {
                        self.join_at(conn, &room, Some(position));
                    }
                }
            }
        }
        if self.is_healed || self.rng.chance(0.7) {
            for message in std::mem::take(&mut self.agents[agent].unacked) {
                self.send_message(conn, message);
            }
        }
    }

    pub fn ask(&mut self, conn: usize, kind: &str, data: Value, asked: Asked) {
        let id = self.agents[self.conns[conn].agent].next_id();
        self.log(|| format!("connection {conn} -> {id} {kind} {data:.120}"));
        self.conns[conn].ask(&mut self.rng, &id, kind, data, asked);
    }

    /// Positions are moved by the answer to a resume, so its rooms are left alone until then.
    pub fn is_resuming(&self, conn: usize, room: &str) -> bool {
        let of_room = |asked: &Asked| matches!(asked, Asked::Resume { rooms, .. } if rooms.contains_key(room));
        self.conns[conn].asked.values().any(of_room)
    }
}
