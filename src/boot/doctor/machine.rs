//! Checks of what makes a server faster, steadier or easier to believe: cores, clocks, pages, interfaces, address, disk.
use super::capacity::gib;
use super::check::{Check, Finding, Gain, Verdict::Advice, Verdict::Problem};
use std::io::ErrorKind;

/// Beyond it, acknowledgements of durable messages are slower than people notice, ns.
const FSYNC_NS: u64 = 20_000_000;

/// Free space of the data folder, bytes.
const FREE_BYTES: u64 = 1 << 30;

/// Clocks that are read without a system call.
const FAST_CLOCKS: [&str; 5] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"];

pub const CHECKS: &[Check] = &[
    Check {
        name: "http.listen",
        why: "the address that clients connect to can be listened on",
        gain: Gain::Start,
        judge: |facts, _| {
            let value = facts.listen.address.to_string();
            Some(match &facts.listen.refusal {
                None => Finding::fine(format!("{value} is free")),
                // Most likely the server itself: it is looked at while it runs.
                Some((ErrorKind::AddrInUse, _)) => {
                    Finding::of(false, Advice, format!("{value} is in use"), "free, or Throng".into(), || {
                        format!("ss -ltnp 'sport = :{}'", facts.listen.address.port())
                    })
                }
                Some((ErrorKind::PermissionDenied, text)) => {
                    Finding::of(false, Problem, text.clone(), "allowed".into(), || {
                        "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or --listen with a port from 1024".into()
                    })
                }
                Some((_, text)) => {
                    Finding::of(false, Problem, text.clone(), "an address of this machine".into(), || {
                        "--listen 0.0.0.0:8080".into()
                    })
                }
            })
        },
    },
    Check {
        name: "tls.cert_file",
        why: "TLS needs a certificate that clients accept, and its key",
        gain: Gain::Start,
        judge: |facts, _| {
            let certificate = facts.certificate.as_ref()?;
            let wanted = || "a certificate in its time, and its key".into();
            Some(match (&certificate.days, certificate.warnings.first()) {
                (Err(fault), _) => Finding::of(false, Problem, fault.clone(), wanted(), || {
                    "both files as one pair, readable for the server's user alone".into()
                }),
                (Ok(_), Some(warning)) => Finding::of(false, Advice, warning.clone(), wanted(), || {
                    "renew it, or mend the modes of the files; SIGHUP is not needed".into()
                }),
                (Ok(days), None) => Finding::fine(format!("{}, valid for {days} days", certificate.file)),
            })
        },
    },
    Check {
        name: "net.ipv4.ip_local_port_range",
        why: "a connection that goes out may take the server's port before it starts",
        gain: Gain::Order,
        judge: |facts, _| {
            let range = facts.sysctl("net.ipv4.ip_local_port_range");
            let (&low, &high) = (range.first()?, range.get(1)?);
            let port = u64::from(facts.listen.address.port());
            let is_outside = !(low..=high).contains(&port);
            let wanted = format!("without {port}");
            Some(Finding::of(is_outside, Advice, format!("{low} {high}"), wanted, || {
                format!("sysctl -w net.ipv4.ip_local_reserved_ports={port}, or --listen with a port below {low}")
            }))
        },
    },
    Check {
        name: "server.data_dir",
        why: "durable messages are acknowledged when they are on disk: fsync must work, and decides how soon",
        gain: Gain::Start,
        judge: |facts, _| {
            let data = &facts.data;
            let free = data.free_bytes.map_or("unknown".into(), gib);
            let wanted = format!("fsync within {} ms, {} free", FSYNC_NS / 1_000_000, gib(FREE_BYTES));
            let fsync_ns = match &data.fsync_ns {
                Ok(fsync_ns) => *fsync_ns,
                Err(text) => {
                    let value = format!("{}: {text}", data.looked_at);
                    return Some(Finding::of(false, Problem, value, wanted, || {
                        format!("install -d -m 0700 -o throng {}, or --data-dir", data.folder)
                    }));
                }
            };
            let is_roomy = data.free_bytes.is_none_or(|bytes| bytes >= FREE_BYTES);
            let value = format!("{}: fsync {:.1} ms, {free} free", data.looked_at, fsync_ns as f64 / 1e6);
            Some(Finding::of(is_roomy && fsync_ns <= FSYNC_NS, Advice, value, wanted, || {
                if is_roomy { "a faster disk for --data-dir" } else { "make room, or a larger disk for --data-dir" }
                    .into()
            }))
        },
    },
    Check {
        name: "cores",
        why: "a shard thread each; pinned, if there are no more shards than cores",
        gain: Gain::Latency,
        judge: |facts, goal| {
            let value =
                format!("{} cores, {} NUMA nodes, {} shards", facts.cores, facts.numa_nodes, goal.tables.shards);
            let is_pinned = u64::from(goal.tables.shards) <= facts.cores;
            Some(Finding::of(is_pinned, Advice, value, "no more shards than cores".into(), || {
                "--shards 0, and --set plane.rings_per_shard=N where the tables are too small".into()
            }))
        },
    },
    Check {
        name: "clock source",
        why: "the clock is read each turn; a slow source makes that a system call",
        gain: Gain::Latency,
        judge: |facts, _| {
            let source = facts.clock_source.as_deref()?;
            let better = FAST_CLOCKS.iter().find(|fast| facts.clock_sources.iter().any(|source| source == **fast));
            Some(Finding::of(FAST_CLOCKS.contains(&source), Advice, source.into(), "tsc or kvm-clock".into(), || {
                match better {
                    Some(better) => {
                        format!("echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource")
                    }
                    None => "dmesg | grep -i tsc says why the kernel gave it up; another machine type".into(),
                }
            }))
        },
    },
    Check {
        name: "CPU governor",
        why: "a core that sleeps deeply or runs slowly is slow for the first message after a pause",
        gain: Gain::Latency,
        judge: |facts, _| {
            let mut governors = facts.governors.clone();
            governors.sort();
            governors.dedup();
            if governors.is_empty() {
                return Some(Finding::fine("not set here (a virtual machine, or firmware)"));
            }
            let is_fast = governors == ["performance"];
            Some(Finding::of(is_fast, Advice, governors.join(", "), "performance".into(), || {
                "cpupower frequency-set -g performance".into()
            }))
        },
    },
    Check {
        name: "transparent huge pages",
        why: "2 MiB of memory for each page of the heap that is touched; the server opts out for itself at its start",
        gain: Gain::Order,
        judge: |facts, _| {
            let text = facts.huge_pages.as_deref()?;
            let chosen = text.split(['[', ']']).nth(1).unwrap_or(text);
            let note = if facts.huge_pages_off_here { ", off for this process" } else { "" };
            let is_fine = chosen != "always" || facts.huge_pages_off_here;
            Some(Finding::of(is_fine, Advice, format!("{chosen}{note}"), "madvise".into(), || {
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".into()
            }))
        },
    },
    Check {
        name: "network queues",
        why: "with one receive queue and no steering, one core takes the interrupts of all shards",
        gain: Gain::Load,
        judge: |facts, _| {
            if facts.interfaces.is_empty() || facts.cores < 2 {
                return None;
            }
            let narrow = |one: &&super::facts::Interface| one.receive_queues < 2 && !one.is_steered;
            let one_core: Vec<&str> = facts.interfaces.iter().filter(narrow).map(|one| one.name.as_str()).collect();
            let shown = facts.interfaces.iter().map(|one| {
                format!("{}: {} queues{}", one.name, one.receive_queues, if one.is_steered { ", steered" } else { "" })
            });
            let value = shown.collect::<Vec<_>>().join("; ");
            Some(Finding::of(one_core.is_empty(), Advice, value, "several, or steered".into(), || {
                format!("tuning/irq.sh {} (shows what it would do; --apply does it)", one_core.join(" "))
            }))
        },
    },
    Check {
        name: "dropped packets",
        why: "packets that found net.core.netdev_max_backlog full since boot",
        gain: Gain::Load,
        judge: |facts, _| {
            let drops = facts.backlog_drops;
            Some(Finding::of(drops == 0, Advice, drops.to_string(), "0".into(), || {
                "sysctl -w net.core.netdev_max_backlog=16384, and tuning/irq.sh".into()
            }))
        },
    },
    Check {
        name: "time",
        why: "tokens end by the clock, and messages carry its time",
        gain: Gain::Order,
        judge: |facts, _| {
            let is_synchronised = facts.is_clock_synchronised?;
            let value = if is_synchronised { "synchronised" } else { "not known to be synchronised" };
            Some(Finding::of(is_synchronised, Advice, value.into(), "synchronised".into(), || {
                "run chronyd or systemd-timesyncd (a container inherits the host's clock, which may be steered unseen)"
                    .into()
            }))
        },
    },
];
