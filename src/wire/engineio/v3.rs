//! Payloads of revision 3: each packet with its length in front.
//!
//! Text: `<length>:<packet>`, the length in UTF-16 code units, because the reference counts JavaScript's characters. Binary
//! (`application/octet-stream`, from browsers): a byte 0 (text) or 1 (binary), the digits of the length as bytes 0 to 9, a byte 255,
//! then as many bytes.
use super::PayloadError;
use crate::wire::json;

/// Digits of a length: nine count up to a gigabyte, more than any payload is allowed to have.
const DIGITS_MAX: usize = 9;

/// A packet cut out of a payload.
pub(super) enum Counted<'a> {
    Text(&'a str),
    /// With its type byte.
    Binary(&'a [u8]),
}

/// The next packet of a text payload that is not empty.
pub(super) fn next_text<'a>(rest: &mut &'a str) -> Result<Counted<'a>, PayloadError> {
    let head = &rest.as_bytes()[..rest.len().min(DIGITS_MAX + 1)];
    let colon = memchr::memchr(b':', head).ok_or(PayloadError::Length)?;
    let mut units = digits(head[..colon].iter().map(|digit| digit.wrapping_sub(b'0')))?;
    let text = &rest[colon + 1..];
    let mut end = 0;
    for char in text.chars() {
        if units == 0 {
            break;
        }
        // A length that ends within a pair of surrogates is none.
        units = units.checked_sub(char.len_utf16()).ok_or(PayloadError::Length)?;
        end += char.len_utf8();
    }
    if units > 0 {
        return Err(PayloadError::Length);
    }
    *rest = &text[end..];
    Ok(Counted::Text(&text[..end]))
}

/// The next packet of a binary payload that is not empty.
pub(super) fn next_binary<'a>(rest: &mut &'a [u8]) -> Result<Counted<'a>, PayloadError> {
    let (kind, after) = rest.split_first().ok_or(PayloadError::Length)?;
    let head = &after[..after.len().min(DIGITS_MAX + 1)];
    let end = memchr::memchr(255, head).ok_or(PayloadError::Length)?;
    let len = digits(head[..end].iter().copied())?;
    let (packet, after) = after[end + 1..].split_at_checked(len).ok_or(PayloadError::Length)?;
    *rest = after;
    match kind {
        0 => simdutf8::basic::from_utf8(packet).map(Counted::Text).map_err(|_| PayloadError::Utf8),
        1 => Ok(Counted::Binary(packet)),
        _ => Err(PayloadError::Length),
    }
}

/// Appends the length of a text packet and the colon.
pub(super) fn write_length(out: &mut Vec<u8>, packet: &str) {
    let units = if packet.is_ascii() { packet.len() } else { packet.encode_utf16().count() };
    write_ascii_length(out, units);
}

/// The same of a packet whose length is known.
pub(super) fn write_ascii_length(out: &mut Vec<u8>, units: usize) {
    json::integer(out, units as u64);
    out.push(b':');
}

fn digits(digits: impl ExactSizeIterator<Item = u8>) -> Result<usize, PayloadError> {
    if digits.len() == 0 {
        return Err(PayloadError::Length);
    }
    digits.into_iter().try_fold(0, |sum: usize, digit| match digit {
        0..=9 => Ok(sum * 10 + usize::from(digit)),
        _ => Err(PayloadError::Length),
    })
}
