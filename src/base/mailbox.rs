//! Bounded mailboxes between threads, and the one way to wake their owner.
//!
//! Every ordered pair of threads has its own queue, so a sender's messages arrive in the order sent and
//! no sender can crowd out another. The owner of the mailboxes sleeps in the kernel; a sender writes a
//! wake only when the owner says that it sleeps.
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes a sleeping thread: an eventfd in production, nothing at all in simulation.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

/// The owner's side of waking: shared by all its mailboxes.
pub struct Bell {
    asleep: AtomicBool,
    wake: Box<dyn Wake>,
}

impl Bell {
    pub fn new(wake: Box<dyn Wake>) -> Arc<Bell> {
        Arc::new(Bell { asleep: AtomicBool::new(false), wake })
    }

    /// Called by the owner before it sleeps. It must look into every mailbox once more *after* this:
    /// a message pushed before is seen then, one pushed later rings.
    pub fn going_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Called by the owner when it has woken or decided not to sleep.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Called by a sender after a push.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake.wake();
        }
    }
}

/// Sending end of one queue. `push` does not ring: senders ring once per flush, see `Sender::ring`.
pub struct Sender<T> {
    queue: Arc<ArrayQueue<T>>,
    bell: Arc<Bell>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Sender<T> {
    /// The message back if the queue is full: back-pressure is a return value.
    pub fn push(&self, message: T) -> Result<(), T> {
        self.queue.push(message)
    }

    /// Wakes the owner if it sleeps.
    pub fn ring(&self) {
        self.bell.ring();
    }
}

/// Receiving end of one queue.
pub struct Receiver<T> {
    queue: Arc<ArrayQueue<T>>,
}

impl<T> Receiver<T> {
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

pub fn mailbox<T>(capacity: usize, bell: &Arc<Bell>) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(ArrayQueue::new(capacity));
    (Sender { queue: queue.clone(), bell: bell.clone() }, Receiver { queue })
}
