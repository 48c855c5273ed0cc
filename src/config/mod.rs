//! Configuration: one table of keys that gives name, type, default, unit, range and meaning. The typed structs, the parser, the
//! listing of `throng config` and the documentation come from it and cannot drift apart.
//!
//! Layers, the later one wins: defaults, the file (TOML), the environment (`THRONG_SECTION__KEY`), flags.
#[macro_use]
mod key;
mod check;
mod listing;
mod load;
mod problem;
mod reload;
mod suggest;
mod table;
mod value;

pub use check::ALGORITHMS;
pub use key::{Applies, Key, Range};
pub use listing::Format;
pub use load::{Flag, Inputs, load};
pub use problem::{Place, Problem, Problems};
pub use reload::Differences;
pub use table::*;

impl Config {
    /// Sets one key from text as the environment and flags write it: lists are separated by commas, an empty text unsets an optional key.
    /// A refused value leaves the old one. Checks that concern several keys are `Config::check`'s.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), Problem> {
        self.set_input(name, &value::Input::Loose(text), Place::Call)
    }

    /// The value of a key as text that `set` takes back. An unknown name gives nothing.
    pub fn get(&self, name: &str) -> Option<String> {
        Key::find(name).map(|key| (key.read)(self).text())
    }

    pub(crate) fn set_input(&mut self, name: &str, input: &value::Input, place: Place) -> Result<(), Problem> {
        let Some(key) = Key::find(name) else {
            return Err(Problem::new(place, name, suggest::unknown_key(name)));
        };
        (key.slot)(self).set(input, key).map_err(|what| Problem::new(place, name, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_key_takes_back_what_it_gives() {
        let mut config = Config::default();
        for key in KEYS {
            let text = config.get(key.name).unwrap();
            config.set(key.name, &text).unwrap_or_else(|problem| panic!("{problem}"));
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_refused_value_leaves_the_old_one() {
        let mut config = Config::default();
        assert!(config.set("limits.live", "many").is_err());
        assert!(config.set("server.shards", "257").is_err());
        assert_eq!(config, Config::default());
    }

    proptest! {
        /// R-SEC-13 in spirit: no text of an operator ends in a panic, and what is accepted is given back.
        #[test]
        fn any_text_is_taken_or_refused(index in 0..KEYS.len(), text in ".*") {
            let mut config = Config::default();
            let name = KEYS[index].name;
            if config.set(name, &text).is_ok() {
                let (shown, mut again) = (config.get(name).unwrap(), Config::default());
                again.set(name, &shown).unwrap();
                prop_assert_eq!(again, config);
            }
        }

        #[test]
        fn any_name_is_known_or_refused(name in ".*") {
            let is_known = KEYS.iter().any(|key| key.name == name);
            prop_assert!(is_known || Config::default().set(&name, "1").is_err());
        }
    }
}
