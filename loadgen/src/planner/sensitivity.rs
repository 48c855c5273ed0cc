//! What would change the answer: the same plan with one thing else, each sized anew.
use super::model::Model;
use super::plan::{Ask, MachineSpec, SPARE};
use super::sizing::{Resource, Sizing, size};
use super::usl::Usl;
use super::words;
use serde::{Deserialize, Serialize};

/// A plan with one thing changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub what: String,
    /// With the spare one; `None`: a single room is more than a machine.
    pub bought: Option<u64>,
    pub first: Resource,
    pub cost_per_month: Option<f64>,
}

/// Contention that is tried where the scaling over cores was not measured: each core loses this share to what is common. Most
/// published fits of servers lie between 0.01 and 0.05.
pub const SIGMA_DOUBT: f64 = 0.03;

pub fn changes(model: &Model, ask: &Ask, machine: &MachineSpec, sizing: &Sizing) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |what: String, model: &Model, ask: Ask, machine: MachineSpec| {
        let sized = size(model, &ask, &machine, 1.0);
        let bought = sized.machines.map(|machines| machines + SPARE);
        let cost_per_month = bought.zip(machine.cost_per_month).map(|(bought, cost)| bought as f64 * cost);
        changes.push(Change { what, bought, first: sized.first, cost_per_month });
    };
    if ask.rate_per_s > 0.0 {
        let rate = ask.rate_per_s / 2.0;
        add(format!("half the rate: {} each", words::rate(rate)), model, Ask { rate_per_s: rate, ..*ask }, *machine);
    }
    if ask.rooms_of >= 4 {
        let rooms_of = ask.rooms_of / 2;
        add(format!("rooms of {}", words::count(rooms_of as f64)), model, Ask { rooms_of, ..*ask }, *machine);
    }
    if ask.payload_bytes >= 2.0 {
        let payload_bytes = ask.payload_bytes / 2.0;
        add(format!("payload of {payload_bytes:.0} bytes"), model, Ask { payload_bytes, ..*ask }, *machine);
    }
    if !ask.is_gathered && ask.rooms_of > 3 && ask.rate_per_s > 0.0 {
        let what = "one gathered update per user and tick".to_string();
        add(what, model, Ask { is_gathered: true, ..*ask }, *machine);
    }
    if ask.durable_rate_per_s > 0.0 {
        add("no durable messages".into(), model, Ask { durable_rate_per_s: 0.0, ..*ask }, *machine);
    }
    if let Some(seconds) = ask.reconnect_s {
        let what = format!("{:.0} s for everyone to reconnect", seconds * 2.0);
        add(what, model, Ask { reconnect_s: Some(seconds * 2.0), ..*ask }, *machine);
    }
    let headroom = if ask.headroom >= 0.4 { ask.headroom / 2.0 } else { 0.5 };
    add(format!("headroom of {:.0} %", headroom * 100.0), model, Ask { headroom, ..*ask }, *machine);
    add(
        format!("twice the users: {}", words::count(ask.users as f64 * 2.0)),
        model,
        Ask { users: ask.users * 2, ..*ask },
        *machine,
    );
    // A larger machine at the same price tells how much a core is worth; what it costs is known to who buys it.
    let larger = MachineSpec { cores: machine.cores * 2, cost_per_month: None, ..*machine };
    add(format!("machines of {} cores, else alike", larger.cores), model, *ask, larger);
    if sizing.first == Resource::Network {
        let faster = MachineSpec { nic_bits_per_s: machine.nic_bits_per_s * 10.0, cost_per_month: None, ..*machine };
        add(format!("network cards of {}", words::bits(faster.nic_bits_per_s)), model, *ask, faster);
    }
    if sizing.first == Resource::Memory {
        let more = MachineSpec { ram_bytes: machine.ram_bytes * 2.0, cost_per_month: None, ..*machine };
        add(format!("machines with {} of memory", words::bytes(more.ram_bytes)), model, *ask, more);
    }
    let is_doubtful = model.usl.as_ref().is_none_or(|usl| usl.effective_margin(sizing.shards).is_none());
    if sizing.shards > model.reach.shards && is_doubtful {
        let what = format!("if each core lost {:.0} % to the others (not measured)", SIGMA_DOUBT * 100.0);
        add(what, &with_contention(model), *ask, *machine);
    }
    changes
}

/// The model with contention by guess: σ = `SIGMA_DOUBT`, or what was measured if that is more.
fn with_contention(model: &Model) -> Model {
    let mut model = model.clone();
    let place =
        |n: f64, usl: &Usl| super::usl::Place { n, throughput: usl.lambda * n / (1.0 + SIGMA_DOUBT * (n - 1.0)) };
    let one = || Usl::fit(&[super::usl::Place { n: 1.0, throughput: 1.0 }]).ok();
    if let Some(usl) = model.usl.clone().or_else(one).filter(|usl| usl.sigma.unwrap_or(0.0) < SIGMA_DOUBT) {
        model.usl = Usl::fit(&[place(1.0, &usl), place(2.0, &usl)]).ok();
    }
    model
}
