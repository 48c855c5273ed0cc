//! Which cores are the server's and which the client's. Sharing them would make each one's queue the other's latency.
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores by number; empty: not bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    pub server: Vec<u32>,
    pub client: Vec<u32>,
}

impl Cores {
    /// The first half of what this process may use for the server, the rest for the client; with one core nothing is bound.
    pub fn halves() -> Cores {
        Cores::split(&available())
    }

    /// Both chosen by the user, as `0-3,8:4-7` or `none`.
    pub fn parse(text: &str) -> Result<Cores, String> {
        if text == "none" {
            return Ok(Cores::default());
        }
        let (server, client) = text
            .split_once(':')
            .ok_or_else(|| format!("{text:?} is not SERVER:CLIENT, for example 0-3:4-7, or none"))?;
        let cores = Cores { server: parse_list(server)?, client: parse_list(client)? };
        let here = available();
        match cores.server.iter().chain(&cores.client).find(|core| !here.contains(core)) {
            Some(core) => Err(format!("core {core} is not among those this process may use: {}", show(&here))),
            None => Ok(cores),
        }
    }

    fn split(available: &[u32]) -> Cores {
        if available.len() < 2 {
            return Cores::default();
        }
        let (server, client) = available.split_at(available.len() / 2);
        Cores { server: server.to_vec(), client: client.to_vec() }
    }
}

/// Cores that this thread may run on.
pub fn available() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).map(|core| core as u32).collect()
}

/// Cores that a process (its main thread) may run on; empty if it cannot be told.
pub fn of_process(pid: u32) -> Vec<u32> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(Ok(set)) = pid.map(|pid| sched_getaffinity(Some(pid))) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).map(|core| core as u32).collect()
}

/// Binds this thread, and what it starts from now on, to cores. Nothing for an empty list.
pub fn bind(cores: &[u32]) -> Result<(), String> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for core in cores {
        if *core as usize >= CpuSet::MAX_CPU {
            return Err(format!("there is no core {core}"));
        }
        set.set(*core as usize);
    }
    sched_setaffinity(None, &set).map_err(|error| format!("cores {}: {error}", show(cores)))
}

/// As in `taskset -c`: `0-3,8`.
fn parse_list(text: &str) -> Result<Vec<u32>, String> {
    let wrong = || format!("{text:?} is not a list of cores, for example 0-3,8");
    let mut cores = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last as usize >= CpuSet::MAX_CPU {
            return Err(wrong());
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

fn show(cores: &[u32]) -> String {
    cores.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_never_overlap() {
        assert_eq!(Cores::split(&[3]), Cores::default());
        assert_eq!(Cores::split(&[0, 1]), Cores { server: vec![0], client: vec![1] });
        assert_eq!(Cores::split(&[0, 1, 2, 5, 7]), Cores { server: vec![0, 1], client: vec![2, 5, 7] });
    }

    #[test]
    fn lists_are_those_of_taskset() {
        assert_eq!(parse_list("0-2,7,1"), Ok(vec![0, 1, 2, 7]));
        assert_eq!(parse_list(""), Ok(vec![]));
        for wrong in ["a", "3-1", "1-", "0-4000000000"] {
            assert!(parse_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_choice_names_both_sides() {
        assert_eq!(Cores::parse("none"), Ok(Cores::default()));
        assert!(Cores::parse("0").unwrap_err().contains("SERVER:CLIENT"));
        let own = available()[0];
        assert_eq!(Cores::parse(&format!("{own}:")), Ok(Cores { server: vec![own], client: vec![] }));
        assert!(Cores::parse("1023:").unwrap_err().contains("may use"));
    }

    #[test]
    fn a_bound_thread_stays_on_its_core() {
        let core = available()[0];
        let bound = std::thread::spawn(move || bind(&[core]).map(|()| available())).join().unwrap();
        assert_eq!(bound, Ok(vec![core]));
        assert!(of_process(std::process::id()).contains(&core));
    }
}
