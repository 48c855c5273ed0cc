//! What stands in the data of an event, however its name and its envelope look: shared by the native protocol and Socket.IO.
use super::Incoming;
use crate::stamp::Stamp;
use memchr::{memchr, memmem};

/// Reads an event by its name. `rest` begins behind the name; `body` is the whole message.
pub fn read<'a>(name: &[u8], rest: &'a [u8], body: &'a [u8]) -> Incoming<'a> {
    match name {
        b"broadcast" => stamp_in(rest).map_or(Incoming::Other, Incoming::Live),
        b"chat_message" => durable(rest).unwrap_or(Incoming::Other),
        b"heartbeat_response" => {
            let answer = number_after(rest, br#""clientTimestamp":"#);
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
    let Some(list) = after(body, br#""events":["#) else { return };
    let list = &list[..memmem::find(list, br#"],"recovered":"#).unwrap_or(list.len())];
    let mut starts = memmem::find_iter(list, br#"{"type":"chat_message","data":{"#).peekable();
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
    let text = after(data, br#""message":""#)?;
    let stamp = Stamp::parse(text)?;
    let rest = &text[Stamp::BYTES..];
    let rest = after(&rest[memchr(b'"', rest)?..], br#""offset":"#)?;
    Some(Incoming::Durable { stamp, offset: number_at(rest)?, epoch: string_after(rest, br#""epoch":""#)? })
}

fn ack(data: &[u8]) -> Option<Incoming<'_>> {
    let request = bytes_after(data, br#""requestId":""#)?;
    if let Some(request) = join_id(request) {
        return Some(Incoming::Joined { request });
    }
    let stamp = Stamp::parse(request)?;
    Some(Incoming::Acked { stamp, is_duplicate: memmem::find(data, br#""duplicate":true"#).is_some() })
}

/// The room first, its position last: between them stand messages of any length.
fn room_state<'a>(data: &'a [u8], body: &'a [u8]) -> Option<Incoming<'a>> {
    let room = string_after(data, br#""roomId":""#)?;
    let recovered = after(data, br#""recovered":"#).map(|value| value.starts_with(b"true"));
    let end = &data[memmem::rfind(data, br#""epoch":""#)?..];
    let (epoch, offset) = (string_after(end, br#""epoch":""#)?, number_after(end, br#""offset":"#)?);
    Some(Incoming::RoomState { room, recovered, epoch, offset, body })
}

fn refused(data: &[u8]) -> Incoming<'_> {
    let request = bytes_after(data, br#""requestId":""#).unwrap_or_default();
    Incoming::Refused {
        code: string_after(data, br#""code":""#).unwrap_or_default(),
        stamp: Stamp::parse(request).or_else(|| live_id(request)),
        request: join_id(request),
        retry_after_ms: number_after(data, br#""retryAfterMs":"#),
    }
}

/// What follows the first `key`.
fn after<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    Some(&text[memmem::find(text, key)? + key.len()..])
}

/// What stands between the end of `key`, a quotation mark, and the next one.
fn bytes_after<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let rest = after(text, key)?;
    Some(&rest[..memchr(b'"', rest)?])
}

fn string_after<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a str> {
    std::str::from_utf8(bytes_after(text, key)?).ok()
}

fn number_after(text: &[u8], key: &[u8]) -> Option<u64> {
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
