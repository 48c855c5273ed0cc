//! The shape of one run, drawn from its seed. Each seed switches kinds of faults and of actions on or off (swarm testing): a
//! run in which everything happens at once rarely gets far into any one corner.
use throng::config::Config;
use throng::plane::{Faults, SimOptions, SimRng};

/// What a client does in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Connect,
    Join,
    Leave,
    LeaveForGood,
    Send,
    SendAgain,
    SendConflicting,
    Broadcast,
    Typing,
    Heartbeat,
    Ask,
    Ping,
    Unknown,
    Malformed,
    Stall,
    CloseNormally,
    Cut,
    Abandon,
    Offend,
    Idle,
}

/// Every action with its usual weight, and whether a swarm may go without it.
const ACTIONS: [(Action, u32, bool); 20] = [
    (Action::Connect, 30, false),
    (Action::Join, 20, false),
    (Action::Leave, 6, true),
    (Action::LeaveForGood, 3, true),
    (Action::Send, 40, false),
    (Action::SendAgain, 6, true),
    (Action::SendConflicting, 2, true),
    (Action::Broadcast, 30, true),
    (Action::Typing, 8, true),
    (Action::Heartbeat, 3, true),
    (Action::Ask, 6, true),
    (Action::Ping, 4, true),
    (Action::Unknown, 2, true),
    (Action::Malformed, 3, true),
    (Action::Stall, 6, true),
    (Action::CloseNormally, 3, true),
    (Action::Cut, 4, true),
    (Action::Abandon, 2, true),
    (Action::Offend, 1, true),
    (Action::Idle, 5, true),
];

#[derive(Clone, Debug)]
pub struct Shape {
    pub shards: u16,
    pub agents: usize,
    /// Several agents may be devices of one user.
    pub users: usize,
    pub rooms: usize,
    pub steps: usize,
    pub faults: Faults,
    pub plane: SimOptions,
    /// Places in each mailbox between shards.
    pub mailbox: usize,
    /// How often a shard misses its turn.
    pub lazy: f64,
    pub store: StoreShape,
    weights: Vec<(Action, u32)>,
    /// Texts may need escapes, so that parsing changes the bytes a command came in.
    pub has_escapes: bool,
    /// Clients write in pieces and in fragments.
    pub dribbles: bool,
    /// Probability of a step that takes seconds instead of milliseconds.
    pub leap: f64,
    /// Probability of a step in which every connection is lost and nobody comes back for a while.
    pub outage: f64,
    /// Longest text of a message, characters.
    pub text_max: usize,
    /// Tokens end within the run.
    pub short_tokens: bool,
    pub ends_by_drain: bool,
    pub config: Config,
    /// How many members a turn may offer frames to, if not as many as ever.
    pub offers: Option<usize>,
}

/// What may go wrong with the store, as probabilities.
#[derive(Clone, Copy, Debug)]
pub struct StoreShape {
    /// That it does anything in a step.
    pub works: f64,
    /// Per job: the back end fails.
    pub fails: f64,
    /// Per step: its queues are full.
    pub is_full: f64,
}

impl StoreShape {
    pub const HEALTHY: StoreShape = StoreShape { works: 1.0, fails: 0.0, is_full: 0.0 };
}

impl Shape {
    pub fn of(seed: u64) -> Shape {
        let mut rng = SimRng::new(seed ^ 0x5a9e);
        let rng = &mut rng;
        let agents = 2 + rng.below(9);
        let config = config(rng);
        // A message with its envelope fits, whatever is escaped in it.
        let text_max = [10, 100, 900][rng.below(3)].min(config.ws.max_message_bytes as usize / 4);
        Shape {
            shards: 1 + rng.below(3) as u16,
            agents,
            users: agents.div_ceil(1 + rng.below(2)),
            rooms: 1 + rng.below(4),
            steps: 100 + rng.below(300),
            faults: faults(rng),
            plane: SimOptions {
                slots: if rng.chance(0.2) { 4 } else { 64 },
                buffers: 4 + rng.below(13),
                buffer_bytes: [32, 256, 2_048][rng.below(3)],
                socket_bytes: [256, 2_048, 16_384][rng.below(3)],
            },
            mailbox: [1, 8, 256][rng.below(3)],
            lazy: [0.0, 0.3, 0.7][rng.below(3)],
            store: StoreShape {
                works: [0.2, 0.5, 1.0][rng.below(3)],
                fails: maybe(rng, 0.3, 0.2),
                is_full: maybe(rng, 0.3, 0.1),
            },
            weights: ACTIONS
                .into_iter()
                .map(|(action, weight, may_lack)| (action, if may_lack && rng.chance(0.4) { 0 } else { weight }))
                .collect(),
            has_escapes: rng.chance(0.5),
            dribbles: rng.chance(0.4),
            outage: maybe(rng, 0.4, 0.01),
            leap: maybe(rng, 0.4, 0.03),
            text_max,
            short_tokens: rng.chance(0.1),
            ends_by_drain: rng.chance(0.3),
            config,
            offers: rng.chance(0.5).then(|| 1 + rng.below(4)),
        }
    }

    pub fn action(&self, rng: &mut SimRng) -> Action {
        let total: u32 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(total as usize) as u32;
        for &(action, weight) in &self.weights {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return action,
            }
        }
        Action::Idle
    }

    /// A session may not be in all rooms at once.
    pub fn has_few_rooms(&self) -> bool {
        self.config.limits.rooms_per_session < self.rooms as u64
    }

    /// Readers are never so slow that they lose anything: no bound on unsent bytes can be reached.
    pub fn has_roomy_queues(&self) -> bool {
        self.config.conn.out_queue_bytes >= 1 << 20
    }
}

/// `value` in a part of the runs, else never.
fn maybe(rng: &mut SimRng, part: f64, value: f64) -> f64 {
    if rng.chance(part) { value } else { 0.0 }
}

fn faults(rng: &mut SimRng) -> Faults {
    Faults {
        short_read: maybe(rng, 0.5, 0.5),
        partial_send: maybe(rng, 0.5, 0.3),
        no_buffers: maybe(rng, 0.3, 0.2),
        late_completion: maybe(rng, 0.5, 0.5),
        reset: maybe(rng, 0.3, 0.005),
        delay: maybe(rng, 0.3, 0.1),
        delay_ms_max: 50,
    }
}

fn config(rng: &mut SimRng) -> Config {
    let mut pick = |usual: u64, edge: u64| if rng.chance(0.35) { edge } else { usual };
    let mut config = Config::default();
    config.ws.max_message_bytes = pick(65_536, 1_024);
    config.auth.timeout_ms = pick(10_000, 500);
    config.limits.connections_per_ip = pick(100, 2);
    config.limits.handshakes_per_ip = 0;
    config.limits.connections_per_user = pick(20, 1);
    config.limits.rooms_per_session = pick(128, 1);
    config.limits.live = pick(0, 5);
    config.limits.live_burst = 10;
    config.limits.messages = pick(0, 5);
    config.limits.messages_window_s = 5;
    config.limits.commands = pick(0, 20);
    config.conn.out_queue_bytes = pick(1 << 20, 2_048);
    config.conn.write_timeout_ms = pick(10_000, 500);
    config.rooms.recent = pick(50, 3);
    config.presence.leave_grace_ms = pick(10_000, 300);
    config.presence.events_max_users = pick(1_000, 2);
    config.recovery.limit = pick(300, 6);
    config.chat.dedupe_s = 3_600;
    if rng.chance(0.2) {
        (config.ws.ping_interval_ms, config.ws.pong_timeout_ms) = (2_000, 3_000);
    }
    if rng.chance(0.05) {
        config.conn.stale_ms = 5_000;
    }
    if rng.chance(0.08) {
        config.limits.commands = 1;
    }
    config
}
