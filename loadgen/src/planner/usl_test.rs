//! The scalability fit against made-up curves, published series and what cannot be told.
use super::*;
use proptest::prelude::*;

fn places(points: &[(f64, f64)]) -> Vec<Place> {
    points.iter().map(|&(n, throughput)| Place { n, throughput }).collect()
}

fn made(parameters: [f64; 3], ns: &[f64]) -> Vec<Place> {
    ns.iter().map(|&n| Place { n, throughput: law(&parameters, n) }).collect()
}

#[track_caller]
fn near(measured: f64, expected: f64, share: f64) {
    assert!((measured - expected).abs() <= share * expected.abs(), "{measured} is not within {share} of {expected}");
}

proptest! {
    #[test]
    fn made_up_parameters_come_back(lambda in 1e2f64..1e7, sigma in 0.0f64..0.5, kappa in 0.0f64..0.01) {
        let usl = Usl::fit(&made([lambda, sigma, kappa], &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0])).unwrap();
        prop_assert!((usl.lambda / lambda - 1.0).abs() < 1e-6);
        prop_assert!((usl.sigma.unwrap() - sigma).abs() < 1e-6, "{usl:?}");
        prop_assert!((usl.kappa.unwrap() - kappa).abs() < 1e-7, "{usl:?}");
        prop_assert!(usl.r_squared.unwrap() > 1.0 - 1e-9);
    }
}

/// SPEC SDM91 on a Sun SPARCcenter 2000: Gunther, "Guerrilla Capacity Planning", chapter 5; figures of the fit, with their
/// standard errors, from the R package `usl` (its README: γ = λ, α = σ, β = κ; 82.8 on 4 degrees of freedom, peak 1884 at 96.52).
#[test]
fn the_spec_sdm91_benchmark_has_its_published_fit() {
    let points =
        [(1.0, 64.9), (18.0, 995.9), (36.0, 1652.4), (72.0, 1853.2), (108.0, 1828.9), (144.0, 1775.0), (216.0, 1702.2)];
    let usl = Usl::fit(&places(&points)).unwrap();
    near(usl.lambda, 89.9952330, 1e-5);
    near(usl.sigma.unwrap(), 0.0277285, 1e-5);
    near(usl.kappa.unwrap(), 0.0001044, 1e-3);
    near(usl.errors[0].unwrap(), 14.2134894, 1e-3);
    near(usl.errors[1].unwrap(), 0.0091217, 1e-3);
    near(usl.errors[2].unwrap(), 0.0000199, 1e-2);
    near(usl.residual_sd.unwrap(), 82.8, 1e-3);
    assert_eq!(usl.freedom, 4);
    near(usl.peak().unwrap(), 96.52, 1e-4);
    near(usl.at(usl.peak().unwrap()), 1884.0, 1e-3);
}

/// A Cisco router's benchmark: B. Schwartz, "Practical Scalability Analysis with the Universal Scalability Law" (2015), whose fit is
/// λ = 995.6486, σ = 0.02671591, κ = 0.0007690945, with the top of 12,341 at 35.
#[test]
fn the_router_of_practical_scalability_analysis_has_its_published_fit() {
    let throughputs = [
        955.16, 1878.91, 2688.01, 3548.68, 4315.54, 5130.43, 5931.37, 6531.08, 7219.8, 7867.61, 8278.71, 8646.7,
        9047.84, 9426.55, 9645.37, 9897.24, 10097.6, 10240.5, 10532.39, 10798.52, 11151.43, 11518.63, 11806.0,
        12089.37, 12075.41, 12177.29, 12211.41, 12158.93, 12155.27, 12118.04, 12140.4, 12074.39,
    ];
    let points: Vec<(f64, f64)> = throughputs.iter().enumerate().map(|(i, x)| (i as f64 + 1.0, *x)).collect();
    let usl = Usl::fit(&places(&points)).unwrap();
    near(usl.lambda, 995.6486, 2e-4);
    near(usl.sigma.unwrap(), 0.02671591, 2e-4);
    near(usl.kappa.unwrap(), 0.0007690945, 2e-4);
    assert_eq!(usl.peak().unwrap().floor(), 35.0);
    near(usl.at(35.0), 12341.0, 1e-3);
    // The band holds most of the points it was fitted to, and it widens outside.
    let near_margin = usl.effective_margin(16.0).unwrap();
    assert!(usl.effective_margin(128.0).unwrap() / usl.effective(128.0) > near_margin / usl.effective(16.0));
}

/// 232,888/s on 1 core, 3,232,227/s on 20: two points. σ = (20 · 232,888 / 3,232,227 − 1) / 19 = (1.4410374 − 1) / 19 = 0.0232125.
#[test]
fn two_points_tell_contention_alone() {
    let usl = Usl::fit(&places(&[(1.0, 232_888.0), (20.0, 3_232_227.0)])).unwrap();
    near(usl.lambda, 232_888.0, 1e-9);
    near(usl.sigma.unwrap(), 0.0232125, 1e-5);
    assert_eq!((usl.kappa, usl.peak(), usl.freedom), (None, None, 0));
    assert_eq!(usl.errors, [None; 3]);
    assert_eq!(usl.effective_margin(40.0), None);
    near(usl.effective(20.0), 13.8789, 1e-5);
    assert!(usl.notes[0].contains("cannot be told apart"), "{:?}", usl.notes);
}

#[test]
fn one_point_tells_no_scaling() {
    let usl = Usl::fit(&places(&[(2.0, 100.0), (2.0, 110.0)])).unwrap();
    near(usl.lambda, 52.5, 1e-9);
    assert_eq!((usl.sigma, usl.kappa), (None, None));
    near(usl.at(4.0), 210.0, 1e-9);
    assert!(usl.notes[0].contains("not known"), "{:?}", usl.notes);
}

#[test]
fn three_points_leave_nothing_to_judge_by() {
    let usl = Usl::fit(&made([100.0, 0.05, 0.001], &[1.0, 4.0, 16.0])).unwrap();
    near(usl.kappa.unwrap(), 0.001, 1e-6);
    assert_eq!((usl.errors, usl.residual_sd), ([None; 3], None));
    assert!(usl.notes[0].contains("no residual"));
}

/// X(N) = 100 for all N: full contention, 100·N / (1 + 1·(N − 1)) = 100.
#[test]
fn a_flat_series_is_full_contention() {
    let usl = Usl::fit(&places(&[(1.0, 100.0), (2.0, 100.0), (4.0, 100.0), (8.0, 100.0)])).unwrap();
    near(usl.sigma.unwrap(), 1.0, 1e-6);
    assert!(usl.kappa.unwrap() < 1e-6);
    assert_eq!(usl.r_squared, None);
    assert!(usl.notes.iter().any(|note| note.contains("bring nothing")), "{:?}", usl.notes);
}

#[test]
fn a_falling_series_has_its_peak_at_the_start() {
    let usl = Usl::fit(&places(&[(1.0, 100.0), (2.0, 80.0), (4.0, 50.0), (8.0, 25.0)])).unwrap();
    assert_eq!(usl.peak(), Some(1.0));
    assert!(usl.at(8.0) < usl.at(2.0));
}

/// Steeper than a line, as caches may make it: the law has no room for it and stays at the line.
#[test]
fn a_series_steeper_than_a_line_is_a_line() {
    let usl = Usl::fit(&places(&[(1.0, 100.0), (2.0, 210.0), (4.0, 430.0), (8.0, 900.0)])).unwrap();
    assert_eq!((usl.sigma, usl.kappa, usl.peak()), (Some(0.0), Some(0.0), None));
    assert!(usl.notes[0].contains("No contention"));
    assert!(usl.errors[2].is_some(), "how far from zero it may be is still told");
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(Usl::fit(&[]), Err(UslError::Empty));
    assert_eq!(Usl::fit(&places(&[(1.0, f64::NAN)])), Err(UslError::BadPoint));
    assert_eq!(Usl::fit(&places(&[(0.0, 1.0)])), Err(UslError::BadPoint));
}
