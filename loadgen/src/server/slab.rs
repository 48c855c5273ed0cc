//! The kernel's memory for sockets and all else that it allocates in slabs.
use super::process::kibibytes;
use std::collections::BTreeMap;

/// Bytes by cache; `Slab` is the sum of all. Of the whole machine: both ends of a loopback connection are in it.
pub fn slab() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = kibibytes(&text, "Slab:").map(|kib| ("Slab".to_string(), kib * 1024));
    total.into_iter().collect()
}
