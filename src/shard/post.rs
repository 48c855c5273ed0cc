//! Opening the mail: what other threads ask of this shard, and the rooms' unfinished business.
use super::mail::Mail;
use super::{Departure, Shard};
use crate::auth::Verifier;
use crate::base::hash::home_shard;
use crate::plane::Plane;
use crate::rooms::effects::Requester;
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
}

impl<P: Plane> Shard<P> {
    /// Reads the mail, a bounded amount. True if there may be more.
    pub(super) fn open_mail(&mut self, budget: usize) -> bool {
        let mut mail = std::mem::take(&mut self.core.mail);
        let has_more = self.core.mesh.receive(budget, &mut mail);
        for mail in mail.drain(..) {
            self.open_one(mail);
            self.settle_rooms();
        }
        self.core.mail = mail;
        has_more
    }

    fn open_one(&mut self, mail: Mail) {
        let core = &mut self.core;
        match mail {
            Mail::Command { .. } | Mail::Resume(_) | Mail::Presence { .. } => self.execute_or_park(mail),
            Mail::Disconnected { conn, user, room, is_abnormal } => {
                self.rooms.disconnected(conn, &user, &room, is_abnormal, core.now, core)
            }
            Mail::Frame { to, frame } => match core.live(to) {
                Some(slot) => {
                    core.outbox(slot).extend_from_slice(&frame);
                    core.counters.frames_delivered += 1;
                }
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
                core.native.expose_email = core.settings.expose_email;
                let keys = core.verifier.keys().clone();
                core.verifier = Arc::new(Verifier::new((&config.auth).into(), keys));
                core.config = config.clone();
                self.rooms.configure((&*config).into());
            }
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
        if let Some((room_key, mail)) = self.execute(mail) {
            self.park(room_key, mail);
        }
    }

    /// Keeps a command for a busy room. A room that is not busy has nothing parked, so arrival order holds.
    pub(super) fn park(&mut self, room_key: u32, mail: Mail) {
        if self.parked.count < Parked::MAX {
            self.parked.count += 1;
            self.parked.rooms.entry(room_key).or_default().push_back(mail);
            return;
        }
        self.core.counters.dropped.add(DropReason::ParkedFull, 1);
        if let Mail::Command { from, message, .. } = mail {
            let mut padded = message.into_vec();
            let len = padded.len();
            padded.resize(len + crate::plane::SLACK_BYTES, 0);
            if let Ok(envelope) = Parser::new().parse(&mut padded, len) {
                let to = Requester { conn: from, request: envelope.id() };
                crate::rooms::effects::Effects::refuse(&mut self.core, to, super::commands::overloaded());
            }
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
            } else if !self.core.admitted.is_empty() {
                self.take_up_held();
            } else {
                return;
            }
        }
    }

    fn depart(&mut self, departure: Departure) {
        let Departure { conn, user, room, is_abnormal } = departure;
        match home_shard(&room, self.core.shards) {
            home if home == self.core.id => {
                self.rooms.disconnected(conn, &user, &room, is_abnormal, self.core.now, &mut self.core)
            }
            home => self.core.mesh.post(home, Mail::Disconnected { conn, user, room, is_abnormal }),
        }
    }

    /// Tries a room's parked commands until it is busy again.
    fn retry(&mut self, room_key: u32) {
        let Some(mut parked) = self.parked.rooms.remove(&room_key) else { return };
        while let Some(mail) = parked.pop_front() {
            self.parked.count -= 1;
            if let Some((busy, mail)) = self.execute(mail) {
                self.parked.count += 1;
                parked.push_front(mail);
                // The name may be another room by now: its own key then.
                let behind = self.parked.rooms.entry(busy).or_default();
                parked.append(behind);
                *behind = parked;
                return;
            }
        }
    }
}
