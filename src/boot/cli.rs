//! The command line: what can be said, and who does it. Errors go to standard error as `throng: cause; remedy`; the exit
//! code is 2 for what the operator can mend in the command or the configuration.
use super::dev::{self, DevKey};
use super::keys;
use super::options::{EXIT_CANNOT_HOLD, EXIT_USAGE, ServeOptions};
use crate::config::{self, Config, Flag, Format, Inputs};
use crate::ids;
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Self-hosted real-time connection server: WebSocket rooms, durable chat, presence.
#[derive(Parser)]
#[command(name = "throng", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Try it on this machine (first terminal, second terminal):
    throng serve --dev
    throng token --user anna

  Run it with a shared secret for HS256 tokens:
    (umask 077; openssl rand -base64 48 > jwt.secret)
    throng serve --set auth.secret_file=jwt.secret --data-dir /var/lib/throng

  Run it with a file; see what the file may hold; check it without starting:
    throng config --format toml > throng.toml
    throng config --config throng.toml
    throng serve --config throng.toml";

#[derive(Subcommand)]
enum Command {
    /// Run the server
    ///
    /// Without --dev it starts only with a key to check tokens with: auth.secret_file (or environment JWT_SECRET),
    /// auth.public_key_file, auth.jwks_file or auth.jwks_url.
    ///
    /// Settings: flags override the environment (THRONG_SECTION__KEY, for example THRONG_LIMITS__LIVE=100), which
    /// overrides the file. `throng config` lists all keys.
    #[command(after_long_help = EXAMPLES)]
    Serve {
        /// Development mode: listen on 127.0.0.1:8080, accept tokens of `throng token`
        ///
        /// A random signing key is made in the data folder on the first start. Whoever can read it can sign in as
        /// anyone, so do not use this mode where others connect.
        #[arg(long)]
        dev: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Sign a token for a server in development mode
    ///
    /// Prints a sign-in token; with --room, a room token for each room instead, one a line.
    #[command(
        after_long_help = "Examples:\n  throng token --user anna\n  throng token --user root --role admin --ttl 7d\n  \
        throng token --user anna --room staff --role moderator"
    )]
    Token(TokenArgs),
    /// Tell whether this machine can hold so many connections, and what to mend first
    ///
    /// Tries out what the server needs of the kernel, reads limits and settings, and prints a line for each check: ok, advice or
    /// problem, what is, what is wanted, and what to run. It changes nothing itself. Takes the same settings as `serve`: run it
    /// as the server's user and within its limits. Exit code 0 if the machine can hold them, 1 if it cannot.
    #[command(after_long_help = "Examples:\n  throng doctor\n  throng doctor --connections 1000000\n  \
        throng doctor --connections 1000000 --shards 64 --json\n  \
        systemd-run --pipe --uid=throng -p LimitNOFILE=524288 throng doctor --config /etc/throng/throng.toml")]
    Doctor {
        /// Connections that the machine shall hold; default: all that descriptors and configuration allow
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        connections: Option<u64>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Print every configuration key with value, unit and meaning; checks the configuration
    ///
    /// Takes the same settings as `serve`: a star marks values that are not the default.
    Config {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Args)]
struct Settings {
    /// Configuration file (TOML) [env: THRONG_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect: http.listen
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Database and signing keys: server.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Shard threads, 0 = one per core: server.shards
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Log level or filter: server.log
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Relay a Socket.IO application's own events to rooms: sio.app_events
    #[arg(long)]
    app_events: bool,
    /// Any key, for example --set limits.live=100; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_assignment)]
    set: Vec<(String, String)>,
}

#[derive(Args)]
struct TokenArgs {
    /// Data folder of the server
    #[arg(long, value_name = "DIR", default_value = "throng-data")]
    data_dir: PathBuf,
    /// User id, 1 to 128 characters
    #[arg(long, value_name = "ID")]
    user: String,
    /// In the server (admin, moderator) or, with --room, in the room (owner, moderator, member)
    #[arg(long)]
    role: Option<String>,
    #[arg(long)]
    email: Option<String>,
    /// How long the token is valid: a number with s, m, h or d
    #[arg(long, default_value = "1h", value_parser = parse_duration_s)]
    ttl: u64,
    /// Sign a room token for this room; may be repeated
    #[arg(long, value_name = "ROOM", num_args = 1..)]
    room: Vec<String>,
    /// The iss claim, if auth.issuer is set
    #[arg(long)]
    issuer: Option<String>,
    /// The aud claim, if auth.audience is set
    #[arg(long)]
    audience: Option<String>,
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            eprint!("throng: {}", text.strip_prefix("error: ").unwrap_or(&text));
            return ExitCode::from(EXIT_USAGE);
        }
        Err(help) => return print(&help.render().to_string()),
    };
    let result = match cli.command {
        Command::Serve { dev, settings } => serve(settings.into_inputs(dev)),
        Command::Doctor { connections, json, settings } => doctor(&settings.into_inputs(false), connections, json),
        Command::Token(arguments) => token(&arguments).map(|text| print(&text)),
        Command::Config { format, settings } => config::load(&settings.into_inputs(false))
            .map(|config| print(&config.listing(format)))
            .map_err(|problems| problems.to_string()),
    };
    result.unwrap_or_else(|text| {
        for line in text.lines() {
            let is_continued = line.starts_with(' ');
            eprintln!("{}{line}", if is_continued { "" } else { "throng: " });
        }
        ExitCode::from(EXIT_USAGE)
    })
}

fn serve(inputs: Inputs) -> Result<ExitCode, String> {
    let config = config::load(&inputs).map_err(|problems| problems.to_string())?;
    let dev_key = if inputs.dev { Some(load_dev_key(&config)?) } else { None };
    let jwt_secret = std::env::var_os("JWT_SECRET");
    let keys = keys::load(&config, jwt_secret.as_ref().map(|text| text.as_encoded_bytes()), dev_key.as_ref())?;
    for warning in &keys.warnings {
        eprintln!("throng: warning: {warning}");
    }
    Ok(super::serve::run(ServeOptions { dev: inputs.dev, config, keys, inputs }))
}

fn doctor(inputs: &Inputs, connections: Option<u64>, is_json: bool) -> Result<ExitCode, String> {
    let config = config::load(inputs).map_err(|problems| problems.to_string())?;
    let (report, can_hold) = super::doctor::examine(&config, connections, is_json);
    print(&report);
    Ok(if can_hold { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CANNOT_HOLD) })
}

fn load_dev_key(config: &Config) -> Result<DevKey, String> {
    let data_dir = &config.server.data_dir;
    let key = DevKey::load_or_create(data_dir).map_err(|error| {
        format!("{error}; the development key needs a folder to write to, choose it with --data-dir")
    })?;
    let shown = data_dir.display();
    eprintln!("throng: development mode: whoever can read {shown}/{} can sign in as anyone", DevKey::FILE);
    if !config.http.listen.ip().is_loopback() {
        eprintln!("throng: warning: development mode on {}, where others may connect", config.http.listen);
    }
    eprintln!("throng: sign a token with: throng token --data-dir {shown} --user anna");
    Ok(key)
}

fn token(arguments: &TokenArgs) -> Result<String, String> {
    if !ids::is_user_id(&arguments.user) {
        return Err("--user: a user id has 1 to 128 characters without control characters".into());
    }
    if let Some(room) = arguments.room.iter().find(|room| !ids::is_room_id(room)) {
        return Err(format!("--room: {room:?} is not a room: 1 to 128 of A-Z a-z 0-9 _ . : - without a server prefix"));
    }
    let data_dir = arguments.data_dir.display();
    let key = DevKey::load(&arguments.data_dir).map_err(|error| {
        format!("{error}\n  The development key is made by the first: throng serve --dev --data-dir {data_dir}")
    })?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = dev::Claims {
        user_id: &arguments.user,
        room_id: None,
        role: arguments.role.as_deref(),
        email: arguments.email.as_deref(),
        issuer: arguments.issuer.as_deref(),
        audience: arguments.audience.as_deref(),
    };
    let sign = |claims: &dev::Claims| {
        key.sign(claims, now_s, arguments.ttl)
            .map(|token| token + "\n")
            .map_err(|error| format!("cannot sign: {error}"))
    };
    if arguments.room.is_empty() {
        return sign(&claims);
    }
    arguments.room.iter().map(|room| sign(&dev::Claims { room_id: Some(room), ..claims.clone() })).collect()
}

impl Settings {
    fn into_inputs(self, dev: bool) -> Inputs {
        let named = [
            ("--listen", "http.listen", self.listen),
            ("--data-dir", "server.data_dir", self.data_dir),
            ("--shards", "server.shards", self.shards),
            ("--log", "server.log", self.log),
            ("--app-events", "sio.app_events", self.app_events.then(|| "true".into())),
        ];
        let flag = |written: &str, key: &str, value: String| Flag { written: written.into(), key: key.into(), value };
        let mut flags: Vec<_> =
            named.into_iter().filter_map(|(written, key, value)| Some(flag(written, key, value?))).collect();
        flags.extend(self.set.into_iter().map(|(key, value)| flag("--set", &key, value)));
        let mut inputs = Inputs { file: self.config, environment: vec![], flags, dev };
        inputs.take_environment(std::env::vars_os());
        inputs
    }
}

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example limits.live=100")?;
    Ok((key.trim().into(), value.into()))
}

/// `90`, `90s`, `15m`, `1h`, `7d`; 1 s to 366 days.
fn parse_duration_s(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("write a number with s, m, h or d, for example 1h".into()),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
    seconds
        .filter(|seconds| (1..=366 * 86_400).contains(seconds))
        .ok_or_else(|| "write a time from 1s to 366d, for example 1h".into())
}

/// A reader that goes away early (`throng config | head`) is no error.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3_600), ("366d", 31_622_400)] {
            assert_eq!(parse_duration_s(text), Ok(seconds));
        }
        for bad in ["", "0", "h", "1w", "367d", "-1h", "1.5h", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse_duration_s(bad).is_err(), "{bad}");
        }
    }
}
