//! The kernel's memory for sockets, bytes, of the whole machine: what a connection costs beside the server's own.
//!
//! A cache is counted by its objects in use, each with its share of the slab's pages (so with what the packing wastes). What the
//! kernel keeps of slabs that became empty is left out: otherwise the second run of a day would find the first one's memory there
//! and seem to need none. /proc/slabinfo is for root alone; the totals beside it are for everyone, and do hold such remains.
use super::process::{kibibytes, read};
use std::collections::BTreeMap;

/// Caches of which a connection takes objects: the socket and its ports, the file and its name, what hangs on them, buffers,
/// io_uring's requests.
const CACHES: [&str; 20] = [
    "TCP",
    "TCPv6",
    "bfilp",
    "dentry",
    "eventpoll_epi",
    "eventpoll_pwq",
    "filp",
    "io_kiocb",
    "lsm_file_cache",
    "lsm_inode_cache",
    "request_sock_TCP",
    "request_sock_TCPv6",
    "skbuff_fclone_cache",
    "skbuff_head_cache",
    "skbuff_small_head",
    "sock_inode_cache",
    "tcp_bind2_bucket",
    "tcp_bind_bucket",
    "tw_sock_TCP",
    "tw_sock_TCPv6",
];

/// General caches, for whatever has none of its own.
const GENERAL: &str = "kmalloc-";

/// Caches whose objects come and go by themselves: connections of an earlier run that wait for their end (TIME_WAIT, a minute), and
/// handshakes. Shown, but no part of what standing connections take.
const PASSING: [&str; 4] = ["request_sock_TCP", "request_sock_TCPv6", "tw_sock_TCP", "tw_sock_TCPv6"];

/// Totals of /proc/meminfo.
const TOTALS: [&str; 6] = ["KernelStack", "PageTables", "Percpu", "SUnreclaim", "Slab", "VmallocUsed"];

/// Buffers that TCP has charged to its sockets.
const TCP_BUFFERS: &str = "sockets mem";

/// By name: caches where readable, totals of /proc/meminfo, and `sockets mem`.
pub fn slab() -> BTreeMap<String, u64> {
    let page_bytes = rustix::param::page_size() as u64;
    let mut found = BTreeMap::new();
    if let Some(text) = read("/proc/slabinfo") {
        found.extend(caches(&text, page_bytes));
    }
    if let Some(text) = read("/proc/meminfo") {
        let total = |name: &&str| Some((name.to_string(), kibibytes(&text, &format!("{name}:"))? * 1024));
        found.extend(TOTALS.iter().filter_map(total));
    }
    if let Some(pages) = read("/proc/net/sockstat").as_deref().and_then(tcp_pages) {
        found.insert(TCP_BUFFERS.into(), pages * page_bytes);
    }
    found
}

/// All slabs, bytes. Cheap enough for every second: to read /proc/slabinfo, the kernel walks through every cache, which with a million
/// sockets takes milliseconds that client and server would have to wait.
pub fn total_bytes() -> Option<u64> {
    read("/proc/meminfo").and_then(|text| kibibytes(&text, "Slab:")).map(|kib| kib * 1024)
}

/// What the kernel took between two calls of `slab`, bytes: over its caches, or if they are not readable by the total of /proc/meminfo.
/// `None`: neither is there. Less than before is 0.
pub fn growth_bytes(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Option<u64> {
    let sum = |of: &BTreeMap<String, u64>| -> Option<u64> {
        let is_lasting = |name: &str| is_cache(name) && !PASSING.contains(&name);
        let caches: Vec<u64> = of.iter().filter(|(name, _)| is_lasting(name)).map(|(_, bytes)| *bytes).collect();
        (!caches.is_empty()).then(|| caches.iter().sum())
    };
    if let (Some(before), Some(after)) = (sum(before), sum(after)) {
        return Some(after.saturating_sub(before));
    }
    Some(after.get("Slab")?.saturating_sub(*before.get("Slab")?))
}

fn is_cache(name: &str) -> bool {
    name.starts_with(GENERAL) || CACHES.contains(&name)
}

/// Version 2.1: `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata …`.
fn caches(text: &str, page_bytes: u64) -> BTreeMap<String, u64> {
    let cache = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let (active, per_slab, pages) = (number(1)?, number(4)?, number(5)?);
        let name = fields.first().filter(|name| is_cache(name))?;
        (active > 0 && per_slab > 0).then(|| (name.to_string(), active * pages * page_bytes / per_slab))
    };
    text.lines().filter_map(cache).collect()
}

/// `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 5`, in pages.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_ascii_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
ext4_inode_cache   243007 243012   1128   14    4 : tunables    0    0    0 : slabdata  17358  17358      0
TCP                   26     52   2432   13    8 : tunables    0    0    0 : slabdata      4      4      0
filp                 735    840    192   21    1 : tunables    0    0    0 : slabdata     40     40      0
kmalloc-cg-64         64    192     64   64    1 : tunables    0    0    0 : slabdata      3      3      0
tw_sock_TCP            0     32    256   16    1 : tunables    0    0    0 : slabdata      2      2      0
";

    #[test]
    fn caches_count_their_objects_in_use() {
        // 26 of 13 a slab of 8 pages: two slabs. 735 of 21 a page: 35 pages.
        let expected = [("TCP", 65_536), ("filp", 143_360), ("kmalloc-cg-64", 4_096)];
        assert_eq!(caches(SLABINFO, 4_096), expected.map(|(name, bytes)| (name.to_string(), bytes)).into());
    }

    #[test]
    fn growth_takes_caches_before_totals() {
        let map = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            pairs.iter().map(|(name, bytes)| (name.to_string(), *bytes)).collect()
        };
        let before = map(&[("TCP", 100), ("dentry", 50), ("tw_sock_TCP", 10_000), ("Slab", 1_000)]);
        let after = map(&[("TCP", 400), ("dentry", 40), ("filp", 7), ("Slab", 9_000)]);
        assert_eq!(growth_bytes(&before, &after), Some(297));
        assert_eq!(growth_bytes(&after, &before), Some(0));
        assert_eq!(growth_bytes(&map(&[("Slab", 1_000)]), &after), Some(8_000));
        assert_eq!(growth_bytes(&map(&[]), &after), None);
    }

    #[test]
    fn the_machine_tells_its_totals() {
        assert_eq!(
            tcp_pages("sockets: used 15\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 5\nUDP: inuse 0 mem 9\n"),
            Some(5)
        );
        let slab = slab();
        assert!(slab["Slab"] > 1 << 16, "{slab:?}");
        assert!(!slab.contains_key("ext4_inode_cache"));
    }
}
