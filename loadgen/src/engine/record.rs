//! What a worker measures: samples of each kind in the running second, added up at its end.
//!
//! Recording touches one histogram and no lock; a few times a minute the second's histograms go to the totals and to the
//! other workers' in [`Seconds`]. Histograms are made with their first sample: an idle worker has none.
use crate::result::{Latency, Percentiles, Timed};
use crate::server::witness::percentiles;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// As the server's, so that the two can be laid over each other: 1 µs to 60 s, three digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("constant bounds are valid")
}

type PerTimed = [Option<Histogram<u64>>; Timed::ALL.len()];

/// Samples of one worker.
pub struct Recorder {
    /// The running second's response times.
    now: PerTimed,
    /// Measured window (handshakes and joins: see `Recorder::open_for_links`).
    response: PerTimed,
    service: PerTimed,
    lag: Option<Histogram<u64>>,
    /// The kind that the plots over time show.
    main: Timed,
    is_measuring: bool,
    are_links_measured: bool,
    second: SecondPart,
}

/// A worker's part of one second.
#[derive(Clone, Debug, Default)]
pub struct SecondPart {
    pub sent: u64,
    pub delivered: u64,
    pub acked: u64,
    pub lag_max_ns: u64,
    /// Share of the second in which the worker was not waiting.
    pub busy: f64,
    pub latency: Option<Histogram<u64>>,
}

impl Recorder {
    pub fn new(main: Timed) -> Recorder {
        Recorder {
            now: Default::default(),
            response: Default::default(),
            service: Default::default(),
            lag: None,
            main,
            is_measuring: false,
            are_links_measured: true,
            second: SecondPart::default(),
        }
    }

    /// From the next sample on traffic is (not) part of the totals.
    pub fn measure(&mut self, is_measuring: bool) {
        self.roll_totals();
        self.is_measuring = is_measuring;
    }

    /// Handshakes and joins count from the start. A scenario that breaks connections on purpose is about those that come back:
    /// it drops what was recorded before and counts from now on.
    pub fn restart_links(&mut self) {
        self.roll_totals();
        self.are_links_measured = true;
        for timed in [Timed::Handshake, Timed::Join] {
            self.response[timed as usize] = None;
            self.service[timed as usize] = None;
        }
    }

    /// Handshakes and joins after this (a lost connection that comes back) are no longer in the totals.
    pub fn close_links(&mut self) {
        self.roll_totals();
        self.are_links_measured = false;
    }

    fn counts(&self, timed: Timed) -> bool {
        match timed {
            Timed::Handshake | Timed::Join => self.are_links_measured,
            _ => self.is_measuring,
        }
    }

    pub fn sample(&mut self, timed: Timed, response_ns: u64, service_ns: Option<u64>) {
        self.now[timed as usize].get_or_insert_with(latency_histogram).saturating_record(response_ns);
        if let Some(service_ns) = service_ns
            && self.counts(timed)
        {
            self.service[timed as usize].get_or_insert_with(latency_histogram).saturating_record(service_ns);
        }
    }

    pub fn delivered(&mut self) {
        self.second.delivered += 1;
    }

    pub fn acked(&mut self) {
        self.second.acked += 1;
    }

    /// A message left `lag_ns` behind its intended time.
    pub fn sent(&mut self, lag_ns: u64) {
        self.second.sent += 1;
        self.second.lag_max_ns = self.second.lag_max_ns.max(lag_ns);
        if self.is_measuring {
            self.lag.get_or_insert_with(latency_histogram).saturating_record(lag_ns);
        }
    }

    fn roll_totals(&mut self) {
        for timed in Timed::ALL {
            let counts = self.counts(timed);
            let Some(now) = &mut self.now[timed as usize] else { continue };
            if now.is_empty() {
                continue;
            }
            if counts {
                let total = self.response[timed as usize].get_or_insert_with(latency_histogram);
                total.add(&*now).expect("all have the same bounds");
            }
            if timed == self.main {
                let latency = self.second.latency.get_or_insert_with(latency_histogram);
                latency.add(&*now).expect("all have the same bounds");
            }
            now.reset();
        }
    }

    /// Ends the running second.
    pub fn roll(&mut self, busy: f64) -> SecondPart {
        self.roll_totals();
        SecondPart { busy, ..std::mem::take(&mut self.second) }
    }

    pub fn into_totals(mut self) -> Totals {
        self.roll_totals();
        Totals { response: self.response, service: self.service, lag: self.lag }
    }
}

/// All workers' samples of the measured window.
#[derive(Default)]
pub struct Totals {
    response: PerTimed,
    service: PerTimed,
    lag: Option<Histogram<u64>>,
}

impl Totals {
    pub fn merge(&mut self, other: Totals) {
        let pairs = self.response.iter_mut().zip(other.response);
        pairs.chain(self.service.iter_mut().zip(other.service)).for_each(|(own, other)| merge(own, other));
        merge(&mut self.lag, other.lag);
    }

    pub fn lag(&self) -> Percentiles {
        self.lag.as_ref().map(percentiles).unwrap_or_default()
    }

    pub fn latency(&self) -> BTreeMap<Timed, Latency> {
        let latency = |timed: Timed| {
            let response = self.response[timed as usize].as_ref().filter(|histogram| !histogram.is_empty())?;
            let service = self.service[timed as usize].as_ref().map(percentiles).unwrap_or_default();
            Some((
                timed,
                Latency {
                    count: response.len(),
                    response: percentiles(response),
                    service,
                    curve: curve(response),
                    histogram: to_base64(response),
                },
            ))
        };
        Timed::ALL.into_iter().filter_map(latency).collect()
    }
}

fn merge(own: &mut Option<Histogram<u64>>, other: Option<Histogram<u64>>) {
    match (own.as_mut(), other) {
        (Some(own), Some(other)) => own.add(other).expect("all have the same bounds"),
        (None, other) => *own = other,
        (Some(_), None) => {}
    }
}

/// Ten points for each halving of the distance to 100 %, as far as there are samples.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    const STEPS_PER_HALVING: u32 = 10;
    let points = histogram.iter_quantiles(STEPS_PER_HALVING);
    points.map(|point| (point.quantile_iterated_to() * 100.0, point.value_iterated_to())).collect()
}

fn to_base64(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("a vector takes everything");
    STANDARD.encode(bytes)
}

/// All workers' seconds, by index since the start.
#[derive(Default)]
pub struct Seconds {
    seconds: Mutex<BTreeMap<u64, SecondPart>>,
}

impl Seconds {
    pub fn add(&self, second: u64, part: SecondPart) {
        let mut seconds = self.seconds.lock().expect("no holder panics");
        let sum = seconds.entry(second).or_default();
        sum.sent += part.sent;
        sum.delivered += part.delivered;
        sum.acked += part.acked;
        sum.lag_max_ns = sum.lag_max_ns.max(part.lag_max_ns);
        sum.busy = sum.busy.max(part.busy);
        merge(&mut sum.latency, part.latency);
    }

    /// Takes out the seconds before `second`: all workers are past them.
    pub fn take_before(&self, second: u64) -> BTreeMap<u64, SecondPart> {
        let mut seconds = self.seconds.lock().expect("no holder panics");
        let later = seconds.split_off(&second);
        std::mem::replace(&mut seconds, later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_window_is_in_the_totals() {
        let mut recorder = Recorder::new(Timed::Live);
        recorder.sample(Timed::Live, 5_000_000, Some(5_000_000));
        recorder.measure(true);
        recorder.sample(Timed::Live, 1_000_000, Some(900_000));
        recorder.measure(false);
        recorder.sample(Timed::Live, 9_000_000, None);
        assert_eq!(recorder.roll(0.5).latency.expect("samples").len(), 3, "the second has all");
        let latency = recorder.into_totals().latency();
        let live = &latency[&Timed::Live];
        assert_eq!(live.count, 1);
        assert!(live.response.max.abs_diff(1_000_000) < 2_000 && live.service.max.abs_diff(900_000) < 2_000);
    }

    #[test]
    fn a_storm_measures_the_return_only() {
        let mut recorder = Recorder::new(Timed::Handshake);
        recorder.sample(Timed::Handshake, 1_000_000, None);
        recorder.restart_links();
        recorder.sample(Timed::Handshake, 2_000_000, None);
        recorder.sample(Timed::Handshake, 2_000_000, None);
        recorder.close_links();
        recorder.sample(Timed::Handshake, 2_000_000, None);
        assert_eq!(recorder.into_totals().latency()[&Timed::Handshake].count, 2);
    }

    #[test]
    fn seconds_of_workers_are_added() {
        let seconds = Seconds::default();
        let part = |lag_max_ns, busy| {
            let mut recorder = Recorder::new(Timed::Ack);
            recorder.sample(Timed::Ack, 1_000_000, None);
            recorder.acked();
            recorder.sent(lag_max_ns);
            recorder.roll(busy)
        };
        seconds.add(3, part(5, 0.1));
        seconds.add(3, part(7, 0.4));
        seconds.add(4, part(9, 0.2));
        let taken = seconds.take_before(4);
        assert_eq!(taken.len(), 1);
        let third = &taken[&3];
        assert_eq!((third.sent, third.acked, third.lag_max_ns, third.busy), (2, 2, 7, 0.4));
        assert_eq!(third.latency.as_ref().map(|histogram| histogram.len()), Some(2));
        assert_eq!(seconds.take_before(9).len(), 1);
    }
}
