//! What a scenario must fulfil beyond its form. Every fault is found, each with the key that it is about.
use super::{Kind, Scenario, Traffic};
use crate::stamp::Stamp;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// As in the file: `traffic[0].layer`, counted from 0.
    pub key: String,
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// What the server takes unless it is set otherwise: its own defaults.
const CHAT_MAX_CHARS: u64 = 2_000;
const MAX_MESSAGE_BYTES: u64 = 65_536;
const STALE_MS: u64 = 300_000;

/// What an event has around its payload at most: envelope, names, times.
const ENVELOPE_BYTES: u64 = 512;

/// Longest run. A stamp counts a sender's messages in 32 bits, which at `RATE_MAX` are used up just after.
const TIME_MAX_S: f64 = 86_400.0;
const RATE_MAX: f64 = 40_000.0;

/// Connections that one process can tell apart by address and port, with room to spare.
const CONNECTIONS_MAX: u32 = 8_000_000;

/// Everything that is wrong; nothing if the scenario may run.
pub fn check(scenario: &Scenario) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    faults.general(scenario);
    faults.layers(scenario);
    for (index, line) in scenario.traffic.iter().enumerate() {
        faults.traffic(scenario, &format!("traffic[{index}]"), line);
    }
    faults.disturbances(scenario);
    faults.settings(scenario);
    faults.0
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Fault { key: key.into(), problem: problem.into() });
    }

    /// Faulty unless `low` ≤ `value` ≤ `high`; what is not a number is not either.
    fn within(&mut self, key: impl Into<String>, value: f64, low: f64, high: f64) {
        if !(value >= low && value <= high) {
            self.add(key, format!("{value} is not between {low} and {high}"));
        }
    }

    /// Faulty unless 0 < `value` ≤ `high`.
    fn positive(&mut self, key: impl Into<String>, value: f64, high: f64) {
        if !(value > 0.0 && value <= high) {
            self.add(key, format!("{value} is not over 0 and up to {high}"));
        }
    }

    fn general(&mut self, scenario: &Scenario) {
        if !is_word(&scenario.name) {
            self.add("name", format!("{:?} is not a name of letters, digits and hyphens", scenario.name));
        }
        if scenario.about.trim().is_empty() {
            self.add("about", "is empty: say what the scenario stands for");
        }
        if scenario.connections == 0 || scenario.connections > CONNECTIONS_MAX {
            self.add("connections", format!("{} is not between 1 and {CONNECTIONS_MAX}", scenario.connections));
        }
        self.within("connect.rate_per_s", scenario.connect.rate_per_s, 0.0, 1e6);
        if scenario.connect.window == 0 {
            self.add("connect.window", "0 lets nobody in: at least one handshake must be under way");
        }
        let time = scenario.time;
        self.within("time.warmup_s", time.warmup_s, 0.0, TIME_MAX_S);
        self.positive("time.measure_s", time.measure_s, TIME_MAX_S);
        self.within("time.settle_s", time.settle_s, 0.0, 3_600.0);
    }

    fn layers(&mut self, scenario: &Scenario) {
        for (index, layer) in scenario.layers.iter().enumerate() {
            let key = format!("layer[{index}].name");
            if !is_word(&layer.name) {
                self.add(key, format!("{:?} is not a name of letters, digits and hyphens", layer.name));
            } else if scenario.layers[..index].iter().any(|other| other.name == layer.name) {
                self.add(key, format!("{:?} is the name of an earlier layer", layer.name));
            }
        }
    }

    fn traffic(&mut self, scenario: &Scenario, key: &str, line: &Traffic) {
        match scenario.layers.iter().position(|layer| layer.name == line.layer) {
            None => {
                let names: Vec<_> = scenario.layers.iter().map(|layer| layer.name.as_str()).collect();
                let known =
                    if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) };
                self.add(format!("{key}.layer"), format!("no layer is called {:?}; {known}", line.layer));
            }
            Some(layer) => {
                let members = scenario.members(layer);
                if line.senders > members {
                    let problem =
                        format!("{} senders, but a room of {:?} has {members} members", line.senders, line.layer);
                    self.add(format!("{key}.senders"), problem);
                }
            }
        }
        self.positive(format!("{key}.rate_per_s"), line.rate_per_s, RATE_MAX);
        if line.include_self && line.kind != Kind::Live {
            self.add(format!("{key}.include_self"), "is for live events only");
        }
        let bytes = u64::from(line.payload_bytes);
        let key = format!("{key}.payload_bytes");
        if matches!(line.kind, Kind::Live | Kind::Durable) && bytes < Stamp::BYTES as u64 {
            self.add(&key, format!("{bytes} is less than the {} of the mark that every message carries", Stamp::BYTES));
        }
        let max_chars = setting(scenario, "chat.max_chars", CHAT_MAX_CHARS);
        if line.kind == Kind::Durable && bytes > max_chars {
            self.add(
                &key,
                format!("{bytes} is more than the server takes as a message (chat.max_chars = {max_chars})"),
            );
        }
        let max_bytes = setting(scenario, "ws.max_message_bytes", MAX_MESSAGE_BYTES);
        if matches!(line.kind, Kind::Live | Kind::Durable) && bytes + ENVELOPE_BYTES > max_bytes {
            let room = max_bytes.saturating_sub(ENVELOPE_BYTES);
            self.add(
                &key,
                format!("{bytes} is more than fits beside the envelope (ws.max_message_bytes = {max_bytes}: {room})"),
            );
        }
    }

    fn disturbances(&mut self, scenario: &Scenario) {
        let measure_s = scenario.time.measure_s;
        if let Some(storm) = scenario.storm {
            if !(storm.at_s >= 0.0 && storm.at_s < measure_s) {
                self.add("storm.at_s", format!("{} is not within the measured window of {measure_s} s", storm.at_s));
            }
            self.positive("storm.fraction", storm.fraction, 1.0);
            let back_s = storm.at_s + storm.jitter_ms as f64 / 1_000.0;
            if storm.at_s >= 0.0 && storm.at_s < measure_s && back_s >= measure_s {
                let problem =
                    format!("the last would come back at {back_s} s, after the measured window of {measure_s} s");
                self.add("storm.jitter_ms", problem);
            }
        }
        if let Some(churn) = scenario.churn {
            self.positive("churn.per_s", churn.per_s, 1e6);
            let away = churn.per_s * churn.away_ms as f64 / 1_000.0;
            if away > f64::from(scenario.connections) / 2.0 {
                let problem = format!(
                    "{} a second for {} ms each are {away} away at once: over half of {} connections",
                    churn.per_s, churn.away_ms, scenario.connections
                );
                self.add("churn.away_ms", problem);
            }
        }
        if let Some(slow) = scenario.slow_readers {
            if slow.count == 0 || slow.count > 10_000 {
                self.add("slow_readers.count", format!("{} is not between 1 and 10000", slow.count));
            }
            let first = scenario.layers.first().map(|layer| layer.name.as_str());
            if !scenario.traffic.iter().any(|line| Some(line.layer.as_str()) == first) {
                self.add("slow_readers", "nothing is sent in the first layer, whose rooms they join");
            }
        }
    }

    fn settings(&mut self, scenario: &Scenario) {
        let run_ms = ((scenario.time.warmup_s + scenario.time.measure_s) * 1_000.0) as u64;
        let silence_ms = if scenario.heartbeat_ms == 0 { run_ms } else { scenario.heartbeat_ms };
        let stale_ms = setting(scenario, "conn.stale_ms", STALE_MS);
        if silence_ms >= stale_ms {
            let problem = format!("who sends nothing for {silence_ms} ms is closed (conn.stale_ms = {stale_ms})");
            self.add("heartbeat_ms", problem);
        }
        for key in scenario.server.set.keys() {
            let parts: Vec<_> = key.split('.').collect();
            if parts.len() != 2 || parts.iter().any(|part| part.is_empty() || part.contains(char::is_whitespace)) {
                self.add(format!("server.set.{key:?}"), "is not a key of the server, like \"chat.max_chars\"");
            }
        }
        if scenario.server.shards > 256 {
            self.add("server.shards", format!("{} is over 256", scenario.server.shards));
        }
    }
}

/// What the server is set to; a value that is not a number is for the server to refuse.
fn setting(scenario: &Scenario, key: &str, default: u64) -> u64 {
    scenario.server.set.get(key).and_then(|value| value.replace('_', "").parse().ok()).unwrap_or(default)
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
        name = "x"
        about = "y"
        connections = 100
        time = { warmup_s = 1, measure_s = 10 }
        storm = { at_s = 2, fraction = 1.0, jitter_ms = 1000 }
        churn = { per_s = 10, away_ms = 1000 }
        slow_readers = { count = 5, bytes_per_s = 0 }
        [[layer]]
        name = "room"
        members = 10
        [[traffic]]
        kind = "durable"
        layer = "room"
        senders = 10
        rate_per_s = 1
        payload_bytes = 2000
    "#;

    /// Keys of the faults after `from` was replaced by `to`.
    fn faults(changes: &[(&str, &str)]) -> Vec<String> {
        let mut text = SOUND.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        check(&toml::from_str(&text).expect("well-formed")).into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn limits_are_tested_on_both_sides() {
        assert_eq!(faults(&[]), [""; 0]);
        for (from, good, bad, key) in [
            ("connections = 100", "connections = 8000000", "connections = 8000001", "connections"),
            ("warmup_s = 1", "warmup_s = 0", "warmup_s = -0.1", "time.warmup_s"),
            ("measure_s = 10", "measure_s = 10, settle_s = 0", "measure_s = 10, settle_s = -1", "time.settle_s"),
            ("at_s = 2", "at_s = 0", "at_s = 10", "storm.at_s"),
            ("jitter_ms = 1000", "jitter_ms = 7999", "jitter_ms = 8000", "storm.jitter_ms"),
            ("fraction = 1.0", "fraction = 0.001", "fraction = 1.001", "storm.fraction"),
            ("per_s = 10, away_ms", "per_s = 50, away_ms", "per_s = 51, away_ms", "churn.away_ms"),
            ("count = 5", "count = 1", "count = 0", "slow_readers.count"),
            ("senders = 10", "senders = 0", "senders = 11", "traffic[0].senders"),
            ("rate_per_s = 1", "rate_per_s = 0.01", "rate_per_s = 0", "traffic[0].rate_per_s"),
            ("bytes = 2000", "bytes = 48", "bytes = 47", "traffic[0].payload_bytes"),
            ("bytes = 2000", "bytes = 2000", "bytes = 2001", "traffic[0].payload_bytes"),
            (
                "connections = 100",
                "connections = 100\nheartbeat_ms = 299999",
                "connections = 100\nheartbeat_ms = 300000",
                "heartbeat_ms",
            ),
        ] {
            assert_eq!(faults(&[(from, good)]), [""; 0], "{good}");
            assert_eq!(faults(&[(from, bad)]), [key], "{bad}");
        }
    }

    #[test]
    fn names_must_exist_and_be_told_apart() {
        assert_eq!(faults(&[("name = \"room\"", "name = \"other\"")]), ["traffic[0].layer", "slow_readers"]);
        let twice = "[[layer]]\nname = \"room\"\nmembers = 2\n[[layer]]";
        assert_eq!(faults(&[("[[layer]]", twice)]), ["layer[1].name", "traffic[0].senders"]);
        assert_eq!(
            faults(&[("name = \"x\"", "name = \"a b\""), ("about = \"y\"", "about = \" \"")]),
            ["name", "about"]
        );
    }

    #[test]
    fn the_servers_settings_move_the_limits() {
        let longer = ("payload_bytes = 2000", "payload_bytes = 2001\n[server.set]\n\"chat.max_chars\" = \"3000\"");
        assert_eq!(faults(&[longer]), [""; 0]);
        let wrong = ("payload_bytes = 2000", "payload_bytes = 2000\n[server.set]\nchat = \"3000\"");
        assert_eq!(faults(&[wrong]), ["server.set.\"chat\""]);
    }

    #[test]
    fn a_live_event_must_fit_a_message() {
        let live = ("kind = \"durable\"", "kind = \"live\"");
        assert_eq!(faults(&[live, ("= 2000", "= 65024")]), [""; 0]);
        assert_eq!(faults(&[live, ("= 2000", "= 65025")]), ["traffic[0].payload_bytes"]);
        assert_eq!(faults(&[("= 2000", "= 100\ninclude_self = true")]), ["traffic[0].include_self"]);
    }

    #[test]
    fn all_faults_come_at_once() {
        let many = [
            ("connections = 100", "connections = 0"),
            ("warmup_s = 1", "warmup_s = -1"),
            ("bytes = 2000", "bytes = 1"),
        ];
        let keys = faults(&many);
        for key in ["connections", "time.warmup_s", "churn.away_ms", "traffic[0].senders", "traffic[0].payload_bytes"] {
            assert!(keys.iter().any(|fault| fault == key), "{key}: {keys:?}");
        }
    }
}
