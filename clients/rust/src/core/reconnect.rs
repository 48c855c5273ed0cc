//! When to connect again: what a close code asks for, and how long to wait (R-SDK-2, docs/PROTOCOL.md#close-codes).
use serde_json::{Map, Value};

/// What a close code asks of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterClose {
    /// Do not come back without the application.
    Stop,
    /// Get another token first.
    NewToken,
    /// Come back after the back-off.
    BackOff,
    /// Come back within the range that `server_closing` gave.
    Range,
}

/// By the table, and by the bands for codes of later servers. Lost connections (1006) and all else are tried again.
pub fn after_close(code: u16) -> AfterClose {
    match code {
        4001..=4004 => AfterClose::NewToken,
        1000 | 1002 | 1003 | 1007 | 1009 | 4000..=4099 => AfterClose::Stop,
        4200..=4299 => AfterClose::Range,
        _ => AfterClose::BackOff,
    }
}

/// Wait before retry 1 is random in 0 to this, and doubles with each further one.
const FIRST_MS: u64 = 1000;
const LONGEST_MS: u64 = 30_000;

/// Retry `n` (from 1) waits random(0, min(1000·2^(n−1), 30000)) ms. `random` is in [0, 1).
pub fn back_off_ms(n: u32, random: f64) -> u64 {
    let longest = FIRST_MS.checked_shl(n.saturating_sub(1)).filter(|_| n <= 32).unwrap_or(LONGEST_MS).min(LONGEST_MS);
    part_of(longest, random)
}

/// What `server_closing` gives; the default is for a close that asks for a range without having told one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryRange {
    min_ms: u64,
    max_ms: u64,
}

impl Default for RetryRange {
    fn default() -> RetryRange {
        RetryRange { min_ms: 0, max_ms: 10_000 }
    }
}

impl RetryRange {
    /// From whatever came; never the wrong way round, never longer than a day.
    pub fn read(data: &Map<String, Value>) -> RetryRange {
        const DAY_MS: u64 = 86_400_000;
        let ms =
            |name: &str, otherwise: u64| data.get(name).and_then(Value::as_u64).map_or(otherwise, |ms| ms.min(DAY_MS));
        let default = RetryRange::default();
        let min_ms = ms("retryMinMs", default.min_ms);
        RetryRange { min_ms, max_ms: ms("retryMaxMs", default.max_ms).max(min_ms) }
    }

    pub fn wait_ms(self, random: f64) -> u64 {
        self.min_ms + part_of(self.max_ms - self.min_ms, random)
    }
}

fn part_of(ms: u64, random: f64) -> u64 {
    (ms as f64 * random.clamp(0.0, 1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn close_codes_by_table_and_band() {
        let expected: [(AfterClose, &[u16]); 4] = [
            (AfterClose::Stop, &[1000, 1002, 1003, 1007, 1009, 4000, 4005, 4006, 4007, 4008, 4009, 4042, 4099]),
            (AfterClose::NewToken, &[4001, 4002, 4003, 4004]),
            (
                AfterClose::BackOff,
                &[1001, 1005, 1006, 1011, 1012, 1015, 3000, 4100, 4101, 4102, 4103, 4104, 4199, 4300],
            ),
            (AfterClose::Range, &[4200, 4201, 4250, 4299]),
        ];
        for (what, codes) in expected {
            for code in codes {
                assert_eq!(after_close(*code), what, "{code}");
            }
        }
    }

    #[test]
    fn the_longest_waits() {
        let longest = [1, 2, 5, 6, 7, 33, 64, 65, 1000, u32::MAX].map(|n| back_off_ms(n, 1.0));
        assert_eq!(longest, [1000, 2000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000]);
        assert_eq!(back_off_ms(3, 0.0), 0);
    }

    proptest! {
        #[test]
        fn a_wait_is_in_its_bounds(n in 1u32.., random in 0.0f64..1.0, min in 0u64..100_000, max in 0u64..100_000) {
            prop_assert!(u128::from(back_off_ms(n, random)) <= (1000u128 << (n - 1).min(60)).min(30_000));
            let data = serde_json::json!({"retryMinMs": min, "retryMaxMs": max});
            let wait = RetryRange::read(data.as_object().unwrap()).wait_ms(random);
            prop_assert!(min <= wait && wait <= max.max(min));
        }
    }
}
