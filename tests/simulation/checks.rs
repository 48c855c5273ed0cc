//! Checks of the whole: live events against the counters, the store against the acks, and what is left when all have gone.
use super::Broken;
use super::conn::Asked;
use super::model::{CastKey, Check, ensure};
use super::world::{STEPS_TO_REST, World};
use serde_json::json;
use std::collections::BTreeMap;
use throng::base::close::CloseCode;
use throng::base::refusal::Code;
use throng::plane::Plane;
use throng::shard::Residue;
use throng::telemetry::{Counters, DropReason, Ending, Recovered};

/// Long enough for pings, typing, graces and spells of malformed messages to be over.
const QUIET_S: usize = 100;

impl World {
    /// Nothing per connection is kept once it is idle.
    pub fn stay_quiet(&mut self) -> Check {
        for _ in 0..QUIET_S {
            self.step(1_000)?;
        }
        let mut active = 0;
        // The last ping, or a warning that a token ends, may still be on its way.
        for _ in 0..100 {
            self.step(100)?;
            active = self.server.shards.iter().map(|shard| shard.active_connections()).sum();
            if active == 0 {
                return Ok(());
            }
        }
        Err(format!("{active} idle connections hold a side record"))
    }

    fn counters(&mut self) -> Counters {
        let mut sum = Counters::default();
        self.server.reports().iter().for_each(|report| sum.merge(&report.counters));
        sum
    }

    /// With nothing else going on, every live event that does not arrive is counted as dropped, to the last one.
    pub fn count_live_events(&mut self) -> Check {
        self.rest()?;
        let before = self.counters();
        let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for conn in self.conns.iter().filter(|conn| conn.is_talking()) {
            conn.views.keys().for_each(|room| members.entry(room.clone()).or_default().push(conn.number));
        }
        let (talking, mut keys) = (self.talking(), Vec::<CastKey>::new());
        for _ in 0..6 {
            for (room, members) in &members {
                let sender = members[self.rng.below(members.len())];
                self.broadcast(sender, room);
                keys.push((sender, room.clone(), self.conns[sender].broadcasts[room]));
                let reader = members[self.rng.below(members.len())];
                if !self.conns[reader].is_stalled && self.rng.chance(0.5) {
                    self.stall(reader, true);
                }
            }
            self.step(1)?;
        }
        for conn in self.talking() {
            self.stall(conn, false);
            // Its answer says that everything before it was read.
            if self.conns[conn].echoes.is_none() {
                self.ask(conn, "fence", json!({}), Asked::Unknown);
            }
        }
        self.rest()?;
        self.drink_up()?;
        let after = self.counters();
        if self.talking() != talking {
            return Ok(()); // a slow reader was closed, with what was on its way to it
        }
        let due = |key: &CastKey| self.model.deliveries_due(key, members[&key.1].len() as u64, self.broken);
        let due: u64 = keys.iter().map(due).sum();
        let heard: u64 = keys.iter().map(|key| self.model.casts[key].heard).sum();
        let dropped = |reason| after.dropped.get(reason) - before.dropped.get(reason);
        let (lagging, mailbox) = (dropped(DropReason::LiveLagging), dropped(DropReason::MailboxFullLive));
        let most = lagging + mailbox * self.conns.len() as u64;
        let is_counted = heard + lagging <= due && due <= heard + most;
        ensure!(
            is_counted,
            "{heard} of {due} live events arrived; {lagging} readers and {mailbox} mailboxes dropped one"
        );
        Ok(())
    }

    /// Steps until nothing is on its way to anyone: live events are waited for by nobody.
    fn drink_up(&mut self) -> Check {
        for _ in 0..STEPS_TO_REST {
            (0..3).try_for_each(|_| self.step(10))?;
            let is_read = self.server.reports().iter().all(|report| report.queue_bytes == 0 && report.log_bytes == 0);
            if is_read && self.server.shards.iter().all(|shard| shard.residue().waiting_mail == 0) {
                return (0..3).try_for_each(|_| self.step(10));
            }
        }
        let left: Vec<_> = self.server.reports().iter().map(|report| (report.queue_bytes, report.log_bytes)).collect();
        Err(format!("bytes queued and logged that nobody waits for: {left:?}"))
    }

    fn talking(&self) -> Vec<usize> {
        self.conns.iter().filter(|conn| conn.is_talking()).map(|conn| conn.number).collect()
    }

    /// All leave, one way or another, and the server is left with nothing.
    pub fn all_leave(&mut self) -> Check {
        if self.shape.ends_by_drain {
            self.model.is_draining = true;
            self.server.drain();
        } else {
            for conn in self.talking() {
                match self.rng.below(2) {
                    0 => self.close(conn),
                    _ => self.cut(conn),
                }
            }
        }
        for pause_ms in
            [(100, 150), (1_000, 60), (10_000, 6)].into_iter().flat_map(|(ms, n)| std::iter::repeat_n(ms, n))
        {
            self.step(pause_ms)?;
        }
        if let Some(conn) = self.conns.iter().find(|conn| !conn.is_over) {
            return Err(format!("connection {} is still open", conn.number));
        }
        for report in self.server.reports() {
            let left = [report.connections, report.unauthenticated, report.users, report.rooms_in_memory];
            ensure!(left == [0; 4], "connections, unauthenticated, users, rooms left: {left:?}");
            let bytes = [report.queue_bytes, report.log_bytes];
            ensure!(bytes == [0; 2], "bytes queued and logged left: {bytes:?}");
        }
        for shard in &mut self.server.shards {
            let residue = shard.residue();
            ensure!(residue == Residue::default(), "left behind: {residue:?}");
            ensure!(shard.plane().in_use() == 0, "{} slots left", shard.plane().in_use());
            let stats = shard.plane().stats();
            ensure!(stats.adopted == stats.released, "{stats:?}");
            ensure!(shard.is_stopped() == self.shape.ends_by_drain, "stopped: {}", shard.is_stopped());
        }
        self.check_admission()
    }

    /// Whatever was counted at the door was released.
    fn check_admission(&self) -> Check {
        let open = self.server.totals.connections();
        ensure!(open == 0, "{open} connections are still counted");
        let mut limits = self.server.config.limits.clone();
        limits.unauthenticated = 1;
        ensure!(self.server.totals.admit(&limits, 1).is_ok(), "newcomers are still counted");
        for address in 1..=self.agents.len() as u64 {
            for _ in 0..limits.connections_per_ip {
                let now_ms = self.net.now().mono_ms();
                ensure!(self.server.addresses.admit(address, now_ms).is_ok(), "address {address} is still counted");
            }
        }
        Ok(())
    }

    /// What was acknowledged is stored, what is stored was sent and seen as it is, and nothing is stored twice.
    pub fn check_store(&mut self) -> Check {
        let mut stored: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for room in 0..self.shape.rooms {
            let (room, mut used) = (self.room(room), BTreeMap::new());
            let events = self.server.store.events(&room);
            for (event, offset) in events.iter().zip(1..) {
                let key = (event.user_id.to_string(), event.client_id.as_deref().unwrap_or_default().to_string());
                ensure!(event.offset == offset, "{room} stores {} at {offset}", event.offset);
                let content = (room.clone(), event.body.to_string());
                ensure!(self.model.sent.get(&key).is_some_and(|sent| sent.contains(&content)), "{key:?} was not sent");
                let first = used.insert(key.clone(), offset);
                ensure!(first.is_none(), "{key:?} is stored at {first:?} and at {offset}");
                if let Some(seen) = self.model.rooms.get(&room).and_then(|room| room.events.get(&offset)) {
                    let is_same = (&seen.user, &seen.client_id) == (&key.0, &key.1) && seen.text == *event.body;
                    ensure!(is_same, "{room} stores {event:?}, seen was {seen:?}");
                }
            }
            let seen = self.model.rooms.get(&room).and_then(|room| room.events.keys().last().copied()).unwrap_or(0);
            ensure!(seen <= events.len() as u64, "{seen} of {room} was seen and is not stored");
            stored.insert(room, events);
        }
        for ((user, client_id), ack) in &self.model.acked {
            let event = stored.get(&ack.room).and_then(|events| events.get(ack.offset as usize - 1));
            let is_it = event.is_some_and(|event| {
                *event.user_id == **user
                    && event.client_id.as_deref() == Some(client_id)
                    && format!("msg_{}", event.id) == ack.id
            });
            ensure!(is_it, "{client_id} of {user} was acknowledged as {ack:?}, stored is {event:?}");
        }
        Ok(())
    }

    /// The counters agree with what was seen from outside. Gives back what of interest they counted.
    pub fn check_counters(&mut self) -> Result<Vec<(&'static str, u64)>, String> {
        let counters = self.counters();
        let (dropped, closed) = (&counters.dropped, &counters.closed);
        ensure!(counters.upgraded == self.server.opened, "{} of {} counted", counters.upgraded, self.server.opened);
        ensure!(closed.total() == counters.upgraded, "{} of {} connections ended", closed.total(), counters.upgraded);
        let slow = dropped.get(DropReason::SlowConsumerClosed) + dropped.get(DropReason::WriteTimeout);
        let slow_closed = closed.get(Ending::Code(CloseCode::SlowConsumer));
        ensure!(slow_closed == slow, "{slow_closed} closes 4101 for {slow} slow readers");
        let mut unseen = 0;
        for code in CloseCode::ALL.into_iter().filter(|code| *code != CloseCode::Normal) {
            let seen = self.model.closes_seen.get(&code.number()).copied().unwrap_or(0);
            let counted = closed.get(Ending::Code(code));
            ensure!(seen <= counted, "{seen} closes {} seen, {counted} counted", code.number());
            unseen += counted - seen;
        }
        ensure!(
            self.silent_ends <= unseen,
            "{} connections ended without a word, {unseen} close frames were lost",
            self.silent_ends
        );
        ensure!(self.model.acks_seen <= counters.durable_acked, "{} acks counted", counters.durable_acked);
        for (recovered, seen) in [Recovered::No, Recovered::Yes].into_iter().zip(self.model.recovered_seen) {
            let counted = counters.recoveries.get(recovered);
            ensure!(seen <= counted, "{seen} recoveries {recovered:?} seen, {counted} counted");
        }
        let conns = &self.conns;
        self.model.close_gaps(|conn| conns[conn].is_over && self.broken != Broken::DroppedLiveEvent);
        let live = dropped.get(DropReason::LiveLagging) + dropped.get(DropReason::MailboxFullLive);
        match &self.model.unexplained {
            Some(what) if live == 0 => Err(format!("{what}, and no drop was counted")),
            _ => Ok(self.reached(&counters)),
        }
    }

    /// Corners that the seeds together must get to.
    fn reached(&self, counters: &Counters) -> Vec<(&'static str, u64)> {
        let closed = |code| counters.closed.get(Ending::Code(code));
        let dropped = |reason| counters.dropped.get(reason);
        let refused = |code| counters.commands_refused.get(code);
        vec![
            ("closed 1000", closed(CloseCode::Normal)),
            ("closed 1002", closed(CloseCode::ProtocolError)),
            ("closed 1003", closed(CloseCode::Unsupported)),
            ("closed 1007", closed(CloseCode::InvalidText)),
            ("closed 1009", closed(CloseCode::TooBig)),
            ("closed 4001", closed(CloseCode::TokenRequired)),
            ("closed 4002", closed(CloseCode::AuthFailed)),
            ("closed 4003", closed(CloseCode::TokenExpired)),
            ("closed 4007", closed(CloseCode::Abuse)),
            ("closed 4008", closed(CloseCode::TooManyConnections)),
            ("closed 4009", closed(CloseCode::ResumedElsewhere)),
            ("closed 4102", closed(CloseCode::Stale)),
            ("closed 4103", closed(CloseCode::NoPong)),
            ("closed 4104", closed(CloseCode::Flood)),
            ("closed 4200", closed(CloseCode::Drain)),
            ("connection lost", counters.closed.get(Ending::Lost)),
            ("slow reader closed", dropped(DropReason::SlowConsumerClosed)),
            ("write timeout", dropped(DropReason::WriteTimeout)),
            ("live event skipped", dropped(DropReason::LiveLagging)),
            ("live event did not fit a mailbox", dropped(DropReason::MailboxFullLive)),
            ("store queue full", dropped(DropReason::StoreQueueFull)),
            ("answer to nobody", dropped(DropReason::Gone)),
            ("recovered", counters.recoveries.get(Recovered::Yes)),
            ("not recovered", counters.recoveries.get(Recovered::No)),
            ("resumed", counters.resumed),
            ("duplicate message", counters.domain.get("duplicate_messages")),
            ("recovery read", self.server.store.recovery_reads),
            ("send failed", refused(Code::SendFailed)),
            ("join failed", refused(Code::JoinFailed)),
            ("other content", refused(Code::Conflict)),
            ("not in room", refused(Code::NotInRoom)),
            ("limit reached", refused(Code::LimitReached)),
            ("rate limited", refused(Code::RateLimited)),
            ("no receive buffer", counters.plane_out_of_buffers),
            ("short send", counters.plane_short_sends),
            ("ping", counters.pings_sent),
            ("room left half-way", counters.turns_half_way),
        ]
    }
}
