//! The result as one HTML file: words for a manager first, then plots, tables, and how to repeat it.
use super::facts;
use super::grids::{self, Grid};
use super::plots::{self, Plot};
use super::units::{Unit, bytes, count, duration, rate};
use super::{chart, metric};
use crate::result::{Outcome, RunResult};
use askama::Template;

/// The page. It needs nothing from elsewhere, and no script.
pub fn html(result: &RunResult) -> String {
    let page = Page {
        chart_style: chart::STYLE,
        title: format!("{} on {}", result.scenario.name, facts::server_name(result)),
        about: result.scenario.about.clone(),
        verdict: facts::verdict_word(result.verdict.outcome),
        verdict_class: match result.verdict.outcome {
            Outcome::Passed => "good",
            Outcome::Missed => "bad",
            Outcome::Invalid => "void",
        },
        story: story(result),
        reasons: facts::reasons(result),
        cards: cards(result),
        setting: facts::setting(result),
        latency_over_time: plots::latency_over_time(result),
        percentile_curve: plots::percentile_curve(result),
        over_time: plots::over_time(result),
        latency: grids::latency(result),
        rates: grids::rates(result),
        cost: grids::cost(result),
        client: grids::client_load(result),
        witnesses: grids::witnesses(result),
        counters: result.witness.counters.iter().map(|(name, value)| (name.clone(), rate(*value))).collect(),
        targets: grids::targets(result),
        metrics: result.metrics.iter().map(|(name, value)| (name.clone(), metric::figure(name, *value))).collect(),
        integrity: facts::integrity_line(result),
        examples: result.integrity.examples.clone(),
        machine: machine(result),
        command: result.command.clone(),
        scenario: toml::to_string_pretty(&result.scenario).unwrap_or_else(|fault| fault.to_string()),
    };
    // Rendering into a String fails only if a Display in the page does, and those are all strings.
    page.render().unwrap_or_else(|fault| format!("<!DOCTYPE html><title>report</title><p>{fault}</p>"))
}

#[derive(Template)]
#[template(path = "report/templates/run.html")]
struct Page {
    chart_style: &'static str,
    title: String,
    about: String,
    verdict: &'static str,
    verdict_class: &'static str,
    story: Vec<String>,
    reasons: Vec<String>,
    cards: Vec<Card>,
    setting: Vec<(&'static str, String)>,
    latency_over_time: Plot,
    percentile_curve: Option<Plot>,
    over_time: Vec<Plot>,
    latency: Grid,
    rates: Grid,
    cost: Grid,
    client: Grid,
    witnesses: Grid,
    counters: Vec<(String, String)>,
    targets: Grid,
    metrics: Vec<(String, String)>,
    integrity: String,
    examples: Vec<String>,
    machine: Vec<(String, String)>,
    command: String,
    scenario: String,
}

/// A figure that stands out.
struct Card {
    figure: String,
    label: String,
    is_bad: bool,
}

/// What happened, for someone who knows none of the terms.
fn story(result: &RunResult) -> Vec<String> {
    let counts = &result.counts;
    let server = facts::server_name(result);
    let connected = count(counts.connected);
    let mut story = Vec::new();
    if result.verdict.outcome == Outcome::Invalid {
        story.push("These figures say nothing about the server: the run itself was not in order. Repeat it before anyone relies on it.".to_owned());
    }
    let window = Unit::Clock.figure(facts::measured_s(result).round());
    story.push(match counts.measured_delivered {
        0 => format!("For {window}, {server} held {connected} open connections."),
        delivered => format!(
            "For {window}, {server} held {connected} open connections and delivered {} messages a second to them.",
            rate(facts::per_second(result, delivered))
        ),
    });
    if let Some((timed, latency)) = facts::main_latency(result) {
        let p = &latency.response;
        story.push(format!(
            "Half of all {} took at most {}, 99 of 100 at most {}; the slowest took {}.",
            facts::timed_words(timed),
            duration(p.p50 as f64),
            duration(p.p99 as f64),
            duration(p.max as f64)
        ));
    }
    let integrity = &result.integrity;
    if integrity.is_sound() && integrity.expected > 0 {
        let but = if integrity.skipped_live > 0 {
            format!(
                " {} live events were skipped for readers that were too slow, as intended.",
                count(integrity.skipped_live)
            )
        } else {
            String::new()
        };
        story.push(format!(
            "Every one of {} deliveries was checked: none was lost, doubled or out of order.{but}",
            count(integrity.expected)
        ));
    } else if integrity.expected > 0 {
        let faults = count(facts::faults(integrity));
        story.push(format!("Of {} deliveries {faults} were lost, doubled or misplaced.", count(integrity.expected)));
    }
    if let (Some(used), Some(memory)) = (facts::server_cores(result), facts::rss_per_connection(result)) {
        let of = if result.server.cores.is_empty() {
            String::new()
        } else {
            format!(" of the {} it had", result.server.cores.len())
        };
        story.push(format!(
            "The server used {used:.1} processor cores{of} and {} of memory per connection.",
            bytes(memory)
        ));
    }
    story
}

fn cards(result: &RunResult) -> Vec<Card> {
    let mut cards = Vec::new();
    let mut card =
        |figure: String, label: &str, is_bad: bool| cards.push(Card { figure, label: label.to_owned(), is_bad });
    let counts = &result.counts;
    card(count(counts.connected), "connections", counts.connect_failed > 0);
    if counts.measured_delivered > 0 {
        card(rate(facts::per_second(result, counts.measured_delivered)), "deliveries per second", false);
    }
    if let Some((timed, latency)) = facts::main_latency(result) {
        card(duration(latency.response.p99 as f64), &format!("99 of 100 {} within", facts::timed_words(timed)), false);
    }
    let integrity = &result.integrity;
    if integrity.expected > 0 {
        let faults = facts::faults(integrity);
        card(count(faults), "deliveries lost, doubled or misplaced", faults > 0);
    }
    if let Some(ns) = facts::cpu_ns_per_delivery(result).filter(|_| counts.measured_delivered > 0) {
        card(duration(ns), "processor time per delivery", false);
    }
    if let Some(memory) = facts::rss_per_connection(result) {
        card(bytes(memory), "memory per connection", false);
    }
    cards
}

fn machine(result: &RunResult) -> Vec<(String, String)> {
    let machine = &result.machine;
    let mut rows = vec![
        ("host".to_owned(), machine.hostname.clone()),
        ("processor".to_owned(), format!("{}, {} cores", machine.cpu, machine.cores)),
        ("memory".to_owned(), bytes(machine.memory_bytes as f64)),
        ("kernel".to_owned(), machine.kernel.clone()),
        ("load before the start".to_owned(), format!("{:.2}", machine.load_average)),
        ("open files limit".to_owned(), count(machine.nofile_limit)),
        ("load generator".to_owned(), machine.loadgen_version.clone()),
    ];
    let mut known = |name: &str, value: Option<String>| rows.extend(value.map(|value| (name.to_owned(), value)));
    known("locked memory limit", machine.memlock_limit.map(|limit| bytes(limit as f64)));
    known("transparent huge pages", machine.transparent_hugepages.clone());
    known("clock", machine.clock_source.clone());
    known("virtual", machine.is_virtual.map(|is_virtual| if is_virtual { "yes" } else { "no" }.to_owned()));
    known("commit", machine.commit.clone());
    rows.extend(machine.sysctls.iter().map(|(name, value)| (name.clone(), value.replace('\t', " "))));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, golden, look, outline};

    #[test]
    fn the_structure_of_the_page() {
        let passed = html(&sample::passed());
        look("passed.html", &passed);
        look("missed.html", &html(&sample::missed()));
        golden("report-outline.txt", &outline(&passed));
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
        let mut hostile = sample::missed();
        hostile.scenario.name = "<script>alert(1)</script> & \"more\"".into();
        hostile.command = "run '<b>' && true".into();
        hostile.integrity.examples.push("]]> <img src=x>".into());
        let mut empty = RunResult { series: Vec::new(), ..sample::passed() };
        empty.latency.clear();
        empty.server = Default::default();
        empty.counts = Default::default();
        for result in [sample::passed(), sample::missed(), hostile, empty] {
            let html = html(&result);
            let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
            let page = roxmltree::Document::parse_with_options(&html, options).expect("well-formed");
            assert!(!html.contains("http://") && !html.contains("https://"), "a resource from elsewhere");
            let elements = page.descendants().filter(|node| node.is_element());
            for element in elements {
                let name = element.tag_name().name();
                assert!(!["script", "link", "img", "iframe"].contains(&name), "{name}");
                assert!(
                    !element
                        .attributes()
                        .any(|attribute| attribute.name().starts_with("on") || attribute.name() == "src")
                );
            }
            let title = page.descendants().find(|node| node.has_tag_name("title")).and_then(|title| title.text());
            assert!(title.is_some_and(|title| title.contains(&result.scenario.name)), "{title:?}");
            assert!(!html.contains("NaN"));
        }
    }
}
