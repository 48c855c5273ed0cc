//! The way back: finished jobs to the shards that wait for them, one piece per shard.
use crate::store::port::Done;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Puts finished jobs into one shard's mailbox and wakes it, or gives them back if the mailbox is full: they are offered
/// again until taken. For a shard that is gone it must take (and drop) them.
pub type Sink = Box<dyn Fn(Vec<Done>) -> Result<(), Vec<Done>> + Send + Sync>;

/// Pauses between two offers to a full mailbox: shards empty theirs once per turn, which takes from microseconds to a
/// few milliseconds.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Delivery {
    sinks: Arc<[Sink]>,
    /// By shard.
    finished: Vec<Vec<Done>>,
}

impl Delivery {
    pub fn new(sinks: Arc<[Sink]>) -> Delivery {
        let finished = sinks.iter().map(|_| Vec::new()).collect();
        Delivery { sinks, finished }
    }

    pub fn add(&mut self, done: Done) {
        match self.finished.get_mut(usize::from(done.waiter().shard)) {
            Some(finished) => finished.push(done),
            None => tracing::error!(shard = done.waiter().shard, "a store job names a shard that does not exist"),
        }
    }

    /// Returns when everything is delivered. A full mailbox delays the others by no more than the pauses.
    pub fn flush(&mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.offer() {
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn offer(&mut self) -> bool {
        let mut is_all_taken = true;
        for (sink, finished) in self.sinks.iter().zip(&mut self.finished) {
            if !finished.is_empty()
                && let Err(refused) = sink(mem::take(finished))
            {
                *finished = refused;
                is_all_taken = false;
            }
        }
        is_all_taken
    }
}
