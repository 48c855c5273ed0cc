//! The SQLite back end: one file in `server.data_dir`, write-ahead log, one fsync per batch.
//!
//! Invariants:
//! * One process per data folder: an advisory lock on a file beside the database is held as long as any part of
//!   this back end lives; the kernel frees it when the process dies.
//! * A batch is one transaction with `synchronous=FULL`: what `commit` reported is on disk (R-CHAT-4).
//! * Values reach SQL as bound parameters only (R-SEC-11).
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
        schema::migrate(&mut connection)?;
        let writer = SqliteWriter::new(connection, lock.clone(), options)?;
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
mod tests {
    use super::*;

    fn options() -> Options {
        Options { dedupe_s: 300, retention_days: 0, ids: UlidSource::new(Box::new(|bytes| bytes.fill(1))) }
    }

    #[test]
    fn a_folder_in_use_is_refused_until_every_part_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Sqlite::open(folder.path(), options()).unwrap();
        let (writer, reader) = (first.writer().unwrap(), first.reader().unwrap());
        assert!(first.writer().is_none());
        drop(first);
        drop(writer);
        let refused = Sqlite::open(folder.path(), options()).err().unwrap();
        assert!(matches!(refused, OpenError::InUse(_)) && refused.to_string().contains("another process"));
        drop(reader);
        Sqlite::open(folder.path(), options()).unwrap();
    }

    #[test]
    fn folder_and_files_are_private() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("deep/data");
        let store = Sqlite::open(&folder, options()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 3, "lock, database, log: {files:?}");
        assert!(files.iter().all(|path| mode(path) == 0o600));
        drop(store);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sqlite::open(folder.path(), options()).unwrap());
        let raw = Connection::open(folder.path().join(DATABASE_FILE)).unwrap();
        raw.pragma_update(None, "user_version", 9_999).unwrap();
        let refused = Sqlite::open(folder.path(), options()).err().unwrap();
        assert!(matches!(refused, OpenError::TooNew { found: 9_999, .. }), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DATABASE_FILE), "something else, long enough to be looked at".repeat(50))
            .unwrap();
        assert!(matches!(Sqlite::open(folder.path(), options()), Err(OpenError::Database(_))));
    }
}
