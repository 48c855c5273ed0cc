//! Starts a Throng for one run: development mode on loopback, limits against abuse off, on its own cores.
use super::running::{Running, Start, make_folder};
use super::{ServerError, Signer, Target, addresses, http_get};
use crate::scenario::ServerSettings;
use crate::wire::Dialect;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use throng::boot::tables;
use throng::limits::{RINGS_MAX, SHARDS_MAX};

/// Limits against abuse: a load generator is what they are made to stop.
const LIMITS_OFF: [&str; 9] = [
    "commands",
    "connections_per_ip",
    "connections_per_user",
    "handshakes_per_ip",
    "live",
    "messages",
    "rooms_created",
    "rooms_per_session",
    "unauthenticated",
];

/// At the end nobody is left to be told gently.
const DRAIN: Duration = Duration::from_secs(5);

const START: Duration = Duration::from_secs(30);

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The program; `None`: `throng` beside our own.
    pub program: Option<PathBuf>,
    /// What the load speaks to it: its own protocol, or Socket.IO.
    pub dialect: Dialect,
    /// Connections that it must hold, slow readers included.
    pub connections: u32,
    /// From the scenario; what it sets goes before what we set.
    pub settings: ServerSettings,
    /// Cores of the server; empty: not bound.
    pub cores: Vec<u32>,
    /// Where its folder is made, on a disk; `None`: see `default_parent`.
    pub parent: Option<PathBuf>,
    /// Whether data and log stay.
    pub keep: bool,
}

/// Starts the server and waits until it is ready.
pub fn launch(options: &Launch) -> Result<(Running, Target), ServerError> {
    let program = match &options.program {
        Some(program) if program.is_file() => program.clone(),
        Some(program) => return Err(ServerError::Usage(format!("{}: no such program", program.display()))),
        None => sibling()?,
    };
    let parent = options.parent.clone().unwrap_or_else(default_parent);
    let port = addresses::free_port().map_err(ServerError::Failed)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let folder = make_folder(&parent, "server")?;
    let data = folder.join("data");
    let mut running = Running::start(Start {
        name: "throng",
        program: &program,
        arguments: arguments(options, address, &data, nofile_hard()),
        cores: &options.cores,
        folder,
        keep: options.keep,
        // Its own deadline, and what closing a database takes.
        drain: DRAIN + Duration::from_secs(10),
    })?;
    let admin = format!("http://{address}");
    let ready = format!("{admin}/readyz");
    running.await_ready(START, || http_get(&ready).is_ok())?;
    let secret = data.join("dev-secret.key");
    let signer = Signer::from_key_file(&secret).map_err(|error| running.explain(&error))?;
    let name = super::witness::Snapshot::fetch(&admin).map(|snapshot| named(&snapshot.name(), options.dialect));
    let target = Target {
        addresses: vec![address],
        host: address.to_string(),
        dialect: options.dialect,
        signer,
        pid: Some(running.pid()),
        name: name.map_err(|error| running.explain(&error))?,
        admin: Some(admin),
        sources: addresses::sources(options.connections, 1),
    };
    Ok((running, target))
}

/// The server's name, and what is spoken to it where that is not its own protocol: `throng 0.1.0 (socketio)`.
pub(super) fn named(name: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Native => name.to_string(),
        other => format!("{name} ({})", other.name()),
    }
}

/// Beside the build, so that `cargo clean` takes it; or here. Not the system's folder for temporary files, which may be memory.
pub fn default_parent() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let target = own.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "target"));
    target.map_or_else(|| PathBuf::from("throng-loadgen-runs"), |target| target.join("loadgen"))
}

/// `throng` in the folder of our own program.
fn sibling() -> Result<PathBuf, ServerError> {
    let own = std::env::current_exe().map_err(|error| ServerError::Failed(format!("own path: {error}")))?;
    let program = own.with_file_name("throng");
    match program.is_file() {
        true => Ok(program),
        false => Err(ServerError::Usage(format!(
            "there is no server at {}; build both with `cargo build --release --workspace`, or name one with --server PATH or --url URL",
            program.display()
        ))),
    }
}

fn arguments(options: &Launch, address: SocketAddr, data: &Path, nofile: u64) -> Vec<std::ffi::OsString> {
    let cores = match options.cores.len() {
        0 => super::cores::available().len(),
        cores => cores,
    };
    let shards = match options.settings.shards {
        0 => (cores as u32).clamp(1, SHARDS_MAX.into()),
        shards => shards,
    };
    let mut settings: BTreeMap<String, String> =
        LIMITS_OFF.iter().map(|limit| (format!("limits.{limit}"), "0".to_string())).collect();
    settings.insert("drain.deadline_ms".into(), DRAIN.as_millis().to_string());
    settings.insert("plane.rings_per_shard".into(), rings(options, shards, nofile).to_string());
    settings.extend(options.settings.set.clone());
    let mut arguments: Vec<std::ffi::OsString> = vec!["serve".into(), "--dev".into()];
    arguments.extend(["--shards".into(), shards.to_string().into()]);
    arguments.extend(["--listen".into(), address.to_string().into()]);
    arguments.extend(["--data-dir".into(), data.into()]);
    for (key, value) in settings {
        arguments.extend(["--set".into(), format!("{key}={value}").into()]);
    }
    arguments
}

/// Rings of each shard, so that the connections fit into tables of as many rows as descriptors allow, or the scenario.
fn rings(options: &Launch, shards: u32, nofile: u64) -> u64 {
    let configured = options.settings.set.get("plane.connections_per_shard").and_then(|rows| rows.parse().ok());
    let rows = tables::rows(configured.unwrap_or(0), nofile);
    tables::rings_for(options.connections.into(), shards.into(), rows.into()).min(RINGS_MAX.into())
}

/// The server raises its own soft limit up to this.
fn nofile_hard() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_hold_the_connections() {
        let told = |connections: u32, cores: u32, nofile: u64, rows: Option<&str>| {
            let mut options = Launch { connections, cores: (0..cores).collect(), ..Launch::default() };
            let rows = rows.map(|rows| ("plane.connections_per_shard".to_string(), rows.to_string()));
            options.settings.set.extend(rows);
            let address = "127.0.0.1:20000".parse().unwrap();
            let words = arguments(&options, address, Path::new("/data"), nofile);
            let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
            let shards = words[words.iter().position(|word| *word == "--shards").unwrap() + 1].parse().unwrap();
            let rings = words.iter().find_map(|word| word.strip_prefix("plane.rings_per_shard=")).unwrap();
            (shards, rings.parse().unwrap())
        };
        assert_eq!(told(100, 1, 20_000, None), (1, 1));
        assert_eq!(told(100, 4, 20_000, None), (4, 1));
        assert_eq!(told(19_489, 1, 20_000, None), (1, 2));
        // 1,000,000 × 1.05 / 2 / 19,488 = 26.9.
        assert_eq!(told(1_000_000, 2, 20_000, None), (2, 27));
        assert_eq!(told(1_000_000, 2, 1_048_576, None), (2, 1));
        assert_eq!(told(1_000, 2, 20_000, Some("100")), (2, 6));
        assert_eq!(told(u32::MAX, 2, 20_000, None), (2, 256));
    }

    #[test]
    fn the_scenario_has_the_last_word() {
        let mut options = Launch { connections: 10, cores: vec![0], ..Launch::default() };
        options.settings.set.insert("limits.live".into(), "50".into());
        options.settings.set.insert("rooms.recent".into(), "5".into());
        let address = "127.0.0.1:20000".parse().unwrap();
        let arguments = arguments(&options, address, Path::new("/data"), 20_000);
        let text = arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        assert!(text.starts_with("serve --dev --shards 1 --listen 127.0.0.1:20000 --data-dir /data --set "), "{text}");
        assert!(text.contains("--set limits.live=50 ") && !text.contains("limits.live=0"), "{text}");
        assert!(text.contains("--set limits.messages=0 ") && text.contains("--set rooms.recent=5"), "{text}");
    }

    /// Every key that is set exists, and 0 is allowed.
    #[test]
    fn limits_are_keys_of_the_server() {
        let mut config = throng::config::Config::default();
        for limit in LIMITS_OFF {
            config.set(&format!("limits.{limit}"), "0").unwrap();
        }
        config.set("drain.deadline_ms", "5000").unwrap();
        assert_eq!(config.check(), []);
    }

    #[test]
    fn a_missing_program_says_what_to_do() {
        let options = Launch { program: Some("/nowhere/throng".into()), ..Launch::default() };
        let error = launch(&options).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("/nowhere/throng: no such program"));
        let error = sibling().unwrap_err().to_string();
        assert!(error.contains("cargo build --release"), "{error}");
    }
}
