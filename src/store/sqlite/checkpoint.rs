//! Moves pages from the write-ahead log into the database, on a thread of its own.
//!
//! A checkpoint writes pages all over the database and waits for the disk twice; done by the writer, as SQLite does by
//! default, all messages wait for it. A *passive* one from another connection holds nobody up. But the log starts
//! again from its beginning only if it is checkpointed to its end at the moment of a write, which a busy writer prevents.
//! So the writer finishes the job itself when the log has grown to `WRITER_CHECKPOINT_PAGES`: by then only what was written
//! since this thread's last pass is left to do.
use crossbeam_channel::{Sender, bounded};
use rusqlite::Connection;
use std::io;
use std::thread::{self, JoinHandle};

/// Pages (4 KiB) that the writer may change between two passes: some milliseconds of work for each.
const PASS_PAGES: u64 = 2_000;

/// Length of the log, in pages of 4 KiB, at which the writer checkpoints the rest: bounds the log to about 64 MiB, and the
/// time that recovery takes after a crash.
pub(super) const WRITER_CHECKPOINT_PAGES: i64 = 16_384;

/// A commit also changes pages that its row count does not show: roots, the journal of client ids, free lists.
const PAGES_PER_COMMIT: u64 = 4;

pub(super) struct Checkpointer {
    /// Capacity 1: a wish while one waits is the same wish.
    wishes: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Upper estimate of the pages changed since the last wish.
    changed_pages: u64,
}

impl Checkpointer {
    pub fn start(connection: Connection) -> io::Result<Checkpointer> {
        let (wishes, waiting) = bounded(1);
        let thread = thread::Builder::new().name("store-checkpoint".into()).spawn(move || {
            for () in waiting {
                if let Err(error) = connection.pragma_query(None, "wal_checkpoint", |_| Ok(())) {
                    tracing::warn!(%error, "a checkpoint of the database failed, the next one will do its work");
                }
            }
        })?;
        Ok(Checkpointer { wishes: Some(wishes), thread: Some(thread), changed_pages: 0 })
    }

    /// To be called after every commit.
    pub fn committed(&mut self, changed_rows: u64) {
        self.changed_pages += changed_rows + PAGES_PER_COMMIT;
        if self.changed_pages >= PASS_PAGES
            && let Some(wishes) = &self.wishes
        {
            self.changed_pages = 0;
            // Full: a pass is about to begin anyway.
            let _ = wishes.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread ended in a panic");
        }
    }
}
