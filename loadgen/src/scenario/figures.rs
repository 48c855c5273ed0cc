//! What a scenario amounts to per second, before anything has run. Pure arithmetic over its rooms and lines.
use super::{Kind, Scenario};

/// Averages of the measured window; storm and churn are not in them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Rooms over all layers.
    pub rooms: u64,
    pub live_per_s: f64,
    pub durable_per_s: f64,
    pub typing_per_s: f64,
    pub activity_per_s: f64,
    pub heartbeats_per_s: f64,
    /// Of live events and of durable messages: what is checked.
    pub live_deliveries_per_s: f64,
    pub durable_deliveries_per_s: f64,
    pub deliveries_per_s: f64,
}

impl Figures {
    pub fn of(scenario: &Scenario) -> Figures {
        let mut figures = Figures::default();
        for layer in 0..scenario.layers.len() {
            figures.rooms += u64::from(scenario.rooms(layer));
        }
        for line in &scenario.traffic {
            let Some(layer) = scenario.layers.iter().position(|layer| layer.name == line.layer) else { continue };
            let members = scenario.members(layer);
            if members == 0 {
                continue;
            }
            let senders = if line.senders == 0 { members } else { line.senders.min(members) };
            let (mut sent, mut delivered) = (0.0, 0.0);
            for (rooms, size) in scenario.rooms_with(line, layer) {
                // Sender s sits at member ⌊s · members / senders⌋, so these many of them exist in a room of `size`.
                let present = (u64::from(size) * u64::from(senders)).div_ceil(u64::from(members));
                let per_s = f64::from(rooms) * present as f64 * line.rate_per_s;
                let audience = match line.kind {
                    Kind::Live if line.include_self => size,
                    Kind::Live => size.saturating_sub(1),
                    Kind::Durable => size,
                    Kind::Typing | Kind::Activity => 0,
                };
                sent += per_s;
                delivered += per_s * f64::from(audience);
            }
            let (sum, deliveries) = match line.kind {
                Kind::Live => (&mut figures.live_per_s, &mut figures.live_deliveries_per_s),
                Kind::Durable => (&mut figures.durable_per_s, &mut figures.durable_deliveries_per_s),
                Kind::Typing => (&mut figures.typing_per_s, &mut 0.0),
                Kind::Activity => (&mut figures.activity_per_s, &mut 0.0),
            };
            *sum += sent;
            *deliveries += delivered;
        }
        if scenario.heartbeat_ms > 0 {
            figures.heartbeats_per_s = f64::from(scenario.connections) * 1_000.0 / scenario.heartbeat_ms as f64;
        }
        figures.deliveries_per_s = figures.live_deliveries_per_s + figures.durable_deliveries_per_s;
        figures
    }

    /// Everything that clients send.
    pub fn messages_per_s(&self) -> f64 {
        self.live_per_s + self.durable_per_s + self.typing_per_s + self.activity_per_s + self.heartbeats_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(connections: u32, senders: u32, kind: &str) -> Figures {
        let scenario = format!(
            r#"
            name = "x"
            about = "y"
            connections = {connections}
            heartbeat_ms = 500
            time = {{ warmup_s = 1, measure_s = 2 }}
            [[layer]]
            name = "room"
            members = 10
            [[traffic]]
            kind = "{kind}"
            layer = "room"
            senders = {senders}
            rate_per_s = 2
            "#
        );
        Figures::of(&toml::from_str(&scenario).expect("a scenario"))
    }

    #[test]
    fn a_sender_of_a_live_event_does_not_hear_itself() {
        let live = figures(20, 3, "live");
        assert_eq!((live.live_per_s, live.live_deliveries_per_s, live.durable_per_s), (12.0, 108.0, 0.0));
        let durable = figures(20, 3, "durable");
        assert_eq!((durable.durable_per_s, durable.deliveries_per_s), (12.0, 120.0));
        assert_eq!(durable.messages_per_s(), 12.0 + 40.0);
    }

    #[test]
    fn typing_reaches_nobody_who_counts() {
        let typing = figures(20, 0, "typing");
        assert_eq!((typing.typing_per_s, typing.deliveries_per_s), (40.0, 0.0));
    }

    #[test]
    fn a_room_that_is_not_full_has_the_senders_that_exist() {
        for connections in 1..40 {
            for senders in 0..10 {
                let mut expected = 0.0;
                let text = figures(connections, senders, "durable");
                let members = connections.min(10);
                let senders = if senders == 0 { members } else { senders.min(members) };
                for room in 0..connections.div_ceil(members) {
                    let size = (connections - room * members).min(members);
                    expected += (0..senders).filter(|sender| sender * members / senders < size).count() as f64 * 2.0;
                }
                assert_eq!(text.durable_per_s, expected, "{connections} {senders}");
            }
        }
    }
}
