//! Secrets in files: made once with mode 0600, whole or not at all.
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bytes from the operating system's random source.
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Makes the folder with mode 0700 if it is missing.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| at(folder, error))
}

/// Reads the file, or writes what `make` gives. Two processes that start together get the same content: the file appears
/// under its name complete and synced, and only if nobody was faster.
pub fn load_or_create(path: &Path, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.map_err(|error| at(path, error)),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    static DRAFTS: AtomicU32 = AtomicU32::new(0);
    let draft = folder.join(format!(".{name}.{}.{}", std::process::id(), DRAFTS.fetch_add(1, Relaxed)));
    let result = publish(&draft, path, &make()?).map_err(|error| at(path, error));
    let _ = fs::remove_file(&draft);
    result?;
    fs::read(path).map_err(|error| at(path, error))
}

fn publish(draft: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    // A draft of a process that died and had the same id.
    let _ = fs::remove_file(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // File systems without hard links.
        Err(_) => fs::rename(draft, path),
        Ok(()) => Ok(()),
    }
}

/// Whether others than the owner may read the file.
pub fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("x.key");
        let first = load_or_create(&path, || Ok(random()?.to_vec())).unwrap();
        let second = load_or_create(&path, || panic!("exists")).unwrap();
        assert_eq!((first.len(), &first), (32, &second));
        assert!(!is_readable_by_others(&path) && !is_readable_by_others(path.parent().unwrap()));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn the_slower_process_takes_the_faster_ones_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.key");
        let taken = load_or_create(&path, || {
            fs::write(&path, b"faster")?;
            Ok(b"slower".to_vec())
        });
        assert_eq!(taken.unwrap(), b"faster");
    }
}
