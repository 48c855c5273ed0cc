//! Configuration: one table of keys that gives name, type, default, unit and meaning. The typed structs, the parser, the listing of
//! `throng config` and the documentation come from it and cannot drift apart.
mod table;
pub use table::*;
