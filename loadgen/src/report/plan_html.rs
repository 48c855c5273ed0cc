//! A plan as one HTML file for a manager: the answer, what runs out first, what would change it, how far to believe it.
use super::chart::{self, Axis, Bar, Bars, Chart, Marker, Scale, Style, Tone};
use super::grids::Grid;
use super::plots::Plot;
use super::units::Unit;
use crate::planner::plan::{Growth, Plan};
use crate::planner::story::{self, Answer, Table};
use crate::planner::words;
use askama::Template;

/// The page. It needs nothing from elsewhere, and no script.
pub fn plan_html(plan: &Plan) -> String {
    let answer = Answer::of(plan);
    let page = Page {
        chart_style: chart::STYLE,
        title: format!("{} users", words::count(plan.ask.users as f64)),
        about: format!("{}. On machines with {}.", story::asked(plan), story::machine(plan)),
        verdict: answer.word(),
        verdict_class: match answer {
            Answer::Fits => "good",
            Answer::NotSensible => "void",
            Answer::Impossible => "bad",
        },
        story: story::story(plan),
        objections: &plan.objections,
        cards: cards(plan),
        objections_head: match answer {
            Answer::Impossible => "Why these machines do not carry it",
            _ => "Why this is not sensible on these machines",
        },
        use_of: use_of(plan),
        resources: grid(story::resources(plan), ""),
        growth: growth(plan),
        changes_plot: changes(plan),
        changes: grid(
            story::changes(plan),
            "Machines with one to spare. Where the machine itself is another, its cost is for you to fill in.",
        ),
        load: grid(story::load(plan), ""),
        cautions: &plan.cautions,
        scaling: scaling(plan),
        validated: validated(plan),
        validation: grid(story::validation(&plan.source.validation), ""),
        assumptions: &plan.assumptions,
        source: story::source(plan),
        prices: grid(
            story::prices(&plan.source.prices),
            "A delivery costs its own price, its share of a send, and its payload.",
        ),
    };
    // Rendering into a String fails only if a Display in the page does, and those are all strings.
    page.render().unwrap_or_else(|fault| format!("<!DOCTYPE html><title>plan</title><p>{fault}</p>"))
}

#[derive(Template)]
#[template(path = "report/templates/plan.html")]
struct Page<'a> {
    chart_style: &'static str,
    title: String,
    about: String,
    verdict: &'static str,
    verdict_class: &'static str,
    story: Vec<String>,
    objections: &'a [String],
    cards: Vec<(String, String)>,
    objections_head: &'static str,
    use_of: Plot,
    resources: Grid,
    growth: Vec<Plot>,
    changes_plot: Option<Plot>,
    changes: Grid,
    load: Grid,
    cautions: &'a [String],
    scaling: Option<Plot>,
    validated: Option<Plot>,
    validation: Grid,
    assumptions: &'a [String],
    source: Vec<(String, String)>,
    prices: Grid,
}

fn grid((head, rows): Table, note: &str) -> Grid {
    Grid { title: "", head, rows, note: note.to_owned() }
}

/// Figure and label.
fn cards(plan: &Plan) -> Vec<(String, String)> {
    let mut cards = vec![
        (
            plan.bought.map_or("–".into(), |bought| words::count(bought as f64)),
            "machines, one of them to spare".to_string(),
        ),
        (words::count(plan.per_machine.users.round()), "users on each, while one is missing".into()),
        (plan.sizing.first.name().into(), "runs out first".into()),
        (words::count(plan.total.deliveries_per_s), "deliveries a second".into()),
        (words::count(plan.cpu_cores), "cores in use".into()),
        (words::bits(plan.network.out_bits_per_s), "of network out".into()),
    ];
    if let Some((month, user)) = plan.cost_per_month.zip(plan.cost_per_user_month) {
        cards.push((words::money(month), "cost a month".into()));
        cards.push((words::money(user), "cost for a user and month".into()));
    }
    cards
}

fn use_of(plan: &Plan) -> Plot {
    let mut bars = Bars::new("How much of each resource is in use", Unit::Percent);
    for used in plan.use_of.iter().filter(|used| used.one_missing.is_finite()) {
        bars = bars.bar(Bar {
            name: used.resource.name().into(),
            value: used.one_missing * 100.0,
            tone: if used.resource == plan.sizing.first { Tone::Series(1) } else { Tone::Series(0) },
            note: match plan.bought {
                Some(_) => format!("{} when all are there", words::percent(used.all_there)),
                None => String::new(),
            },
            ..Bar::default()
        });
    }
    // Far beyond a machine both lines would lie on the zero.
    if plan.use_of.iter().all(|used| used.one_missing < 5.0) {
        bars = bars.line(100.0 * (1.0 - plan.ask.headroom), "headroom begins").line(100.0, "full");
    }
    let caption = match plan.sizing.machines {
        Some(_) => {
            "On each machine while one is missing. The first to run out is in orange; the reconnect storm may take everything, as \
                    nothing else goes on in it."
        }
        None => "On a machine with one room.",
    };
    Plot { title: "How full a machine is", caption: caption.into(), is_wide: true, svg: bars.svg() }
}

fn growth(plan: &Plan) -> Vec<Plot> {
    let points = |of: &dyn Fn(&Growth) -> Option<f64>| -> Vec<(f64, f64)> {
        plan.growth.iter().filter_map(|growth| Some((growth.users as f64, of(growth)?))).collect()
    };
    let chart = |title: &str, label: &str, unit: Unit| {
        let users = Axis::new("users", Scale::Linear, Unit::Count).tight();
        Chart::new(title, users, Axis::new(label, Scale::Linear, unit)).size(510.0, 260.0).margins(66.0, 30.0).hints()
    };
    let asked = |chart: Chart, y: Option<f64>| match y {
        Some(y) => {
            chart.marker(Marker::At { x: plan.ask.users as f64, y, label: "as asked".into(), tone: Tone::Series(1) })
        }
        None => chart,
    };
    let machines = points(&|growth| growth.bought.map(|bought| bought as f64));
    let mut plots = Vec::new();
    if !machines.is_empty() {
        let chart = chart("Machines over users", "machines", Unit::Count).series(
            "machines",
            Tone::Series(0),
            Style::Line,
            machines,
        );
        plots.push(Plot {
            title: "Machines as users grow",
            caption: "One to spare included.".into(),
            is_wide: false,
            svg: asked(chart, plan.bought.map(|bought| bought as f64)).svg(),
        });
    }
    let cost = points(&|growth| growth.cost_per_user_month);
    if !cost.is_empty() {
        let chart = chart("Cost of a user over users", "per user and month", Unit::Of("")).series(
            "cost",
            Tone::Series(2),
            Style::Line,
            cost,
        );
        plots.push(Plot {
            title: "Cost of a user",
            caption: "Per month. It falls as the spare machine is shared by more, and steps up where another machine is needed.".into(),
            is_wide: false,
            svg: asked(chart, plan.cost_per_user_month).svg(),
        });
    }
    plots
}

/// `None`: nothing that was tried makes it fit.
fn changes(plan: &Plan) -> Option<Plot> {
    let asked = [("as asked", plan.bought, plan.sizing.first, Tone::Series(1))];
    let changed =
        plan.changes.iter().map(|change| (change.what.as_str(), change.bought, change.first, Tone::Series(0)));
    let bars = asked.into_iter().chain(changed).filter_map(|(name, bought, first, tone)| {
        let note = format!("{} first", first.name());
        Some(Bar { name: name.into(), value: bought? as f64, tone, note, ..Bar::default() })
    });
    let bars = bars.fold(Bars::new("Machines if one thing were different", Unit::Count), Bars::bar);
    let caption = "Each sized anew, one to spare included.".to_owned();
    let plot = Plot { title: "Machines if one thing were different", caption, is_wide: true, svg: bars.svg() };
    (!bars.bars.is_empty()).then_some(plot)
}

/// The curve over shards with what was measured; `None`: fewer than two shard counts were.
fn scaling(plan: &Plan) -> Option<Plot> {
    let usl = plan.source.usl.as_ref().filter(|usl| usl.sigma.is_some())?;
    let last = plan.sizing.shards.max(usl.measured().1).max(2.0);
    let (measured_max, step) = (usl.measured().1, (last - 1.0) / 120.0);
    let steps = |of: &dyn Fn(f64) -> Option<f64>| -> Vec<(f64, f64)> {
        (0..=120).map(|i| 1.0 + step * f64::from(i)).filter_map(|n| Some((n, of(n)?))).collect()
    };
    let margin = |n: f64| usl.effective_margin(n).map(|margin| margin * usl.lambda);
    let shards = Axis::new("shards", Scale::Linear, Unit::Count).tight();
    let mut chart =
        Chart::new("Throughput over shards", shards, Axis::new("deliveries a second", Scale::Linear, Unit::Count))
            .series("in proportion", Tone::Other, Style::Dashed, steps(&|n| Some(usl.lambda * n)))
            .series("fitted", Tone::Series(0), Style::Line, steps(&|n| (n <= measured_max + step).then(|| usl.at(n))));
    if last > measured_max {
        let beyond = steps(&|n| (n >= measured_max).then(|| usl.at(n)));
        chart = chart.series("extrapolated", Tone::Series(0), Style::Dashed, beyond);
    }
    let upper = steps(&|n| Some((usl.at(n) + margin(n)?).min(usl.lambda * n)));
    let lower = steps(&|n| Some((usl.at(n) - margin(n)?).max(0.0)));
    if !lower.is_empty() {
        chart = chart.series("95 %", Tone::Series(0), Style::Thin, upper).series(
            "95 %",
            Tone::Series(0),
            Style::Thin,
            lower,
        );
    }
    let measured = usl.places.iter().map(|place| (place.n, place.throughput)).collect();
    chart = chart.series("measured", Tone::Series(1), Style::Dots, measured);
    if plan.sizing.shards > measured_max {
        chart = chart.marker(Marker::AtX { x: measured_max, label: "measured up to here".into(), tone: Tone::Other });
    }
    let kappa = usl.kappa.map_or("κ not known".into(), |kappa| format!("κ = {kappa:.6}"));
    let mut caption = format!("Universal Scalability Law: σ = {:.4}, {kappa}. ", usl.sigma.unwrap_or(0.0));
    match usl.peak() {
        Some(peak) => caption += &format!("The curve has its top at {} shards. ", words::count(peak.round())),
        None => caption += "The curve has no top. ",
    }
    caption += &usl.notes.join(" ");
    Some(Plot { title: "How throughput grows with shards", caption, is_wide: true, svg: chart.svg() })
}

fn validated(plan: &Plan) -> Option<Plot> {
    if plan.source.validation.is_empty() {
        return None;
    }
    let mut bars = Bars::new("CPU, predicted over measured", Unit::Percent);
    for compared in &plan.source.validation {
        let is_good = compared.cpu_miss().abs() <= 0.1;
        bars = bars.bar(Bar {
            name: format!("{} of saturation", words::percent(compared.saturation)),
            value: 100.0 * (1.0 + compared.cpu_miss()),
            tone: if is_good { Tone::Good } else { Tone::Bad },
            note: format!("{:.2} cores predicted, {:.2} measured", compared.cpu_predicted, compared.cpu_measured),
            ..Bar::default()
        });
    }
    bars = bars.line(90.0, "").line(110.0, "± 10 %");
    let caption = "CPU at points the model was not fitted to: predicted first, then measured. 100 % is right.";
    Some(Plot {
        title: "Was the model right where it had not been measured?",
        caption: caption.into(),
        is_wide: true,
        svg: bars.svg(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::capacity::capacity;
    use crate::planner::grid::Grid as Points;
    use crate::planner::model::Model;
    use crate::planner::plan::{Ask, MachineSpec, plan};
    use crate::planner::testing::{Synthetic, round_model};
    use crate::result::Machine;

    fn ask() -> Ask {
        Ask {
            users: 200_000,
            rooms_of: 100,
            rate_per_s: 0.2,
            payload_bytes: 64.0,
            durable_rate_per_s: 1.0 / 60.0,
            heartbeat_s: 30.0,
            headroom: 0.3,
            reconnect_s: Some(60.0),
            is_gathered: false,
        }
    }

    fn machine() -> MachineSpec {
        MachineSpec {
            cores: 32,
            ram_bytes: 137_438_953_472.0,
            nic_bits_per_s: 25e9,
            cost_per_month: Some(250.0),
            ..MachineSpec::default()
        }
    }

    /// Fitted to the synthetic server, so that all parts of the page are there.
    fn fitted() -> Model {
        let mut server = Synthetic::new(0.015);
        let points = Points { shards: vec![1, 2, 4, 8], ..Points::default() };
        let machine = Machine { cpu: "a synthetic <server>".into(), cores: 8, ..Machine::default() };
        capacity(&points, true, machine, &mut |scenario, shards| Ok(server.run(scenario, shards)), &mut |_| {})
            .expect("a model")
            .model
    }

    /// `PLAN_SAMPLE=folder cargo test` writes the pages there, to be looked at.
    #[test]
    fn a_page_has_every_part_and_is_well_formed() {
        let model = fitted();
        let pages = [
            ("fits", plan_html(&plan(&model, &ask(), &machine()))),
            (
                "not-sensible",
                plan_html(&plan(
                    &model,
                    &Ask { users: 500_000, rate_per_s: 20.0, durable_rate_per_s: 0.0, ..ask() },
                    &machine(),
                )),
            ),
            ("impossible", plan_html(&plan(&round_model(), &Ask { rooms_of: 200_000, ..ask() }, &machine()))),
        ];
        for (name, page) in &pages {
            if let Some(folder) = std::env::var_os("PLAN_SAMPLE") {
                std::fs::write(std::path::Path::new(&folder).join(format!("plan-{name}.html")), page).expect("written");
            }
            let body = &page[page.find("<html").expect("a page")..];
            roxmltree::Document::parse(body).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert!(
                !page.contains("NaN")
                    && !page.contains("http://")
                    && !page.contains("https://")
                    && !page.contains("<script"),
                "{name}"
            );
        }
        for expected in [
            "FITS",
            "How throughput grows with shards",
            "Was the model right",
            "a synthetic &#60;server&#62;",
            "Cost of a user",
        ] {
            assert!(pages[0].1.contains(expected), "{expected}");
        }
        assert!(pages[1].1.contains("NOT SENSIBLE") && pages[1].1.contains("990 million deliveries a second"));
        assert!(pages[2].1.contains("IMPOSSIBLE") && pages[2].1.contains("One room alone"));
    }
}
