//! The domain's effects made real: frames into outboxes and logs, mail to other shards, jobs to the store, timers.
use super::conn::NONE;
use super::connections::Outboxes;
use super::conns::is_virtual;
use super::deliver::Mark;
use super::fanout::Lagging;
use super::formats::FormatId;
use super::mail::{Mail, Parting};
use super::{Core, Departure, engine};
use crate::base::close::CloseCode;
use crate::base::refusal::Refusal;
use crate::base::user::UserRef;
use crate::ids::{ConnRef, Ulid};
use crate::limits;
use crate::plane::{Plane, Slot};
use crate::rooms::effects::{Audience, Class, Effects, Requester, RoomTimer};
use crate::rooms::event::{Ack, Event, Snapshot, Status};
use crate::session::encode::{Encoder, Native, Stamp};
use crate::store::port::{ReadJob, WriteJob};
use crate::telemetry::{DropReason, Recovered};
use crate::wire::ws::{self, Opcode};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

impl<P: Plane> Effects for Core<P> {
    fn ack(&mut self, to: Requester<'_>, room: &str, ack: &Ack<'_>) {
        if let Ack::Sent { .. } = ack {
            self.counters.durable_acked += 1;
        }
        self.send_to(to.conn, |native, out, stamp| native.ack(out, stamp, to.request, room, ack));
    }

    fn refuse(&mut self, to: Requester<'_>, refusal: Refusal) {
        self.counters.commands_refused.add(refusal.code, 1);
        let draws = self.charge.refused();
        if draws
            && let Some(slot) = self.live(to.conn)
            && !self.admit(slot)
        {
            return;
        }
        let write = |native: &Encoder<Native>, out: &mut Vec<u8>, stamp: Stamp| {
            native.error(out, stamp, Some(to.request), None, &refusal)
        };
        self.send_charged(to.conn, draws, write);
    }

    fn send(&mut self, to: ConnRef, room: &str, event: &Event<'_>) {
        if let Event::Snapshot(Snapshot { recovered: Some(recovered), .. }) = event {
            self.counters.recoveries.add(if *recovered { Recovered::Yes } else { Recovered::No }, 1);
        }
        self.send_to(to, |native, out, stamp| native.event(out, stamp, room, event));
    }

    fn publish(&mut self, room: &Arc<str>, event: &Event<'_>, class: Class, audience: Audience<'_>) {
        if let Event::Broadcast { .. } | Event::Question { .. } = event {
            self.counters.live_published += 1;
        }
        let mut buffer = self.encode(|native, out, stamp| native.event(out, stamp, room, event));
        let frame = buffer.finish(Opcode::Text);
        // One copy for all other shards.
        let mut shared: Option<Bytes> = None;
        for &shard in audience.shards {
            if shard == self.id {
                self.publish_here(room, frame, class, audience.except, audience.read_at_ns);
                continue;
            }
            let mail = Mail::Publish {
                room: room.clone(),
                frame: shared.get_or_insert_with(|| Bytes::copy_from_slice(frame)).clone(),
                class,
                except: audience.except.iter().copied().filter(|conn| conn.shard == shard).collect(),
                read_at_ns: audience.read_at_ns,
                sent_at_ns: self.now.mono_ns,
            };
            match class {
                Class::Durable => self.mesh.post(shard, mail),
                Class::Live | Class::Presence => {
                    if self.mesh.offer(shard, mail).is_err() {
                        self.counters.dropped.add(DropReason::MailboxFullLive, 1);
                    }
                }
            }
        }
        self.frame = buffer;
    }

    fn subscribe(&mut self, conn: ConnRef, user: &UserRef, room: &Arc<str>) {
        match conn.shard == self.id {
            true => self.subscribe_here(conn, user, room),
            false => {
                let (user, room) = (user.clone(), room.clone());
                self.mesh.post(conn.shard, Mail::Subscribe { conn, user, room });
            }
        }
    }

    fn unsubscribe(&mut self, conn: ConnRef, room: &Arc<str>) {
        match conn.shard == self.id {
            true => self.unsubscribe_here(conn, room),
            false => self.mesh.post(conn.shard, Mail::Unsubscribe { conn, room: room.clone() }),
        }
    }

    fn resumed(&mut self, to: Requester<'_>, room: &str, part: Option<&Snapshot<'_>>) {
        let recovered = part.is_some_and(|snapshot| snapshot.recovered == Some(true));
        self.counters.recoveries.add(if recovered { Recovered::Yes } else { Recovered::No }, 1);
        let mut json = Vec::new();
        match to.request {
            engine::RECOVERY_REQUEST => self.recovery_part(room, part, &mut json),
            _ => self.native.resume_part(&mut json, room, part),
        }
        match to.conn.shard == self.id {
            true => self.room_resumed(to.conn, &json),
            false => {
                self.mailed_bytes += json.len();
                self.mesh.post(to.conn.shard, Mail::Resumed { to: to.conn, part: json.into() });
            }
        }
    }

    fn presence(&mut self, to: Requester<'_>, online: &[(&str, Status, u64)]) {
        let online = online.iter().map(|(user, status, at_ms)| ((*user).into(), *status, *at_ms)).collect();
        match to.conn.shard == self.id {
            true => self.presence_found(to.conn, online),
            false => self.mesh.post(to.conn.shard, Mail::PresenceFound { to: to.conn, online }),
        }
    }

    fn write(&mut self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>> {
        let result = self.store.write(job);
        self.jobs_in_flight += u64::from(result.is_ok());
        if result.is_err() {
            self.counters.dropped.add(DropReason::StoreQueueFull, 1);
        }
        result
    }

    fn read(&mut self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>> {
        let result = self.store.read(job);
        self.jobs_in_flight += u64::from(result.is_ok());
        if result.is_err() {
            self.counters.dropped.add(DropReason::StoreQueueFull, 1);
        }
        result
    }

    fn timer(&mut self, at_mono_ms: u64, timer: RoomTimer) {
        self.room_timers.set(at_mono_ms, timer);
    }

    fn retry(&mut self, room_key: u32) {
        self.retries.push(room_key);
    }

    fn new_id(&mut self) -> Ulid {
        self.ids.next(self.now.unix_ms)
    }

    fn count(&mut self, what: &'static str) {
        self.counters.domain.add(what, 1);
    }
}

impl<P: Plane> Core<P> {
    /// Encodes one message into the shard's frame buffer, which the caller gives back to `self.frame`.
    fn encode(&mut self, write: impl FnOnce(&Encoder<Native>, &mut Vec<u8>, Stamp)) -> crate::wire::ws::FrameBuffer {
        let stamp = Stamp { id: self.ids.next(self.now.unix_ms), unix_ms: self.now.unix_ms };
        let mut buffer = std::mem::take(&mut self.frame);
        buffer.clear();
        write(&self.native, buffer.payload(), stamp);
        buffer
    }

    /// One message for one connection, wherever it is.
    pub(super) fn send_to(&mut self, to: ConnRef, write: impl FnOnce(&Encoder<Native>, &mut Vec<u8>, Stamp)) {
        self.send_charged(to, false, write);
    }

    /// The same; on another shard it draws from the flood bucket there.
    fn send_charged(&mut self, to: ConnRef, draws: bool, write: impl FnOnce(&Encoder<Native>, &mut Vec<u8>, Stamp)) {
        if to.shard == self.id {
            match self.live(to) {
                Some(slot) => self.send_private(slot, write),
                None => self.counters.dropped.add(DropReason::Gone, 1),
            }
            return;
        }
        let mut buffer = self.encode(write);
        let frame = Bytes::copy_from_slice(buffer.finish(Opcode::Text));
        self.frame = buffer;
        self.mailed_bytes += frame.len();
        self.mesh.post(to.shard, Mail::Frame { to, frame, draws });
    }

    /// One message for a connection of this shard.
    pub(super) fn send_private(&mut self, slot: Slot, write: impl FnOnce(&Encoder<Native>, &mut Vec<u8>, Stamp)) {
        let mut buffer = self.encode(write);
        self.outbox_frame(slot, buffer.finish(Opcode::Text));
        self.frame = buffer;
    }

    /// Appends a native message's frame to a connection's outbox, in the connection's format.
    pub(super) fn outbox_frame(&mut self, slot: Slot, frame: &[u8]) {
        self.counters.frames_delivered += 1;
        let kind = self.conns[slot as usize].kind;
        if kind.is_native() {
            self.outbox(slot).extend_from_slice(frame);
            return self.close_if_flooded(slot);
        }
        if is_virtual(slot) {
            self.remember_private(slot, ws::payload(frame));
        }
        if self.formats.get(kind.format()).is_stream() {
            return self.send_to_stream(slot, frame);
        }
        let mut bytes = std::mem::take(&mut self.transcoded);
        bytes.clear();
        self.transcoder.transcode(self.formats.get(kind.format()), ws::payload(frame), None, &mut bytes);
        self.outbox(slot).extend_from_slice(&bytes);
        self.transcoded = bytes;
        self.close_if_flooded(slot);
    }

    /// A frame for the room's sessions on this shard.
    pub(super) fn publish_here(&mut self, room: &str, frame: &[u8], class: Class, except: &[ConnRef], read_at_ns: u64) {
        let Some(mut key) = self.fanout.find(room) else { return };
        let may_wait = class == Class::Presence && self.is_presence_rush(key);
        if read_at_ns != 0 && !may_wait {
            let from = self.fanout.rooms[key as usize].log.head();
            self.deliveries.marks.push(Mark { room: key, from, read_at_ns });
        }
        loop {
            let next = self.fanout.sibling(key);
            let format = self.fanout.rooms[key as usize].format;
            if format == FormatId::NATIVE {
                self.append_to(key, frame, class, may_wait, except);
            } else if self.formats.get(format).has_own_ids() {
                self.publish_to_each(key, frame, class, except);
            } else {
                let mut bytes = std::mem::take(&mut self.transcoded);
                bytes.clear();
                self.transcoder.transcode(self.formats.get(format), ws::payload(frame), Some(class), &mut bytes);
                if !bytes.is_empty() {
                    self.append_to(key, &bytes, class, may_wait, except);
                }
                self.transcoded = bytes;
            }
            match next {
                // Who was closed for being slow may have been the last in the next one.
                next if next == NONE || !self.fanout.rooms.contains(next as usize) => return,
                next => key = next,
            }
        }
    }

    /// Whether more has come and gone in this tick than can be told at once. Counts what is told to this room.
    fn is_presence_rush(&mut self, key: u32) -> bool {
        if self.presence_tick != self.tick {
            (self.presence_tick, self.presence_sends) = (self.tick, 0);
        }
        self.presence_sends += self.fanout.rooms[key as usize].members.len();
        self.presence_sends > limits::PRESENCE_SENDS_PER_TICK
    }

    /// A frame for the members of one of the room's logs.
    fn append_to(&mut self, key: u32, frame: &[u8], class: Class, may_wait: bool, except: &[ConnRef]) {
        let except: SmallVec<[u32; 4]> = except
            .iter()
            .filter_map(|conn| {
                let slot = self.live(*conn)?;
                self.fanout.subscription(self.conns[slot as usize].first_subscription, key)
            })
            .collect();
        let outboxes = Outboxes { actives: &self.actives, formats: &self.formats };
        let (conns, limit) = (&self.conns, self.settings.out_queue_bytes);
        let lagging = |fanout: &super::fanout::Fanout, subscription: u32| {
            let conn = &conns[fanout.subscriptions[subscription as usize].conn as usize];
            let unread = |key: u32| {
                let of = &fanout.subscriptions[key as usize];
                fanout.rooms[of.room as usize].lag(key, of)
            };
            let unsent = outboxes.waiting(conn, limit) + fanout.list(conn.first_subscription).map(unread).sum::<u64>();
            (limit != 0 && unsent + frame.len() as u64 > limit).then_some(match class {
                Class::Live | Class::Presence => Lagging::Skip,
                Class::Durable => Lagging::Close,
            })
        };
        let mut slow = Vec::new();
        let appended = match may_wait {
            false => self.fanout.append(key, frame, &except, lagging, &mut slow),
            true => self.fanout.append_waiting(self.tick, key, frame, &except, lagging, &mut slow),
        };
        self.counters.frames_delivered += appended.readers;
        self.counters.dropped.add(DropReason::LiveLagging, appended.skipped);
        for slot in slow {
            self.counters.dropped.add(DropReason::SlowConsumerClosed, 1);
            self.close(slot, CloseCode::SlowConsumer);
        }
    }

    pub(super) fn subscribe_here(&mut self, conn: ConnRef, user: &UserRef, room: &Arc<str>) {
        let Some(slot) = self.live(conn) else {
            // It went while the room was deciding: its home learns of the end only from here.
            let (user, room) = (user.clone(), room.clone());
            self.departures.push(Departure { conn, user, room, parting: Parting::Lost });
            return;
        };
        // Joins that were under way together were each let through (`may_join`): the limit holds here, where they arrive.
        if !self.may_join(slot, room) {
            let (user, room) = (user.clone(), room.clone());
            self.departures.push(Departure { conn, user, room, parting: Parting::OverLimit });
        }
        let conn = &mut self.conns[slot as usize];
        self.fanout.subscribe(slot, &mut conn.first_subscription, room, conn.kind.format());
    }

    pub(super) fn unsubscribe_here(&mut self, conn: ConnRef, room: &str) {
        if let Some(slot) = self.live(conn) {
            if is_virtual(slot) {
                self.forget_room(slot, room);
            }
            self.fanout.unsubscribe(&mut self.conns[slot as usize].first_subscription, room);
        }
    }
}
