//! What the kernel at hand can do of what the plane needs, found out by doing it: `throng doctor` shows it, and names all that
//! is missing where the start of a server ends at the first.
use super::RingOptions;
use super::buffers::Pool;
use super::setup::{self, FIRST, FURTHER, NEEDED, SetupError};
use crate::plane::host;

/// One thing that the plane needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// With the version of Linux that brought it.
    pub name: String,
    /// What went wrong.
    pub fault: Option<String>,
}

/// See `survey`.
#[derive(Debug, Default)]
pub struct Survey {
    /// In the order in which they were tried; without those that rest on one that failed.
    pub features: Vec<Feature>,
    /// Why a server would not get its ring: the first fault.
    pub refusal: Option<SetupError>,
}

/// Makes one shard's rings, so many and its host's, with their flags and sizes, and gives them back. Call it in a thread of its own that ends soon: the
/// memory of the receive buffers stays mapped, as ever.
pub fn survey(options: &RingOptions, rings: u32) -> Survey {
    let mut survey = Survey::default();
    if let Err(error) = setup::check(options, crate::plane::os::nofile_limit()) {
        survey.refusal = Some(error);
    }
    let name = "a ring with COOP_TASKRUN, SINGLE_ISSUER, TASKRUN_FLAG and SUBMIT_ALL (6.0)";
    let Some(ring) = survey.note(name, setup::bare(&FIRST)) else { return survey };
    if let Some(supported) = survey.note("asking what it can do (5.6)", setup::supported(&ring)) {
        for (needed, is_there) in NEEDED.iter().zip(supported) {
            survey.note(needed.name, if is_there { Ok(()) } else { Err(SetupError::KernelTooOld(needed.name)) });
        }
    }
    survey.note(&format!("a table of {} connections (5.19)", options.slots), setup::table(&ring, options.slots));
    let buffers = Pool::register(&ring, options.buffers as u16, options.buffer_bytes);
    survey.note(&format!("a ring of {} receive buffers (5.19)", options.buffers), buffers);
    if rings > 1 {
        let further: Result<Vec<_>, _> = (1..rings).map(|_| setup::build(&options.further(rings), &FURTHER)).collect();
        survey.note(&format!("{} further rings beside it", rings - 1), further);
    }
    survey.note("the ring of the thread's runtime", host::runtime());
    survey
}

impl Survey {
    fn note<T>(&mut self, name: &str, result: Result<T, SetupError>) -> Option<T> {
        let (value, fault) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        self.features.push(Feature { name: name.into(), fault: fault.as_ref().map(ToString::to_string) });
        self.refusal = self.refusal.take().or(fault);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: RingOptions = RingOptions { slots: 8, buffers: 8, buffer_bytes: 2_048 };

    #[test]
    fn a_machine_that_runs_these_tests_has_all() {
        let survey = std::thread::spawn(|| survey(&OPTIONS, 3)).join().expect("a thread");
        assert!(survey.refusal.is_none(), "{survey:?}");
        assert_eq!(survey.features.len(), NEEDED.len() + 6);
        assert!(survey.features.iter().all(|feature| feature.fault.is_none()), "{survey:?}");
    }

    #[test]
    fn the_first_fault_is_the_refusal_and_the_rest_is_tried_still() {
        let mut survey = Survey::default();
        survey.note("a", Ok(()));
        survey.note::<()>("b", Err(SetupError::KernelTooOld("B")));
        survey.note::<()>("c", Err(SetupError::KernelTooOld("C")));
        assert!(matches!(survey.refusal, Some(SetupError::KernelTooOld("B"))));
        assert_eq!(survey.features.iter().filter(|feature| feature.fault.is_some()).count(), 2);
    }

    #[test]
    fn a_table_beyond_the_limit_is_refused_before_anything() {
        let too_many = RingOptions { slots: u32::MAX, ..OPTIONS };
        let survey = std::thread::spawn(move || survey(&too_many, 1)).join().expect("a thread");
        assert!(matches!(survey.refusal, Some(SetupError::TableTooLarge { .. })), "{survey:?}");
    }
}
