//! A room's newest durable events in memory, so that joins and most recoveries need no disk.
//!
//! Two queues, one behind the other: `rows` holds *all* events from `first()` to the newest, without a gap; `older` holds only
//! messages from before, as many as a snapshot still needs. A flood of member events cannot push the messages out of snapshots.
use crate::limits::WINDOW_BYTES_MAX;
use crate::store::port::{EventKind, EventRow, HistoryFrom};
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Window {
    /// Messages older than `rows`, oldest first; `older.len() + messages <= bounds.messages` unless empty.
    older: VecDeque<EventRow>,
    /// Offsets `first()..next`, each once, ascending.
    rows: VecDeque<EventRow>,
    /// Messages among `rows`.
    messages: usize,
    /// Weight of `rows`.
    bytes: usize,
    /// Offset that the next event will take.
    next: u64,
    /// No message older than those here exists.
    is_complete: bool,
    /// A read of what comes before `rows` is on its way: nothing may be trimmed until it is there.
    is_filling: bool,
    bounds: Bounds,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Messages at least (`rooms.recent`).
    pub messages: usize,
    /// Events at most (`recovery.limit`), save those messages.
    pub events: usize,
}

impl Window {
    /// `recent`: the newest events, oldest first, the last one at `last_offset`; what does not join on is left out.
    pub fn new(recent: Vec<EventRow>, last_offset: u64, bounds: Bounds) -> Window {
        let mut window = Window {
            older: VecDeque::new(),
            rows: VecDeque::new(),
            messages: 0,
            bytes: 0,
            next: last_offset + 1,
            is_complete: false,
            is_filling: false,
            bounds,
        };
        window.prepend(recent);
        window.is_complete = window.first() == 1;
        window
    }

    /// Whether a snapshot would lack messages that may exist on disk.
    pub fn lacks_messages(&self) -> bool {
        !self.is_complete && self.older.len() + self.messages < self.bounds.messages
    }

    /// Messages of the newest page of the history, oldest first; `has_more`: there are still older ones.
    pub fn add_messages(&mut self, page: Vec<EventRow>, has_more: bool) {
        let first = self.first();
        self.older = page.into_iter().filter(|row| row.offset < first).collect();
        self.is_complete |= !has_more;
        self.trim();
    }

    /// Offset of the first event from which on all are here; `next` if there is none.
    pub fn first(&self) -> u64 {
        self.rows.front().map_or(self.next, |row| row.offset)
    }

    /// Whether all events after this offset are here.
    pub fn covers_after(&self, offset: u64) -> bool {
        self.first() <= offset.saturating_add(1)
    }

    /// The newest event. Its offset must be the next one; if a back end should skip one, what came before is let go, so that no
    /// recovery can have a gap.
    pub fn push(&mut self, row: EventRow) {
        if row.offset != self.next {
            (self.messages, self.bytes, self.is_complete) = (0, 0, false);
            self.rows.clear();
        }
        self.next = row.offset + 1;
        self.add(&row);
        self.rows.push_back(row);
        self.trim();
    }

    /// All events after `offset`, oldest first; only if `covers_after(offset)`.
    pub fn after(&self, offset: u64) -> impl Iterator<Item = &EventRow> {
        let skip = offset.saturating_add(1).saturating_sub(self.first());
        self.rows.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// The newest messages, oldest first, at most `bounds.messages`.
    pub fn recent(&self) -> Vec<&EventRow> {
        let mut recent: Vec<_> = self.messages().rev().take(self.bounds.messages).collect();
        recent.reverse();
        recent
    }

    /// One page of the history with "there is more", oldest first; None if the disk must be asked.
    pub fn page(&self, from: HistoryFrom, limit: usize) -> Option<(Vec<EventRow>, bool)> {
        let before = match from {
            HistoryFrom::After(offset) => return self.page_after(offset, limit),
            HistoryFrom::Before(offset) => offset,
            HistoryFrom::End => u64::MAX,
        };
        let mut page: Vec<_> =
            self.messages().rev().filter(|row| row.offset < before).take(limit.saturating_add(1)).collect();
        let has_more = page.len() > limit;
        if !has_more && !self.is_complete {
            return None;
        }
        page.truncate(limit);
        Some((page.into_iter().rev().cloned().collect(), has_more))
    }

    fn page_after(&self, offset: u64, limit: usize) -> Option<(Vec<EventRow>, bool)> {
        let has_all = self.is_complete
            || self.covers_after(offset)
            || self.older.front().is_some_and(|oldest| oldest.offset <= offset.saturating_add(1));
        if !has_all {
            return None;
        }
        let mut page: Vec<EventRow> = Vec::new();
        for row in self.messages().filter(|row| row.offset > offset) {
            if page.len() == limit {
                return Some((page, true));
            }
            page.push(row.clone());
        }
        Some((page, false))
    }

    /// Drops what is older than the retention time.
    pub fn expire(&mut self, before_ms: u64) {
        while self.older.pop_front_if(|row| row.at_ms < before_ms).is_some() {}
        while let Some(row) = self.rows.pop_front_if(|row| row.at_ms < before_ms) {
            self.subtract(&row);
        }
    }

    /// From here until `fill`, nothing is trimmed. False if a fill is on its way already.
    pub fn start_filling(&mut self) -> bool {
        !std::mem::replace(&mut self.is_filling, true)
    }

    pub fn is_filling(&self) -> bool {
        self.is_filling
    }

    /// Events from before `first()`, oldest first; later ones are here already and left out. The bounds hold again after `end_filling`.
    pub fn fill(&mut self, rows: Vec<EventRow>) {
        self.prepend(rows);
        let first = self.first();
        self.older.retain(|row| row.offset < first);
        self.is_complete |= first == 1;
    }

    pub fn end_filling(&mut self) {
        self.is_filling = false;
        self.trim();
    }

    /// Takes over the rows that join on to `first()` without a gap.
    fn prepend(&mut self, rows: Vec<EventRow>) {
        let first = self.first();
        for row in rows.into_iter().rev().skip_while(|row| row.offset >= first) {
            if row.offset == 0 || row.offset + 1 != self.first() {
                break;
            }
            self.add(&row);
            self.rows.push_front(row);
        }
    }

    /// All messages here, oldest first.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &EventRow> {
        self.older.iter().chain(self.rows.iter().filter(|row| row.kind == EventKind::Message))
    }

    fn trim(&mut self) {
        if self.is_filling {
            return;
        }
        while self.rows.len() > self.bounds.events || self.bytes > WINDOW_BYTES_MAX {
            let Some(row) = self.rows.pop_front() else { break };
            self.subtract(&row);
            if row.kind == EventKind::Message {
                self.older.push_back(row);
            }
        }
        while self.older.len() + self.messages > self.bounds.messages && self.older.pop_front().is_some() {
            self.is_complete = false;
        }
    }

    fn add(&mut self, row: &EventRow) {
        self.bytes += weight(row);
        self.messages += usize::from(row.kind == EventKind::Message);
    }

    fn subtract(&mut self, row: &EventRow) {
        self.bytes -= weight(row);
        self.messages -= usize::from(row.kind == EventKind::Message);
    }
}

/// Bytes that a row takes, about.
fn weight(row: &EventRow) -> usize {
    let optional = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
    size_of::<EventRow>()
        + row.user_id.len()
        + row.body.len()
        + optional(&row.user_email)
        + optional(&row.client_id)
        + optional(&row.detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ulid;

    fn row(offset: u64, kind: EventKind) -> EventRow {
        EventRow {
            offset,
            kind,
            id: Ulid(u128::from(offset)),
            user_id: "anna".into(),
            user_email: None,
            client_id: None,
            body: "x".into(),
            detail: None,
            at_ms: offset * 1_000,
        }
    }

    fn message(offset: u64) -> EventRow {
        row(offset, EventKind::Message)
    }

    fn offsets(rows: &[EventRow]) -> Vec<u64> {
        rows.iter().map(|row| row.offset).collect()
    }

    fn recent(window: &Window) -> Vec<u64> {
        window.recent().iter().map(|row| row.offset).collect()
    }

    const BOUNDS: Bounds = Bounds { messages: 3, events: 5 };

    #[test]
    fn keeps_as_many_events_as_a_recovery_may_bring() {
        let mut window = Window::new(vec![], 0, BOUNDS);
        (1..=5).for_each(|offset| window.push(message(offset)));
        assert!(window.covers_after(0));
        window.push(message(6));
        assert!(window.covers_after(1) && !window.covers_after(0));
        assert_eq!(window.after(4).map(|row| row.offset).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(window.after(6).count(), 0);
    }

    #[test]
    fn member_events_do_not_push_messages_out() {
        let mut window = Window::new(vec![], 0, BOUNDS);
        (1..=4).for_each(|offset| window.push(message(offset)));
        (5..=100).for_each(|offset| window.push(row(offset, EventKind::MemberAdded)));
        assert_eq!(recent(&window), [2, 3, 4]);
        assert_eq!(window.first(), 96);
        window.push(message(101));
        assert_eq!(recent(&window), [3, 4, 101]);
    }

    #[test]
    fn the_bytes_are_bounded_but_a_snapshot_keeps_its_messages() {
        let mut window = Window::new(vec![], 0, BOUNDS);
        for offset in 1..=4 {
            window.push(EventRow { body: "x".repeat(WINDOW_BYTES_MAX / 2).into(), ..message(offset) });
        }
        assert!(window.bytes <= WINDOW_BYTES_MAX);
        assert_eq!(recent(&window), [2, 3, 4]);
    }

    #[test]
    fn rows_that_do_not_join_on_are_left_out() {
        let window = Window::new(vec![message(3), message(5), message(6)], 6, BOUNDS);
        assert_eq!(window.first(), 5);
        assert!(window.lacks_messages());
        assert_eq!(Window::new(vec![message(3)], 6, BOUNDS).first(), 7);
        let mut window = Window::new(vec![message(1)], 1, BOUNDS);
        window.push(message(3));
        assert!(window.covers_after(2) && !window.covers_after(1));
    }

    #[test]
    fn a_fill_joins_on_even_if_events_come_meanwhile() {
        let mut window = Window::new(vec![message(10)], 10, BOUNDS);
        assert!(window.start_filling() && !window.start_filling());
        (11..=20).for_each(|offset| window.push(message(offset)));
        window.fill((6..=9).map(message).collect());
        assert!(window.covers_after(5));
        window.end_filling();
        assert_eq!(window.first(), 16);
    }

    #[test]
    fn pages_equal_those_of_a_plain_list() {
        let list: Vec<EventRow> = (1..=30)
            .map(|offset| row(offset, if offset % 3 == 0 { EventKind::RoomUpdated } else { EventKind::Message }))
            .collect();
        let mut window = Window::new(vec![], 0, Bounds { messages: 4, events: 7 });
        let mut answered = 0;
        for (count, next) in list.iter().enumerate() {
            window.push(next.clone());
            let stored: Vec<u64> =
                list[..=count].iter().filter(|row| row.kind == EventKind::Message).map(|row| row.offset).collect();
            for limit in 1..6 {
                for at in 0..32 {
                    for from in [HistoryFrom::End, HistoryFrom::Before(at), HistoryFrom::After(at)] {
                        let Some((page, has_more)) = window.page(from, limit) else { continue };
                        answered += 1;
                        let fitting: Vec<u64> = stored
                            .iter()
                            .copied()
                            .filter(|&offset| match from {
                                HistoryFrom::End => true,
                                HistoryFrom::Before(before) => offset < before,
                                HistoryFrom::After(after) => offset > after,
                            })
                            .collect();
                        let expected = match from {
                            HistoryFrom::After(_) => &fitting[..fitting.len().min(limit)],
                            _ => &fitting[fitting.len().saturating_sub(limit)..],
                        };
                        assert_eq!(offsets(&page), expected, "{from:?} {limit}");
                        assert_eq!(has_more, fitting.len() > limit, "{from:?} {limit}");
                    }
                }
            }
        }
        assert!(answered > 1_000);
    }

    #[test]
    fn expired_rows_are_not_shown() {
        let mut window = Window::new((1..=4).map(message).collect(), 4, BOUNDS);
        window.expire(3_000);
        assert_eq!(recent(&window), [3, 4]);
        assert!(!window.covers_after(1) && window.covers_after(2));
        window.expire(u64::MAX);
        assert_eq!((window.first(), window.bytes, window.messages), (5, 0, 0));
    }
}
