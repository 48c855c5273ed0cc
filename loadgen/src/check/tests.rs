//! The checker case by case.
use super::*;

/// Four connections in two rooms of two ("match-0", "match-1"). Publishers: 0 live (member 0, does not hear itself), 1 live
/// (member 0, hears itself), 2 durable (member 0).
fn scenario() -> Scenario {
    toml::from_str(
        "name = 'x'\nabout = 'y'\nconnections = 4\ntime = { warmup_s = 0, measure_s = 1 }\n\
         [[layer]]\nname = 'match'\nmembers = 2\n\
         [[traffic]]\nkind = 'live'\nlayer = 'match'\nsenders = 1\nrate_per_s = 1\n\
         [[traffic]]\nkind = 'live'\nlayer = 'match'\nsenders = 1\nrate_per_s = 1\ninclude_self = true\n\
         [[traffic]]\nkind = 'durable'\nlayer = 'match'\nsenders = 1\nrate_per_s = 1\n",
    )
    .expect("a scenario")
}

fn stamp(room: u32, publisher: u32, number: u32) -> Stamp {
    Stamp { room, publisher, number, intended_ns: 0 }
}

struct Run {
    checker: Checker,
    sent: Sent,
}

fn run() -> Run {
    let mut checker = Checker::new(&scenario(), 0..4);
    (0..4).for_each(|connection| checker.positioned(connection, connection / 2, "e", 0));
    Run { checker, sent: Sent::new(&scenario()) }
}

impl Run {
    /// Publisher 0 of room 0 has sent `count`; only connection 1 hears it.
    fn sent(mut self, count: u32) -> Run {
        (1..=count).for_each(|number| self.sent.sent(0, 0, number));
        self
    }

    fn live(mut self, numbers: &[u32]) -> Run {
        numbers.iter().for_each(|number| self.checker.live(1, &stamp(0, 0, *number)));
        self
    }

    /// The durable publisher of room 0 has sent and the server acked.
    fn acked(mut self, count: u32) -> Run {
        for number in 1..=count {
            self.sent.sent(0, 2, number);
            self.sent.acked(0, 2, number);
        }
        self
    }

    /// To both members, each number at the offset of the same size.
    fn durable(mut self, numbers: &[u32]) -> Run {
        for number in numbers {
            (0..2).for_each(|connection| {
                self.checker.durable(connection, &stamp(0, 2, *number), (*number).into(), "e");
            });
        }
        self
    }

    fn away(mut self, connection: u32) -> Run {
        self.checker.away(connection);
        self
    }

    fn back(mut self, connection: u32, recovered: Option<bool>) -> Run {
        self.checker.back(connection, 0, recovered);
        self
    }

    fn finish(mut self) -> Integrity {
        self.checker.finish(&self.sent)
    }
}

#[test]
fn what_came_in_order_is_sound() {
    let run = run().sent(3).acked(2).live(&[1, 2]).durable(&[1, 2]);
    assert_eq!(run.checker.outstanding(&run.sent), 1);
    let run = run.live(&[3]);
    assert_eq!(run.checker.outstanding(&run.sent), 0);
    let found = run.finish();
    assert_eq!(found, Integrity { expected: 7, delivered: 7, ..Integrity::default() });
    assert!(found.is_sound());
}

#[test]
fn a_live_event_that_never_comes_is_lost() {
    let found = run().sent(4).live(&[1, 3]).finish();
    assert_eq!((found.expected, found.delivered, found.lost_live), (4, 2, 2));
    assert_eq!(
        found.examples,
        [
            "connection 1 in room match-0: number 2 of publisher 0 never came",
            "connection 1 in room match-0: number 4 of publisher 0 never came"
        ]
    );
    let found = run().sent(4).live(&[1]).finish();
    assert_eq!(found.examples, ["connection 1 in room match-0: numbers 2 to 4 of publisher 0 never came"]);
    assert_eq!(run().sent(2).finish().lost_live, 2, "nothing at all came");
}

#[test]
fn what_comes_late_is_reordered_and_not_lost() {
    let found = run().sent(3).live(&[1, 3, 2]).finish();
    assert_eq!(found, Integrity { expected: 3, delivered: 3, reordered: 1, ..found.clone() });
    assert_eq!((found.lost_live, found.duplicated), (0, 0));
    assert_eq!(found.examples, ["connection 1 in room match-0: number 2 of publisher 0 came after number 3"]);
}

#[test]
fn what_comes_again_is_duplicated() {
    for numbers in [&[1, 1, 2, 3][..], &[1, 2, 3, 1], &[1, 3, 2, 2]] {
        let found = run().sent(3).live(numbers).finish();
        assert_eq!((found.delivered, found.duplicated, found.expected), (3, 1, 3), "{numbers:?}");
        assert!(found.examples.iter().any(|example| example.ends_with(" of publisher 0 came again")));
    }
}

#[test]
fn stamps_for_others_are_foreign() {
    let cases: [(u32, Stamp, &str); 8] = [
        (1, stamp(1, 0, 1), "connection 1 got number 1 of publisher 0 of room match-1: it is not in that room"),
        (1, stamp(2, 0, 1), "connection 1 got number 1 of publisher 0 of room 2 (unknown): it is not in that room"),
        (1, stamp(0, 3, 1), "connection 1 got number 1 of publisher 3 of room match-0: there is no such publisher"),
        (1, stamp(0, 2, 1), "connection 1 got number 1 of publisher 2 of room match-0: live and durable are mixed up"),
        (
            0,
            stamp(0, 0, 1),
            "connection 0 got number 1 of publisher 0 of room match-0: its own event, though it asked not to get it",
        ),
        (
            1,
            stamp(0, 0, 0),
            "connection 1 got number 0 of publisher 0 of room match-0: no message can have that number",
        ),
        (
            1,
            stamp(0, 0, u32::MAX),
            "connection 1 got number 4294967295 of publisher 0 of room match-0: no message can have that number",
        ),
        (7, stamp(0, 0, 1), "connection 7 got number 1 of publisher 0 of room match-0: it is not of this worker"),
    ];
    for (connection, stamp, sentence) in cases {
        let mut run = run();
        run.checker.live(connection, &stamp);
        let found = run.finish();
        assert_eq!((found.foreign, found.delivered), (1, 0), "{sentence}");
        assert_eq!(found.examples, [sentence]);
    }
    let mut run = run();
    run.checker.durable(1, &stamp(0, 0, 1), 1, "e");
    run.checker.back(1, 1, None);
    run.checker.positioned(1, 9, "e", 0);
    assert_eq!(run.finish().foreign, 3);
}

#[test]
fn a_number_that_nobody_sent_is_foreign_at_the_end() {
    let found = run().sent(2).live(&[1, 2, 9, 10]).finish();
    assert_eq!((found.foreign, found.delivered, found.expected, found.lost_live), (2, 2, 2, 0));
    assert_eq!(
        found.examples,
        ["connection 1 in room match-0: number 10 of publisher 0 came, but the last one sent is 2"]
    );
    let found = run().sent(3).live(&[1, 9]).finish();
    assert_eq!((found.foreign, found.delivered, found.expected, found.lost_live), (1, 1, 3, 2));
}

#[test]
fn who_hears_itself_must_hear_itself() {
    let mut run = run();
    run.sent.sent(0, 1, 1);
    run.checker.live(1, &stamp(0, 1, 1));
    assert_eq!(run.checker.outstanding(&run.sent), 1);
    let found = run.finish();
    assert_eq!((found.expected, found.lost_live), (2, 1));
    assert!(found.examples[0].starts_with("connection 0 "));
}

#[test]
fn only_acked_messages_are_demanded() {
    let mut run = run().acked(2);
    run.sent.sent(0, 2, 3);
    run.sent.sent(0, 2, 4);
    run.sent.refused(0, 2, 3);
    let run = run.durable(&[1, 2]);
    assert_eq!(run.checker.outstanding(&run.sent), 0);
    let mut run = run.durable(&[4]);
    let found = run.checker.finish(&run.sent);
    assert_eq!((found.expected, found.delivered), (6, 6), "what is in doubt may come");
    assert!(found.is_sound());
    run.sent.acked(0, 2, 3);
    assert_eq!(run.checker.outstanding(&run.sent), 2);
    assert_eq!(run.finish().lost_durable, 2);
}

#[test]
fn live_events_in_doubt_may_be_missing() {
    let mut run = run().sent(6).live(&[1, 4]);
    run.sent.in_doubt(0, 0, 2, 2);
    run.sent.in_doubt(0, 0, 6, 6);
    assert_eq!(run.checker.outstanding(&run.sent), 2);
    let found = run.finish();
    assert_eq!((found.expected, found.lost_live), (4, 2));
    assert_eq!(
        found.examples[0],
        "connection 1 in room match-0: 1 of the numbers 2 to 3 of publisher 0 never came, the others are in doubt"
    );
}

#[test]
fn live_events_of_an_absence_are_not_judged() {
    let run = run().sent(9).live(&[1, 2]).away(1).back(1, Some(true)).live(&[5]);
    assert_eq!(run.checker.outstanding(&run.sent), 4);
    let run = run.live(&[6, 7, 9]);
    assert_eq!(run.checker.unsettled, 1, "of the live ones only publisher 1 may still jump");
    let found = run.finish();
    assert_eq!((found.missed_away, found.lost_live, found.expected, found.delivered), (2, 1, 7, 6));
    // Away at the end, or back and nothing heard since.
    for run in [run_away(), run_away().back(1, None)] {
        assert_eq!(run.checker.outstanding(&run.sent), 0);
        let found = run.finish();
        assert_eq!((found.missed_away, found.expected, found.delivered), (5, 2, 2));
        assert!(found.is_sound());
    }
}

fn run_away() -> Run {
    run().sent(7).live(&[1, 2]).away(1).away(1)
}

#[test]
fn a_gap_from_before_an_absence_stays_lost() {
    let found = run().sent(5).live(&[1, 3]).away(1).back(1, None).live(&[5]).finish();
    assert_eq!((found.lost_live, found.missed_away), (1, 1));
}

#[test]
fn recovered_durable_messages_must_be_complete() {
    let found = run().acked(6).durable(&[1, 2]).away(0).back(0, Some(true)).durable(&[3, 4, 5, 6]).finish();
    assert!(found.is_sound());
    assert_eq!((found.expected, found.missed_away), (12, 0));
    let found = run().acked(6).durable(&[1, 2]).away(0).back(0, Some(true)).durable(&[4, 5, 6]).finish();
    assert_eq!(found.lost_durable, 2, "connection 1, which was not away, lacks it as well");
    let run = run().acked(6).durable(&[1, 2]).away(0).back(0, Some(true));
    assert_eq!(run.checker.outstanding(&run.sent), 8);
    assert_eq!(run.finish().lost_durable, 8);
}

#[test]
fn durable_messages_may_jump_where_nothing_was_recovered() {
    for recovered in [None, Some(false)] {
        let mut run = run().acked(6).durable(&[1, 2]).away(0).away(1).back(0, recovered).back(1, Some(true));
        run.checker.positioned(0, 0, "e", 4);
        (5..=6).for_each(|number| run.checker.durable(0, &stamp(0, 2, number), number.into(), "e"));
        (3..=6).for_each(|number| run.checker.durable(1, &stamp(0, 2, number), number.into(), "e"));
        let found = run.finish();
        assert!(found.is_sound(), "{:?}", found.examples);
        assert_eq!((found.missed_away, found.expected), (2, 10));
    }
}

#[test]
fn an_absence_that_was_not_recovered_is_not_forgotten_by_one_that_was() {
    let mut run = run().acked(4).durable(&[1]).away(0).back(0, Some(false));
    run.checker.positioned(0, 0, "e", 3);
    let mut run = run.away(0).back(0, Some(true));
    run.checker.durable(0, &stamp(0, 2, 4), 4, "e");
    (2..=4).for_each(|number| run.checker.durable(1, &stamp(0, 2, number), number.into(), "e"));
    let found = run.finish();
    assert!(found.is_sound());
    assert_eq!(found.missed_away, 2);
}

#[test]
fn offsets_must_grow_in_one_epoch() {
    let judge = |offsets: &[(u64, &str)]| {
        let mut run = run();
        run.checker.away(0);
        for (at, (offset, epoch)) in offsets.iter().enumerate() {
            let number = at as u32 + 1;
            run.sent.sent(0, 2, number);
            run.sent.acked(0, 2, number);
            run.checker.durable(1, &stamp(0, 2, number), *offset, epoch);
        }
        run.finish()
    };
    assert!(judge(&[(1, "e"), (3, "e"), (900, "e")]).is_sound(), "other events take offsets too");
    for (offsets, sentence) in [
        (&[(1, "e"), (1, "e"), (2, "e")][..], "connection 1 in room match-0: offset 1 came after offset 1"),
        (&[(5, "e"), (4, "e"), (6, "e")], "connection 1 in room match-0: offset 4 came after offset 5"),
        (&[(0, "e"), (1, "e")], "connection 1 in room match-0: offset 0 came after offset 0"),
        (&[(1, "e"), (2, "f"), (3, "f")], "connection 1 in room match-0: the epoch became f at offset 2 by itself"),
    ] {
        let found = judge(offsets);
        assert_eq!((found.offset_faults, found.is_sound()), (1, false), "{offsets:?}");
        assert_eq!(found.examples, [sentence]);
    }
}

#[test]
fn a_new_room_state_moves_the_position() {
    let mut run = run().durable(&[1, 2, 3]);
    run.checker.positioned(1, 0, "f", 0);
    run.checker.durable(1, &stamp(0, 2, 4), 1, "f");
    run.checker.positioned(1, 0, "f", 7);
    assert_eq!(run.checker.found.offset_faults, 0);
    run.checker.durable(1, &stamp(0, 2, 5), 7, "f");
    assert_eq!(run.checker.found.offset_faults, 1);
    run.checker.positioned(1, 0, "f", 6);
    assert_eq!(
        run.checker.found.examples[1],
        "connection 1 in room match-0: room_state is at offset 6, but 7 had come"
    );
}

#[test]
fn a_full_table_of_gaps_still_counts() {
    let mut run = run().sent(9);
    run.checker.gaps = Gaps::new(1);
    let run = run.live(&[2, 5]);
    assert_eq!(run.checker.outstanding(&run.sent), 5);
    let found = run.live(&[9]).finish();
    assert_eq!((found.lost_live, found.delivered, found.expected), (6, 3, 9));
    assert!(found.examples[0].contains("gaps are open at once"));
}

#[test]
fn twenty_sentences_are_kept_and_all_is_counted() {
    let numbers = [7; 50];
    let parts = [run().sent(7).live(&numbers).finish(), run().sent(7).live(&numbers).finish()];
    let all = total(parts);
    assert_eq!((all.duplicated, all.lost_live, all.delivered, all.expected), (98, 12, 2, 14));
    assert_eq!(all.examples.len(), EXAMPLES_MAX);
}

#[test]
fn quiet_rooms_cost_a_byte() {
    let mut quiet = scenario();
    quiet.traffic.clear();
    let checker = Checker::new(&quiet, 0..4);
    assert_eq!((checker.highest.len(), checker.positions.len(), checker.is_away.len()), (0, 0, 4));
    let checker = Checker::new(&scenario(), 1..3);
    assert_eq!((checker.highest.len(), checker.positions.len()), (2 * 3, 2));
    assert_eq!(size_of::<Position>(), 16);
}
