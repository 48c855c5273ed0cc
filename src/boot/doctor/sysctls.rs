//! Kernel settings that a server wants, beyond those that bound the number of connections (`resources`). The same values stand in
//! `tuning/90-throng.conf` for a million connections; what each does, costs, and where it is documented, in `tuning/README.md`.
use super::check::{Finding, Gain, Goal, Line, Verdict};
use super::facts::Facts;

/// A kernel setting.
pub struct Sysctl {
    pub name: &'static str,
    pub why: &'static str,
    pub gain: Gain,
    /// The value to set, for so many connections.
    pub wanted: fn(&Goal) -> String,
    /// Whether the numbers that are set will do.
    pub is_met: fn(&[u64], &Facts, &Goal) -> bool,
}

/// Largest receive and send buffer of a socket, bytes.
const SOCKET_BUFFER_MAX: u64 = 1 << 20;

/// Packets in the queue of a core.
const NETDEV_BACKLOG: u64 = 16_384;

pub const SYSCTLS: &[Sysctl] = &[
    Sysctl {
        name: "net.core.somaxconn",
        why: "caps the accept queue of each shard: a storm beyond it is dropped and retried after a second",
        gain: Gain::Load,
        wanted: |goal| goal.backlog.to_string(),
        is_met: |set, _, goal| set[0] >= goal.backlog,
    },
    Sysctl {
        name: "net.ipv4.tcp_syncookies",
        why: "answers handshakes beyond the queue without keeping state; off, they are dropped",
        gain: Gain::Load,
        wanted: |_| "1".into(),
        is_met: |set, _, _| set[0] != 0,
    },
    Sysctl {
        name: "net.ipv4.tcp_max_syn_backlog",
        why: "half-open handshakes that are kept where syncookies are off",
        gain: Gain::Order,
        wanted: |goal| goal.backlog.to_string(),
        is_met: |set, facts, goal| {
            set[0] >= goal.backlog || facts.sysctl("net.ipv4.tcp_syncookies").first() == Some(&1)
        },
    },
    Sysctl {
        name: "net.core.netdev_max_backlog",
        why: "packets between interface (or loopback) and protocol, per core: a broadcast fills it, and what does not fit is sent again",
        gain: Gain::Load,
        wanted: |_| NETDEV_BACKLOG.to_string(),
        is_met: |set, _, _| set[0] >= NETDEV_BACKLOG,
    },
    Sysctl {
        name: "net.ipv4.tcp_mem",
        why: "pages of all socket buffers: a frame under way counts as a page at least, so a broadcast to all needs one a connection",
        gain: Gain::Load,
        wanted: |goal| {
            let max = goal.connections.next_multiple_of(4);
            format!("{} {} {max}", max / 2, max / 4 * 3)
        },
        is_met: |set, _, goal| set.get(2).is_some_and(|&max| max >= goal.connections),
    },
    Sysctl {
        name: "net.ipv4.tcp_wmem",
        why: "least, first and largest send buffer: a reader that stops pins the largest, beside what the server keeps for it",
        gain: Gain::Order,
        wanted: |_| format!("4096 16384 {SOCKET_BUFFER_MAX}"),
        is_met: |set, _, _| set.get(2).is_some_and(|&max| max <= SOCKET_BUFFER_MAX * 4),
    },
    Sysctl {
        name: "net.ipv4.tcp_rmem",
        why: "least, first and largest receive buffer: what a sender may pin while a shard is busy",
        gain: Gain::Order,
        wanted: |_| format!("4096 131072 {SOCKET_BUFFER_MAX}"),
        is_met: |set, _, _| set.get(2).is_some_and(|&max| max <= SOCKET_BUFFER_MAX * 8),
    },
    Sysctl {
        name: "vm.overcommit_memory",
        why: "2 refuses memory that is reserved and not used, and with it buffers and threads",
        gain: Gain::Order,
        wanted: |_| "0".into(),
        is_met: |set, _, _| set[0] != 2,
    },
    Sysctl {
        name: "kernel.numa_balancing",
        why: "moves pages between nodes by faults; shards are pinned and their memory is near already",
        gain: Gain::Latency,
        wanted: |_| "0".into(),
        is_met: |set, facts, _| set[0] == 0 || facts.numa_nodes < 2,
    },
];

impl Sysctl {
    /// None where the kernel does not have it.
    pub fn line(&self, facts: &Facts, goal: &Goal) -> Option<Line> {
        let set = facts.sysctl(self.name);
        let value = facts.sysctls.get(self.name)?.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_met = !set.is_empty() && (self.is_met)(&set, facts, goal);
        let wanted = (self.wanted)(goal);
        let finding = Finding::of(is_met, Verdict::Advice, value, wanted.clone(), || match wanted.contains(' ') {
            true => format!("sysctl -w {}='{wanted}'", self.name),
            false => format!("sysctl -w {}={wanted}", self.name),
        });
        Some(Line { name: self.name.into(), why: self.why.into(), gain: self.gain, finding })
    }
}
