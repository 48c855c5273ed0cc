//! From the name or path of a scenario, and what the command line changes about it, to a scenario that may run.
use super::check::{self, Fault};
use super::{Kind, Scenario, builtin};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// What the command line changes. Everything else about a scenario is said in its file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adjust {
    /// Factor on everything that counts connections: their number, newcomers and leavers per second, slow readers. Instead of
    /// the file's own `scale`.
    pub scale: Option<f64>,
    /// Connections, whatever the scale; the rest stays.
    pub connections: Option<u32>,
    /// Factor on the rates of all traffic lines; of the heartbeat too, if it is the only traffic.
    pub rate_factor: Option<f64>,
    pub warmup_s: Option<f64>,
    pub measure_s: Option<f64>,
    /// Bytes of every live event and durable message.
    pub payload_bytes: Option<u32>,
    pub shards: Option<u32>,
    /// Settings of the server, over those of the file.
    pub set: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("no built-in scenario is called {0:?}; there are {names}. A file is named by its path, with a slash or .toml", names = names())]
    Unknown(String),
    #[error("{path}: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{origin}: {error}")]
    Syntax { origin: String, error: Box<toml::de::Error> },
    #[error("{origin}:{}", list(faults))]
    Faults { origin: String, faults: Vec<Fault> },
}

/// The scenario, adjusted and checked. All faults are told at once.
pub fn load(name_or_path: &str, adjust: &Adjust) -> Result<Scenario, LoadError> {
    if let Some(builtin) = builtin::find(name_or_path) {
        return read(&format!("scenario {}", builtin.name), builtin.text, adjust);
    }
    if !name_or_path.contains('/') && !name_or_path.ends_with(".toml") {
        return Err(LoadError::Unknown(name_or_path.into()));
    }
    let text = std::fs::read_to_string(name_or_path)
        .map_err(|error| LoadError::Unreadable { path: name_or_path.into(), error })?;
    read(name_or_path, &text, adjust)
}

/// As `load`, from text; `origin` is for errors.
pub fn read(origin: &str, text: &str, adjust: &Adjust) -> Result<Scenario, LoadError> {
    let syntax = |error| LoadError::Syntax { origin: origin.into(), error: Box::new(error) };
    let File { scale } = toml::from_str(text).map_err(syntax)?;
    let plain = match &scale {
        None => text.into(),
        Some(scale) => without_line(text, scale.span()),
    };
    let mut scenario = toml::from_str(&plain).map_err(syntax)?;
    let scale = adjust.scale.or(scale.map(toml::Spanned::into_inner)).unwrap_or(1.0);
    let mut faults = Vec::new();
    for (key, factor) in [("scale", scale), ("rate-factor", adjust.rate_factor.unwrap_or(1.0))] {
        if !(factor > 0.0 && factor <= 1e6) {
            faults
                .push(Fault { key: key.into(), problem: format!("{factor} is not a factor over 0, up to 1,000,000") });
        }
    }
    if faults.is_empty() {
        apply(&mut scenario, scale, adjust);
        faults = check::check(&scenario);
    }
    match faults.is_empty() {
        true => Ok(scenario),
        false => Err(LoadError::Faults { origin: origin.into(), faults }),
    }
}

/// What a file says beside the scenario itself.
#[derive(Deserialize)]
struct File {
    /// The part of the story that is run by default, so that a file can tell a story larger than one machine.
    scale: Option<toml::Spanned<f64>>,
}

/// Blanks one line, so that the places in later errors still are those of the file.
fn without_line(text: &str, value: Range<usize>) -> String {
    let from = text[..value.start].rfind('\n').map_or(0, |at| at + 1);
    let to = text[value.end..].find('\n').map_or(text.len(), |at| value.end + at);
    format!("{}{}{}", &text[..from], " ".repeat(to - from), &text[to..])
}

fn apply(scenario: &mut Scenario, scale: f64, adjust: &Adjust) {
    let scaled = |count: u32| if count == 0 { 0 } else { (f64::from(count) * scale).round().max(1.0) as u32 };
    scenario.connections = adjust.connections.unwrap_or_else(|| scaled(scenario.connections));
    scenario.connect.rate_per_s *= scale;
    if let Some(churn) = &mut scenario.churn {
        churn.per_s *= scale;
    }
    if let Some(slow) = &mut scenario.slow_readers {
        slow.count = scaled(slow.count);
    }
    if let Some(factor) = adjust.rate_factor {
        if scenario.traffic.is_empty() && scenario.heartbeat_ms > 0 {
            scenario.heartbeat_ms = (scenario.heartbeat_ms as f64 / factor).round().max(1.0) as u64;
        }
        scenario.traffic.iter_mut().for_each(|line| line.rate_per_s *= factor);
    }
    if let Some(bytes) = adjust.payload_bytes {
        let stamped = scenario.traffic.iter_mut().filter(|line| matches!(line.kind, Kind::Live | Kind::Durable));
        stamped.for_each(|line| line.payload_bytes = bytes);
    }
    scenario.time.warmup_s = adjust.warmup_s.unwrap_or(scenario.time.warmup_s);
    scenario.time.measure_s = adjust.measure_s.unwrap_or(scenario.time.measure_s);
    scenario.server.shards = adjust.shards.unwrap_or(scenario.server.shards);
    scenario.server.set.extend(adjust.set.clone());
}

fn names() -> String {
    builtin::BUILTINS.iter().map(|builtin| builtin.name).collect::<Vec<_>>().join(", ")
}

fn list(faults: &[Fault]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        let _ = write!(text, "\n  {fault}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"name = "x"
about = "y"
connections = 1000
scale = 0.5 # half of it
time = { warmup_s = 1, measure_s = 10 }
[connect]
rate_per_s = 100
[churn]
per_s = 10
away_ms = 100
[slow_readers]
count = 1
bytes_per_s = 0
[[layer]]
name = "room"
members = 10
[[traffic]]
kind = "live"
layer = "room"
senders = 1
rate_per_s = 2
[[traffic]]
kind = "typing"
layer = "room"
senders = 1
rate_per_s = 1
[server.set]
"a.b" = "1"
"#;

    fn adjusted(adjust: Adjust) -> Scenario {
        read("test", TEXT, &adjust).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_file_may_run_a_part_of_its_story() {
        let half = adjusted(Adjust::default());
        assert_eq!((half.connections, half.connect.rate_per_s), (500, 50.0));
        assert_eq!(
            (half.churn.map(|churn| churn.per_s), half.slow_readers.map(|slow| slow.count)),
            (Some(5.0), Some(1))
        );
        let twice = adjusted(Adjust { scale: Some(2.0), ..Adjust::default() });
        assert_eq!((twice.connections, twice.churn.map(|churn| churn.per_s)), (2_000, Some(20.0)));
        let fixed = adjusted(Adjust { connections: Some(70), ..Adjust::default() });
        assert_eq!((fixed.connections, fixed.churn.map(|churn| churn.per_s)), (70, Some(5.0)));
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let set = BTreeMap::from([("a.b".to_owned(), "2".to_owned()), ("c.d".to_owned(), "3".to_owned())]);
        let adjust = Adjust {
            rate_factor: Some(3.0),
            warmup_s: Some(0.0),
            measure_s: Some(4.0),
            payload_bytes: Some(99),
            shards: Some(3),
            set: set.clone(),
            ..Adjust::default()
        };
        let scenario = adjusted(adjust);
        assert_eq!((scenario.time.warmup_s, scenario.time.measure_s), (0.0, 4.0));
        assert_eq!((scenario.traffic[0].rate_per_s, scenario.traffic[0].payload_bytes), (6.0, 99));
        assert_eq!(
            (scenario.traffic[1].rate_per_s, scenario.traffic[1].payload_bytes),
            (3.0, 64),
            "typing has no payload"
        );
        assert_eq!((scenario.server.shards, scenario.server.set), (3, set));
    }

    #[test]
    fn rates_of_heartbeats_follow_where_nothing_else_is_sent() {
        let twice = Adjust { rate_factor: Some(2.0), ..Adjust::default() };
        assert_eq!(load("echo", &twice).expect("sound").heartbeat_ms, 20);
        assert_eq!(load("chat", &twice).expect("sound").heartbeat_ms, 30_000);
    }

    #[test]
    fn errors_say_where_and_what() {
        let said = |name: &str, adjust: Adjust| load(name, &adjust).expect_err("a fault").to_string();
        assert!(said("fan-out", Adjust::default()).contains("fanout, rooms"));
        assert!(said("./no-such.toml", Adjust::default()).starts_with("./no-such.toml: No such file"));
        assert!(said("chat", Adjust { scale: Some(0.0), ..Adjust::default() }).contains("scale: 0 is not a factor"));
        let short = said("chat", Adjust { payload_bytes: Some(3), connections: Some(0), ..Adjust::default() });
        assert!(short.contains("\n  connections: ") && short.contains("\n  traffic[0].payload_bytes: "), "{short}");
        let unknown = TEXT.replace("per_s = 10\n", "per_s = 10\nper_m = 3\n");
        let unknown = read("my.toml", &unknown, &Adjust::default()).expect_err("a fault").to_string();
        assert!(
            unknown.starts_with("my.toml: ") && unknown.contains("line 10") && unknown.contains("per_m"),
            "{unknown}"
        );
    }
}
