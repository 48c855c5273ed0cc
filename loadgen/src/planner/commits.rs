//! How far durable messages share commits.
//!
//! The writer takes all that waits into one transaction and syncs it. A commit is the dear part of a durable message, and each takes
//! some time in which further messages gather: at r messages per second the next begins when the last is over and one has come, so
//! that there are 1 / (1/r + T) of them. T is fitted to what the server counted.
use super::work::{MeasuredPoint, Work};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitLaw {
    /// T: from the first message of a commit to the next commit, if one follows the other.
    pub seconds: f64,
    /// Points it is the median of.
    pub points: usize,
}

impl CommitLaw {
    /// `None`: no point with durable messages knows its commits.
    pub fn fit(points: &[MeasuredPoint]) -> Option<CommitLaw> {
        let of = |point: &MeasuredPoint| {
            let commits_per_s = point.commits_per_s.filter(|commits| *commits > 0.0)?;
            let rate = point.work.durable_per_s;
            (rate > 0.0).then(|| (1.0 / commits_per_s - 1.0 / rate).max(0.0))
        };
        let mut seconds: Vec<f64> = points.iter().filter_map(of).collect();
        seconds.sort_by(f64::total_cmp);
        Some(CommitLaw { seconds: *seconds.get(seconds.len() / 2)?, points: seconds.len() })
    }

    pub fn commits_per_s(&self, work: &Work) -> f64 {
        work.durable_per_s / (1.0 + work.durable_per_s * self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(durable_per_s: f64, commits_per_s: Option<f64>) -> MeasuredPoint {
        MeasuredPoint { work: Work { durable_per_s, ..Work::default() }, commits_per_s, ..MeasuredPoint::default() }
    }

    /// With a millisecond: of 100 a second nearly each has its own, 100 / 1.1; 9,000 a second share 900, 9,000 / 10.
    #[test]
    fn few_commit_alone_and_many_together() {
        let law = CommitLaw { seconds: 0.001, points: 1 };
        let commits = |durable_per_s| law.commits_per_s(&Work { durable_per_s, ..Work::default() });
        assert!((commits(100.0) - 90.909).abs() < 0.001 && (commits(9_000.0) - 900.0).abs() < 1e-9);
        assert_eq!(commits(0.0), 0.0);
        let points =
            [point(0.0, Some(0.0)), point(100.0, Some(90.909_090_9)), point(9_000.0, Some(900.0)), point(50.0, None)];
        let found = CommitLaw::fit(&points).unwrap();
        assert!((found.seconds - 0.001).abs() < 1e-9 && found.points == 2);
        assert_eq!(CommitLaw::fit(&points[3..]), None);
        // More commits than messages, by how the two were cut to the window: each has its own.
        assert_eq!(CommitLaw::fit(&[point(10.0, Some(11.0))]).unwrap().seconds, 0.0);
    }
}
