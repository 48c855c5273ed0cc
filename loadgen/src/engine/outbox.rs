//! What a turn sends: one buffer for all, one send per connection.
use throng::plane::{Plane, Shortfall, Slot};

/// Bytes for connections, in the order in which they were written.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Slot, and where its bytes end; they begin where the ones before end.
    items: Vec<(Slot, usize)>,
    /// Kept for its allocation.
    shortfalls: Vec<Shortfall>,
    gathered: Vec<u8>,
    sends: Vec<(Slot, usize, usize)>,
    /// Bytes that the kernel has taken.
    pub bytes_sent: u64,
}

/// A send that was not taken whole.
pub enum Short {
    /// These bytes are left.
    Rest(Vec<u8>),
    /// The connection is broken.
    Broken,
}

impl Outbox {
    /// Appends what `write` writes, for `slot`.
    pub fn push(&mut self, slot: Slot, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        match self.items.last_mut() {
            Some((last, end)) if *last == slot => *end = self.bytes.len(),
            _ => self.items.push((slot, self.bytes.len())),
        }
    }

    /// Sends all. The plane takes one send per slot and batch, so a slot's pieces are brought together first, in their order.
    pub fn flush(&mut self, plane: &mut impl Plane, mut short: impl FnMut(Slot, Short)) {
        if self.items.is_empty() {
            return;
        }
        let mut start = 0;
        self.sends.clear();
        for (slot, end) in self.items.drain(..) {
            self.sends.push((slot, start, end));
            start = end;
        }
        self.sends.sort_by_key(|(slot, start, _)| (*slot, *start));
        if self.sends.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            self.gather();
        }
        let bytes = &self.bytes;
        let sends = self.sends.iter().map(|(slot, start, end)| (*slot, &bytes[*start..*end]));
        plane.send_batch(sends, &mut self.shortfalls);
        self.bytes_sent += self.bytes.len() as u64;
        for shortfall in self.shortfalls.drain(..) {
            let (slot, start, end) = self.sends[shortfall.index as usize];
            self.bytes_sent -= (end - start) as u64 - u64::from(shortfall.taken.unwrap_or(0));
            short(
                slot,
                match shortfall.taken {
                    Ok(taken) => Short::Rest(self.bytes[start + taken as usize..end].to_vec()),
                    Err(_) => Short::Broken,
                },
            );
        }
        self.bytes.clear();
    }

    fn gather(&mut self) {
        self.gathered.clear();
        let mut merged: Vec<(Slot, usize, usize)> = Vec::with_capacity(self.sends.len());
        for (slot, start, end) in self.sends.drain(..) {
            let from = self.gathered.len();
            self.gathered.extend_from_slice(&self.bytes[start..end]);
            match merged.last_mut() {
                Some((last, _, merged_end)) if *last == slot => *merged_end = self.gathered.len(),
                _ => merged.push((slot, from, self.gathered.len())),
            }
        }
        std::mem::swap(&mut self.bytes, &mut self.gathered);
        self.sends = merged;
    }
}
