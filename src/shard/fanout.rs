//! Who on this shard hears which room: local rooms, their broadcast logs, and subscriptions as cursors.
//!
//! A message to a room is appended once, whatever the number of readers; delivering it is `deliver`'s work. Connections of other
//! formats have a log of their own for the same room, a *sibling* in a chain that nearly always has one link.
//! A subscription is 20 bytes. What a single reader must not get (its own live event, or events skipped because it
//! lags) is a *skip*: a range of the log that its cursor jumps over.
use super::conn::NONE;
use super::formats::FormatId;
use super::log::{ChunkPool, Log};
use super::pass::{Pass, Progress};
pub use super::subscription::Pace;
use super::subscription::{Subscription, Subscriptions};
use crate::base::hash::name_hash;
use hashbrown::HashTable;
use slab::Slab;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A range of a room's log that one subscription does not get.
struct Skip {
    subscription: u32,
    from: u64,
    to: u64,
}

pub struct LocalRoom {
    pub id: Arc<str>,
    /// What its members' connections are sent.
    pub format: FormatId,
    /// The same room in another format, NONE at the end of the chain.
    sibling: u32,
    pub log: Log,
    pub members: Vec<u32>,
    /// Members whose cursor is not at the head although they were offered what there was.
    pub behind: Vec<u32>,
    skips: Vec<Skip>,
    /// Listed in `Fanout::dirty`, unless `is_waiting`: has frames that were not offered to everyone yet.
    is_dirty: bool,
    /// Listed in `Fanout::waiting` instead: what there is to offer can wait for more.
    is_waiting: bool,
    /// How far they were offered.
    pass: Pass,
    /// Listed in `Fanout::unsettled`.
    is_unsettled: bool,
    /// So long a list of members behind is looked through in the middle of a pass.
    behind_max: usize,
}

/// Members behind that are not worth looking through in the middle of a pass: many have caught up since, and cost a look at each
/// frame that is appended until the end of the pass finds out.
const BEHIND_UNSORTED_MAX: usize = 64;

/// Bytes of a room that someone who keeps pace was not offered yet, as long as a turn ends with its pass half-way. More: members are
/// offered them without regard to the turn's length, for whatever is read next could only make it longer. A quarter of what a
/// connection may leave unread (`conn.out_queue_bytes`).
const UNOFFERED_BYTES_MAX: u64 = 256 << 10;

impl LocalRoom {
    /// Bytes that this subscription has still to get.
    pub fn lag(&self, subscription: u32, of: &Subscription) -> u64 {
        let position = self.log.position(of.cursor);
        let skipped: u64 = match of.has_skips() {
            true => {
                self.skips.iter().filter(|skip| skip.subscription == subscription).map(|skip| skip.to - skip.from).sum()
            }
            false => 0,
        };
        self.log.head() - position - skipped
    }

    fn skip(&mut self, subscription: u32, of: &mut Subscription, from: u64, to: u64) {
        if self.log.position(of.cursor) == from {
            of.cursor = to as u32;
            return;
        }
        of.set_has_skips(true);
        match self.skips.iter_mut().rev().find(|skip| skip.subscription == subscription) {
            Some(last) if last.to == from => last.to = to,
            _ => self.skips.push(Skip { subscription, from, to }),
        }
    }

    /// Moves the cursor over a skip that begins there. The position, and where the next skip limits a send.
    fn next_range(&mut self, subscription: u32, of: &mut Subscription) -> (u64, u64) {
        let mut position = self.log.position(of.cursor);
        if !of.has_skips() {
            return (position, self.log.head());
        }
        let mut limit = self.log.head();
        // Skips of one subscription stand in ascending order.
        self.skips.retain(|skip| {
            if skip.subscription != subscription || skip.from != position {
                if skip.subscription == subscription {
                    limit = limit.min(skip.from);
                }
                return true;
            }
            position = skip.to;
            false
        });
        of.cursor = position as u32;
        of.set_has_skips(self.skips.iter().any(|skip| skip.subscription == subscription));
        (position, limit)
    }
}

#[derive(Default)]
pub struct Fanout {
    pub rooms: Slab<LocalRoom>,
    names: HashTable<u32>,
    pub subscriptions: Subscriptions,
    pub pool: ChunkPool,
    /// Rooms with frames that were not offered to everyone yet, in the order in which they are to be looked at.
    pub dirty: Vec<u32>,
    /// Rooms whose frames wait for more of them, and since which tick. Some have been listed as dirty since, and some are gone.
    waiting: VecDeque<(u32, u32)>,
    /// Rooms that may hold more of their log than anyone needs. They are settled after the flush, not at once: until then a planned
    /// send may rely on bytes that no cursor stands before any more.
    pub unsettled: Vec<u32>,
}

/// What happens to a reader that lags too far for a frame.
pub enum Lagging {
    /// Live: it does not get this one.
    Skip,
    /// Durable: it is closed and recovers by offset.
    Close,
}

/// What `append` did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Sessions that will get the frame.
    pub readers: u64,
    pub skipped: u64,
}

impl Fanout {
    /// For this many connections, each in one room; more subscriptions take more memory when they come.
    pub fn new(connections: usize) -> Fanout {
        Fanout { subscriptions: Subscriptions::with_capacity(connections), ..Fanout::default() }
    }

    /// The first of a room's logs here, in whatever format; `siblings` has all.
    pub fn find(&self, room: &str) -> Option<u32> {
        self.names.find(name_hash(room), |key| &*self.rooms[*key as usize].id == room).copied()
    }

    /// The next of a room's logs, NONE after the last.
    pub fn sibling(&self, key: u32) -> u32 {
        self.rooms[key as usize].sibling
    }

    /// All logs of a room here, one for each format.
    fn siblings(&self, room: &str) -> impl Iterator<Item = u32> {
        std::iter::successors(self.find(room), |key| Some(self.sibling(*key)).filter(|next| *next != NONE))
    }

    /// The subscription of a connection, whose list begins at `first`, to a room of that name.
    pub fn subscription_to(&self, first: u32, room: &str) -> Option<u32> {
        self.siblings(room).find_map(|key| self.subscription(first, key))
    }

    /// The subscription of a connection, whose list begins at `first`, to a room.
    pub fn subscription(&self, first: u32, room: u32) -> Option<u32> {
        self.list(first).find(|key| self.subscriptions[*key as usize].room == room)
    }

    /// Keys of a connection's subscriptions.
    pub fn list(&self, first: u32) -> impl Iterator<Item = u32> {
        std::iter::successors((first != NONE).then_some(first), |key| {
            let next = self.subscriptions[*key as usize].next;
            (next != NONE).then_some(next)
        })
    }

    /// Adds a subscription that begins at the head; false if there is one already.
    pub fn subscribe(&mut self, conn: u32, first: &mut u32, room: &Arc<str>, format: FormatId) -> bool {
        if self.subscription_to(*first, room).is_some() {
            return false;
        }
        let known = self.siblings(room).find(|key| self.rooms[*key as usize].format == format);
        let key = known.unwrap_or_else(|| self.add_room(room, format));
        let room = &mut self.rooms[key as usize];
        let (cursor, index) = (room.log.head() as u32, room.members.len() as u32);
        let subscription = self.subscriptions.insert(Subscription::new(conn, key, cursor, *first, index));
        if room.members.len() == room.members.capacity() {
            // By an eighth, not by doubling: half of the list would stand empty.
            room.members.reserve_exact(room.members.len() / 8 + 4);
        }
        room.members.push(subscription);
        *first = subscription;
        true
    }

    /// Ends one subscription; false if there was none.
    pub fn unsubscribe(&mut self, first: &mut u32, room: &str) -> bool {
        let Some(found) = self.subscription_to(*first, room) else { return false };
        let next = self.subscriptions[found as usize].next;
        let previous = self.list(*first).find(|key| self.subscriptions[*key as usize].next == found);
        match previous {
            Some(previous) => self.subscriptions[previous as usize].next = next,
            None => *first = next,
        }
        self.remove(found);
        true
    }

    /// Ends all subscriptions of a connection and says to which rooms they were.
    pub fn unsubscribe_all(&mut self, first: &mut u32, mut each: impl FnMut(Arc<str>)) {
        while *first != NONE {
            let subscription = &self.subscriptions[*first as usize];
            let (key, next) = (*first, subscription.next);
            each(self.rooms[subscription.room as usize].id.clone());
            self.remove(key);
            *first = next;
        }
    }

    /// Appends a frame to a room's log and lists the room as dirty. `except` are subscriptions that do not get it; `lagging` decides about readers that are
    /// behind. Connections to be closed are appended to `close`.
    pub fn append(
        &mut self,
        key: u32,
        frame: &[u8],
        except: &[u32],
        lagging: impl FnMut(&Fanout, u32) -> Option<Lagging>,
        close: &mut Vec<u32>,
    ) -> Appended {
        let appended = self.write(key, frame, except, lagging, close);
        let room = &mut self.rooms[key as usize];
        if !std::mem::replace(&mut room.is_dirty, true) || std::mem::take(&mut room.is_waiting) {
            self.dirty.push(key);
        }
        appended
    }

    /// The same, in this tick, with a frame that can wait until the room has another one, or until `end_wait`.
    pub fn append_waiting(
        &mut self,
        tick: u32,
        key: u32,
        frame: &[u8],
        except: &[u32],
        lagging: impl FnMut(&Fanout, u32) -> Option<Lagging>,
        close: &mut Vec<u32>,
    ) -> Appended {
        let appended = self.write(key, frame, except, lagging, close);
        let room = &mut self.rooms[key as usize];
        if !std::mem::replace(&mut room.is_dirty, true) {
            room.is_waiting = true;
            self.waiting.push_back((key, tick));
        } else if room.is_waiting && room.log.head() - room.pass.floor() > UNOFFERED_BYTES_MAX {
            room.is_waiting = false;
            self.dirty.push(key);
        }
        appended
    }

    /// Lists rooms as dirty whose frames have waited since this tick or longer, until they have so many members.
    pub fn end_wait(&mut self, since: u32, members: usize) {
        let mut listed = 0;
        while listed < members
            && let Some((key, _)) = self.waiting.pop_front_if(|(_, begun)| *begun <= since)
        {
            // It may have been listed since, or have gone.
            if let Some(room) = self.rooms.get_mut(key as usize)
                && std::mem::take(&mut room.is_waiting)
            {
                self.dirty.push(key);
                listed += room.members.len();
            }
        }
    }

    /// Whether `end_wait` would find some.
    pub fn has_waited(&self, since: u32) -> bool {
        self.waiting.front().is_some_and(|(_, begun)| *begun <= since)
    }

    /// A frame into the log, and who does not get it. If there was nothing to offer, a pass begins with it.
    fn write(
        &mut self,
        key: u32,
        frame: &[u8],
        except: &[u32],
        mut lagging: impl FnMut(&Fanout, u32) -> Option<Lagging>,
        close: &mut Vec<u32>,
    ) -> Appended {
        let mut appended = Appended::default();
        let from = self.rooms[key as usize].log.head();
        let mut skipping = smallvec::SmallVec::<[u32; 8]>::from_slice(except);
        for i in 0..self.rooms[key as usize].behind.len() {
            let subscription = self.rooms[key as usize].behind[i];
            if except.contains(&subscription) {
                continue;
            }
            match lagging(self, subscription) {
                Some(Lagging::Skip) => {
                    appended.skipped += 1;
                    skipping.push(subscription);
                }
                Some(Lagging::Close) => close.push(self.subscriptions[subscription as usize].conn),
                None => {}
            }
        }
        let room = &mut self.rooms[key as usize];
        room.log.append(frame, &mut self.pool);
        let to = room.log.head();
        for subscription in &skipping {
            // The head has moved: a cursor that was there is now one frame behind it.
            room.skip(*subscription, &mut self.subscriptions[*subscription as usize], from, to);
        }
        appended.readers = (room.members.len() - skipping.len()) as u64;
        if !room.is_dirty {
            room.pass = Pass::from(from);
        }
        appended
    }

    /// What can be sent to a subscription in one piece: position and length, none if it is at the head.
    pub fn sendable(&mut self, subscription: u32) -> Option<(u64, usize)> {
        let of = &mut self.subscriptions[subscription as usize];
        let room = &mut self.rooms[of.room as usize];
        let (position, limit) = room.next_range(subscription, of);
        let len = room.log.readable(position).len().min((limit - position) as usize);
        if len == 0 && of.pace() == Pace::Behind {
            // It may just have jumped to the head.
            let room = of.room;
            self.touch(room);
        }
        (len > 0).then_some((position, len))
    }

    /// The next members of a dirty room that are to be offered its frames, at most so many: places in `members`. `end_slice` follows.
    pub fn slice(&mut self, key: u32, most: usize) -> Range<usize> {
        let room = &mut self.rooms[key as usize];
        room.pass.slice(room.members.len(), most, room.log.head())
    }

    /// Those of the slice were offered everything, or are listed as behind. True if the room has nothing more to offer.
    pub fn end_slice(&mut self, key: u32) -> bool {
        let room = &mut self.rooms[key as usize];
        let progress = room.pass.end_slice(room.members.len(), room.log.head());
        room.is_dirty = progress != Progress::Over;
        if progress != Progress::Halfway && !std::mem::replace(&mut room.is_unsettled, true) {
            self.unsettled.push(key);
        }
        !room.is_dirty
    }

    /// Members that have still to be looked at for the frames that were appended.
    pub fn unsent_frames(&self) -> usize {
        let left = |key: &u32| {
            let room = &self.rooms[*key as usize];
            room.pass.left(room.members.len())
        };
        self.dirty.iter().map(left).sum()
    }

    /// Bytes that members have still to be offered, all together. Nothing of it is their fault.
    pub fn unoffered_bytes(&self) -> u64 {
        let unoffered = |key: &u32| {
            let room = &self.rooms[*key as usize];
            room.pass.unoffered(room.members.len(), room.log.head())
        };
        self.dirty.iter().map(unoffered).sum()
    }

    /// Some room has more that was not offered than may wait for another turn.
    pub fn is_pressed(&self) -> bool {
        let waiting = |room: &LocalRoom| room.log.head() - room.pass.floor();
        self.dirty.iter().any(|key| waiting(&self.rooms[*key as usize]) > UNOFFERED_BYTES_MAX)
    }

    /// Whether everyone was offered the frame that was appended at this position, or is listed as behind.
    pub fn is_offered(&self, key: u32, position: u64) -> bool {
        self.rooms.get(key as usize).is_none_or(|room| !room.is_dirty || room.pass.floor() > position)
    }

    /// Has a room settled after the flush. A dirty one will be when its pass ends: until then it keeps its log anyway.
    pub fn touch(&mut self, key: u32) {
        let room = &mut self.rooms[key as usize];
        if !room.is_dirty && !std::mem::replace(&mut room.is_unsettled, true) {
            self.unsettled.push(key);
        }
    }

    /// Keeps room for so many in the lists of rooms, and no free chunk.
    pub fn trim(&mut self, kept: usize) {
        self.dirty.shrink_to(kept);
        self.waiting.shrink_to(kept);
        self.unsettled.shrink_to(kept);
        self.pool.trim();
    }

    /// Lists a subscription as behind.
    pub fn fall_behind(&mut self, subscription: u32) {
        let of = &mut self.subscriptions[subscription as usize];
        if of.pace() == Pace::Current {
            of.set_pace(Pace::Behind);
            let room = &mut self.rooms[of.room as usize];
            room.behind.push(subscription);
            if room.behind.len() >= room.behind_max && !std::mem::replace(&mut room.is_unsettled, true) {
                self.unsettled.push(of.room);
            }
        }
    }

    /// After a flush: forgets who has caught up, and gives back what nobody needs any more.
    pub fn settle(&mut self, key: u32) {
        let room = &mut self.rooms[key as usize];
        room.is_unsettled = false;
        let head = room.log.head();
        let mut needed = if room.is_dirty { room.pass.floor() } else { head };
        room.behind.retain(|subscription| {
            let of = &mut self.subscriptions[*subscription as usize];
            let position = room.log.position(of.cursor);
            needed = needed.min(position);
            if position == head {
                of.set_pace(Pace::Current);
            }
            position != head
        });
        room.log.release_before(needed, &mut self.pool);
        room.behind_max = (2 * room.behind.len()).max(BEHIND_UNSORTED_MAX);
        if room.behind.is_empty() && room.behind.capacity() > BEHIND_UNSORTED_MAX {
            room.behind = Vec::new();
        }
    }

    fn add_room(&mut self, id: &Arc<str>, format: FormatId) -> u32 {
        let first = self.find(id);
        let room = LocalRoom {
            id: id.clone(),
            format,
            // Behind the first: that one's key is what the table of names holds.
            sibling: first.map_or(NONE, |first| self.sibling(first)),
            log: Log::default(),
            members: Vec::new(),
            behind: Vec::new(),
            skips: Vec::new(),
            is_dirty: false,
            is_waiting: false,
            pass: Pass::default(),
            is_unsettled: false,
            behind_max: BEHIND_UNSORTED_MAX,
        };
        let key = self.rooms.insert(room) as u32;
        match first {
            Some(first) => self.rooms[first as usize].sibling = key,
            None => {
                self.names.insert_unique(name_hash(id), key, |key| name_hash(&self.rooms[*key as usize].id));
            }
        }
        key
    }

    /// Takes a subscription out of its room; the connection's list is the caller's business.
    fn remove(&mut self, key: u32) {
        let gone = self.subscriptions.remove(key);
        let room = &mut self.rooms[gone.room as usize];
        let mut gap = gone.index();
        if room.is_dirty
            && let Some(last) = room.pass.give_up(gap)
        {
            let moved = room.members[last as usize];
            room.members[gap as usize] = moved;
            if moved != key {
                self.subscriptions[moved as usize].set_index(gap);
            }
            gap = last;
        }
        room.members.swap_remove(gap as usize);
        if let Some(moved) = room.members.get(gap as usize) {
            self.subscriptions[*moved as usize].set_index(gap);
        }
        if gone.pace() == Pace::Behind {
            room.behind.retain(|other| *other != key);
        }
        if gone.has_skips() {
            room.skips.retain(|skip| skip.subscription != key);
        }
        if room.members.is_empty() {
            self.remove_room(gone.room);
        } else if gone.pace() == Pace::Behind {
            self.touch(gone.room);
        }
    }

    fn remove_room(&mut self, key: u32) {
        let mut room = self.rooms.remove(key as usize);
        room.log.release_before(room.log.head(), &mut self.pool);
        if room.is_dirty {
            self.dirty.retain(|other| *other != key);
        }
        match self.names.find_entry(name_hash(&room.id), |other| *other == key) {
            Ok(entry) if room.sibling == NONE => _ = entry.remove(),
            Ok(mut entry) => *entry.get_mut() = room.sibling,
            // Not the first of its chain.
            Err(_) => {
                let previous = self.siblings(&room.id).find(|other| self.sibling(*other) == key);
                if let Some(previous) = previous {
                    self.rooms[previous as usize].sibling = room.sibling;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
