//! What a key is, and the macro that turns the table into structs and a list of keys.
use super::table::{Config, KEYS};
use super::value::Setting;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`, as in `--set`.
    pub name: &'static str,
    pub unit: &'static str,
    pub meaning: &'static str,
    /// Numbers only: both ends are allowed values.
    pub range: Option<Range>,
    pub applies: Applies,
    pub(crate) read: fn(&Config) -> &dyn Setting,
    pub(crate) slot: fn(&mut Config) -> &mut dyn Setting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub low: u64,
    pub high: u64,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At the next start.
    AtStart,
    /// On SIGHUP, without closing connections.
    Live,
}

impl Key {
    pub fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    /// The name inside its section.
    pub fn field(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, field)| field)
    }

    /// `THRONG_SECTION__KEY`.
    pub fn environment_name(&self) -> String {
        format!("THRONG_{}", self.name.replace('.', "__").to_uppercase())
    }
}

/// `section Struct (Applies) { key: type = default, unit, meaning, low..=high; … }`; the range is for numbers and may be left out.
macro_rules! table {
    ($($(#[$section_doc:meta])* $section:ident $Section:ident ($applies:ident) {
        $($field:ident: $type:ty = $default:expr, $unit:literal, $meaning:literal $(, $low:literal..=$high:expr)?;)*
    })*) => {
        $($(#[$section_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Section { $(#[doc = $meaning] pub $field: $type,)* }

        impl Default for $Section {
            fn default() -> Self { $Section { $($field: $default,)* } }
        })*

        /// All settings, typed.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Config { $(pub $section: $Section,)* }

        /// Every key, in the order of the table.
        pub const KEYS: &[Key] = &[$($(
            Key {
                name: concat!(stringify!($section), ".", stringify!($field)),
                unit: $unit,
                meaning: $meaning,
                range: table!(@range $($low, $high)?),
                applies: Applies::$applies,
                read: |config| &config.$section.$field,
                slot: |config| &mut config.$section.$field,
            },
        )*)*];
    };
    (@range) => { None };
    (@range $low:literal, $high:expr) => { Some(Range { low: $low, high: $high }) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_dot_and_are_unique() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        assert!(names.iter().all(|name| name.matches('.').count() == 1));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn every_number_has_a_range_that_holds_its_default() {
        let config = Config::default();
        for key in KEYS {
            match ((key.read)(&config).text().parse::<u64>(), key.range) {
                (Ok(number), Some(range)) => {
                    assert!((range.low..=range.high).contains(&number), "{}", key.name);
                }
                (Err(_), None) => {}
                _ => panic!("{}: ranges are for numbers, and every number has one", key.name),
            }
        }
    }

    #[test]
    fn environment_names() {
        assert_eq!(Key::find("limits.live_burst").unwrap().environment_name(), "THRONG_LIMITS__LIVE_BURST");
    }
}
