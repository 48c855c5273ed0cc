//! The world: server, clients and model, moved step by step from one seed.
//!
//! First safety, under faults; then everything heals and progress is demanded; then all leave, and nothing may be left behind.
use super::agent::Agent;
use super::conn::{Asked, Conn};
use super::frames::{self, Frame};
use super::model::{Check, Model, ensure};
use super::server::Server;
use super::shape::{Shape, StoreShape};
use super::tamper::Tamper;
use super::{Broken, Run};
use throng::plane::{End, Faults, SimNet, SimRng};

/// Steps of a healed world in which something must arrive somewhere, as long as anything is due: several seconds.
pub const STEPS_TO_PROGRESS: usize = 600;
/// Steps in which a healed world must come to rest: several times what the slowest run needs, which moves 256 bytes in a step.
pub const STEPS_TO_REST: usize = 20_000;

pub struct World {
    pub shape: Shape,
    pub rng: SimRng,
    pub net: SimNet,
    pub server: Server,
    pub model: Model,
    pub agents: Vec<Agent>,
    pub conns: Vec<Conn>,
    pub tamper: Tamper,
    pub broken: Broken,
    /// Nothing goes wrong any more.
    pub is_healed: bool,
    is_loud: bool,
    /// By all clients.
    bytes_read: usize,
    /// Connections that ended without a close frame though neither the client nor the net broke them.
    pub silent_ends: u64,
}

/// Runs one seed. The error says what is wrong.
pub fn run(seed: u64, broken: Broken) -> Result<Run, String> {
    let mut world = World::new(seed, broken);
    world.chaos()?;
    world.heal()?;
    world.come_back()?;
    world.stay_quiet()?;
    world.count_live_events()?;
    world.all_leave()?;
    world.check_store()?;
    let reached = world.check_counters()?;
    let (trace, net) = (world.model.hash, world.net.trace_hash());
    Ok(Run {
        trace: trace ^ net.rotate_left(1),
        frames: world.model.frames,
        broken: world.tamper.count + world.server.store.lies_told,
        reached,
    })
}

impl World {
    fn new(seed: u64, broken: Broken) -> World {
        let shape = Shape::of(seed);
        let net = SimNet::new(seed ^ 0x9e7, shape.faults);
        let lies = if broken == Broken::LostWrite { 0.02 } else { 0.0 };
        World {
            server: Server::new(seed, &shape, &net, lies),
            agents: (0..shape.agents).map(|agent| Agent::new(agent, format!("user-{}", agent % shape.users))).collect(),
            rng: SimRng::new(seed ^ 0xac7),
            net,
            model: Model::default(),
            conns: Vec::new(),
            tamper: Tamper::new(seed, broken),
            broken,
            is_healed: false,
            bytes_read: 0,
            is_loud: std::env::var_os("THRONG_SIM_LOG").is_some(),
            silent_ends: 0,
            shape,
        }
    }

    /// Random actions under faults.
    fn chaos(&mut self) -> Check {
        for _ in 0..self.shape.steps {
            if self.rng.chance(self.shape.outage) {
                self.outage()?;
            }
            for _ in 0..self.rng.below(4) {
                let agent = self.rng.below(self.agents.len());
                self.act(agent);
            }
            let pause_ms = match self.rng.chance(self.shape.leap) {
                true => self.rng.below(3_000),
                false => self.rng.below(30),
            };
            self.step(pause_ms as u64)?;
        }
        Ok(())
    }

    /// The net is gone for longer than rooms stay in memory without anyone in them.
    fn outage(&mut self) -> Check {
        for conn in 0..self.conns.len() {
            if !self.conns[conn].is_over {
                self.cut(conn);
            }
        }
        (0..7).try_for_each(|_| self.step(2_000))
    }

    /// Nothing goes wrong from now on, everybody reads, and what was asked must be answered.
    fn heal(&mut self) -> Check {
        self.net.set_faults(Faults::NONE);
        (self.shape.lazy, self.shape.store.works) = (0.0, StoreShape::HEALTHY.works);
        self.is_healed = true;
        for conn in 0..self.conns.len() {
            if self.conns[conn].is_over {
                continue;
            }
            self.stall(conn, false);
            // One that never said who it is would wait for its timeout; what garbage means is nobody's business.
            let is_unknown = self.conns[conn].echoes.is_none() && !self.conns[conn].has_auth;
            if is_unknown || self.conns[conn].is_garbled {
                self.cut(conn);
            }
        }
        self.rest()
    }

    /// Everyone connects again, takes up where they were and sends what was not acknowledged.
    fn come_back(&mut self) -> Check {
        for agent in 0..self.agents.len() {
            if self.agents[agent].current.is_none() {
                self.connect(agent);
            }
            let Some(conn) = self.agents[agent].current.filter(|conn| self.conns[*conn].is_talking()) else { continue };
            if self.conns[conn].echoes.is_none() && self.conns[conn].positions.is_empty() {
                let room = self.any_room();
                self.join_at(conn, &room, None);
                self.send(conn, &room);
            }
        }
        self.rest()
    }

    /// Steps until nothing is outstanding and everyone has caught up.
    pub fn rest(&mut self) -> Check {
        let (mut bytes, mut waited) = (self.bytes_read, 0);
        for _ in 0..STEPS_TO_REST {
            self.step(10)?;
            if self.unrest().is_none() {
                return Ok(());
            }
            waited = if self.bytes_read == bytes { waited + 1 } else { 0 };
            bytes = self.bytes_read;
            if waited == STEPS_TO_PROGRESS {
                break;
            }
        }
        Err(format!("no progress: {}", self.unrest().unwrap_or_default()))
    }

    /// What there is still to be done.
    fn unrest(&mut self) -> Option<String> {
        if !self.server.store.is_idle() {
            return Some("the store has jobs".into());
        }
        for conn in self.conns.iter().filter(|conn| !conn.is_over) {
            let name = format!("connection {} of {}", conn.number, conn.user);
            if !conn.is_talking() {
                return Some(format!("{name} has not ended"));
            }
            if conn.echoes.is_none() && !conn.is_signed_in {
                return Some(format!("{name} was not signed in"));
            }
            if let Some(outstanding) = conn.outstanding() {
                return Some(format!("{name}: {outstanding}"));
            }
            for (room, view) in &conn.views {
                let last = self.server.store.last_offset(room);
                if view.next != last + 1 {
                    return Some(format!("{name} waits for {} of {room}, whose last is {last}", view.next));
                }
            }
        }
        None
    }

    /// One step: the shards' turns, the store, time, and what clients read and write.
    pub fn step(&mut self, pause_ms: u64) -> Check {
        self.server.turns(&mut self.rng, self.shape.lazy);
        let mut store = self.shape.store;
        if self.is_healed {
            store = StoreShape::HEALTHY;
        }
        self.server.store.work(&store, self.net.now().unix_ms);
        self.net.advance(pause_ms);
        for conn in 0..self.conns.len() {
            if !self.conns[conn].is_over {
                self.exchange(conn).map_err(|what| {
                    let conn = &self.conns[conn];
                    format!("connection {} of agent {} ({}): {what}", conn.number, conn.agent, conn.user)
                })?;
            }
        }
        Ok(())
    }

    /// A client reads and writes.
    fn exchange(&mut self, number: usize) -> Check {
        let client = self.conns[number].client;
        if !self.conns[number].is_stalled {
            let bytes = self.net.client_read(client);
            self.bytes_read += bytes.len();
            self.conns[number].reader.take(&bytes);
            while let Some(frame) = self.conns[number].reader.next()? {
                ensure!(self.conns[number].close_seen.is_none(), "{frame:?} behind a close frame");
                self.receive(number, frame)?;
            }
        }
        self.conns[number].write(&mut self.rng, &self.net, self.is_healed);
        if self.conns[number].is_stalled {
            return Ok(());
        }
        let conn = &self.conns[number];
        match self.net.client_ended(client) {
            None => return Ok(()),
            Some(End::Failed(_)) => {}
            Some(End::Eof) => {
                self.silent_ends += u64::from(conn.close_seen.is_none() && !conn.close_sent);
                // A frame that was cut by the end is allowed only if there was no time to say why.
                ensure!(conn.close_seen.is_none() || !conn.reader.is_inside(), "half a frame behind a close frame");
                self.net.client_close(client);
            }
        }
        self.end(number);
        Ok(())
    }

    fn receive(&mut self, number: usize, frame: Frame) -> Check {
        match frame {
            Frame::Text(text) => {
                if let Some(echoes) = &mut self.conns[number].echoes {
                    let due = echoes.pop_front();
                    ensure!(due.as_ref() == Some(&text), "an echo that is none");
                    return Ok(());
                }
                for message in self.tamper.pass(number, text) {
                    let message_text = String::from_utf8_lossy(&message).into_owned();
                    self.log(|| format!("connection {number} <- {message_text:.300}"));
                    let checked = self.model.observe(&mut self.conns[number], &message, &self.shape);
                    checked.map_err(|what| format!("{what}\n  in {message_text:.600}"))?;
                }
                Ok(())
            }
            Frame::Ping(payload) => {
                if self.conns[number].is_talking() {
                    let pong = frames::frame(&mut self.rng, frames::PONG, true, &payload);
                    self.conns[number].raw(&pong);
                }
                Ok(())
            }
            Frame::Pong(payload) => {
                let due = self.conns[number].pings.pop_front();
                ensure!(
                    due.as_ref() == Some(&payload) || self.conns[number].is_garbled,
                    "a pong for {payload:?}, due is {due:?}"
                );
                Ok(())
            }
            Frame::Close(code) => self.closed(number, code),
        }
    }

    /// The server's close frame: an echo of the client's, or a code that there is cause for.
    fn closed(&mut self, number: usize, code: Option<u16>) -> Check {
        self.log(|| format!("connection {number} <- close {code:?}"));
        self.conns[number].close_seen = Some(code);
        let conn = &self.conns[number];
        self.model.note(u64::from(code.unwrap_or(0)), b"close");
        if conn.close_sent && code.is_none_or(|code| matches!(code, 1000 | 1001 | 3000)) {
            return Ok(());
        }
        let Some(code) = code else { return Err("a close frame without a code".into()) };
        *self.model.closes_seen.entry(code).or_default() += 1;
        let config = &self.shape.config;
        let resuming = conn.asked.values().filter_map(|asked| match asked {
            Asked::Resume { session, .. } => Some(session),
            _ => None,
        });
        let mut sessions = resuming.chain(conn.session.as_ref().map(|(session, _)| session));
        let is_resumed = sessions.any(|session| {
            self.model.resumed.get(session).is_some_and(|conns| conns.iter().any(|other| *other != number))
        });
        let has_cause = conn.may_close.contains(&code)
            || match code {
                4001 => !conn.is_signed_in,
                4003 => self.shape.short_tokens,
                4008 => config.limits.connections_per_user < 20,
                4009 => is_resumed,
                4101 => !self.shape.has_roomy_queues() || config.conn.write_timeout_ms < 10_000 || conn.was_stalled,
                4102 => config.conn.stale_ms < 300_000,
                4103 => config.ws.ping_interval_ms < 25_000 || conn.was_stalled,
                4104 => config.limits.commands == 1,
                4200 => self.model.is_draining && conn.was_told_closing | !conn.is_signed_in,
                _ => false,
            };
        ensure!(has_cause, "closed {code} without a cause");
        if !conn.close_sent {
            let body = code.to_be_bytes();
            let frame = frames::frame(&mut self.rng, frames::CLOSE, true, &body);
            self.conns[number].raw(&frame);
            self.conns[number].close_sent = true;
        }
        Ok(())
    }

    /// With `THRONG_SIM_LOG` set: what clients ask, and what they get.
    pub fn log(&self, line: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{} {}", self.net.now().mono_ms(), line());
        }
    }

    /// The connection is over for its client.
    pub fn end(&mut self, number: usize) {
        self.log(|| format!("connection {number} is over"));
        let conn = &mut self.conns[number];
        conn.is_over = true;
        let agent = conn.agent;
        if self.agents[agent].current == Some(number) {
            self.agents[agent].remember(&self.conns[number]);
            self.agents[agent].current = None;
        }
    }
}
