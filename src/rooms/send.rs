//! Chat messages (R-CHAT-1 to 5): checks in their fixed order, one append, then ack and event once it is on disk.
//!
//! The store's writer knows which client ids were used, and idempotency is checked before slow mode and rate (R-CHAT-2). So a message
//! that those refuse still asks the writer, by a *probe* that stores nothing; its refusal waits in `Room::probes`.
use super::command::{Caller, Metadata};
use super::effects::Effects;
use super::event::Ack;
use super::room::{Cx, Room, waiting};
use crate::base::refusal::{Code, Refusal};
use crate::base::user::User;
use crate::ids::{client_id_of_envelope, is_short_id};
use crate::limits::PROBES_MAX;
use crate::store::port::{Append, EventKind, Outcome, Role, RoomType, Waiter, Write};
use std::sync::atomic::Ordering::Relaxed;

impl Room {
    pub(super) fn send<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        message: &str,
        message_type: Option<&str>,
        metadata: Option<Metadata<'_>>,
        client_id: Option<&str>,
    ) -> Result<(), Refusal> {
        let place = self.subscribed(caller)?;
        let client_id = client_id.or(client_id_of_envelope(caller.request));
        let body = check_fields(cx, message, message_type, metadata, client_id)?;
        let refusal = self.slow_mode_refusal(cx, caller).or_else(|| {
            let taken = caller.user.messages.take(cx.settings.messages, cx.now.mono_ns);
            taken.err().map(|wait_ns| Refusal::after_ns(Code::RateLimited, wait_ns))
        });
        let is_probe = refusal.is_some();
        if let Some(refusal) = refusal {
            // Without a client id it repeats nothing.
            if client_id.is_none() || self.probes.len() >= PROBES_MAX {
                return Err(refusal);
            }
            self.probes.push_back(refusal);
        }
        let make_member = self.row.kind == RoomType::Public && self.stored_role(caller.user.id()).is_none();
        let mut event = self.event(cx, caller, EventKind::Message);
        event.client_id = client_id.map(Into::into);
        event.body = body.into();
        event.detail = metadata.map(|metadata| metadata.json.into());
        let append = Append { room: self.row.pk, event, make_member, probe: is_probe };
        if let Err(overloaded) = cx.write(caller, Write::Append(append)) {
            if is_probe {
                return Err(self.probes.pop_back().unwrap_or(overloaded));
            }
            caller.user.messages.give_back(cx.settings.messages);
            return Err(overloaded);
        }
        if !is_probe {
            if let Some(slow_mode) = &mut self.slow_mode {
                slow_mode.mark(caller.user.id(), cx.now_ms());
            }
            caller.user.last_active_s.store(cx.now_s(), Relaxed);
            self.stop_typing(cx, place, caller.read_at_ns);
        }
        Ok(())
    }

    fn slow_mode_refusal<E: Effects>(&self, cx: &Cx<'_, E>, caller: &Caller<'_>) -> Option<Refusal> {
        let wait_ms = self.slow_mode.as_ref()?.wait_ms(caller.user.id(), cx.now_ms())?;
        (self.role(caller) < Some(Role::Moderator)).then(|| Refusal::after_ms(Code::SlowMode, wait_ms))
    }

    /// The writer's verdict.
    pub(super) fn appended<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        waiter: &Waiter,
        append: Append,
        outcome: Outcome,
    ) {
        let refusal = if append.probe { self.probes.pop_front() } else { None };
        let Some(sender) = waiting(waiter) else { return };
        if let Outcome::Appended { offset, became_member } = outcome {
            let event = append.event;
            let epoch = &self.row.epoch;
            let ack = Ack::Sent { id: event.id, offset, epoch, timestamp_ms: event.at_ms, is_duplicate: false };
            cx.ack(sender, &ack);
            if append.make_member {
                self.row.member_count += u64::from(became_member);
                if let Some(place) = self.online.find(&event.user_id) {
                    self.online.get_mut(place).set_member(true);
                }
            }
            return self.record(cx, event, offset, waiter.read_at_ns);
        }
        if !append.probe {
            if let Some(slow_mode) = &mut self.slow_mode {
                slow_mode.unmark(&append.event.user_id);
            }
            give_back(cx, waiter.user.as_deref());
        }
        match outcome {
            Outcome::Duplicate { offset, id, at_ms } => {
                cx.fx.count("duplicate_messages");
                let epoch = &self.row.epoch;
                cx.ack(sender, &Ack::Sent { id, offset, epoch, timestamp_ms: at_ms, is_duplicate: true });
            }
            Outcome::Conflict => cx.fx.refuse(sender, Code::Conflict.into()),
            Outcome::Unused => cx.fx.refuse(sender, refusal.unwrap_or(Code::SendFailed.into())),
            _ => cx.fx.refuse(sender, Code::SendFailed.into()),
        }
    }
}

/// A message that costs nothing after all.
pub(super) fn give_back<E: Effects>(cx: &Cx<'_, E>, user: Option<&User>) {
    if let Some(user) = user {
        user.messages.give_back(cx.settings.messages);
    }
}

/// The trimmed text. Lengths count code points.
fn check_fields<'a, E: Effects>(
    cx: &Cx<'_, E>,
    message: &'a str,
    message_type: Option<&str>,
    metadata: Option<Metadata<'_>>,
    client_id: Option<&str>,
) -> Result<&'a str, Refusal> {
    if metadata.is_some_and(|metadata| !metadata.is_object || metadata.json.len() > cx.settings.metadata_bytes_max) {
        return Err(Refusal::field("metadata"));
    }
    if client_id.is_some_and(|id| !is_short_id(id)) {
        return Err(Refusal::field("clientId"));
    }
    if message_type.is_some_and(|kind| kind != "text") {
        return Err(Code::TypeNotAllowed.into());
    }
    let body = message.trim();
    if body.is_empty() {
        return Err(Code::EmptyMessage.into());
    }
    // A character has at least one byte: short texts need no counting.
    let max = cx.settings.message_chars_max;
    if body.len() > max && body.chars().count() > max {
        return Err(Code::MessageTooLong.into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use crate::base::rate::Rate;
    use crate::base::refusal::{Code, Refusal};
    use crate::base::user::GlobalRole;
    use crate::limits::PROBES_MAX;
    use crate::rooms::Settings;
    use crate::rooms::command::RoomCommand;
    use crate::rooms::testing::{Client, Heard, JOIN, World, message, message_as, with_metadata};
    use crate::store::port::{EventKind, RoomType};

    fn prepared(messages: Rate) -> (World, Client, Client) {
        let mut world = World::new(Settings { messages, ..Settings::default() });
        let (anna, berta) = (world.client("anna"), world.client("berta"));
        world.join(&anna, "lobby");
        world.join(&berta, "lobby");
        world.forget();
        (world, anna, berta)
    }

    fn sent(offset: u64) -> Heard {
        Heard::Sent { offset, is_duplicate: false }
    }

    fn heard(offset: u64, user: &str, text: &str) -> Heard {
        Heard::Durable { offset, kind: EventKind::Message, user: user.into(), text: text.into() }
    }

    /// R-CHAT-4, R-ENV-4.
    #[test]
    fn nothing_is_told_before_the_commit_and_the_ack_comes_first() {
        let (mut world, anna, berta) = prepared(Rate::OFF);
        world.ask(&anna, "lobby", message("  hello \n"));
        world.ask(&anna, "lobby", message("again"));
        world.apply(true);
        assert_eq!((world.take(&anna), world.take(&berta)), (vec![], vec![]));
        world.settle();
        assert_eq!(world.take(&anna), [sent(1), heard(1, "anna", "hello"), sent(2), heard(2, "anna", "again")]);
        assert_eq!(world.take(&berta), [heard(1, "anna", "hello"), heard(2, "anna", "again")]);
    }

    /// R-CHAT-1, R-CHAT-2: the first fault in the order of the checks is the answer; limits in pairs.
    #[test]
    fn checks_in_order() {
        let (mut world, anna, _) = prepared(Rate::OFF);
        let text = |count| &*"ü".repeat(count).leak();
        let json = |bytes: usize| &*format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)).leak();
        let voice =
            |message| RoomCommand::Send { message, message_type: Some("voice"), metadata: None, client_id: None };
        for (command, expected) in [
            (message(text(2_000)), None),
            (message(text(2_001)), Some(Refusal::new(Code::MessageTooLong))),
            (message(" \u{2003}\n"), Some(Refusal::new(Code::EmptyMessage))),
            (voice(""), Some(Refusal::new(Code::TypeNotAllowed))),
            (voice(text(2_001)), Some(Refusal::new(Code::TypeNotAllowed))),
            (with_metadata(true, json(4_096)), None),
            (with_metadata(true, json(4_097)), Some(Refusal::field("metadata"))),
            (with_metadata(false, "[]"), Some(Refusal::field("metadata"))),
            (message_as(text(65), ""), Some(Refusal::field("clientId"))),
        ] {
            match expected {
                Some(refusal) => assert_eq!(world.answer(&anna, "lobby", command), Heard::Refused(refusal)),
                None => assert!(matches!(world.answer(&anna, "lobby", command), Heard::Sent { .. })),
            }
        }
        let stranger = world.client("stranger");
        assert_eq!(world.answer(&stranger, "lobby", voice("")), Heard::refused(Code::NotInRoom));
    }

    /// R-CHAT-3.
    #[test]
    fn a_repeat_gets_the_first_result_and_costs_nothing() {
        let (mut world, anna, berta) = prepared(Rate::per(3, 60_000));
        assert_eq!(world.answer(&anna, "lobby", message_as("c1", "hello")), sent(1));
        world.forget();
        for _ in 0..5 {
            let repeat = world.answer(&anna, "lobby", message_as("c1", "hello"));
            assert_eq!(repeat, Heard::Sent { offset: 1, is_duplicate: true });
            assert_eq!(world.answer(&anna, "lobby", message_as("c1", "other")), Heard::refused(Code::Conflict));
        }
        assert_eq!(world.take(&berta), []);
        assert_eq!(world.send(&anna, "lobby", "second"), sent(2));
        assert_eq!(world.send(&anna, "lobby", "third"), sent(3));
        // Out of tokens: idempotency is still checked first, and a refusal says when to come back.
        let Heard::Refused(refusal) = world.send(&anna, "lobby", "fourth") else { panic!("not refused") };
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::RateLimited, Some(20_000)));
        let repeat = world.answer(&anna, "lobby", message_as("c1", "hello"));
        assert_eq!(repeat, Heard::Sent { offset: 1, is_duplicate: true });
        assert_eq!(world.answer(&anna, "lobby", message_as("c1", "other")), Heard::refused(Code::Conflict));
        world.advance(20_000);
        assert_eq!(world.send(&anna, "lobby", "fourth"), sent(4));
    }

    /// R-SIO-1: the id of an envelope that the server made repeats.
    #[test]
    fn made_ids_are_no_idempotency_keys() {
        let (mut world, anna, _) = prepared(Rate::per(2, 60_000));
        for (text, offset) in [("one", 1), ("two", 2)] {
            world.ask_as(&anna, "lobby", "~7", message(text));
            world.settle();
            assert_eq!(world.take(&anna), [sent(offset), heard(offset, "anna", text)]);
        }
        let rows = &world.fx.store.by_name("lobby").unwrap().rows;
        assert!(rows.iter().all(|row| row.client_id.is_none()));
        // Nothing to look up: the refusal needs no answer of the writer.
        world.ask_as(&anna, "lobby", "~7", message("two"));
        assert!(matches!(world.take(&anna)[..], [Heard::Refused(Refusal { code: Code::RateLimited, .. })]));
        assert!(world.fx.writes.is_empty());
        // A client id in the data is a key all the same.
        world.advance(60_000);
        for is_duplicate in [false, true] {
            world.ask_as(&anna, "lobby", "~7", message_as("c1", "three"));
            world.settle();
            assert_eq!(world.take(&anna)[0], Heard::Sent { offset: 3, is_duplicate });
        }
    }

    #[test]
    fn a_failed_write_is_said_and_costs_nothing() {
        let (mut world, anna, berta) = prepared(Rate::per(1, 60_000));
        world.fx.store.failures = 1;
        assert_eq!(world.send(&anna, "lobby", "x"), Heard::refused(Code::SendFailed));
        world.fx.is_full = true;
        let Heard::Refused(refusal) = world.send(&anna, "lobby", "x") else { panic!("not refused") };
        assert!(refusal.code == Code::Overloaded && refusal.retry_after_ms.is_some());
        world.fx.is_full = false;
        assert_eq!(world.take(&berta), []);
        assert_eq!(world.send(&anna, "lobby", "x"), sent(1));
        // Refused anyway and the queue is full: the reason that stays.
        world.fx.is_full = true;
        assert!(matches!(world.send(&anna, "lobby", "y"), Heard::Refused(Refusal { code: Code::RateLimited, .. })));
    }

    #[test]
    fn probes_are_bounded() {
        let (mut world, anna, _) = prepared(Rate::per(1, 60_000));
        world.send(&anna, "lobby", "x");
        for _ in 0..PROBES_MAX {
            world.ask(&anna, "lobby", message("y"));
        }
        assert_eq!(world.fx.writes.len(), PROBES_MAX);
        world.forget();
        world.ask(&anna, "lobby", message("z"));
        assert_eq!((world.fx.writes.len(), world.take(&anna).len()), (PROBES_MAX, 1));
        world.settle();
        assert_eq!(world.take(&anna).len(), PROBES_MAX);
    }

    #[test]
    fn slow_mode_holds_members_back_but_no_moderators() {
        let mut world = World::new(Settings::default());
        let owner = world.furnished("club", RoomType::Public);
        let (anna, mut staff) = (world.client("anna"), world.client("staff"));
        staff.role = GlobalRole::Moderator;
        world.join_all(&[&owner, &anna, &staff], "club");
        let slow = |slow_mode_s| RoomCommand::Update { name: None, description: None, slow_mode_s: Some(slow_mode_s) };
        world.answer(&owner, "club", slow(30));
        assert_eq!(world.answer(&anna, "club", message_as("a", "one")), sent(2));
        world.advance(10_000);
        let two = world.send(&anna, "club", "two");
        assert_eq!(two, Heard::Refused(Refusal::after_ms(Code::SlowMode, 20_000)));
        let repeat = world.answer(&anna, "club", message_as("a", "one"));
        assert_eq!(repeat, Heard::Sent { offset: 2, is_duplicate: true });
        for client in [&owner, &staff] {
            assert!(matches!(world.send(client, "club", "x"), Heard::Sent { .. }));
            assert!(matches!(world.send(client, "club", "y"), Heard::Sent { .. }));
        }
        world.advance(20_000);
        world.fx.store.failures = 1;
        assert_eq!(world.send(&anna, "club", "two"), Heard::refused(Code::SendFailed));
        assert!(matches!(world.send(&anna, "club", "two"), Heard::Sent { .. }), "a failed one does not count");
        world.answer(&owner, "club", slow(0));
        assert!(matches!(world.send(&anna, "club", "three"), Heard::Sent { .. }));
    }

    /// R-ROOM-3.
    #[test]
    fn the_first_message_makes_a_member_of_a_public_room() {
        let (mut world, anna, berta) = prepared(Rate::OFF);
        world.send(&anna, "lobby", "one");
        world.send(&anna, "lobby", "two");
        assert_eq!(world.join(&berta, "lobby").member_count, 1);
        assert!(world.fx.store.by_name("lobby").unwrap().members.contains_key("anna"));
        assert_eq!(world.answer(&anna, "lobby", JOIN), Heard::Joined(Some(crate::store::port::Role::Member)));
    }

    #[test]
    fn times_do_not_decrease() {
        let (mut world, anna, _) = prepared(Rate::OFF);
        world.send(&anna, "lobby", "one");
        world.now.unix_ms -= 5_000;
        world.send(&anna, "lobby", "two");
        let rows = &world.fx.store.by_name("lobby").unwrap().rows;
        assert_eq!(rows[0].at_ms, rows[1].at_ms);
    }
}
