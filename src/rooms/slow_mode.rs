//! Slow mode (R-MOD-2): one message per user in so many seconds. Moderators and owners are exempt.
use super::window::Window;
use crate::base::clock::Now;
use crate::limits::SLOW_MODE_USERS_MAX;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

/// When users wrote last. Kept only while slow mode is on; after a reload of the room it is what the window tells.
#[derive(Debug)]
pub(super) struct SlowMode {
    interval_ms: u64,
    /// User id → monotonic ms.
    last_ms: HashMap<Box<str>, u64, BuildHasherDefault<DefaultHasher>>,
    /// Entries out of date are looked for when there are so many, and not before that time.
    forget_at_len: usize,
    forget_at_ms: u64,
}

impl SlowMode {
    /// None: slow mode is off. `old`: as it was before a change of the interval.
    pub fn new(slow_mode_s: u32, old: Option<Box<SlowMode>>, window: &Window, now: Now) -> Option<Box<SlowMode>> {
        if slow_mode_s == 0 {
            return None;
        }
        let interval_ms = u64::from(slow_mode_s) * 1_000;
        if let Some(old) = old {
            return Some(Box::new(SlowMode { interval_ms, ..*old }));
        }
        let mut slow_mode = SlowMode { interval_ms, last_ms: HashMap::default(), forget_at_len: 16, forget_at_ms: 0 };
        for row in window.messages() {
            let age_ms = now.unix_ms.saturating_sub(row.at_ms);
            if let Some(at_ms) = now.mono_ms().checked_sub(age_ms) {
                slow_mode.last_ms.insert(row.user_id.clone(), at_ms);
            }
        }
        slow_mode.forget_old(now.mono_ms());
        Some(Box::new(slow_mode))
    }

    /// How long this user still has to wait.
    pub fn wait_ms(&self, user_id: &str, now_ms: u64) -> Option<u64> {
        let end_ms = self.last_ms.get(user_id)? + self.interval_ms;
        end_ms.checked_sub(now_ms).filter(|&wait_ms| wait_ms > 0)
    }

    pub fn mark(&mut self, user_id: &str, now_ms: u64) {
        if self.last_ms.len() >= self.forget_at_len && now_ms >= self.forget_at_ms {
            self.forget_old(now_ms);
        }
        if self.last_ms.len() < SLOW_MODE_USERS_MAX {
            self.last_ms.insert(user_id.into(), now_ms);
        }
    }

    /// The message did not come about. Only users who need not wait are marked, so there is no earlier mark to restore.
    pub fn unmark(&mut self, user_id: &str) {
        self.last_ms.remove(user_id);
    }

    fn forget_old(&mut self, now_ms: u64) {
        self.last_ms.retain(|_, at_ms| *at_ms + self.interval_ms > now_ms);
        self.forget_at_len = (self.last_ms.len() * 2).clamp(16, SLOW_MODE_USERS_MAX);
        self.forget_at_ms = now_ms + self.interval_ms / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::window::Bounds;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ns: mono_ms * 1_000_000, unix_ms: 1_000_000 + mono_ms }
    }

    fn empty() -> Window {
        Window::new(vec![], 0, Bounds { messages: 5, events: 5 })
    }

    #[test]
    fn waits_run_out() {
        let mut slow_mode = SlowMode::new(10, None, &empty(), at(50)).unwrap();
        slow_mode.mark("anna", 1_000);
        assert_eq!(slow_mode.wait_ms("anna", 1_001), Some(9_999));
        assert_eq!((slow_mode.wait_ms("anna", 11_000), slow_mode.wait_ms("berta", 1_001)), (None, None));
        slow_mode.unmark("anna");
        assert_eq!(slow_mode.wait_ms("anna", 1_001), None);
    }

    #[test]
    fn a_new_interval_keeps_the_marks_and_zero_ends_it() {
        let mut slow_mode = SlowMode::new(10, None, &empty(), at(0)).unwrap();
        slow_mode.mark("anna", 1_000);
        let slow_mode = SlowMode::new(60, Some(slow_mode), &empty(), at(2_000)).unwrap();
        assert_eq!(slow_mode.wait_ms("anna", 2_000), Some(59_000));
        assert!(SlowMode::new(0, Some(slow_mode), &empty(), at(2_000)).is_none());
    }

    #[test]
    fn who_need_not_wait_is_forgotten() {
        let mut slow_mode = SlowMode::new(1, None, &empty(), at(0)).unwrap();
        for n in 0..10_000u64 {
            slow_mode.mark(&n.to_string(), n * 100);
        }
        assert!(slow_mode.last_ms.len() <= 64);
    }
}
