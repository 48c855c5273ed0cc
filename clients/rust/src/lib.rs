#![doc = include_str!("../README.md")]
//!
//! # How it is made
//!
//! | Module | What it is |
//! |---|---|
//! | [`core`] | the client without input and output: frames, time and wishes go in, frames, deadlines and events come out |
//! | `client`, `shared`, `driver`, `socket` | a tokio task that owns sockets and timers and does what the core wants |
//! | [`event`], [`command`], [`error`] | what is told, what is asked, and why it failed |
//! | [`storage`] | commands that outlive the process |

mod client;
pub mod command;
pub mod core;
mod driver;
pub mod error;
pub mod event;
mod options;
mod shared;
mod socket;
pub mod storage;
mod token;

pub use client::{Ack, Client, Closed, Connecting, Events};
pub use command::{ChatResult, JoinResult, Kind};
pub use core::reconnect::{AfterClose, after_close};
pub use core::{State, StoredCommand, TokenReason};
pub use error::{Error, ServerError, SetupError};
pub use event::{ChatMessage, Event};
pub use options::Options;
pub use storage::{CommandStorage, FolderStorage};
pub use token::Token;
