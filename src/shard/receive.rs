//! Bytes from the plane → messages → commands. The walk of a message begins here.
use super::conn::{NONE, Stage, flag};
use super::{Core, Shard};
use crate::base::close::CloseCode;
use crate::base::refusal::{Code, Refusal};
use crate::limits;
use crate::plane::{Plane, Received, SLACK_BYTES, Slot};
use crate::telemetry::DropReason;
use crate::wire::ws::{self, Item, Opcode, Place, WsError};
use std::mem;

impl<P: Plane> Shard<P> {
    /// Reads everything in a receive buffer.
    pub(super) fn received(&mut self, slot: Slot, buffer: &mut P::Buffer) {
        let len = buffer.len();
        self.core.counters.bytes_received += len as u64;
        match self.core.conns[slot as usize].kind.is_tls() {
            false => self.read(slot, buffer.bytes(), len),
            true => self.read_records(slot, buffer.bytes(), len),
        }
    }

    /// Reads `input[..end]`, behind which there is slack.
    pub(super) fn read(&mut self, slot: Slot, input: &mut [u8], end: usize) {
        let core = &mut self.core;
        if core.is_stream(slot) {
            return core.ignore_input(slot, end);
        }
        let conn = &mut core.conns[slot as usize];
        conn.heard = core.tick;
        conn.flags &= !flag::PINGED;
        if matches!(conn.stage, Stage::Free | Stage::Lingering | Stage::Closed) {
            return;
        }
        // The decoder's state lives in the side record only while it is in the middle of something.
        let (mut decoder, mut assembly) = match conn.active {
            NONE => Default::default(),
            active => {
                let active = &mut core.actives[active as usize];
                (mem::take(&mut active.decoder), mem::take(&mut active.assembly))
            }
        };
        let mut cursor = 0;
        loop {
            let limit = self.core.message_bytes_max(slot);
            if assembly.capacity() == 0 && cursor < end {
                // Only a partial message needs it; from the pool it costs nothing.
                assembly = self.core.buffers.take();
            }
            let result = match self.core.window_bits(slot) {
                None => decoder.next(input, &mut cursor, end, &mut assembly, limit),
                Some(_) => decoder.next_deflate(input, &mut cursor, end, &mut assembly, limit),
            };
            match result {
                Ok(None) => break,
                Ok(Some(item)) => self.item(slot, item, input, &mut assembly),
                Err(error) => {
                    self.core.websocket_error(slot, error);
                    break;
                }
            }
            if matches!(self.core.conns[slot as usize].stage, Stage::Free | Stage::Lingering | Stage::Closed) {
                break;
            }
        }
        let conn = &mut self.core.conns[slot as usize];
        if decoder.is_idle() && !decoder.is_finished() {
            self.core.buffers.give_back(assembly);
        } else if !matches!(conn.stage, Stage::Free | Stage::Closed) {
            let active = super::connections::activate(&mut self.core.actives, conn);
            (active.decoder, active.assembly) = (decoder, assembly);
        }
    }

    fn item(&mut self, slot: Slot, item: Item, input: &mut [u8], assembly: &mut Vec<u8>) {
        let core = &mut self.core;
        let stage = core.conns[slot as usize].stage;
        // A control frame may stand between two fragments, and then the assembly is still the decoder's.
        let is_message = matches!(item, Item::Text(_) | Item::Binary(_) | Item::Deflated { .. });
        match item {
            Item::Close { code, .. } => core.peer_closes(slot, code),
            Item::Text(_) | Item::Binary(_) | Item::Deflated { .. } if stage == Stage::Closing => {}
            Item::Ping(_) if stage == Stage::Closing => {}
            Item::Text(_) | Item::Binary(_) | Item::Deflated { .. } if core.conns[slot as usize].has(flag::LEAVING) => {
                core.counters.dropped.add(DropReason::Leaving, 1);
            }
            Item::Ping(payload) => ws::append_frame(core.outbox(slot), Opcode::Pong, payload.as_bytes()),
            Item::Pong(_) => {}
            Item::Text(place) if stage == Stage::Echo => core.echo(slot, Opcode::Text, place.bytes(input, assembly)),
            Item::Binary(place) if stage == Stage::Echo => {
                core.echo(slot, Opcode::Binary, place.bytes(input, assembly))
            }
            Item::Text(place) if stage == Stage::Carrier => {
                self.carrier_text(slot, place.bytes(input, assembly));
                assembly.clear();
            }
            Item::Binary(place) if stage == Stage::Carrier => {
                self.carrier_binary(slot, place.bytes(input, assembly));
                assembly.clear();
            }
            Item::Text(Place::Input(range)) => {
                core.spoke(slot);
                let len = range.len();
                self.message(slot, &mut input[range.start..range.end + SLACK_BYTES], len);
            }
            Item::Text(Place::Assembly) => {
                core.spoke(slot);
                let len = assembly.len();
                assembly.resize(len + SLACK_BYTES, 0);
                self.message(slot, assembly, len);
            }
            Item::Deflated { is_text, place } if is_text || stage == Stage::Echo => {
                self.deflated(slot, is_text, place.bytes(input, assembly));
            }
            Item::Binary(_) | Item::Deflated { .. } => {
                core.counters.ws_errors.add(CloseCode::Unsupported, 1);
                core.close(slot, CloseCode::Unsupported);
            }
        }
        if is_message {
            // It was all of what is in there.
            assembly.clear();
        }
    }

    /// A compressed message. It is inflated into memory of the shard, within the bound of a plain one.
    fn deflated(&mut self, slot: Slot, is_text: bool, deflated: &[u8]) {
        let core = &mut self.core;
        let mut message = mem::take(&mut core.inflated);
        let bytes_max = core.message_bytes_max(slot);
        let result = core.inflater.inflate(deflated, &mut message, bytes_max);
        match result {
            Err(error) => core.websocket_error(slot, error),
            Ok(()) if is_text && !ws::utf8::is_valid(&message) => core.websocket_error(slot, WsError::InvalidText),
            Ok(()) => {
                core.counters.messages_inflated += 1;
                let len = message.len();
                if core.conns[slot as usize].stage == Stage::Echo {
                    core.echo(slot, if is_text { Opcode::Text } else { Opcode::Binary }, &message);
                } else {
                    core.spoke(slot);
                    message.resize(len + SLACK_BYTES, 0);
                    self.message(slot, &mut message, len);
                }
            }
        }
        if message.capacity() <= ws::deflate::SCRATCH_KEPT_BYTES {
            self.core.inflated = message;
        }
    }
}

impl<P: Plane> Core<P> {
    /// A message is a sign of life. Before sign-in it is not: talking buys no time to bring a token (R-AUTH-1).
    pub(super) fn spoke(&mut self, slot: Slot) {
        let conn = &mut self.conns[slot as usize];
        if conn.stage == Stage::Open {
            let fallen = self.tick.wrapping_sub(conn.spoke).saturating_mul(self.settings.flood.per_tick);
            conn.flood = conn.flood.saturating_sub(fallen.try_into().unwrap_or(u16::MAX));
            conn.spoke = self.tick;
        }
    }

    /// Smaller before sign-in (R-AUTH-1).
    fn message_bytes_max(&self, slot: Slot) -> usize {
        match self.conns[slot as usize].stage {
            Stage::Carrier => self.settings.sio.packet_bytes_max,
            Stage::Greeting => self.settings.message_bytes_max.min(limits::UNAUTHENTICATED_MESSAGE_BYTES_MAX),
            _ => self.settings.message_bytes_max,
        }
    }

    /// Of permessage-deflate, where it was agreed on.
    fn window_bits(&self, slot: Slot) -> Option<u8> {
        let kind = self.conns[slot as usize].kind;
        if kind.is_native() { None } else { self.formats.get(kind.format()).window_bits() }
    }

    fn websocket_error(&mut self, slot: Slot, error: WsError) {
        let code = error.close_code();
        self.counters.ws_errors.add(code, 1);
        tracing::debug!(shard = self.id, slot, %error, "websocket error");
        self.close(slot, code);
    }

    fn echo(&mut self, slot: Slot, opcode: Opcode, message: &[u8]) {
        let Some(window_bits) = self.window_bits(slot) else {
            return ws::append_frame(self.outbox(slot), opcode, message);
        };
        let mut frame = mem::take(&mut self.transcoded);
        frame.clear();
        self.transcoder.deflater.append_frame(&mut frame, opcode, message, window_bits);
        self.outbox(slot).extend_from_slice(&frame);
        self.transcoded = frame;
    }

    /// A message that is no envelope (R-ENV-3): an error, and too many of them end the connection.
    pub(super) fn invalid_message(&mut self, slot: Slot, request: Option<&str>) {
        self.counters.messages_invalid += 1;
        self.counters.commands_refused.add(Code::InvalidFormat, 1);
        let now_ms = self.now.mono_ms();
        self.cool(slot);
        let active = self.active(slot);
        if now_ms.saturating_sub(active.invalid_since_ms) > limits::INVALID_WINDOW_MS {
            (active.invalid, active.invalid_since_ms) = (0, now_ms);
        }
        active.invalid += 1;
        if active.invalid > limits::INVALID_MESSAGES_MAX {
            return self.close(slot, CloseCode::Abuse);
        }
        self.send_private(slot, |native, out, stamp| {
            native.error(out, stamp, request, None, &Refusal::new(Code::InvalidFormat))
        });
    }

    /// An error to a connection of this shard.
    pub(super) fn refuse_here(&mut self, slot: Slot, request: &str, refusal: Refusal) {
        self.counters.commands_refused.add(refusal.code, 1);
        if self.charge.refused() && !self.admit(slot) {
            return;
        }
        self.send_private(slot, |native, out, stamp| native.error(out, stamp, Some(request), None, &refusal));
    }
}
