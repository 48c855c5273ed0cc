//! Socket.IO clients that were lost when the server ended in order, kept in `data_dir` until the next start: they come back and take
//! up what they missed. The file holds their secrets (mode 0600), is read once, and is gone then.
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "lost-clients.jsonl";

/// What was kept, which is gone afterwards; empty if there is nothing, or it cannot be read: clients start afresh then.
pub fn take(data_dir: &Path) -> Arc<str> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return "".into(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "lost clients cannot be read; they start afresh");
            String::new()
        }
    };
    if let Err(error) = fs::remove_file(&path) {
        tracing::warn!(path = %path.display(), %error, "lost clients cannot be removed; they start afresh");
        return "".into();
    }
    text.into()
}

/// Keeps what the shards gave back. Failing costs clients a join each, no more.
pub fn keep(data_dir: &Path, lost: &[u8]) {
    if lost.is_empty() {
        return;
    }
    let path = data_dir.join(FILE);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(lost)
    };
    if let Err(error) = write() {
        tracing::warn!(path = %path.display(), %error, "lost clients cannot be kept; they will start afresh");
        let _ = fs::remove_file(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_kept_is_taken_once_and_is_nobody_elses_to_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(&*take(folder.path()), "");
        keep(folder.path(), b"");
        assert!(!folder.path().join(FILE).exists());
        keep(folder.path(), b"{}\n");
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!((&*take(folder.path()), &*take(folder.path())), ("{}\n", ""));
    }
}
