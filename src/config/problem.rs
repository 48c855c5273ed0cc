//! What is wrong with a configuration, and where.
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Default,
    /// Lines count from 1.
    File(PathBuf, Option<usize>),
    /// Name of the variable.
    Environment(String),
    /// The flag as written, without its value.
    Flag(String),
    /// `Config::set` of this program.
    Call,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("default"),
            Place::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Place::File(path, None) => write!(f, "{}", path.display()),
            Place::Environment(name) => write!(f, "environment {name}"),
            Place::Flag(flag) => f.write_str(flag),
            Place::Call => f.write_str("set"),
        }
    }
}

/// One fault. It names the key and never a secret: no key of the table holds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// Empty if the fault is not in one key (the file cannot be read).
    pub key: String,
    pub what: String,
}

impl Problem {
    pub fn new(place: Place, key: &str, what: impl Into<String>) -> Problem {
        Problem { place, key: key.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.place, self.what);
        }
        write!(f, "{}: {}: {}", self.place, self.key, self.what)
    }
}

/// All faults of one configuration: an operator mends them in one go. One a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
impl std::error::Error for Problems {}
