//! At most one run of a piece of blocking work at a time, however many ask for its result.
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Runs work on a blocking thread. The run goes on when whoever asked has gone away, and keeps others out until it has
/// ended, so neither impatient clients nor a stuck back end can pile up threads.
pub struct Flight<T> {
    last: Arc<Mutex<Option<(Instant, T)>>>,
}

impl<T: Clone + Send + 'static> Flight<T> {
    pub fn new() -> Flight<T> {
        Flight { last: Arc::new(Mutex::new(None)) }
    }

    /// The result of a run that started at most `max_age` before this call, or later; `work` (given the last result)
    /// is run if there is none. None if that takes longer than about `limit`, or if the work panicked.
    pub async fn get(
        &self,
        max_age: Duration,
        limit: Duration,
        work: impl FnOnce(Option<T>) -> T + Send + 'static,
    ) -> Option<T> {
        let asked = Instant::now();
        let mut last = tokio::time::timeout(limit, self.last.clone().lock_owned()).await.ok()?;
        if let Some((started, result)) = &*last
            && *started + max_age >= asked
        {
            return Some(result.clone());
        }
        let run = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let result = work(last.as_ref().map(|(_, result)| result.clone()));
            *last = Some((started, result.clone()));
            result
        });
        tokio::time::timeout(limit, run).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const LONG: Duration = Duration::from_secs(60);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn those_who_wait_share_a_run() {
        let (asked, runs) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        runtime().block_on(async {
            let flight = Arc::new(Flight::new());
            let (open, gate) = crossbeam_channel::bounded::<()>(0);
            let asks: Vec<_> = (0..50)
                .map(|_| {
                    let (flight, asked, runs, gate) = (flight.clone(), asked.clone(), runs.clone(), gate.clone());
                    tokio::spawn(async move {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let work = move |_: Option<u32>| {
                            let _ = gate.recv();
                            runs.fetch_add(1, Ordering::Relaxed) + 1
                        };
                        flight.get(Duration::ZERO, LONG, work).await
                    })
                })
                .collect();
            while asked.load(Ordering::Relaxed) < 50 {
                tokio::task::yield_now().await;
            }
            drop(open);
            for ask in asks {
                assert!(matches!(ask.await.unwrap(), Some(1 | 2)));
            }
        });
        // The first run, and one more for those who asked after it had started.
        assert!((1..=2).contains(&runs.load(Ordering::Relaxed)));
    }

    #[test]
    fn a_stuck_run_is_not_joined_by_others() {
        let runs = Arc::new(AtomicU32::new(0));
        let (open, gate) = crossbeam_channel::bounded::<()>(0);
        let runtime = runtime();
        runtime.block_on(async {
            let flight = Flight::new();
            for _ in 0..3 {
                let (runs, gate) = (runs.clone(), gate.clone());
                let work = move |_| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    let _ = gate.recv();
                };
                assert_eq!(flight.get(LONG, Duration::from_millis(10), work).await, None);
            }
        });
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        drop(open);
    }

    #[test]
    fn young_results_are_believed_and_panics_are_contained() {
        runtime().block_on(async {
            let flight = Flight::new();
            assert_eq!(flight.get(LONG, LONG, |_| panic!("a back end fell over")).await, None);
            assert_eq!(flight.get(LONG, LONG, |last| last.unwrap_or(0) + 1).await, Some(1));
            assert_eq!(flight.get(LONG, LONG, |last| last.unwrap_or(0) + 1).await, Some(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(flight.get(Duration::ZERO, LONG, |last| last.unwrap_or(0) + 1).await, Some(2));
        });
    }
}
