//! What clients do in one step, drawn from the seed: commands, silence, departures, and breaches of the protocol.
use super::agent::Message;
use super::conn::{Asked, Position};
use super::frames;
use super::shape::Action;
use super::world::World;
use serde_json::json;

impl World {
    pub fn act(&mut self, agent: usize) {
        let action = self.shape.action(&mut self.rng);
        self.model.note(action as u64, &[agent as u8]);
        let talking = self.agents[agent].current.filter(|conn| self.conns[*conn].is_talking());
        let Some(conn) = talking else {
            if action == Action::Connect && self.agents[agent].current.is_none() {
                self.connect(agent);
            }
            return;
        };
        if self.conns[conn].echoes.is_some() {
            return self.act_on_echo(conn, action);
        }
        if !self.conns[conn].has_auth && !self.conns[conn].is_mute && self.rng.chance(0.5) {
            return self.authenticate(conn);
        }
        let mut room = self.any_room();
        let views = &self.conns[conn].views;
        if !views.is_empty() && self.rng.chance(0.6) {
            let at = self.rng.below(views.len());
            room = views.keys().nth(at).expect("counted").clone();
        } else if views.is_empty() && self.conns[conn].asked.is_empty() && self.rng.chance(0.7) {
            return self.join(conn, &room);
        }
        match action {
            Action::Join => self.join(conn, &room),
            Action::Leave | Action::LeaveForGood => self.leave(conn, &room, action == Action::LeaveForGood),
            Action::Send => self.send(conn, &room),
            Action::SendAgain => self.send_again(conn, false),
            Action::SendConflicting => self.send_again(conn, true),
            Action::Broadcast => self.broadcast(conn, &room),
            Action::Typing => self.type_in(conn, &room),
            Action::Heartbeat => self.heartbeat(conn),
            Action::Ask => self.ask_something(conn, &room),
            Action::Ping => self.ping(conn),
            Action::Unknown => self.ask(conn, "no_such_type", json!({ "roomId": room }), Asked::Unknown),
            Action::Malformed => self.malformed(conn),
            Action::Stall => self.stall(conn, !self.conns[conn].is_stalled),
            Action::CloseNormally => self.close(conn),
            Action::Cut => self.cut(conn),
            Action::Abandon => self.abandon(conn),
            Action::Offend => self.offend(conn),
            Action::Connect | Action::Idle => {}
        }
    }

    fn join(&mut self, conn: usize, room: &str) {
        if self.is_resuming(conn, room) {
            return;
        }
        let known = self.conns[conn].positions.get(room).cloned();
        let recover = known.filter(|_| self.rng.chance(0.5)).map(|(epoch, offset)| match self.rng.below(20) {
            0 => ("another".into(), offset),
            1 => (epoch, offset + 1_000),
            2 => (epoch, 0),
            _ => (epoch, offset),
        });
        self.join_at(conn, room, recover);
    }

    pub fn join_at(&mut self, conn: usize, room: &str, recover: Option<Position>) {
        let mut data = json!({ "roomId": room });
        if let Some((epoch, offset)) = &recover {
            data["recover"] = json!({ "epoch": epoch, "offset": offset });
        }
        self.ask(conn, "join_room", data, Asked::Join { room: room.into(), recover });
    }

    fn leave(&mut self, conn: usize, room: &str, is_permanent: bool) {
        if self.is_resuming(conn, room) {
            return;
        }
        let is_sure = self.conns[conn].is_surely_in(room);
        let data = json!({ "roomId": room, "permanent": is_permanent });
        self.ask(conn, "leave_room", data, Asked::Leave { room: room.into(), is_sure });
    }

    pub fn send(&mut self, conn: usize, room: &str) {
        let agent = self.conns[conn].agent;
        let text = self.text(format!("m{agent}.{}", self.agents[agent].counter));
        let client_id = format!("c{agent}.{}", self.agents[agent].counter);
        self.send_message(conn, Message { room: room.into(), client_id, text });
    }

    /// Under the envelope's id or under an id of its own: by that of the message, so that a repeat has the same.
    pub fn send_message(&mut self, conn: usize, message: Message) {
        let agent = &mut self.agents[self.conns[conn].agent];
        let id = agent.next_id();
        if agent.recent.len() == 8 {
            agent.recent.remove(0);
        }
        agent.recent.push(message.clone());
        let Message { room, client_id, text } = message;
        let contents = self.model.sent.entry((self.conns[conn].user.clone(), client_id.clone())).or_default();
        if !contents.contains(&(room.clone(), text.clone())) {
            contents.push((room.clone(), text.clone()));
        }
        let is_sure = self.conns[conn].is_surely_in(&room);
        let is_open = self.conns[conn].asked.contains_key(&client_id);
        let (id, data) = match self.rng.below(2) {
            0 if !is_open => (client_id.clone(), json!({ "roomId": room, "message": text })),
            _ => (id, json!({ "roomId": room, "message": text, "clientId": client_id })),
        };
        self.log(|| format!("connection {conn} -> {id} chat_message {data:.120}"));
        let asked = Asked::Send { room, client_id, text, is_sure };
        self.conns[conn].ask(&mut self.rng, &id, "chat_message", data, asked);
    }

    fn send_again(&mut self, conn: usize, is_conflicting: bool) {
        let recent = &self.agents[self.conns[conn].agent].recent;
        let Some(mut message) = recent.get(self.rng.below(recent.len())).cloned() else { return };
        if is_conflicting {
            message.text.push('!');
        }
        self.send_message(conn, message);
    }

    pub fn broadcast(&mut self, conn: usize, room: &str) {
        let numbers = self.conns[conn].broadcasts.entry(room.into()).or_default();
        *numbers += 1;
        let (cast, include_self) = (*numbers, self.rng.chance(0.3));
        let is_sure = self.conns[conn].is_surely_in(room);
        let pad = self.text(String::new());
        let mut data = json!({ "roomId": room, "event": "moved", "payload": { "from": conn, "n": cast, "pad": pad } });
        if include_self {
            data["includeSelf"] = true.into();
        }
        self.model.cast((conn, room.into(), cast), include_self);
        self.ask(conn, "broadcast", data, Asked::Broadcast { room: room.into(), number: cast, is_sure });
    }

    fn type_in(&mut self, conn: usize, room: &str) {
        let is_sure = self.conns[conn].is_surely_in(room);
        let kind = if self.rng.chance(0.6) { "typing_start" } else { "typing_stop" };
        self.ask(conn, kind, json!({ "roomId": room }), Asked::Typing { room: room.into(), is_sure });
    }

    fn heartbeat(&mut self, conn: usize) {
        let number = self.agents[self.conns[conn].agent].counter + 1;
        self.ask(conn, "heartbeat", json!({ "timestamp": number }), Asked::Heartbeat);
    }

    fn ask_something(&mut self, conn: usize, room: &str) {
        let is_sure = self.conns[conn].is_surely_in(room);
        match self.rng.below(4) {
            0 => self.ask(conn, "get_online_users", json!({ "roomId": room }), Asked::Other),
            1 if !self.conns[conn].asked.values().any(|asked| matches!(asked, Asked::Other)) => {
                self.ask(conn, "get_presence", json!({ "userIds": ["user-0", "nobody"] }), Asked::Other)
            }
            _ => {
                let mut data = json!({ "roomId": room, "limit": 1 + self.rng.below(20) });
                match self.rng.below(3) {
                    0 => data["before"] = self.rng.below(20).into(),
                    1 => data["after"] = self.rng.below(20).into(),
                    _ => {}
                }
                self.ask(conn, "get_history", data, Asked::History { room: room.into(), is_sure });
            }
        }
    }

    fn ping(&mut self, conn: usize) {
        let payload = self.rng.next_u64().to_le_bytes().to_vec();
        let frame = frames::frame(&mut self.rng, frames::PING, true, &payload);
        self.conns[conn].pings.push_back(payload);
        self.conns[conn].raw(&frame);
    }

    /// Well-formed text that is no envelope (R-ENV-3).
    fn malformed(&mut self, conn: usize) {
        let count = if self.rng.chance(0.1) { throng::limits::INVALID_MESSAGES_MAX + 1 } else { 1 };
        (0..count).for_each(|_| self.malformed_once(conn));
    }

    fn malformed_once(&mut self, conn: usize) {
        const TEXTS: [&str; 6] = ["", "{", "[1]", "null", r#"{"id":5,"type":"x"}"#, r#"{"id":"x","data":{}}"#];
        let text = TEXTS[self.rng.below(TEXTS.len())];
        let conn = &mut self.conns[conn];
        conn.malformed += 1;
        conn.malformed_sent += 1;
        if conn.malformed_sent > u64::from(throng::limits::INVALID_MESSAGES_MAX) {
            conn.may_close.insert(4007);
        }
        conn.text(&mut self.rng, text.as_bytes());
    }

    pub fn stall(&mut self, conn: usize, is_stalled: bool) {
        let conn = &mut self.conns[conn];
        conn.is_stalled = is_stalled;
        conn.was_stalled |= is_stalled;
        self.net.set_read_stalled(conn.client, is_stalled);
    }

    pub fn close(&mut self, conn: usize) {
        let body: &[u8] = [&[][..], &[3, 232], &[3, 233], &[11, 184]][self.rng.below(4)];
        let frame = frames::frame(&mut self.rng, frames::CLOSE, true, body);
        self.conns[conn].raw(&frame);
        self.conns[conn].close_sent = true;
        self.stall(conn, false);
    }

    pub fn cut(&mut self, conn: usize) {
        match self.rng.below(2) {
            0 => self.net.client_reset(self.conns[conn].client),
            _ => self.net.client_close(self.conns[conn].client),
        }
        self.end(conn);
    }

    /// Goes on without this connection, which stays open.
    fn abandon(&mut self, conn: usize) {
        let agent = self.conns[conn].agent;
        self.agents[agent].remember(&self.conns[conn]);
        self.agents[agent].current = None;
    }

    /// Breaks a rule of the protocol; the server must close with a code that names it.
    fn offend(&mut self, conn: usize) {
        let too_big = self.server.config.ws.max_message_bytes as usize + 1;
        let rng = &mut self.rng;
        let (bytes, codes): (Vec<u8>, &[u16]) = match rng.below(8) {
            0 => (vec![0x81, 0x01, b'x'], &[1002]),
            1 => (vec![0xf1, 0x80, 0, 0, 0, 0], &[1002]),
            2 => (vec![0x83, 0x80, 0, 0, 0, 0], &[1002]),
            3 => (frames::frame(rng, frames::CLOSE, true, &[0, 5]), &[1002]),
            4 => (frames::frame(rng, frames::BINARY, true, b"\x00\x01"), &[1003]),
            5 => (frames::frame(rng, frames::TEXT, true, b"\xc3\x28"), &[1007]),
            6 => (frames::frame(rng, frames::TEXT, true, &vec![b' '; too_big]), &[1009]),
            _ => {
                let mut garbage = vec![0; 1 + rng.below(40)];
                rng.fill(&mut garbage);
                (garbage, &[1002, 1003, 1007, 1009, 4007, 4002])
            }
        };
        let conn = &mut self.conns[conn];
        conn.may_close.extend(codes);
        conn.is_garbled = codes.len() > 1;
        conn.is_poisoned = true;
        conn.raw(&bytes);
    }

    fn act_on_echo(&mut self, conn: usize, action: Action) {
        match action {
            Action::Send => {
                let text = self.text("echo".into());
                let conn = &mut self.conns[conn];
                conn.text(&mut self.rng, text.as_bytes());
                conn.echoes.as_mut().expect("an echo connection").push_back(text.into());
            }
            Action::CloseNormally => self.close(conn),
            Action::Cut => self.cut(conn),
            _ => {}
        }
    }

    /// Something to say that begins so; escapes make a parser alter the bytes it came in.
    fn text(&mut self, start: String) -> String {
        const PIECES: [&str; 4] = ["é", "\"", "\\", "\n"];
        let (len, has_escapes) = (self.rng.below(self.shape.text_max), self.shape.has_escapes);
        let mut text = start;
        for _ in 0..len {
            match has_escapes && self.rng.chance(0.1) {
                true => text.push_str(PIECES[self.rng.below(4)]),
                false => text.push('x'),
            }
        }
        text.push('.');
        text
    }
}
