//! Fewer points for the same picture: of each pixel column the first, lowest, highest and last.

/// Pixels of a line, broken into unbroken runs, with no more than four points per column of `column_px`. The highest and lowest
/// point of the whole always stay.
pub(super) fn decimate(points: &[(f64, f64)], column_px: f64) -> Vec<(f64, f64)> {
    let column = |point: &(f64, f64)| (point.0 / column_px).floor() as i64;
    let mut kept = Vec::with_capacity(points.len());
    for group in points.chunk_by(|a, b| column(a) == column(b)) {
        if group.len() <= 4 {
            kept.extend_from_slice(group);
            continue;
        }
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let place = |point: Option<&(f64, f64)>| group.iter().position(|other| Some(other) == point).unwrap_or(0);
        let mut places =
            [0, place(group.iter().min_by(by_height)), place(group.iter().max_by(by_height)), group.len() - 1];
        places.sort_unstable();
        let mut last = None;
        for place in places {
            if last != Some(place) {
                kept.push(group[place]);
            }
            last = Some(place);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn extremes_and_ends_stay(heights in prop::collection::vec(0.0..1000.0f64, 1..4000)) {
            let width = 700.0;
            let points: Vec<_> = heights.iter().enumerate().map(|(at, &y)| (at as f64 * width / heights.len() as f64, y)).collect();
            let kept = decimate(&points, 2.0);
            prop_assert!(kept.len() <= 4 * 351);
            prop_assert!(kept.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            let extremes = |points: &[(f64, f64)]| {
                points.iter().fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.1), high.max(point.1)))
            };
            prop_assert_eq!(extremes(&kept), extremes(&points));
            prop_assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[points.len() - 1]));
        }
    }
}
