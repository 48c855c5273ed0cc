//! The command line: what may be said, and what it means. It does nothing itself: see `commands`.
use crate::commands::capacity::CapacityArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::{self, Exit};
use crate::peers::Peer;
use crate::scenario::load::Adjust;
use crate::server::Cores;
use crate::wire::Dialect;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  throng-loadgen list                                  what there is to run, and what it amounts to
  throng-loadgen run fanout                            start a server, load it, judge it: one command, one result
  throng-loadgen run chat --out out --verify           the same with JSON and HTML, and a second implementation
  throng-loadgen run idle --connections 200000         more of it
  throng-loadgen run chat --url ws://127.0.0.1:8080 --secret-file jwt.secret
                                                       a server that runs already; its limits against abuse must be off
  throng-loadgen compare fanout --peers bun,ws --rounds 5
                                                       the same load on other servers, in turn: ratios of medians
  throng-loadgen compare rooms --protocol socketio --peers socketio
                                                       Throng as a Socket.IO server beside npm socket.io: same client, same events
  throng-loadgen capacity --validate                   measure what this server can do on this machine, and check the model
  throng-loadgen plan --users 500000 --rooms-of 100 --rate 20/s --machine cores=32,ram=128G
                                                       and plan with it
  throng-loadgen run ./mine.toml --targets ci.toml     your own scenario, your own bounds

Exit codes: 0 all targets met; 1 a target missed, or a message lost, doubled or out of order; 2 the run is invalid, its
figures say nothing; 3 the command, the scenario or the targets are wrong.";

/// Puts a server under a load that was fixed beforehand, checks every delivery, and says what it cost.
#[derive(Debug, Parser)]
#[command(name = "throng-loadgen", version, after_help = EXAMPLES, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario once and judge it.
    Run(Box<RunArgs>),
    /// Run Throng and other servers in turn, and say what each needs for the same work.
    Compare(Box<CompareArgs>),
    /// What scenarios there are; with a name, the file of one, as a start for your own.
    List(ListArgs),
    /// Write table and HTML anew from the result.json of an earlier run.
    Report(ReportArgs),
    /// Measure a model of the server on this machine: what each kind of work costs, and where it saturates.
    Capacity(Box<CapacityCommand>),
    /// How many machines, what runs out first, and what would change the answer: from a saved model.
    Plan(Box<PlanArgs>),
}

/// Which scenario, and what is different this time.
#[derive(Clone, Debug, Args)]
pub struct ScenarioArgs {
    /// Name of a built-in scenario, or path of a TOML file.
    pub scenario: String,
    /// Connections, whatever the scenario says; rooms follow, rates per sender stay.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// Factor on everything that counts connections: battle-royale --scale 0.02 is 10,000 of its 500,000 players.
    #[arg(long, value_name = "F")]
    scale: Option<f64>,
    /// Factor on the rates of all traffic; on the heartbeat's too, if there is no other.
    #[arg(long, value_name = "F")]
    rate_factor: Option<f64>,
    /// Seconds of the measured window.
    #[arg(long, value_name = "S")]
    duration: Option<f64>,
    /// Seconds of traffic before it.
    #[arg(long, value_name = "S")]
    warmup: Option<f64>,
    /// Bytes of each live event and durable message.
    #[arg(long, value_name = "BYTES")]
    payload: Option<u32>,
    /// Fixes the schedule: two runs with one seed send the same at the same times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Shards of a server that is started; without it one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: Option<u32>,
    /// A setting of a server that is started; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

impl ScenarioArgs {
    pub fn adjust(&self) -> Adjust {
        Adjust {
            scale: self.scale,
            connections: self.connections,
            rate_factor: self.rate_factor,
            warmup_s: self.warmup,
            measure_s: self.duration,
            payload_bytes: self.payload,
            shards: self.shards,
            set: self.set.iter().cloned().collect(),
        }
    }
}

/// Who runs where. On one core server and client would wait for each other, and both would look slow.
#[derive(Clone, Debug, Args)]
pub struct CoreArgs {
    /// Cores of a server that is started, as in 0-3,8; without it the first half.
    #[arg(long, value_name = "LIST", requires = "client_cores")]
    server_cores: Option<String>,
    /// Cores of the load's own threads; without it the other half.
    #[arg(long, value_name = "LIST", requires = "server_cores")]
    client_cores: Option<String>,
    /// Bind nothing to cores.
    #[arg(long, conflicts_with_all = ["server_cores", "client_cores"])]
    no_pin: bool,
}

impl CoreArgs {
    pub fn cores(&self) -> Result<Cores, String> {
        match (&self.server_cores, &self.client_cores) {
            (Some(server), Some(client)) => Cores::parse(&format!("{server}:{client}")),
            _ if self.no_pin => Ok(Cores::default()),
            _ => Ok(Cores::halves()),
        }
    }
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// A server that runs already, as ws://HOST:PORT; without it one is started for the run.
    #[arg(long, value_name = "URL", conflicts_with_all = ["server", "shards", "set", "keep_data", "server_cores"])]
    pub url: Option<String>,
    /// The program to start; without it `throng` beside this program.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// What is spoken to the server: native, or socketio (/socket.io/, by WebSocket).
    #[arg(long, value_name = "NAME", value_parser = protocol, default_value = Dialect::Native.name())]
    pub protocol: Dialect,
    /// Key that signs the users' tokens for --url: the server's auth.secret_file.
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "token_file")]
    pub secret_file: Option<PathBuf>,
    /// Ready tokens for --url instead of a key.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// Where the server of --url answers /metrics and /histograms, if not at the same address (admin.listen).
    #[arg(long, value_name = "URL", requires = "url")]
    pub admin: Option<String>,
    /// Process of the server of --url, if it cannot be found by its port.
    #[arg(long, value_name = "N", requires = "url")]
    pub pid: Option<u32>,
    /// Loopback addresses to connect to, for a server of --url that listens on all of them.
    #[arg(long, value_name = "N", requires = "url", default_value_t = 1)]
    pub destinations: u32,
    /// Bounds that the run must keep: a TOML file with a table per scenario.
    #[arg(long, value_name = "FILE")]
    pub targets: Option<PathBuf>,
    /// Folder for result.json, report.html and report.txt.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Threads of the load; without it one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    #[command(flatten)]
    pub cores: CoreArgs,
    /// First a short run with plain tungstenite clients, a second implementation of the protocol; see docs/BENCHMARKING.md.
    #[arg(long)]
    pub verify: bool,
    /// Keep the data and the log of the server that was started.
    #[arg(long)]
    pub keep_data: bool,
    /// No progress; only the table at the end.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// Other servers: bun, ws, socketio, nchan, tokio-tungstenite, fastwebsockets; without it all that are installed.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = peer, default_values = Peer::ALL.map(Peer::name), hide_default_value = true)]
    pub peers: Vec<Peer>,
    /// Runs of each server, A B A B and so on.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Senders get their own live events too, on every server: nchan knows nothing else.
    #[arg(long)]
    pub include_self: bool,
    /// Throng's program; without it `throng` beside this program.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// What is spoken to Throng: native, or socketio (/socket.io/, by WebSocket): the very bytes that the peer socketio gets.
    #[arg(long, value_name = "NAME", value_parser = protocol, default_value = Dialect::Native.name())]
    pub protocol: Dialect,
    /// Bounds for the ratios and for Throng, as with run.
    #[arg(long, value_name = "FILE")]
    pub targets: Option<PathBuf>,
    /// Folder for comparison.json, comparison.html and comparison.txt.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Threads of the load, as with run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    #[command(flatten)]
    pub cores: CoreArgs,
    /// No progress; only the table at the end.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct CapacityCommand {
    #[command(flatten)]
    pub capacity: CapacityArgs,
    /// Throng's program; without it `throng` beside this program.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Fixes the schedules, as with run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Threads of the load, as with run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    #[command(flatten)]
    pub cores: CoreArgs,
    /// No progress; only the model at the end.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// A scenario whose file is to be printed.
    pub scenario: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folder of an earlier --out.
    pub folder: PathBuf,
}

/// Understands the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing to be done if nobody reads it.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Passed }.into();
        }
    };
    let done = match cli.command {
        Command::Run(args) => commands::run::run(&args),
        Command::Compare(args) => commands::compare::compare(&args),
        Command::List(args) => commands::list::list(&args),
        Command::Report(args) => commands::report::report(&args),
        Command::Capacity(args) => commands::calibrate::calibrate(&args),
        Command::Plan(args) => commands::plan::plan(&args),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("throng-loadgen: {failure}");
            failure.exit().into()
        }
    }
}

fn peer(name: &str) -> Result<Peer, String> {
    Peer::from_name(name).ok_or_else(|| format!("there are {}", Peer::ALL.map(Peer::name).join(", ")))
}

fn protocol(name: &str) -> Result<Dialect, String> {
    let spoken = [Dialect::Native, Dialect::SocketIo];
    let found = spoken.into_iter().find(|dialect| dialect.name() == name);
    found.ok_or_else(|| format!("there are {}", spoken.map(Dialect::name).join(", ")))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("not KEY=VALUE, like chat.max_chars=4000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(arguments: &[&str]) -> Result<Box<RunArgs>, String> {
        let all = ["throng-loadgen", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Run(args) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_change_the_scenario() {
        let args =
            run(&["chat", "--scale", "2", "--payload", "99", "--set", "a.b=c=d", "--set", "e.f=", "--shards", "3"]);
        let adjust = args.expect("understood").scenario.adjust();
        assert_eq!((adjust.scale, adjust.payload_bytes, adjust.shards), (Some(2.0), Some(99), Some(3)));
        assert_eq!(adjust.set, [("a.b".to_owned(), "c=d".to_owned()), ("e.f".to_owned(), String::new())].into());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (arguments, word) in [
            (&["chat", "--url", "ws://x", "--server", "y"][..], "--server"),
            (&["chat", "--url", "ws://x", "--set", "a.b=1"], "--set"),
            (&["chat", "--secret-file", "y"], "--url"),
            (&["chat", "--server-cores", "0"], "--client-cores"),
            (&["chat", "--no-pin", "--server-cores", "0", "--client-cores", "1"], "--no-pin"),
            (&["chat", "--connections", "0"], "--connections"),
            (&["chat", "--set", "a"], "KEY=VALUE"),
            (&[], "SCENARIO"),
        ] {
            let error = run(arguments).expect_err(word);
            assert!(error.contains(word), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn peers_are_known_by_name() {
        let peers = |arguments: &[&str]| {
            let all = ["throng-loadgen", "compare", "fanout"].iter().chain(arguments);
            match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
                Command::Compare(args) => Ok(args.peers),
                other => Err(format!("{other:?}")),
            }
        };
        assert_eq!(peers(&[]), Ok(Peer::ALL.to_vec()));
        assert_eq!(peers(&["--peers", "ws,bun"]), Ok(vec![Peer::Ws, Peer::Bun]));
        assert!(peers(&["--peers", "apache"]).is_err_and(|error| error.contains("tokio-tungstenite")));
    }

    #[test]
    fn throng_is_spoken_to_in_its_own_protocol_or_in_socket_io() {
        let protocol = |arguments: &[&str]| run(arguments).map(|args| args.protocol);
        assert_eq!(protocol(&["fanout"]), Ok(Dialect::Native));
        assert_eq!(protocol(&["fanout", "--protocol", "socketio"]), Ok(Dialect::SocketIo));
        assert!(protocol(&["fanout", "--protocol", "nchan"]).is_err_and(|error| error.contains("native, socketio")));
    }

    #[test]
    fn cores_are_halves_unless_said_otherwise() {
        let cores = |arguments: &[&str]| run(arguments).expect("understood").cores.cores();
        assert_eq!(cores(&["chat"]), Ok(Cores::halves()));
        assert_eq!(cores(&["chat", "--no-pin"]), Ok(Cores::default()));
        assert!(cores(&["chat", "--server-cores", "x", "--client-cores", "1"]).is_err());
    }
}
