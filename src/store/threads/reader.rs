//! A reader thread.
use super::{Delivery, take_waiting};
use crate::store::port::{Done, Outcome, ReadJob, Reader};
use crossbeam_channel::{Receiver, select};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Reads whose results are handed over together. Bounds the results in memory: 300 events of some kilobytes each.
const READS_PER_DELIVERY: usize = 16;

pub(super) fn run(
    mut reader: Box<dyn Reader>,
    jobs: Receiver<Box<ReadJob>>,
    ended: Receiver<Infallible>,
    mut delivery: Delivery,
) {
    let mut taken = Vec::with_capacity(READS_PER_DELIVERY);
    let mut is_running = true;
    loop {
        if is_running {
            select! {
                recv(jobs) -> job => match job {
                    Ok(job) => taken.push(job),
                    Err(_) => is_running = false,
                },
                recv(ended) -> _ => is_running = false,
            }
        }
        take_waiting(&jobs, &mut taken, READS_PER_DELIVERY);
        if taken.is_empty() && !is_running {
            return;
        }
        for job in taken.drain(..) {
            let outcome = catch_unwind(AssertUnwindSafe(|| reader.read(&job.read))).unwrap_or_else(|_| {
                tracing::error!("the store's back end panicked while reading");
                Outcome::Failed
            });
            delivery.add(Done::Read { job, outcome });
        }
        delivery.flush();
    }
}
