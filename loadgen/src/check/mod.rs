//! Who must have received what: judges every delivery of a run.
//!
//! A publisher numbers what it sends to its room 1, 2, 3, …; each member of the room must get these numbers, each once, in this
//! order. The checker keeps the highest number of each (subscriber, publisher), 4 bytes, and a small table of numbers that were
//! jumped over. What counts as what:
//!
//! | Fault | When |
//! |---|---|
//! | `reordered` | a number that was jumped over comes after all; counted once for each late number, which is then not lost |
//! | `duplicated` | a number that has come before |
//! | `lost_live`, `lost_durable` | a number that was sent and had not come by the end |
//! | `foreign` | a stamp that cannot be for this receiver: no such room or publisher, a room that it is not in, its own live event without `include_self`, live instead of durable or the reverse, number 0; at the end also: a number above the last one sent |
//! | `offset_faults` | durable: an offset not above the last one of this stream, or another epoch without a new `room_state`; a `room_state` whose offset lies below what was delivered in the same epoch |
//!
//! **Not demanded** are messages in doubt (see [`Sent`]): they may come, and are judged for order and doubles if they do.
//!
//! **Offsets may jump.** A room's stream also holds events that are no messages (the first message of a user makes it a member),
//! so an offset says only that it grows; gaps are judged by the publishers' numbers. A doubled or swapped durable message shows
//! twice: by its number and by its offset.
//!
//! **Away.** When a link ends ([`Checker::away`]) and the connection has joined again ([`Checker::back`]), live events go on with
//! any higher number: what lies between was sent while nobody listened, is counted in `missed_away`, and never as lost. The price:
//! a live loss right at the break, the last before or the first after, looks the same. Durable messages go on without a gap if the
//! server said `recovered: true`, however long it took; the recovered ones are handed in like any other. Otherwise
//! they may jump once, as live ones. Who is away or has not heard from a publisher since it came back is not judged on
//! what that publisher sent last.
//!
//! **Late is not lost.** A gap stays open until [`Checker::finish`]; a delay that keeps the order is not seen here at all but in
//! the latency.
//!
//! **Bounds.** A million gaps may be open at once. Beyond that, numbers jumped over are counted as lost at once (doubt or not),
//! would count as duplicated if they still came, and a sentence says that it happened.
mod finish;
mod gaps;
mod places;
#[cfg(test)]
mod property_test;
mod sent;
#[cfg(test)]
mod tests;

pub use finish::total;
pub use sent::Sent;

use crate::result::Integrity;
use crate::scenario::Scenario;
use crate::stamp::Stamp;
use gaps::Gaps;
use places::Places;
use std::fmt::{Display, Formatter};
use std::ops::Range;

/// Sentences that are kept.
pub const EXAMPLES_MAX: usize = 20;
/// Ranges of missing numbers that may be open at once: about 30 MB.
const GAPS_MAX: usize = 1_000_000;
/// Set beside the highest number: the next one may be any higher one, because the receiver was away.
const JUMP: u32 = 1 << 31;

/// Judges the deliveries to the connections of one worker.
///
/// Memory: 4 bytes for each (subscriber, publisher of live or durable messages in one of its rooms), 16 for each (subscriber,
/// layer with durable traffic), 1 for each (subscriber, layer). A subscriber is a connection's membership of a room.
pub struct Checker {
    places: Places,
    connections: Range<u32>,
    /// By layer: where its subscribers begin in `highest` and in `positions`.
    starts: Vec<Starts>,
    /// Highest number that has come, and `JUMP`.
    highest: Vec<u32>,
    /// By layer, then connection.
    is_away: Vec<bool>,
    /// By layer with durable traffic, then connection.
    positions: Vec<Position>,
    gaps: Gaps,
    /// Entries of `highest` that carry `JUMP`, and of `is_away` that are set: with none of them, sums tell all.
    unsettled: u64,
    /// What was found so far; losses only of gaps that did not fit.
    found: Integrity,
}

struct Starts {
    highest: usize,
    positions: usize,
}

/// Where a subscriber is in its room's durable stream.
#[derive(Clone, Copy, Default)]
struct Position {
    offset: u64,
    /// 32 bits of a hash, so that a change is seen; 0: nothing known yet.
    epoch: u32,
}

/// Why a delivery cannot be for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    Connection,
    Room,
    Publisher,
    Kind,
    Own,
    Number,
}

impl Checker {
    /// For a contiguous range of connections, none of which is away; who never joins must be reported [`Checker::away`].
    pub fn new(scenario: &Scenario, connections: Range<u32>) -> Checker {
        let places = Places::new(scenario);
        let count = connections.len();
        let (mut highest, mut positions) = (0, 0);
        let starts = places.layers.iter().map(|layer| {
            let starts = Starts { highest, positions };
            highest += count * layer.publishers.len();
            positions += if layer.has_durable { count } else { 0 };
            starts
        });
        let starts = starts.collect();
        Checker {
            starts,
            highest: vec![0; highest],
            is_away: vec![false; count * places.layers.len()],
            positions: vec![Position::default(); positions],
            gaps: Gaps::new(GAPS_MAX),
            unsettled: 0,
            found: Integrity::default(),
            places,
            connections,
        }
    }

    /// A `room_state` without recovery: durable deliveries go on above `offset`. Order with [`Checker::back`] does not matter.
    pub fn positioned(&mut self, connection: u32, room: u32, epoch: &str, offset: u64) {
        let Ok(layer) = self.layer_of(connection, room) else {
            return self.foreign(connection, room, Foreign::Room, "a room_state");
        };
        let Some(position) = self.position(connection, layer) else { return };
        let now = Position { offset, epoch: hash(epoch) };
        let before = std::mem::replace(position, now);
        if before.epoch == now.epoch && offset < before.offset {
            let room = self.places.room_name(room);
            self.found.offset_faults += 1;
            let before = before.offset;
            self.say(|| {
                format!(
                    "connection {connection} in room {room}: room_state is at offset {offset}, but {before} had come"
                )
            });
        }
    }

    /// A live event has come.
    pub fn live(&mut self, connection: u32, stamp: &Stamp) {
        match self.place(connection, stamp, false) {
            Ok((layer, index)) => self.note(connection, layer, index, stamp),
            Err(reason) => self.foreign_stamp(connection, stamp, reason),
        }
    }

    /// A durable message has come, at once or in a `room_state`'s recovered events.
    pub fn durable(&mut self, connection: u32, stamp: &Stamp, offset: u64, epoch: &str) {
        let (layer, index) = match self.place(connection, stamp, true) {
            Ok(place) => place,
            Err(reason) => return self.foreign_stamp(connection, stamp, reason),
        };
        self.note(connection, layer, index, stamp);
        let Some(position) = self.position(connection, layer) else { return };
        let before = *position;
        let now = Position { offset, epoch: hash(epoch) };
        let has_moved_on = before.epoch == 0 || before.epoch == now.epoch && offset > before.offset;
        if has_moved_on || before.epoch != now.epoch {
            *position = now;
        }
        if !has_moved_on {
            self.found.offset_faults += 1;
            let room = self.places.room_name(stamp.room);
            self.say(|| match before.epoch == now.epoch {
                true => format!(
                    "connection {connection} in room {room}: offset {offset} came after offset {}",
                    before.offset
                ),
                false => {
                    format!(
                        "connection {connection} in room {room}: the epoch became {epoch} at offset {offset} by itself"
                    )
                }
            });
        }
    }

    /// Its link has ended, or it never came. Again while it is away: nothing.
    pub fn away(&mut self, connection: u32) {
        if !self.connections.contains(&connection) {
            return;
        }
        for layer in 0..self.places.layers.len() {
            let entry = self.away_entry(connection, layer);
            if !std::mem::replace(&mut self.is_away[entry], true) {
                self.unsettled += 1;
                self.allow_jump(connection, layer, false);
            }
        }
    }

    /// It has joined `room` again. `recovered`: what the `room_state` said, `None` if it had not asked.
    pub fn back(&mut self, connection: u32, room: u32, recovered: Option<bool>) {
        let Ok(layer) = self.layer_of(connection, room) else {
            return self.foreign(connection, room, Foreign::Room, "a join");
        };
        let entry = self.away_entry(connection, layer);
        if std::mem::replace(&mut self.is_away[entry], false) {
            self.unsettled -= 1;
            if recovered != Some(true) {
                self.allow_jump(connection, layer, true);
            }
        }
    }

    /// Layer of a room that `connection` is in.
    fn layer_of(&self, connection: u32, room: u32) -> Result<usize, Foreign> {
        if !self.connections.contains(&connection) {
            return Err(Foreign::Connection);
        }
        let (layer, index) = self.places.room(room).ok_or(Foreign::Room)?;
        match connection / self.places.layers[layer].members == index {
            true => Ok(layer),
            false => Err(Foreign::Room),
        }
    }

    /// Layer and publisher of a delivery, if it can be for `connection` at all.
    fn place(&self, connection: u32, stamp: &Stamp, is_durable: bool) -> Result<(usize, usize), Foreign> {
        let layer = self.layer_of(connection, stamp.room)?;
        let place = self.places.publisher(stamp.room, stamp.publisher).ok_or(Foreign::Publisher)?;
        let publisher = &self.places.layers[layer].publishers[place.index];
        if publisher.is_durable != is_durable {
            return Err(Foreign::Kind);
        }
        if !publisher.hears_itself && self.places.connection(place) == u64::from(connection) {
            return Err(Foreign::Own);
        }
        match stamp.number {
            0 | JUMP.. => Err(Foreign::Number),
            _ => Ok((layer, place.index)),
        }
    }

    /// Judges a number against those that have come.
    fn note(&mut self, connection: u32, layer: usize, index: usize, stamp: &Stamp) {
        let slot = self.slot(connection, layer) + index;
        let number = stamp.number;
        let entry = &mut self.highest[slot];
        let (highest, may_jump) = (*entry & !JUMP, *entry & JUMP != 0);
        if number > highest {
            *entry = number;
            self.found.delivered += 1;
            let skipped = number - highest - 1;
            if may_jump {
                self.unsettled -= 1;
                self.found.missed_away += u64::from(skipped);
            } else if skipped > 0 && !self.gaps.add(slot, highest + 1, number - 1) {
                self.give_up(layer, index, skipped);
            }
        } else if self.gaps.take(slot, number) {
            self.found.delivered += 1;
            self.found.reordered += 1;
            let (room, publisher) = (self.places.room_name(stamp.room), stamp.publisher);
            self.say(|| {
                format!("connection {connection} in room {room}: number {number} of publisher {publisher} came after number {highest}")
            });
        } else {
            self.found.duplicated += 1;
            let (room, publisher) = (self.places.room_name(stamp.room), stamp.publisher);
            self.say(|| {
                format!("connection {connection} in room {room}: number {number} of publisher {publisher} came again")
            });
        }
    }

    /// The table of gaps is full: counts them as lost at once.
    fn give_up(&mut self, layer: usize, index: usize, skipped: u32) {
        if self.found.lost_live + self.found.lost_durable == 0 {
            self.say(|| {
                format!("more than {GAPS_MAX} gaps are open at once: further ones are counted as lost at once")
            });
        }
        match self.places.layers[layer].publishers[index].is_durable {
            true => self.found.lost_durable += u64::from(skipped),
            false => self.found.lost_live += u64::from(skipped),
        }
    }

    fn foreign_stamp(&mut self, connection: u32, stamp: &Stamp, reason: Foreign) {
        let what = format_args!("number {} of publisher {}", stamp.number, stamp.publisher);
        self.foreign(connection, stamp.room, reason, what);
    }

    fn foreign(&mut self, connection: u32, room: u32, reason: Foreign, what: impl Display) {
        self.found.foreign += 1;
        let room = self.places.room_name(room);
        self.say(|| format!("connection {connection} got {what} of room {room}: {reason}"));
    }

    /// Lets the publishers of one kind go on with any higher number.
    fn allow_jump(&mut self, connection: u32, layer: usize, is_durable: bool) {
        let slot = self.slot(connection, layer);
        let layer = &self.places.layers[layer];
        for (publisher, entry) in layer.publishers.iter().zip(&mut self.highest[slot..]) {
            let is_own = u64::from(connection % layer.members) == u64::from(publisher.member);
            let is_heard = publisher.hears_itself || !is_own;
            if publisher.is_durable == is_durable && is_heard && *entry & JUMP == 0 {
                *entry |= JUMP;
                self.unsettled += 1;
            }
        }
    }

    fn slot(&self, connection: u32, layer: usize) -> usize {
        let subscriber = (connection - self.connections.start) as usize;
        self.starts[layer].highest + subscriber * self.places.layers[layer].publishers.len()
    }

    fn away_entry(&self, connection: u32, layer: usize) -> usize {
        layer * self.connections.len() + (connection - self.connections.start) as usize
    }

    fn position(&mut self, connection: u32, layer: usize) -> Option<&mut Position> {
        let subscriber = (connection - self.connections.start) as usize;
        let has_durable = self.places.layers[layer].has_durable;
        has_durable.then(|| &mut self.positions[self.starts[layer].positions + subscriber])
    }

    fn say(&mut self, sentence: impl FnOnce() -> String) {
        if self.found.examples.len() < EXAMPLES_MAX {
            self.found.examples.push(sentence());
        }
    }
}

/// FNV-1a, folded to 32 bits that are not all zero.
fn hash(epoch: &str) -> u32 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = epoch.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    ((hash >> 32) as u32 ^ hash as u32).max(1)
}

impl Display for Foreign {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Foreign::Connection => "it is not of this worker",
            Foreign::Room => "it is not in that room",
            Foreign::Publisher => "there is no such publisher",
            Foreign::Kind => "live and durable are mixed up",
            Foreign::Own => "its own event, though it asked not to get it",
            Foreign::Number => "no message can have that number",
        })
    }
}
