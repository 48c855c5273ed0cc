//! The opaque offset of connection state recovery (R-REC-3): a text that goes out as the last argument of an event and comes back in
//! a CONNECT.
//!
//! `<Unix ms>.<offset>.<epoch>.<room>` behind a durable event of a room, `<Unix ms>` behind anything else that needs one. It is the same
//! for everyone who gets the event, so it says nothing of other rooms; the time says from when on something of theirs can be missing.
use crate::ids::is_room_id;
use crate::limits::EPOCH_CHARS_MAX;
use crate::rooms::command::Position;

/// A parsed offset. It came from a client: believe nothing but its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset<'a> {
    /// The event's time stamp.
    pub unix_ms: u64,
    /// The event's room and its position there.
    pub at: Option<(&'a str, Position<'a>)>,
}

impl<'a> Offset<'a> {
    /// `None`: it is none of ours, and there is nothing to recover from.
    pub fn parse(text: &'a str) -> Option<Offset<'a>> {
        let Some((unix_ms, rest)) = text.split_once('.') else {
            return Some(Offset { unix_ms: number(text)?, at: None });
        };
        let (offset, rest) = rest.split_once('.')?;
        let (epoch, room) = rest.split_once('.')?;
        if epoch.len() > EPOCH_CHARS_MAX || !is_room_id(room) {
            return None;
        }
        let at = Some((room, Position { epoch, offset: number(offset)? }));
        Some(Offset { unix_ms: number(unix_ms)?, at })
    }
}

fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms() {
        assert_eq!(Offset::parse("1700000000000"), Some(Offset { unix_ms: 1_700_000_000_000, at: None }));
        let at = Some(("game:4.2", Position { epoch: "0VEP3NV6XEKS", offset: 17 }));
        assert_eq!(Offset::parse("1700.17.0VEP3NV6XEKS.game:4.2"), Some(Offset { unix_ms: 1_700, at }));
        for bad in [
            "",
            ".",
            "x",
            "-1",
            "+1",
            "1.",
            "1.2",
            "1.2.e",
            "1.2.e.",
            "1.x.e.lobby",
            "1.2.e.a/b",
            "99999999999999999999",
        ] {
            assert_eq!(Offset::parse(bad), None, "{bad}");
        }
        assert_eq!(Offset::parse("1.2.01234567890123456.lobby"), None);
    }

    proptest! {
        /// R-SEC-13.
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}|[0-9.a]{0,30}") {
            let _ = Offset::parse(&text);
        }
    }
}
