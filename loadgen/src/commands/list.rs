//! `list`: what there is to run, and what it amounts to.
use super::{Exit, Failure};
use crate::cli::ListArgs;
use crate::report::units::count;
use crate::scenario::Scenario;
use crate::scenario::builtin::{self, BUILTINS};
use crate::scenario::figures::Figures;
use crate::scenario::load::{Adjust, LoadError, load};
use std::fmt::Write as _;
use std::io::Write as _;

const WIDTH: usize = 100;
const INDENT: &str = "    ";

pub fn list(args: &ListArgs) -> Result<Exit, Failure> {
    let text = match &args.scenario {
        Some(name) => {
            builtin::find(name).ok_or_else(|| Failure::from(LoadError::Unknown(name.clone())))?.text.to_owned()
        }
        None => {
            let mut text = String::new();
            for builtin in BUILTINS {
                text.push_str(&entry(&load(builtin.name, &Adjust::default())?));
            }
            text
        }
    };
    // Whoever reads may have read enough (`| head`).
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(Exit::Passed)
}

/// Name and figures, then what it is about.
fn entry(scenario: &Scenario) -> String {
    let figures = Figures::of(scenario);
    let seconds = scenario.time.warmup_s + scenario.time.measure_s;
    let mut text = format!(
        "{:<17} {:>7} connections {:>7} messages/s {:>7} deliveries/s {:>4.0} s\n",
        scenario.name,
        count(scenario.connections.into()),
        count(figures.messages_per_s().round() as u64),
        count(figures.deliveries_per_s.round() as u64),
        seconds
    );
    for line in wrapped(&scenario.about, WIDTH - INDENT.len()) {
        let _ = writeln!(text, "{INDENT}{line}");
    }
    text
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_name_figures_and_purpose() {
        let text = entry(&load("fanout", &Adjust::default()).expect("sound"));
        assert_eq!(
            text,
            "fanout              1,000 connections      83 messages/s  49,950 deliveries/s   23 s\n    \
             One room of 1,000, ten senders, 50 live events a second to everyone: 50,000 deliveries a second.\n"
        );
    }

    #[test]
    fn long_purposes_are_broken_into_lines_and_kept_whole() {
        let mut is_broken = false;
        for builtin in BUILTINS {
            let scenario = load(builtin.name, &Adjust::default()).expect("sound");
            let text = entry(&scenario);
            let purpose: Vec<&str> = text.lines().skip(1).map(str::trim_start).collect();
            assert_eq!(purpose.join(" "), scenario.about);
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
            is_broken |= purpose.len() > 1;
        }
        assert!(is_broken, "one of them is longer than a line");
    }

    #[test]
    fn lines_are_as_long_as_they_may_be() {
        assert_eq!(wrapped("aa bb ccc d", 5), ["aa bb", "ccc d"]);
        assert_eq!(wrapped("toolongaword x", 5), ["toolongaword", "x"]);
        assert_eq!(wrapped("", 5), [""; 0]);
    }

    #[test]
    fn an_unknown_scenario_is_a_mistake_of_the_caller() {
        let failure = list(&ListArgs { scenario: Some("nothing".into()) }).expect_err("unknown");
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
