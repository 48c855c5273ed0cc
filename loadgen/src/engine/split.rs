//! Clients over workers: contiguous parts that cut as few rooms as possible, so that a room's messages stay in one thread.
use super::EngineError;
use crate::scenario::Scenario;
use std::ops::Range;

/// Descriptors that a worker needs besides its table: ring, doorbell, a socket on its way into the table, the close.
const RESERVE: u64 = 64;

/// Clients that one ring can hold, at most: a table has RLIMIT_NOFILE rows, and one in nine is spare, for those that come back
/// before their old row is free.
fn per_ring() -> u32 {
    let rows = throng::plane::os::nofile_limit().saturating_sub(RESERVE).min(1 << 20);
    (rows * 8 / 9) as u32
}

/// The clients of each worker. `workers`: as asked for; otherwise one per core, and more where the rings are too small.
pub fn parts(scenario: &Scenario, workers: Option<u32>, cores: usize) -> Result<Vec<Range<u32>>, EngineError> {
    let available = std::thread::available_parallelism().map_or(1, |count| count.get());
    let cores = if cores == 0 { available } else { cores } as u32;
    split(scenario, workers, cores, per_ring())
}

fn split(scenario: &Scenario, workers: Option<u32>, cores: u32, per_ring: u32) -> Result<Vec<Range<u32>>, EngineError> {
    let all = scenario.connections;
    if all == 0 {
        return Err(EngineError::Usage("the scenario has no connections".into()));
    }
    let needed = all.div_ceil(per_ring.max(1));
    if let Some(workers) = workers.filter(|workers| *workers < needed) {
        return Err(EngineError::Usage(format!(
            "{workers} workers hold at most {} connections: a ring's table has at most RLIMIT_NOFILE rows. {needed} workers would do",
            u64::from(workers) * u64::from(per_ring)
        )));
    }
    let workers = workers.unwrap_or(cores.max(needed)).clamp(1, all);
    // The largest rooms that fit into a part whole.
    let share = all.div_ceil(workers);
    let whole =
        (0..scenario.layers.len()).map(|layer| scenario.members(layer)).filter(|members| *members <= share).max();
    let step = whole.unwrap_or(1);
    let mut size = share.div_ceil(step) * step;
    if size > per_ring {
        size = (per_ring / step * step).max(1).min(per_ring);
    }
    let starts = (0..all).step_by(size as usize);
    Ok(starts.map(|start| start..all.min(start.saturating_add(size))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(connections: u32, members: &[u32]) -> Scenario {
        let layers: String = members.iter().map(|m| format!("[[layer]]\nname = 'l{m}'\nmembers = {m}\n")).collect();
        let text = format!(
            "name = 'x'\nabout = 'y'\nconnections = {connections}\ntime = {{ warmup_s = 0, measure_s = 1 }}\n{layers}"
        );
        toml::from_str(&text).expect("a scenario")
    }

    #[test]
    fn parts_cover_all_and_keep_rooms_whole() {
        for (connections, members) in
            [(1_000, vec![100, 4]), (999, vec![100]), (50, vec![0]), (7, vec![]), (205, vec![100])]
        {
            let scenario = scenario(connections, &members);
            for cores in 1..4 {
                let parts = split(&scenario, None, cores, 20_000).expect("fits");
                assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, connections));
                assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(parts.len() <= cores as usize);
                if members.first() == Some(&100) {
                    assert!(parts.iter().all(|part| part.start % 100 == 0), "{parts:?}");
                }
            }
        }
    }

    #[test]
    fn more_rings_where_one_is_too_small() {
        let parts = split(&scenario(1_000_000, &[100]), None, 2, 17_700).expect("fits");
        assert!(parts.iter().all(|part| part.len() <= 17_700 && part.start % 100 == 0));
        assert_eq!(parts.len(), 57);
        assert!(split(&scenario(1_000_000, &[100]), Some(2), 2, 17_700).is_err());
        assert_eq!(split(&scenario(1_000, &[0]), Some(4), 2, 17_700).expect("fits").len(), 4);
    }
}
