//! From samples to the table.
use crate::measure::{Memory, Sample};
use crate::peers::Peer;
use crate::workload::{Kind, Workload};

/// Samples of one workload, by round; a round has one sample of each peer.
pub struct Series {
    pub workload: Workload,
    rounds: Vec<Vec<(Peer, Sample)>>,
}

impl Series {
    pub fn new(workload: Workload) -> Series {
        Series { workload, rounds: Vec::new() }
    }

    pub fn push(&mut self, round: usize, peer: Peer, sample: Sample) {
        self.rounds.resize_with(self.rounds.len().max(round + 1), Vec::new);
        self.rounds[round].push((peer, sample));
    }

    fn of(&self, peer: Peer) -> Vec<&Sample> {
        self.rounds.iter().flatten().filter(|(whose, _)| *whose == peer).map(|(_, sample)| sample).collect()
    }

    /// Ratio of a peer's CPU to another's, round by round: what disturbs a round disturbs both.
    fn ratios(&self, peer: Peer, to: Peer) -> Vec<f64> {
        let in_round = |round: &Vec<(Peer, Sample)>, whose: Peer| {
            round.iter().find(|(peer, _)| *peer == whose).map(|(_, sample)| sample.cpu_us)
        };
        self.rounds.iter().filter_map(|round| Some(in_round(round, peer)? / in_round(round, to)?)).collect()
    }

    pub fn print(&self) {
        let unit = match self.workload.kind {
            Kind::Echo => "message",
            Kind::Fanout => "delivery",
            Kind::Chat | Kind::Idle => "acked message",
        };
        println!("\n{}: {}; unit: {unit}", self.workload.name, self.workload.about);
        println!(
            "  {:<7} {:>8} {:>15}  {:>17}  {:>17}  {:>9} {:>6} {:>6} {:>8} {:>6}  busiest server thread",
            "peer", "us CPU", "min-max", "x bun", "x floor", "per s", "core", "client", "per read", "bytes",
        );
        for peer in Peer::ALL {
            let samples = self.of(peer);
            let Some(last) = samples.last() else { continue };
            let all = |of: fn(&Sample) -> f64| samples.iter().map(|sample| of(sample)).collect::<Vec<f64>>();
            let cpu = all(|sample| sample.cpu_us);
            let (low, high) = spread(&cpu);
            println!(
                "  {:<7} {:>8.3} {:>15}  {:>17}  {:>17}  {:>9.0} {:>5.0}% {:>5.0}% {:>8.1} {:>6}  {} {:.0}%",
                peer.name(),
                median(&cpu),
                format!("{low:.3}-{high:.3}"),
                ratio(&self.ratios(peer, Peer::Bun)),
                ratio(&self.ratios(peer, Peer::Floor)),
                median(&all(|sample| sample.per_second)),
                100.0 * median(&all(|sample| sample.share)),
                100.0 * median(&all(|sample| sample.client_share)),
                median(&all(|sample| sample.per_read)),
                last.message_bytes,
                last.busiest.0,
                100.0 * last.busiest.1,
            );
        }
    }
}

pub fn print_memory(workload: &Workload, rounds: &[Memory]) {
    let resident: Vec<f64> = rounds.iter().map(|memory| memory.resident).collect();
    let kernel: Vec<f64> = rounds.iter().map(|memory| memory.kernel_pair).collect();
    println!("\n{}: {}; unit: connection", workload.name, workload.about);
    for (what, values) in
        [("server resident memory", resident), ("kernel slab, both ends of the loopback socket", kernel)]
    {
        let (low, high) = spread(&values);
        println!("  {what}: {:.0} bytes ({low:.0}-{high:.0})", median(&values));
    }
}

fn ratio(ratios: &[f64]) -> String {
    if ratios.is_empty() {
        return "-".into();
    }
    let (low, high) = spread(ratios);
    format!("{:.2} ({low:.2}-{high:.2})", median(ratios))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
}
