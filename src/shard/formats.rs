//! The formats in use on a shard, numbered: a connection and a room's log name theirs by a few bits.
use crate::session::format::Format;

/// Number of a format on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatId(u8);

impl FormatId {
    /// The native protocol over WebSocket: what is published comes in it.
    pub const NATIVE: FormatId = FormatId(0);
    /// Formats of one shard: what `conn::Kind` has bits for. They are few: vocabularies × window sizes or namespaces in use.
    pub const COUNT_MAX: u8 = 32;

    pub fn from_bits(bits: u8) -> FormatId {
        FormatId(bits)
    }

    pub fn bits(self) -> u8 {
        self.0
    }
}

pub struct Formats {
    known: Vec<Format>,
}

impl Default for Formats {
    fn default() -> Formats {
        Formats { known: vec![Format::NATIVE] }
    }
}

impl Formats {
    /// The number of a format, a new one if need be; `None` if there are too many, which a client must not be able to cause.
    pub fn intern(&mut self, format: &Format) -> Option<FormatId> {
        if let Some(known) = self.known.iter().position(|known| known == format) {
            return Some(FormatId(known as u8));
        }
        if self.known.len() >= usize::from(FormatId::COUNT_MAX) {
            return None;
        }
        self.known.push(format.clone());
        Some(FormatId(self.known.len() as u8 - 1))
    }

    pub fn get(&self, id: FormatId) -> &Format {
        &self.known[usize::from(id.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_format_is_number_zero() {
        let mut formats = Formats::default();
        assert_eq!(formats.intern(&Format::NATIVE), Some(FormatId::NATIVE));
        assert_eq!(formats.get(FormatId::NATIVE), &Format::NATIVE);
        assert_eq!(FormatId::from_bits(FormatId::NATIVE.bits()), FormatId::NATIVE);
    }
}
