//! Where the peers' programs are. `loadgen/peers/install.sh` puts them into `target/peers`, but for nginx and Node.js.
use super::Peer;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

const NGINX: &str = "/usr/sbin/nginx";
pub(super) const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// A peer whose program is there.
#[derive(Clone, Debug)]
pub struct Program {
    pub peer: Peer,
    /// Of the package that the peer stands for, `1.4.5` (nchan tells only that of its nginx); empty if it could not be told.
    pub version: String,
    pub(super) path: PathBuf,
    /// Where a script finds its packages.
    pub(super) packages: PathBuf,
}

/// A peer that is not installed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} is not installed; {how_to_install}", .peer.name())]
pub struct Missing {
    pub peer: Peer,
    /// One command, to be run in the checkout, and what it needs.
    pub how_to_install: String,
}

impl Peer {
    /// Looks in the `target` folder that this program stands in.
    pub fn find(self) -> Result<Program, Missing> {
        let own = std::env::current_exe().unwrap_or_default();
        let target = own.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "target"));
        self.find_in(target.unwrap_or(Path::new("target")))
    }

    /// Looks in a `target` folder.
    pub fn find_in(self, target: &Path) -> Result<Program, Missing> {
        let packages = target.join("peers/npm/node_modules");
        let existing = |path: PathBuf| path.exists().then_some(path);
        let (path, version) = match self {
            Peer::Bun => {
                // The second is where CI puts it.
                let path = ["peers/bun", "ci-tools/bun/bun"].into_iter().find_map(|place| existing(target.join(place)));
                let version = path.as_deref().and_then(|path| said_by(path, "--version"));
                (path, version)
            }
            Peer::Ws => with_package(&packages.join("ws")),
            Peer::SocketIo => with_package(&packages.join("socket.io")),
            Peer::Nchan => {
                let path = existing(NGINX.into()).filter(|_| Path::new(NCHAN_MODULE).exists());
                let version = path.as_deref().and_then(|path| said_by(path, "-v"));
                let version = version.map(|version| format!("on nginx {version}"));
                (path, version)
            }
            Peer::TokioTungstenite | Peer::FastWebsockets => {
                (existing(target.join("peers/rust/release").join(self.name())), locked_version(self.name()))
            }
        };
        match path {
            Some(path) => Ok(Program { peer: self, version: version.unwrap_or_default(), path, packages }),
            None => Err(Missing { peer: self, how_to_install: self.how_to_install() }),
        }
    }

    fn how_to_install(self) -> String {
        let node = match self {
            Peer::Ws | Peer::SocketIo => " (needs Node.js 20 or newer, Debian's package nodejs)",
            _ => "",
        };
        format!("run loadgen/peers/install.sh {}{node}", self.name())
    }
}

/// Node.js, if a package is installed for it, and the package's version.
fn with_package(folder: &Path) -> (Option<PathBuf>, Option<String>) {
    let description = std::fs::read(folder.join("package.json")).ok();
    let version = description.and_then(|text| {
        let description: serde_json::Value = serde_json::from_slice(&text).ok()?;
        description["version"].as_str().map(str::to_string)
    });
    (version.is_some().then(|| on_path("node")).flatten(), version)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The version that a program tells of itself, `1.2.3` wherever it stands in what it says.
fn said_by(program: &Path, flag: &str) -> Option<String> {
    let said = Command::new(program).arg(flag).stdin(Stdio::null()).output().ok()?;
    let said = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    said.split([' ', '/', '\n']).find(is_version).map(str::to_string)
}

/// Version of a crate in the lock file of the Rust peers.
fn locked_version(name: &str) -> Option<String> {
    let lock = include_str!("../../peers/rust/Cargo.lock");
    let (_, package) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    package.split('"').next().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let empty = tempfile::tempdir().unwrap();
        for peer in Peer::ALL.into_iter().filter(|peer| *peer != Peer::Nchan) {
            let missing = peer.find_in(empty.path()).unwrap_err();
            let text = missing.to_string();
            let start = format!("{0} is not installed; run loadgen/peers/install.sh {0}", peer.name());
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn installed_programs_are_found_with_their_versions() {
        let target = tempfile::tempdir().unwrap();
        let place = |path: &str, text: &str| {
            let path = target.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        place("peers/rust/release/fastwebsockets", "");
        let found = Peer::FastWebsockets.find_in(target.path()).unwrap();
        assert!(found.version.starts_with("0."), "{found:?}");
        place("peers/npm/node_modules/ws/package.json", r#"{"name":"ws","version":"8.1.2"}"#);
        match on_path("node") {
            Some(node) => {
                let found = Peer::Ws.find_in(target.path()).unwrap();
                assert_eq!((found.version.as_str(), found.path), ("8.1.2", node));
            }
            None => assert!(Peer::Ws.find_in(target.path()).unwrap_err().how_to_install.contains("Node.js")),
        }
        assert!(Peer::SocketIo.find_in(target.path()).is_err());
    }

    #[test]
    fn versions_are_taken_out_of_what_is_said() {
        let shell = tempfile::tempdir().unwrap();
        let script = shell.path().join("said");
        std::fs::write(&script, "#!/bin/sh\necho \"x version: x/$1.22.1 more\" >&2\n").unwrap();
        let mut permissions = std::fs::metadata(&script).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
        std::fs::set_permissions(&script, permissions).unwrap();
        assert_eq!(said_by(&script, "1").as_deref(), Some("1.22.1"));
        assert_eq!(said_by(Path::new("/nowhere"), "1"), None);
    }
}
