//! Reading the machine: /proc, /sys, and a few things tried out.
use super::facts::{Certificate, Data, Facts, Interface, Listen, Memory, RingFacts};
use super::rehearse::rehearse;
use crate::boot::certificate::{self, Loaded};
use crate::boot::tables::Tables;
use crate::config::Config;
use crate::plane::os::{self, Resource};
use crate::plane::ring;
use crate::tls::Tickets;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Everything in /proc/sys that a check looks at.
pub const SYSCTL_NAMES: [&str; 15] = [
    "kernel.io_uring_disabled",
    "kernel.io_uring_group",
    "kernel.numa_balancing",
    "fs.file-max",
    "fs.nr_open",
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.ip_local_port_range",
    "net.netfilter.nf_conntrack_max",
    "vm.overcommit_memory",
];

/// Writes with fsync of which the median counts.
const FSYNCS: usize = 9;

const CAP_IPC_LOCK: u64 = 1 << 14;

pub fn facts(config: &Config) -> Facts {
    let descriptors = os::limits(Resource::Descriptors);
    // As the server does at its start.
    let raised = os::raise_nofile_limit();
    os::disable_huge_pages();
    let status = text("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let capabilities = field("CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    let sysctls: BTreeMap<_, _> = SYSCTL_NAMES
        .iter()
        .filter_map(|name| Some(((*name).into(), text(format!("/proc/sys/{}", name.replace('.', "/")))?)))
        .collect();
    Facts {
        kernel: text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "of unknown version".into()),
        ring: RingFacts { seccomp: field("Seccomp:").and_then(|mode| mode.parse().ok()), ..ring_facts(config, raised) },
        descriptors,
        locked_memory: os::limits(Resource::LockedMemory).soft,
        address_space: os::limits(Resource::AddressSpace).soft,
        has_ipc_lock: capabilities & CAP_IPC_LOCK != 0,
        sysctls,
        files_open: number("/proc/sys/fs/file-nr").unwrap_or(0),
        tracked: number("/proc/sys/net/netfilter/nf_conntrack_count"),
        backlog_drops: text("/proc/net/softnet_stat").map_or(0, |stat| backlog_drops(&stat)),
        memory: memory(),
        cores: os::available_cores().len() as u64,
        numa_nodes: list("/sys/devices/system/node", "node").count().max(1) as u64,
        clock_source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        clock_sources: text("/sys/devices/system/clocksource/clocksource0/available_clocksource")
            .map_or_else(Vec::new, |names| names.split_whitespace().map(Into::into).collect()),
        huge_pages: text("/sys/kernel/mm/transparent_hugepage/enabled"),
        huge_pages_off_here: field("THP_enabled:") == Some("0"),
        governors: list("/sys/devices/system/cpu", "cpu")
            .filter_map(|core| text(core.join("cpufreq/scaling_governor")))
            .collect(),
        interfaces: interfaces(),
        is_clock_synchronised: os::is_clock_synchronised(),
        listen: listen(config),
        data: data(&config.server.data_dir),
        certificate: certificate(config),
    }
}

fn certificate(config: &Config) -> Option<Certificate> {
    let file = config.tls.cert_file.as_ref()?.display().to_string();
    let now_s = os::now().unix_ms / 1_000;
    let loaded = Tickets::new().and_then(|tickets| certificate::load(config, &tickets, now_s));
    let (days, warnings) = match loaded {
        Ok(loaded) => {
            let Loaded { acceptor, warnings } = loaded?;
            (Ok(acceptor.validity.not_after_s.saturating_sub(now_s) / 86_400), warnings)
        }
        Err(fault) => (Err(fault), Vec::new()),
    };
    Some(Certificate { file, days, warnings })
}

/// A file, without the spaces around its text.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().into())
}

/// The first number in a file.
fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.split_whitespace().next()?.parse().ok()
}

/// Entries of a folder that are named so, with a number behind.
fn list(folder: &str, name: &'static str) -> impl Iterator<Item = PathBuf> {
    let is_named = move |path: &PathBuf| {
        let last = path.file_name().and_then(|last| last.to_str()).and_then(|last| last.strip_prefix(name));
        last.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_named)
}

/// Rings are made in threads of their own, whose they are for life.
fn ring_facts(config: &Config, descriptors: u64) -> RingFacts {
    let tables = Tables::of(config, descriptors);
    let options = tables.ring_options(config);
    let survey = std::thread::spawn(move || ring::survey(&options, tables.rings)).join().unwrap_or_default();
    let refusal = survey.refusal.map(|error| (error.cause(), error.to_string()));
    let rehearsal = refusal
        .is_none()
        .then(|| std::thread::spawn(rehearse).join().unwrap_or_else(|_| Err("the rehearsal panicked".into())));
    RingFacts { features: survey.features, refusal, rehearsal, seccomp: None }
}

/// The second column of all cores, which are hexadecimal.
fn backlog_drops(stat: &str) -> u64 {
    let dropped = stat.lines().filter_map(|line| line.split_whitespace().nth(1));
    dropped.filter_map(|number| u64::from_str_radix(number, 16).ok()).sum()
}

fn memory() -> Memory {
    let info = text("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let bytes = |name| of(name).unwrap_or(0) * 1_024;
    Memory { total: bytes("MemTotal"), available: bytes("MemAvailable"), group: group_memory() }
}

/// What the limits of the control groups above this process leave, bytes: both versions of the interface.
fn group_memory() -> Option<u64> {
    let groups = text("/proc/self/cgroup")?;
    let left = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, max, current) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            _ => return None,
        };
        Path::new(path.trim_start_matches('/'))
            .ancestors()
            .filter_map(|group| {
                let group = Path::new(root).join(group);
                Some(number(group.join(max))?.saturating_sub(number(group.join(current))?))
            })
            .min()
    });
    left.min()
}

fn interfaces() -> Vec<Interface> {
    let all = fs::read_dir("/sys/class/net").into_iter().flatten().flatten().map(|entry| entry.path());
    let real = all.filter(|path| path.join("device").exists());
    real.map(|path| {
        let queues: Vec<_> = fs::read_dir(path.join("queues"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-"))
            .collect();
        // A mask of cores, all zeros where there is no steering.
        let is_steered = |mask: String| mask.chars().any(|digit| !matches!(digit, '0' | ','));
        Interface {
            name: path.file_name().unwrap_or_default().to_string_lossy().into(),
            receive_queues: queues.len() as u64,
            is_steered: queues.iter().filter_map(|queue| text(queue.path().join("rps_cpus"))).any(is_steered),
        }
    })
    .collect()
}

/// Listens for a moment.
fn listen(config: &Config) -> Listen {
    let address = config.http.listen;
    let refusal = os::listener(address, false, 1).err().map(|error| (error.kind(), error.to_string()));
    Listen { address, refusal }
}

fn data(folder: &Path) -> Data {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
    let looked_at = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    Data {
        folder: folder.display().to_string(),
        looked_at: looked_at.display().to_string(),
        free_bytes: os::free_bytes(looked_at).ok(),
        fsync_ns: fsync_ns(looked_at).map_err(|error| error.to_string()),
    }
}

/// In a file without a name, of which nothing is left.
fn fsync_ns(folder: &Path) -> std::io::Result<u64> {
    let mut file = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(folder)?;
    let mut times = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        file.write_all(&[0; 4_096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    Ok(times[FSYNCS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_summed_over_cores() {
        assert_eq!(backlog_drops("00a1 00000002 0003\n00b2 0000000f 0000\nx"), 17);
    }

    #[test]
    fn this_machine_is_read() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let mut config = Config::default();
        config.server.data_dir = folder.path().join("not/yet");
        config.plane.connections_per_shard = 64;
        let facts = facts(&config);
        assert!(facts.kernel_version() >= (6, 8), "{}", facts.kernel);
        assert!(facts.memory.total > 0 && facts.cores > 0 && facts.ring.seccomp.is_some());
        assert!(facts.sysctls.contains_key("net.core.somaxconn") && facts.sysctl("net.ipv4.tcp_mem").len() == 3);
        assert_eq!(facts.ring.rehearsal, Some(Ok(())), "{:?}", facts.ring.refusal);
        assert_eq!(facts.data.looked_at, folder.path().display().to_string());
        assert!(facts.data.fsync_ns.is_ok());
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
    }
}
