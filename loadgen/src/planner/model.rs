//! The model file: prices fitted to measured points, with the machine, the date and the points they come from.
use super::commits::CommitLaw;
use super::cost;
use super::fit::{Coefficient, Estimate, Prices};
use super::gather::GatherLaw;
use super::network::{self, Network, Overhead};
use super::usl::{Place, Usl};
use super::work::{MeasuredPoint, Work};
use crate::result::Machine;
use serde::{Deserialize, Serialize};

/// Counts up when a field changes its meaning; a file of another format is refused.
pub const FORMAT: u32 = 1;

/// Points that delivered less than this share of what was asked are past saturation and tell queues, not prices.
pub const ACHIEVED_MIN: f64 = 0.97;
/// Shards busier than this wait for each other and for the client; their CPU is not a sum of prices any more.
const UTILISATION_MAX: f64 = 0.97;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub format: u32,
    /// Unix ms of the newest point.
    pub measured_at: u64,
    pub server_version: Option<String>,
    pub loadgen_version: String,
    pub machine: Machine,
    /// The command that measured it.
    pub command: String,
    /// µs of CPU per second.
    pub cpu: Prices,
    pub rss: Option<Prices>,
    /// The server's ends of connections in the kernel.
    pub kernel: Option<Prices>,
    pub handshake: Option<Coefficient>,
    pub gather: Option<GatherLaw>,
    #[serde(default)]
    pub commits: Option<CommitLaw>,
    /// Deliveries per second at saturation over shards.
    pub usl: Option<Usl>,
    pub durable: Option<Ceiling>,
    pub overhead: Overhead,
    /// Largest values among the points: a plan beyond them extrapolates.
    pub reach: Reach,
    pub points: Vec<MeasuredPoint>,
    /// Predictions of points that were not fitted, against what was then measured.
    pub validation: Vec<Compared>,
    pub notes: Vec<String>,
}

/// The most that was seen of something that does not scale with shards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    pub per_s: f64,
    /// More was tried and not reached. False: it is only what was tried.
    pub is_knee: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    pub shards: f64,
    pub shards_min: f64,
    pub connections: f64,
    pub deliveries_per_s: f64,
    pub payload_bytes: f64,
    pub room_members: f64,
}

/// A prediction beside what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub name: String,
    /// CPU of the measured point over that of the same shards at saturation.
    pub saturation: f64,
    pub cpu_predicted: f64,
    pub cpu_measured: f64,
    pub rss_predicted: Option<f64>,
    pub rss_measured: Option<f64>,
    pub kernel_predicted: Option<f64>,
    pub kernel_measured: Option<f64>,
}

/// What a server does with some work, by the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub cpu_cores: Estimate,
    /// Of the shards, 1.0: all busy all the time. Above 1: more than they can do.
    pub utilisation: f64,
    pub sends_per_s: f64,
    pub rss_bytes: Option<Estimate>,
    pub kernel_bytes: Option<Estimate>,
}

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("no usable point: {0}")]
    NoPoint(String),
    #[error("this is no model file: {0}")]
    NotAModel(#[from] serde_json::Error),
    #[error("the model has format {0}, this program reads {FORMAT}; measure again with `capacity`")]
    Format(u64),
}

impl Model {
    /// Fits everything. `knees`: deliveries per second at saturation, one for each shard count.
    pub fn fit(
        points: &[MeasuredPoint],
        knees: &[Place],
        durable: Option<Ceiling>,
        machine: Machine,
    ) -> Result<Model, ModelError> {
        let usable: Vec<MeasuredPoint> = points.iter().filter(|point| is_usable(point)).cloned().collect();
        if usable.is_empty() {
            return Err(ModelError::NoPoint(format!(
                "of {} measured, none is sound, delivered {:.0} % and left its shards below {:.0} %",
                points.len(),
                100.0 * ACHIEVED_MIN,
                100.0 * UTILISATION_MAX
            )));
        }
        let usl = Usl::fit(knees).ok();
        let gather = GatherLaw::fit(&usable);
        let commits = CommitLaw::fit(&usable);
        let efficiency = |shards| efficiency(usl.as_ref(), shards);
        let cpu = cost::fit_cpu(&usable, gather.as_ref(), commits.as_ref(), efficiency);
        let largest = |of: fn(&MeasuredPoint) -> f64| usable.iter().map(of).fold(0.0, f64::max);
        let mut notes = Vec::new();
        if gather.is_none() {
            notes.push("The server did not tell its turns: how far deliveries share sends is not known. CPU per delivery is that of the loads measured.".into());
        }
        if points.len() > usable.len() {
            notes.push(format!(
                "{} of {} points were left out: unsound, or past saturation.",
                points.len() - usable.len(),
                points.len()
            ));
        }
        Ok(Model {
            format: FORMAT,
            measured_at: usable.iter().map(|point| point.started_at).max().unwrap_or(0),
            server_version: None,
            loadgen_version: machine.loadgen_version.clone(),
            machine,
            command: String::new(),
            cpu,
            rss: cost::fit_rss(&usable),
            kernel: cost::fit_kernel(&usable),
            handshake: cost::fit_handshake(&usable),
            gather,
            commits,
            usl,
            durable,
            overhead: overhead(&usable),
            reach: Reach {
                shards: largest(|point| point.work.shards),
                shards_min: usable.iter().map(|point| point.work.shards).fold(f64::INFINITY, f64::min),
                connections: largest(|point| point.work.connections),
                deliveries_per_s: largest(|point| point.work.deliveries_per_s),
                payload_bytes: largest(|point| point.work.payload_bytes_per_s / point.work.deliveries_per_s.max(1.0)),
                room_members: largest(|point| point.work.room_members),
            },
            points: usable,
            validation: Vec::new(),
            notes,
        })
    }

    pub fn from_json(text: &str) -> Result<Model, ModelError> {
        // The format first: fields of another one would be reported as missing.
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format != u64::from(FORMAT) => Err(ModelError::Format(format)),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    pub fn to_json(&self) -> Result<String, ModelError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// So many single shards' work do these.
    pub fn effective_shards(&self, shards: f64) -> f64 {
        shards * efficiency(self.usl.as_ref(), shards)
    }

    /// Sends per second for work at a utilisation; all deliveries alone if that is not known.
    pub fn sends_per_s(&self, work: &Work, utilisation: f64) -> f64 {
        self.gather.as_ref().map_or(work.deliveries_per_s, |law| law.sends_per_s(work, utilisation))
    }

    /// CPU in cores, if the shards are as busy as `utilisation` says.
    pub fn cpu_cores_at(&self, work: &Work, utilisation: f64) -> Estimate {
        let commits_per_s = self.commits.map_or(0.0, |law| law.commits_per_s(work));
        let single = cost::cpu_cores(&self.cpu, work, self.sends_per_s(work, utilisation), commits_per_s);
        let efficiency = efficiency(self.usl.as_ref(), work.shards);
        Estimate { value: single.value / efficiency, margin: single.margin.map(|margin| margin / efficiency) }
    }

    /// CPU and memory for work. The utilisation is where both sides agree: busier shards gather more, and so need less.
    pub fn predict(&self, work: &Work) -> Prediction {
        let need = |utilisation: f64| self.cpu_cores_at(work, utilisation).value / work.shards.max(1.0);
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if need(middle) > middle { low = middle } else { high = middle }
        }
        let utilisation = if need(1.0) >= 1.0 { need(1.0) } else { high };
        Prediction {
            cpu_cores: self.cpu_cores_at(work, utilisation),
            utilisation,
            sends_per_s: self.sends_per_s(work, utilisation),
            rss_bytes: self.rss.as_ref().map(|prices| cost::rss_bytes(prices, work, self.reach.shards_min)),
            kernel_bytes: self.kernel.as_ref().map(|prices| prices.at(&[work.connections])),
        }
    }

    pub fn network(&self, work: &Work, sends_per_s: f64, sent_payload_bytes: f64) -> Network {
        Network::of(work, sends_per_s, sent_payload_bytes, &self.overhead)
    }

    /// µs for one delivery of a payload where each has a send of its own, and where as many share one as in the points at most.
    pub fn delivery_us(&self, payload_bytes: f64) -> (f64, f64) {
        let own = self.cpu.price(cost::DELIVERY) + payload_bytes * self.cpu.price(cost::PAYLOAD_BYTE);
        let send = self.cpu.price(cost::SEND);
        let depth = self.gather.as_ref().map_or(1.0, |law| law.depth_max_measured);
        (own + send, own + send / depth)
    }

    /// All prices by what they are of, for tables.
    pub fn price_list(&self) -> Vec<(String, Vec<Coefficient>)> {
        let of = |prices: &Option<Prices>| prices.as_ref().map_or(Vec::new(), |prices| prices.coefficients.clone());
        let list = [
            ("CPU", self.cpu.coefficients.clone()),
            ("CPU of connecting", self.handshake.iter().cloned().collect()),
            ("Memory of the process", of(&self.rss)),
            ("Memory of the kernel", of(&self.kernel)),
            ("Gathering", self.gather.as_ref().map_or(Vec::new(), |law| law.coefficients().to_vec())),
        ];
        list.into_iter()
            .filter(|(_, prices)| !prices.is_empty())
            .map(|(what, prices)| (what.to_string(), prices))
            .collect()
    }

    /// Predicts a point that is not among those fitted. `cpu_saturated`: cores used at the knee by as many shards.
    pub fn compare(&self, point: &MeasuredPoint, cpu_saturated: f64) -> Compared {
        let predicted = self.predict(&point.work);
        Compared {
            name: point.name.clone(),
            saturation: point.cpu_cores / cpu_saturated,
            cpu_predicted: predicted.cpu_cores.value,
            cpu_measured: point.cpu_cores,
            rss_predicted: predicted.rss_bytes.map(|bytes| bytes.value),
            rss_measured: point.rss_bytes,
            kernel_predicted: predicted.kernel_bytes.map(|bytes| bytes.value),
            kernel_measured: point.kernel_bytes,
        }
    }
}

impl Compared {
    /// The goal: CPU and memory within 10 %.
    pub const GOAL: f64 = 0.10;

    pub fn cpu_miss(&self) -> f64 {
        self.cpu_predicted / self.cpu_measured - 1.0
    }

    pub fn rss_miss(&self) -> Option<f64> {
        Some(self.rss_predicted? / self.rss_measured? - 1.0)
    }

    pub fn is_within(&self) -> bool {
        self.cpu_miss().abs() <= Compared::GOAL && self.rss_miss().is_none_or(|miss| miss.abs() <= Compared::GOAL)
    }
}

fn is_usable(point: &MeasuredPoint) -> bool {
    point.is_sound && point.achieved >= ACHIEVED_MIN && point.utilisation() <= UTILISATION_MAX
}

fn efficiency(usl: Option<&Usl>, shards: f64) -> f64 {
    usl.map_or(1.0, |usl| usl.effective(shards.max(1.0)) / shards.max(1.0))
}

/// Medians of the points that tell; the protocol's own sizes otherwise.
fn overhead(points: &[MeasuredPoint]) -> Overhead {
    let median = |of: fn(&MeasuredPoint) -> Option<f64>| {
        let mut values: Vec<f64> = points.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let delivered = median(|point| point.overhead_bytes);
    Overhead {
        delivered_bytes: delivered.unwrap_or_else(network::delivered_overhead_bytes),
        sent_bytes: median(|point| point.sent_overhead_bytes).unwrap_or_else(network::sent_overhead_bytes),
        is_measured: delivered.is_some(),
    }
}
