//! The end of the judgement: what was sent against what came.
use super::{Checker, EXAMPLES_MAX, JUMP, Sent};
use crate::check::places::Place;
use crate::result::Integrity;

/// What a subscriber lacks or has too much of one publisher.
enum Finding {
    /// `count` of the numbers `from` to `to` had to come and did not.
    Lost { from: u32, to: u32, count: u64 },
    /// Sent last, while it was away or before it heard from the publisher again.
    Missed(u64),
    /// Numbers above the highest sent.
    NeverSent { number: u32, sent: u32, count: u64 },
}

/// Whom a finding is about.
struct Subscriber {
    connection: u32,
    place: Place,
    is_durable: bool,
}

impl Checker {
    /// Deliveries that had to come and have not yet; messages in doubt are not waited for. In a run without absences, doubts and
    /// gaps it costs a sum over the publishers, otherwise a walk over all (subscriber, publisher).
    pub fn outstanding(&self, sent: &Sent) -> u64 {
        if self.unsettled == 0 {
            let (expected, has_doubts) = self.expected(sent);
            let given_up = self.found.lost_live + self.found.lost_durable;
            let settled = self.found.delivered + self.found.missed_away + given_up;
            if settled >= expected || !has_doubts {
                return expected.saturating_sub(settled);
            }
        }
        let mut lost = 0;
        self.walk(sent, |_, finding| {
            if let Finding::Lost { count, .. } = finding {
                lost += count;
            }
        });
        lost
    }

    /// Everything but `skipped_live` and `closed_slow`, which others know. `expected` is what came (once) and what was lost, so
    /// messages in doubt count on both sides if they came, on neither if not. May be called again.
    pub fn finish(&mut self, sent: &Sent) -> Integrity {
        let mut found = self.found.clone();
        self.walk(sent, |subscriber, finding| {
            let lost = match subscriber.is_durable {
                true => &mut found.lost_durable,
                false => &mut found.lost_live,
            };
            match finding {
                Finding::Lost { count, .. } => *lost += count,
                Finding::Missed(count) => found.missed_away += count,
                Finding::NeverSent { count, .. } => {
                    found.foreign += count;
                    found.delivered = found.delivered.saturating_sub(count);
                }
            }
            if found.examples.len() < EXAMPLES_MAX {
                found.examples.extend(self.sentence(&subscriber, &finding));
            }
        });
        found.expected = found.delivered + found.lost_live + found.lost_durable;
        found
    }

    /// Deliveries if all that was sent arrives everywhere, and whether anything sent is in doubt.
    fn expected(&self, sent: &Sent) -> (u64, bool) {
        let (mut expected, mut has_doubts) = (0, false);
        let (start, end) = (self.connections.start, self.connections.end.min(self.places.connections));
        for (layer, at) in self.places.layers.iter().enumerate() {
            if at.publishers.is_empty() || start >= end {
                continue;
            }
            for room in start / at.members..=(end - 1) / at.members {
                let first = u64::from(room) * u64::from(at.members);
                let members = first.max(start.into())..(first + u64::from(at.members)).min(end.into());
                for (index, publisher) in at.publishers.iter().enumerate() {
                    let place = Place { layer, room, index };
                    let slot = self.places.slot(place);
                    let highest = sent.highest_at(slot);
                    let is_left_out = !publisher.hears_itself && members.contains(&self.places.connection(place));
                    let receivers = members.end - members.start - u64::from(is_left_out);
                    expected += u64::from(highest) * receivers;
                    has_doubts |= highest > 0 && sent.doubts(slot, publisher.is_durable, 1, highest) > 0;
                }
            }
        }
        (expected, has_doubts)
    }

    /// Visits every (subscriber, publisher) that something is to be said about, in the order of the arrays.
    fn walk(&self, sent: &Sent, mut visit: impl FnMut(Subscriber, Finding)) {
        let mut gaps = self.gaps.iter().peekable();
        let mut slot = 0;
        for (layer, at) in self.places.layers.iter().enumerate() {
            for connection in self.connections.clone() {
                let room = connection / at.members;
                let is_away = self.is_away[self.away_entry(connection, layer)];
                for (index, publisher) in at.publishers.iter().enumerate() {
                    let (entry, place) = (self.highest[slot], Place { layer, room, index });
                    let sent_slot = self.places.slot(place);
                    let (highest, last) = (entry & !JUMP, sent.highest_at(sent_slot));
                    let is_durable = publisher.is_durable;
                    let mut lost = |from: u32, to: u32| {
                        if from <= to {
                            let count =
                                u64::from(to - from + 1).saturating_sub(sent.doubts(sent_slot, is_durable, from, to));
                            if count > 0 {
                                let subscriber = Subscriber { connection, place, is_durable };
                                visit(subscriber, Finding::Lost { from, to, count });
                            }
                        }
                    };
                    let mut too_much = u64::from(highest.saturating_sub(last));
                    while let Some((_, from, to)) = gaps.next_if(|gap| gap.0 == slot) {
                        lost(from, to.min(last));
                        too_much -= u64::from((to + 1).saturating_sub(from.max(last + 1)));
                    }
                    let is_heard = publisher.hears_itself || self.places.connection(place) != u64::from(connection);
                    let may_miss = entry & JUMP != 0 || is_away;
                    if is_heard && highest < last && !may_miss {
                        lost(highest + 1, last);
                    }
                    let subscriber = Subscriber { connection, place, is_durable };
                    if is_heard && highest < last && may_miss {
                        visit(subscriber, Finding::Missed(u64::from(last - highest)));
                    } else if too_much > 0 {
                        visit(subscriber, Finding::NeverSent { number: highest, sent: last, count: too_much });
                    }
                    slot += 1;
                }
            }
        }
    }

    /// `None`: nothing that is a fault.
    fn sentence(&self, subscriber: &Subscriber, finding: &Finding) -> Option<String> {
        let place = subscriber.place;
        let layer = &self.places.layers[place.layer];
        let publisher = layer.publishers[place.index].publisher;
        let what = match *finding {
            Finding::Missed(_) => return None,
            Finding::Lost { from, to, .. } if from == to => {
                format!("number {from} of publisher {publisher} never came")
            }
            Finding::Lost { from, to, count } if count == u64::from(to - from + 1) => {
                format!("numbers {from} to {to} of publisher {publisher} never came")
            }
            Finding::Lost { from, to, count } => {
                format!(
                    "{count} of the numbers {from} to {to} of publisher {publisher} never came, the others are in doubt"
                )
            }
            Finding::NeverSent { number, sent, .. } => {
                format!("number {number} of publisher {publisher} came, but the last one sent is {sent}")
            }
        };
        Some(format!("connection {} in room {}-{}: {what}", subscriber.connection, layer.name, place.room))
    }
}

/// The workers' findings as one.
pub fn total(parts: impl IntoIterator<Item = Integrity>) -> Integrity {
    let mut all = Integrity::default();
    for part in parts {
        // By name, so that a new field is not forgotten.
        let Integrity {
            expected,
            delivered,
            lost_durable,
            lost_live,
            skipped_live,
            missed_away,
            duplicated,
            reordered,
            foreign,
            closed_slow,
            unanswered,
            offset_faults,
            examples,
        } = part;
        all.expected += expected;
        all.delivered += delivered;
        all.lost_durable += lost_durable;
        all.lost_live += lost_live;
        all.skipped_live += skipped_live;
        all.missed_away += missed_away;
        all.duplicated += duplicated;
        all.reordered += reordered;
        all.foreign += foreign;
        all.closed_slow += closed_slow;
        all.unanswered += unanswered;
        all.offset_faults += offset_faults;
        all.examples.extend(examples);
    }
    all.examples.truncate(EXAMPLES_MAX);
    all
}
