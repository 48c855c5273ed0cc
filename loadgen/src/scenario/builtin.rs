//! The scenarios that come with the program, in the order in which they are best read. They are files like any other.

/// A scenario file in the binary.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    pub name: &'static str,
    /// The whole file, comments included: `throng-loadgen list NAME` prints it as a start for one's own.
    pub text: &'static str,
}

macro_rules! builtins {
    ($($name:literal)*) => {
        pub const BUILTINS: &[Builtin] =
            &[$(Builtin { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) }),*];
    };
}

builtins! {
    "idle" "storm" "echo" "fanout" "rooms" "chat" "battle-royale" "support-desk" "slow-readers" "churn" "polling-baseline"
    "million" "everyone"
}

/// The built-in scenario of that name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::figures::Figures;
    use crate::scenario::load::{self, Adjust};
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        let built_in: BTreeSet<String> = BUILTINS.iter().map(|builtin| format!("{}.toml", builtin.name)).collect();
        assert_eq!(files, built_in);
    }

    #[test]
    fn each_is_sound_and_named_like_its_file() {
        for builtin in BUILTINS {
            let scenario = load::load(builtin.name, &Adjust::default()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, builtin.name);
        }
    }

    /// What a delivery, a durable message and any other message cost a server at most on one core of a developer's machine, µs.
    const DELIVERY_US: f64 = 3.0;
    const DURABLE_US: f64 = 10.0;
    const MESSAGE_US: f64 = 6.0;

    #[test]
    fn the_defaults_fit_a_machine_with_two_cores() {
        for builtin in BUILTINS {
            let scenario = load::load(builtin.name, &Adjust::default()).expect("sound");
            let figures = Figures::of(&scenario);
            let others = figures.messages_per_s() - figures.durable_per_s;
            let busy_us =
                figures.deliveries_per_s * DELIVERY_US + figures.durable_per_s * DURABLE_US + others * MESSAGE_US;
            assert!(busy_us <= 600_000.0, "{}: {busy_us} µs of CPU in a second", builtin.name);
            assert!(scenario.connections <= 50_000, "{}", builtin.name);
        }
    }

    #[test]
    fn the_stories_have_the_size_that_they_tell() {
        let full = Adjust { scale: Some(1.0), ..Adjust::default() };
        let launch = load::load("battle-royale", &full).expect("sound");
        let figures = Figures::of(&launch);
        assert_eq!((launch.connections, launch.rooms(0)), (500_000, 5_000));
        assert_eq!((figures.live_per_s, figures.live_deliveries_per_s), (100_000.0, 9_900_000.0));
        let polling = Figures::of(&load::load("polling-baseline", &Adjust::default()).expect("sound"));
        assert_eq!(polling.heartbeats_per_s, 20_000.0);
        let fanout = Figures::of(&load::load("fanout", &Adjust::default()).expect("sound"));
        assert_eq!(fanout.deliveries_per_s, 49_950.0);
    }
}
