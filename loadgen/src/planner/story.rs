//! A plan in sentences and small tables: what text and HTML page both say.
use super::fit::Coefficient;
use super::model::Compared;
use super::plan::{Plan, SPARE};
use super::sizing::{Limit, Resource};
use super::words;

/// Word for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Fits,
    /// It can be done, but why would one.
    NotSensible,
    /// A single room is more than a machine.
    Impossible,
}

impl Answer {
    pub fn of(plan: &Plan) -> Answer {
        match (plan.sizing.machines, plan.objections.is_empty()) {
            (None, _) => Answer::Impossible,
            (_, true) => Answer::Fits,
            _ => Answer::NotSensible,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Answer::Fits => "FITS",
            Answer::NotSensible => "NOT SENSIBLE",
            Answer::Impossible => "IMPOSSIBLE",
        }
    }
}

/// What was asked, in one line.
pub fn asked(plan: &Plan) -> String {
    let ask = &plan.ask;
    let mut text =
        format!("{} users in rooms of {}", words::count(ask.users as f64), words::count(ask.rooms_of as f64));
    match (ask.rate_per_s > 0.0, ask.is_gathered) {
        (false, _) => text += ", no live messages",
        (true, false) => {
            text += &format!(
                ", each sending {} live messages of {:.0} bytes",
                words::rate(ask.rate_per_s),
                ask.payload_bytes
            )
        }
        (true, true) => {
            text += &format!(
                ", each sending {} updates of {:.0} bytes, gathered into one per tick",
                words::rate(ask.rate_per_s),
                ask.payload_bytes
            )
        }
    }
    if ask.durable_rate_per_s > 0.0 {
        text += &format!(" and {} durable messages", words::rate(ask.durable_rate_per_s));
    }
    if let Some(seconds) = ask.reconnect_s {
        text += &format!("; everyone back within {}", words::seconds(seconds));
    }
    text
}

/// One of the machines.
pub fn machine(plan: &Plan) -> String {
    let machine = &plan.machine;
    let cost = machine.cost_per_month.map_or(String::new(), |cost| format!(", {} a month", words::money(cost)));
    format!(
        "{} cores, {} of memory, network of {}{cost}",
        machine.cores,
        words::bytes(machine.ram_bytes),
        words::bits(machine.nic_bits_per_s)
    )
}

/// The answer for whoever reads only that.
pub fn story(plan: &Plan) -> Vec<String> {
    let Some((machines, bought)) = plan.sizing.machines.zip(plan.bought) else {
        return vec![format!(
            "These machines do not carry it: a single room of {} needs more {} than one of them has.",
            words::count(plan.ask.rooms_of as f64),
            plan.sizing.first.name()
        )];
    };
    let users = words::count(plan.per_machine.users.round());
    let mut story = vec![format!(
        "{} {} it, each with {users} users; with {SPARE} to spare, so that one may fail, {bought} are bought.",
        words::machines(machines),
        if machines == 1 { "carries" } else { "carry" },
    )];
    story.push(match plan.sizing.first {
        Resource::Reconnect => "The first limit is the time for everyone to come back after a breakdown.".into(),
        first => format!("The first to run out is the {}.", first.name()),
    });
    match plan.machines_range {
        Some((low, Some(high))) if low == high => {}
        Some((low, Some(high))) => story
            .push(format!("With the uncertainty of the measured prices: {low} to {high} machines, and the spare one.")),
        Some((low, None)) => story
            .push(format!("With the uncertainty of the measured prices: from {low} machines to more than can do it.")),
        None => story.push("The measurements do not tell how uncertain this number is.".into()),
    }
    if let Some((month, user)) = plan.cost_per_month.zip(plan.cost_per_user_month) {
        story.push(format!("That costs {} a month, {} for each user.", words::money(month), words::money(user)));
    }
    story
}

/// What a limit's capacity is, with its unit.
pub fn capacity(limit: &Limit) -> String {
    match limit.resource {
        Resource::Cpu => format!("{} cores", words::count(limit.capacity)),
        Resource::Memory => words::bytes(limit.capacity),
        Resource::Network => words::bits(limit.capacity),
        Resource::ConnectionTable => format!("{} rows", words::count(limit.capacity)),
        Resource::DurableWriter => format!("{} messages/s", words::count(limit.capacity)),
        Resource::Reconnect => words::seconds(limit.capacity),
    }
}

/// Head and rows.
pub type Table = (Vec<&'static str>, Vec<Vec<String>>);

pub fn resources(plan: &Plan) -> Table {
    let rows = plan.sizing.limits.iter().zip(&plan.use_of).map(|(limit, used)| {
        vec![
            limit.resource.name().to_string(),
            capacity(limit),
            words::percent(used.one_missing),
            words::percent(used.all_there),
            if limit.users >= 1e9 { "over a billion".into() } else { words::count(limit.users.floor()) },
            words::count(used.machines),
        ]
    });
    (
        vec![
            "resource",
            "a machine has",
            "used, one missing",
            "used, all there",
            "users it carries",
            "machines for it alone",
        ],
        rows.collect(),
    )
}

pub fn changes(plan: &Plan) -> Table {
    let of = |what: String, bought: Option<u64>, first: Resource, cost: Option<f64>| {
        let mut row =
            vec![what, bought.map_or("–".into(), |bought| words::count(bought as f64)), first.name().to_string()];
        if plan.machine.cost_per_month.is_some() {
            row.push(cost.map_or("–".into(), words::money));
        }
        row
    };
    let rows = [of("as asked".into(), plan.bought, plan.sizing.first, plan.cost_per_month)].into_iter().chain(
        plan.changes.iter().map(|change| of(change.what.clone(), change.bought, change.first, change.cost_per_month)),
    );
    let mut head = vec!["what", "machines", "runs out first"];
    if plan.machine.cost_per_month.is_some() {
        head.push("cost a month");
    }
    (head, rows.collect())
}

/// Load of all and of one machine.
pub fn load(plan: &Plan) -> Table {
    let (all, one) = (&plan.total, &plan.per_machine);
    let share = one.users / plan.ask.users as f64;
    let mut rows = vec![
        vec!["users".to_string(), words::count(all.connections), words::count(one.users.round())],
        vec![
            "rooms".into(),
            words::count(all.connections / plan.ask.rooms_of.max(1) as f64),
            words::count(all.connections / plan.ask.rooms_of.max(1) as f64 * share),
        ],
        vec![
            "live messages received".into(),
            format!("{}/s", words::count(all.received_per_s)),
            format!("{}/s", words::count(all.received_per_s * share)),
        ],
        vec![
            "durable messages".into(),
            format!("{}/s", words::count(all.durable_per_s)),
            format!("{}/s", words::count(all.durable_per_s * share)),
        ],
        vec![
            "deliveries".into(),
            format!("{}/s", words::count(all.deliveries_per_s)),
            format!("{}/s", words::count(one.deliveries_per_s)),
        ],
        vec![
            "CPU in use".into(),
            format!("{} cores", words::count(plan.cpu_cores)),
            format!("{} cores", words::three(one.cpu_cores)),
        ],
        vec!["network out".into(), words::bits(plan.network.out_bits_per_s), words::bits(one.network.out_bits_per_s)],
        vec!["network in".into(), words::bits(plan.network.in_bits_per_s), words::bits(one.network.in_bits_per_s)],
        vec![
            "packets out".into(),
            format!("{}/s", words::count(plan.network.out_packets_per_s)),
            format!("{}/s", words::count(one.network.out_packets_per_s)),
        ],
        vec![
            "packets in".into(),
            format!("{}/s", words::count(plan.network.in_packets_per_s)),
            format!("{}/s", words::count(one.network.in_packets_per_s)),
        ],
        vec!["memory of the process".into(), words::bytes(one.rss_bytes / share), words::bytes(one.rss_bytes)],
        vec!["memory of the kernel".into(), words::bytes(one.kernel_bytes / share), words::bytes(one.kernel_bytes)],
    ];
    if let Some(seconds) = one.reconnect_s {
        rows.push(vec!["everyone reconnects in".into(), words::seconds(seconds), words::seconds(seconds)]);
    }
    (vec!["", "all together", "one machine, one missing"], rows)
}

/// Each price with its error and what it rests on.
pub fn prices(list: &[(String, Vec<Coefficient>)]) -> Table {
    let mut rows = Vec::new();
    for (what, prices) in list {
        rows.push(vec![what.clone(), String::new(), String::new(), String::new()]);
        rows.extend(prices.iter().map(|price| {
            let figure = |value: f64| format!("{} {}", significant(value), price.unit);
            vec![
                format!("  {}", price.name),
                price.value.map_or("not known".into(), figure),
                price.error.map_or("–".into(), |error| format!("± {}", significant(error))),
                match &price.note {
                    Some(note) => note.clone(),
                    None => format!("{} points", price.points),
                },
            ]
        }));
    }
    (vec!["price", "value", "standard error", "from"], rows)
}

/// Predicted against measured.
pub fn validation(compared: &[Compared]) -> Table {
    let rows = compared.iter().map(|compared| {
        let miss = |miss: Option<f64>| miss.map_or("–".to_string(), |miss| format!("{:+.1} %", miss * 100.0));
        let bytes = |bytes: Option<f64>| bytes.map_or("–".to_string(), words::bytes);
        vec![
            compared.name.clone(),
            words::percent(compared.saturation),
            format!("{:.2}", compared.cpu_predicted),
            format!("{:.2}", compared.cpu_measured),
            miss(Some(compared.cpu_miss())),
            bytes(compared.rss_predicted),
            bytes(compared.rss_measured),
            miss(compared.rss_miss()),
        ]
    });
    (
        vec!["point", "of saturation", "cores predicted", "measured", "miss", "memory predicted", "measured", "miss"],
        rows.collect(),
    )
}

/// Where the figures come from.
pub fn source(plan: &Plan) -> Vec<(String, String)> {
    let source = &plan.source;
    vec![
        (
            "server".into(),
            source
                .server_version
                .clone()
                .map_or("Throng, version not known".into(), |version| format!("Throng {version}")),
        ),
        ("measured by".into(), format!("throng-loadgen {}, {} points", source.loadgen_version, source.points)),
        ("measured at".into(), crate::report::units::utc(source.measured_at)),
        ("machine".into(), format!("{}, {} cores, {}", source.cpu, source.cores, source.kernel)),
        ("fit".into(), format!("CPU missed its own points by {} (root mean square)", words::percent(source.fit_miss))),
    ]
}

/// Three digits that matter, however small.
fn significant(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => words::count(value.round()),
        0.0 => "0".into(),
        v if v >= 0.995 => words::three(value),
        v => format!("{value:.*}", (2 - v.log10().floor() as i32).clamp(2, 9) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_prices_keep_their_digits() {
        assert_eq!(
            [0.000_412_3, 0.5, 12.34, 9_037_015.0, 0.0].map(significant),
            ["0.000412", "0.500", "12.3", "9.04 million", "0"]
        );
    }
}
