//! What stands in the data of an event, however its name and its envelope look: shared by the native protocol and Socket.IO.
use super::Incoming;
use crate::stamp::Stamp;
use memchr::memchr;
use memchr::memmem::{self, Finder};
use std::sync::LazyLock;

/// What is searched for. Prepared once: that takes longer than a search.
macro_rules! keys {
    ($($name:ident = $key:literal;)*) => {
        $(static $name: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new($key));)*
    };
}

keys! {
    CHAT_MESSAGE = r#"{"type":"chat_message","data":{"#;
    CLIENT_TIMESTAMP = r#""clientTimestamp":"#;
    CODE = r#""code":""#;
    DUPLICATE = r#""duplicate":true"#;
    EPOCH = r#""epoch":""#;
    EVENTS = r#""events":["#;
    EVENTS_END = r#"],"recovered":"#;
    MESSAGE = r#""message":""#;
    OFFSET = r#""offset":"#;
    RECOVERED = r#""recovered":"#;
    REQUEST_ID = r#""requestId":""#;
    RETRY_AFTER_MS = r#""retryAfterMs":"#;
    ROOM_ID = r#""roomId":""#;
}

/// Reads an event by its name. `rest` begins behind the name; `body` is the whole message.
pub fn read<'a>(name: &[u8], rest: &'a [u8], body: &'a [u8]) -> Incoming<'a> {
    match name {
        b"broadcast" => stamp_in(rest).map_or(Incoming::Other, Incoming::Live),
        b"chat_message" => durable(rest).unwrap_or(Incoming::Other),
        b"heartbeat_response" => {
            let answer = number_after(rest, &CLIENT_TIMESTAMP);
            answer.map_or(Incoming::Other, |intended_ns| Incoming::HeartbeatAnswer { intended_ns })
        }
        b"ack" => ack(rest).unwrap_or(Incoming::Other),
        b"room_state" => room_state(rest, body).unwrap_or(Incoming::Other),
        b"error" => refused(rest),
        b"connection_established" => Incoming::Ready,
        b"server_closing" => Incoming::ServerClosing,
        _ => Incoming::Other,
    }
}

/// Calls `each` with stamp and offset of every chat message in the `events` of a recovered room, in order. Other durable events
/// are passed over, so offsets may jump. `body` is that of `Incoming::RoomState`.
pub fn recovered_events(body: &[u8], mut each: impl FnMut(Stamp, u64)) {
    let Some(list) = after(body, &EVENTS) else { return };
    let list = &list[..EVENTS_END.find(list).unwrap_or(list.len())];
    let mut starts = CHAT_MESSAGE.find_iter(list).peekable();
    while let Some(start) = starts.next() {
        let event = &list[start..starts.peek().copied().unwrap_or(list.len())];
        if let Some(Incoming::Durable { stamp, offset, .. }) = durable(event) {
            each(stamp, offset);
        }
    }
}

/// How a live event's id tells its stamp, so that a refusal can be laid to its account: `v`, room, publisher and number.
pub fn write_live_id(out: &mut Vec<u8>, stamp: Stamp) {
    out.push(b'v');
    super::decimal(out, stamp.room.into());
    out.push(b'.');
    super::decimal(out, stamp.publisher.into());
    out.push(b'.');
    super::decimal(out, stamp.number.into());
}

fn live_id(id: &[u8]) -> Option<Stamp> {
    let mut parts = id.strip_prefix(b"v")?.split(|byte| *byte == b'.').map(|part| number(part)?.try_into().ok());
    let (room, publisher, number) = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(Stamp { room, publisher, number, intended_ns: 0 })
}

/// The number behind the `j` of a join's id.
fn join_id(id: &[u8]) -> Option<u32> {
    number(id.strip_prefix(b"j")?)?.try_into().ok()
}

/// The first stamp. The first bar is almost always its own: names of rooms and users have none.
fn stamp_in(text: &[u8]) -> Option<Stamp> {
    let guess = memchr(b'|', text)?.checked_sub(3).and_then(|at| Stamp::parse(&text[at..]));
    guess.or_else(|| Stamp::find(text))
}

/// `message` with a stamp, then `offset` and `epoch`.
fn durable(data: &[u8]) -> Option<Incoming<'_>> {
    let text = after(data, &MESSAGE)?;
    let stamp = Stamp::parse(text)?;
    let rest = &text[Stamp::BYTES..];
    let rest = after(&rest[memchr(b'"', rest)?..], &OFFSET)?;
    Some(Incoming::Durable { stamp, offset: number_at(rest)?, epoch: string_after(rest, &EPOCH)? })
}

fn ack(data: &[u8]) -> Option<Incoming<'_>> {
    let request = bytes_after(data, &REQUEST_ID)?;
    if let Some(request) = join_id(request) {
        return Some(Incoming::Joined { request });
    }
    let stamp = Stamp::parse(request)?;
    Some(Incoming::Acked { stamp, is_duplicate: DUPLICATE.find(data).is_some() })
}

/// The room first, its position last: between them stand messages of any length.
fn room_state<'a>(data: &'a [u8], body: &'a [u8]) -> Option<Incoming<'a>> {
    let room = string_after(data, &ROOM_ID)?;
    let recovered = after(data, &RECOVERED).map(|value| value.starts_with(b"true"));
    let end = &data[memmem::rfind(data, EPOCH.needle())?..];
    let (epoch, offset) = (string_after(end, &EPOCH)?, number_after(end, &OFFSET)?);
    Some(Incoming::RoomState { room, recovered, epoch, offset, body })
}

fn refused(data: &[u8]) -> Incoming<'_> {
    let request = bytes_after(data, &REQUEST_ID).unwrap_or_default();
    Incoming::Refused {
        code: string_after(data, &CODE).unwrap_or_default(),
        stamp: Stamp::parse(request).or_else(|| live_id(request)),
        request: join_id(request),
        retry_after_ms: number_after(data, &RETRY_AFTER_MS),
    }
}

/// A refusal whose request is known from its envelope.
pub fn refused_request(data: &[u8], request: u32) -> Incoming<'_> {
    Incoming::Refused {
        code: string_after(data, &CODE).unwrap_or_default(),
        stamp: None,
        request: Some(request),
        retry_after_ms: number_after(data, &RETRY_AFTER_MS),
    }
}

/// What follows the first `key`.
fn after<'a>(text: &'a [u8], key: &Finder<'_>) -> Option<&'a [u8]> {
    Some(&text[key.find(text)? + key.needle().len()..])
}

/// What stands between the end of `key`, a quotation mark, and the next one.
fn bytes_after<'a>(text: &'a [u8], key: &Finder<'_>) -> Option<&'a [u8]> {
    let rest = after(text, key)?;
    Some(&rest[..memchr(b'"', rest)?])
}

fn string_after<'a>(text: &'a [u8], key: &Finder<'_>) -> Option<&'a str> {
    std::str::from_utf8(bytes_after(text, key)?).ok()
}

fn number_after(text: &[u8], key: &Finder<'_>) -> Option<u64> {
    number_at(after(text, key)?)
}

/// The digits that `text` begins with.
pub fn number_at(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    number(&text[..digits])
}

/// `digits` as a whole.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_end_where_digits_end() {
        assert_eq!(number_at(b"18446744073709551615,"), Some(u64::MAX));
        assert_eq!(number_at(b"18446744073709551616,"), None);
        assert_eq!((number_at(b"null"), number_at(b""), number_at(b"0}")), (None, None, Some(0)));
        assert_eq!((number(b"12x"), number(b"12")), (None, Some(12)));
    }

    #[test]
    fn a_bar_before_the_stamp_does_not_hide_it() {
        let stamp = Stamp { room: 1, publisher: 2, number: 3, intended_ns: 4 };
        let text = [b"a|b tl1|zz ".as_slice(), &stamp.to_text()].concat();
        assert_eq!(stamp_in(&text), None, "the first marker is damaged");
        assert_eq!(stamp_in(&[b"a|b ".as_slice(), &stamp.to_text()].concat()), Some(stamp));
        assert_eq!(stamp_in(b"||"), None);
    }

    proptest! {
        #[test]
        fn ids_of_live_events_tell_their_stamps(room: u32, publisher: u32, number: u32) {
            let stamp = Stamp { room, publisher, number, intended_ns: 0 };
            let mut id = Vec::new();
            write_live_id(&mut id, stamp);
            prop_assert!(id.len() <= 64);
            prop_assert_eq!(live_id(&id), Some(stamp));
            id.push(b'.');
            prop_assert_eq!(live_id(&id), None);
        }
    }
}
