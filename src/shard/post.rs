//! Opening the mail: what other threads ask of this shard, and the rooms' unfinished business.
use super::mail::{Mail, Parting};
use super::{Departure, Shard};
use crate::auth::Verifier;
use crate::base::hash::home_shard;
use crate::base::user::UserRef;
use crate::ids::ConnRef;
use crate::limits;
use crate::plane::Plane;
use crate::rooms::effects::{Effects, Requester};
use crate::telemetry::DropReason;
use crate::wire::envelope::Parser;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Commands that wait for a room that is being loaded or changed, in order.
#[derive(Default)]
pub struct Parked {
    rooms: HashMap<u32, VecDeque<Mail>>,
    count: usize,
}

impl Parked {
    /// Commands parked on one shard. A load takes a few milliseconds; at a hundred thousand commands a second that
    /// is a few hundred. More: refused as `overloaded`.
    const MAX: usize = 65_536;

    /// Gives back room that was needed for more rooms at a time.
    pub fn trim(&mut self) {
        self.rooms.shrink_to(self.rooms.len());
    }

    /// Commands that wait.
    pub fn len(&self) -> usize {
        self.count
    }
}

impl<P: Plane> Shard<P> {
    /// Reads the mail, a bounded amount. True if there may be more.
    ///
    /// Mail to rooms stands behind the rest: when two shards ask much of each other, the answers must not lie behind the questions, each
    /// of which makes another answer. It is about rooms of this shard, the rest about its connections and those of its users, so that no
    /// order is lost.
    pub(super) fn open_mail(&mut self, budget: usize) -> bool {
        let mut mail = std::mem::take(&mut self.core.mail);
        let has_more = self.core.mesh.receive(budget, &mut mail);
        for mail in mail.drain(..) {
            match mail.is_for_room() {
                true => self.receive_for_room(mail),
                false => self.open_one(mail),
            }
            self.settle_rooms();
        }
        self.core.mail = mail;
        self.core.mailed_bytes = 0;
        while self.core.mailed_bytes <= limits::MAILED_BYTES_PER_TURN
            && let Some(mail) = self.core.room_mail.pop_front()
        {
            self.open_one(mail);
            self.settle_rooms();
        }
        has_more || !self.core.room_mail.is_empty()
    }

    fn receive_for_room(&mut self, mail: Mail) {
        let is_full = self.core.room_mail.len() >= Parked::MAX;
        if is_full && !matches!(mail, Mail::Parted { .. }) {
            return self.refuse_mail(mail);
        }
        self.core.room_mail.push_back(mail);
    }

    fn open_one(&mut self, mail: Mail) {
        let core = &mut self.core;
        match mail {
            Mail::Command { .. } | Mail::Resume(_) | Mail::Presence { .. } => self.execute_or_park(mail),
            Mail::Parted { conn, user, room, parting } => self.part(conn, &user, &room, parting),
            Mail::Frame { to, frame, draws } => match core.live(to) {
                Some(slot) if draws && !core.admit(slot) => {}
                Some(slot) => core.outbox_frame(slot, &frame),
                None => core.counters.dropped.add(DropReason::Gone, 1),
            },
            Mail::Subscribe { conn, user, room } => core.subscribe_here(conn, &user, &room),
            Mail::Unsubscribe { conn, room } => core.unsubscribe_here(conn, &room),
            Mail::Resumed { to, part } => core.room_resumed(to, &part),
            Mail::PresenceFound { to, online } => core.presence_found(to, online),
            Mail::Publish { room, frame, class, except, read_at_ns, sent_at_ns } => {
                core.histograms.mesh_hop.saturating_record(core.now.mono_ns.saturating_sub(sent_at_ns));
                core.publish_here(&room, &frame, class, &except, read_at_ns);
            }
            Mail::SignIn { conn, id, email } => {
                let user = core.users.sign_in(conn, &id, email.as_deref(), core.settings.connections_per_user);
                core.mesh.post(conn.shard, Mail::SignedIn { conn, user });
            }
            Mail::SignedIn { conn, user } => core.session_admitted(conn, user),
            Mail::SignOut { conn, user } => core.users.sign_out(conn, &user, core.now.mono_ns),
            Mail::EndSession { user, session, except } => core.pass_on_end_session(&user, session, except),
            Mail::CloseSession { conn, session } => core.close_session(conn, session),
            Mail::EngineAsk(asked) => self.engine_asked(*asked),
            Mail::EngineAnswer(answer) => core.engine_answered(answer.0, answer.1),
            Mail::EngineUpgrade(upgrade) => self.engine_upgraded(*upgrade),
            Mail::EngineClaim(claim) => core.claimed(claim),
            Mail::EngineRecovered(recovered) => core.recovered(*recovered),
            Mail::EngineYield(conn) => core.yield_to_claim(conn),
            Mail::EngineKeep(kept) => core.deposited(kept.0, kept.1),
            Mail::Stored(finished) => {
                for done in finished {
                    self.core.jobs_in_flight = self.core.jobs_in_flight.saturating_sub(1);
                    self.rooms.finished(done, self.core.now, &mut self.core);
                    self.settle_rooms();
                }
            }
            Mail::Report(reply) => {
                let report = Box::new(self.report());
                // The reader may have given up.
                let _ = reply.try_send(report);
            }
            Mail::Config(config) => {
                core.settings = (&*config).into();
                core.users.rates = (&*config).into();
                core.native.expose_email = core.settings.expose_email;
                let keys = core.verifier.keys().clone();
                core.verifier = Arc::new(Verifier::new((&config.auth).into(), keys));
                core.config = config.clone();
                self.rooms.configure((&*config).into());
            }
            Mail::Certificate(acceptor) => self.set_acceptor(Some(acceptor)),
            Mail::Keys(verifier, unknown_key) => {
                core.verifier = verifier;
                if let Some(unknown_key) = unknown_key {
                    core.unknown_key = unknown_key;
                }
            }
            Mail::Drain => core.begin_drain(),
            Mail::Stop => core.is_stopped = true,
        }
    }

    fn execute_or_park(&mut self, mail: Mail) {
        if let Some(waiting) = self.execute(mail) {
            self.park(waiting.room_key, waiting.mail);
        }
    }

    /// Keeps a command for a busy room. A room that is not busy has nothing parked, so arrival order holds.
    pub(super) fn park(&mut self, room_key: u32, mail: Mail) {
        if self.parked.count < Parked::MAX {
            self.parked.count += 1;
            self.parked.rooms.entry(room_key).or_default().push_back(mail);
            return;
        }
        self.refuse_mail(mail);
    }

    /// Answers a command that nobody has time for as `overloaded`.
    fn refuse_mail(&mut self, mail: Mail) {
        self.core.counters.dropped.add(DropReason::ParkedFull, 1);
        match mail {
            Mail::Command { from, user, budget, message, .. } => {
                let mut padded = message.into_vec();
                let len = padded.len();
                padded.resize(len + crate::plane::SLACK_BYTES, 0);
                if let Ok(envelope) = Parser::new().parse(&mut padded, len) {
                    let to = Requester { conn: from, request: envelope.id() };
                    self.core.refuse_unexecuted(to, &user, budget, super::commands::overloaded());
                }
            }
            // Their connections count the rooms that have answered.
            Mail::Resume(room) => {
                let to = Requester { conn: room.from, request: &room.request };
                self.core.resumed(to, &room.room, None);
            }
            Mail::Presence { from, .. } => self.core.presence(Requester { conn: from, request: "" }, &[]),
            _ => {}
        }
    }

    /// What rooms left to do: commands that can be tried again, subscriptions that ended with their connection.
    /// Called after every call into the domain, before anything else reaches it.
    pub(super) fn settle_rooms(&mut self) {
        loop {
            if let Some((room_key, mail)) = self.core.parking.pop() {
                self.park(room_key, mail);
            } else if let Some(room_key) = self.core.retries.pop() {
                self.retry(room_key);
            } else if let Some(departure) = self.core.departures.pop() {
                self.depart(departure);
            } else if let Some(mail) = self.core.engines.resumes.pop() {
                self.execute_or_park(mail);
            } else if !self.core.admitted.is_empty() {
                self.take_up_held();
            } else {
                return;
            }
        }
    }

    fn depart(&mut self, departure: Departure) {
        let Departure { conn, user, room, parting } = departure;
        match home_shard(&room, self.core.shards) {
            home if home == self.core.id => self.part(conn, &user, &room, parting),
            home => self.core.mesh.post(home, Mail::Parted { conn, user, room, parting }),
        }
    }

    /// A subscription to a room at home here ends without a command.
    fn part(&mut self, conn: ConnRef, user: &UserRef, room: &str, parting: Parting) {
        let (rooms, core) = (&mut self.rooms, &mut self.core);
        match parting {
            Parting::Closed => rooms.disconnected(conn, user, room, false, core.now, core),
            Parting::Lost => rooms.disconnected(conn, user, room, true, core.now, core),
            Parting::OverLimit => rooms.evict(conn, user, room, "limit_reached", core.now, core),
        }
    }

    /// Tries a room's parked commands until it is busy again. Those of a connection that waits alone stay, in their order; nobody
    /// else's stay behind them, or a later command of theirs would overtake (R-ENV-4).
    fn retry(&mut self, room_key: u32) {
        let Some(mut parked) = self.parked.rooms.remove(&room_key) else { return };
        let (mut still, mut busy) = (VecDeque::new(), room_key);
        while let Some(mail) = parked.pop_front() {
            self.parked.count -= 1;
            let Some(waiting) = self.execute(mail) else { continue };
            self.parked.count += 1;
            still.push_back(waiting.mail);
            // The name may be another room by now: its own key then.
            busy = waiting.room_key;
            if waiting.is_room_busy {
                break;
            }
        }
        still.append(&mut parked);
        if !still.is_empty() {
            let behind = self.parked.rooms.entry(busy).or_default();
            still.append(behind);
            *behind = still;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::charge::Budget;
    use super::super::conn::{Stage, flag};
    use super::super::mail::ResumeRoom;
    use super::super::mesh::Mesh;
    use super::super::{Addresses, Opening, Parts, Totals};
    use super::*;
    use crate::auth::{KeySet, ResumeKey, Settings};
    use crate::base::mailbox::{Bell, Receiver, mailbox};
    use crate::base::user::{GlobalRole, User};
    use crate::config::Config;
    use crate::ids::UlidSource;
    use crate::plane::{ClientId, Faults, NoWake, SimNet, SimOptions, SimPlane, Slot};
    use crate::session::format::Format;
    use crate::store::port::{ReadJob, StorePort, WriteJob};
    use crate::tls::Session;

    struct NoStore;

    impl StorePort for NoStore {
        fn write(&self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>> {
            Err(job)
        }

        fn read(&self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>> {
            Err(job)
        }
    }

    /// Shard 0 of two, and what it sends to the other.
    fn shard() -> (Shard<SimPlane>, Receiver<Mail>) {
        shard_in(&SimNet::new(1, Faults::NONE))
    }

    pub fn shard_in(net: &SimNet) -> (Shard<SimPlane>, Receiver<Mail>) {
        let config = Arc::new(Config::default());
        let (sender, sent) = mailbox(16, &Bell::new(Box::new(NoWake)));
        let plane = net.plane(SimOptions::default());
        let parts = Parts {
            id: 0,
            shards: 2,
            verifier: Arc::new(Verifier::new(Settings::from(&config.auth), Arc::new(KeySet::new(vec![], 0)))),
            resume_key: ResumeKey::from_bytes(&[1; 32]),
            unknown_key: Arc::new(|_| ()),
            addresses: Arc::new(Addresses::new(16, &config.limits)),
            totals: Arc::new(Totals::default()),
            mesh: Mesh::new(vec![None, Some(sender)], vec![]),
            store: Box::new(NoStore),
            ids: UlidSource::new(Box::new(|bytes| bytes.fill(7))),
            config,
        };
        (Shard::new(plane, parts), sent)
    }

    /// Whoever asks waits for an answer: a resume that got none would hold its connection's events back for ever.
    #[test]
    fn what_cannot_be_parked_is_answered() {
        let (mut shard, sent) = shard();
        shard.parked.count = Parked::MAX;
        let from = ConnRef { slot: 3, generation: 1, shard: 1 };
        let user = UserRef::new(User::new("anna", None));
        let message = br#"{"id":"a","type":"join_room","data":{"roomId":"lobby"}}"#.as_slice().into();
        shard.park(
            0,
            Mail::Command {
                from,
                user: user.clone(),
                role: GlobalRole::None,
                budget: Budget::Commands,
                message,
                read_at_ns: 0,
            },
        );
        let room = ResumeRoom {
            from,
            user: user.clone(),
            role: GlobalRole::None,
            request: "b".into(),
            room: "lobby".into(),
            epoch: "e".into(),
            offset: 1,
            read_at_ns: 0,
        };
        shard.park(0, Mail::Resume(Box::new(room)));
        shard.park(0, Mail::Presence { from, user, room: "lobby".into(), user_ids: Arc::new([]) });

        let answers: Vec<Mail> = std::iter::from_fn(|| sent.pop()).collect();
        let [Mail::Frame { frame, .. }, Mail::Resumed { part, .. }, Mail::PresenceFound { online, .. }] = &answers[..]
        else {
            panic!("{} answers", answers.len())
        };
        let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has(frame, r#""code":"overloaded""#) && has(part, r#""epoch":null"#) && online.is_empty());
        assert!(shard.parked.rooms.is_empty());
    }

    /// A connection signed in as anna.
    pub fn open(shard: &mut Shard<SimPlane>, net: &SimNet) -> (Slot, ClientId) {
        open_with(shard, net, None)
    }

    /// The same, with TLS if there is a session.
    pub fn open_with(shard: &mut Shard<SimPlane>, net: &SimNet, session: Option<Box<Session>>) -> (Slot, ClientId) {
        let (socket, client) = net.connect();
        let opening = Opening {
            response: b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
            session,
            identity: None,
            received: Vec::new(),
            address: None,
            accepted_at_ns: 0,
            format: Format::NATIVE,
            is_echo: false,
        };
        let slot = shard.open(socket, opening).expect("a free slot");
        let conn = &mut shard.core.conns[slot as usize];
        (conn.stage, conn.user) = (Stage::Open, Some(UserRef::new(User::new("anna", None))));
        (slot, client)
    }

    /// R-CONN-6: what comes behind `server_closing` is not taken up, but pings are answered, and nothing is lost uncounted.
    #[test]
    fn messages_behind_the_announced_end_are_counted() {
        let net = SimNet::new(1, Faults::NONE);
        let (mut shard, _sent) = shard_in(&net);
        let (slot, client) = open(&mut shard, &net);
        shard.core.begin_drain();
        shard.core.drain_step();
        shard.turn();
        assert!(shard.core.conns[slot as usize].has(flag::LEAVING));
        let announced = net.client_read(client);
        // Two masked texts and a ping, under a key of zeros.
        let late = [&[0x81, 0x82, 0, 0, 0, 0, b'{', b'}'][..], &[0x89, 0x80, 0, 0, 0, 0]].concat();
        assert!(net.client_write(client, &[&late[..8], &late].concat()));
        shard.turn();
        assert_eq!(shard.core.counters.dropped.get(DropReason::Leaving), 2);
        assert_eq!((shard.core.counters.messages_received, net.client_read(client)), (0, vec![0x8a, 0]));
        assert!(announced.windows(14).any(|bytes| bytes == b"server_closing"));
    }

    /// R-CONN-5: many questions in one packet are not answered without bound before anything is sent.
    #[test]
    fn answers_of_one_turn_are_bounded() {
        let net = SimNet::new(1, Faults::NONE);
        let (mut shard, _sent) = shard_in(&net);
        let (slot, _client) = open(&mut shard, &net);
        shard.turn();
        let bound = shard.core.settings.out_queue_bytes + limits::SOCKET_SEND_BYTES_MAX;
        let mut frame = Vec::new();
        crate::wire::ws::append_frame(&mut frame, crate::wire::ws::Opcode::Text, &[b'x'; 100_000]);
        let fits = bound as usize / frame.len() + 1;
        for sent in 0..3 * fits {
            assert_eq!(shard.core.conns[slot as usize].stage == Stage::Open, sent <= fits, "after {sent}");
            if shard.core.conns[slot as usize].is_live() {
                shard.core.outbox_frame(slot, &frame);
            }
        }
        assert_eq!(shard.core.counters.dropped.get(DropReason::SlowConsumerClosed), 1);
        assert!(shard.core.active(slot).outbox.unsent() < 2 * frame.len());
    }

    /// R-CONN-5: a single answer over the limit (a long recovery) does not make its reader a slow one; what piles up behind it does.
    #[test]
    fn one_answer_may_be_larger_than_the_limit() {
        let net = SimNet::new(1, Faults::NONE);
        let (mut shard, _sent) = shard_in(&net);
        let (slot, client) = open(&mut shard, &net);
        shard.turn();
        net.client_read(client);
        net.set_read_stalled(client, true);
        let limit = shard.core.settings.out_queue_bytes as usize;
        let frame = |bytes: usize| {
            let mut frame = Vec::new();
            crate::wire::ws::append_frame(&mut frame, crate::wire::ws::Opcode::Text, &vec![b'x'; bytes]);
            frame
        };
        shard.core.outbox_frame(slot, &frame(3 * limit));
        for behind in [0, limit / 2] {
            shard.core.outbox_frame(slot, &frame(behind));
            shard.turn();
            shard.turn();
            assert_eq!(shard.core.conns[slot as usize].stage, Stage::Open, "{behind} bytes behind the answer");
        }
        shard.core.outbox_frame(slot, &frame(limit / 2));
        shard.turn();
        assert_eq!(shard.core.conns[slot as usize].stage, Stage::Closing);
        assert_eq!(shard.core.counters.dropped.get(DropReason::SlowConsumerClosed), 1);
        // What it was in the middle of still comes whole, then the close frame.
        net.set_read_stalled(client, false);
        let mut read = 0;
        for _ in 0..1000 {
            net.advance(10);
            shard.turn();
            read += net.client_read(client).len();
        }
        assert!(read > 3 * limit && read < 3 * limit + 1000, "{read} bytes");
    }
}
