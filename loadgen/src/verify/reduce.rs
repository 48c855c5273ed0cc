//! The small form of a scenario that a second, plain client can carry: the same layers, lines and kinds, fewer connections.
use crate::scenario::figures::Figures;
use crate::scenario::{Connect, Scenario, Time};

/// Few enough for one thread that parses everything into a tree, many enough for rooms with an audience.
pub const CONNECTIONS_MAX: u32 = 64;

/// Bounds on the traffic, per second.
const DELIVERIES_MAX: f64 = 4_000.0;
const MESSAGES_MAX: f64 = 1_000.0;
/// Fewer would prove little in a few seconds: rates are raised to this where the deliveries allow it.
const MESSAGES_MIN: f64 = 100.0;

const HEARTBEAT_MS: u64 = 500;

const TIME: Time = Time { warmup_s: 0.5, measure_s: 5.0, settle_s: 10.0 };

/// No storm, no churn, no slow readers: what a connection misses is not judged here, only what it must get.
pub fn reduce(scenario: &Scenario) -> Scenario {
    let mut small = scenario.clone();
    small.connections = scenario.connections.min(CONNECTIONS_MAX);
    if let Some(members) = scenario.layers.first().map(|layer| layer.members)
        && (1..small.connections).contains(&members)
    {
        small.connections -= small.connections % members;
    }
    small.connect = Connect::default();
    small.time = Time { measure_s: TIME.measure_s.min(scenario.time.measure_s), ..TIME };
    small.storm = None;
    small.churn = None;
    small.slow_readers = None;
    if small.heartbeat_ms > 0 {
        small.heartbeat_ms = HEARTBEAT_MS;
    }
    for index in 0..small.traffic.len() {
        let line = &small.traffic[index];
        if let Some(layer) = small.layers.iter().position(|layer| layer.name == line.layer) {
            small.traffic[index].senders = line.senders.min(small.members(layer));
        }
    }
    let figures = Figures::of(&Scenario { heartbeat_ms: 0, ..small.clone() });
    if figures.messages_per_s() > 0.0 {
        let wanted = MESSAGES_MIN / figures.messages_per_s();
        let allowed = MESSAGES_MAX / figures.messages_per_s();
        let allowed = allowed.min(DELIVERIES_MAX / figures.deliveries_per_s.max(1.0));
        let factor = wanted.max(1.0).min(allowed);
        small.traffic.iter_mut().for_each(|line| line.rate_per_s *= factor);
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::builtin::BUILTINS;
    use crate::scenario::check::check;
    use crate::scenario::load::{Adjust, load};

    #[test]
    fn every_scenario_has_a_small_form_that_is_sound() {
        for builtin in BUILTINS {
            let scenario = load(builtin.name, &Adjust::default()).expect("sound");
            let small = reduce(&scenario);
            assert_eq!(check(&small), [], "{}", builtin.name);
            let figures = Figures::of(&small);
            assert!((1..=CONNECTIONS_MAX).contains(&small.connections), "{}", builtin.name);
            assert!(figures.deliveries_per_s <= DELIVERIES_MAX * 1.001, "{}: {figures:?}", builtin.name);
            let (all, of_it) = (Figures::of(&scenario), figures);
            for (whole, part) in [
                (all.live_per_s, of_it.live_per_s),
                (all.durable_per_s, of_it.durable_per_s),
                (all.typing_per_s, of_it.typing_per_s),
                (all.heartbeats_per_s, of_it.heartbeats_per_s),
            ] {
                assert_eq!(whole > 0.0, part > 0.0, "{}: {figures:?}", builtin.name);
            }
        }
    }

    #[test]
    fn rooms_stay_full_where_they_fit() {
        let small = |name| reduce(&load(name, &Adjust::default()).expect("sound"));
        assert_eq!((small("chat").connections, small("chat").rooms(0)), (60, 3));
        assert_eq!((small("support-desk").connections, small("support-desk").rooms(0)), (63, 21));
        assert_eq!((small("battle-royale").connections, small("battle-royale").rooms(0)), (64, 1));
        assert_eq!((small("fanout").members(0), small("fanout").rooms(0)), (64, 1));
    }
}
