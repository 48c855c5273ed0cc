//! One connection as its client knows it: what was asked and not answered, what is expected next, how it may end.
use super::frames::{self, Reader};
use super::model::View;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use throng::plane::{ClientId, SimNet, SimRng};

/// A position in a room's stream: epoch and offset.
pub type Position = (String, u64);

/// A command that may still be answered, by its request id.
#[derive(Clone, Debug)]
pub enum Asked {
    Auth,
    Join {
        room: String,
        recover: Option<Position>,
    },
    Leave {
        room: String,
        is_sure: bool,
    },
    Send {
        room: String,
        client_id: String,
        text: String,
        is_sure: bool,
    },
    /// The `number`th broadcast of this connection to this room.
    Broadcast {
        room: String,
        number: u64,
        is_sure: bool,
    },
    Typing {
        room: String,
        is_sure: bool,
    },
    History {
        room: String,
        is_sure: bool,
    },
    Heartbeat,
    Resume {
        session: String,
        rooms: BTreeMap<String, Position>,
    },
    /// Lists and presence: an ack, or an error if not in the room.
    Other,
    Unknown,
}

impl Asked {
    /// Whether there is an answer even if nothing is wrong (R-ENV-2).
    pub fn is_answered(&self) -> bool {
        !matches!(self, Asked::Broadcast { .. } | Asked::Typing { .. })
    }

    pub fn room(&self) -> Option<&str> {
        match self {
            Asked::Join { room, .. }
            | Asked::Leave { room, .. }
            | Asked::Send { room, .. }
            | Asked::Broadcast { room, .. }
            | Asked::Typing { room, .. }
            | Asked::History { room, .. } => Some(room),
            _ => None,
        }
    }
}

pub struct Conn {
    /// In the order of opening; broadcasts carry it.
    pub number: usize,
    pub agent: usize,
    pub user: String,
    pub client: ClientId,
    pub reader: Reader,
    /// Written by the client, not yet given to its socket.
    unsent: VecDeque<u8>,
    dribbles: bool,

    pub is_signed_in: bool,
    pub has_auth: bool,
    /// Never says who it is.
    pub is_mute: bool,
    /// Session id and resume token.
    pub session: Option<(String, String)>,
    pub views: BTreeMap<String, View>,
    pub positions: BTreeMap<String, Position>,
    /// Request ids are given out in ascending order.
    pub asked: BTreeMap<String, Asked>,
    /// Those that were asked before the sign-in was.
    pub early: BTreeSet<String>,
    /// Request ids of joins and leaves, by room, in order; and of messages.
    pub moves: BTreeMap<String, VecDeque<String>>,
    pub sends: BTreeMap<String, VecDeque<String>>,
    pub broadcasts: BTreeMap<String, u64>,
    /// Joins that were acknowledged and whose snapshot has not come.
    pub awaiting: BTreeMap<String, VecDeque<Option<Position>>>,
    /// Rooms of a resume that were closed before its answer came.
    pub closed_early: BTreeSet<String>,
    pub malformed: u64,
    pub malformed_sent: u64,
    pub pings: VecDeque<Vec<u8>>,
    /// An echo connection: what should come back.
    pub echoes: Option<VecDeque<Vec<u8>>>,

    pub is_stalled: bool,
    pub was_stalled: bool,
    /// Its framing is broken, or it broke a rule: nothing more is said on it.
    pub is_poisoned: bool,
    /// It sent something that may or may not be a fault.
    pub is_garbled: bool,
    /// Close codes that this client has given cause for.
    pub may_close: BTreeSet<u16>,
    /// A close frame came, with this code.
    pub close_seen: Option<Option<u16>>,
    pub close_sent: bool,
    pub was_told_closing: bool,
    pub is_over: bool,
}

impl Conn {
    pub fn new(number: usize, agent: usize, user: &str, client: ClientId, dribbles: bool) -> Conn {
        Conn {
            number,
            agent,
            user: user.into(),
            client,
            reader: Reader::default(),
            unsent: VecDeque::new(),
            dribbles,
            is_signed_in: false,
            has_auth: false,
            is_mute: false,
            session: None,
            views: BTreeMap::new(),
            positions: BTreeMap::new(),
            asked: BTreeMap::new(),
            early: BTreeSet::new(),
            moves: BTreeMap::new(),
            sends: BTreeMap::new(),
            broadcasts: BTreeMap::new(),
            awaiting: BTreeMap::new(),
            closed_early: BTreeSet::new(),
            malformed: 0,
            malformed_sent: 0,
            pings: VecDeque::new(),
            echoes: None,
            is_stalled: false,
            was_stalled: false,
            is_poisoned: false,
            is_garbled: false,
            may_close: BTreeSet::new(),
            close_seen: None,
            close_sent: false,
            was_told_closing: false,
            is_over: false,
        }
    }

    /// Commands can be sent and will be answered.
    pub fn is_talking(&self) -> bool {
        !(self.is_over || self.is_poisoned || self.close_sent || self.close_seen.is_some())
    }

    /// Knows to be in the room when the command is executed: joined, and nothing on its way that would change it.
    pub fn is_surely_in(&self, room: &str) -> bool {
        self.views.contains_key(room) && self.moves.get(room).is_none_or(VecDeque::is_empty)
    }

    /// Queues an envelope and remembers the question.
    pub fn ask(&mut self, rng: &mut SimRng, id: &str, kind: &str, data: Value, asked: Asked) {
        match (&asked, asked.room()) {
            (Asked::Join { .. } | Asked::Leave { .. }, Some(room)) => {
                self.moves.entry(room.into()).or_default().push_back(id.into())
            }
            (Asked::Send { .. }, Some(room)) => self.sends.entry(room.into()).or_default().push_back(id.into()),
            _ => {}
        }
        self.asked.insert(id.into(), asked);
        if !self.has_auth {
            self.early.insert(id.into());
        }
        let envelope = json!({ "id": id, "type": kind, "data": data, "timestamp": 1 });
        self.text(rng, envelope.to_string().as_bytes());
    }

    /// Queues a text message, perhaps in fragments with pings between them.
    pub fn text(&mut self, rng: &mut SimRng, payload: &[u8]) {
        let bytes = match self.dribbles && rng.chance(0.2) {
            true => {
                let pings = &mut self.pings;
                frames::fragmented(rng, payload, |rng| match rng.below(2) {
                    0 => Vec::new(),
                    _ => {
                        let payload = rng.next_u64().to_le_bytes()[..rng.below(8)].to_vec();
                        let ping = frames::frame(rng, frames::PING, true, &payload);
                        pings.push_back(payload);
                        ping
                    }
                })
            }
            false => frames::frame(rng, frames::TEXT, true, payload),
        };
        self.unsent.extend(bytes);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// Gives bytes to the socket: all, or a part if this client dribbles.
    pub fn write(&mut self, rng: &mut SimRng, net: &SimNet, is_whole: bool) {
        let len = match self.dribbles && !is_whole && rng.chance(0.3) {
            true => rng.below(self.unsent.len() + 1),
            false => self.unsent.len(),
        };
        if len > 0 {
            let bytes: Vec<u8> = self.unsent.drain(..len).collect();
            net.client_write(self.client, &bytes);
        }
    }

    /// What is queued, for the bytes behind a request.
    pub fn take_unsent(&mut self) -> Vec<u8> {
        self.unsent.drain(..).collect()
    }

    /// Nothing is outstanding; what is, else.
    pub fn outstanding(&self) -> Option<String> {
        if let Some((id, asked)) = self.asked.iter().find(|(_, asked)| asked.is_answered()) {
            return Some(format!("{asked:?} ({id}) was not answered"));
        }
        if let Some(room) = self.awaiting.keys().next() {
            return Some(format!("no snapshot of {room} followed the ack of its join"));
        }
        if self.malformed > 0 || !self.pings.is_empty() {
            return Some(format!("{} errors and {} pongs are due", self.malformed, self.pings.len()));
        }
        self.echoes.as_ref().filter(|echoes| !echoes.is_empty()).map(|_| "echoes are due".into())
    }
}
