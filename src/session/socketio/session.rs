//! The state of one Engine.IO session that speaks Socket.IO.
use super::heartbeat::Due;
use super::output::{Action, Auth, Output};
use super::{Heartbeat, Namespace, Settings, Tools, command};
use crate::limits::{NAMESPACES_MAX, SOCKETIO_CONNECT_BYTES_MAX, SOCKETIO_CONNECTS_MAX};
use crate::wire::engineio::{self, Revision};
use crate::wire::socketio::{Assembly, Kind, Packet, Violation, encode};
use crate::wire::tape::Value;

/// Why a session closes its transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// The client said so, by the close packet.
    Client,
    /// No pong in time (revision 4), or no ping (revision 3).
    PingTimeout,
    /// No namespace in `sio.connect_timeout_ms`.
    ConnectTimeout,
    /// A ping in revision 4, a pong in revision 3: the wrong side asks.
    HeartbeatDirection,
    Violation(Violation),
}

impl Close {
    /// Whether what the client missed from here on is kept for its return (R-REC-3): it may have been cut off.
    pub const fn is_recoverable(self) -> bool {
        matches!(self, Close::Client | Close::PingTimeout)
    }
}

/// One client. Namespaces are bits: bit i is `Settings::namespaces[i]`.
#[derive(Debug)]
pub struct Session {
    revision: Revision,
    is_closed: bool,
    heartbeat: Heartbeat,
    /// Monotonic ms; `u64::MAX` once a namespace was connected.
    connect_deadline_ms: u64,
    /// CONNECTs so far.
    connects: u32,
    /// Asked for, and being signed in.
    connecting: u8,
    connected: u8,
    /// Ended by the server, which the client may not know yet: its packets are dropped instead of ending the session.
    ended: u8,
    /// A packet whose attachments are due.
    assembly: Option<Box<Assembly>>,
}

impl Session {
    /// A session whose handshake was answered at `now_ms` (monotonic).
    pub fn new(settings: &Settings, revision: Revision, now_ms: u64) -> Session {
        Session {
            revision,
            is_closed: false,
            heartbeat: Heartbeat::new(settings, revision, now_ms),
            connect_deadline_ms: now_ms + settings.connect_timeout_ms,
            connects: 0,
            connecting: 0,
            connected: 0,
            ended: 0,
            assembly: None,
        }
    }

    /// What follows the handshake: in revision 3 the client is in `/` without having asked.
    pub fn open(&mut self, settings: &Settings, out: &mut Output) {
        if self.revision == Revision::V3
            && let Err(violation) = self.connect(settings, "/", Auth::default(), out)
        {
            self.close(Close::Violation(violation), out);
        }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When to call [`Session::expire`], monotonic ms.
    pub fn deadline_ms(&self) -> u64 {
        self.heartbeat.deadline_ms().min(self.connect_deadline_ms)
    }

    /// Namespaces that have, or will have, a connection of their own.
    pub fn namespaces(&self) -> impl Iterator<Item = Namespace> + use<> {
        let bits = self.connecting | self.connected;
        (0..NAMESPACES_MAX as u8).filter(move |index| bits & bit(*index) != 0)
    }

    pub fn is_connected(&self, namespace: Namespace) -> bool {
        self.connected & bit(namespace) != 0
    }

    /// One packet of the client, from whatever transport.
    pub fn receive(
        &mut self,
        settings: &Settings,
        tools: &mut Tools,
        now_ms: u64,
        packet: engineio::Packet<'_>,
        out: &mut Output,
    ) {
        if self.is_closed {
            return;
        }
        let result = match packet {
            engineio::Packet::Text(text) => self.text(settings, tools, text, out),
            engineio::Packet::Binary(bytes) => self.binary(settings, tools, bytes, out),
            packet => {
                self.engine_packet(settings, now_ms, packet, out);
                Ok(())
            }
        };
        if let Err(violation) = result {
            self.close(Close::Violation(violation), out);
        }
    }

    /// What time brings: pings, and who is late.
    pub fn expire(&mut self, settings: &Settings, now_ms: u64, out: &mut Output) {
        if self.is_closed {
            return;
        }
        if now_ms >= self.connect_deadline_ms {
            return self.close(Close::ConnectTimeout, out);
        }
        match self.heartbeat.due(settings, now_ms) {
            Due::Nothing => {}
            Due::Ping => out.send(|bytes| _ = engineio::Packet::Ping("").write(self.revision, bytes)),
            Due::Gone => self.close(Close::PingTimeout, out),
        }
    }

    /// The connection of a namespace was signed in, and the client told so (by what became of `connection_established`, or by
    /// `encode::connect`). With `sio.app_events` it joins the room of its namespace.
    pub fn connected(&mut self, settings: &Settings, namespace: Namespace, out: &mut Output) {
        if self.is_closed || self.connecting & bit(namespace) == 0 {
            return;
        }
        self.connecting &= !bit(namespace);
        self.connected |= bit(namespace);
        self.connect_deadline_ms = u64::MAX;
        if settings.app_events {
            out.command(namespace, |bytes| command::join_namespace_room(settings.name(namespace), bytes));
        }
    }

    /// The server ended the connection of a namespace, or did not let the client in.
    pub fn ended(&mut self, namespace: Namespace) {
        if (self.connecting | self.connected) & bit(namespace) != 0 {
            self.forget(namespace);
            self.ended |= bit(namespace);
        }
    }

    fn engine_packet(&mut self, settings: &Settings, now_ms: u64, packet: engineio::Packet<'_>, out: &mut Output) {
        match (packet, self.revision) {
            (engineio::Packet::Pong(_), Revision::V4) => self.heartbeat.heard(settings, self.revision, now_ms),
            (engineio::Packet::Ping(text), Revision::V3) => {
                self.heartbeat.heard(settings, self.revision, now_ms);
                out.send(|bytes| _ = engineio::Packet::Pong(text).write(Revision::V3, bytes));
            }
            (engineio::Packet::Ping(_) | engineio::Packet::Pong(_), _) => self.close(Close::HeartbeatDirection, out),
            (engineio::Packet::Close, _) => self.close(Close::Client, out),
            // Nothing that a client says outside an upgrade; harmless, and ignored by the reference too.
            _ => {}
        }
    }

    fn text(&mut self, settings: &Settings, tools: &mut Tools, text: &str, out: &mut Output) -> Result<(), Violation> {
        if self.assembly.is_some() {
            return Err(Violation::TextInBinary);
        }
        let packet = Packet::parse(self.revision, text)?;
        match packet.kind {
            Kind::ConnectError => return Err(Violation::ClientError),
            Kind::Connect => return self.connect_packet(settings, tools, &packet, out),
            _ => {}
        }
        if text.len() > settings.packet_bytes_max {
            return Err(Violation::TooLarge);
        }
        let namespace = settings.namespace(packet.namespace).ok_or(Violation::NotConnected)?;
        if (self.connected | self.connecting | self.ended) & bit(namespace) == 0 {
            return Err(Violation::NotConnected);
        }
        if packet.attachments > 0 {
            self.assembly = Some(Box::new(Assembly::new(text, &packet, settings.packet_bytes_max)));
            return Ok(());
        }
        self.act(settings, tools, namespace, &packet, None, out)
    }

    fn binary(
        &mut self,
        settings: &Settings,
        tools: &mut Tools,
        bytes: &[u8],
        out: &mut Output,
    ) -> Result<(), Violation> {
        let assembly = self.assembly.as_mut().ok_or(Violation::UnexpectedBinary)?;
        if !assembly.add(bytes)? {
            return Ok(());
        }
        let Some(assembly) = self.assembly.take() else { return Ok(()) };
        let packet = Packet::parse(self.revision, assembly.text())?;
        let namespace = settings.namespace(packet.namespace).ok_or(Violation::NotConnected)?;
        self.act(settings, tools, namespace, &packet, Some(&assembly), out)
    }

    /// A whole packet of a namespace that exists.
    fn act(
        &mut self,
        settings: &Settings,
        tools: &mut Tools,
        namespace: Namespace,
        packet: &Packet<'_>,
        assembly: Option<&Assembly>,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Tools { json, arguments } = tools;
        arguments.clear();
        json.payload(packet.kind, packet.payload, |payload| match (assembly, payload) {
            (Some(assembly), Some(payload)) => assembly.write(payload, arguments),
            _ => {
                arguments.extend_from_slice(packet.payload.as_bytes());
                Ok(())
            }
        })??;
        if packet.kind == Kind::Disconnect && (self.connecting | self.connected) & bit(namespace) != 0 {
            self.forget(namespace);
            out.push(Action::Disconnect { namespace });
            return Ok(());
        }
        if self.ended & bit(namespace) != 0 {
            return Ok(());
        }
        // The client waits for the answer to its CONNECT before it sends events.
        if !self.is_connected(namespace) {
            return Err(Violation::NotConnected);
        }
        match packet.kind {
            Kind::Event | Kind::BinaryEvent => {
                command::event(settings, namespace, arguments, packet.ack_id, out);
            }
            Kind::Ack | Kind::BinaryAck => {
                if let Some(ask_id) = packet.ack_id {
                    command::answer(namespace, ask_id, arguments, out);
                }
            }
            // Connect and ConnectError were taken care of, a Disconnect too.
            Kind::Connect | Kind::ConnectError | Kind::Disconnect => {}
        }
        Ok(())
    }

    fn connect_packet(
        &mut self,
        settings: &Settings,
        tools: &mut Tools,
        packet: &Packet<'_>,
        out: &mut Output,
    ) -> Result<(), Violation> {
        if packet.payload.len() > SOCKETIO_CONNECT_BYTES_MAX {
            return Err(Violation::TooLarge);
        }
        let auth = tools.json.payload(packet.kind, packet.payload, |payload| {
            let object = payload.and_then(Value::as_object).unwrap_or_default();
            let mut text = |field| {
                let text = object.value(field).and_then(Value::as_str)?;
                Some(out.write(|bytes| bytes.extend_from_slice(text.as_bytes())))
            };
            Auth { token: text("token"), pid: text("pid"), offset: text("offset") }
        })?;
        self.connect(settings, packet.namespace, auth, out)
    }

    fn connect(&mut self, settings: &Settings, name: &str, auth: Auth, out: &mut Output) -> Result<(), Violation> {
        self.connects += 1;
        if self.connects > SOCKETIO_CONNECTS_MAX {
            return Err(Violation::TooManyConnects);
        }
        let Some(namespace) = settings.namespace(name) else {
            out.send(|bytes| encode::connect_error(bytes, self.revision, name, "Invalid namespace", None));
            return Ok(());
        };
        if (self.connecting | self.connected) & bit(namespace) != 0 {
            // Revision 3: `/` was connected unasked, and some clients ask all the same.
            return if self.revision == Revision::V3 { Ok(()) } else { Err(Violation::AlreadyConnected) };
        }
        self.ended &= !bit(namespace);
        self.connecting |= bit(namespace);
        out.push(Action::Connect { namespace, auth });
        Ok(())
    }

    fn forget(&mut self, namespace: Namespace) {
        self.connecting &= !bit(namespace);
        self.connected &= !bit(namespace);
    }

    fn close(&mut self, why: Close, out: &mut Output) {
        self.is_closed = true;
        self.assembly = None;
        out.push(Action::Close { why });
    }
}

/// Of a namespace. Those beyond the eighth, which the configuration does not allow, have none.
fn bit(namespace: Namespace) -> u8 {
    1_u8.checked_shl(namespace.into()).unwrap_or(0)
}

const _: () = assert!(NAMESPACES_MAX <= u8::BITS as usize);
