//! The mark that every message of a run carries: enough for a receiver to judge it alone.
//!
//! Text of fixed width, so that no JSON encoding changes it and a sender can overwrite it in place:
//! `tl1|room|publisher|number|intended|`, the fields in hexadecimal.
use memchr::memmem;

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Number of the room over all layers of the scenario: see `scenario::Scenario::room_number`.
    pub room: u32,
    /// Place of the sender among the publishers of its room, from 0: see `scenario::Layer::publishers`.
    pub publisher: u32,
    /// Counts what this publisher has sent to this room, from 1 without a gap.
    pub number: u32,
    /// When it was to be sent, ns since the start of the run. Not when it was.
    pub intended_ns: u64,
}

/// Begins every stamp. Its last digit is the version of the format.
pub const MARKER: &[u8] = b"tl1|";

impl Stamp {
    /// Bytes of the text form; no payload is shorter.
    pub const BYTES: usize = 4 + 9 + 9 + 9 + 17;

    /// The text form.
    pub fn to_text(self) -> [u8; Stamp::BYTES] {
        let mut text = [b'|'; Stamp::BYTES];
        text[..4].copy_from_slice(MARKER);
        hex(&mut text[4..12], self.room.into());
        hex(&mut text[13..21], self.publisher.into());
        hex(&mut text[22..30], self.number.into());
        hex(&mut text[31..47], self.intended_ns);
        text
    }

    /// The first stamp in `message`; `None` if there is none, or it is damaged.
    pub fn find(message: &[u8]) -> Option<Stamp> {
        Stamp::parse(&message[memmem::find(message, MARKER)?..])
    }

    /// The stamp at the start of `text`.
    pub fn parse(text: &[u8]) -> Option<Stamp> {
        let text = text.get(..Stamp::BYTES)?;
        if !text.starts_with(MARKER) || [12, 21, 30, 47].iter().any(|&at| text[at] != b'|') {
            return None;
        }
        Some(Stamp {
            room: number(&text[4..12])? as u32,
            publisher: number(&text[13..21])? as u32,
            number: number(&text[22..30])? as u32,
            intended_ns: number(&text[31..47])?,
        })
    }
}

fn hex(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn number(field: &[u8]) -> Option<u64> {
    field.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stamp_is_found_as_it_was_written(
            room: u32, publisher: u32, number: u32, intended_ns: u64, before in "[ -~]{0,40}", after in "[ -~]{0,40}",
        ) {
            prop_assume!(!before.contains("tl1|"));
            let stamp = Stamp { room, publisher, number, intended_ns };
            let message = [before.as_bytes(), &stamp.to_text(), after.as_bytes()].concat();
            prop_assert_eq!(Stamp::find(&message), Some(stamp));
        }

        #[test]
        fn damage_is_noticed(at in 0..Stamp::BYTES) {
            let mut text = Stamp { room: 1, publisher: 2, number: 3, intended_ns: 4 }.to_text();
            text[at] = b'~';
            prop_assert_eq!(Stamp::find(&text), None);
        }
    }

    #[test]
    fn the_text_is_what_the_module_says() {
        let stamp = Stamp { room: 10, publisher: 2, number: 3, intended_ns: 0xabc };
        assert_eq!(&stamp.to_text(), b"tl1|0000000a|00000002|00000003|0000000000000abc|");
    }
}
