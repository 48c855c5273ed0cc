//! What the kernel says about this process, from `/proc`: memory, CPU time, descriptors.
use std::fs;

/// Clock ticks per second in `/proc`: a constant of the kernel's user interface on every architecture in use.
const TICKS_PER_S: f64 = 100.0;

/// One reading. A file that cannot be read leaves its values 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub cpu_s: f64,
    /// Unix seconds.
    pub started_at_s: f64,
    /// Ordinary descriptors; connections in a ring's table are none of these.
    pub open_fds: u64,
    pub fds_max: u64,
}

impl Process {
    pub fn read() -> Process {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (status, stat) = (file("/proc/self/status"), file("/proc/self/stat"));
        let ticks = |field: usize| stat_field(&stat, field).map_or(0.0, |ticks| ticks as f64 / TICKS_PER_S);
        let boot_s = line_value(&file("/proc/stat"), "btime").unwrap_or(0) as f64;
        Process {
            resident_bytes: line_value(&status, "VmRSS:").unwrap_or(0) * 1024,
            virtual_bytes: line_value(&status, "VmSize:").unwrap_or(0) * 1024,
            threads: line_value(&status, "Threads:").unwrap_or(0),
            cpu_s: ticks(14) + ticks(15),
            started_at_s: boot_s + ticks(22),
            open_fds: open_fds(),
            fds_max: line_value(&file("/proc/self/limits"), "Max open files").unwrap_or(0),
        }
    }
}

/// Since Linux 6.2 the size of the folder is the number of descriptors; before, it is 0 and they must be listed.
fn open_fds() -> u64 {
    match fs::metadata("/proc/self/fd").map(|folder| folder.len()) {
        Ok(count) if count > 0 => count,
        // Listing opens one more.
        _ => fs::read_dir("/proc/self/fd").map_or(0, |entries| (entries.count() as u64).saturating_sub(1)),
    }
}

/// The first number after `key` at the start of a line.
fn line_value(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Field `number` (from 1, as in proc(5)) of `/proc/self/stat`. The second one, the name, may hold anything, so fields
/// are counted from behind its closing bracket.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let process = Process::read();
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.threads >= 1 && process.open_fds >= 3 && process.fds_max > process.open_fds, "{process:?}");
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(process.started_at_s > 1_600_000_000.0 && process.started_at_s <= now_s + 2.0, "{process:?}");
    }

    #[test]
    fn names_with_brackets_do_not_shift_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20";
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(stat_field(stat, 14), Some(11));
        assert_eq!(stat_field(stat, 2), None);
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn unlimited_and_missing_values_are_none() {
        assert_eq!(line_value("Max open files   unlimited  unlimited files", "Max open files"), None);
        assert_eq!(line_value("VmRSS:\t  120 kB\n", "VmRSS:"), Some(120));
        assert_eq!(line_value("", "VmRSS:"), None);
    }
}
