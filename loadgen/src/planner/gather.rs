//! How far deliveries share sends.
//!
//! A shard's turn takes what has arrived, and each connection gets what is new for it in one send. A send is the dear part of a
//! delivery (a system call's worth of kernel and TCP), so cost per delivery falls where several wait for the same connection.
//! How many do depends on the load: at low load each message has a turn of its own; near saturation turns take several.
//!
//! With Poisson arrivals at r per second and connection and θ turns per second a turn finds something for a connection with the
//! probability 1 − e^(−r/θ): that times θ are its sends per second, and r over them the depth. Turns come from wakes: θ = wakes/k,
//! where k, the wakes that one turn takes, is fitted as k = 1 + a + b·ρ/(1 − ρ) to the utilisation ρ of a shard.
use super::fit::{Coefficient, Prices};
use super::work::{MeasuredPoint, Work};
use serde::{Deserialize, Serialize};

/// Utilisations above count as this: the law has a pole at 1, measurements there are of queues.
const UTILISATION_MAX: f64 = 0.95;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatherLaw {
    prices: Prices,
    /// Largest depth among the points: beyond it the law extrapolates.
    pub depth_max_measured: f64,
}

/// Sends per second for all deliveries, with `turns` per shard and second.
fn sends_per_s(work: &Work, turns_per_shard_s: f64) -> f64 {
    let rate = work.deliveries_per_connection();
    if rate <= 0.0 || turns_per_shard_s <= 0.0 {
        return work.deliveries_per_s;
    }
    let found = turns_per_shard_s * -(-rate / turns_per_shard_s).exp_m1();
    (work.active_connections * found).min(work.deliveries_per_s)
}

impl MeasuredPoint {
    /// Sends per second as the server's turns tell; `None` if they are not known.
    pub fn sends_per_s(&self) -> Option<f64> {
        self.turns_per_shard_s.map(|turns| sends_per_s(&self.work, turns))
    }

    pub fn utilisation(&self) -> f64 {
        self.cpu_cores / self.work.shards.max(1.0)
    }
}

impl GatherLaw {
    /// `None`: fewer than three points with traffic know their turns.
    pub fn fit(points: &[MeasuredPoint]) -> Option<GatherLaw> {
        let known: Vec<(&MeasuredPoint, f64)> = points
            .iter()
            .filter(|point| point.work.deliveries_per_s > 0.0 && point.work.wakes_per_shard_s() > 0.0)
            .filter_map(|point| Some((point, point.turns_per_shard_s.filter(|turns| *turns > 0.0)?)))
            .collect();
        if known.len() < 3 {
            return None;
        }
        let rows: Vec<Vec<f64>> = known.iter().map(|(point, _)| features(point.utilisation())).collect();
        let more: Vec<f64> =
            known.iter().map(|(point, turns)| (point.work.wakes_per_shard_s() / turns - 1.0).max(0.0)).collect();
        let prices = Prices::fit(&[("always", "wakes"), ("by load", "wakes")], &rows, &more, 0.5);
        let depths = known.iter().map(|(point, turns)| point.work.deliveries_per_s / sends_per_s(&point.work, *turns));
        Some(GatherLaw { prices, depth_max_measured: depths.fold(1.0, f64::max) })
    }

    /// Sends per second for work at a utilisation of 0 to 1.
    pub fn sends_per_s(&self, work: &Work, utilisation: f64) -> f64 {
        let wakes = 1.0 + self.prices.at(&features(utilisation)).value;
        sends_per_s(work, work.wakes_per_shard_s() / wakes)
    }

    pub fn coefficients(&self) -> &[Coefficient] {
        &self.prices.coefficients
    }
}

fn features(utilisation: f64) -> Vec<f64> {
    let rho = utilisation.clamp(0.0, UTILISATION_MAX);
    vec![1.0, rho / (1.0 - rho)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(rate: f64) -> Work {
        Work {
            shards: 1.0,
            connections: 100.0,
            active_connections: 100.0,
            deliveries_per_s: 100.0 * rate,
            ..Work::default()
        }
    }

    /// 100 connections with 50 deliveries/s each. At 50 turns/s: 50 · (1 − e⁻¹) = 31.606 sends/s each. At very many turns every
    /// delivery goes alone, at 1 turn/s 50 share a send.
    #[test]
    fn turns_say_how_many_share_a_send() {
        assert!((sends_per_s(&work(50.0), 50.0) - 3160.6).abs() < 0.1);
        assert!((sends_per_s(&work(50.0), 1e9) - 5000.0).abs() < 0.1);
        assert!((sends_per_s(&work(50.0), 1.0) - 100.0).abs() < 0.1);
        assert_eq!(sends_per_s(&work(0.0), 10.0), 0.0);
    }
}
