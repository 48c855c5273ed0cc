//! A shard: one thread that owns its connections, its broadcast logs and the rooms and users whose home it is.
//!
//! The walk of a message, in the order of the files:
//! `receive` (bytes → messages) → `commands` (messages → commands; session commands end here) → the domain (`rooms`), on this
//! shard or, through `mail`, on the room's home → `effects` (events → frames) → `fanout` (one append to the room's log)
//! → `deliver` (one send per connection and round).
//!
//! Absences: a shard takes no lock, waits for nobody, and sleeps only where its host waits for the plane. Nothing per connection is
//! allocated while it is idle, nothing per delivery at all.
mod addresses;
mod charge;
mod commands;
mod conn;
mod connections;
mod conns;
mod deliver;
mod drain;
mod effects;
mod engine;
pub mod fanout;
pub mod formats;
mod front_door;
pub mod host;
mod liveness;
mod log;
pub mod mail;
pub mod mesh;
mod pass;
mod post;
mod receive;
mod records;
mod report;
mod room_timers;
mod settings;
mod sign_in;
mod streams;
mod subscription;
mod totals;
mod trim;
mod turn;
mod users;
pub mod wheel;

use crate::auth::{AuthError, Identity, ResumeKey, Verifier};
use crate::base::clock::Now;
use crate::base::user::UserRef;
use crate::config::Config;
use crate::ids::{ConnRef, UlidSource};
use crate::plane::{Completion, Plane, SLACK_BYTES, Slot};
use crate::rooms::Rooms;
use crate::rooms::effects::RoomTimer;
use crate::session::encode::{Encoder, Native};
use crate::session::transcode::Transcoder;
use crate::store::port::StorePort;
use crate::telemetry::{AuthFailure, Counters, HandshakeRefusal, ShardHistograms};
use crate::wire::ws::{Deflater, FrameBuffer, Inflater};
pub use addresses::{Addresses, Refused};
use connections::BufferPool;
pub use connections::Opening;
use conns::{Conns, Timers};
use deliver::Deliveries;
use engine::Engines;
use fanout::Fanout;
use formats::Formats;
pub use front_door::Door;
use mail::Mail;
use mesh::Mesh;
pub use report::Residue;
use room_timers::RoomTimers;
use settings::Settings;
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;
use streams::Streams;
pub use totals::Totals;
use users::Users;

/// Called with the `kid` of a token whose key is not known; must not block.
pub type UnknownKey = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// What a shard is made of besides its plane.
pub struct Parts {
    pub id: u16,
    pub shards: u16,
    pub config: Arc<Config>,
    pub verifier: Arc<Verifier>,
    pub resume_key: ResumeKey,
    pub unknown_key: UnknownKey,
    pub addresses: Arc<Addresses>,
    pub totals: Arc<Totals>,
    pub mesh: Mesh,
    pub store: Box<dyn StorePort>,
    pub ids: UlidSource,
}

/// See the module.
pub struct Shard<P: Plane> {
    core: Core<P>,
    /// The rooms whose home is here.
    rooms: Rooms,
    tools: commands::Tools,
    parked: post::Parked,
    completions: Vec<Completion<P::Buffer>>,
    due: Vec<RoomTimer>,
}

/// Everything but the domain, which acts on it through `Effects`.
struct Core<P: Plane> {
    id: u16,
    shards: u16,
    plane: P,
    now: Now,
    /// `now` in units of `limits::TICK_MS`.
    tick: u32,
    started_ns: u64,
    turns: u64,
    config: Arc<Config>,
    settings: Settings,
    verifier: Arc<Verifier>,
    resume_key: ResumeKey,
    unknown_key: UnknownKey,
    native: Encoder<Native>,
    formats: Formats,
    transcoder: Transcoder,
    /// What was transcoded last.
    transcoded: Vec<u8>,
    inflater: Inflater,
    /// The compressed message that was read last.
    inflated: Vec<u8>,
    ids: UlidSource,

    /// By slot.
    conns: Conns,
    actives: Slab<conn::Active>,
    /// Most side records in a turn since the last look (`trim`).
    actives_peak: usize,
    buffers: BufferPool,
    /// Connections whose slot was not released yet.
    open: u64,
    /// Connections whose side record stays until its buckets are full again, looked at in each tick.
    cooling: Vec<Slot>,
    /// One timer per connection; the key is its slot.
    wheel: Timers,
    expired: Vec<u32>,
    fanout: Fanout,
    /// Sends caused by who came and who left, in that tick.
    presence_sends: usize,
    presence_tick: u32,
    streams: Streams,
    deliveries: Deliveries,
    frame: FrameBuffer,
    /// TLS sessions.
    secured: records::Secured,
    users: Users,
    engines: Engines,
    addresses: Arc<Addresses>,
    totals: Arc<Totals>,

    mesh: Mesh,
    mail: Vec<Mail>,
    /// Received and not opened yet: what is to be done in rooms (`Mail::is_for_room`).
    room_mail: VecDeque<Mail>,
    /// Bytes of answers that the mail opened in this turn has sent to other shards.
    mailed_bytes: usize,
    store: Box<dyn StorePort>,
    /// Jobs handed to the store that have not come back.
    jobs_in_flight: u64,
    room_timers: RoomTimers,
    /// Rooms whose parked commands can be tried again.
    retries: Vec<u32>,
    /// Commands to be parked.
    parking: Vec<(u32, Mail)>,
    departures: Vec<Departure>,
    /// Connections that were signed in and have held commands.
    admitted: Vec<ConnRef>,

    charge: charge::Charge,
    counters: Counters,
    histograms: ShardHistograms,
    drain: Option<drain::Drain>,
    is_stopped: bool,
}

/// A subscription that is to end without a command; its room's home is to be told.
struct Departure {
    conn: ConnRef,
    user: UserRef,
    room: Arc<str>,
    parting: mail::Parting,
}

impl<P: Plane> Shard<P> {
    pub fn new(plane: P, parts: Parts) -> Shard<P> {
        let now = plane.now();
        // Tables that grow with connections are reserved whole: memory that is not touched is not resident, and a table of a million
        // rows that had to move would stop the shard for milliseconds and leave its old place behind.
        let capacity = plane.capacity() as usize;
        let settings = Settings::from(&*parts.config);
        let ws = &parts.config.ws;
        let deflater = Deflater::new(ws.deflate_level as u32, ws.deflate_min_bytes as usize);
        let users = Users::new((&*parts.config).into());
        let native = Encoder { vocabulary: Native, expose_email: settings.expose_email };
        Shard {
            rooms: Rooms::new(parts.id, (&*parts.config).into()),
            tools: commands::Tools::default(),
            parked: post::Parked::default(),
            completions: Vec::new(),
            due: Vec::new(),
            core: Core {
                id: parts.id,
                shards: parts.shards,
                plane,
                now,
                tick: (now.mono_ms() / crate::limits::TICK_MS) as u32,
                started_ns: now.mono_ns,
                turns: 0,
                config: parts.config,
                settings,
                verifier: parts.verifier,
                resume_key: parts.resume_key,
                unknown_key: parts.unknown_key,
                native,
                formats: Formats::default(),
                transcoder: Transcoder { deflater, ..Transcoder::default() },
                transcoded: Vec::new(),
                inflater: Inflater::default(),
                inflated: Vec::new(),
                ids: parts.ids,
                conns: Conns::new(capacity),
                actives: Slab::new(),
                actives_peak: 0,
                buffers: BufferPool::default(),
                open: 0,
                cooling: Vec::new(),
                // 512 ticks: the usual deadline, a ping after 25 s, is within one turn of the ring. Others are looked at each 51 s.
                wheel: Timers::new(512, capacity),
                expired: Vec::new(),
                fanout: Fanout::new(capacity),
                presence_sends: 0,
                presence_tick: 0,
                streams: Streams::default(),
                deliveries: Deliveries::default(),
                frame: FrameBuffer::default(),
                secured: records::Secured::default(),
                users,
                engines: Engines::default(),
                addresses: parts.addresses,
                totals: parts.totals,
                mesh: parts.mesh,
                mail: Vec::new(),
                room_mail: VecDeque::new(),
                mailed_bytes: 0,
                store: parts.store,
                jobs_in_flight: 0,
                room_timers: RoomTimers::new(),
                retries: Vec::new(),
                parking: Vec::new(),
                departures: Vec::new(),
                admitted: Vec::new(),
                charge: charge::Charge::default(),
                counters: Counters::default(),
                histograms: ShardHistograms::default(),
                drain: None,
                is_stopped: false,
            },
        }
    }

    /// Takes over an upgraded socket: signs its user in if the request carried a token, and reads what came behind the request.
    /// Gives the socket back if the plane's table is full. The next turn sends.
    pub fn open(&mut self, socket: P::Socket, mut opening: Opening) -> Result<Slot, P::Socket> {
        self.core.now = self.core.plane.now();
        let slot = self.core.adopt(socket, &mut opening)?;
        if let Some(identity) = &opening.identity {
            self.core.begin_session(slot, identity);
        }
        if !opening.received.is_empty() {
            let mut input = opening.received;
            let end = input.len();
            input.resize(end + SLACK_BYTES, 0);
            self.read(slot, &mut input, end);
        }
        self.settle_rooms();
        Ok(slot)
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.core.config.clone()
    }

    /// Checks a token that came with a request.
    pub fn verify(&mut self, token: &str) -> Result<Identity, AuthError> {
        self.core.now = self.core.plane.now();
        self.core.verify(token)
    }

    /// A drain or stop has begun: newcomers are refused.
    pub fn is_leaving(&self) -> bool {
        self.core.drain.is_some() || self.core.is_stopped
    }

    /// A TCP connection came, whatever becomes of it.
    pub fn count_accepted(&mut self) {
        self.core.counters.accepted += 1;
    }

    /// Counts a handshake that did not become a connection.
    pub fn count_refused(&mut self, reason: HandshakeRefusal) {
        self.core.counters.handshakes_refused.add(reason, 1);
    }

    /// Counts a request that brought no token where one was needed.
    pub fn count_auth_failure(&mut self, failure: AuthFailure) {
        self.core.counters.auth_failures.add(failure, 1);
    }

    /// For hosts: the plane's own handle.
    pub fn plane(&mut self) -> &mut P {
        &mut self.core.plane
    }
}

impl<P: Plane> Core<P> {
    /// Something is left for `settle_rooms`.
    fn has_unsettled(&self) -> bool {
        !(self.retries.is_empty()
            && self.parking.is_empty()
            && self.departures.is_empty()
            && self.admitted.is_empty()
            && self.engines.resumes.is_empty())
    }
}
