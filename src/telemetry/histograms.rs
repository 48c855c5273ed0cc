//! Latency as HDR histograms: nanoseconds, three significant digits, from 1 µs to 60 s.
//!
//! A histogram is 18432 counts of 8 bytes (147 KB), allocated once; `Histogram::saturating_record` neither fails nor
//! allocates: a value beyond the range counts at its end. Steps are 512 ns at the low end, 0.1 % further up.
//! They leave the process in two forms: as Prometheus buckets for dashboards, and serialised without loss (HdrHistogram
//! V2), so that a load generator can lay what the server measured beside what its clients saw.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};

/// Smallest value told apart, ns. Smaller ones count as less than this.
pub const LATENCY_NS_MIN: u64 = 1_000;
/// Largest value told apart, ns. No deadline of the server is longer.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// An empty histogram with the bounds of the module.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 3).expect("constant bounds are valid")
}

macro_rules! histograms {
    ($($field:ident $name:literal $help:literal;)*) => {
        /// What a shard measures. About 590 KB; all four are written by the shard alone.
        #[derive(Clone, Debug, PartialEq)]
        pub struct ShardHistograms { $(#[doc = $help] pub $field: Histogram<u64>,)* }

        impl Default for ShardHistograms {
            fn default() -> Self {
                ShardHistograms { $($field: latency_histogram(),)* }
            }
        }

        impl ShardHistograms {
            /// Adds another shard's samples.
            pub fn merge(&mut self, other: &ShardHistograms) {
                $(self.$field.add(&other.$field).expect("all have the same bounds");)*
            }

            /// Each histogram with its short name, its Prometheus name and its meaning.
            pub fn all(&self) -> Vec<(&'static str, &'static str, &'static str, &Histogram<u64>)> {
                vec![$((stringify!($field), $name, $help, &self.$field),)*]
            }
        }
    };
}

histograms! {
    broadcast "throng_broadcast_latency_seconds" "From reading a command to the last send of what it published on a shard";
    mesh_hop "throng_mesh_hop_seconds" "From queueing a message for another shard to its handling there";
    turn "throng_turn_seconds" "One turn of a shard, without the time it slept";
    handshake "throng_handshake_seconds" "From accepting a connection to the answer to its HTTP head";
}

/// Upper bounds of the Prometheus buckets: the text of `le`, in seconds, and the same in ns.
pub const BUCKETS: [(&str, u64); 19] = [
    ("0.00001", 10_000),
    ("0.000025", 25_000),
    ("0.00005", 50_000),
    ("0.0001", 100_000),
    ("0.00025", 250_000),
    ("0.0005", 500_000),
    ("0.001", 1_000_000),
    ("0.0025", 2_500_000),
    ("0.005", 5_000_000),
    ("0.01", 10_000_000),
    ("0.025", 25_000_000),
    ("0.05", 50_000_000),
    ("0.1", 100_000_000),
    ("0.25", 250_000_000),
    ("0.5", 500_000_000),
    ("1", 1_000_000_000),
    ("2.5", 2_500_000_000),
    ("5", 5_000_000_000),
    ("10", 10_000_000_000),
];

/// A histogram as Prometheus wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cumulative {
    /// Samples at or below each bound of `BUCKETS`.
    pub counts: [u64; BUCKETS.len()],
    /// All samples: the `+Inf` bucket.
    pub count: u64,
    /// Sum of all samples in seconds, to the precision of the histogram.
    pub sum_s: f64,
}

/// One pass over the recorded values. A step of the histogram that straddles a bound counts above it, so a bucket
/// never claims that something was faster than it was.
pub fn cumulative(histogram: &Histogram<u64>) -> Cumulative {
    let mut counts = [0; BUCKETS.len()];
    let (mut count, mut sum_ns, mut bucket) = (0, 0.0, 0);
    for step in histogram.iter_recorded() {
        let value = step.value_iterated_to();
        while bucket < BUCKETS.len() && value > BUCKETS[bucket].1 {
            counts[bucket] = count;
            bucket += 1;
        }
        count += step.count_at_value();
        sum_ns += histogram.median_equivalent(value) as f64 * step.count_at_value() as f64;
    }
    counts[bucket..].fill(count);
    Cumulative { counts, count, sum_s: sum_ns / 1e9 }
}

/// HdrHistogram V2 encoding in base64, uncompressed: what `HistogramLogReader`s and decoders of all languages take.
pub fn to_base64(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    match V2Serializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        // A count above 2^63 cannot be encoded; nor can it be reached by counting.
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use proptest::prelude::*;

    #[test]
    fn size_is_as_stated() {
        assert_eq!(latency_histogram().distinct_values(), 18_432);
    }

    #[test]
    fn what_lies_outside_the_range_counts_at_its_ends() {
        let mut histogram = latency_histogram();
        let before = histogram.distinct_values();
        for ns in [0, 1, u64::MAX] {
            histogram.saturating_record(ns);
        }
        assert_eq!(histogram.len(), 3);
        assert_eq!(histogram.distinct_values(), before);
        let cumulative = cumulative(&histogram);
        assert_eq!((cumulative.counts[0], cumulative.counts[18], cumulative.count), (2, 2, 3));
    }

    #[test]
    fn empty_histograms_have_empty_buckets() {
        let empty = Cumulative { counts: [0; 19], count: 0, sum_s: 0.0 };
        assert_eq!(cumulative(&latency_histogram()), empty);
    }

    #[test]
    fn bounds_ascend_and_texts_say_the_same() {
        assert!(BUCKETS.windows(2).all(|pair| pair[0].1 < pair[1].1));
        for (text, ns) in BUCKETS {
            assert_eq!((text.parse::<f64>().unwrap() * 1e9).round() as u64, ns);
        }
    }

    #[test]
    fn merging_adds_samples() {
        let (mut one, mut two) = (ShardHistograms::default(), ShardHistograms::default());
        one.turn.saturating_record(5_000);
        two.turn.saturating_record(7_000_000);
        two.handshake.saturating_record(1);
        one.merge(&two);
        let counts: Vec<u64> = one.all().iter().map(|(.., histogram)| histogram.len()).collect();
        assert_eq!(counts, [0, 0, 2, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn buckets_agree_with_a_plain_count(samples in proptest::collection::vec(1_000u64..30_000_000_000, 0..60)) {
            let mut histogram = latency_histogram();
            samples.iter().for_each(|ns| histogram.saturating_record(*ns));
            let cumulative = cumulative(&histogram);
            for ((_, bound), count) in BUCKETS.iter().zip(cumulative.counts) {
                let at_most = samples.iter().filter(|ns| histogram.highest_equivalent(**ns) <= *bound).count() as u64;
                prop_assert_eq!(count, at_most);
            }
            prop_assert_eq!(cumulative.count, samples.len() as u64);
            let sum_s = samples.iter().sum::<u64>() as f64 / 1e9;
            prop_assert!((cumulative.sum_s - sum_s).abs() <= sum_s * 0.001 + 1e-6 * samples.len() as f64);
        }

        #[test]
        fn serialised_histograms_come_back_whole(samples in proptest::collection::vec(1u64..90_000_000_000, 0..60)) {
            let mut histogram = latency_histogram();
            samples.iter().for_each(|ns| histogram.saturating_record(*ns));
            let bytes = STANDARD.decode(to_base64(&histogram)).unwrap();
            let back: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            prop_assert_eq!(back, histogram);
        }
    }
}
