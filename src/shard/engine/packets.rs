//! The way in: packets of a session's transport → what the protocol makes of them → commands of its virtual connections.
use crate::base::close::CloseCode;
use crate::ids::ConnRef;
use crate::plane::{Plane, Slot};
use crate::session::socketio::{Action, Auth, Namespace, Output};
use crate::shard::{Core, Shard};
use crate::telemetry::Ending;
use crate::wire::engineio::{Packet, Revision, Sid};

impl<P: Plane> Shard<P> {
    /// One packet of a client, from whatever transport. The session may be gone afterwards.
    pub(super) fn engine_packet(&mut self, key: u32, packet: Packet<'_>) {
        let core = &mut self.core;
        let now_ms = core.now.mono_ms();
        let Some(session) = core.engines.sessions.get_mut(key as usize) else { return };
        let (sid, revision) = (session.sid, session.revision);
        let is_sign_of_life =
            matches!((revision, packet), (Revision::V4, Packet::Pong(_)) | (Revision::V3, Packet::Ping(_)));
        let mut output = std::mem::take(&mut core.engines.output);
        session.protocol.receive(&core.settings.sio, &mut core.engines.tools, now_ms, packet, &mut output);
        if is_sign_of_life {
            core.engine_heard(key);
        }
        self.engine_act(sid, output);
    }

    /// After the handshake: in revision 3 the client is in `/` unasked.
    pub(super) fn engine_greet(&mut self, key: u32) {
        let core = &mut self.core;
        let Some(session) = core.engines.sessions.get_mut(key as usize) else { return };
        let sid = session.sid;
        let mut output = std::mem::take(&mut core.engines.output);
        session.protocol.open(&core.settings.sio, &mut output);
        self.engine_act(sid, output);
    }

    /// Does what the protocol asks for, in order. The session may end with any of it.
    fn engine_act(&mut self, sid: Sid, mut output: Output) {
        let actions = output.take_actions();
        for action in &actions {
            let Some(key) = self.core.engines.find(sid) else { break };
            match action {
                Action::Connect { namespace, auth } => self.core.engine_connect(key, *namespace, auth, &output),
                Action::Command { namespace, message } => {
                    if let Some(slot) = self.core.connection_of(key, *namespace) {
                        let (padded, len) = output.message(message);
                        self.engine_command(slot, padded, len);
                    }
                }
                Action::Disconnect { namespace } => {
                    if let Some(slot) = self.core.connection_of(key, *namespace) {
                        self.core.part_virtual(slot, Ending::Code(CloseCode::Normal), false);
                    }
                }
                Action::Send { packet } => {
                    self.core.copy_outboxes(key);
                    self.core.engine_push_text(key, output.text(packet));
                    self.core.end_if_over_limit(key);
                }
                Action::Close { why } => self.core.engine_closed(key, *why),
            }
        }
        output.give_back(actions);
        self.core.engines.output = output;
        self.settle_rooms();
    }

    /// A command, as native bytes with slack behind them: it goes the way of every other.
    fn engine_command(&mut self, slot: Slot, padded: &mut [u8], len: usize) {
        let core = &mut self.core;
        let conn = &mut core.conns[slot as usize];
        if conn.has(crate::shard::conn::flag::LEAVING) {
            return core.counters.dropped.add(crate::telemetry::DropReason::Leaving, 1);
        }
        if len > core.settings.message_bytes_max {
            core.counters.ws_errors.add(CloseCode::TooBig, 1);
            return core.close(slot, CloseCode::TooBig);
        }
        conn.heard = core.tick;
        core.spoke(slot);
        self.message(slot, padded, len);
    }
}

impl<P: Plane> Core<P> {
    /// The virtual connection of a namespace.
    pub(super) fn connection_of(&mut self, key: u32, namespace: Namespace) -> Option<Slot> {
        let connections = self.engines.get(key)?.connections.clone();
        let is_it =
            |slot: &Slot| self.engines.virtual_of(*slot).is_some_and(|virtual_| virtual_.namespace == namespace);
        connections.into_iter().find(is_it)
    }

    fn engine_connect(&mut self, key: u32, namespace: Namespace, auth: &Auth, output: &Output) {
        let text = |range: &Option<std::ops::Range<usize>>| range.as_ref().map(|range| output.text(range));
        let claim = match (text(&auth.pid), text(&auth.offset)) {
            // Session id and token, as the transcoder puts them together.
            (Some(pid), Some(offset)) => {
                pid.rsplit_once('.').and_then(|(_, token)| Sid::parse(token)).map(|pid| (pid, offset))
            }
            _ => None,
        };
        self.connect_namespace(key, namespace, text(&auth.token), claim);
    }

    /// What virtual connections have said goes before what the session says itself.
    fn copy_outboxes(&mut self, key: u32) {
        // What does not fit waits where it counts against its connection.
        if self.is_transport_full(key) {
            return;
        }
        let Some(connections) = self.engines.get(key).map(|session| session.connections.clone()) else { return };
        for slot in connections {
            self.copy_outbox(slot, key);
        }
    }

    /// A command that the server gives in the client's name: taken up as soon as nothing else is under way.
    pub(super) fn command_later(&mut self, conn: ConnRef, message: &[u8]) {
        self.active(conn.slot).held.push(message.into());
        self.admitted.push(conn);
    }
}
