//! A whole server in one thread: real shards on simulated planes, wired as the process wires them.
use super::shape::Shape;
use super::store::SimStore;
use std::sync::{Arc, OnceLock};
use throng::auth::{Identity, Key, KeySet, ResumeKey, Settings as AuthSettings, Verifier};
use throng::base::mailbox::{Bell, Sender, mailbox};
use throng::base::user::GlobalRole;
use throng::config::Config;
use throng::ids::UlidSource;
use throng::plane::{NoWake, SimNet, SimPlane, SimRng, SimSocket};
use throng::session::format::Format;
use throng::shard::mail::Mail;
use throng::shard::mesh::Mesh;
use throng::shard::{Addresses, Opening, Parts, Shard, Totals};
use throng::telemetry::ShardReport;

pub const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

const SECRET: &[u8] = b"a secret of the simulation, 32 bytes and more";

pub struct Server {
    pub shards: Vec<Shard<SimPlane>>,
    pub store: SimStore,
    pub totals: Arc<Totals>,
    pub addresses: Arc<Addresses>,
    pub config: Arc<Config>,
    controls: Vec<Sender<Mail>>,
    /// Connections that a shard took on.
    pub opened: u64,
}

/// How a connection comes in.
pub struct Handshake {
    /// Who it is, if the request carried a token.
    pub identity: Option<Identity>,
    /// Bytes behind the request.
    pub received: Vec<u8>,
    pub address: u64,
    pub is_echo: bool,
}

impl Server {
    pub fn new(seed: u64, shape: &Shape, net: &SimNet, lies: f64) -> Server {
        let config = Arc::new(shape.config.clone());
        let count = usize::from(shape.shards);
        let bells: Vec<Arc<Bell>> = (0..count).map(|_| Bell::new(Box::new(NoWake))).collect();
        let mut out: Vec<Vec<Option<Sender<Mail>>>> = (0..count).map(|_| Vec::new()).collect();
        let mut inboxes: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for (from, out) in out.iter_mut().enumerate() {
            for (to, bell) in bells.iter().enumerate() {
                out.push((from != to).then(|| {
                    let (sender, receiver) = mailbox(shape.mailbox, bell);
                    inboxes[to].push(receiver);
                    sender
                }));
            }
        }
        let mut others = |capacity: usize| -> Vec<Sender<Mail>> {
            let pairs = bells.iter().map(|bell| mailbox(capacity, bell));
            pairs.zip(&mut inboxes).map(|((sender, receiver), inboxes)| (sender, inboxes.push(receiver)).0).collect()
        };
        let (stores, controls) = (others(shape.mailbox), others(64));
        let store = SimStore::new(seed, config.chat.dedupe_s, stores, lies);
        let verifier = Arc::new(Verifier::new(AuthSettings::from(&config.auth), keys()));
        let addresses = Arc::new(Addresses::new(count * shape.plane.slots as usize, &config.limits));
        let totals = Arc::new(Totals::default());
        let parts = (0..shape.shards).zip(out.into_iter().zip(inboxes)).map(|(id, (out, inboxes))| {
            let mut random = SimRng::new(seed ^ 0x1d << 8 ^ u64::from(id));
            Parts {
                id,
                shards: shape.shards,
                config: config.clone(),
                verifier: verifier.clone(),
                resume_key: ResumeKey::from_bytes(&[7; 32]),
                unknown_key: Arc::new(|_| ()),
                addresses: addresses.clone(),
                totals: totals.clone(),
                mesh: Mesh::new(out, inboxes),
                store: store.port(),
                ids: UlidSource::new(Box::new(move |bytes| random.fill(bytes))),
            }
        });
        let shards = parts.map(|parts| {
            let mut shard = Shard::new(net.plane(shape.plane), parts);
            shape.offers.into_iter().for_each(|count| shard.set_offers_per_turn(count));
            shard
        });
        let shards = shards.collect();
        Server { shards, store, totals, addresses, config, controls, opened: 0 }
    }

    /// What the front door does with a newcomer. False if it is turned away.
    pub fn open(&mut self, shard: usize, socket: SimSocket, handshake: Handshake, net: &SimNet) -> bool {
        let now = net.now();
        let capacity = self.shards.len() as u64 * 64;
        if self.totals.admit(&self.config.limits, capacity).is_err() {
            return false;
        }
        let Ok(address) = self.addresses.admit(handshake.address, now.mono_ms()) else {
            self.totals.signed_in();
            self.totals.closed();
            return false;
        };
        let opening = Opening {
            response: RESPONSE.to_vec(),
            session: None,
            identity: handshake.identity,
            received: handshake.received,
            address,
            accepted_at_ns: now.mono_ns,
            format: Format::NATIVE,
            is_echo: handshake.is_echo,
        };
        let is_taken = self.shards[shard].open(socket, opening).is_ok();
        if is_taken {
            self.opened += 1;
        } else {
            self.totals.signed_in();
            self.totals.closed();
            address.into_iter().for_each(|entry| self.addresses.release(entry));
        }
        is_taken
    }

    /// A turn of each shard, in an order drawn from the seed; a lazy one may miss it.
    pub fn turns(&mut self, rng: &mut SimRng, lazy: f64) {
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        while !order.is_empty() {
            let shard = order.swap_remove(rng.below(order.len()));
            if !rng.chance(lazy) {
                self.shards[shard].turn();
            }
        }
    }

    pub fn drain(&self) {
        for control in &self.controls {
            assert!(control.push(Mail::Drain).is_ok(), "a control mailbox is full");
        }
    }

    /// The shards' reports; takes a turn of each.
    pub fn reports(&mut self) -> Vec<ShardReport> {
        let ask = |(shard, control): (&mut Shard<SimPlane>, &Sender<Mail>)| {
            let (sender, answer) = crossbeam_channel::bounded(1);
            assert!(control.push(Mail::Report(sender)).is_ok(), "a control mailbox is full");
            shard.turn();
            *answer.try_recv().expect("a turn answers a report")
        };
        self.shards.iter_mut().zip(&self.controls).map(ask).collect()
    }
}

pub fn identity(user: &str, expires_at_ms: u64) -> Identity {
    Identity {
        user_id: user.into(),
        email: None,
        role: GlobalRole::None,
        expires_at_ms,
        valid_until_ms: expires_at_ms,
        issued_at_ms: None,
        jti: None,
    }
}

/// A signed token for the `auth` command.
pub fn token(user: &str, expires_at_ms: u64) -> String {
    let claims = serde_json::json!({ "userId": user, "exp": expires_at_ms / 1_000 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("claims can be signed")
}

fn keys() -> Arc<KeySet> {
    static KEYS: OnceLock<Arc<KeySet>> = OnceLock::new();
    let make = || {
        let key = Key::secret(None, SECRET).expect("long enough");
        Arc::new(KeySet::new(vec![Arc::new(key)], 1))
    };
    KEYS.get_or_init(make).clone()
}
