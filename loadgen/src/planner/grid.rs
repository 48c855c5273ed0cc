//! What `capacity` measures: scenarios over connections, payloads, rooms and rates, apart for fitting and for validation.
use crate::scenario::{Arrival, Connect, Kind, Layer, Scenario, ServerSettings, Time, Traffic};
use crate::stamp::Stamp;
use serde::{Deserialize, Serialize};

/// The axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Connections of the idle points, rising.
    pub connections: Vec<u32>,
    /// Connections of the points with traffic.
    pub active_connections: u32,
    pub payloads: Vec<u32>,
    pub rooms_of: Vec<u32>,
    /// Shard counts whose saturation is found; prices are fitted at the first.
    pub shards: Vec<u32>,
    pub is_durable: bool,
    pub warmup_s: f64,
    pub measure_s: f64,
    pub p99_max_ms: f64,
    /// Deliveries per second that the search for the knee begins with.
    pub start_per_s: f64,
}

impl Default for Grid {
    fn default() -> Grid {
        Grid {
            connections: vec![2_000, 8_000, 16_000],
            active_connections: 2_000,
            payloads: vec![64, 512, 2_048],
            rooms_of: vec![10, 100],
            shards: vec![1],
            is_durable: true,
            warmup_s: 2.0,
            measure_s: 8.0,
            p99_max_ms: 50.0,
            start_per_s: 20_000.0,
        }
    }
}

/// A load that is to be made into a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    pub connections: u32,
    pub rooms_of: u32,
    pub payload_bytes: u32,
    /// Live deliveries per second.
    pub deliveries_per_s: f64,
    /// Durable messages per second; each also makes as many deliveries as the room has members.
    pub durable_per_s: f64,
    pub heartbeat_ms: u64,
}

/// Shares of the knee at which prices are measured. Validation lies elsewhere, at other payloads and rooms.
pub const FIT_SHARES: [f64; 3] = [0.2, 0.45, 0.7];
pub const VALIDATION_SHARES: [f64; 3] = [0.3, 0.55, 0.8];

/// Connections of idle points with heartbeats beat this often: enough that their price shows, far below saturation.
const HEARTBEAT_MS: u64 = 2_000;

impl Grid {
    /// Why a grid cannot be measured, in words.
    pub fn check(&self) -> Result<(), String> {
        let empty = |what: &str| Err(format!("capacity needs at least one of its {what}"));
        match self {
            Grid { connections, .. } if connections.is_empty() => empty("connection counts"),
            Grid { payloads, .. } if payloads.is_empty() => empty("payloads"),
            Grid { rooms_of, .. } if rooms_of.is_empty() => empty("room sizes"),
            Grid { shards, .. } if shards.is_empty() => empty("shard counts"),
            Grid { rooms_of, .. } if rooms_of.iter().any(|members| *members < 2) => {
                Err("a room of one has no deliveries".into())
            }
            Grid { rooms_of, active_connections, .. }
                if rooms_of.iter().any(|members| members > active_connections) =>
            {
                Err(format!("rooms are larger than the {active_connections} connections with traffic"))
            }
            Grid { connections, shards, .. } if connections.contains(&0) || shards.contains(&0) => {
                Err("connections and shards are at least 1".into())
            }
            Grid { measure_s, .. } if *measure_s < 1.0 => Err("measuring for less than a second tells nothing".into()),
            _ => Ok(()),
        }
    }

    /// Connections without traffic, then one count with heartbeats.
    pub fn idle(&self) -> Vec<Load> {
        let silent = self.connections.iter().map(|&connections| Load { connections, ..Load::default() });
        let middle = self.connections[self.connections.len() / 2];
        silent.chain([Load { connections: middle, heartbeat_ms: HEARTBEAT_MS, ..Load::default() }]).collect()
    }

    /// The load whose knee is searched, at a number of deliveries per second.
    pub fn base(&self, deliveries_per_s: f64) -> Load {
        Load {
            connections: self.active_connections,
            rooms_of: self.rooms_of[self.rooms_of.len() / 2],
            payload_bytes: self.payloads[0],
            deliveries_per_s,
            ..Load::default()
        }
    }

    /// Live points for the prices: every payload with every room size, shares of the knee taking turns, so that no two of payload,
    /// room and rate rise together.
    pub fn live(&self, knee_per_s: f64) -> Vec<Load> {
        let mut loads = Vec::new();
        for (i, &payload_bytes) in self.payloads.iter().enumerate() {
            for (j, &rooms_of) in self.rooms_of.iter().enumerate() {
                for turn in 0..2 {
                    let share = FIT_SHARES[(i + j + 2 * turn) % FIT_SHARES.len()];
                    let deliveries_per_s = knee_per_s * share * self.thinned(payload_bytes, rooms_of);
                    let connections = self.active_connections;
                    loads.push(Load { connections, rooms_of, payload_bytes, deliveries_per_s, ..Load::default() });
                }
            }
        }
        loads
    }

    /// One room alone, so that what wakes a turn is for everyone: deliveries share sends as far as they ever do. Without these the
    /// price of a send cannot be told from that of a delivery.
    pub fn gathered(&self, knee_per_s: f64) -> Vec<Load> {
        let rooms_of = self.rooms_of.iter().copied().max().unwrap_or(2);
        let load = Load { connections: rooms_of, rooms_of, payload_bytes: self.payloads[0], ..Load::default() };
        FIT_SHARES.iter().chain(&[0.9]).map(|share| Load { deliveries_per_s: knee_per_s * share, ..load }).collect()
    }

    /// The knee was found with one payload and room size; larger payloads, and smaller rooms, for which more messages must come in,
    /// saturate earlier. A cautious guess: points above saturation are lost, those below only less telling.
    fn thinned(&self, payload_bytes: u32, rooms_of: u32) -> f64 {
        let base = self.base(0.0);
        let payload = 1.0 / (1.0 + f64::from(payload_bytes.saturating_sub(base.payload_bytes)) / 4096.0);
        let messages = (f64::from(rooms_of) / f64::from(base.rooms_of)).min(1.0).powf(0.35);
        payload * messages
    }

    /// Durable messages in rooms of the smallest size.
    pub fn durable(&self, messages_per_s: f64) -> Load {
        Load {
            connections: self.active_connections,
            rooms_of: self.rooms_of.iter().copied().min().unwrap_or(2),
            payload_bytes: self.payloads[0],
            durable_per_s: messages_per_s,
            ..Load::default()
        }
    }

    /// A load unlike all that are fitted: payload, rooms and connections in between, live and durable together.
    pub fn unseen(&self) -> Load {
        let between = |values: &[u32]| match values {
            [only] => f64::from(*only) * 1.5,
            [first, second, ..] => (f64::from(*first) * f64::from(*second)).sqrt(),
            [] => 0.0,
        };
        let rooms_of = (between(&self.rooms_of) as u32).clamp(2, self.active_connections);
        Load {
            connections: (self.active_connections * 3 / 4).max(rooms_of),
            rooms_of,
            payload_bytes: between(&self.payloads) as u32,
            deliveries_per_s: 1.0,
            // For a hundred live deliveries, one durable message.
            durable_per_s: if self.is_durable { 0.01 } else { 0.0 },
            heartbeat_ms: 10_000,
        }
    }

    pub fn scenario(&self, name: &str, load: &Load, shards: u32) -> Scenario {
        let mut scenario = Scenario {
            name: name.to_owned(),
            about: format!("a point of a capacity model: {load:?}"),
            connections: load.connections,
            connect: Connect::default(),
            time: Time { warmup_s: self.warmup_s, measure_s: self.measure_s, settle_s: 10.0 },
            layers: Vec::new(),
            traffic: Vec::new(),
            heartbeat_ms: load.heartbeat_ms,
            storm: None,
            churn: None,
            slow_readers: None,
            server: ServerSettings { shards, ..ServerSettings::default() },
        };
        if load.rooms_of < 2 {
            return scenario;
        }
        scenario.layers.push(Layer { name: "room".into(), members: load.rooms_of });
        let rooms = f64::from(load.connections) / f64::from(load.rooms_of);
        let mut add = |kind: Kind, messages_per_s: f64| {
            // Four senders to a room, so that none comes near the limit of one connection.
            let senders = load.rooms_of.min(4);
            let rate_per_s = messages_per_s / rooms / f64::from(senders);
            scenario.traffic.push(Traffic {
                rooms: 0,
                kind,
                layer: "room".into(),
                senders,
                rate_per_s,
                payload_bytes: load.payload_bytes.max(Stamp::BYTES as u32),
                arrival: Arrival::Poisson,
                include_self: false,
            });
        };
        if load.deliveries_per_s > 0.0 {
            add(Kind::Live, load.deliveries_per_s / (f64::from(load.rooms_of) - 1.0));
        }
        if load.durable_per_s > 0.0 {
            add(Kind::Durable, load.durable_per_s);
        }
        scenario
    }
}

impl Load {
    /// The same mixture, in another amount.
    pub fn scaled(&self, factor: f64) -> Load {
        Load { deliveries_per_s: self.deliveries_per_s * factor, durable_per_s: self.durable_per_s * factor, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::work::Work;

    #[test]
    fn a_scenario_asks_for_the_load_it_was_made_from() {
        let grid = Grid::default();
        let load = Load {
            connections: 2_000,
            rooms_of: 100,
            payload_bytes: 512,
            deliveries_per_s: 9_900.0,
            durable_per_s: 20.0,
            heartbeat_ms: 1_000,
        };
        let work = Work::offered(&grid.scenario("x", &load, 2), 2);
        // 9,900 / 99 = 100 live messages; 20 durable ones make 2,000 more deliveries.
        assert!((work.received_per_s - 100.0).abs() < 1e-6 && (work.durable_per_s - 20.0).abs() < 1e-6);
        assert!((work.deliveries_per_s - 11_900.0).abs() < 1e-6);
        assert!((work.payload_bytes_per_s - 11_900.0 * 512.0).abs() < 1e-3);
        assert_eq!((work.heartbeats_per_s, work.durable_rooms), (2_000.0, 20.0));
        assert!(Work::offered(&grid.scenario("idle", &grid.idle()[0], 1), 1).deliveries_per_s == 0.0);
    }

    #[test]
    fn validation_lies_apart_from_what_is_fitted() {
        let grid = Grid::default();
        let unseen = grid.unseen();
        let fitted = grid.live(1e5);
        assert_eq!(fitted.len(), 12);
        assert!(
            fitted.iter().all(|load| load.payload_bytes != unseen.payload_bytes && load.rooms_of != unseen.rooms_of)
        );
        assert!(VALIDATION_SHARES.iter().all(|share| !FIT_SHARES.contains(share)));
    }

    #[test]
    fn impossible_grids_are_named() {
        assert_eq!(Grid::default().check(), Ok(()));
        assert!(Grid { rooms_of: vec![1], ..Grid::default() }.check().unwrap_err().contains("room of one"));
        assert!(Grid { rooms_of: vec![9_999], ..Grid::default() }.check().unwrap_err().contains("larger"));
        assert!(Grid { shards: vec![], ..Grid::default() }.check().unwrap_err().contains("shard counts"));
    }
}
