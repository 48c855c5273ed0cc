//! Plans by hand: every figure is derived beside it, from the prices of `testing::round_model`.
use super::*;
use crate::planner::model::Ceiling;
use crate::planner::testing::round_model;
use crate::planner::usl::Place;

fn ask() -> Ask {
    Ask {
        users: 500_000,
        rooms_of: 100,
        rate_per_s: 20.0,
        payload_bytes: 64.0,
        durable_rate_per_s: 0.0,
        heartbeat_s: 30.0,
        headroom: 0.3,
        reconnect_s: None,
        is_gathered: false,
    }
}

fn machine() -> MachineSpec {
    MachineSpec {
        cores: 32,
        ram_bytes: 128.0 * 1024.0 * 1024.0 * 1024.0,
        cost_per_month: Some(250.0),
        ..MachineSpec::default()
    }
}

/// A network card that is never the limit.
fn wide(machine: MachineSpec) -> MachineSpec {
    MachineSpec { nic_bits_per_s: 1e15, ..machine }
}

#[track_caller]
fn near(found: f64, derived: f64) {
    assert!((found - derived).abs() <= 1e-6 * derived.abs(), "{found} is not {derived}");
}

fn users(plan: &Plan, resource: Resource) -> f64 {
    plan.sizing.limits.iter().find(|limit| limit.resource == resource).expect("the resource").users
}

fn used(plan: &Plan, resource: Resource) -> &Use {
    plan.use_of.iter().find(|used| used.resource == resource).expect("the resource")
}

/// Per user and second: 20 messages of 3 µs = 60 µs; 20 · 99 = 1,980 deliveries of 0.5 µs = 990 µs; 1/30 heartbeat of 6 µs = 0.2 µs;
/// together 1,050.2 µs. A machine gives 32 · 0.7 = 22.4 cores: 22.4 / 0.0010502 = 21,329.27 users; 500,000 / 21,329.27 = 23.44.
#[test]
fn half_a_million_players_by_cpu() {
    let plan = plan(&round_model(), &ask(), &wide(machine()));
    near(plan.total.deliveries_per_s, 990e6);
    near(users(&plan, Resource::Cpu), 22.4 / 0.001_050_2);
    assert_eq!((plan.sizing.machines, plan.bought, plan.sizing.first), (Some(24), Some(25), Resource::Cpu));
    // 500,000 / 24 = 20,833.33 users: 21.879 of 32 cores. With the spare: 20,000 users, 21.004 cores.
    near(used(&plan, Resource::Cpu).one_missing, 500_000.0 / 24.0 * 0.001_050_2 / 32.0);
    near(used(&plan, Resource::Cpu).all_there, 20_000.0 * 0.001_050_2 / 32.0);
    near(used(&plan, Resource::Cpu).machines, 500_000.0 * 0.001_050_2 / 22.4);
    // 500,000 · 1,050.2 µs = 525.1 cores.
    near(plan.cpu_cores, 525.1);
    near(plan.delivery_us, 0.5);
    // 25 · 250 = 6,250 a month, 0.0125 for a user.
    near(plan.cost_per_month.unwrap(), 6_250.0);
    near(plan.cost_per_user_month.unwrap(), 0.0125);
}

/// Out, per user and second: 1,980 deliveries in packets of 64 + 186 + 90 = 340 B = 673,200 B; a heartbeat's answer each 30 s,
/// (150 + 90) / 30 = 8 B; an acknowledgement of 90 B for every second packet in, (20 + 1/30) / 2 · 90 = 901.5 B.
/// 674,109.5 B = 5,392,876 bit. 7 Gbit/s carry 1,298.01 users: 385.2 machines.
#[test]
fn the_same_on_ten_gigabit_runs_out_of_network_first() {
    let plan = plan(&round_model(), &ask(), &machine());
    near(users(&plan, Resource::Network), 7e9 / 5_392_876.0);
    assert_eq!((plan.sizing.machines, plan.sizing.first), (Some(386), Resource::Network));
    near(plan.network.out_bits_per_s, 500_000.0 * 5_392_876.0);
    let text = plan.objections.join("\n");
    assert!(text.contains("990 million deliveries a second: at 0.5 µs each that is 495 cores"), "{text}");
    assert!(text.contains("Each user would receive 1,980 messages a second, 5.39 Mbit/s"), "{text}");
    assert!(text.contains("gathered update per tick would need 20 million deliveries"), "{text}");
}

/// Gathered, per user and second: 20 messages in, and 20 / 100 = 0.2 of the collector, 3 µs each: 60.6 µs. 20 deliveries to the
/// collector and 20 to the user, 0.5 µs each: 20 µs. Heartbeats 0.2 µs. Together 80.8 µs: 22.4 / 0.0000808 = 277,227.7 users.
/// Payload: 20 · 64 + 20 · 99 · 64 = 128,000 B over 40 deliveries: 3,200 B each.
#[test]
fn gathered_updates_are_for_the_application_to_send() {
    let ask = Ask { is_gathered: true, ..ask() };
    let plan = plan(&round_model(), &ask, &wide(machine()));
    near(users(&plan, Resource::Cpu), 22.4 / 0.000_080_8);
    assert_eq!((plan.sizing.machines, plan.bought), (Some(2), Some(3)));
    near(plan.total.deliveries_per_s, 20e6);
    near(plan.total.payload_bytes_per_s / plan.total.deliveries_per_s, 3_200.0);
    // In, per tick and room: 100 messages of 64 B and one of 99 · 64 B: 12,736 B over 101.
    near(ask.sent_payload_bytes(), 12_736.0 / 101.0);
}

/// Silent users. Memory: 250 + 2,750 = 3,000 B each, 0.7 · 137,438,953,472 / 3,000 = 32,069,089 users. Table: 32 shards of
/// 256 rings of 1,048,576 − 512 rows, 0.7 of them: 6,010 million users. CPU: 0.2 µs each, 112 million. Network: a heartbeat each 30 s; out
/// 240 + 45 = 285 B: 76 bit/s, 92 million.
#[test]
fn silent_users_run_out_of_memory_first() {
    let ask = Ask { users: 1_000_000, rate_per_s: 0.0, ..ask() };
    let plan = plan(&round_model(), &ask, &machine());
    near(users(&plan, Resource::Memory), 0.7 * 137_438_953_472.0 / 3_000.0);
    near(users(&plan, Resource::ConnectionTable), 0.7 * 32.0 * 256.0 * 1_048_064.0);
    near(users(&plan, Resource::Cpu), 22.4 / 0.2e-6);
    near(users(&plan, Resource::Network), 7e9 / 76.0);
    assert_eq!((plan.sizing.machines, plan.bought, plan.sizing.first), (Some(1), Some(2), Resource::Memory));
    assert_eq!(plan.objections, Vec::<String>::new());
    near(plan.per_machine.rss_bytes, 250e6);
    near(plan.per_machine.kernel_bytes, 2_750e6);
}

/// RLIMIT_NOFILE of 1,000: 8 shards of 256 rings of 488 rows, 0.7 of them: 699,596.8 users; 5,000,000 of them need 7.15 machines.
#[test]
fn a_low_descriptor_limit_is_what_runs_out() {
    let ask = Ask { users: 5_000_000, rate_per_s: 0.0, ..ask() };
    let plan = plan(&round_model(), &ask, &MachineSpec { cores: 8, nofile: 1_000, ..machine() });
    near(users(&plan, Resource::ConnectionTable), 699_596.8);
    assert_eq!((plan.sizing.machines, plan.sizing.first), (Some(8), Resource::ConnectionTable));
}

/// 80,000 a second at most, 0.7 of it: 56,000. Each user one a minute: 3,360,000 users on a machine. CPU, per user: 12 µs / 60 +
/// 100 deliveries / 60 · 0.5 µs + heartbeat 0.2 µs = 0.2 + 0.8333 + 0.2 = 1.2333 µs: 18.16 million. 10 million users: 2.98 machines.
/// 100,000 users in 1,000 rooms: 100,000 · 250 + 1,000 · (1,000 + 300 · 10) bytes. A run is too short to fill the rooms; a plan is not.
#[test]
fn rooms_of_a_plan_keep_as_many_events_as_they_may() {
    let ask = Ask { durable_rate_per_s: 0.1, ..ask() };
    let predicted = round_model().predict(&ask.work(100_000.0, 8.0));
    near(predicted.rss_bytes.unwrap().value, 29e6);
}

#[test]
fn the_durable_writer_is_one_for_each_machine() {
    let model = Model { durable: Some(Ceiling { per_s: 80_000.0, is_knee: true }), ..round_model() };
    let ask = Ask { users: 10_000_000, rate_per_s: 0.0, durable_rate_per_s: 1.0 / 60.0, ..ask() };
    let machine = MachineSpec { ram_bytes: 1e13, ..wide(machine()) };
    let plan = plan(&model, &ask, &machine);
    near(users(&plan, Resource::DurableWriter), 3_360_000.0);
    near(users(&plan, Resource::Cpu), 22.4 / (0.2e-6 + 0.5e-6 * 100.0 / 60.0 + 0.2e-6));
    assert_eq!((plan.sizing.machines, plan.sizing.first), (Some(3), Resource::DurableWriter));
}

/// 8 cores at 100 µs: 80,000 handshakes a second, 400,000 in 5 s. 500,000 users: 1.25 machines; on two, 250,000 take 3.125 s.
#[test]
fn a_reconnect_storm_takes_the_whole_machine() {
    let ask = Ask { rate_per_s: 0.0, reconnect_s: Some(5.0), ..ask() };
    let plan = plan(&round_model(), &ask, &MachineSpec { cores: 8, ..machine() });
    near(users(&plan, Resource::Reconnect), 400_000.0);
    assert_eq!((plan.sizing.machines, plan.sizing.first), (Some(2), Resource::Reconnect));
    near(plan.per_machine.reconnect_s.unwrap(), 3.125);
    near(used(&plan, Resource::Reconnect).one_missing, 3.125 / 5.0);
}

/// Everyone in one room at 20/s: a member costs 60 + 20 · 499,999 · 0.5 µs = 5 s of CPU a second, so that 22.4 cores carry 4.48.
#[test]
fn a_room_larger_than_a_machine_is_refused_in_words() {
    let ask = Ask { rooms_of: 500_000, ..ask() };
    let plan = plan(&round_model(), &ask, &wide(machine()));
    assert_eq!((plan.sizing.machines, plan.bought, plan.cost_per_month), (None, None, None));
    assert!(plan.objections[0].contains("One room alone is more than one machine"), "{:?}", plan.objections);
    assert!(plan.objections[0].contains("carries 4 of its members (CPU runs out)"), "{:?}", plan.objections);
}

/// Two shards did 180 where one did 100: σ = (2 · 100 / 180 − 1) / 1 = 1/9. Four do 4 / (1 + 3/9) = 3 shards' work, so that a user
/// costs 4/3 of 1,050.2 µs there: 2.8 · 3/4 / 0.0010502 = 1,999.62 users.
#[test]
fn more_shards_than_measured_count_by_the_curve_and_are_flagged() {
    let places = [Place { n: 1.0, throughput: 100.0 }, Place { n: 2.0, throughput: 180.0 }];
    let mut model = Model { usl: Usl::fit(&places).ok(), ..round_model() };
    (model.reach.shards, model.reach.shards_min) = (2.0, 1.0);
    let plan = plan(&model, &ask(), &wide(MachineSpec { cores: 4, ..machine() }));
    near(users(&plan, Resource::Cpu), 2.8 * 0.75 / 0.001_050_2);
    assert!(plan.cautions[0].contains("Measured with up to 2 shards, planned with 4"), "{:?}", plan.cautions);
    assert!(plan.cautions[0].contains("work of 3.0 single ones; its points do not tell"), "{:?}", plan.cautions);
    assert_eq!(plan.machines_range, None, "two points tell no range");
}

/// A curve with its top at √((1 − 0.05) / 0.01) = 9.75: nine shards are used of 32 cores.
#[test]
fn no_more_shards_than_the_top_of_the_curve() {
    let law = |n: f64| Place { n, throughput: 100.0 * n / (1.0 + 0.05 * (n - 1.0) + 0.01 * n * (n - 1.0)) };
    let model = Model { usl: Usl::fit(&[1.0, 2.0, 4.0, 8.0, 16.0].map(law)).ok(), ..round_model() };
    let plan = plan(&model, &ask(), &wide(machine()));
    assert_eq!(plan.sizing.shards, 9.0);
    assert!(plan.cautions.iter().any(|caution| caution.contains("9 shards do most")), "{:?}", plan.cautions);
}

/// A delivery's price is uncertain by 0.02 µs, 30 degrees of freedom: 2.042 · 0.02 · 1,980 = 80.86 of 1,050.2 µs, 7.7 %.
/// 23.44 machines become 21.64 to 25.25: 22 to 26.
#[test]
fn the_range_follows_from_the_errors_of_the_prices() {
    let mut model = round_model();
    let mut covariance = vec![vec![0.0; 8]; 8];
    covariance[0][0] = 0.02 * 0.02;
    (model.cpu.covariance, model.cpu.freedom) = (Some(covariance), 30);
    assert_eq!(plan(&model, &ask(), &wide(machine())).machines_range, Some((22, Some(26))));
}

/// Half the rate: 30 + 495 + 0.2 = 525.2 µs, 500,000 · 525.2e-6 / 22.4 = 11.72: 12 and one to spare. Rooms of 50: 60 + 980 · 0.5 +
/// 0.2 = 550.2 µs, 12.28: 13 and one. Headroom 0.5: 525.1 / 16 = 32.8: 33 and one. Twice the users: 46.88: 47 and one. 64 cores:
/// 525.1 / 44.8 = 11.72: 12 and one. Payload costs nothing here: 25.
#[test]
fn what_would_change_the_answer_is_sized_anew() {
    let plan = plan(&round_model(), &ask(), &wide(machine()));
    let bought = |what: &str| plan.changes.iter().find(|change| change.what.contains(what)).expect("the change").bought;
    assert_eq!(bought("half the rate: 10/s"), Some(13));
    assert_eq!(bought("rooms of 50"), Some(14));
    assert_eq!(bought("payload of 32"), Some(25));
    assert_eq!(bought("one gathered update"), Some(3));
    assert_eq!(bought("headroom of 50 %"), Some(34));
    assert_eq!(bought("twice the users: 1 million"), Some(48));
    assert_eq!(bought("machines of 64 cores"), Some(13));
    let half = plan.changes.iter().find(|change| change.what.contains("half the rate")).unwrap();
    near(half.cost_per_month.unwrap(), 13.0 * 250.0);
    assert_eq!(plan.growth.len(), 20);
    assert_eq!((plan.growth[9].users, plan.growth[9].bought), (500_000, plan.bought));
}
