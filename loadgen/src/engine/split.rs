//! Clients over workers: contiguous parts that cut as few rooms as possible, so that a room's messages stay in one thread; and the
//! rings of a worker, as many as its clients need rows.
use super::EngineError;
use crate::scenario::Scenario;
use std::ops::Range;
use throng::limits::{RINGS_MAX, TABLE_ROWS_MAX};
use throng::plane::RingOptions;

/// Descriptors that a worker needs besides its tables: rings, doorbell, a socket on its way into a table, the close.
const RESERVE: u64 = 64;

/// Rows that a ring's table can have.
fn rows_max() -> u32 {
    throng::plane::os::nofile_limit().saturating_sub(RESERVE).clamp(1, TABLE_ROWS_MAX.into()) as u32
}

/// The rings of a worker with so many clients: what each is made with, and how many.
pub fn rings(clients: u32, buffers: u32) -> (RingOptions, u32) {
    let (rows, rings) = spread(clients, rows_max());
    (RingOptions { slots: rows, buffers, buffer_bytes: 4_096 }, rings)
}

/// Rows of a ring and the number of rings. Some rows are spare: a client may come back before its old row is free.
fn spread(clients: u32, rows_max: u32) -> (u32, u32) {
    let rows = u64::from(clients) + u64::from(clients) / 8 + 64;
    let rings = rows.div_ceil(rows_max.into());
    (rows.div_ceil(rings) as u32, rings as u32)
}

/// Clients that one worker can hold, at most.
fn per_worker() -> u32 {
    let rows = u64::from(rows_max()) * u64::from(RINGS_MAX);
    (rows.saturating_sub(64) * 8 / 9).clamp(1, u32::MAX.into()) as u32
}

/// The clients of each worker. `workers`: as asked for; otherwise one per core.
pub fn parts(scenario: &Scenario, workers: Option<u32>, cores: usize) -> Result<Vec<Range<u32>>, EngineError> {
    let available = std::thread::available_parallelism().map_or(1, |count| count.get());
    let cores = if cores == 0 { available } else { cores } as u32;
    split(scenario, workers, cores, per_worker())
}

fn split(
    scenario: &Scenario,
    workers: Option<u32>,
    cores: u32,
    per_worker: u32,
) -> Result<Vec<Range<u32>>, EngineError> {
    let all = scenario.connections;
    if all == 0 {
        return Err(EngineError::Usage("the scenario has no connections".into()));
    }
    let needed = all.div_ceil(per_worker.max(1));
    if let Some(workers) = workers.filter(|workers| *workers < needed) {
        return Err(EngineError::Usage(format!(
            "{workers} workers hold at most {} connections: {RINGS_MAX} rings each, whose tables have at most RLIMIT_NOFILE rows. {needed} workers would do",
            u64::from(workers) * u64::from(per_worker)
        )));
    }
    let workers = workers.unwrap_or(cores.max(needed)).clamp(1, all);
    // The largest rooms of which there is one for each worker, so that parts can be of whole ones.
    let share = all.div_ceil(workers);
    let members = (0..scenario.layers.len()).map(|layer| scenario.members(layer));
    let whole = members.filter(|&members| members > 0 && all.div_ceil(members) >= workers).max();
    let step = whole.unwrap_or(1);
    let mut size = share.div_ceil(step) * step;
    if size > per_worker {
        size = (per_worker / step * step).max(1).min(per_worker);
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
    fn more_workers_only_where_their_rings_are_too_small() {
        let parts = split(&scenario(1_000_000, &[100]), None, 2, 17_700).expect("fits");
        assert!(parts.iter().all(|part| part.len() <= 17_700 && part.start % 100 == 0));
        assert_eq!(parts.len(), 57);
        assert!(split(&scenario(1_000_000, &[100]), Some(2), 2, 17_700).is_err());
        assert_eq!(split(&scenario(1_000, &[0]), Some(4), 2, 17_700).expect("fits").len(), 4);
        // 256 rings hold a million by far.
        let parts = split(&scenario(1_000_000, &[100]), None, 2, per_worker()).expect("fits");
        assert_eq!(parts, [0..500_000, 500_000..1_000_000]);
    }

    #[test]
    fn rings_hold_a_worker_s_clients_and_some_to_spare() {
        assert_eq!(spread(1, 19_936), (65, 1));
        assert_eq!(spread(17_664, 19_936), (19_936, 1));
        assert_eq!(spread(17_665, 19_936), (9_969, 2));
        // 562,564 rows in 29 rings.
        assert_eq!(spread(500_000, 19_936), (19_399, 29));
        assert_eq!(spread(500_000, 1 << 20), (562_564, 1));
        for clients in [1, 100, 17_665, 500_000, u32::MAX] {
            let (rows, rings) = spread(clients, 19_936);
            assert!(rows <= 19_936 && u64::from(rows) * u64::from(rings) >= u64::from(clients) + 64, "{clients}");
        }
    }
}
