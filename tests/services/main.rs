//! The service pages over real sockets, with a source that stands in for shards and store.
mod connections;
mod exposition;
mod pages;
mod support;
