//! What a process has used, from /proc: CPU to the nanosecond, memory, and its busiest thread. Children are counted with it
//! (a master and its workers).
//!
//! CPU comes from `/proc/PID/task/TID/schedstat` (ns on a CPU). `/proc/PID/stat` counts in ticks of 10 ms and tells user from system
//! time; it alone still knows threads that have ended.
use std::collections::BTreeMap;

/// USER_HZ, part of the kernel's interface on the architectures that the server runs on.
const TICK_NS: u64 = 10_000_000;

/// A process and all that descend from it.
#[derive(Clone, Debug)]
pub struct Process {
    pids: Vec<u32>,
}

/// What was used up to one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Ticks in user and system mode, ended threads included.
    user_ticks: u64,
    system_ticks: u64,
    /// By thread: name, ns on a CPU.
    threads: BTreeMap<u32, (String, u64)>,
}

/// What was used between two moments, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    pub user_ns: u64,
    pub system_ns: u64,
}

impl Cpu {
    pub fn total_ns(self) -> u64 {
        self.user_ns + self.system_ns
    }
}

impl Process {
    /// The process and its children at this moment.
    pub fn new(pid: u32) -> Process {
        let parents: BTreeMap<u32, u32> =
            super::owner::processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut pids = vec![pid];
        let mut next = 0;
        while let Some(&above) = pids.get(next) {
            pids.extend(parents.iter().filter(|(_, parent)| **parent == above).map(|(pid, _)| *pid));
            next += 1;
        }
        Process { pids }
    }

    /// This process alone.
    pub fn own() -> Process {
        Process { pids: vec![std::process::id()] }
    }

    /// `None` if it is gone.
    pub fn usage(&self) -> Option<Usage> {
        let mut usage = Usage::default();
        let mut is_there = false;
        for pid in &self.pids {
            let Some(stat) = read(&format!("/proc/{pid}/stat")).as_deref().and_then(parse_stat) else { continue };
            is_there = true;
            usage.user_ticks += stat.user_ticks;
            usage.system_ticks += stat.system_ticks;
            usage.threads.extend(threads(*pid));
        }
        is_there.then_some(usage)
    }

    /// Resident memory, bytes. Cheap; a kernel since 6.2 is off by up to 64 pages per core and kind.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.sum(|pid| {
            let statm = read(&format!("/proc/{pid}/statm"))?;
            let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
            Some(pages * rustix::param::page_size() as u64)
        })
    }

    /// Resident memory, bytes, counted page by page; costs the process some milliseconds per GB. The cheap figure where that
    /// is forbidden.
    pub fn rss_exact_bytes(&self) -> Option<u64> {
        let exact = self.sum(|pid| {
            let rollup = read(&format!("/proc/{pid}/smaps_rollup"))?;
            kibibytes(&rollup, "Rss:").map(|kib| kib * 1024)
        });
        exact.or_else(|| self.rss_bytes())
    }

    /// Over all that are still there.
    fn sum(&self, of: impl Fn(u32) -> Option<u64>) -> Option<u64> {
        let found: Vec<u64> = self.pids.iter().filter_map(|pid| of(*pid)).collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }
}

impl Usage {
    /// What was used since `earlier`. The sum is exact; how it divides is what the kernel sampled.
    pub fn since(&self, earlier: &Usage) -> Cpu {
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        let system = self.system_ticks.saturating_sub(earlier.system_ticks);
        let threads: u64 = self.threads.keys().map(|tid| self.thread_since(*tid, earlier)).sum();
        // Both figures are cut to whole ticks. What goes beyond that was used by threads that have ended meanwhile.
        let at_least = (user + system).saturating_sub(2) * TICK_NS;
        let total = threads.max(at_least);
        let system_ns = match user + system {
            0 => 0,
            ticks => (u128::from(total) * u128::from(system) / u128::from(ticks)) as u64,
        };
        Cpu { user_ns: total - system_ns, system_ns }
    }

    /// The thread that used most since `earlier`: its name and its ns.
    pub fn busiest_since(&self, earlier: &Usage) -> Option<(String, u64)> {
        let threads = self.threads.iter().map(|(tid, (name, _))| (name, self.thread_since(*tid, earlier)));
        threads.max_by_key(|(_, used)| *used).map(|(name, used)| (name.clone(), used))
    }

    /// What a thread used, by its number (tid), ns since it began.
    pub fn thread_ns(&self, tid: u32) -> Option<u64> {
        self.threads.get(&tid).map(|(_, used)| *used)
    }

    fn thread_since(&self, tid: u32, earlier: &Usage) -> u64 {
        let now = self.thread_ns(tid).unwrap_or(0);
        // A number that was used again by a younger thread has used less.
        earlier.thread_ns(tid).filter(|before| *before <= now).map_or(now, |before| now - before)
    }
}

/// The parent's number.
pub(super) fn parent(pid: u32) -> Option<u32> {
    parse_stat(&read(&format!("/proc/{pid}/stat"))?).map(|stat| stat.parent)
}

/// Value of a line such as `Rss:   1234 kB`.
pub(super) fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

pub(super) fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn threads(pid: u32) -> Vec<(u32, (String, u64))> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let usage = |task: std::fs::DirEntry| {
        let tid: u32 = task.file_name().to_str()?.parse().ok()?;
        // A thread may end between listing and reading.
        let used = match read(&format!("/proc/{pid}/task/{tid}/schedstat")) {
            Some(schedstat) => schedstat.split(' ').next()?.parse().ok()?,
            // A kernel without CONFIG_SCHED_INFO.
            None => {
                let stat = parse_stat(&read(&format!("/proc/{pid}/task/{tid}/stat"))?)?;
                (stat.user_ticks + stat.system_ticks) * TICK_NS
            }
        };
        let name = read(&format!("/proc/{pid}/task/{tid}/comm"))?.trim_end().to_string();
        Some((tid, (name, used)))
    };
    tasks.filter_map(usage).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

/// proc_pid_stat(5): fields 4, 14 and 15. The name in field 2 may hold spaces and parentheses; the last `)` ends it.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat { parent: number(4)? as u32, user_ticks: number(14)?, system_ticks: number(15)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(user_ticks: u64, system_ticks: u64, threads: &[(u32, &str, u64)]) -> Usage {
        let threads = threads.iter().map(|(tid, name, ns)| (*tid, (name.to_string(), *ns))).collect();
        Usage { user_ticks, system_ticks, threads }
    }

    #[test]
    fn stat_lines_may_have_odd_names() {
        let line = "17 (a) b (c) S 5 17 17 0 -1 4194560 1 2 3 4 120 30 0 0 20 0 3 0 100 200 300";
        assert_eq!(parse_stat(line), Some(Stat { parent: 5, user_ticks: 120, system_ticks: 30 }));
        assert_eq!(parse_stat("17 (a) S 5"), None);
        assert_eq!(kibibytes("Pss: 5 kB\nRss:     12 kB\n", "Rss:"), Some(12));
    }

    #[test]
    fn threads_count_to_the_nanosecond() {
        let before = usage(10, 10, &[(1, "main", 50_000_001), (2, "shard-0", 150_000_000)]);
        // 40 ms more in ticks, one quarter of it user; exactly 41 ms by the scheduler.
        let after = usage(11, 13, &[(1, "main", 51_000_001), (2, "shard-0", 190_000_000)]);
        assert_eq!(after.since(&before), Cpu { user_ns: 10_250_000, system_ns: 30_750_000 });
        assert_eq!(after.since(&before).total_ns(), 41_000_000);
        assert_eq!(after.busiest_since(&before), Some(("shard-0".into(), 40_000_000)));
        assert_eq!(before.since(&before), Cpu::default());
    }

    #[test]
    fn ended_threads_are_not_forgotten() {
        let before = usage(0, 0, &[(1, "main", 0), (2, "worker", 100)]);
        // The worker ended after about a second; its number went to a thread that has done little.
        let after = usage(100, 0, &[(1, "main", 1_000), (2, "other", 40)]);
        assert_eq!(after.since(&before), Cpu { user_ns: 980_000_000, system_ns: 0 });
        assert_eq!(after.busiest_since(&before), Some(("main".into(), 1_000)));
    }

    #[test]
    fn our_own_work_is_seen() {
        let process = Process::own();
        let before = process.usage().unwrap();
        let mut sum = 0u64;
        while process.usage().unwrap().since(&before).total_ns() < 20_000_000 {
            sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n)));
        }
        let after = process.usage().unwrap();
        assert!(after.busiest_since(&before).unwrap().1 > 0);
        let (cheap, exact) = (process.rss_bytes().unwrap(), process.rss_exact_bytes().unwrap());
        assert!(cheap > 1 << 20 && exact > 1 << 20, "{cheap} {exact}");
    }

    #[test]
    fn children_are_counted_with_their_parent() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let family = Process::new(std::process::id());
        assert!(family.pids.contains(&child.id()) && family.pids[0] == std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.usage().is_some(), "the rest is still there");
        assert_eq!(Process { pids: vec![child.id()] }.usage(), None);
        assert_eq!(Process { pids: vec![child.id()] }.rss_exact_bytes(), None);
    }
}
