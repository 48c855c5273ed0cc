//! What a process has used, from `/proc`. The kernel counts CPU in ticks of 10 ms: over a window of three seconds
//! that is 0.3 %.
use std::time::Duration;

/// USER_HZ, part of the kernel's interface on the architectures that the server runs on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time (user and system) of a process, and of its busiest thread.
#[derive(Clone, Debug)]
pub struct Usage {
    pub process: Duration,
    threads: Vec<(u32, String, Duration)>,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Usage, String> {
        let (_, process) = stat(&format!("/proc/{pid}/stat"))?;
        let mut threads = Vec::new();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("process {pid}: {e}"))?;
        for task in tasks.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end between listing and reading.
            if let Ok((name, used)) = stat(&format!("/proc/{pid}/task/{tid}/stat")) {
                threads.push((tid, name, used));
            }
        }
        Ok(Usage { process, threads })
    }

    /// The thread that used most since `earlier`.
    pub fn busiest_since(&self, earlier: &Usage) -> (String, Duration) {
        let since = |(tid, name, used): &(u32, String, Duration)| {
            let before = earlier.threads.iter().find(|t| t.0 == *tid).map_or(Duration::ZERO, |t| t.2);
            (name.clone(), used.saturating_sub(before))
        };
        self.threads.iter().map(since).max_by_key(|(_, used)| *used).unwrap_or_default()
    }
}

/// Name and CPU time from a `stat` file (proc(5): fields 2, 14 and 15).
fn stat(path: &str) -> Result<(String, Duration), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    // The name may hold spaces and parentheses; the last `)` ends it.
    let parsed = text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).and_then(|(name, rest)| {
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        Some((name.to_string(), TICK * ticks))
    });
    parsed.ok_or_else(|| format!("{path}: not as expected: {text}"))
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(pid: u32) -> Result<u64, String> {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib * 1024)
}

/// Kernel memory in slab caches that cannot be reclaimed, bytes, of the whole machine: sockets and their requests.
pub fn kernel_slab_bytes() -> Result<u64, String> {
    kibibytes("/proc/meminfo", "SUnreclaim:").map(|kib| kib * 1024)
}

fn kibibytes(path: &str, field: &str) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).ok_or(format!("{path}: no {field}"))
}

/// One-minute load average: what else the machine is doing before we begin.
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}
