//! What a reader gets: copies, made by their owners between two turns or two commits.
use super::counters::Counters;
use super::histograms::ShardHistograms;
use hdrhistogram::Histogram;

/// Rooms that one shard lists in a report, and `/stats` in all (R-OPS-1).
pub const ROOMS_TOP_MAX: usize = 100;

/// One shard's answer. Building it copies about 600 KB: some tens of microseconds, once per scrape.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    pub shard: u16,
    pub counters: Counters,
    pub histograms: ShardHistograms,
    /// Established connections on this shard.
    pub connections: u64,
    /// Those of them that have not signed in yet.
    pub unauthenticated: u64,
    /// Users with a connection anywhere whose home is this shard: the sum over shards counts each user once.
    pub users: u64,
    /// Rooms in memory whose home is this shard.
    pub rooms_in_memory: u64,
    /// Of those, the ones with most subscribed connections (on all shards), at most `ROOMS_TOP_MAX`, in any order.
    pub rooms_top: Vec<(String, u64)>,
    /// Bytes that connections still have to be sent: outboxes and unread parts of logs.
    pub queue_bytes: u64,
    /// Bytes that the broadcast logs hold.
    pub log_bytes: u64,
    /// Of the connections, those with TLS.
    pub tls_sessions: u64,
    /// When the certificate in use ends, Unix seconds; None without TLS.
    pub certificate_ends_s: Option<u64>,
    /// Turns since start.
    pub turns: u64,
    /// How long this shard runs, ms.
    pub uptime_ms: u64,
}

/// What the store's threads say of themselves.
#[derive(Clone, Debug)]
pub struct StoreReport {
    /// Duration of commits (write and fsync of one batch), ns.
    pub commit: Histogram<u64>,
    /// Transactions that were committed.
    pub commits: u64,
    /// Jobs in them.
    pub jobs: u64,
    /// Jobs that the back end failed.
    pub failures: u64,
    /// Jobs waiting for the writer.
    pub queue_len: u64,
}
