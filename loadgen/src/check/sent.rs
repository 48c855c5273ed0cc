//! What was sent: the other half of the judgement. Each worker keeps its own; merged, they say what had to arrive.
//!
//! A message is *in doubt* if its arrival can be neither demanded nor forbidden:
//! - durable and not acked (yet): the server may have stored it or not; once acked, it is demanded;
//! - refused by an error of the server;
//! - put in doubt by the engine: a live message that was written to a link which broke before anything proved that the server
//!   had read it.
use crate::check::places::Places;
use crate::scenario::Scenario;
use std::collections::{BTreeSet, HashMap};

/// Numbers by publisher. 8 bytes for each publisher of the scenario that sends here; the others' zero pages stay untouched.
pub struct Sent {
    places: Places,
    /// Highest number sent, by slot.
    highest: Vec<u32>,
    /// Durable: up to here every number was acked or refused.
    answered: Vec<u32>,
    /// Durable: answered above that. Empty while answers come in order.
    answered_beyond: HashMap<usize, BTreeSet<u32>>,
    /// Refused, or put in doubt.
    doubtful: HashMap<usize, BTreeSet<u32>>,
}

impl Sent {
    /// Nothing sent yet.
    pub fn new(scenario: &Scenario) -> Sent {
        let places = Places::new(scenario);
        let slots = places.slots();
        Sent {
            places,
            highest: vec![0; slots],
            answered: vec![0; slots],
            answered_beyond: HashMap::new(),
            doubtful: HashMap::new(),
        }
    }

    /// `number` was handed to the connection. Numbers of a publisher go up from 1 in steps of 1; sending one again is fine.
    pub fn sent(&mut self, room: u32, publisher: u32, number: u32) {
        if let Some(slot) = self.slot(room, publisher) {
            self.highest[slot] = self.highest[slot].max(number);
        }
    }

    /// The server acked the durable message.
    pub fn acked(&mut self, room: u32, publisher: u32, number: u32) {
        let Some(slot) = self.slot(room, publisher) else { return };
        self.answer(slot, number);
        remove(&mut self.doubtful, slot, number);
    }

    /// The server answered it by an error. It must not be sent again later than a higher number, or it counts as reordered.
    pub fn refused(&mut self, room: u32, publisher: u32, number: u32) {
        let Some(slot) = self.slot(room, publisher) else { return };
        self.answer(slot, number);
        self.doubtful.entry(slot).or_default().insert(number);
    }

    /// Live messages `from` to `to` (included) were written to a link that broke; nobody knows whether the server read them.
    /// Durable ones need no word: they are in doubt until they are acked.
    pub fn in_doubt(&mut self, room: u32, publisher: u32, from: u32, to: u32) {
        let Some(place) = self.places.publisher(room, publisher) else { return };
        if !self.places.layers[place.layer].publishers[place.index].is_durable {
            self.doubtful.entry(self.places.slot(place)).or_default().extend(from..=to);
        }
    }

    /// Highest number sent; 0: none.
    pub fn highest(&self, room: u32, publisher: u32) -> u32 {
        self.slot(room, publisher).map_or(0, |slot| self.highest[slot])
    }

    /// Takes over what `other` knows about the publishers that send there. Each sends at one worker only, so the newest state of
    /// a worker may be merged again and again into the same total.
    pub fn merge(&mut self, other: &Sent) {
        for (slot, highest) in other.highest.iter().enumerate().filter(|(_, highest)| **highest > 0) {
            self.highest[slot] = *highest;
            self.answered[slot] = other.answered[slot];
        }
        for (mine, others) in
            [(&mut self.answered_beyond, &other.answered_beyond), (&mut self.doubtful, &other.doubtful)]
        {
            mine.retain(|slot, _| other.highest[*slot] == 0);
            mine.extend(others.iter().map(|(slot, numbers)| (*slot, numbers.clone())));
        }
    }

    /// Highest number sent, by slot of [`Places::slot`].
    pub(super) fn highest_at(&self, slot: usize) -> u32 {
        self.highest[slot]
    }

    /// How many of the numbers `from` to `to` (included, all sent) are in doubt.
    pub(super) fn doubts(&self, slot: usize, is_durable: bool, from: u32, to: u32) -> u64 {
        let count = |numbers: &HashMap<usize, BTreeSet<u32>>, from| {
            numbers.get(&slot).filter(|_| from <= to).map_or(0, |numbers| numbers.range(from..=to).count() as u64)
        };
        let mut doubts = count(&self.doubtful, from);
        if is_durable {
            let from = from.max(self.answered[slot] + 1);
            doubts += u64::from((to + 1).saturating_sub(from)) - count(&self.answered_beyond, from);
        }
        doubts
    }

    fn answer(&mut self, slot: usize, number: u32) {
        let answered = &mut self.answered[slot];
        if number != *answered + 1 {
            if number > *answered {
                self.answered_beyond.entry(slot).or_default().insert(number);
            }
            return;
        }
        *answered = number;
        while remove(&mut self.answered_beyond, slot, *answered + 1) {
            *answered += 1;
        }
    }

    fn slot(&self, room: u32, publisher: u32) -> Option<usize> {
        self.places.publisher(room, publisher).map(|place| self.places.slot(place))
    }
}

/// Whether it was in; an empty set goes too.
fn remove(numbers: &mut HashMap<usize, BTreeSet<u32>>, slot: usize, number: u32) -> bool {
    if numbers.is_empty() {
        return false;
    }
    let Some(set) = numbers.get_mut(&slot) else { return false };
    let was_in = set.remove(&number);
    if set.is_empty() {
        numbers.remove(&slot);
    }
    was_in
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        toml::from_str(
            "name = 'x'\nabout = 'y'\nconnections = 4\ntime = { warmup_s = 0, measure_s = 1 }\n\
             [[layer]]\nname = 'match'\nmembers = 2\n\
             [[traffic]]\nkind = 'live'\nlayer = 'match'\nsenders = 1\nrate_per_s = 1\n\
             [[traffic]]\nkind = 'durable'\nlayer = 'match'\nsenders = 1\nrate_per_s = 1\n",
        )
        .expect("a scenario")
    }

    #[test]
    fn durable_messages_are_in_doubt_until_they_are_acked() {
        let mut sent = Sent::new(&scenario());
        sent.sent(1, 1, 9);
        assert_eq!(sent.highest(1, 1), 9);
        let slot = 3;
        assert_eq!(sent.highest_at(slot), 9);
        assert_eq!(sent.doubts(slot, true, 1, 9), 9);
        [2, 3, 1, 7].into_iter().for_each(|number| sent.acked(1, 1, number));
        assert_eq!((sent.doubts(slot, true, 1, 3), sent.doubts(slot, true, 1, 9)), (0, 5));
        sent.refused(1, 1, 4);
        assert_eq!((sent.doubts(slot, true, 4, 4), sent.doubts(slot, true, 1, 9)), (1, 5));
        [4, 5, 6, 8, 9].into_iter().for_each(|number| sent.acked(1, 1, number));
        assert_eq!(sent.doubts(slot, true, 1, 9), 0);
        assert!(sent.answered_beyond.is_empty() && sent.doubtful.is_empty(), "nothing is kept for what is settled");
    }

    #[test]
    fn live_messages_are_in_doubt_only_by_word() {
        let mut sent = Sent::new(&scenario());
        sent.sent(0, 0, 5);
        assert_eq!(sent.doubts(0, false, 1, 5), 0);
        sent.in_doubt(0, 0, 3, 4);
        sent.refused(0, 0, 1);
        assert_eq!((sent.doubts(0, false, 1, 5), sent.doubts(0, false, 2, 3)), (3, 1));
        sent.sent(9, 0, 1);
        sent.acked(0, 9, 1);
    }

    #[test]
    fn merging_again_brings_the_newest_state() {
        let (mut one, mut other) = (Sent::new(&scenario()), Sent::new(&scenario()));
        let mut total = Sent::new(&scenario());
        one.sent(0, 1, 3);
        one.acked(0, 1, 3);
        other.sent(1, 1, 2);
        [&one, &other].into_iter().for_each(|part| total.merge(part));
        assert_eq!((total.doubts(1, true, 1, 3), total.doubts(3, true, 1, 2)), (2, 2));
        [1, 2].into_iter().for_each(|number| one.acked(0, 1, number));
        other.acked(1, 1, 1);
        other.refused(1, 1, 2);
        [&one, &other].into_iter().for_each(|part| total.merge(part));
        assert_eq!((total.doubts(1, true, 1, 3), total.doubts(3, true, 1, 2)), (0, 1));
        assert_eq!((total.highest(0, 1), total.highest(1, 1), total.highest(0, 0)), (3, 2, 0));
    }
}
