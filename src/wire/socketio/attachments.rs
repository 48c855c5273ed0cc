//! Binary: attachments that follow a packet, and their place in its payload.
//!
//! On the wire of Socket.IO a payload holds `{"_placeholder":true,"num":i}` where the i-th attachment belongs. Inside the server,
//! and towards clients of other protocols, the same place holds `{"$binary":"<base64>"}`, so that a payload is one JSON value.
use super::{Packet, Violation};
use crate::limits::ATTACHMENTS_MAX;
use crate::wire::{json, tape::Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;

/// How binary starts in JSON. In valid JSON these bytes stand nowhere else: within a string the quotes would be escaped.
pub const BINARY_OPEN: &[u8] = br#"{"$binary":""#;
/// How it ends, behind the base64.
pub const BINARY_CLOSE: &[u8] = br#""}"#;

/// A packet whose attachments are still to come. Allocated for binary packets only.
#[derive(Debug)]
pub struct Assembly {
    text: Box<str>,
    due: usize,
    /// All attachments, one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: SmallVec<[u32; ATTACHMENTS_MAX]>,
    bytes_max: usize,
}

impl Assembly {
    /// `text` is the Socket.IO packet that `packet` was read from; `bytes_max` bounds it together with its attachments
    /// (`sio.max_payload_bytes`).
    pub fn new(text: &str, packet: &Packet<'_>, bytes_max: usize) -> Assembly {
        let bytes_max = bytes_max.min(u32::MAX as usize);
        Assembly { text: text.into(), due: packet.attachments, bytes: Vec::new(), ends: SmallVec::new(), bytes_max }
    }

    /// The next attachment; true once all are there.
    ///
    /// # Errors
    /// `TooLarge`; `UnexpectedBinary` if none is due.
    pub fn add(&mut self, attachment: &[u8]) -> Result<bool, Violation> {
        if self.is_complete() {
            return Err(Violation::UnexpectedBinary);
        }
        if self.text.len() + self.bytes.len() + attachment.len() > self.bytes_max {
            return Err(Violation::TooLarge);
        }
        self.bytes.extend_from_slice(attachment);
        self.ends.push(self.bytes.len() as u32);
        Ok(self.is_complete())
    }

    pub fn is_complete(&self) -> bool {
        self.ends.len() >= self.due
    }

    /// The packet's text as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Appends the payload as compact JSON, with its attachments in it.
    ///
    /// # Errors
    /// `Placeholder`: each is a number in range, and none comes twice. The last is more than the protocol's text asks: a payload of
    /// a thousand places for one attachment would be a thousand times as large as what came in. No client writes one.
    pub fn write(&self, payload: Value<'_, '_>, out: &mut Vec<u8>) -> Result<(), Violation> {
        let mut is_used = [false; ATTACHMENTS_MAX];
        self.write_value(payload, &mut is_used, out)
    }

    fn write_value(
        &self,
        value: Value<'_, '_>,
        is_used: &mut [bool; ATTACHMENTS_MAX],
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        if let Some(object) = value.as_object() {
            if object.value("_placeholder").and_then(Value::as_bool) == Some(true) {
                let index = object.value("num").and_then(Value::as_u64).ok_or(Violation::Placeholder)? as usize;
                let bytes = self.attachment(index).ok_or(Violation::Placeholder)?;
                if std::mem::replace(&mut is_used[index], true) {
                    return Err(Violation::Placeholder);
                }
                write_binary(out, bytes);
                return Ok(());
            }
            let mut separator = b'{';
            for (key, value) in object {
                out.push(separator);
                separator = b',';
                json::string(out, key);
                out.push(b':');
                self.write_value(value, is_used, out)?;
            }
            if separator == b'{' {
                out.push(b'{');
            }
            out.push(b'}');
            return Ok(());
        }
        if let Some(items) = value.as_array() {
            let mut separator = b'[';
            for item in items {
                out.push(separator);
                separator = b',';
                self.write_value(item, is_used, out)?;
            }
            if separator == b'[' {
                out.push(b'[');
            }
            out.push(b']');
            return Ok(());
        }
        value.write(out);
        Ok(())
    }

    fn attachment(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(start..end)
    }
}

/// Appends `{"$binary":"…"}`.
pub fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(BINARY_OPEN);
    let start = out.len();
    out.resize(start + base64::encoded_len(bytes.len(), true).unwrap_or_default(), 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    debug_assert!(written.is_ok(), "as long as was computed");
    out.extend_from_slice(BINARY_CLOSE);
}

/// Splits a payload that the server holds: appends it to `out` with placeholders, and each attachment to `attachments`, which tells
/// where it ends in `ends`.
///
/// Returns whether there was any. What is no base64 stays what it is; so does all of it if there are more than
/// `limits::ATTACHMENTS_MAX`, which receivers would not take. `out` is only appended to if the result is true.
pub fn split_binary(
    payload: &[u8],
    out: &mut Vec<u8>,
    attachments: &mut Vec<u8>,
    ends: &mut SmallVec<[u32; ATTACHMENTS_MAX]>,
) -> bool {
    attachments.clear();
    ends.clear();
    let (start, mut copied) = (out.len(), 0);
    for at in memchr::memmem::find_iter(payload, BINARY_OPEN) {
        let from = at + BINARY_OPEN.len();
        let Some(len) = memchr::memchr(b'"', &payload[from..]) else { break };
        let to = from + len;
        let before = attachments.len();
        let is_whole = payload[to..].starts_with(BINARY_CLOSE);
        if !is_whole || STANDARD.decode_vec(&payload[from..to], attachments).is_err() {
            attachments.truncate(before);
            continue;
        }
        if ends.len() == ATTACHMENTS_MAX {
            ends.clear();
            break;
        }
        out.extend_from_slice(&payload[copied..at]);
        out.extend_from_slice(br#"{"_placeholder":true,"num":"#);
        json::integer(out, ends.len() as u64);
        out.push(b'}');
        ends.push(attachments.len() as u32);
        copied = to + BINARY_CLOSE.len();
    }
    if ends.is_empty() {
        out.truncate(start);
        return false;
    }
    out.extend_from_slice(&payload[copied..]);
    true
}

#[cfg(test)]
mod tests;
