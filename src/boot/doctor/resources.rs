//! Checks of what bounds the number of connections: descriptors, locked memory, memory, files, tracked connections.
use super::capacity::{gib, thousands};
use super::check::{Check, Finding, Gain, Goal, Verdict::Problem};
use crate::boot::tables::{DESCRIPTOR_RESERVE, Tables, rings_for};
use crate::config::Config;
use crate::limits::{
    CONNECTION_KERNEL_BYTES, CONNECTION_TLS_BYTES, CONNECTION_USER_BYTES, RINGS_MAX, TABLE_ROWS_MAX, mailbox_capacity,
};
use crate::plane::ring::locked_bytes;
use crate::plane::{RingOptions, SLACK_BYTES};

/// Linux counts rings against RLIMIT_MEMLOCK from this version on.
const COUNTS_LOCKED: (u32, u32) = (6, 14);

/// Files that a machine opens besides connections.
const FILES_RESERVE: u64 = 16_384;

/// Program, threads, caches of the database: writer 32 MiB, each reader 4 MiB (docs/OPERATING.md, Sizing).
const PROCESS_BYTES: u64 = 64 << 20;
const READER_BYTES: u64 = 4 << 20;

pub const CHECKS: &[Check] = &[
    Check {
        name: "RLIMIT_NOFILE",
        why: "bounds the rows of each ring's table of connections, though a connection takes no descriptor",
        gain: Gain::Connections,
        judge: |facts, goal| {
            let Tables { shards, rings, rows } = goal.tables;
            let (shards, rings, rows) = (u64::from(shards), u64::from(rings), u64::from(rows));
            let most = goal.tables.capacity();
            let value = format!("soft {}, hard {}", facts.descriptors.soft, facts.descriptors.hard);
            let needed = goal.connections.div_ceil(shards * rings);
            let wanted = format!("hard {}", thousands(needed + DESCRIPTOR_RESERVE));
            Some(Finding::bound(most, goal, value, wanted, || {
                let hard = facts.descriptors.hard.0.unwrap_or(u64::MAX);
                let is_configured = rows < hard.saturating_sub(DESCRIPTOR_RESERVE).min(TABLE_ROWS_MAX.into());
                let rings = rings_for(goal.connections, shards, rows);
                let more_rings = match rings <= RINGS_MAX.into() {
                    true => format!("; or --set plane.rings_per_shard={rings}"),
                    false => String::new(),
                };
                if is_configured {
                    format!("--set plane.connections_per_shard={needed}{more_rings}")
                } else {
                    format!(
                        "LimitNOFILE={} in the unit, tuning/limits.d/throng.conf for logins{more_rings}",
                        needed + DESCRIPTOR_RESERVE
                    )
                }
            }))
        },
    },
    Check {
        name: "limits.connections",
        why: "the configured limit",
        gain: Gain::Connections,
        judge: |_, goal| {
            let most = goal.configured_max;
            (most > 0).then(|| {
                Finding::bound(most, goal, most.to_string(), goal.connections.to_string(), || {
                    format!("--set limits.connections={}", goal.connections)
                })
            })
        },
    },
    Check {
        name: "RLIMIT_MEMLOCK",
        why: "since Linux 6.14 the memory of rings counts against it, unless the process has CAP_IPC_LOCK",
        gain: Gain::Start,
        judge: |facts, goal| {
            let needed = u64::from(goal.tables.shards) * locked_bytes(goal.tables.rings);
            let is_free = facts.has_ipc_lock || facts.kernel_version() < COUNTS_LOCKED;
            let is_enough = facts.locked_memory.0.is_none_or(|limit| limit >= needed);
            let note = match (is_free, facts.has_ipc_lock) {
                (true, true) => " (does not hold: CAP_IPC_LOCK)",
                (true, false) => " (does not count rings: kernel before 6.14)",
                _ => "",
            };
            let value = format!("{} bytes{note}", facts.locked_memory);
            let wanted = format!("{needed} for {} shards", goal.tables.shards);
            Some(Finding::of(is_free || is_enough, Problem, value, wanted, || {
                "LimitMEMLOCK=infinity in the unit, tuning/limits.d/throng.conf for logins".into()
            }))
        },
    },
    Check {
        name: "RLIMIT_AS",
        why: "a limit on address space fails the mapping of buffers, and allocations after that end the process",
        gain: Gain::Start,
        judge: |facts, goal| {
            let needed = goal.base_bytes + goal.connections * goal.user_bytes + (1 << 30);
            let is_enough = facts.address_space.0.is_none_or(|limit| limit >= needed);
            let wanted = format!("unlimited, or {}", gib(needed));
            Some(Finding::of(is_enough, Problem, facts.address_space.to_string(), wanted, || {
                "ulimit -v unlimited; no LimitAS= in the unit".into()
            }))
        },
    },
    Check {
        name: "memory",
        why: "kernel and process memory of idle connections; what is in flight comes on top (net.ipv4.tcp_mem)",
        gain: Gain::Connections,
        judge: |facts, goal| {
            let left = facts.memory_left();
            let most = connections_in(left, goal);
            let value = format!(
                "{} free of {}{}",
                gib(left),
                gib(facts.memory.total),
                match facts.memory.group {
                    Some(group) if group < facts.memory.available => ", by the control group's limit",
                    _ => "",
                }
            );
            Some(Finding::bound(most, goal, value, gib(memory_for(goal)), || {
                "more memory, MemoryMax= of the unit, or fewer connections".into()
            }))
        },
    },
    Check {
        name: "fs.file-max",
        why: "every connection is an open file of the machine, also without a descriptor; beyond it accept fails",
        gain: Gain::Connections,
        judge: |facts, goal| {
            let max = *facts.sysctl("fs.file-max").first()?;
            let most = max.saturating_sub(facts.files_open + FILES_RESERVE);
            let wanted = goal.connections + facts.files_open + FILES_RESERVE;
            let value = format!("{max}, {} open", facts.files_open);
            Some(Finding::bound(most, goal, value, wanted.to_string(), || format!("sysctl -w fs.file-max={wanted}")))
        },
    },
    Check {
        name: "fs.nr_open",
        why: "the most that RLIMIT_NOFILE can be raised to",
        gain: Gain::Connections,
        judge: |facts, goal| {
            let max = *facts.sysctl("fs.nr_open").first()?;
            let rings = u64::from(goal.tables.shards) * u64::from(goal.tables.rings);
            let wanted = (goal.connections.div_ceil(rings) + DESCRIPTOR_RESERVE).min(TABLE_ROWS_MAX.into());
            let most = max.saturating_sub(DESCRIPTOR_RESERVE).saturating_mul(rings);
            let is_met = max >= wanted;
            let finding = Finding::of(is_met, Problem, max.to_string(), wanted.to_string(), || {
                format!("sysctl -w fs.nr_open={wanted}")
            });
            Some(Finding { connections_max: (!is_met).then_some(most), ..finding })
        },
    },
    Check {
        name: "net.netfilter.nf_conntrack_max",
        why: "where the packet filter tracks connections, each takes an entry of about 320 bytes; beyond it new ones are dropped unseen",
        gain: Gain::Connections,
        judge: |facts, goal| {
            let max = *facts.sysctl("net.netfilter.nf_conntrack_max").first()?;
            // Loaded, but without a rule that needs it, it tracks nothing.
            let tracked = facts.tracked.filter(|&tracked| tracked > 0);
            let Some(tracked) = tracked else { return Some(Finding::fine(format!("{max}, tracks nothing"))) };
            let most = max.saturating_sub(tracked);
            let value = format!("{max}, {tracked} in use");
            let port = facts.listen.address.port();
            Some(Finding::bound(most, goal, value, (goal.connections + tracked).to_string(), || {
                format!(
                    "do not track the port (nft: tcp dport {port} notrack), or sysctl -w net.netfilter.nf_conntrack_max={}",
                    goal.connections + tracked
                )
            }))
        },
    },
];

/// Receive buffers of all rings, bytes.
fn buffer_bytes(config: &Config, tables: &Tables) -> u64 {
    let options = tables.ring_options(config);
    let bytes =
        |options: &RingOptions| u64::from(options.buffers) * (options.buffer_bytes as usize + SLACK_BYTES) as u64;
    u64::from(tables.shards) * (bytes(&options) + u64::from(tables.rings - 1) * bytes(&options.further(tables.rings)))
}

/// Memory of one connection in the process, bytes: with TLS, if it is on, though some may come without.
pub fn user_bytes(config: &Config) -> u64 {
    CONNECTION_USER_BYTES + if config.tls.cert_file.is_some() { CONNECTION_TLS_BYTES } else { 0 }
}

/// Memory that a server takes whatever it holds, bytes; one line per holder.
pub fn base_bytes(config: &Config, tables: &Tables) -> u64 {
    let (shards, capacity) = (u64::from(tables.shards), tables.capacity());
    // Mail and its stamp.
    let mailboxes = shards * (shards + 1) * mailbox_capacity(shards as usize) as u64 * 136;
    let rows = capacity * 8;
    let is_counted = config.limits.connections_per_ip > 0 || config.limits.handshakes_per_ip > 0;
    let addresses = if is_counted { (capacity * 2).next_power_of_two() * 16 } else { 0 };
    PROCESS_BYTES
        + config.store.readers * READER_BYTES
        + buffer_bytes(config, tables)
        + shards * locked_bytes(tables.rings)
        + mailboxes
        + rows
        + addresses
}

/// Bytes for the goal.
pub fn memory_for(goal: &Goal) -> u64 {
    goal.base_bytes + goal.connections * (CONNECTION_KERNEL_BYTES + goal.user_bytes)
}

/// How many connections fit into so many bytes.
pub fn connections_in(bytes: u64, goal: &Goal) -> u64 {
    bytes.saturating_sub(goal.base_bytes) / (CONNECTION_KERNEL_BYTES + goal.user_bytes)
}
