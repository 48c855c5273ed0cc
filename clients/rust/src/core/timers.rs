//! Deadlines, one of each name: starting a timer again moves it.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Waiting before the next connection.
    Retry,
    /// A connection that is being made must get on: socket, sign-in, recovery.
    Progress,
    /// Connected long enough: the back-off begins anew.
    Steady,
    Heartbeat,
    /// No frame since the heartbeat: the link is dead.
    Answer,
    /// Asking the provider once more for a token.
    Refresh,
    /// The oldest command's time is over.
    Expiry,
    /// A message that was refused for a while goes again.
    Resend,
    /// A join that was refused for a while goes again.
    Rejoin,
    /// The connection to the new server of a migration must get on.
    Migration,
}

impl Timer {
    const ALL: [Timer; 10] = {
        use Timer::*;
        [Retry, Progress, Steady, Heartbeat, Answer, Refresh, Expiry, Resend, Rejoin, Migration]
    };
}

#[derive(Default)]
pub(super) struct Timers {
    /// Milliseconds of the monotonic clock, by the timer's number.
    deadlines: [Option<u64>; Timer::ALL.len()],
}

impl Timers {
    pub fn start(&mut self, timer: Timer, at_ms: u64) {
        self.deadlines[timer as usize] = Some(at_ms);
    }

    pub fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub fn next(&self) -> Option<u64> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// The one whose time came first, which is stopped by that.
    pub fn take_due(&mut self, now_ms: u64) -> Option<Timer> {
        let due = Timer::ALL.into_iter().filter_map(|timer| Some((self.deadlines[timer as usize]?, timer)));
        let (at, timer) = due.min_by_key(|(at, _)| *at)?;
        if at > now_ms {
            return None;
        }
        self.stop(timer);
        Some(timer)
    }

    #[cfg(test)]
    pub fn running(&self) -> Vec<u64> {
        let mut deadlines: Vec<u64> = self.deadlines.iter().flatten().copied().collect();
        deadlines.sort();
        deadlines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places() {
        for (place, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, place);
        }
    }

    #[test]
    fn the_earliest_fires_first_and_once() {
        let mut timers = Timers::default();
        assert_eq!((timers.next(), timers.take_due(u64::MAX)), (None, None));
        timers.start(Timer::Retry, 30);
        timers.start(Timer::Expiry, 10);
        timers.start(Timer::Answer, 20);
        timers.start(Timer::Answer, 40);
        timers.stop(Timer::Retry);
        assert_eq!((timers.next(), timers.take_due(9)), (Some(10), None));
        assert_eq!(
            [timers.take_due(50), timers.take_due(50), timers.take_due(50)],
            [Some(Timer::Expiry), Some(Timer::Answer), None]
        );
    }
}
