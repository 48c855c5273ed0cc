//! The whole procedure of `capacity`: idle points, knees, points for the prices, the fit, and its validation. It measures through
//! a closure and so knows no server, clock or socket.
use super::grid::{Grid, Load, VALIDATION_SHARES};
use super::knee::{Attempt, Knee, Search, Step};
use super::model::{Ceiling, Model, ModelError};
use super::usl::Place;
use super::work::{MeasuredPoint, Work};
use crate::result::{Machine, Outcome, RunResult};
use crate::scenario::Scenario;

/// Runs a scenario against a server with so many shards.
pub type Measure<'a> = dyn FnMut(&Scenario, u32) -> Result<RunResult, String> + 'a;

/// What was found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    pub model: Model,
    /// Deliveries per second at saturation, by shards.
    pub knees: Vec<(u32, Knee)>,
    pub durable_knee: Option<Knee>,
    /// Runs that told nothing, and why.
    pub skipped: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    #[error("{0}")]
    Grid(String),
    #[error("no load held at all with {shards} shard(s): {why}")]
    NothingHeld { shards: u32, why: String },
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Messages per second that the search for the durable knee begins with.
const DURABLE_START_PER_S: f64 = 500.0;

/// Measures, fits and, if asked to, validates. `say` is told each step in a line.
pub fn capacity(
    grid: &Grid,
    is_validated: bool,
    machine: Machine,
    measure: &mut Measure,
    say: &mut dyn FnMut(&str),
) -> Result<Capacity, CapacityError> {
    grid.check().map_err(CapacityError::Grid)?;
    let shards = grid.shards[0];
    let mut session = Session { grid, measure, say, points: Vec::new(), skipped: Vec::new(), server_version: None };

    for load in grid.idle() {
        let kind = if load.heartbeat_ms > 0 { "heartbeats" } else { "idle" };
        session.point(&format!("{kind}-{}", load.connections), &load, shards);
    }
    let mut knees = Vec::new();
    let mut saturated_cores = 0.0f64;
    for &shards in &grid.shards {
        let (knee, cores) =
            session
                .knee(&format!("live-{shards}"), shards, grid.start_per_s * f64::from(shards), |load| grid.base(load));
        if knee.load <= 0.0 {
            let why = session.skipped.last().cloned().unwrap_or_else(|| format!("{:?}", knee.why));
            return Err(CapacityError::NothingHeld { shards, why });
        }
        if shards == grid.shards[0] {
            saturated_cores = cores;
        }
        knees.push((shards, knee));
    }
    let knee_per_s = knees[0].1.load;
    for (i, load) in grid.live(knee_per_s).into_iter().chain(grid.gathered(knee_per_s)).enumerate() {
        session.point(&format!("prices-{}-{}-{i}", load.payload_bytes, load.rooms_of), &load, shards);
    }
    let durable_knee = grid.is_durable.then(|| {
        let (knee, _) = session.knee("durable", shards, DURABLE_START_PER_S, |load| grid.durable(load));
        knee
    });

    let places: Vec<Place> =
        knees.iter().map(|(shards, knee)| Place { n: f64::from(*shards), throughput: knee.load }).collect();
    let ceiling = durable_knee.filter(|knee| knee.load > 0.0);
    let ceiling = ceiling.map(|knee| Ceiling { per_s: knee.load, is_knee: knee.is_servers() });
    let mut model = Model::fit(&session.points, &places, ceiling, machine)?;
    model.server_version = session.server_version.clone();
    for (shards, knee) in knees.iter().filter(|(_, knee)| !knee.is_servers()) {
        model.notes.push(format!(
            "With {shards} shard(s) the server's limit was not reached ({:?}): its throughput there is a lower bound, and so is what follows from it.",
            knee.why
        ));
    }
    if is_validated {
        validate(&mut session, &mut model, shards, saturated_cores);
    }
    Ok(Capacity { model, knees, durable_knee, skipped: session.skipped })
}

/// Predicts points that were not fitted, at shares of saturation, and then measures them.
fn validate(session: &mut Session, model: &mut Model, shards: u32, saturated_cores: f64) {
    let unseen = session.grid.unseen();
    for share in VALIDATION_SHARES {
        let load = unseen.scaled(load_factor(session.grid, model, &unseen, shards, share * saturated_cores));
        let name = format!("unseen-{:.0}%", share * 100.0);
        let Some(point) = session.measure(&name, &load, shards) else { continue };
        let compared = model.compare(&point, saturated_cores);
        (session.say)(&format!(
            "  predicted {:.2} cores, measured {:.2} ({:+.1} %)",
            compared.cpu_predicted,
            compared.cpu_measured,
            100.0 * compared.cpu_miss()
        ));
        model.validation.push(compared);
    }
}

/// How much of a mixture makes the model expect so many cores in use.
fn load_factor(grid: &Grid, model: &Model, load: &Load, shards: u32, cores: f64) -> f64 {
    let expected = |factor: f64| {
        let work = Work::offered(&grid.scenario("", &load.scaled(factor), shards), shards);
        model.predict(&work).cpu_cores.value
    };
    let (mut low, mut high) = (0.0, 1.0);
    while expected(high) < cores && high < 1e12 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if expected(middle) < cores { low = middle } else { high = middle }
    }
    low
}

struct Session<'a, 'b> {
    grid: &'a Grid,
    measure: &'a mut Measure<'b>,
    say: &'a mut dyn FnMut(&str),
    points: Vec<MeasuredPoint>,
    skipped: Vec<String>,
    server_version: Option<String>,
}

impl Session<'_, '_> {
    /// Measures a load for the fit.
    fn point(&mut self, name: &str, load: &Load, shards: u32) {
        let point = self.measure(name, load, shards);
        self.points.extend(point);
    }

    fn measure(&mut self, name: &str, load: &Load, shards: u32) -> Option<MeasuredPoint> {
        let result = self.run(name, load, shards)?;
        match MeasuredPoint::from_result(&result) {
            Ok(point) => Some(point),
            Err(why) => self.skip(name, why),
        }
    }

    fn run(&mut self, name: &str, load: &Load, shards: u32) -> Option<RunResult> {
        let scenario = self.grid.scenario(name, load, shards);
        let work = Work::offered(&scenario, shards);
        (self.say)(&format!(
            "{name}: {} connections, {:.0} deliveries/s, {:.0} durable/s",
            load.connections, work.deliveries_per_s, work.durable_per_s
        ));
        match (self.measure)(&scenario, shards) {
            Ok(result) => {
                self.server_version = result.server.version.clone().or(self.server_version.take());
                Some(result)
            }
            Err(why) => self.skip(name, why),
        }
    }

    fn skip<T>(&mut self, name: &str, why: String) -> Option<T> {
        (self.say)(&format!("  left out: {why}"));
        self.skipped.push(format!("{name}: {why}"));
        None
    }

    /// Searches saturation, and keeps what was measured on the way. Second: cores in use at the largest load that held.
    fn knee(&mut self, name: &str, shards: u32, start: f64, load: impl Fn(f64) -> Load) -> (Knee, f64) {
        let search = Search::new(start, (self.grid.p99_max_ms * 1e6) as u64);
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut used: Vec<(f64, f64)> = Vec::new();
        loop {
            let amount = match search.next_step(&attempts) {
                Step::Try(amount) => amount,
                Step::Done(knee) => {
                    let cores =
                        used.iter().filter(|(load, _)| *load == knee.load).map(|(_, cores)| *cores).fold(0.0, f64::max);
                    (self.say)(&format!("{name}: {:.0}/s held ({:?}), {cores:.2} cores", knee.load, knee.why));
                    return (knee, cores);
                }
            };
            let label = format!("{name}-try-{}", attempts.len() + 1);
            let result = self.run(&label, &load(amount), shards);
            let point = result.as_ref().map(MeasuredPoint::from_result);
            let is_valid = result.as_ref().is_some_and(|result| result.verdict.outcome != Outcome::Invalid);
            let (achieved, p99_ns, is_sound) = match &point {
                Some(Ok(point)) => {
                    (point.achieved.min(acked_share(point, &load(amount))), point.p99_ns, point.is_sound)
                }
                _ => (0.0, None, false),
            };
            attempts.push(Attempt { load: amount, achieved, p99_ns, is_sound, is_valid });
            match point {
                Some(Ok(point)) => {
                    used.push((amount, point.cpu_cores));
                    self.points.push(point);
                }
                Some(Err(why)) => drop(self.skip::<()>(&label, why)),
                None => {}
            }
        }
    }
}

/// Acked of the durable messages asked for: a full queue shows there before it shows in deliveries.
fn acked_share(point: &MeasuredPoint, load: &Load) -> f64 {
    if load.durable_per_s > 0.0 { point.work.durable_per_s / load.durable_per_s } else { 1.0 }
}

#[cfg(test)]
#[path = "capacity_test.rs"]
mod tests;
