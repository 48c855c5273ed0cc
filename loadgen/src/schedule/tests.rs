//! The schedule: rates, distributions, independence of the split, order, cost.
use super::*;
use proptest::prelude::*;
use std::cell::Cell;

thread_local! {
    /// Comparisons of the heap, in this test's thread.
    pub static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

const SECOND_NS: u64 = 1_000_000_000;

fn scenario(connections: u32, members: u32, lines: &[(&str, u32, f64, &str)]) -> Scenario {
    let mut text = format!(
        "name = 'x'\nabout = 'y'\nconnections = {connections}\ntime = {{ warmup_s = 0, measure_s = 1 }}\n\
         [[layer]]\nname = 'all'\nmembers = 0\n[[layer]]\nname = 'match'\nmembers = {members}\n"
    );
    for (layer, senders, rate, arrival) in lines {
        text += &format!(
            "[[traffic]]\nkind = 'live'\nlayer = '{layer}'\nsenders = {senders}\nrate_per_s = {rate}\narrival = '{arrival}'\n"
        );
    }
    toml::from_str(&text).expect("a scenario")
}

fn drain(schedule: &mut Schedule) -> Vec<Due> {
    std::iter::from_fn(|| schedule.pop(u64::MAX)).collect()
}

/// Gaps of the only sender.
fn gaps(rate: f64, arrival: &str, seconds: u64) -> Vec<f64> {
    let scenario = scenario(1, 1, &[("match", 1, rate, arrival)]);
    let all = drain(&mut Schedule::new(&scenario, 0..1, 5, 0, seconds * SECOND_NS));
    all.windows(2).map(|pair| (pair[1].intended_ns - pair[0].intended_ns) as f64).collect()
}

#[test]
fn the_rate_over_a_long_time_is_the_scenarios() {
    for arrival in ["poisson", "uniform"] {
        let scenario = scenario(100, 10, &[("match", 4, 20.0, arrival), ("all", 3, 50.0, arrival)]);
        let mut schedule = Schedule::new(&scenario, 0..100, 1, 3 * SECOND_NS, 103 * SECOND_NS);
        assert_eq!(schedule.total_rate_per_s().round(), 10.0 * 4.0 * 20.0 + 3.0 * 50.0);
        let count = drain(&mut schedule).len() as f64;
        // 95,000 are asked for; the standard deviation of a Poisson count is its root, 308.
        let deviation = if arrival == "poisson" { 4.0 * 308.0 } else { 43.0 };
        assert!((count - 95_000.0).abs() <= deviation, "{arrival}: {count}");
        assert_eq!(schedule.next_due(), None);
    }
}

#[test]
fn poisson_gaps_are_exponential() {
    let gaps = gaps(1000.0, "poisson", 100);
    let count = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / count;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    // Four standard deviations of the estimates over 100,000 draws: 4/√n of the mean, 4·√8/√n of the variance.
    assert!((mean / 1e6 - 1.0).abs() < 0.0127, "mean {mean}");
    assert!((variance / 1e12 - 1.0).abs() < 0.036, "variance {variance}");
    let longer_than = |times: f64| gaps.iter().filter(|gap| **gap > times * 1e6).count() as f64 / count;
    for times in [0.5f64, 1.0, 2.0, 5.0] {
        assert!((longer_than(times) - (-times).exp()).abs() < 0.0064, "tail beyond {times} means");
    }
    let neighbours: f64 = gaps.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    assert!((neighbours / count / variance).abs() < 0.0127, "a gap tells about the next");
}

#[test]
fn uniform_gaps_are_equal_and_phases_differ() {
    assert!(gaps(30.0, "uniform", 100).iter().all(|gap| *gap == 33_333_333.0));
    let scenario = scenario(1000, 0, &[("match", 0, 10.0, "uniform")]);
    let mut first: Vec<u64> =
        drain(&mut Schedule::new(&scenario, 0..1000, 1, 0, SECOND_NS / 10)).iter().map(|due| due.intended_ns).collect();
    assert_eq!(first.len(), 1000, "one tick of each in each period");
    first.dedup();
    assert!(first.len() > 990, "phases are spread");
    let early = first.iter().filter(|at| **at < SECOND_NS / 20).count();
    assert!((440..560).contains(&early), "{early} of 1000 in the first half of the period");
}

#[test]
fn bounds_of_time_and_of_rooms_are_kept() {
    // 25 connections in rooms of 10: the last room has members 0 to 4 only, so its second sender (member 5) does not exist.
    let scenario = scenario(25, 10, &[("match", 2, 100.0, "poisson"), ("nowhere", 2, 100.0, "poisson")]);
    let all = drain(&mut Schedule::new(&scenario, 0..25, 1, SECOND_NS, 2 * SECOND_NS));
    assert!(all.iter().all(|due| (SECOND_NS..2 * SECOND_NS).contains(&due.intended_ns)));
    let mut senders: Vec<_> = all.iter().map(|due| (due.connection, due.layer, due.room, due.publisher)).collect();
    senders.sort();
    senders.dedup();
    assert_eq!(senders, [(0, 1, 1, 0), (5, 1, 1, 1), (10, 1, 2, 0), (15, 1, 2, 1), (20, 1, 3, 0)]);
    for due in &all {
        assert_eq!(due.room, scenario.room_number(due.layer, due.connection));
        assert_eq!((due.layer, due.traffic), (1, 0));
    }
}

#[test]
fn nothing_is_due_where_nothing_is_sent() {
    for lines in [&[("match", 1, 0.0, "poisson")][..], &[("nowhere", 1, 1.0, "uniform")], &[]] {
        let schedule = Schedule::new(&scenario(10, 2, lines), 0..10, 1, 0, u64::MAX);
        assert_eq!((schedule.next_due(), schedule.total_rate_per_s()), (None, 0.0));
    }
    let all = scenario(10, 2, &[("match", 0, 1.0, "poisson")]);
    assert_eq!(Schedule::new(&all, 4..4, 1, 0, u64::MAX).next_due(), None);
    assert_eq!(Schedule::new(&all, 0..10, 1, 7, 7).next_due(), None);
    let mut quiet = all.clone();
    quiet.layers.clear();
    assert_eq!(Schedule::new(&quiet, 0..10, 1, 0, u64::MAX).next_due(), None);
}

#[test]
fn another_seed_is_another_schedule() {
    let scenario = scenario(10, 5, &[("match", 2, 100.0, "poisson")]);
    let all = |seed| drain(&mut Schedule::new(&scenario, 0..10, seed, 0, SECOND_NS));
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
}

#[test]
fn a_hundred_thousand_senders_cost_a_logarithm_a_message() {
    let scenario = scenario(100_000, 100, &[("match", 0, 1.0, "poisson")]);
    let mut schedule = Schedule::new(&scenario, 0..100_000, 1, 0, 10 * SECOND_NS);
    COMPARISONS.set(0);
    let messages = 200_000;
    (0..messages).for_each(|_| assert!(schedule.pop(u64::MAX).is_some()));
    // A binary heap sinks with two comparisons a level, and has 17 levels.
    assert!(COMPARISONS.get() <= messages * (2 * 17 + 2), "{} a message", COMPARISONS.get() / messages);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_split_into_workers_gives_the_same_union_in_order(
        connections in 1u32..120, members in 0u32..30, seed: u64, mut cuts in prop::collection::vec(0u32..120, 0..4), step_ns in 1u64..50_000_000,
    ) {
        let scenario = scenario(connections, members, &[("match", 3, 40.0, "poisson"), ("all", 0, 5.0, "uniform")]);
        let mut whole = drain(&mut Schedule::new(&scenario, 0..connections, seed, 17, SECOND_NS));
        prop_assert!(whole.is_sorted_by_key(|due| due.intended_ns));
        cuts.extend([0, connections]);
        cuts.retain(|cut| *cut <= connections);
        cuts.sort();
        let mut parts = Vec::new();
        for pair in cuts.windows(2) {
            // Polled in steps of time, as a worker does.
            let mut schedule = Schedule::new(&scenario, pair[0]..pair[1], seed, 17, SECOND_NS);
            let mut part = Vec::new();
            let mut now_ns = 0;
            while let Some(next_ns) = schedule.next_due() {
                now_ns += step_ns;
                while let Some(due) = schedule.pop(now_ns) {
                    prop_assert!(due.intended_ns <= now_ns && due.intended_ns >= next_ns);
                    part.push(due);
                }
            }
            prop_assert!(part.is_sorted_by_key(|due| due.intended_ns));
            parts.extend(part);
        }
        whole.sort();
        parts.sort();
        prop_assert_eq!(whole, parts);
    }
}
