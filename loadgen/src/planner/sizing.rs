//! How many users one machine carries by each of its resources, and so how many machines an ask needs.
use super::model::Model;
use super::plan::{Ask, MachineSpec};
use super::work::Work;
use serde::{Deserialize, Serialize};

/// Rows of a shard's connection table that are not for connections (docs/OPERATING.md, "Descriptors").
const DESCRIPTOR_RESERVE: f64 = 512.0;

/// No resource is asked for more users than this on one machine: beyond, it does not bind.
const USERS_MAX: f64 = 1e10;

/// What a machine can run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Cpu,
    Memory,
    Network,
    ConnectionTable,
    /// One thread writes what is durable, whatever the number of cores.
    DurableWriter,
    /// All come back at once, in the time allowed.
    Reconnect,
}

impl Resource {
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "CPU",
            Resource::Memory => "memory",
            Resource::Network => "network card",
            Resource::ConnectionTable => "connection table",
            Resource::DurableWriter => "durable writer",
            Resource::Reconnect => "reconnect storm",
        }
    }
}

/// One resource of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub resource: Resource,
    /// Users that it carries with the headroom kept.
    pub users: f64,
    /// What one machine has, without headroom: cores, bytes, bits/s, rows, messages/s, seconds.
    pub capacity: f64,
}

/// The answer in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizing {
    /// Shards on each machine.
    pub shards: f64,
    pub limits: Vec<Limit>,
    /// Machines that carry the load; `None`: a single room is more than a machine.
    pub machines: Option<u64>,
    pub first: Resource,
}

/// Sizes an ask. `cpu_factor`: 1, or how much dearer CPU is taken to be than the model says.
pub fn size(model: &Model, ask: &Ask, machine: &MachineSpec, cpu_factor: f64) -> Sizing {
    let sizer = Sizer { model, ask, machine, cpu_factor, shards: shards(model, machine) };
    let limits = sizer.limits();
    let first = *limits.iter().min_by(|a, b| a.users.total_cmp(&b.users)).unwrap_or(&limits[0]);
    let fits = first.users >= ask.rooms_of.min(ask.users) as f64;
    Sizing {
        shards: sizer.shards,
        // A machine holds whole users; a hair's breadth over a whole number is rounding, not need.
        machines: fits.then(|| (ask.users as f64 / first.users - 1e-9).ceil().max(1.0) as u64),
        first: first.resource,
        limits,
    }
}

/// One shard per core, but no more than the curve's top: from there on more do less.
pub fn shards(model: &Model, machine: &MachineSpec) -> f64 {
    let cores = f64::from(machine.cores.max(1));
    model.usl.as_ref().and_then(|usl| usl.peak()).map_or(cores, |peak| cores.min(peak.floor().max(1.0)))
}

struct Sizer<'a> {
    model: &'a Model,
    ask: &'a Ask,
    machine: &'a MachineSpec,
    cpu_factor: f64,
    shards: f64,
}

impl Sizer<'_> {
    fn limits(&self) -> Vec<Limit> {
        let kept = 1.0 - self.ask.headroom;
        let mut limits = vec![self.limit(Resource::Cpu, self.shards, |work| {
            self.model.cpu_cores_at(work, kept).value * self.cpu_factor <= kept * self.shards
        })];
        if self.model.rss.is_some() || self.model.kernel.is_some() {
            let ram = self.machine.ram_bytes;
            limits.push(self.limit(Resource::Memory, ram, |work| memory_bytes(self.model, work) <= kept * ram));
        }
        let nic = self.machine.nic_bits_per_s;
        limits.push(self.limit(Resource::Network, nic, |work| {
            let sends = self.model.sends_per_s(work, self.model.predict(work).utilisation.min(kept));
            self.model.network(work, sends, self.ask.sent_payload_bytes()).larger_bits_per_s() <= kept * nic
        }));
        let rows_per_ring = (self.machine.nofile as f64 - DESCRIPTOR_RESERVE).max(0.0);
        let rows = self.shards * f64::from(throng::limits::RINGS_MAX) * rows_per_ring;
        limits.push(Limit { resource: Resource::ConnectionTable, users: kept * rows, capacity: rows });
        if let (Some(ceiling), true) = (self.model.durable, self.ask.durable_rate_per_s > 0.0) {
            let users = kept * ceiling.per_s / self.ask.durable_rate_per_s;
            limits.push(Limit { resource: Resource::DurableWriter, users, capacity: ceiling.per_s });
        }
        if let (Some(seconds), Some(per_s)) = (self.ask.reconnect_s, self.handshakes_per_s()) {
            // Nothing else goes on while all are away: the whole machine takes part, without headroom.
            limits.push(Limit { resource: Resource::Reconnect, users: per_s * seconds, capacity: seconds });
        }
        limits
    }

    fn handshakes_per_s(&self) -> Option<f64> {
        handshakes_per_s(self.model, self.shards, self.cpu_factor)
    }

    /// The most users for which `fits` holds, by bisection; it must turn from true to false once.
    fn limit(&self, resource: Resource, capacity: f64, fits: impl Fn(&Work) -> bool) -> Limit {
        let fits = |users: f64| fits(&self.ask.work(users, self.shards));
        let (mut low, mut high) = (0.0, 1.0);
        while fits(high) && high < USERS_MAX {
            (low, high) = (high, high * 2.0);
        }
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if fits(middle) { low = middle } else { high = middle }
        }
        Limit { resource, users: low, capacity }
    }
}

/// Resident and kernel memory of a server with this work.
pub fn memory_bytes(model: &Model, work: &Work) -> f64 {
    let predicted = model.predict(work);
    predicted.rss_bytes.map_or(0.0, |bytes| bytes.value) + predicted.kernel_bytes.map_or(0.0, |bytes| bytes.value)
}

/// Handshakes per second that all shards together do.
pub fn handshakes_per_s(model: &Model, shards: f64, cpu_factor: f64) -> Option<f64> {
    let us = model.handshake.as_ref()?.value.filter(|us| *us > 0.0)? * cpu_factor;
    Some(model.effective_shards(shards) * 1e6 / us)
}
