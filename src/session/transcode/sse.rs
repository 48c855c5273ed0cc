//! Native messages → server-sent events (R-SSE-1): `event` is the native type, `data` the native data object, and durable events carry
//! an `id`, the position behind them.
//!
//! What was missed comes as the events that it would have been, each with its own id, behind a `room_state` whose `events` are left empty:
//! a page hears of them by the handlers that it has, and a stream that breaks in between goes on exactly there.
use super::Parts;
use crate::rooms::effects::Class;
use crate::session::stream::Position;
use crate::wire::sse::Block;
use crate::wire::{json, raw};

/// One event of a native message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEvent<'a> {
    kind: &'a [u8],
    /// The data object, in two pieces.
    data: [&'a [u8]; 2],
    /// The room, and the position that a reader has in it once it has seen this. None of an event that does not move it.
    pub position: Option<(&'a [u8], Position)>,
}

impl<'a> StreamEvent<'a> {
    /// Appends what is the same in every stream. The id follows, if there is one, and `end`.
    pub fn begin<'o>(&self, out: &'o mut Vec<u8>) -> Block<'o> {
        Block::new(out).event(self.kind).data(&self.data)
    }

    /// A durable event, by what its data says.
    fn durable(kind: &'a [u8], data: &'a [u8]) -> StreamEvent<'a> {
        StreamEvent { kind, data: [data, b""], position: Place::of(data).position(0) }
    }
}

/// Calls back with each event that a native message becomes: one, or a snapshot and what its reader missed. `class` says what was
/// published; `None` is a message for one connection.
pub fn events<'a>(native: &'a [u8], class: Option<Class>, mut each: impl FnMut(StreamEvent<'a>)) {
    let Some(Parts { kind, data, .. }) = Parts::of(native) else { return };
    match class {
        Some(Class::Durable) => each(StreamEvent::durable(kind, data)),
        None if kind == b"room_state" => snapshot(kind, data, each),
        _ => each(StreamEvent { kind, data: [data, b""], position: None }),
    }
}

/// Appends the events of a stream of one room: their ids are the same for all its readers.
pub fn transcode(native: &[u8], class: Option<Class>, out: &mut Vec<u8>) {
    events(native, class, |event| {
        let block = event.begin(out);
        match event.position {
            Some((_, position)) => block.id_of(|out| position.write(out)).end(),
            None => block.end(),
        }
    });
}

/// Appends the last event, which stands for a close frame. `reconnect` says whether to come back is of any use.
pub fn close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let mut data = Vec::with_capacity(96);
    json::object(&mut data, |data| {
        data.opt_num("code", code.map(u64::from)).str("reason", reason);
        data.bool("reconnect", code.is_none_or(|code| matches!(code, 1011 | 4100..=4299)));
    });
    Block::new(out).event(b"closed").data(&[&data]).end();
}

/// Whether this is an error after which the same request may succeed. The commands of a stream are its joins, so a room is missing then.
pub fn is_retryable_error(native: &[u8]) -> bool {
    Parts::of(native).is_some_and(|Parts { kind, data, .. }| {
        kind == b"error" && members(data).any(|(key, value)| key == b"\"retryable\"" && value == b"true")
    })
}

/// The snapshot stands before what was missed, and so does its id.
fn snapshot<'a>(kind: &'a [u8], data: &'a [u8], mut each: impl FnMut(StreamEvent<'a>)) {
    let place = Place::of(data);
    let missed = raw::members(data).find(|(key, _)| &data[key.clone()] == b"\"events\"");
    let Some((_, missed)) = missed else {
        return each(StreamEvent { kind, data: [data, b""], position: place.position(0) });
    };
    // The brackets stay.
    let without = [&data[..missed.start + 1], &data[missed.end - 1..]];
    let missed = &data[missed];
    let count = raw::elements(missed).count() as u64;
    each(StreamEvent { kind, data: without, position: place.position(count) });
    for event in raw::elements(missed) {
        let (mut kind, mut data) = (None, None);
        for (key, value) in members(&missed[event]) {
            match key {
                b"\"type\"" => kind = plain(value),
                b"\"data\"" => data = Some(value),
                _ => {}
            }
        }
        if let (Some(kind), Some(data)) = (kind, data) {
            each(StreamEvent::durable(kind, data));
        }
    }
}

/// Raw keys and values.
fn members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    raw::members(object).map(|(key, value)| (&object[key], &object[value]))
}

/// The content of a raw string that holds no escape: names and ids of ours.
fn plain(value: &[u8]) -> Option<&[u8]> {
    let content = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    memchr::memchr(b'\\', content).is_none().then_some(content)
}

/// A raw integer.
fn integer(value: &[u8]) -> Option<u64> {
    str::from_utf8(value).ok()?.parse().ok()
}

/// What an object says of a place in a room's stream.
#[derive(Default)]
struct Place<'a> {
    room: Option<&'a [u8]>,
    epoch: Option<&'a [u8]>,
    offset: Option<u64>,
}

impl<'a> Place<'a> {
    fn of(data: &'a [u8]) -> Place<'a> {
        let mut place = Place::default();
        for (key, value) in members(data) {
            match key {
                b"\"roomId\"" => place.room = plain(value),
                b"\"epoch\"" => place.epoch = plain(value),
                b"\"offset\"" => place.offset = integer(value),
                _ => {}
            }
        }
        place
    }

    /// So many events before it.
    fn position(&self, before: u64) -> Option<(&'a [u8], Position)> {
        Some((self.room?, Position::new(self.epoch?, self.offset?.checked_sub(before)?)?))
    }
}

#[cfg(test)]
#[path = "sse/tests.rs"]
mod tests;
