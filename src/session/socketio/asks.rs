//! Events that the server sent with an ack id: who has not answered yet, and until when.
use super::Namespace;
use crate::limits::SOCKETIO_ASKS_MAX;

/// The questions of one session. Ids start at 0 and are unique in it, hence also per namespace.
#[derive(Debug, Default)]
pub struct Asks {
    next_id: u64,
    waiting: Vec<Ask>,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    id: u64,
    namespace: Namespace,
    /// Monotonic ms.
    deadline_ms: u64,
}

impl Asks {
    /// A fresh ack id to send an event with. `None`: `limits::SOCKETIO_ASKS_MAX` wait already.
    pub fn add(&mut self, namespace: Namespace, deadline_ms: u64) -> Option<u64> {
        if self.waiting.len() >= SOCKETIO_ASKS_MAX {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push(Ask { id, namespace, deadline_ms });
        Some(id)
    }

    /// Whether this answer is waited for. It is no longer: an id is answered at most once.
    pub fn take(&mut self, namespace: Namespace, id: u64) -> bool {
        let found = self.waiting.iter().position(|ask| (ask.namespace, ask.id) == (namespace, id));
        found.map(|index| self.waiting.swap_remove(index)).is_some()
    }

    /// Lets one go whose time is over, in the order of the ids.
    pub fn expired(&mut self, now_ms: u64) -> Option<(Namespace, u64)> {
        let late = self.waiting.iter().enumerate().filter(|(_, ask)| ask.deadline_ms <= now_ms);
        let (index, _) = late.min_by_key(|(_, ask)| ask.id)?;
        let ask = self.waiting.swap_remove(index);
        Some((ask.namespace, ask.id))
    }

    /// Forgets what a namespace was asked.
    pub fn forget(&mut self, namespace: Namespace) {
        self.waiting.retain(|ask| ask.namespace != namespace);
    }

    /// The next time that something expires.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.waiting.iter().map(|ask| ask.deadline_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_and_in_its_namespace() {
        let mut asks = Asks::default();
        assert_eq!([asks.add(0, 10), asks.add(1, 20)], [Some(0), Some(1)]);
        assert!(!asks.take(1, 0) && !asks.take(0, 7));
        assert!(asks.take(0, 0) && !asks.take(0, 0));
        assert_eq!(asks.deadline_ms(), Some(20));
    }

    #[test]
    fn who_is_late_is_let_go() {
        let mut asks = Asks::default();
        for deadline in [30, 10, 20, 40] {
            asks.add(0, deadline);
        }
        assert_eq!(asks.expired(9), None);
        assert_eq!([asks.expired(20), asks.expired(20), asks.expired(20)], [Some((0, 1)), Some((0, 2)), None]);
        assert!(!asks.take(0, 1), "too late");
        asks.forget(0);
        assert_eq!((asks.deadline_ms(), asks.expired(100)), (None, None));
    }

    /// The passing count and the one beyond.
    #[test]
    fn they_are_bounded() {
        let mut asks = Asks::default();
        assert!((0..SOCKETIO_ASKS_MAX).all(|_| asks.add(0, 1).is_some()));
        assert_eq!(asks.add(0, 1), None);
        assert!(asks.take(0, 3));
        assert_eq!(asks.add(0, 1), Some(SOCKETIO_ASKS_MAX as u64));
    }
}
