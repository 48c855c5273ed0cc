//! The queue over restarts of the process (R-SDK-4).
use crate::core::StoredCommand;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Keeps durable commands that were not answered yet. Called from the client's task, so it should not take long; whatever fails is
/// told as [`Event::Error`](crate::Event::Error), and the command stays in memory.
///
/// Two processes may share one: both send what is left over, under the same ids, and the server stores it once.
pub trait CommandStorage: Send + 'static {
    /// Everything that is left of this user, in no particular order.
    fn load(&mut self, user_id: &str) -> io::Result<Vec<StoredCommand>>;
    /// Keeps a command; again under the same id replaces it.
    fn store(&mut self, user_id: &str, command: &StoredCommand) -> io::Result<()>;
    /// The command has its answer. An unknown one is no error.
    fn remove(&mut self, user_id: &str, id: &str) -> io::Result<()>;
}

/// A folder with a file for each command. A command is on disk before it is sent.
pub struct FolderStorage {
    folder: PathBuf,
    files: HashMap<(String, String), PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    user_id: String,
    command: StoredCommand,
}

const EXTENSION: &str = "command";

impl FolderStorage {
    /// The folder is made if it is missing.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<FolderStorage> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(FolderStorage { folder, files: HashMap::new() })
    }

    /// A new file's path, unlike any other process's.
    fn new_path(&self) -> io::Result<PathBuf> {
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        Ok(self.folder.join(format!("{:032x}.{EXTENSION}", u128::from_ne_bytes(name))))
    }
}

impl CommandStorage for FolderStorage {
    fn load(&mut self, user_id: &str) -> io::Result<Vec<StoredCommand>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            // What another process has just taken away, or what is no command, is passed over.
            let Ok(text) = fs::read(&path) else { continue };
            let Ok(Kept { user_id: owner, command }) = serde_json::from_slice(&text) else { continue };
            if owner == user_id {
                self.files.insert((owner, command.id.clone()), path);
                found.push(command);
            }
        }
        Ok(found)
    }

    fn store(&mut self, user_id: &str, command: &StoredCommand) -> io::Result<()> {
        let key = (user_id.to_owned(), command.id.clone());
        let path = match self.files.get(&key) {
            Some(path) => path.clone(),
            None => self.new_path()?,
        };
        let kept = Kept { user_id: user_id.to_owned(), command: command.clone() };
        write(&path, &serde_json::to_vec(&kept).map_err(io::Error::other)?)?;
        self.files.insert(key, path);
        Ok(())
    }

    fn remove(&mut self, user_id: &str, id: &str) -> io::Result<()> {
        let Some(path) = self.files.remove(&(user_id.to_owned(), id.to_owned())) else { return Ok(()) };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str) -> StoredCommand {
        let data = r#"{"roomId":"lobby"}"#.to_owned();
        StoredCommand { id: id.to_owned(), kind: "chat_message".to_owned(), data, since_ms: 7, order: 1 }
    }

    #[test]
    fn commands_outlive_the_process_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = FolderStorage::open(folder.path().join("queue")).unwrap();
        for id in ["a", "b", "../c"] {
            first.store("anna", &command(id)).unwrap();
        }
        first.store("anna", &command("a")).unwrap();
        first.store("bob", &command("a")).unwrap();
        first.remove("anna", "b").unwrap();
        first.remove("anna", "unknown").unwrap();
        fs::write(folder.path().join("queue/rubbish.command"), "{").unwrap();

        let mut second = FolderStorage::open(folder.path().join("queue")).unwrap();
        let ids = |storage: &mut FolderStorage, user| {
            let mut ids: Vec<String> = storage.load(user).unwrap().into_iter().map(|command| command.id).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&mut second, "anna"), ["../c", "a"]);
        assert_eq!(second.load("bob").unwrap(), [command("a")]);
        second.remove("anna", "a").unwrap();
        first.remove("anna", "a").unwrap();
        assert_eq!(ids(&mut second, "anna"), ["../c"]);
    }
}
