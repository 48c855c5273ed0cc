//! Time as a value. Only the plane, the services and boot read clocks; all other code is handed a `Now`.

/// One reading of both clocks, taken once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds since an arbitrary start: for durations and deadlines.
    pub mono_ns: u64,
    /// Unix milliseconds, UTC: for timestamps that people and stores see.
    pub unix_ms: u64,
}

impl Now {
    /// Monotonic milliseconds.
    pub fn mono_ms(self) -> u64 {
        self.mono_ns / 1_000_000
    }
}
