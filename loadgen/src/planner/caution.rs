//! What a reader of a plan must know besides its figures: why an ask is not sensible, where the plan goes beyond what was
//! measured, what it takes for granted.
use super::model::{Compared, Model};
use super::plan::{Ask, Plan, SPARE};
use super::sizing::{Resource, size};
use super::words;

/// What a home link and a phone's processor take without trouble for one game or chat.
const USER_BITS_PER_S_MAX: f64 = 5e6;
const USER_DELIVERIES_PER_S_MAX: f64 = 500.0;
/// From here on someone asks what all the machines are for.
const MACHINES_MANY: u64 = 10;
/// Connections are cheap: where holding them would need so many times fewer machines, it is the traffic that is bought.
const TRAFFIC_OVER_HOLDING: f64 = 10.0;

/// Defaults of `limits.live` (per second and connection) and `limits.messages` (per minute and user): docs/OPERATING.md.
const LIVE_LIMIT_PER_S: f64 = 50.0;
const MESSAGES_LIMIT_PER_S: f64 = 10.0 / 60.0;

/// Plain words why one would not do this; none: it is sensible.
pub fn objections(model: &Model, plan: &Plan) -> Vec<String> {
    let ask = &plan.ask;
    let users = ask.users as f64;
    let mut objections = Vec::new();
    if plan.sizing.machines.is_none() {
        let most = plan
            .sizing
            .limits
            .iter()
            .find(|limit| limit.resource == plan.sizing.first)
            .map_or(0.0, |limit| limit.users);
        objections.push(format!(
            "One room alone is more than one machine: its {} members with {} deliveries a second need {} of them, and a machine \
             carries {} of its members ({} runs out). Rooms are not split over machines.",
            words::count(ask.rooms_of as f64),
            words::count(plan.total.deliveries_per_s / users * ask.rooms_of as f64),
            words::count((ask.rooms_of as f64 / most.max(1e-9)).ceil()),
            words::count(most.floor()),
            plan.sizing.first.name(),
        ));
    }
    let each = plan.total.deliveries_per_s / users;
    let each_bits = plan.network.out_bits_per_s / users;
    if each > USER_DELIVERIES_PER_S_MAX || each_bits > USER_BITS_PER_S_MAX {
        objections.push(format!(
            "Each user would receive {} messages a second, {}: more than many home links and phones take.",
            words::count(each),
            words::bits(each_bits),
        ));
    }
    let holding =
        plan.use_of.iter().filter(|used| matches!(used.resource, Resource::Memory | Resource::ConnectionTable));
    let holding = holding.map(|used| used.machines).fold(0.0, f64::max).ceil().max(1.0);
    let many = plan.sizing.machines.filter(|machines| *machines >= MACHINES_MANY);
    let is_traffic = many.is_none_or(|machines| machines as f64 >= TRAFFIC_OVER_HOLDING * holding);
    if plan.total.deliveries_per_s > 0.0 && (many.is_some() || plan.sizing.machines.is_none()) && is_traffic {
        objections.push(format!(
            "{} deliveries a second: at {} µs each that is {} cores, and {} of network. {} would hold the connections alone: \
             it is fan-out that these machines are bought for.",
            words::count(plan.total.deliveries_per_s),
            words::three(plan.delivery_us),
            words::count((plan.total.deliveries_per_s * plan.delivery_us / 1e6).round()),
            words::bits(plan.network.out_bits_per_s),
            words::machines(holding as u64),
        ));
    }
    if !objections.is_empty() && !ask.is_gathered && ask.rooms_of > 3 && ask.rate_per_s > 0.0 {
        let gathered = Ask { is_gathered: true, ..*ask };
        let sized = size(model, &gathered, &plan.machine, 1.0);
        let work = gathered.work(users, sized.shards);
        objections.push(match sized.machines {
            Some(machines) => format!(
                "Sending each user one gathered update per tick would need {} deliveries a second of {} and {} (with one to \
                 spare); the application has to gather, Throng delivers.",
                words::count(work.deliveries_per_s),
                words::bytes(work.payload_bytes_per_s / work.deliveries_per_s),
                words::machines(machines + SPARE),
            ),
            None => "Even one gathered update per user and tick is more than a machine carries for one room.".into(),
        });
    }
    objections
}

/// Where the model is asked beyond its points.
pub fn cautions(model: &Model, plan: &Plan) -> Vec<String> {
    let mut cautions = Vec::new();
    let (ask, reach, shards) = (&plan.ask, &model.reach, plan.sizing.shards);
    if shards > reach.shards {
        let effective = model.effective_shards(shards);
        let margin = model.usl.as_ref().and_then(|usl| usl.effective_margin(shards));
        let doubt = match (margin, &model.usl) {
            (Some(margin), _) => format!("By the fitted curve they do the work of {effective:.1} ± {margin:.1} single ones (95 %)."),
            (None, Some(usl)) if usl.sigma.is_some() => {
                format!("By the fitted curve they do the work of {effective:.1} single ones; its points do not tell how sure that is.")
            }
            _ => "How throughput grows with shards was not measured: the plan takes it to grow in proportion, the best that can be.".into(),
        };
        cautions.push(format!(
            "Measured with up to {} shard{}, planned with {}. {doubt}",
            words::count(reach.shards),
            if reach.shards == 1.0 { "" } else { "s" },
            words::count(shards),
        ));
    }
    if f64::from(plan.machine.cores) > shards {
        cautions.push(format!(
            "By the scalability curve {} shards do most; more of the {} cores would do less. Consider smaller machines.",
            words::count(shards),
            plan.machine.cores
        ));
    }
    let mut beyond = |what: &str, planned: f64, measured: f64, unit: &str| {
        if measured > 0.0 && planned > measured * 1.5 {
            cautions.push(format!(
                "{what}: measured up to {}{unit}, planned with {}{unit}; in between is extrapolation.",
                words::count(measured),
                words::count(planned)
            ));
        }
    };
    let payload = if plan.total.deliveries_per_s > 0.0 {
        plan.total.payload_bytes_per_s / plan.total.deliveries_per_s
    } else {
        0.0
    };
    beyond("Connections on one machine", plan.per_machine.users, reach.connections, "");
    beyond("Payload", payload, reach.payload_bytes, " bytes");
    beyond("Members of a room", ask.rooms_of as f64, reach.room_members, "");
    if reach.deliveries_per_s > 0.0 {
        let measured = reach.deliveries_per_s / reach.shards;
        beyond("Deliveries a second and shard", plan.per_machine.deliveries_per_s / shards, measured, "");
    }
    cautions.push(regime(model, plan));
    if ask.durable_rate_per_s > 0.0 {
        match model.durable {
            None => cautions
                .push("How many durable messages one machine stores a second was not measured; it is left out.".into()),
            Some(ceiling) if !ceiling.is_knee => cautions.push(format!(
                "The durable writer did {} a second when measured and was not at its limit: it may do more.",
                words::count(ceiling.per_s)
            )),
            _ => {}
        }
        if model.cpu.find(super::cost::DURABLE).is_none_or(|price| price.value.is_none()) {
            cautions.push("What a durable message costs in CPU was not measured; it counts as nothing here.".into());
        }
    }
    if model.kernel.is_none() {
        cautions.push("The kernel's memory was not readable when measuring: a TCP connection takes some 2 to 4 KiB there, which are missing in this plan.".into());
    }
    if ask.reconnect_s.is_some() && model.handshake.is_none() {
        cautions.push("What a handshake costs was not measured: the reconnect time is not checked.".into());
    }
    cautions.push(validated(&model.validation));
    if ask.rate_per_s > LIVE_LIMIT_PER_S {
        cautions.push(format!(
            "`limits.live` allows {LIVE_LIMIT_PER_S:.0} messages a second and connection by default: raise it for this."
        ));
    }
    if ask.durable_rate_per_s > MESSAGES_LIMIT_PER_S {
        cautions.push(
            "`limits.messages` allows 10 durable messages a minute and user by default: raise it for this.".into(),
        );
    }
    cautions.extend(model.notes.iter().cloned());
    cautions
}

/// Which cost of a delivery the plan counts with.
fn regime(model: &Model, plan: &Plan) -> String {
    let payload = plan.ask.payload_bytes;
    match &model.gather {
        None => format!(
            "A delivery counts {} µs, at the gathering of the loads measured; how it changes with load is not known.",
            words::three(plan.delivery_us)
        ),
        Some(law) => {
            let (alone, gathered) = model.delivery_us(payload);
            let mut text = format!(
                "On one shard a delivery of {payload:.0} bytes costs {} µs in a send of its own and {} µs where {} share one (the most measured). This \
                 plan counts with {} to a send",
                words::three(alone),
                words::three(gathered),
                words::three(law.depth_max_measured),
                words::three(plan.depth),
            );
            text += if plan.depth > law.depth_max_measured * 1.2 { ": more than was measured." } else { "." };
            let shards = plan.sizing.shards;
            if model.effective_shards(shards) < 0.98 * shards {
                text += &format!(
                    " What {} shards lose to each other makes it {} µs.",
                    words::count(shards),
                    words::three(plan.delivery_us)
                );
            }
            text
        }
    }
}

fn validated(validation: &[Compared]) -> String {
    if validation.is_empty() {
        return "The model was not validated: `throng-loadgen capacity --validate` measures points it was not fitted to.".into();
    }
    let worst =
        |miss: fn(&Compared) -> Option<f64>| validation.iter().filter_map(miss).map(f64::abs).fold(0.0, f64::max);
    let within = validation.iter().filter(|compared| compared.is_within()).count();
    format!(
        "Validated at {} points it was not fitted to: CPU missed by up to {}, memory by up to {}; {within} of them within 10 %.",
        validation.len(),
        words::percent(worst(|compared| Some(compared.cpu_miss()))),
        words::percent(worst(Compared::rss_miss)),
    )
}

/// What holds for every plan.
pub fn assumptions(model: &Model, ask: &Ask) -> Vec<String> {
    let mut assumptions = vec![
        format!("A core of the planned machine does as much as one of the machine measured ({}).", model.machine.cpu),
        "Measured over loopback: the server's CPU carried the receiver's half of TCP, and no network card's interrupts.".into(),
        "Plain TCP: what ends TLS in front needs machines of its own.".into(),
        "Rooms and users spread evenly over machines; a room lives on one machine. The application, or its balancer, sends users there.".into(),
        "Packets of an MTU of 1500, an acknowledgement for every second one; the larger direction counts.".into(),
        format!("{} of each resource stays free, one machine is bought to spare.", words::percent(ask.headroom)),
    ];
    if !model.overhead.is_measured {
        assumptions.push(format!(
            "Envelope and frame of a delivery: {:.0} bytes, from the protocol's description.",
            model.overhead.delivered_bytes
        ));
    }
    if ask.is_gathered {
        assumptions
            .push("The application gathers: it gets every user's message and publishes one per room and tick.".into());
    }
    assumptions
}
