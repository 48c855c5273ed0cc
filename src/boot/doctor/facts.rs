//! What is known of a machine. Nothing here judges.
use crate::plane::SetupCause;
use crate::plane::os::{Limit, Limits};
use crate::plane::ring::Feature;
use std::collections::BTreeMap;

/// What cannot be found out is None or missing.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `6.8.0-45-generic`.
    pub kernel: String,
    pub ring: RingFacts,
    pub descriptors: Limits,
    /// RLIMIT_MEMLOCK, bytes.
    pub locked_memory: Limit,
    /// RLIMIT_AS, bytes.
    pub address_space: Limit,
    /// Limits on locked memory do not hold for the process.
    pub has_ipc_lock: bool,
    /// Values as they stand in /proc/sys, by name with dots.
    pub sysctls: BTreeMap<String, String>,
    /// Open files of the machine (fs.file-nr).
    pub files_open: u64,
    /// Connections that the packet filter tracks; None without the module.
    pub tracked: Option<u64>,
    /// Packets that found the queue of a core full, since boot.
    pub backlog_drops: u64,
    pub memory: Memory,
    /// Cores that this process may use.
    pub cores: u64,
    pub numa_nodes: u64,
    pub clock_source: Option<String>,
    pub clock_sources: Vec<String>,
    /// `always [madvise] never`.
    pub huge_pages: Option<String>,
    /// Huge pages are off for this process, which asked for that as the server does.
    pub huge_pages_off_here: bool,
    /// One per core; empty where the machine does not let its frequency be chosen.
    pub governors: Vec<String>,
    pub interfaces: Vec<Interface>,
    pub is_clock_synchronised: Option<bool>,
    pub listen: Listen,
    pub data: Data,
    /// Of TLS; None where it is off.
    pub certificate: Option<Certificate>,
}

#[derive(Clone, Debug)]
pub struct Certificate {
    /// As configured.
    pub file: String,
    /// For so many days from now, if it can be used; or why not, in the words of the server.
    pub days: Result<u64, String>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct RingFacts {
    pub features: Vec<Feature>,
    /// Why a server would not get its rings: whose fault, and the text.
    pub refusal: Option<(SetupCause, String)>,
    /// A connection was carried through a ring: or what went wrong.
    pub rehearsal: Option<Result<(), String>>,
    /// `Seccomp:` of /proc/self/status: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u64>,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub total: u64,
    pub available: u64,
    /// What the control group leaves of its limit.
    pub group: Option<u64>,
}

/// A network interface with hardware behind it.
#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    pub receive_queues: u64,
    /// Receive packet steering spreads at least one queue over cores.
    pub is_steered: bool,
}

#[derive(Clone, Debug)]
pub struct Listen {
    pub address: std::net::SocketAddr,
    /// Whether it could be listened on, in the words of the server.
    pub refusal: Option<(std::io::ErrorKind, String)>,
}

#[derive(Clone, Debug)]
pub struct Data {
    /// As configured.
    pub folder: String,
    /// The folder, or the nearest above it that exists.
    pub looked_at: String,
    pub free_bytes: Option<u64>,
    /// Median of a few writes of 4 KiB, each with fsync, ns; or what went wrong.
    pub fsync_ns: Result<u64, String>,
}

impl Facts {
    /// Major and minor version; (0, 0) for a name without numbers.
    pub fn kernel_version(&self) -> (u32, u32) {
        let mut numbers = self.kernel.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Numbers of a sysctl; none if it does not exist.
    pub fn sysctl(&self, name: &str) -> Vec<u64> {
        let text = self.sysctls.get(name).map(String::as_str).unwrap_or_default();
        text.split_whitespace().map_while(|number| number.parse().ok()).collect()
    }

    /// Memory that a server may still take, bytes.
    pub fn memory_left(&self) -> u64 {
        self.memory.group.map_or(self.memory.available, |group| group.min(self.memory.available))
    }
}
