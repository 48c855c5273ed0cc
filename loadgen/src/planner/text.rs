//! A plan, and a capacity run, as text for a terminal.
use super::capacity::Capacity;
use super::model::Compared;
use super::plan::Plan;
use super::story::{self, Answer, Table};
use super::words;
use std::fmt::Write;

const WIDTH: usize = 110;

pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let answer = Answer::of(plan);
    paragraph(&mut out, "", &format!("{}. {}.", answer.word(), story::asked(plan)));
    paragraph(&mut out, "", &format!("On machines with {}.", story::machine(plan)));
    out.push('\n');
    story::story(plan).iter().for_each(|sentence| paragraph(&mut out, "  ", sentence));
    if !plan.objections.is_empty() {
        heading(&mut out, "Why not");
        plan.objections.iter().for_each(|line| paragraph(&mut out, "- ", line));
    }
    heading(&mut out, "What runs out first");
    table(&mut out, &story::resources(plan));
    heading(&mut out, "Load");
    table(&mut out, &story::load(plan));
    heading(&mut out, "What would change the answer (machines with one to spare)");
    table(&mut out, &story::changes(plan));
    heading(&mut out, "How far to believe it");
    plan.cautions.iter().for_each(|line| paragraph(&mut out, "- ", line));
    heading(&mut out, "Taken for granted");
    plan.assumptions.iter().for_each(|line| paragraph(&mut out, "- ", line));
    if !plan.source.validation.is_empty() {
        heading(&mut out, "Predicted against measured, at points the model was not fitted to");
        table(&mut out, &story::validation(&plan.source.validation));
    }
    heading(&mut out, "Where the figures come from");
    for (name, value) in story::source(plan) {
        let _ = writeln!(out, "  {name:<12} {value}");
    }
    out
}

/// What a capacity run found: saturation, prices, how well they predict.
pub fn capacity_text(capacity: &Capacity) -> String {
    let mut out = String::new();
    let model = &capacity.model;
    heading(&mut out, "Saturation");
    for (shards, knee) in &capacity.knees {
        let shards = format!("{shards} shard{}", if *shards == 1 { "" } else { "s" });
        let _ = writeln!(out, "  {shards:<12} {} deliveries/s ({})", words::count(knee.load), knee.why.words());
    }
    if let Some(knee) = &capacity.durable_knee {
        let _ = writeln!(out, "  {:<12} {} durable messages/s ({})", "", words::count(knee.load), knee.why.words());
    }
    if let Some(usl) = model.usl.as_ref().filter(|usl| usl.sigma.is_some()) {
        let with_error = |value: Option<f64>, error: Option<f64>| match (value, error) {
            (Some(value), Some(error)) => format!("{value:.6} ± {error:.6}"),
            (Some(value), None) => format!("{value:.6}"),
            _ => "not known".into(),
        };
        let (sigma, kappa) = (with_error(usl.sigma, usl.errors[1]), with_error(usl.kappa, usl.errors[2]));
        let _ = writeln!(out, "  over shards  σ = {sigma}, κ = {kappa}");
        if let Some(peak) = usl.peak() {
            let _ = writeln!(out, "  {:<12} most at {} shards", "", words::count(peak.round()));
        }
    }
    heading(&mut out, "Prices");
    table(&mut out, &story::prices(&model.price_list()));
    let (alone, gathered) = model.delivery_us(64.0);
    let _ = writeln!(
        out,
        "  A delivery of 64 bytes: {} µs in a send of its own, {} µs where most share one.",
        words::three(alone),
        words::three(gathered)
    );
    if !model.validation.is_empty() {
        heading(&mut out, "Predicted against measured, at points the model was not fitted to");
        table(&mut out, &story::validation(&model.validation));
        let within = model.validation.iter().filter(|compared| compared.is_within()).count();
        let _ = writeln!(out, "  {within} of {} within {}.", model.validation.len(), words::percent(Compared::GOAL));
    }
    let remarks = model.usl.iter().flat_map(|usl| &usl.notes).chain(&model.notes);
    let remarks: Vec<String> =
        remarks.cloned().chain(capacity.skipped.iter().map(|line| format!("left out: {line}"))).collect();
    if !remarks.is_empty() {
        heading(&mut out, "To know");
        remarks.iter().for_each(|line| paragraph(&mut out, "- ", line));
    }
    out
}

fn heading(out: &mut String, title: &str) {
    let _ = writeln!(out, "\n{title}");
}

/// Wrapped, with `lead` before the first line and as much room before the others.
fn paragraph(out: &mut String, lead: &str, text: &str) {
    let mut line = lead.to_string();
    let room = " ".repeat(lead.chars().count());
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line.clone_from(&room);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// The first column to the left, the others to the right.
fn table(out: &mut String, (head, rows): &Table) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: &[&str]| {
        let mut text = format!("  {:<1$}", cells[0], widths[0]);
        cells.iter().zip(&widths).skip(1).for_each(|(cell, width)| text += &format!("  {cell:>width$}"));
        let _ = writeln!(out, "{}", text.trim_end());
    };
    line(head);
    rows.iter().for_each(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::plan::{Ask, MachineSpec, plan};
    use crate::planner::testing::round_model;

    #[test]
    fn a_plan_reads_from_the_answer_to_its_source() {
        let ask = Ask {
            users: 500_000,
            rooms_of: 100,
            rate_per_s: 20.0,
            payload_bytes: 64.0,
            durable_rate_per_s: 0.0,
            heartbeat_s: 30.0,
            headroom: 0.3,
            reconnect_s: Some(60.0),
            is_gathered: false,
        };
        let machine = MachineSpec {
            cores: 32,
            ram_bytes: 137_438_953_472.0,
            nic_bits_per_s: 1e12,
            cost_per_month: Some(250.0),
            ..MachineSpec::default()
        };
        let text = text(&plan(&round_model(), &ask, &machine));
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "NOT SENSIBLE. 500,000 users in rooms of 100, each sending 20/s live messages of 64 bytes; everyone back within 60 s.",
            "24 machines carry it, each with 20,833 users; with 1 to spare, so that one may fail, 25 are bought.",
            "The first to run out is the CPU.",
            "That costs 6,250 a month, 0.0125 for each user.",
            "990 million deliveries a second: at 0.5 µs each that is 495 cores",
            "half the rate: 10/s",
            "a test's idea of a processor",
        ] {
            assert!(words.contains(expected), "\"{expected}\" is not in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    }
}
