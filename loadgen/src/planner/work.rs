//! What a server has to do per second: the quantities that the cost model has prices for. Of a scenario, of a run, or of a plan.
use crate::result::{Outcome, RunResult};
use crate::scenario::{Kind, Scenario};
use serde::{Deserialize, Serialize};

/// Durable events that a room keeps in memory for those who come back: the server's default of `recovery.limit`.
pub const EVENTS_KEPT_OF_ROOM: f64 = 300.0;

/// Work on one server. Rates are per second over the whole server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Shard threads.
    pub shards: f64,
    pub connections: f64,
    /// Of them: in a room with live or durable traffic. They hold buffers that idle ones do not.
    pub active_connections: f64,
    /// Members of the rooms with traffic, on average over deliveries.
    pub room_members: f64,
    /// Commands from clients other than heartbeats and durable messages.
    pub received_per_s: f64,
    /// Durable messages: stored, acknowledged, then delivered.
    pub durable_per_s: f64,
    /// Rooms that durable messages go to.
    pub durable_rooms: f64,
    /// Durable events that these keep in memory: in a run those of so far, in a plan as many as they keep at most.
    #[serde(default)]
    pub events_kept: f64,
    /// Live and durable events, once for each member that gets them.
    pub deliveries_per_s: f64,
    /// Payload in them, without envelope and frame.
    pub payload_bytes_per_s: f64,
    pub heartbeats_per_s: f64,
}

impl Work {
    /// What a scenario asks for in its measured window.
    pub fn offered(scenario: &Scenario, shards: u32) -> Work {
        let mut work = Work { shards: shards.into(), connections: scenario.connections.into(), ..Work::default() };
        let mut is_active_layer = false;
        let mut weighted_members = 0.0;
        for layer in 0..scenario.layers.len() {
            let members = scenario.members(layer);
            if members == 0 {
                continue;
            }
            let mut is_durable_layer = false;
            for publisher in scenario.publishers(layer) {
                let line = &scenario.traffic[publisher.traffic];
                // Rooms of a size, and whether this publisher exists in them.
                for (rooms, size) in scenario.rooms_with(line, layer) {
                    if rooms == 0 || publisher.member >= size {
                        continue;
                    }
                    let rate = f64::from(rooms) * line.rate_per_s;
                    let audience = match line.kind {
                        Kind::Durable => size,
                        Kind::Live => size - u32::from(!line.include_self),
                        Kind::Typing | Kind::Activity => 0,
                    };
                    let deliveries = rate * f64::from(audience);
                    match line.kind {
                        Kind::Durable => work.durable_per_s += rate,
                        _ => work.received_per_s += rate,
                    }
                    is_durable_layer |= line.kind == Kind::Durable;
                    is_active_layer |= audience > 0;
                    work.deliveries_per_s += deliveries;
                    work.payload_bytes_per_s += deliveries * f64::from(line.payload_bytes);
                    weighted_members += deliveries * f64::from(size);
                }
            }
            if is_durable_layer {
                work.durable_rooms += f64::from(scenario.rooms(layer));
            }
        }
        if is_active_layer {
            work.active_connections = work.connections;
        }
        work.events_kept = work.events_after(scenario.time.warmup_s + scenario.time.measure_s);
        if work.deliveries_per_s > 0.0 {
            work.room_members = weighted_members / work.deliveries_per_s;
        }
        if scenario.heartbeat_ms > 0 {
            work.heartbeats_per_s = work.connections * 1000.0 / scenario.heartbeat_ms as f64;
        }
        work
    }

    /// Durable events in memory after so many seconds, if all rooms get as many.
    fn events_after(&self, seconds: f64) -> f64 {
        (self.durable_per_s * seconds).min(self.durable_rooms * EVENTS_KEPT_OF_ROOM)
    }

    /// The same kind of work in another amount: everything that grows with the users, times `factor`.
    pub fn scaled(&self, factor: f64) -> Work {
        Work {
            shards: self.shards,
            room_members: self.room_members,
            connections: self.connections * factor,
            active_connections: self.active_connections * factor,
            received_per_s: self.received_per_s * factor,
            durable_per_s: self.durable_per_s * factor,
            durable_rooms: self.durable_rooms * factor,
            events_kept: self.events_kept * factor,
            deliveries_per_s: self.deliveries_per_s * factor,
            payload_bytes_per_s: self.payload_bytes_per_s * factor,
            heartbeats_per_s: self.heartbeats_per_s * factor,
        }
    }

    /// Deliveries per second to one active connection.
    pub fn deliveries_per_connection(&self) -> f64 {
        if self.active_connections > 0.0 { self.deliveries_per_s / self.active_connections } else { 0.0 }
    }

    /// How many shards have members of a room, on average: its members are spread over them at random.
    pub fn shards_reached(&self) -> f64 {
        if self.shards <= 1.0 {
            1.0
        } else {
            self.shards * (1.0 - (1.0 - 1.0 / self.shards).powf(self.room_members.max(1.0)))
        }
    }

    /// What wakes one shard, per second: its clients' messages, and events of rooms with members on it.
    pub fn wakes_per_shard_s(&self) -> f64 {
        let events = (self.received_per_s + self.durable_per_s) * self.shards_reached();
        (events + self.heartbeats_per_s) / self.shards.max(1.0)
    }
}

/// One run, reduced to what the model is fitted to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasuredPoint {
    pub name: String,
    /// When the run began, Unix ms.
    pub started_at: u64,
    pub work: Work,
    /// Length of the measured window.
    pub seconds: f64,
    /// Server CPU, user and system, 1.0 is one whole core.
    pub cpu_cores: f64,
    /// Turns of one shard per second, where the server says so: they tell how far deliveries were gathered.
    pub turns_per_shard_s: Option<f64>,
    /// Commits of the durable writer per second, where the server says so.
    #[serde(default)]
    pub commits_per_s: Option<f64>,
    /// Resident at most; before the first connection.
    pub rss_bytes: Option<f64>,
    pub rss_before_bytes: Option<f64>,
    /// Kernel memory of the server's ends of the connections.
    pub kernel_bytes: Option<f64>,
    pub handshakes: f64,
    /// Server CPU per handshake with sign-in and joins, µs.
    pub handshake_cpu_us: Option<f64>,
    /// What a delivery took on the wire above its payload: envelope and WebSocket frame.
    pub overhead_bytes: Option<f64>,
    /// The same of what clients sent.
    pub sent_overhead_bytes: Option<f64>,
    /// Delivered of what was asked for, 1.0: all.
    pub achieved: f64,
    pub p99_ns: Option<u64>,
    pub is_sound: bool,
}

/// Below this many messages per connection the connecting itself is too large a part of the bytes.
const MESSAGES_PER_CONNECTION_MIN: f64 = 50.0;

impl MeasuredPoint {
    /// Why not, in words, where the run tells nothing about the server.
    pub fn from_result(result: &RunResult) -> Result<MeasuredPoint, String> {
        if result.verdict.outcome == Outcome::Invalid {
            return Err(format!("the run is invalid: {}", result.verdict.invalid.join("; ")));
        }
        let (Some(user), Some(system)) = (result.server.cpu_user_ns, result.server.cpu_system_ns) else {
            return Err("the server's CPU time is not readable: a model needs the server on this machine".into());
        };
        let counts = &result.counts;
        let window_ns = counts.measured_ns as f64;
        if window_ns <= 0.0 {
            return Err("the run has no measured window".into());
        }
        let seconds = window_ns / 1e9;
        let shards = result.server.shards.unwrap_or(result.scenario.server.shards).max(1);
        let offered = Work::offered(&result.scenario, shards);
        let share = |measured: u64, offered_per_s: f64| {
            if offered_per_s > 0.0 { measured as f64 / (offered_per_s * seconds) } else { 1.0 }
        };
        let achieved = share(counts.measured_delivered, offered.deliveries_per_s);
        let published = counts.measured_sent.saturating_sub(counts.measured_acked);
        let sent = share(published, offered.received_per_s);
        let acked = share(counts.measured_acked, offered.durable_per_s);
        let work = Work {
            received_per_s: offered.received_per_s * sent,
            durable_per_s: offered.durable_per_s * acked,
            events_kept: offered.events_kept * acked,
            deliveries_per_s: offered.deliveries_per_s * achieved,
            payload_bytes_per_s: offered.payload_bytes_per_s * achieved,
            heartbeats_per_s: counts.measured_heartbeats as f64 / seconds,
            ..offered
        };

        let turns = ["turn", "turns", "turn_seconds", "throng_turn_seconds"];
        let turns = turns.iter().find_map(|name| result.witness.histogram_counts.get(*name));
        let slab = |caches: &std::collections::BTreeMap<String, u64>| match caches.get("Slab") {
            Some(whole) => *whole as f64,
            None => caches.values().sum::<u64>() as f64,
        };
        // A loopback connection has both its ends in this kernel, and they are alike.
        let has_slab = !result.server.slab_before.is_empty() && !result.server.slab_connected.is_empty();
        let kernel = (slab(&result.server.slab_connected) - slab(&result.server.slab_before)).max(0.0) / 2.0;
        let connected = counts.connected as f64;
        let enough = |messages: u64| {
            (messages as f64 >= MESSAGES_PER_CONNECTION_MIN * connected.max(1.0)).then_some(messages as f64)
        };
        let delivered: u64 = counts.delivered.values().sum();
        let sent_messages: u64 = counts.sent.values().sum();
        let payload = work.payload_bytes_per_s / work.deliveries_per_s;
        let sent_payload = mean_sent_payload(&result.scenario);
        let timed = [crate::result::Timed::Live, crate::result::Timed::Durable, crate::result::Timed::Heartbeat];
        Ok(MeasuredPoint {
            name: result.scenario.name.clone(),
            started_at: result.started_at,
            work,
            seconds,
            cpu_cores: (user + system) as f64 / window_ns,
            commits_per_s: result.witness.histogram_counts.get("commit").map(|commits| *commits as f64 / seconds),
            turns_per_shard_s: turns.map(|turns| *turns as f64 / seconds / f64::from(shards)),
            rss_bytes: result.server.rss_max_bytes.or(result.server.rss_connected_bytes).map(|bytes| bytes as f64),
            rss_before_bytes: result.server.rss_before_bytes.map(|bytes| bytes as f64),
            kernel_bytes: has_slab.then_some(kernel),
            handshakes: connected,
            handshake_cpu_us: result
                .server
                .cpu_connect_ns
                .filter(|_| connected > 0.0)
                .map(|ns| ns as f64 / 1e3 / connected),
            overhead_bytes: enough(delivered).map(|n| (counts.bytes_received as f64 / n - payload).max(0.0)),
            sent_overhead_bytes: enough(sent_messages).map(|n| (counts.bytes_sent as f64 / n - sent_payload).max(0.0)),
            achieved,
            p99_ns: timed.iter().find_map(|timed| result.latency.get(timed)).map(|latency| latency.response.p99),
            is_sound: result.integrity.is_sound(),
        })
    }
}

fn mean_sent_payload(scenario: &Scenario) -> f64 {
    let rates = scenario.traffic.iter().map(|line| (line.rate_per_s, f64::from(line.payload_bytes)));
    let (rate, bytes) = rates.fold((0.0, 0.0), |(all, sum), (rate, bytes)| (all + rate, sum + rate * bytes));
    if rate > 0.0 { bytes / rate } else { 0.0 }
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
            heartbeat_ms = 25000
            time = { warmup_s = 1, measure_s = 2 }
            layer = [{ name = "match", members = 100 }]
            [[traffic]]
            kind = "live"
            layer = "match"
            senders = 4
            rate_per_s = 20
            payload_bytes = 64
            [[traffic]]
            kind = "durable"
            layer = "match"
            senders = 1
            rate_per_s = 1
            payload_bytes = 100
            "#,
        )
        .expect("a scenario")
    }

    /// 250 connections in rooms of 100, 100, 50. Senders are the members 0, 25, 50, 75; the last room lacks 50 and 75.
    /// Live: 2 · 4 · 20 + 2 · 20 = 200 messages/s; 160 · 99 + 40 · 49 = 17,800 deliveries/s.
    /// Durable: 3 messages/s, 100 + 100 + 50 = 250 deliveries/s; in 1 + 2 s 9 are kept, in the end 3 · 300. Payload: 17,800 · 64 + 250 · 100 = 1,164,200 B/s.
    #[test]
    fn a_scenario_is_added_up_room_by_room() {
        let work = Work::offered(&scenario(), 2);
        assert_eq!((work.received_per_s, work.durable_per_s, work.durable_rooms), (200.0, 3.0, 3.0));
        assert_eq!((work.events_kept, work.events_after(1e6)), (9.0, 900.0));
        assert_eq!((work.deliveries_per_s, work.payload_bytes_per_s), (18_050.0, 1_164_200.0));
        assert_eq!((work.heartbeats_per_s, work.active_connections), (10.0, 250.0));
        assert!((work.deliveries_per_connection() - 72.2).abs() < 1e-9);
    }

    /// Two shards: a room of many members is on both, one of 1 member on one; of 2 members: 2 · (1 − ¼) = 1.5.
    #[test]
    fn rooms_reach_as_many_shards_as_their_members_do() {
        let reached = |shards, room_members| Work { shards, room_members, ..Work::default() }.shards_reached();
        assert_eq!(reached(1.0, 100.0), 1.0);
        assert_eq!(reached(2.0, 1.0), 1.0);
        assert_eq!(reached(2.0, 2.0), 1.5);
        assert!((reached(2.0, 100.0) - 2.0).abs() < 1e-9);
    }
}
