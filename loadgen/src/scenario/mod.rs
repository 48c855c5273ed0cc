//! What a run does: who connects, in which rooms, what is sent how often, and what goes wrong on purpose.
//!
//! A scenario is a TOML file. It is data only: the engine knows no scenario by name.
pub mod builtin;
pub mod check;
pub mod figures;
pub mod load;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole scenario. Times count from the start of the run unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name, also of its targets.
    pub name: String,
    /// What it stands for and what its figures tell, in a sentence or two.
    pub about: String,
    /// Connections in all, each its own user.
    pub connections: u32,
    #[serde(default)]
    pub connect: Connect,
    pub time: Time,
    /// Each connection is in one room of each layer. No layer: in no room.
    #[serde(default, rename = "layer")]
    pub layers: Vec<Layer>,
    #[serde(default)]
    pub traffic: Vec<Traffic>,
    /// Every connection sends a heartbeat this often, phases spread evenly; 0: none. The answer's time is measured.
    #[serde(default)]
    pub heartbeat_ms: u64,
    pub storm: Option<Storm>,
    pub churn: Option<Churn>,
    pub slow_readers: Option<SlowReaders>,
    #[serde(default)]
    pub server: ServerSettings,
}

/// How connections are opened at the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connect {
    /// Handshakes begun per second over all workers; 0: as fast as `window` lets.
    pub rate_per_s: f64,
    /// Handshakes under way at once, over all workers.
    pub window: u32,
}

impl Default for Connect {
    fn default() -> Connect {
        Connect { rate_per_s: 0.0, window: 256 }
    }
}

/// The measured window begins when all are connected, joined, and `warmup_s` has passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// Traffic runs but is not in the figures (it is checked all the same).
    pub warmup_s: f64,
    pub measure_s: f64,
    /// At the end: how long to wait for what is still under way before it counts as lost.
    #[serde(default = "Time::settle_s_default")]
    pub settle_s: f64,
}

impl Time {
    fn settle_s_default() -> f64 {
        10.0
    }
}

/// One way of putting connections into rooms: connection *c* is in room *c / members*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    pub name: String,
    /// Members of a room; the last room may have fewer. 0: one room with everyone.
    pub members: u32,
}

/// What a traffic line sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Live events: at most once, may be skipped for a slow reader. Delivery is measured.
    Live,
    /// Durable messages: ack and delivery are measured, nothing may be lost.
    Durable,
    /// `typing_start`: not stamped, so only sent and counted.
    Typing,
    /// `activity`: as typing, without an audience.
    Activity,
}

/// Senders in each room of a layer, and their schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub kind: Kind,
    /// Name of the layer.
    pub layer: String,
    /// Senders in each room, evenly spread over its members; 0: all members.
    pub senders: u32,
    /// Rooms of the layer that have these senders, the first ones, at most so many; 0: all.
    #[serde(default)]
    pub rooms: u32,
    /// Messages per second of each sender.
    pub rate_per_s: f64,
    /// Bytes of the payload (live) or text (durable), at least `Stamp::BYTES`.
    #[serde(default = "Traffic::payload_bytes_default")]
    pub payload_bytes: u32,
    #[serde(default)]
    pub arrival: Arrival,
    /// Live only: the sender gets its own event too.
    #[serde(default)]
    pub include_self: bool,
}

impl Traffic {
    fn payload_bytes_default() -> u32 {
        64
    }
}

/// How intended times are spread. Both are fixed before the run, by seed, and do not look at the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Independent of each other: exponential gaps. Bursts occur, as they do in life.
    #[default]
    Poisson,
    /// Equal gaps, each sender with its own phase: ticks of a game.
    Uniform,
}

/// All connections break at once and come back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// Seconds after the measured window began.
    pub at_s: f64,
    /// Share of the connections that break, 0 to 1.
    pub fraction: f64,
    /// Each comes back after a random time up to this.
    pub jitter_ms: u64,
}

/// Connections leave and come back all the time, with recovery of what they missed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Connections that break per second, over all.
    pub per_s: f64,
    /// How long one stays away.
    pub away_ms: u64,
    /// Whether they say goodbye (close 1000) or just go.
    #[serde(default)]
    pub is_orderly: bool,
}

/// Some connections read slower than they are sent to. They are apart from `connections` and join the rooms of the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowReaders {
    pub count: u32,
    /// What each reads per second; 0: nothing at all.
    pub bytes_per_s: u32,
}

/// What the server is started with, when it is started for the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Shards; 0: one per core the server gets, and as many more as the connections need.
    pub shards: u32,
    /// `--set key=value`, besides the limits against abuse, which are off.
    pub set: BTreeMap<String, String>,
}

/// A sender: one connection that publishes to its room of a layer, by one traffic line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Index of the traffic line.
    pub traffic: usize,
    /// Its place in the room's members, from 0.
    pub member: u32,
}

impl Scenario {
    /// Members of a full room of the layer.
    pub fn members(&self, layer: usize) -> u32 {
        match self.layers[layer].members {
            0 => self.connections,
            members => members.min(self.connections),
        }
    }

    /// Rooms of the layer, the last perhaps not full.
    pub fn rooms(&self, layer: usize) -> u32 {
        self.connections.div_ceil(self.members(layer).max(1))
    }

    /// Rooms that have the senders of a line of this layer: how many are full, with their size, and how many are not (none or one).
    pub fn rooms_with(&self, line: &Traffic, layer: usize) -> [(u32, u32); 2] {
        let members = self.members(layer).max(1);
        let (full, rest) = (self.connections / members, self.connections % members);
        let chosen = if line.rooms == 0 { u32::MAX } else { line.rooms };
        [(full.min(chosen), members), (u32::from(rest > 0 && chosen > full), rest)]
    }

    /// Room of a connection in a layer, numbered over all layers: those of layer 0 first.
    pub fn room_number(&self, layer: usize, connection: u32) -> u32 {
        let before: u32 = (0..layer).map(|layer| self.rooms(layer)).sum();
        before + connection / self.members(layer)
    }

    /// Layer and, within it, index of a room.
    pub fn room_place(&self, room_number: u32) -> Option<(usize, u32)> {
        let mut rest = room_number;
        for layer in 0..self.layers.len() {
            match rest.checked_sub(self.rooms(layer)) {
                None => return Some((layer, rest)),
                Some(less) => rest = less,
            }
        }
        None
    }

    /// Publishers of a full room of the layer, in the order of `Stamp::publisher`. In a room that is not full those whose
    /// `member` does not exist are missing.
    pub fn publishers(&self, layer: usize) -> Vec<Publisher> {
        let members = self.members(layer);
        let lines = self.traffic.iter().enumerate();
        let lines = lines.filter(|(_, line)| line.layer == self.layers[layer].name);
        lines
            .flat_map(|(traffic, line)| {
                let senders = if line.senders == 0 { members } else { line.senders.min(members) };
                (0..senders).map(move |sender| Publisher {
                    traffic,
                    member: (u64::from(sender) * u64::from(members) / u64::from(senders)) as u32,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        toml::from_str(
            r#"
            name = "x"
            about = "y"
            connections = 250
            time = { warmup_s = 1, measure_s = 2 }
            [[layer]]
            name = "match"
            members = 100
            [[layer]]
            name = "team"
            members = 4
            [[traffic]]
            kind = "live"
            layer = "match"
            senders = 4
            rate_per_s = 20
            [[traffic]]
            kind = "durable"
            layer = "match"
            senders = 1
            rate_per_s = 1
            [[traffic]]
            kind = "durable"
            layer = "team"
            senders = 0
            rate_per_s = 0.1
            "#,
        )
        .expect("a scenario")
    }

    #[test]
    fn rooms_are_numbered_over_all_layers() {
        let scenario = scenario();
        assert_eq!((scenario.rooms(0), scenario.rooms(1)), (3, 63));
        assert_eq!(scenario.room_number(0, 249), 2);
        assert_eq!(scenario.room_number(1, 7), 3 + 1);
        assert_eq!(scenario.room_place(2), Some((0, 2)));
        assert_eq!(scenario.room_place(4), Some((1, 1)));
        assert_eq!(scenario.room_place(66), None);
    }

    #[test]
    fn senders_may_be_in_some_rooms_only() {
        let mut scenario = scenario();
        let rooms = |scenario: &Scenario| scenario.rooms_with(&scenario.traffic[0], 0);
        assert_eq!(rooms(&scenario), [(2, 100), (1, 50)]);
        scenario.traffic[0].rooms = 1;
        assert_eq!(rooms(&scenario), [(1, 100), (0, 50)]);
        scenario.traffic[0].rooms = 3;
        assert_eq!(rooms(&scenario), [(2, 100), (1, 50)]);
    }

    #[test]
    fn publishers_are_spread_over_the_members() {
        let members =
            |layer| -> Vec<_> { scenario().publishers(layer).iter().map(|p| (p.traffic, p.member)).collect() };
        assert_eq!(members(0), [(0, 0), (0, 25), (0, 50), (0, 75), (1, 0)]);
        assert_eq!(members(1), [(2, 0), (2, 1), (2, 2), (2, 3)]);
    }
}
