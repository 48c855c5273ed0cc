//! A plan: what an ask needs on given machines, what runs out first, and what would change the answer.
use super::caution;
use super::fit::Coefficient;
use super::model::{Compared, Model};
use super::network::Network;
use super::sensitivity::{self, Change};
use super::sizing::{self, Resource, Sizing, handshakes_per_s, memory_bytes, size};
use super::usl::Usl;
use super::work::{EVENTS_KEPT_OF_ROOM, Work};
use serde::{Deserialize, Serialize};

/// What is to be carried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub users: u64,
    /// Members of a room; everyone is in one.
    pub rooms_of: u64,
    /// Live messages per second of each user, to all others of the room.
    pub rate_per_s: f64,
    pub payload_bytes: f64,
    /// Durable messages per second of each user, with the same payload.
    pub durable_rate_per_s: f64,
    pub heartbeat_s: f64,
    /// Share of each resource that stays free.
    pub headroom: f64,
    /// All users must be able to come back within this.
    pub reconnect_s: Option<f64>,
    /// Users send to one participant of the room (the game's server), which sends everyone one message per tick with the payload
    /// of all others. Throng does not do this; the application does.
    pub is_gathered: bool,
}

impl Ask {
    /// The work of so many of the users on one server.
    pub fn work(&self, users: f64, shards: f64) -> Work {
        let others = (self.rooms_of as f64 - 1.0).max(0.0);
        let rooms = users / (self.rooms_of as f64).max(1.0);
        let live = users * self.rate_per_s;
        // Gathered: each message goes to the room's collector; each tick one message goes to each user.
        let (received, deliveries, payload) = match self.is_gathered {
            false => (live, live * others, live * others * self.payload_bytes),
            true => (
                live + rooms * self.rate_per_s,
                2.0 * live,
                live * self.payload_bytes + live * others * self.payload_bytes,
            ),
        };
        let durable = users * self.durable_rate_per_s;
        let durable_deliveries = durable * self.rooms_of as f64;
        let has_traffic = deliveries + durable_deliveries > 0.0;
        Work {
            shards,
            connections: users,
            active_connections: if has_traffic { users } else { 0.0 },
            room_members: self.rooms_of as f64,
            received_per_s: received,
            durable_per_s: durable,
            durable_rooms: if durable > 0.0 { rooms } else { 0.0 },
            events_kept: if durable > 0.0 { rooms * EVENTS_KEPT_OF_ROOM } else { 0.0 },
            deliveries_per_s: deliveries + durable_deliveries,
            payload_bytes_per_s: payload + durable_deliveries * self.payload_bytes,
            heartbeats_per_s: if self.heartbeat_s > 0.0 { users / self.heartbeat_s } else { 0.0 },
        }
    }

    /// Mean payload of what the server receives.
    pub fn sent_payload_bytes(&self) -> f64 {
        let others = (self.rooms_of as f64 - 1.0).max(0.0);
        match self.is_gathered {
            false => self.payload_bytes,
            // Per tick and room: a message of each member, and one with all of them.
            true => self.payload_bytes * (self.rooms_of as f64 + others) / (self.rooms_of as f64 + 1.0),
        }
    }
}

/// One of the machines to buy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSpec {
    pub cores: u32,
    pub ram_bytes: f64,
    pub nic_bits_per_s: f64,
    /// RLIMIT_NOFILE: rows of each shard's connection table.
    pub nofile: u64,
    /// In whichever currency.
    pub cost_per_month: Option<f64>,
}

impl Default for MachineSpec {
    /// No cores and no memory, as these must be told; the network card and limit that servers mostly have.
    fn default() -> MachineSpec {
        MachineSpec { cores: 0, ram_bytes: 0.0, nic_bits_per_s: 10e9, nofile: 1_048_576, cost_per_month: None }
    }
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub ask: Ask,
    pub machine: MachineSpec,
    pub source: Source,
    /// Work of all users together.
    pub total: Work,
    pub network: Network,
    /// Cores in use over all machines that carry the load.
    pub cpu_cores: f64,
    /// CPU of a delivery at the load of the plan, its share of a send included, µs.
    pub delivery_us: f64,
    /// Deliveries that share a send.
    pub depth: f64,
    pub sizing: Sizing,
    /// With one to spare; `None` as in `Sizing`.
    pub bought: Option<u64>,
    /// 95 % range of the machines that carry the load, as far as the model's own errors tell; `None`: they do not.
    pub machines_range: Option<(u64, Option<u64>)>,
    pub use_of: Vec<Use>,
    /// On one machine while one is missing.
    pub per_machine: PerMachine,
    pub cost_per_month: Option<f64>,
    pub cost_per_user_month: Option<f64>,
    /// Why the ask is not sensible on these machines, in words; empty: it is.
    pub objections: Vec<String>,
    /// Where the plan goes beyond what was measured.
    pub cautions: Vec<String>,
    pub assumptions: Vec<String>,
    pub changes: Vec<Change>,
    /// Users, and what they need: for plots.
    pub growth: Vec<Growth>,
}

/// Where the figures come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub measured_at: u64,
    pub server_version: Option<String>,
    pub loadgen_version: String,
    pub cpu: String,
    pub cores: u32,
    pub kernel: String,
    pub points: usize,
    /// Root mean square miss of the CPU fit at its own points.
    pub fit_miss: f64,
    pub validation: Vec<Compared>,
    pub usl: Option<Usl>,
    /// All prices behind the figures: CPU, memory, kernel, handshake.
    pub prices: Vec<(String, Vec<Coefficient>)>,
}

/// How much of a resource is in use, 1.0: all of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Use {
    pub resource: Resource,
    /// While one machine is missing, and while all are there.
    pub one_missing: f64,
    pub all_there: f64,
    /// Machines that this resource alone would need.
    pub machines: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerMachine {
    pub users: f64,
    pub cpu_cores: f64,
    pub rss_bytes: f64,
    pub kernel_bytes: f64,
    pub deliveries_per_s: f64,
    pub network: Network,
    /// Time for all its users to come back.
    pub reconnect_s: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    pub users: u64,
    pub bought: Option<u64>,
    pub cost_per_user_month: Option<f64>,
}

/// Machines that may fail while the rest carries everything.
pub const SPARE: u64 = 1;

/// Makes the plan.
pub fn plan(model: &Model, ask: &Ask, machine: &MachineSpec) -> Plan {
    let sizing = size(model, ask, machine, 1.0);
    let bought = sizing.machines.map(|machines| machines + SPARE);
    // An ask that no machine carries is shown at what one machine would have to do with one room.
    let machines =
        sizing.machines.unwrap_or_else(|| (ask.users as f64 / ask.rooms_of.max(1) as f64).ceil().max(1.0) as u64);
    let users = ask.users as f64 / machines as f64;
    let work = ask.work(users, sizing.shards);
    let predicted = model.predict(&work);
    let kept = 1.0 - ask.headroom;
    let sends = model.sends_per_s(&work, predicted.utilisation.min(kept));
    let cpu_cores = model.cpu_cores_at(&work, predicted.utilisation.min(kept)).value;
    let network = model.network(&work, sends, ask.sent_payload_bytes());
    let depth = if work.deliveries_per_s > 0.0 { work.deliveries_per_s / sends.max(1e-9) } else { 1.0 };
    let efficiency = model.effective_shards(sizing.shards) / sizing.shards;
    let own = |name: &str| model.cpu.price(name);
    let mean_payload = if work.deliveries_per_s > 0.0 { work.payload_bytes_per_s / work.deliveries_per_s } else { 0.0 };
    let delivery_us =
        own(super::cost::DELIVERY) + own(super::cost::SEND) / depth + mean_payload * own(super::cost::PAYLOAD_BYTE);
    let per_machine = PerMachine {
        users,
        cpu_cores,
        rss_bytes: predicted.rss_bytes.map_or(0.0, |bytes| bytes.value),
        kernel_bytes: predicted.kernel_bytes.map_or(0.0, |bytes| bytes.value),
        deliveries_per_s: work.deliveries_per_s,
        network,
        reconnect_s: handshakes_per_s(model, sizing.shards, 1.0).map(|per_s| users / per_s),
    };
    let cost_per_month = bought.zip(machine.cost_per_month).map(|(bought, cost)| bought as f64 * cost);
    let mut plan = Plan {
        ask: *ask,
        machine: *machine,
        source: source(model),
        total: ask.work(ask.users as f64, sizing.shards),
        network: network.scaled(machines as f64),
        cpu_cores: cpu_cores * machines as f64,
        delivery_us: delivery_us / efficiency,
        depth,
        use_of: uses(model, ask, machine, &sizing, machines),
        machines_range: range(model, ask, machine, &sizing, machines),
        bought,
        per_machine,
        cost_per_month,
        cost_per_user_month: cost_per_month.map(|cost| cost / ask.users as f64),
        objections: Vec::new(),
        cautions: Vec::new(),
        assumptions: caution::assumptions(model, ask),
        changes: sensitivity::changes(model, ask, machine, &sizing),
        growth: growth(model, ask, machine),
        sizing,
    };
    plan.objections = caution::objections(model, &plan);
    plan.cautions = caution::cautions(model, &plan);
    plan
}

fn source(model: &Model) -> Source {
    Source {
        measured_at: model.measured_at,
        server_version: model.server_version.clone(),
        loadgen_version: model.loadgen_version.clone(),
        cpu: model.machine.cpu.clone(),
        cores: model.machine.cores,
        kernel: model.machine.kernel.clone(),
        points: model.points.len(),
        fit_miss: model.cpu.miss_share,
        validation: model.validation.clone(),
        usl: model.usl.clone(),
        prices: model.price_list(),
    }
}

/// Share of each resource in use with `machines` up, and with the spare one too.
fn uses(model: &Model, ask: &Ask, machine: &MachineSpec, sizing: &Sizing, machines: u64) -> Vec<Use> {
    let share = |resource: Resource, machines: u64| {
        let users = ask.users as f64 / machines as f64;
        let work = ask.work(users, sizing.shards);
        let predicted = model.predict(&work);
        let limit =
            sizing.limits.iter().find(|limit| limit.resource == resource).map_or(f64::NAN, |limit| limit.capacity);
        match resource {
            Resource::Cpu => predicted.utilisation,
            Resource::Memory => memory_bytes(model, &work) / limit,
            Resource::Network => {
                let sends = model.sends_per_s(&work, predicted.utilisation);
                model.network(&work, sends, ask.sent_payload_bytes()).larger_bits_per_s() / machine.nic_bits_per_s
            }
            Resource::ConnectionTable => users / limit,
            Resource::DurableWriter => work.durable_per_s / limit,
            Resource::Reconnect => {
                handshakes_per_s(model, sizing.shards, 1.0).map_or(f64::NAN, |per_s| users / per_s / limit)
            }
        }
    };
    sizing
        .limits
        .iter()
        .map(|limit| Use {
            resource: limit.resource,
            one_missing: share(limit.resource, machines),
            // Where a single room is too much, another machine takes nothing from it.
            all_there: share(limit.resource, machines + if sizing.machines.is_some() { SPARE } else { 0 }),
            machines: ask.users as f64 / limit.users,
        })
        .collect()
}

/// Machines if CPU is as much cheaper or dearer as prices and scaling are uncertain.
fn range(
    model: &Model,
    ask: &Ask,
    machine: &MachineSpec,
    sizing: &Sizing,
    machines: u64,
) -> Option<(u64, Option<u64>)> {
    let cpu = model.cpu_cores_at(&ask.work(ask.users as f64 / machines as f64, sizing.shards), 1.0 - ask.headroom);
    let prices = cpu.margin? / cpu.value;
    // Within the shards measured the scaling is measured, whatever the curve's parameters are.
    let scaling = match &model.usl {
        Some(usl) if sizing.shards > model.reach.shards => {
            usl.effective_margin(sizing.shards)? / usl.effective(sizing.shards)
        }
        None if sizing.shards > model.reach.shards => return None,
        _ => 0.0,
    };
    let share = (prices * prices + scaling * scaling).sqrt();
    let low = sizing::size(model, ask, machine, (1.0 - share).max(0.05)).machines?;
    Some((low, sizing::size(model, ask, machine, 1.0 + share).machines))
}

fn growth(model: &Model, ask: &Ask, machine: &MachineSpec) -> Vec<Growth> {
    let users = (1..=20).map(|tenth| (ask.users as f64 * f64::from(tenth) / 10.0).round().max(1.0) as u64);
    users
        .map(|users| {
            let bought = size(model, &Ask { users, ..*ask }, machine, 1.0).machines.map(|machines| machines + SPARE);
            let cost = bought.zip(machine.cost_per_month).map(|(bought, cost)| bought as f64 * cost / users as f64);
            Growth { users, bought, cost_per_user_month: cost }
        })
        .collect()
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
