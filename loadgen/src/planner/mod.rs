//! How many machines: from measured points to a model, from a model to a plan. Pure: no clocks, no sockets, no files.
pub mod linear;
pub mod usl;
