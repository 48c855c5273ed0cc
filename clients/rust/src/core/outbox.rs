//! Durable commands that were not answered yet (R-SDK-4). Sent in order, one at a time per room: a message that is refused for
//! a while must not be overtaken by the next one. Repeated under the first id and with the first bytes, which the server
//! recognises (R-CHAT-3).
use super::{Now, StoredCommand};
use serde_json::Value;
use std::collections::{HashSet, VecDeque};

/// So old a command fails with `timeout`. The server remembers ids as long as this (`chat.dedupe_s`).
pub(super) const LIFE_MS: u64 = 300_000;

/// A command that was on the wire before is not repeated when older than this, only waited for: a repeat that arrived after the
/// server had forgotten the id would be a second message. The difference is the time for its way.
pub(super) const REPEAT_MS: u64 = 270_000;

/// Wait after a refusal that names no time.
pub(super) const RETRY_MS: u64 = 2000;

pub(super) struct Entry {
    pub command: StoredCommand,
    born: Born,
    /// Commands of one lane keep their order: the room's id.
    lane: String,
    is_on_wire: bool,
    was_on_wire: bool,
    /// Of an earlier process, whose rooms this one may not have joined yet.
    is_restored: bool,
    /// Not before this on the monotonic clock.
    retry_at_ms: u64,
}

/// When something began, by both clocks.
#[derive(Clone, Copy)]
pub(super) struct Born {
    unix_ms: i64,
    mono_ms: i64,
}

impl Born {
    pub fn at(now: Now) -> Born {
        Born { unix_ms: clock(now.unix_ms), mono_ms: clock(now.mono_ms) }
    }

    /// What another process gave: its monotonic clock is not known here. If it is of the future, a clock was set back, and
    /// nobody knows its age: then its time is over.
    fn read(since_ms: u64, now: Now) -> Born {
        let age_ms = clock(now.unix_ms).saturating_sub(clock(since_ms));
        let age_ms = if age_ms < 0 { clock(LIFE_MS) } else { age_ms };
        Born { unix_ms: clock(since_ms), mono_ms: clock(now.mono_ms).saturating_sub(age_ms) }
    }

    /// The larger one: the monotonic clock stands still while the machine sleeps, the other may be set back. Too old is safe,
    /// too young is a doubled message.
    pub fn age_ms(self, now: Now) -> u64 {
        let unix_ms = clock(now.unix_ms).saturating_sub(self.unix_ms);
        let mono_ms = clock(now.mono_ms).saturating_sub(self.mono_ms);
        unix_ms.max(mono_ms).max(0) as u64
    }
}

fn clock(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// What may go now.
#[derive(Default)]
pub(super) struct Due {
    /// Marked as being on the wire.
    pub send: Vec<StoredCommand>,
    /// When to look again, if something waits for its time; on the monotonic clock.
    pub look_at_ms: Option<u64>,
}

pub(super) struct Outbox {
    entries: VecDeque<Entry>,
    max: usize,
}

impl Outbox {
    pub fn new(max: usize) -> Outbox {
        Outbox { entries: VecDeque::new(), max }
    }

    /// What an earlier process left may be more than `max`: it is not lost for that.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.max
    }

    pub fn oldest_ms(&self, now: Now) -> Option<u64> {
        self.entries.front().map(|entry| entry.born.age_ms(now))
    }

    pub fn has(&self, id: &str) -> bool {
        self.entries.iter().any(|entry| entry.command.id == id)
    }

    pub fn commands(&self) -> impl Iterator<Item = &StoredCommand> {
        self.entries.iter().map(|entry| &entry.command)
    }

    pub fn add(&mut self, command: StoredCommand, now: Now) {
        self.entries.push_back(entry(command, Born::at(now), false));
    }

    /// What earlier processes left, oldest first; behind it what this one has already.
    pub fn restore(&mut self, mut found: Vec<StoredCommand>, now: Now) {
        found.retain(|command| !self.has(&command.id));
        found.sort_by_key(|command| (command.since_ms, command.order));
        for command in found.into_iter().rev() {
            let born = Born::read(command.since_ms, now);
            // Whether it was on the wire is not known.
            self.entries.push_front(entry(command, born, true));
        }
    }

    /// Answered or given up.
    pub fn remove(&mut self, id: &str) -> Option<StoredCommand> {
        let place = self.entries.iter().position(|entry| entry.command.id == id)?;
        self.entries.remove(place).map(|entry| entry.command)
    }

    /// Ids of those whose time is over.
    pub fn expired(&self, now: Now) -> Vec<String> {
        let old = self.entries.iter().filter(|entry| entry.born.age_ms(now) >= LIFE_MS);
        old.map(|entry| entry.command.id.clone()).collect()
    }

    /// `is_lane_open`: of a room's id, and whether the command was restored.
    pub fn due(&mut self, now: Now, is_lane_open: impl Fn(&str, bool) -> bool) -> Due {
        let mut due = Due::default();
        let mut lanes: HashSet<&str> = HashSet::new();
        for entry in &mut self.entries {
            // First of its lane: the others wait for it.
            if !lanes.insert(&entry.lane) || entry.is_on_wire || !is_lane_open(&entry.lane, entry.is_restored) {
                continue;
            }
            if entry.retry_at_ms > now.mono_ms {
                due.look_at_ms = Some(due.look_at_ms.map_or(entry.retry_at_ms, |at| at.min(entry.retry_at_ms)));
            } else if !entry.was_on_wire || entry.born.age_ms(now) < REPEAT_MS {
                (entry.is_on_wire, entry.was_on_wire) = (true, true);
                due.send.push(entry.command.clone());
            }
        }
        due
    }

    /// Refused, but may succeed later.
    pub fn retry_later(&mut self, id: &str, at_ms: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.command.id == id) {
            (entry.is_on_wire, entry.retry_at_ms) = (false, at_ms);
        }
    }

    /// The connection is lost: whatever was on the wire goes again.
    pub fn link_lost(&mut self) {
        for entry in &mut self.entries {
            entry.is_on_wire = false;
        }
    }
}

fn entry(command: StoredCommand, born: Born, is_restored: bool) -> Entry {
    let data: Value = serde_json::from_str(&command.data).unwrap_or_default();
    let lane = data.get("roomId").and_then(Value::as_str).unwrap_or_default().to_owned();
    Entry { command, born, lane, is_on_wire: false, was_on_wire: is_restored, is_restored, retry_at_ms: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Add { room: u8 },
        Flush,
        Answer { which: usize },
        Refuse { which: usize, wait_ms: u64 },
        Lose,
        Pass { ms: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u8..3).prop_map(|room| Step::Add { room }),
            Just(Step::Flush),
            (0usize..8).prop_map(|which| Step::Answer { which }),
            (0usize..8, 0u64..5000).prop_map(|(which, wait_ms)| Step::Refuse { which, wait_ms }),
            Just(Step::Lose),
            (0u64..20_000).prop_map(|ms| Step::Pass { ms }),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// Whatever happens: within a room, answers come in the order of the commands; one at a time is under way; and what was
        /// sent once is not repeated late.
        #[test]
        fn order_holds_within_a_room(steps in steps()) {
            let mut outbox = Outbox::new(1000);
            let mut now = Now { mono_ms: 0, unix_ms: 1_000_000 };
            // Of each room: the commands not answered yet. In all: those on the wire.
            let mut waiting: [VecDeque<String>; 3] = Default::default();
            let mut on_wire: Vec<(usize, String)> = Vec::new();
            let mut born = std::collections::HashMap::new();
            let mut sent: HashSet<String> = HashSet::new();
            for (count, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Add { room } => {
                        let (id, data) = (format!("c{count}"), format!(r#"{{"roomId":"{room}"}}"#));
                        waiting[room as usize].push_back(id.clone());
                        born.insert(id.clone(), now.mono_ms);
                        let (kind, since_ms) = ("chat_message".to_owned(), now.unix_ms);
                        outbox.add(StoredCommand { id, kind, data, since_ms, order: count as u64 }, now);
                    }
                    Step::Flush => {
                        for command in outbox.due(now, |_, _| true).send {
                            let room = waiting.iter().position(|list| list.contains(&command.id)).unwrap();
                            prop_assert_eq!(waiting[room].front(), Some(&command.id), "overtaken");
                            prop_assert!(on_wire.iter().all(|(other, _)| *other != room), "two at a time");
                            let age = now.mono_ms - born[&command.id];
                            prop_assert!(sent.insert(command.id.clone()) || age < REPEAT_MS, "repeated late");
                            on_wire.push((room, command.id));
                        }
                    }
                    Step::Answer { which } if !on_wire.is_empty() => {
                        let (room, id) = on_wire.remove(which % on_wire.len());
                        prop_assert!(outbox.remove(&id).is_some());
                        waiting[room].pop_front();
                    }
                    Step::Refuse { which, wait_ms } if !on_wire.is_empty() => {
                        let (_, id) = on_wire.remove(which % on_wire.len());
                        outbox.retry_later(&id, now.mono_ms + wait_ms);
                    }
                    Step::Lose => {
                        outbox.link_lost();
                        on_wire.clear();
                    }
                    Step::Pass { ms } => now = Now { mono_ms: now.mono_ms + ms, unix_ms: now.unix_ms + ms },
                    _ => {}
                }
                let left: usize = waiting.iter().map(VecDeque::len).sum();
                prop_assert_eq!(outbox.commands().count(), left);
            }
        }
    }
}
