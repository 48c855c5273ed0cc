//! The Universal Scalability Law: how much more N cores (shards) do than one.
//!
//! X(N) = λN / (1 + σ(N − 1) + κN(N − 1)), with λ the throughput of one, σ the share of work that queues for something common
//! (contention), κ the price of keeping each pair consistent (coherency). N. J. Gunther, "Guerrilla Capacity Planning" (2007),
//! chapters 4 to 6. The fit is least squares in X with σ, κ ≥ 0, by Gauss and Newton's steps, damped as Levenberg and Marquardt do.
//!
//! Three numbers need at least three places to be told: with one N only λ is known, with two only λ and σ. The fit says so
//! instead of guessing, and with three it has no residual left to judge itself by.
use super::linear::{non_negative, ordinary, solve, t95, variance_of};
use serde::{Deserialize, Serialize};

/// One measured place: throughput at its best with n shards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub n: f64,
    pub throughput: f64,
}

/// A fitted law.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usl {
    /// Throughput per shard of a single one.
    pub lambda: f64,
    /// Contention. `None`: one N alone does not tell it.
    pub sigma: Option<f64>,
    /// Coherency. `None`: fewer than three different N do not tell it beside σ.
    pub kappa: Option<f64>,
    /// Standard errors of λ, σ, κ; `None`: unknown, or no residual to take them from.
    pub errors: [Option<f64>; 3],
    /// Covariance of λ, σ, κ, with zeros for what is unknown.
    pub covariance: Option<Vec<Vec<f64>>>,
    /// Share of the variance of X that the law explains; `None` if all X are alike.
    pub r_squared: Option<f64>,
    /// Standard deviation of a point about the curve.
    pub residual_sd: Option<f64>,
    /// Points less parameters.
    pub freedom: usize,
    pub places: Vec<Place>,
    /// What a reader must know, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UslError {
    #[error("no point to fit a scalability curve to")]
    Empty,
    #[error("a point of a scalability curve needs N > 0 and a finite throughput > 0")]
    BadPoint,
}

impl Usl {
    /// Fits the law to what was measured. Any number of points is taken; `notes` say what they do not tell.
    pub fn fit(places: &[Place]) -> Result<Usl, UslError> {
        if places.is_empty() {
            return Err(UslError::Empty);
        }
        let is_good = |place: &Place| {
            place.n > 0.0 && place.n.is_finite() && place.throughput > 0.0 && place.throughput.is_finite()
        };
        if !places.iter().all(is_good) {
            return Err(UslError::BadPoint);
        }
        let mut places = places.to_vec();
        places.sort_by(|a, b| a.n.total_cmp(&b.n));
        let mut different: Vec<f64> = places.iter().map(|place| place.n).collect();
        different.dedup();
        let unknowns = different.len().min(3);

        let best = best_fit(&places, unknowns);
        let residual_squares = squares(&places, &best);
        let freedom = places.len() - unknowns;
        let covariance =
            (freedom > 0).then(|| covariance(&places, &best, unknowns, residual_squares / freedom as f64)).flatten();
        let error = |i: usize| covariance.as_ref().filter(|_| i < unknowns).map(|c| c[i][i].max(0.0).sqrt());
        let mean = places.iter().map(|place| place.throughput).sum::<f64>() / places.len() as f64;
        let spread: f64 = places.iter().map(|place| (place.throughput - mean).powi(2)).sum();

        let mut notes = Vec::new();
        match unknowns {
            1 => notes.push(format!(
                "Measured with {} shard(s) only: how throughput grows with more is not known; σ and κ cannot be told.",
                different[0]
            )),
            2 => notes.push("Measured with two shard counts only: σ and κ cannot be told apart; κ is left out.".into()),
            _ if freedom == 0 => {
                notes.push("Three points for three parameters: the fit has no residual to judge it by.".into())
            }
            _ => {}
        }
        if different.len() > 1 && best[1] == 0.0 && best[2] == 0.0 {
            let grows = places.last().map_or(1.0, |last| last.throughput / (best[0] * last.n));
            notes.push(format!(
                "No contention is visible: throughput grows in proportion to N ({:.0} % of it at the last point). \
                 The law allows nothing steeper.",
                100.0 * grows
            ));
        }
        if places.windows(2).all(|pair| pair[1].throughput <= pair[0].throughput) && different.len() > 1 {
            notes.push("Throughput does not rise with N at all: more shards bring nothing here.".into());
        }
        Ok(Usl {
            lambda: best[0],
            sigma: (unknowns > 1).then_some(best[1]),
            kappa: (unknowns > 2).then_some(best[2]),
            errors: [error(0), error(1), error(2)],
            covariance,
            r_squared: (spread > 1e-12 * mean * mean).then(|| 1.0 - residual_squares / spread),
            residual_sd: (freedom > 0).then(|| (residual_squares / freedom as f64).sqrt()),
            freedom,
            places,
            notes,
        })
    }

    fn parameters(&self) -> [f64; 3] {
        [self.lambda, self.sigma.unwrap_or(0.0), self.kappa.unwrap_or(0.0)]
    }

    /// X(N). What is unknown counts as 0: without σ and κ this is the line.
    pub fn at(&self, n: f64) -> f64 {
        law(&self.parameters(), n)
    }

    /// N shards do the work of so many single ones: X(N)/λ.
    pub fn effective(&self, n: f64) -> f64 {
        self.at(n) / self.lambda
    }

    /// Half the width of the 95 % confidence band of `effective`, by the errors of σ and κ. `None`: not known.
    pub fn effective_margin(&self, n: f64) -> Option<f64> {
        let covariance = self.covariance.as_ref()?;
        let parameters = self.parameters();
        let mut gradient = gradient(&parameters, n).map(|slope| slope / self.lambda);
        gradient[0] = 0.0;
        (self.kappa.is_some()).then(|| t95(self.freedom) * variance_of(&gradient, covariance).sqrt())
    }

    /// N* = √((1 − σ)/κ): from there on more shards do less. `None`: the curve has no top (κ = 0 or unknown).
    pub fn peak(&self) -> Option<f64> {
        let (sigma, kappa) = (self.sigma?, self.kappa?);
        (kappa > 0.0).then(|| ((1.0 - sigma).max(0.0) / kappa).sqrt().max(1.0))
    }

    /// Smallest and largest N that was measured.
    pub fn measured(&self) -> (f64, f64) {
        (self.places[0].n, self.places[self.places.len() - 1].n)
    }
}

fn law(&[lambda, sigma, kappa]: &[f64; 3], n: f64) -> f64 {
    lambda * n / (1.0 + sigma * (n - 1.0) + kappa * n * (n - 1.0))
}

fn gradient(parameters: &[f64; 3], n: f64) -> [f64; 3] {
    let x = law(parameters, n);
    let divisor = parameters[0] * n / x;
    [x / parameters[0], -x * (n - 1.0) / divisor, -x * n * (n - 1.0) / divisor]
}

fn squares(places: &[Place], parameters: &[f64; 3]) -> f64 {
    places.iter().map(|place| (place.throughput - law(parameters, place.n)).powi(2)).sum()
}

/// The best over all ways of holding σ and κ at zero; that is the constrained optimum, as each bound either binds or does not.
fn best_fit(places: &[Place], unknowns: usize) -> [f64; 3] {
    let free_sets: &[&[usize]] = match unknowns {
        1 => &[&[0]],
        2 => &[&[0], &[0, 1]],
        _ => &[&[0], &[0, 1], &[0, 2], &[0, 1, 2]],
    };
    let fits = free_sets.iter().filter_map(|free| refine(places, free)).filter(|fit| fit[1] >= 0.0 && fit[2] >= 0.0);
    // The line through the origin is always there: λ = ΣXN/ΣN² > 0. Simpler sets come first, so that ties go to them.
    fits.fold(None, |best: Option<[f64; 3]>, fit| match best {
        Some(best) if squares(places, &best) <= squares(places, &fit) * (1.0 + 1e-12) => Some(best),
        _ => Some(fit),
    })
    .unwrap_or([places[0].throughput / places[0].n, 0.0, 0.0])
}

/// Levenberg and Marquardt over the parameters in `free`, the others at zero.
fn refine(places: &[Place], free: &[usize]) -> Option<[f64; 3]> {
    let mut best = begin(places, free)?;
    let mut left = squares(places, &best);
    let mut damping = 1e-3;
    for _ in 0..500 {
        let slopes: Vec<[f64; 3]> = places.iter().map(|place| gradient(&best, place.n)).collect();
        let misses: Vec<f64> = places.iter().map(|place| place.throughput - law(&best, place.n)).collect();
        let product: Vec<f64> =
            free.iter().map(|&i| slopes.iter().zip(&misses).map(|(s, miss)| s[i] * miss).sum()).collect();
        let gram = |i: usize, j: usize| slopes.iter().map(|s| s[i] * s[j]).sum::<f64>();
        let damped: Vec<Vec<f64>> = free
            .iter()
            .map(|&i| free.iter().map(|&j| gram(i, j) * if i == j { 1.0 + damping } else { 1.0 }).collect())
            .collect();
        let Some(step) = scaled_solve(&damped, &product) else { break };
        let mut next = best;
        free.iter().zip(&step).for_each(|(&i, by)| next[i] += by);
        let now = squares(places, &next);
        if next[0] > 0.0 && now.is_finite() && now <= left {
            let is_settled = free.iter().zip(&step).all(|(&i, by)| by.abs() <= 1e-13 * best[i].abs());
            (best, left, damping) = (next, now, (damping / 10.0).max(1e-12));
            if is_settled {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    Some(best)
}

/// A first guess from the linear form N/X = 1/λ + σ/λ·(N − 1) + κ/λ·N(N − 1), weighted so that misses count about as in X.
fn begin(places: &[Place], free: &[usize]) -> Option<[f64; 3]> {
    let weight = |place: &Place| place.throughput * place.throughput / place.n;
    let row = |place: &Place| {
        let terms = [1.0, place.n - 1.0, place.n * (place.n - 1.0)];
        free.iter().map(|&i| weight(place) * terms[i]).collect::<Vec<f64>>()
    };
    let rows: Vec<Vec<f64>> = places.iter().map(row).collect();
    let right: Vec<f64> = places.iter().map(|place| weight(place) * place.n / place.throughput).collect();
    let terms = ordinary(&rows, &right).filter(|terms| terms[0] > 0.0);
    let terms = terms.or_else(|| non_negative(&rows, &right).values.into_iter().collect::<Option<Vec<f64>>>())?;
    let first = terms[0].max(1e-9 * terms.iter().sum::<f64>());
    let mut parameters = [1.0 / first, 0.0, 0.0];
    for (&i, term) in free.iter().zip(&terms).skip(1) {
        parameters[i] = term / first;
    }
    Some(parameters)
}

/// Solves symmetric equations of very different scales.
fn scaled_solve(matrix: &[Vec<f64>], right: &[f64]) -> Option<Vec<f64>> {
    let scale: Vec<f64> = (0..right.len()).map(|i| matrix[i][i].sqrt()).collect();
    if scale.iter().any(|s| *s == 0.0 || !s.is_finite()) {
        return None;
    }
    let scaled: Vec<Vec<f64>> =
        (0..right.len()).map(|i| (0..right.len()).map(|j| matrix[i][j] / (scale[i] * scale[j])).collect()).collect();
    let right: Vec<f64> = right.iter().zip(&scale).map(|(x, s)| x / s).collect();
    Some(solve(&scaled, &right)?.iter().zip(&scale).map(|(x, s)| x / s).collect())
}

/// σ²(JᵀJ)⁻¹ over all parameters that can be told, also those that lie at zero.
fn covariance(places: &[Place], best: &[f64; 3], unknowns: usize, variance: f64) -> Option<Vec<Vec<f64>>> {
    let slopes: Vec<[f64; 3]> = places.iter().map(|place| gradient(best, place.n)).collect();
    let gram: Vec<Vec<f64>> =
        (0..unknowns).map(|i| (0..unknowns).map(|j| slopes.iter().map(|s| s[i] * s[j]).sum()).collect()).collect();
    let mut whole = vec![vec![0.0; 3]; 3];
    for (i, line) in whole.iter_mut().enumerate().take(unknowns) {
        let unit: Vec<f64> = (0..unknowns).map(|j| f64::from(u8::from(i == j))).collect();
        // The inverse of a symmetric matrix is symmetric: its columns are its rows.
        let inverse = scaled_solve(&gram, &unit)?;
        line.iter_mut().zip(inverse).for_each(|(entry, value)| *entry = variance * value);
    }
    Some(whole)
}

#[cfg(test)]
#[path = "usl_test.rs"]
mod tests;
