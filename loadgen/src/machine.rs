//! Where a run took place: everything about the machine that two results must share before their figures may be compared.
use crate::result::Machine;
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeMap;

/// Settings of the kernel that have changed the outcome of such a run.
const SYSCTLS: [&str; 24] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.pid_max",
    "kernel.randomize_va_space",
    "kernel.sched_autogroup_enabled",
    "kernel.threads-max",
    "net.core.busy_poll",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "vm.max_map_count",
    "vm.overcommit_memory",
];

/// What a container or a service may use, where that is bounded.
const CGROUP: [&str; 2] = ["cpu.max", "memory.max"];

/// Reads it. What cannot be read is left out.
pub fn fingerprint() -> Machine {
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let cpu = parse_cpuinfo(&read("/proc/cpuinfo").unwrap_or_default());
    let nofile = getrlimit(Resource::Nofile);
    let here = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    Machine {
        hostname: text(name.nodename()),
        kernel: format!("{} {} {}", text(name.sysname()), text(name.release()), text(name.machine())),
        cpu: cpu.model.unwrap_or_else(|| text(name.machine())),
        cores: if cpu.cores == 0 { here } else { cpu.cores },
        memory_bytes: memory_bytes(&read("/proc/meminfo").unwrap_or_default()).unwrap_or(0),
        nofile_limit: nofile.maximum.unwrap_or(u64::MAX),
        memlock_limit: getrlimit(Resource::Memlock).maximum,
        sysctls: sysctls(),
        transparent_hugepages: read("/sys/kernel/mm/transparent_hugepage/enabled").as_deref().and_then(chosen),
        clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        load_average: read("/proc/loadavg").as_deref().and_then(first_number).unwrap_or(0.0),
        is_virtual: cpu.is_virtual,
        commit: option_env!("THRONG_LOADGEN_COMMIT").map(str::to_string),
        loadgen_version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn sysctls() -> BTreeMap<String, String> {
    let sysctls = SYSCTLS.iter().map(|name| (name.to_string(), format!("/proc/sys/{}", name.replace('.', "/"))));
    let cgroup = CGROUP.iter().map(|name| (format!("cgroup.{name}"), format!("/sys/fs/cgroup/{name}")));
    let value = |path: &str| Some(read(path)?.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    sysctls.chain(cgroup).filter_map(|(name, path)| Some((name, value(&path)?))).collect()
}

/// A file's text without the newline at its end.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_string())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Cpu {
    model: Option<String>,
    cores: u32,
    /// Processors of other kinds than x86 do not tell here.
    is_virtual: Option<bool>,
}

fn parse_cpuinfo(text: &str) -> Cpu {
    let mut cpu = Cpu::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        match key.trim() {
            "processor" => cpu.cores += 1,
            "model name" => cpu.model = Some(value.trim().to_string()),
            "flags" => cpu.is_virtual = Some(value.split_ascii_whitespace().any(|flag| flag == "hypervisor")),
            _ => {}
        }
    }
    cpu
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `always [madvise] never`: the word in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_string())
}

fn first_number(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        let text =
            "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu hypervisor x\n\nprocessor\t: 1\nmodel name\t: A CPU\n";
        let cpu = Cpu { model: Some("A CPU".into()), cores: 2, is_virtual: Some(true) };
        assert_eq!(parse_cpuinfo(text), cpu);
        assert_eq!(parse_cpuinfo("flags : hypervisors").is_virtual, Some(false));
        assert_eq!(parse_cpuinfo("processor : 0\nCPU part : 0xd0c").is_virtual, None);
        assert_eq!(memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB"), Some(1 << 20));
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("always"), None);
        assert_eq!(first_number("3.44 3.29"), Some(3.44));
    }

    #[test]
    fn this_machine_has_a_fingerprint() {
        let machine = fingerprint();
        assert!(machine.kernel.starts_with("Linux ") && machine.cores >= 1 && machine.memory_bytes > 1 << 20);
        assert!(machine.nofile_limit > 0 && !machine.cpu.is_empty());
        assert!(machine.sysctls["fs.file-max"].parse::<u64>().is_ok());
        assert_eq!(machine.sysctls["net.ipv4.ip_local_port_range"].split(' ').count(), 2, "one blank between numbers");
        assert_eq!(machine.loadgen_version, env!("CARGO_PKG_VERSION"));
    }
}
