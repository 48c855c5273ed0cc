//! The SQLite back end: one file in `server.data_dir`, write-ahead log, one fsync per batch.
//!
//! Invariants:
//! * One process per data folder: an advisory lock on a file beside the database is held as long as any part of
//!   this back end lives; the kernel frees it when the process dies.
//! * A batch is one transaction with `synchronous=FULL`: what `commit` reported is on disk (R-CHAT-4).
//! * Values reach SQL as bound parameters only (R-SEC-11).
mod checkpoint;
mod codes;
mod dedupe;
mod housekeeping;
mod reader;
mod rows;
mod schema;
mod writer;

pub use reader::SqliteReader;
pub use writer::SqliteWriter;

use crate::ids::UlidSource;
use checkpoint::Checkpointer;
use rusqlite::{Connection, OpenFlags};
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const DATABASE_FILE: &str = "throng.db";
const LOCK_FILE: &str = "throng.lock";

/// How long a statement waits for a lock of another connection. Readers never block the writer in WAL mode; this covers
/// recovery after a crash and tools that look into the file.
const BUSY_TIMEOUT_MS: u64 = 5_000;

/// Page cache of the writer, KiB: the ends of a few thousand active rooms' streams.
const WRITER_CACHE_KIB: i64 = 32_768;
/// Page cache of one reader, KiB; what it misses comes from the kernel's page cache.
const READER_CACHE_KIB: i64 = 4_096;
/// A checkpoint copies pages past the cache.
const CHECKPOINT_CACHE_KIB: i64 = 64;

/// Settings of the back end.
pub struct Options {
    /// `chat.dedupe_s`: how long a client id is remembered (R-CHAT-3). 0 = never.
    pub dedupe_s: u64,
    /// `history.retention_days`: age at which events are deleted. 0 = never.
    pub retention_days: u64,
    /// Randomness for the epochs of new rooms.
    pub ids: UlidSource,
}

/// Why the store could not be opened. All are fatal at start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data folder {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("the database has schema version {found}, this program knows versions up to {known}: use a newer program")]
    TooNew { found: i64, known: i64 },
    #[error("cannot use {}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot open the database: {0}")]
    Database(#[from] rusqlite::Error),
}

/// An open database. Hands out its one writer, and any number of readers.
pub struct Sqlite {
    path: PathBuf,
    lock: Arc<File>,
    writer: Option<SqliteWriter>,
}

impl Sqlite {
    /// Opens or makes the database in `folder`, brings its schema up to date and reads the idempotency window back. The folder is
    /// made with mode 0700 if it is missing; the files have mode 0600.
    pub fn open(folder: &Path, options: Options) -> Result<Sqlite, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::File { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        let lock = private_file(&folder.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(&folder.join(LOCK_FILE))(error)),
        }
        // SQLite gives its side files (-wal, -shm) the mode of the database.
        let path = folder.join(DATABASE_FILE);
        private_file(&path)?;
        let lock = Arc::new(lock);
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let pages = checkpoint::WRITER_CHECKPOINT_PAGES;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()))?;
        schema::migrate(&mut connection)?;
        let checkpoints = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE, CHECKPOINT_CACHE_KIB)?;
        checkpoints.pragma_update(None, "synchronous", "FULL")?;
        let checkpointer = Checkpointer::start(checkpoints).map_err(failed(&path))?;
        let writer = SqliteWriter::new(connection, checkpointer, lock.clone(), options)?;
        Ok(Sqlite { path, lock, writer: Some(writer) })
    }

    /// The one writer. None if it was handed out before.
    pub fn writer(&mut self) -> Option<SqliteWriter> {
        self.writer.take()
    }

    /// A reader with a connection of its own.
    pub fn reader(&self) -> Result<SqliteReader, OpenError> {
        let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)?;
        Ok(SqliteReader::new(connection, self.lock.clone()))
    }
}

/// Opens without truncating, makes it if missing; mode 0600 in either case.
fn private_file(path: &Path) -> Result<File, OpenError> {
    let open = || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(file)
    };
    open().map_err(|source| OpenError::File { path: path.to_owned(), source })
}

/// No memory mapping: an I/O error of the disk must be an error here, not a SIGBUS.
fn connect(path: &Path, mode: OpenFlags, cache_kib: i64) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

#[cfg(test)]
mod tests;
