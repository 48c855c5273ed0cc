//! Answers: each command gets one, messages of a connection to a room in their order, and only such errors as there is cause for.
use super::conn::{Asked, Conn};
use super::model::{Check, Model, Stored, array, ensure, number, text};
use super::shape::Shape;
use serde_json::Value;

impl Model {
    pub(super) fn ack(&mut self, conn: &mut Conn, data: &Value, shape: &Shape) -> Check {
        let (id, result) = (text(data, "requestId")?, &data["result"]);
        let Some(asked) = conn.asked.remove(&id) else { return Err(format!("an ack of {id}, which is not open")) };
        self.in_order(conn, &id, &asked, true)?;
        match asked {
            Asked::Auth => {
                ensure!(text(result, "userId")? == conn.user, "signed in as somebody else");
            }
            Asked::Join { room, recover } => conn.awaiting.entry(room).or_default().push_back(recover),
            Asked::Leave { room, .. } => {
                // The room was closed, and its home did not know yet.
                let is_late = shape.has_few_rooms();
                ensure!(
                    conn.views.remove(&room).is_some() || is_late,
                    "an ack for leaving {room}, which this session is not in"
                );
            }
            Asked::Send { room, client_id, .. } => self.sent_ack(conn, room, client_id, result)?,
            Asked::History { room, .. } => {
                let messages: Vec<_> = array(result, "messages")?.iter().collect();
                if let (Some(first), Some(last)) = (messages.first(), messages.last()) {
                    self.run(&room, &messages, number(first, "offset")?, number(last, "offset")?)?;
                }
            }
            Asked::Resume { session, rooms } => {
                ensure!(conn.is_signed_in, "a resume before the sign-in");
                conn.session = Some((session, text(result, "resumeToken")?));
                let parts = array(result, "rooms")?;
                for (room, position) in &rooms {
                    let mut found = parts.iter().filter(|part| part["roomId"] == **room);
                    let (part, more) = (found.next(), found.next());
                    ensure!(part.is_some(), "{room} is not in the answer to a resume");
                    ensure!(more.is_none(), "{room} is twice in the answer to a resume");
                    if let Some(part) = part
                        && part["epoch"].is_string()
                        && !conn.closed_early.remove(room)
                    {
                        self.snapshot(conn, room, part, Some(position), shape)?;
                    }
                }
            }
            Asked::Other => {}
            asked @ (Asked::Broadcast { .. } | Asked::Typing { .. } | Asked::Heartbeat | Asked::Unknown) => {
                return Err(format!("an ack of {asked:?}"));
            }
        }
        Ok(())
    }

    fn sent_ack(&mut self, conn: &Conn, room: String, client_id: String, result: &Value) -> Check {
        self.acks_seen += 1;
        let stored = Stored { room, offset: number(result, "offset")?, id: text(result, "messageId")? };
        self.epoch(&stored.room, &text(result, "epoch")?)?;
        if result["duplicate"] != true {
            // R-ENV-4: the ack comes before the event that it is about.
            let next = conn.views.get(&stored.room).map_or(0, |view| view.next);
            ensure!(stored.offset >= next, "the ack of {} comes behind its event", stored.offset);
        }
        let known = self.acked.entry((conn.user.clone(), client_id)).or_insert_with(|| stored.clone());
        ensure!(*known == stored, "acknowledged as {known:?} and as {stored:?}");
        Ok(())
    }

    pub(super) fn error(&mut self, conn: &mut Conn, data: &Value, shape: &Shape) -> Check {
        let code = text(data, "code")?;
        let Some(id) = data["requestId"].as_str().filter(|_| code != "invalid_format") else {
            ensure!(code == "invalid_format" && conn.malformed > 0, "an error without a cause: {data}");
            conn.malformed -= 1;
            return Ok(());
        };
        let Some(asked) = conn.asked.remove(id) else {
            return Err(format!("an error to {id}, which is not open: {data}"));
        };
        let is_reused = matches!(&asked, Asked::Send { client_id, .. }
            if self.sent.get(&(conn.user.clone(), client_id.clone())).is_some_and(|contents| contents.len() > 1));
        let has_cause = match &*code {
            "auth_required" => conn.early.contains(id) && !conn.is_signed_in,
            "conflict" if is_reused => true,
            code => has_cause(&asked, code, shape),
        };
        ensure!(has_cause, "{asked:?} was refused as {code}");
        self.in_order(conn, id, &asked, false)?;
        if let Asked::Broadcast { room, number, .. } = asked {
            let cast = self.casts.get_mut(&(conn.number, room, number)).expect("it was sent");
            ensure!(cast.heard == 0, "a broadcast was refused and delivered");
            cast.is_refused = true;
        }
        Ok(())
    }

    /// Joins and leaves of a room are answered in the order asked, and so are messages. Errors may come early: some are found before
    /// the room is asked.
    fn in_order(&self, conn: &mut Conn, id: &str, asked: &Asked, is_ack: bool) -> Check {
        let (queues, room) = match asked {
            Asked::Join { room, .. } | Asked::Leave { room, .. } => (&mut conn.moves, room),
            Asked::Send { room, .. } => (&mut conn.sends, room),
            _ => return Ok(()),
        };
        let queue = queues.get_mut(room).expect("it was asked");
        let at = queue.iter().position(|other| other == id).expect("it was asked");
        ensure!(!is_ack || at == 0, "the ack of {id} overtook that of {}", queue[0]);
        queue.remove(at);
        Ok(())
    }
}

/// Whether the client, or what is wrong with the world, has given cause for this error.
fn has_cause(asked: &Asked, code: &str, shape: &Shape) -> bool {
    let limits = &shape.config.limits;
    match (code, asked) {
        ("unknown_type", Asked::Unknown) => true,
        ("rate_limited", Asked::Send { .. }) => limits.messages > 0,
        ("rate_limited", Asked::Broadcast { .. }) => limits.live > 0,
        ("rate_limited", _) => limits.commands > 0,
        ("overloaded", _) => shape.store.is_full > 0.0,
        ("limit_reached", Asked::Join { .. }) => shape.has_few_rooms(),
        ("send_failed", Asked::Send { .. }) | ("join_failed", Asked::Join { .. }) => shape.store.fails > 0.0,
        ("internal", Asked::Leave { .. } | Asked::History { .. }) => shape.store.fails > 0.0,
        (
            "not_in_room",
            Asked::Leave { is_sure, .. }
            | Asked::Send { is_sure, .. }
            | Asked::Broadcast { is_sure, .. }
            | Asked::Typing { is_sure, .. }
            | Asked::History { is_sure, .. },
        ) => !is_sure || shape.has_few_rooms(),
        ("not_in_room", Asked::Other) => true,
        _ => false,
    }
}
