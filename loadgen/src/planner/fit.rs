//! Prices: a quantity as a sum of features times coefficients ≥ 0, fitted to measured rows, with what the rows do not tell.
use super::linear::{Unknown, non_negative, t95, variance_of};
use serde::{Deserialize, Serialize};

/// One price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coefficient {
    pub name: String,
    pub unit: String,
    /// `None`: the points do not tell it; it counts as 0, and `note` says why.
    pub value: Option<f64>,
    /// Standard error, from the residuals.
    pub error: Option<f64>,
    /// Points in which the feature occurs.
    pub points: usize,
    pub note: Option<String>,
}

/// All prices of one quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    pub coefficients: Vec<Coefficient>,
    pub covariance: Option<Vec<Vec<f64>>>,
    pub freedom: usize,
    /// Root mean square of the relative misses at the points fitted, and the worst of them.
    pub miss_share: f64,
    pub miss_share_max: f64,
}

/// Name and unit of a feature's coefficient.
pub type Feature = (&'static str, &'static str);

/// A prediction with its 95 % margin as far as the fit's own errors tell it; not in it: that the next machine is another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    pub margin: Option<f64>,
}

impl Prices {
    /// Least squares of relative misses. `small`: values below it count as if they were it, so that the smallest points, all noise,
    /// do not weigh most.
    pub fn fit(features: &[Feature], rows: &[Vec<f64>], measured: &[f64], small: f64) -> Prices {
        let weights: Vec<f64> = measured.iter().map(|value| 1.0 / value.max(small)).collect();
        let weighted: Vec<Vec<f64>> =
            rows.iter().zip(&weights).map(|(row, weight)| row.iter().map(|x| x * weight).collect()).collect();
        let right: Vec<f64> = measured.iter().zip(&weights).map(|(value, weight)| value * weight).collect();
        let solution = non_negative(&weighted, &right);
        let coefficient = |(i, &(name, unit)): (usize, &Feature)| {
            let value = solution.values.get(i).copied().flatten();
            let note = match (value, solution.unknown.get(i).copied().flatten()) {
                (_, Some(Unknown::Absent)) => Some("in none of the points: not known, left out".to_string()),
                (_, Some(Unknown::Dependent)) => {
                    Some("changes only together with others: is in their figures".to_string())
                }
                (Some(0.0), _) => Some("too small to be told from 0".to_string()),
                _ => None,
            };
            Coefficient {
                name: name.into(),
                unit: unit.into(),
                value,
                error: solution.covariance.as_ref().filter(|_| value.is_some()).map(|c| c[i][i].max(0.0).sqrt()),
                points: rows.iter().filter(|row| row[i] != 0.0).count(),
                note,
            }
        };
        let mut prices = Prices {
            coefficients: features.iter().enumerate().map(coefficient).collect(),
            covariance: solution.covariance.clone(),
            freedom: solution.freedom,
            miss_share: 0.0,
            miss_share_max: 0.0,
        };
        let misses: Vec<f64> = rows
            .iter()
            .zip(measured)
            .map(|(row, value)| (prices.at(row).value - value).abs() / value.max(small))
            .collect();
        prices.miss_share = (misses.iter().map(|miss| miss * miss).sum::<f64>() / misses.len().max(1) as f64).sqrt();
        prices.miss_share_max = misses.iter().copied().fold(0.0, f64::max);
        prices
    }

    pub fn at(&self, features: &[f64]) -> Estimate {
        let value = self.coefficients.iter().zip(features).map(|(price, x)| price.value.unwrap_or(0.0) * x).sum();
        let spread = self.covariance.as_ref().map(|covariance| variance_of(features, covariance).sqrt());
        Estimate { value, margin: spread.map(|spread| t95(self.freedom) * spread) }
    }

    /// The price of a feature; 0 if it is not known.
    pub fn price(&self, name: &str) -> f64 {
        self.find(name).and_then(|coefficient| coefficient.value).unwrap_or(0.0)
    }

    pub fn find(&self, name: &str) -> Option<&Coefficient> {
        self.coefficients.iter().find(|coefficient| coefficient.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = 2·a + 3·b at four points, exactly.
    #[test]
    fn exact_rows_give_their_prices_and_say_what_is_missing() {
        let rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 5.0, 0.0]].map(Vec::from);
        let prices = Prices::fit(&[("a", "x"), ("b", "x"), ("c", "x")], &rows, &[2.0, 3.0, 5.0, 19.0], 1.0);
        assert!((prices.price("a") - 2.0).abs() < 1e-9 && (prices.price("b") - 3.0).abs() < 1e-9);
        assert!(prices.miss_share_max < 1e-9);
        let missing = prices.find("c").unwrap();
        assert_eq!((missing.value, missing.points), (None, 0));
        assert!(missing.note.as_deref().unwrap().contains("not known"));
        assert!((prices.at(&[10.0, 1.0, 7.0]).value - 23.0).abs() < 1e-9);
    }

    #[test]
    fn margins_grow_away_from_the_points() {
        let rows: Vec<Vec<f64>> = (1..8).map(|x| vec![1.0, f64::from(x)]).collect();
        let measured = [11.0, 11.8, 13.1, 13.9, 15.2, 15.9, 17.0];
        let prices = Prices::fit(&[("base", "x"), ("each", "x")], &rows, &measured, 1.0);
        let (near, far) = (prices.at(&[1.0, 4.0]), prices.at(&[1.0, 400.0]));
        assert!(near.margin.unwrap() < 0.5 && far.margin.unwrap() > 4.0, "{near:?} {far:?}");
        assert!((far.value - 410.0).abs() < far.margin.unwrap());
    }
}
