//! The core in a world without network and time.
mod connection;
mod events;
mod migration;
mod queue;
mod rooms;
mod simulation;
mod tokens;
mod world;
