//! A child process that serves: on its own cores, with a folder for its data and its log, ended with this value.
use super::{ServerError, cores};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at a process that starts or ends.
const PAUSE: Duration = Duration::from_millis(20);

/// Lines of the log that an error shows.
const LOG_LINES: usize = 15;

/// What to start. The folder is made and belongs to the process; `log` in it takes both its outputs.
pub struct Start<'a> {
    pub name: &'a str,
    pub program: &'a Path,
    pub arguments: Vec<OsString>,
    /// Where it may run; empty: anywhere.
    pub cores: &'a [u32],
    pub folder: PathBuf,
    /// Whether the folder stays when the process has ended.
    pub keep: bool,
    /// How long it may take to end after SIGTERM, before SIGKILL.
    pub drain: Duration,
}

/// A running server. Dropping it sends SIGTERM, waits, and sends SIGKILL to what still runs.
pub struct Running {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    folder: PathBuf,
    keep: bool,
    drain: Duration,
}

/// A folder of its own under `parent`, for one process. On a disk, if `parent` is: a commit must reach one.
pub fn make_folder(parent: &Path, name: &str) -> Result<PathBuf, ServerError> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let folder = parent.join(format!("{name}-{}-{number}", std::process::id()));
    let fail = |error: std::io::Error| ServerError::Failed(format!("{}: {error}", folder.display()));
    // Left behind by a process of the same number that was killed.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(fail)?;
    }
    std::fs::create_dir_all(parent).map_err(fail)?;
    DirBuilder::new().mode(0o700).create(&folder).map_err(fail)?;
    Ok(folder)
}

impl Running {
    /// Starts it. It gets SIGKILL when this thread ends, where `setpriv` is installed: call this from a thread that lives for the
    /// whole run.
    pub fn start(start: Start<'_>) -> Result<Running, ServerError> {
        let Start { name, program, arguments, cores, folder, keep, drain } = start;
        let fail = |what: String| ServerError::Failed(format!("{name}: {what}"));
        let log = File::create(folder.join("log")).map_err(|error| fail(format!("log: {error}")))?;
        let errors = log.try_clone().map_err(|error| fail(format!("log: {error}")))?;
        let mut command = mortal(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
        // Ctrl-C on a terminal goes to a whole group; the server has to outlive ours by an orderly end of the run.
        command.process_group(0);
        // What the user's shell has set for another server must not change this one.
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|name| name.starts_with("THRONG_") || name == "JWT_SECRET") {
                command.env_remove(variable);
            }
        }
        // A child begins on the cores of the thread that starts it.
        let own = cores::available();
        cores::bind(cores).map_err(fail)?;
        let child = command.spawn();
        if !cores.is_empty() {
            cores::bind(&own).map_err(fail)?;
        }
        let child = child.map_err(|error| fail(format!("{}: {error}", program.display())))?;
        Ok(Running { name: name.into(), child, status: None, folder, keep, drain })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data and its log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits until it answers. `is_ready` is asked every 20 ms.
    pub fn await_ready(&mut self, limit: Duration, mut is_ready: impl FnMut() -> bool) -> Result<(), ServerError> {
        let start = Instant::now();
        while !is_ready() {
            if self.ended().is_some() {
                return Err(self.explain("did not start"));
            }
            if start.elapsed() > limit {
                return Err(self.explain(&format!("was not ready after {} s", limit.as_secs())));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// An error with what the server had to say about it.
    pub fn explain(&mut self, error: &str) -> ServerError {
        let state = self.ended().map(|status| format!(" ({status})")).unwrap_or_default();
        let tail: String = log_tail(&self.folder.join("log")).iter().map(|line| format!("\n    | {line}")).collect();
        ServerError::Failed(format!("{} {error}{state}{tail}", self.name))
    }

    /// Ends it in order; an error if it had to be killed or did not end with 0.
    pub fn stop(mut self) -> Result<(), ServerError> {
        match self.end() {
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(self.explain("did not end as it should")),
            None => Err(self.explain(&format!("did not end within {} s and was killed", self.drain.as_secs()))),
        }
    }

    /// Its own end, or `None` if it was killed.
    fn end(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        // Not waited for yet, so the number is still its own.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && kill_process(pid, Signal::TERM).is_ok()
        {
            let start = Instant::now();
            while start.elapsed() < self.drain {
                if let Some(status) = self.ended() {
                    return Some(status);
                }
                std::thread::sleep(PAUSE);
            }
        }
        let _ = self.child.kill();
        self.status = self.child.wait().ok();
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A command that does not outlive us, if `setpriv` is there. It replaces itself by the program, so the process id is the program's.
fn mortal(program: &Path) -> Command {
    let probe = ["--pdeathsig", "KILL", "true"];
    let has_setpriv = Command::new("setpriv").args(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !has_setpriv.is_ok_and(|status| status.success()) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The last lines of a log, however long it is.
fn log_tail(path: &Path) -> Vec<String> {
    const BYTES: u64 = 16 << 10;
    let mut tail = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        file.take(BYTES).read_to_end(&mut tail)
    });
    if let Err(error) = read {
        return vec![format!("(log: {error})")];
    }
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| line.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(parent: &Path, script: &str, keep: bool) -> Running {
        let folder = make_folder(parent, "test").unwrap();
        let start = Start {
            name: "test",
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            cores: &cores::available()[..1],
            folder,
            keep,
            drain: Duration::from_secs(20),
        };
        Running::start(start).unwrap()
    }

    #[test]
    fn ends_in_order_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let mut server = shell(parent.path(), "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done", false);
        let folder = server.folder().to_path_buf();
        server
            .await_ready(Duration::from_secs(20), || {
                std::fs::read_to_string(folder.join("log")).is_ok_and(|log| log == "up\n")
            })
            .unwrap();
        assert_eq!(cores::of_process(server.pid()), cores::available()[..1]);
        assert_eq!(server.ended(), None);
        server.stop().unwrap();
        assert!(!folder.exists());
        assert!(
            cores::available().len() >= cores::of_process(std::process::id()).len(),
            "our own binding is as before"
        );
    }

    #[test]
    fn an_early_end_is_told_with_the_log() {
        let parent = tempfile::tempdir().unwrap();
        let mut server = shell(
            parent.path(),
            "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do echo line $n; done; exit 3",
            true,
        );
        let error = server.await_ready(Duration::from_secs(20), || false).unwrap_err().to_string();
        assert!(error.starts_with("test did not start (exit status: 3)\n    | line 2\n"), "{error}");
        assert!(error.ends_with("| line 16"), "{error}");
        let folder = server.folder().to_path_buf();
        drop(server);
        assert!(folder.join("log").exists(), "kept");
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let parent = tempfile::tempdir().unwrap();
        let mut server = shell(parent.path(), "trap '' TERM; echo up; while :; do sleep 0.05; done", false);
        let log = server.folder().join("log");
        server
            .await_ready(Duration::from_secs(20), || std::fs::read_to_string(&log).is_ok_and(|log| log == "up\n"))
            .unwrap();
        server.drain = Duration::ZERO;
        let error = server.stop().unwrap_err().to_string();
        assert!(error.contains("was killed"), "{error}");
    }
}
