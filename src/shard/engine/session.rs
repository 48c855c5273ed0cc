//! The table of engine sessions of one shard, and what one session holds.
use super::exchange::{Exchanges, Reply};
use super::recovery::Recoveries;
use super::virtuals::Virtual;
use crate::ids::UlidSource;
use crate::plane::Slot;
use crate::session::socketio;
use crate::shard::conn::NONE;
use crate::shard::conns::VIRTUAL_BASE;
use crate::shard::mail::Mail;
use crate::shard::wheel::Wheel;
use crate::wire::engineio::{Probe, Revision, Sid};
use slab::Slab;
use smallvec::SmallVec;

/// All that a shard keeps for Engine.IO.
pub struct Engines {
    pub sessions: Slab<Session>,
    /// One timer for each session, by its row.
    pub timers: Wheel,
    pub expired: Vec<u32>,
    /// By slot less `VIRTUAL_BASE`.
    pub virtuals: Vec<Option<Box<Virtual>>>,
    /// Virtual connections that were closed; their slots are free from the next turn on, as the plane's are after `Released`.
    pub released: Vec<Slot>,
    /// Sessions whose poll can be answered at the end of the flush.
    pub answerable: Vec<u32>,
    pub exchanges: Exchanges,
    pub recoveries: Recoveries,
    /// Rooms of this shard that are to be entered again.
    pub resumes: Vec<Mail>,
    pub tools: socketio::Tools,
    pub output: socketio::Output,
    /// Generation of the next session.
    generation: u16,
}

impl Default for Engines {
    fn default() -> Engines {
        Engines {
            sessions: Slab::new(),
            // As for connections: a ping after 25 s is within one turn of the ring.
            timers: Wheel::new(512, 0),
            expired: Vec::new(),
            virtuals: Vec::new(),
            released: Vec::new(),
            answerable: Vec::new(),
            exchanges: Exchanges::default(),
            recoveries: Recoveries::default(),
            resumes: Vec::new(),
            tools: socketio::Tools::default(),
            output: socketio::Output::default(),
            generation: 0,
        }
    }
}

/// What a session was admitted by, to be given back when it ends.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Entry in `Addresses`.
    pub address: Option<u32>,
}

pub struct Session {
    pub sid: Sid,
    pub revision: Revision,
    pub transport: Transport,
    /// A WebSocket that wants to take over from polling.
    pub candidate: Option<Candidate>,
    /// Slots of its virtual connections.
    pub connections: SmallVec<[Slot; 2]>,
    pub protocol: socketio::Session,
    /// A token that came with the handshake, for namespaces that are asked for without one (R-AUTH-1).
    pub token: Option<Box<str>>,
    /// Set when all is over but the word to a client that polls: when that began.
    pub closing_since: Option<u32>,
    /// A session on polling counts as a connection; on a carrier the carrier does.
    pub counted: Option<Counted>,
    /// Counts as not signed in: nobody has signed in on it yet.
    pub is_unauthenticated: bool,
}

pub enum Transport {
    Polling(Polling),
    /// The WebSocket in this slot.
    Carrier(Slot),
}

#[derive(Default)]
pub struct Polling {
    /// What waits for the next GET: packets as WebSocket frames.
    pub buffer: Vec<u8>,
    /// The GET that waits.
    pub get: Option<Reply>,
    /// A POST's body is being read.
    pub is_posting: bool,
    /// Bytes that the session itself has said since the buffer was empty.
    pub own_bytes: usize,
}

pub struct Candidate {
    pub slot: Slot,
    pub probe: Probe,
}

impl Engines {
    /// A new session with a sid of its own.
    pub fn add(&mut self, shard: u16, ids: &mut UlidSource, transport: Transport, protocol: socketio::Session) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = self.sessions.vacant_entry();
        let key = entry.key() as u32;
        entry.insert(Session {
            sid: Sid::new(shard, generation, key, ids.random()),
            revision: protocol.revision(),
            transport,
            candidate: None,
            connections: SmallVec::new(),
            protocol,
            token: None,
            closing_since: None,
            counted: None,
            is_unauthenticated: true,
        });
        key
    }

    /// The row of the session that this sid names.
    pub fn find(&self, sid: Sid) -> Option<u32> {
        let session = self.sessions.get(sid.slot as usize)?;
        session.sid.is(sid).then_some(sid.slot)
    }

    pub fn get(&mut self, key: u32) -> Option<&mut Session> {
        self.sessions.get_mut(key as usize)
    }

    /// What belongs to a virtual connection besides its record.
    pub fn virtual_of(&mut self, slot: Slot) -> Option<&mut Virtual> {
        self.virtuals.get_mut((slot - VIRTUAL_BASE) as usize)?.as_deref_mut()
    }

    /// The session of a virtual connection, NONE if it has ended.
    pub fn session_of(&self, slot: Slot) -> u32 {
        let row = self.virtuals.get((slot - VIRTUAL_BASE) as usize);
        row.and_then(Option::as_ref).map_or(NONE, |virtual_| virtual_.session)
    }

    pub fn set_virtual(&mut self, slot: Slot, virtual_: Virtual) {
        let row = (slot - VIRTUAL_BASE) as usize;
        if self.virtuals.len() <= row {
            self.virtuals.resize_with(row + 1, || None);
        }
        self.virtuals[row] = Some(Box::new(virtual_));
    }

    /// No session is left, here or for a poll that came in here.
    pub fn is_drained(&self) -> bool {
        self.sessions.is_empty() && self.exchanges.visitors == 0
    }

    /// Keeps room for so many in the lists.
    pub fn trim(&mut self, kept: usize) {
        self.expired.shrink_to(kept);
        self.released.shrink_to(kept);
        self.answerable.shrink_to(kept);
        self.resumes.shrink_to(kept);
        self.output = socketio::Output::default();
    }

    pub fn session_keys(&self) -> Vec<u32> {
        self.sessions.iter().map(|(key, _)| key as u32).collect()
    }

    /// Sessions that no carrier counts for.
    pub fn polling_count(&self) -> u64 {
        self.sessions.iter().filter(|(_, session)| session.counted.is_some()).count() as u64
    }
}

impl Session {
    pub fn carrier(&self) -> Option<Slot> {
        match self.transport {
            Transport::Polling(_) => None,
            Transport::Carrier(slot) => Some(slot),
        }
    }
}
