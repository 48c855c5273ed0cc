//! Live events between the subscribers of a room (R-LIVE-1): never stored, at most once, no ack unless asked for. `limits.live` is the shard's.
use super::command::Caller;
use super::effects::{Class, Effects};
use super::event::{Ack, Event};
use super::room::{Cx, Room, to};
use crate::base::refusal::Refusal;
use crate::ids::is_short_id;

impl Room {
    pub(super) fn broadcast<E: Effects>(
        &mut self,
        cx: &mut Cx<'_, E>,
        caller: &Caller<'_>,
        event: &str,
        payload: &str,
        include_self: bool,
        wants_ack: bool,
    ) -> Result<(), Refusal> {
        self.subscribed(caller)?;
        if !is_short_id(event) {
            return Err(Refusal::field("event"));
        }
        if wants_ack {
            // The ack precedes the event (R-ENV-4).
            cx.ack(to(caller), &Ack::Done);
        }
        let except: &[_] = if include_self { &[] } else { &[caller.conn] };
        let event = Event::Broadcast { user: caller.user, event, payload, timestamp_ms: cx.now.unix_ms };
        self.publish(cx, &event, Class::Live, except, caller.read_at_ns);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::base::refusal::{Code, Refusal};
    use crate::rooms::Settings;
    use crate::rooms::command::RoomCommand;
    use crate::rooms::testing::{Heard, World};

    #[test]
    fn goes_to_the_room_but_that_session() {
        let mut world = World::new(Settings::default());
        let (phone, laptop, berta, stranger) =
            (world.client("anna"), world.client("anna"), world.client("berta"), world.client("stranger"));
        world.join_all(&[&phone, &laptop, &berta], "lobby");
        world.forget();
        let shout =
            |event, include_self| RoomCommand::Broadcast { event, payload: "{}", include_self, wants_ack: false };
        let heard = || Heard::Broadcast { user: "anna".into(), event: "moved".into() };
        assert_eq!(world.run(&phone, "lobby", shout("moved", false)), []);
        assert_eq!((world.take(&laptop), world.take(&berta)), (vec![heard()], vec![heard()]));
        assert_eq!(world.run(&phone, "lobby", shout("moved", true)), [heard()]);
        assert_eq!(world.run(&stranger, "lobby", shout("moved", false)), [Heard::refused(Code::NotInRoom)]);
        assert_eq!(world.run(&phone, "lobby", shout("", false)), [Heard::Refused(Refusal::field("event"))]);
        assert!(world.fx.writes.is_empty());
    }

    /// Who asks for an ack gets it before its own event, and none if it was refused.
    #[test]
    fn an_ack_on_request() {
        let mut world = World::new(Settings::default());
        let (anna, stranger) = (world.client("anna"), world.client("stranger"));
        world.join(&anna, "lobby");
        world.forget();
        let shout = |event| RoomCommand::Broadcast { event, payload: "{}", include_self: true, wants_ack: true };
        let heard = Heard::Broadcast { user: "anna".into(), event: "moved".into() };
        assert_eq!(world.run(&anna, "lobby", shout("moved")), [Heard::Done, heard]);
        assert_eq!(world.run(&anna, "lobby", shout("")), [Heard::Refused(Refusal::field("event"))]);
        assert_eq!(world.run(&stranger, "lobby", shout("moved")), [Heard::refused(Code::NotInRoom)]);
    }
}
