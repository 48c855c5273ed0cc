//! The id of a native message made from a Socket.IO event: `~`, then the ack id if the client waits for an ack.
//!
//! The answer to the message carries its id, so the ack that the client is due follows from the answer alone. Such an id repeats from
//! one connection to the next and is no idempotency key: that is `data.clientId` (R-SIO-1).
use crate::ids::MADE_ID_MARK;
use crate::wire::json;

/// A client of the native protocol may use such an id too; it only gives up its idempotency.
const MARK: u8 = MADE_ID_MARK as u8;

/// What an id made here says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    pub ack_id: Option<u64>,
}

impl RequestId {
    /// Appends the id, without quotes: 1 to 17 characters that need no escaping.
    pub fn write(self, out: &mut Vec<u8>) {
        out.push(MARK);
        if let Some(id) = self.ack_id {
            json::integer(out, id);
        }
    }

    /// `None`: the id was not made here.
    pub fn parse(id: &[u8]) -> Option<RequestId> {
        let digits = id.strip_prefix(&[MARK])?;
        if digits.is_empty() {
            return Some(RequestId { ack_id: None });
        }
        let ack_id = str::from_utf8(digits).ok()?.parse().ok()?;
        digits.iter().all(u8::is_ascii_digit).then_some(RequestId { ack_id: Some(ack_id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::is_short_id;

    #[test]
    fn ids_say_what_they_were_made_of() {
        for (ack_id, text) in [(None, "~"), (Some(0), "~0"), (Some((1 << 53) - 1), "~9007199254740991")] {
            let mut out = Vec::new();
            RequestId { ack_id }.write(&mut out);
            assert_eq!(out, text.as_bytes());
            assert!(is_short_id(text));
            assert_eq!(RequestId::parse(&out), Some(RequestId { ack_id }));
        }
        for other in ["", "1", "~x", "~+1", "~1x", "~99999999999999999999999", "\u{7e}\u{fc}"] {
            assert_eq!(RequestId::parse(other.as_bytes()), None, "{other}");
        }
    }
}
