//! Who on this shard hears which room: local rooms, their broadcast logs, and subscriptions as cursors.
//!
//! A message to a room is appended once, whatever the number of readers; delivering it is `deliver`'s work. Connections of other
//! formats have a log of their own for the same room, a *sibling* in a chain that nearly always has one link.
//! A subscription is 24 bytes. What a single reader must not get (its own live event, or events skipped because it
//! lags) is a *skip*: a range of the log that its cursor jumps over.
use super::conn::NONE;
use super::formats::FormatId;
use super::log::{ChunkPool, Log};
use crate::base::hash::name_hash;
use hashbrown::HashTable;
use slab::Slab;
use std::sync::Arc;

/// Conditions of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Its cursor is at the head, or will be after this turn's flush.
    Current,
    /// Listed in its room's `behind`.
    Behind,
}

/// One connection's place in one room.
pub struct Subscription {
    pub conn: u32,
    pub room: u32,
    /// Low 32 bits of the position of the first byte not yet offered. Always a frame boundary.
    pub cursor: u32,
    /// Next subscription of the same connection.
    pub next: u32,
    /// Its index in the room's `members`.
    index: u32,
    pub pace: Pace,
    /// The room's `skips` has entries for it.
    pub has_skips: bool,
}

const _: () = assert!(size_of::<Subscription>() <= 24);

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
    /// Listed in `Fanout::dirty`: has frames that were not offered yet.
    pub is_dirty: bool,
}

impl LocalRoom {
    /// Bytes that this subscription has still to get.
    pub fn lag(&self, subscription: u32, of: &Subscription) -> u64 {
        let position = self.log.position(of.cursor);
        let skipped: u64 = match of.has_skips {
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
        of.has_skips = true;
        match self.skips.iter_mut().rev().find(|skip| skip.subscription == subscription) {
            Some(last) if last.to == from => last.to = to,
            _ => self.skips.push(Skip { subscription, from, to }),
        }
    }

    /// Moves the cursor over a skip that begins there. The position, and where the next skip limits a send.
    fn next_range(&mut self, subscription: u32, of: &mut Subscription) -> (u64, u64) {
        let mut position = self.log.position(of.cursor);
        if !of.has_skips {
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
        of.has_skips = self.skips.iter().any(|skip| skip.subscription == subscription);
        (position, limit)
    }
}

#[derive(Default)]
pub struct Fanout {
    pub rooms: Slab<LocalRoom>,
    names: HashTable<u32>,
    pub subscriptions: Slab<Subscription>,
    pub pool: ChunkPool,
    /// Rooms with frames that were not offered yet.
    pub dirty: Vec<u32>,
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
        Fanout { subscriptions: Slab::with_capacity(connections), ..Fanout::default() }
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
        let subscription = self.subscriptions.insert(Subscription {
            conn,
            room: key,
            cursor: room.log.head() as u32,
            next: *first,
            index: room.members.len() as u32,
            pace: Pace::Current,
            has_skips: false,
        }) as u32;
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

    /// Appends a frame to a room's log. `except` are subscriptions that do not get it; `lagging` decides about readers that are
    /// behind. Connections to be closed are appended to `close`.
    pub fn append(
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
        if !std::mem::replace(&mut room.is_dirty, true) {
            self.dirty.push(key);
        }
        appended
    }

    /// What can be sent to a subscription in one piece: position and length, none if it is at the head.
    pub fn sendable(&mut self, subscription: u32) -> Option<(u64, usize)> {
        let of = &mut self.subscriptions[subscription as usize];
        let room = &mut self.rooms[of.room as usize];
        let (position, limit) = room.next_range(subscription, of);
        let len = room.log.readable(position).len().min((limit - position) as usize);
        if len == 0 && of.pace == Pace::Behind {
            // It may just have jumped to the head.
            self.unsettled.push(of.room);
        }
        (len > 0).then_some((position, len))
    }

    /// Sends that the frames not offered yet will take.
    pub fn unsent_frames(&self) -> usize {
        self.dirty.iter().map(|room| self.rooms[*room as usize].members.len()).sum()
    }

    /// Lists a subscription as behind.
    pub fn fall_behind(&mut self, subscription: u32) {
        let of = &mut self.subscriptions[subscription as usize];
        if of.pace == Pace::Current {
            of.pace = Pace::Behind;
            self.rooms[of.room as usize].behind.push(subscription);
        }
    }

    /// After a flush: forgets who has caught up, and gives back what nobody needs any more.
    pub fn settle(&mut self, key: u32) {
        let room = &mut self.rooms[key as usize];
        let head = room.log.head();
        let mut needed = head;
        room.behind.retain(|subscription| {
            let of = &mut self.subscriptions[*subscription as usize];
            let position = room.log.position(of.cursor);
            needed = needed.min(position);
            if position == head {
                of.pace = Pace::Current;
            }
            position != head
        });
        room.log.release_before(needed, &mut self.pool);
        if room.behind.is_empty() && room.behind.capacity() > 64 {
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
        let gone = self.subscriptions.remove(key as usize);
        let room = &mut self.rooms[gone.room as usize];
        room.members.swap_remove(gone.index as usize);
        if let Some(moved) = room.members.get(gone.index as usize) {
            self.subscriptions[*moved as usize].index = gone.index;
        }
        if gone.pace == Pace::Behind {
            room.behind.retain(|other| *other != key);
        }
        if gone.has_skips {
            room.skips.retain(|skip| skip.subscription != key);
        }
        if room.members.is_empty() {
            self.remove_room(gone.room);
        } else if gone.pace == Pace::Behind {
            self.unsettled.push(gone.room);
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
mod tests {
    use super::*;

    fn room() -> Arc<str> {
        "lobby".into()
    }

    /// What a subscription would be sent, all pieces.
    fn drain(fanout: &mut Fanout, subscription: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((position, len)) = fanout.sendable(subscription) {
            let of = &mut fanout.subscriptions[subscription as usize];
            bytes.extend_from_slice(&fanout.rooms[of.room as usize].log.readable(position)[..len]);
            of.cursor = (position + len as u64) as u32;
        }
        bytes
    }

    fn append(fanout: &mut Fanout, frame: &[u8], except: &[u32]) -> Appended {
        let key = fanout.find("lobby").unwrap();
        fanout.append(key, frame, except, |_, _| None, &mut Vec::new())
    }

    #[test]
    fn the_last_leave_frees_the_room() {
        let (mut fanout, mut first) = (Fanout::default(), NONE);
        assert!(fanout.subscribe(1, &mut first, &room(), FormatId::NATIVE));
        assert!(!fanout.subscribe(1, &mut first, &room(), FormatId::NATIVE));
        append(&mut fanout, b"frame", &[]);
        assert!(fanout.unsubscribe(&mut first, "lobby") && !fanout.unsubscribe(&mut first, "lobby"));
        assert_eq!((fanout.rooms.len(), fanout.names.len(), fanout.dirty.len(), first), (0, 0, 0, NONE));
        assert_eq!(fanout.pool.bytes_in_use(), 0);
    }

    #[test]
    fn senders_skip_their_own_frames_at_any_depth() {
        let (mut fanout, mut anna, mut bob) = (Fanout::default(), NONE, NONE);
        fanout.subscribe(1, &mut anna, &room(), FormatId::NATIVE);
        fanout.subscribe(2, &mut bob, &room(), FormatId::NATIVE);
        for (frame, except) in [(b"a1", anna), (b"b1", bob), (b"a2", anna), (b"a3", anna), (b"b2", bob)] {
            assert_eq!(append(&mut fanout, frame, &[except]), Appended { readers: 1, skipped: 0 });
        }
        assert_eq!(drain(&mut fanout, anna), b"b1b2");
        assert_eq!(drain(&mut fanout, bob), b"a1a2a3");
        fanout.settle(0);
        assert_eq!(fanout.pool.bytes_in_use(), 0);
        assert!(fanout.rooms[0].skips.is_empty());
    }

    #[test]
    fn a_lagging_reader_skips_live_frames_and_keeps_durable_ones() {
        let (mut fanout, mut slow) = (Fanout::default(), NONE);
        fanout.subscribe(1, &mut slow, &room(), FormatId::NATIVE);
        append(&mut fanout, b"one ", &[]);
        fanout.fall_behind(slow);
        for i in 0..10 {
            let done = fanout.append(0, b"live", &[], |_, _| Some(Lagging::Skip), &mut Vec::new());
            assert_eq!((done.skipped, done.readers), (1, 0), "{i}");
        }
        assert_eq!(fanout.rooms[0].lag(slow, &fanout.subscriptions[slow as usize]), 4);
        append(&mut fanout, b"two", &[]);
        assert_eq!(drain(&mut fanout, slow), b"one two");
        let mut close = Vec::new();
        append(&mut fanout, b"three", &[]);
        fanout.append(0, b"durable", &[], |_, _| Some(Lagging::Close), &mut close);
        assert_eq!(close, [1]);
    }

    #[test]
    fn the_log_is_kept_for_the_slowest() {
        let (mut fanout, mut fast, mut slow) = (Fanout::default(), NONE, NONE);
        fanout.subscribe(1, &mut fast, &room(), FormatId::NATIVE);
        fanout.subscribe(2, &mut slow, &room(), FormatId::NATIVE);
        append(&mut fanout, &[7; 10_000], &[]);
        append(&mut fanout, &[8; 10_000], &[]);
        drain(&mut fanout, fast);
        fanout.fall_behind(slow);
        fanout.settle(0);
        assert_eq!(fanout.rooms[0].behind, [slow]);
        assert_eq!(drain(&mut fanout, slow).len(), 20_000);
        fanout.settle(0);
        assert_eq!((fanout.rooms[0].behind.len(), fanout.pool.bytes_in_use()), (0, 0));
    }

    #[test]
    fn jumping_to_the_head_lets_the_log_go() {
        let (mut fanout, mut fast, mut slow) = (Fanout::default(), NONE, NONE);
        fanout.subscribe(1, &mut fast, &room(), FormatId::NATIVE);
        fanout.subscribe(2, &mut slow, &room(), FormatId::NATIVE);
        append(&mut fanout, b"frame", &[fast]);
        fanout.fall_behind(slow);
        append(&mut fanout, b"its own", &[fast, slow]);
        assert_eq!(drain(&mut fanout, slow), b"frame");
        assert_eq!(std::mem::take(&mut fanout.unsettled), [0]);
        fanout.settle(0);
        assert_eq!((fanout.rooms[0].behind.len(), fanout.pool.bytes_in_use()), (0, 0));
    }

    #[test]
    fn leaving_while_behind_lets_the_log_go() {
        let (mut fanout, mut fast, mut slow) = (Fanout::default(), NONE, NONE);
        fanout.subscribe(1, &mut fast, &room(), FormatId::NATIVE);
        fanout.subscribe(2, &mut slow, &room(), FormatId::NATIVE);
        append(&mut fanout, b"frame", &[fast]);
        fanout.fall_behind(slow);
        fanout.rooms[0].is_dirty = false;
        fanout.settle(0);
        let mut rooms = Vec::new();
        fanout.unsubscribe_all(&mut slow, |room| rooms.push(room));
        assert_eq!(std::mem::take(&mut fanout.unsettled), [0]);
        fanout.settle(0);
        assert_eq!((rooms.len(), fanout.rooms[0].members.len(), fanout.pool.bytes_in_use()), (1, 1, 0));
    }

    #[test]
    fn each_format_has_a_log_of_its_own() {
        let other = FormatId::from_bits(1);
        let mut fanout = Fanout::default();
        let (mut native, mut foreign, mut third) = (NONE, NONE, NONE);
        fanout.subscribe(1, &mut native, &room(), FormatId::NATIVE);
        fanout.subscribe(2, &mut foreign, &room(), other);
        fanout.subscribe(3, &mut third, &room(), other);
        assert!(
            !fanout.subscribe(3, &mut third, &room(), FormatId::NATIVE),
            "one subscription to a room, whatever the format"
        );
        let logs: Vec<u32> = fanout.siblings("lobby").collect();
        let members: Vec<usize> = logs.iter().map(|key| fanout.rooms[*key as usize].members.len()).collect();
        assert_eq!(members, [1, 2]);
        assert_eq!(fanout.subscription_to(third, "lobby"), Some(third));

        // The first of the chain goes, the rest is still found; then a new one joins behind it.
        assert!(fanout.unsubscribe(&mut native, "lobby"));
        assert_eq!(fanout.siblings("lobby").collect::<Vec<_>>(), logs[1..]);
        fanout.subscribe(1, &mut native, &room(), FormatId::NATIVE);
        assert_eq!(fanout.siblings("lobby").count(), 2);
        assert!(fanout.unsubscribe(&mut native, "lobby"));
        assert_eq!(fanout.siblings("lobby").collect::<Vec<_>>(), logs[1..]);
        fanout.unsubscribe_all(&mut foreign, |_| ());
        fanout.unsubscribe_all(&mut third, |_| ());
        assert_eq!((fanout.find("lobby"), fanout.rooms.len()), (None, 0));
    }
}
