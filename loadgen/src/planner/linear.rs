//! Small dense least squares: at most ten columns, some dozen rows. Plain and non-negative, with standard errors.
//!
//! Own code, because it is short: the usual crates bring a linear algebra library of several hundred thousand lines for systems
//! of three to nine unknowns.

/// What [`non_negative`] found. Vectors have one entry per column of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// `None`: the rows do not tell it (see `unknown`).
    pub values: Vec<Option<f64>>,
    /// Covariance of the values, zero in rows and columns of what is unknown. `None`: no more rows than unknowns, so that
    /// nothing is left over to judge the fit by.
    pub covariance: Option<Vec<Vec<f64>>>,
    pub unknown: Vec<Option<Unknown>>,
    /// Sum of the squared residuals, in the units of the (weighted) right-hand side.
    pub residual_squares: f64,
    /// Rows less columns that could be told.
    pub freedom: usize,
}

/// Why a column has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No row has it.
    Absent,
    /// It is a combination of the columns before it.
    Dependent,
}

/// Columns whose part that is independent of those before is smaller than this (squared, relative) count as dependent: 0.3 % of
/// difference in a factor says nothing beside noise of a few percent.
const INDEPENDENT: f64 = 1e-5;

/// Least squares of `rows · x = right` with x ≥ 0, by Lawson and Hanson's active sets.
pub fn non_negative(rows: &[Vec<f64>], right: &[f64]) -> Solution {
    let columns = rows.first().map_or(0, Vec::len);
    let unknown = unknown_columns(rows, columns);
    let known: Vec<usize> = (0..columns).filter(|&column| unknown[column].is_none()).collect();
    // Columns are scaled to length 1: they differ by nine orders of magnitude.
    let scale: Vec<f64> = known.iter().map(|&c| rows.iter().map(|row| row[c] * row[c]).sum::<f64>().sqrt()).collect();
    let scaled: Vec<Vec<f64>> =
        rows.iter().map(|row| known.iter().zip(&scale).map(|(&c, s)| row[c] / s).collect()).collect();
    let (gram, product) = normal_equations(&scaled, right);
    let solution = active_sets(&gram, &product);

    let residual_squares: f64 = scaled.iter().zip(right).map(|(row, y)| (y - dot(row, &solution)).powi(2)).sum();
    let freedom = rows.len().saturating_sub(known.len());
    let variance = (freedom > 0).then(|| residual_squares / freedom as f64);
    // Of all known columns, also those that ended at zero: their distance from zero is as uncertain as the rest.
    let covariance = variance.zip(inverse(&gram)).map(|(variance, inverse)| {
        let mut whole = vec![vec![0.0; columns]; columns];
        for (i, &row) in known.iter().enumerate() {
            for (j, &column) in known.iter().enumerate() {
                whole[row][column] = variance * inverse[i][j] / (scale[i] * scale[j]);
            }
        }
        whole
    });
    let mut values = vec![None; columns];
    for (i, &column) in known.iter().enumerate() {
        values[column] = Some(solution[i] / scale[i]);
    }
    Solution { values, covariance, unknown, residual_squares, freedom }
}

/// Least squares without bounds; `None` if the columns are not independent.
pub fn ordinary(rows: &[Vec<f64>], right: &[f64]) -> Option<Vec<f64>> {
    let (gram, product) = normal_equations(rows, right);
    solve(&gram, &product)
}

/// x with `matrix · x = right`, by elimination with pivots; `None` if the matrix is singular.
pub fn solve(matrix: &[Vec<f64>], right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    let mut a: Vec<Vec<f64>> = matrix.iter().zip(right).map(|(row, y)| [&row[..], &[*y]].concat()).collect();
    let largest = matrix.iter().flatten().fold(0.0f64, |most, x| most.max(x.abs()));
    for step in 0..n {
        let pivot = (step..n).max_by(|&i, &j| a[i][step].abs().total_cmp(&a[j][step].abs()))?;
        if a[pivot][step].abs() <= largest * 1e-14 {
            return None;
        }
        a.swap(step, pivot);
        let top = a[step].clone();
        for row in &mut a[step + 1..] {
            let factor = row[step] / top[step];
            row.iter_mut().zip(&top).for_each(|(x, above)| *x -= factor * above);
        }
    }
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| a[i][j] * x[j]).sum();
        x[i] = (a[i][n] - known) / a[i][i];
    }
    Some(x)
}

/// `None` if the matrix is singular.
pub fn inverse(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let n = matrix.len();
    let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
    // Column by column; the matrices here are symmetric, so that columns and rows are the same.
    (0..n).map(|i| solve(matrix, &unit(i))).collect()
}

/// g · C · g: the variance of a linear function with gradient g.
pub fn variance_of(gradient: &[f64], covariance: &[Vec<f64>]) -> f64 {
    gradient.iter().zip(covariance).map(|(g, row)| g * dot(row, gradient)).sum::<f64>().max(0.0)
}

/// Student's t: two-sided 95 % quantile. Beyond 30 degrees of freedom the normal distribution's, less than 4 % too small.
pub fn t95(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    match freedom {
        0 => f64::INFINITY,
        _ => *TABLE.get(freedom - 1).unwrap_or(&1.960),
    }
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn normal_equations(rows: &[Vec<f64>], right: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let columns = rows.first().map_or(0, Vec::len);
    let gram = (0..columns).map(|i| (0..columns).map(|j| rows.iter().map(|row| row[i] * row[j]).sum()).collect());
    let product = (0..columns).map(|i| rows.iter().zip(right).map(|(row, y)| row[i] * y).sum());
    (gram.collect(), product.collect())
}

/// Gram and Schmidt, column after column: what has no part of its own is not known.
fn unknown_columns(rows: &[Vec<f64>], columns: usize) -> Vec<Option<Unknown>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    (0..columns)
        .map(|column| {
            let mut rest: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            let length = dot(&rest, &rest);
            if length == 0.0 {
                return Some(Unknown::Absent);
            }
            for direction in &basis {
                let along = dot(&rest, direction);
                rest.iter_mut().zip(direction).for_each(|(x, d)| *x -= along * d);
            }
            let own = dot(&rest, &rest);
            if own < INDEPENDENT * length {
                return Some(Unknown::Dependent);
            }
            basis.push(rest.iter().map(|x| x / own.sqrt()).collect());
            None
        })
        .collect()
}

fn active_sets(gram: &[Vec<f64>], product: &[f64]) -> Vec<f64> {
    let n = product.len();
    let mut x = vec![0.0; n];
    let mut is_free = vec![false; n];
    // Each round frees one column; the method ends, the bound only guards against rounding.
    for _ in 0..10 * n {
        let slope = |i: usize, x: &[f64]| product[i] - dot(&gram[i], x);
        let best = (0..n).filter(|&i| !is_free[i]).max_by(|&i, &j| slope(i, &x).total_cmp(&slope(j, &x)));
        let Some(best) = best.filter(|&i| slope(i, &x) > 1e-12 * product[i].abs().max(f64::MIN_POSITIVE)) else {
            break;
        };
        is_free[best] = true;
        loop {
            let free: Vec<usize> = (0..n).filter(|&i| is_free[i]).collect();
            let part: Vec<Vec<f64>> = free.iter().map(|&i| free.iter().map(|&j| gram[i][j]).collect()).collect();
            let right: Vec<f64> = free.iter().map(|&i| product[i]).collect();
            let Some(wanted) = solve(&part, &right) else {
                is_free[best] = false;
                break;
            };
            // As far towards the wanted values as none becomes negative.
            let step = free.iter().zip(&wanted).filter(|(_, w)| **w <= 0.0).map(|(&i, w)| x[i] / (x[i] - w));
            let step = step.fold(1.0, f64::min);
            for (&i, w) in free.iter().zip(&wanted) {
                x[i] += step * (w - x[i]);
                if *w <= 0.0 && x[i] <= 1e-14 {
                    (x[i], is_free[i]) = (0.0, false);
                }
            }
            if step >= 1.0 {
                break;
            }
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_found_with_the_errors_of_the_textbook() {
        // y = 1, 3, 2, 5 over x = 0, 1, 2, 3: slope 1.1, intercept 1.1; residuals -0.1, 0.8, -1.3, 0.6, squares 2.7, variance
        // 2.7 / 2 = 1.35; Sxx = 5, so the slope has the variance 1.35 / 5 = 0.27, the intercept 1.35 · 14 / (4 · 5) = 0.945.
        let rows: Vec<Vec<f64>> = (0..4).map(|x| vec![1.0, f64::from(x)]).collect();
        let solution = non_negative(&rows, &[1.0, 3.0, 2.0, 5.0]);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        near(solution.values[0].unwrap(), 1.1);
        near(solution.values[1].unwrap(), 1.1);
        near(solution.residual_squares, 2.7);
        let covariance = solution.covariance.unwrap();
        near(covariance[0][0], 0.945);
        near(covariance[1][1], 0.27);
    }

    #[test]
    fn what_the_rows_do_not_tell_stays_unknown() {
        // The second column is twice the first, the third is nowhere.
        let rows: Vec<Vec<f64>> = (1..6).map(|x| vec![f64::from(x), 2.0 * f64::from(x), 0.0]).collect();
        let solution = non_negative(&rows, &[3.0, 6.0, 9.0, 12.0, 15.0]);
        assert!((solution.values[0].unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(solution.values[1..], [None, None]);
        assert_eq!(solution.unknown, [None, Some(Unknown::Dependent), Some(Unknown::Absent)]);
    }

    #[test]
    fn a_column_that_wants_to_be_negative_is_zero() {
        let rows: Vec<Vec<f64>> = (0..5).map(|x| vec![1.0, f64::from(x)]).collect();
        let solution = non_negative(&rows, &[5.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!(solution.values[1], Some(0.0));
        assert!((solution.values[0].unwrap() - 3.0).abs() < 1e-9, "the mean is what remains");
    }

    proptest! {
        #[test]
        fn no_neighbour_is_better(
            rows in prop::collection::vec(prop::collection::vec(0.0f64..10.0, 4), 6..12),
            right in prop::collection::vec(-5.0f64..20.0, 12),
            nudge in prop::collection::vec(-0.01f64..0.01, 4),
        ) {
            let right = &right[..rows.len()];
            let solution = non_negative(&rows, right);
            prop_assume!(solution.values.iter().all(Option::is_some));
            let x: Vec<f64> = solution.values.iter().map(|value| value.unwrap()).collect();
            prop_assert!(x.iter().all(|value| *value >= 0.0));
            let squares = |x: &[f64]| -> f64 { rows.iter().zip(right).map(|(row, y)| (y - dot(row, x)).powi(2)).sum() };
            let other: Vec<f64> = x.iter().zip(&nudge).map(|(value, nudge)| (value + nudge).max(0.0)).collect();
            prop_assert!(squares(&x) <= squares(&other) + 1e-7);
        }
    }
}
