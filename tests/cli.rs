//! The command line as an operator meets it: the built binary, its texts and exit codes.
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use tempfile::TempDir;
use throng::auth::{Key, KeySet, Settings, Verifier};
use throng::config::{Auth, KEYS};

/// A command in an empty folder and an empty environment.
fn throng(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throng"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn run(arguments: &[&str]) -> Output {
    throng(TempDir::new().unwrap().path(), arguments, &[])
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The text of a refusal: exit code 2, nothing on standard output, every fault under our name.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(text.starts_with("throng: "), "{text}");
    text
}

#[test]
fn version_and_help() {
    assert_eq!(out(&run(&["--version"])), format!("throng {}\n", env!("CARGO_PKG_VERSION")));
    let help = out(&run(&["--help"]));
    for part in ["serve", "token", "config", "Examples:", "throng serve --dev", "throng token --user anna"] {
        assert!(help.contains(part), "{part}");
    }
    assert!(out(&run(&["serve", "--help"])).contains("THRONG_SECTION__KEY"));
}

#[test]
fn usage_errors_are_ours() {
    for (arguments, part) in [
        (&["serv"][..], "serve"),
        (&["serve", "--port", "1"], "--port"),
        (&["serve", "--set", "limits.live"], "KEY=VALUE"),
        (&["token"], "--user"),
        (&["token", "--user", "anna", "--ttl", "1y"], "for example 1h"),
    ] {
        let text = refusal(&run(arguments));
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn config_lists_every_key() {
    let (text, sample) = (out(&run(&["config"])), out(&run(&["config", "--format", "toml"])));
    for key in KEYS {
        assert!(text.contains(key.name) && text.contains(key.meaning), "{}", key.name);
        assert!(sample.contains(&format!("# {} = ", key.field())), "{}", key.name);
    }
}

/// The printed sample is a file that the server takes.
#[test]
fn the_sample_file_is_accepted() {
    let folder = TempDir::new().unwrap();
    let sample = out(&run(&["config", "--format", "toml"]));
    std::fs::write(folder.path().join("throng.toml"), &sample).unwrap();
    assert_eq!(out(&throng(folder.path(), &["config", "--config", "throng.toml", "--format", "toml"], &[])), sample);
}

#[test]
fn flags_override_environment_overrides_file() {
    let folder = TempDir::new().unwrap();
    let text = "[limits]\nlive = 1\nmessages = 1\ncommands = 1\n[http]\nlisten = \"127.0.0.1:7001\"\n";
    std::fs::write(folder.path().join("t.toml"), text).unwrap();
    let environment = [
        ("THRONG_CONFIG", "t.toml"),
        ("THRONG_LIMITS__MESSAGES", "2"),
        ("THRONG_LIMITS__COMMANDS", "2"),
        ("THRONG_HTTP__LISTEN", "127.0.0.1:7002"),
        ("THRONG_PORT", "tcp://10.0.0.1:80"),
    ];
    let arguments =
        ["config", "--set", "limits.commands=3", "--listen", "127.0.0.1:7003", "--app-events", "--format", "toml"];
    let shown = out(&throng(folder.path(), &arguments, &environment));
    assert!(shown.contains("\napp_events = true\n"), "{shown}");
    for line in ["\nlive = 1\n", "\nmessages = 2\n", "\ncommands = 3\n", "\nlisten = \"127.0.0.1:7003\"\n"] {
        assert!(shown.contains(line), "{line:?} not in {shown}");
    }
}

#[test]
fn unknown_keys_and_bad_values_are_named_with_their_place() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("t.toml"), "[limits]\nlive = 1\nmesages = 5\n").unwrap();
    let arguments = ["serve", "--dev", "--config", "t.toml", "--shards", "9999", "--set", "nothing.here=1"];
    let text = refusal(&throng(folder.path(), &arguments, &[("THRONG_WS__MAX_MESSAGE_BYTES", "big")]));
    for line in [
        "throng: t.toml:3: limits.mesages: unknown key; did you mean limits.messages?",
        "throng: environment THRONG_WS__MAX_MESSAGE_BYTES: ws.max_message_bytes: \"big\" is not a whole number (bytes)",
        "throng: --shards: server.shards: 9999 is out of range: 0 to 256 count",
        "throng: --set: nothing.here: unknown key; `throng config` lists all keys",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
    assert!(!folder.path().join("throng-data").exists(), "a refused start leaves nothing behind");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_printed() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("t.toml"), "auth.secret = \"correct horse battery\"\n").unwrap();
    let text = refusal(&throng(folder.path(), &["config", "--config", "t.toml"], &[]));
    assert!(text.contains("did you mean auth.secret_file?") && !text.contains("horse"), "{text}");
}

/// R-AUTH-2: no key, no start, no built-in key.
#[test]
fn serve_without_a_key_says_how_to_get_one() {
    let folder = TempDir::new().unwrap();
    let text = refusal(&throng(folder.path(), &["serve"], &[]));
    for part in
        ["auth.secret_file", "JWT_SECRET", "auth.public_key_file", "auth.jwks_file", "auth.jwks_url", "serve --dev"]
    {
        assert!(text.contains(part), "{part} not in {text}");
    }
    assert!(text.contains("throng serve --set auth.secret_file=jwt.secret"), "a ready example");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let text = refusal(&throng(folder.path(), &["serve"], &[("JWT_SECRET", "too short")]));
    assert!(text.contains("environment JWT_SECRET: the secret has 9 bytes") && !text.contains("too short"), "{text}");
}

#[test]
fn token_needs_the_development_key() {
    let text = refusal(&run(&["token", "--user", "anna"]));
    assert!(text.contains("dev-secret.key") && text.contains("throng serve --dev --data-dir throng-data"), "{text}");
    assert!(refusal(&run(&["token", "--user", "a\nb"])).contains("--user"));
    assert!(refusal(&run(&["token", "--user", "anna", "--room", "not/a/room"])).contains("not/a/room"));
}

#[test]
fn tokens_verify_under_the_development_key() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    std::fs::write(data.join("dev-secret.key"), secret).unwrap();
    let key = Arc::new(Key::secret(Some("dev"), secret.as_bytes()).unwrap());
    let verifier = Verifier::new(Settings::from(&Auth::default()), Arc::new(KeySet::new(vec![key], 0)));
    let sign = |extra: &[&str]| {
        let arguments = [&["token", "--data-dir", "data", "--user", "anna"], extra].concat();
        out(&throng(folder.path(), &arguments, &[])).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let tokens = sign(&["--role", "moderator", "--email", "a@example.com", "--ttl", "2h"]);
    assert_eq!(tokens.len(), 1);
    // The token says itself when it was made: no clock in this test.
    let identity = verifier.verify(&tokens[0], 0).unwrap();
    let issued_ms = identity.issued_at_ms.unwrap();
    assert_eq!((&*identity.user_id, identity.email.as_deref()), ("anna", Some("a@example.com")));
    assert_eq!(identity.role, throng::base::user::GlobalRole::Moderator);
    assert_eq!(identity.expires_at_ms - issued_ms, 7_200_000);
    let rooms = sign(&["--role", "owner", "--room", "staff", "lobby", "--ttl", "60"]);
    for (token, room) in rooms.iter().zip(["staff", "lobby"]) {
        assert_eq!(verifier.verify_room_token(token, "anna", room, 0).unwrap().role, Some("owner"));
        assert!(verifier.verify(token, 0).is_err());
    }
    assert_eq!(rooms.len(), 2);
}

/// The manual's table is the printed one.
#[test]
fn the_manual_lists_the_keys_as_they_are() {
    let manual = include_str!("../docs/OPERATING.md");
    let (_, rest) = manual.split_once("<!-- keys: printed by `throng config --format markdown` -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- end of keys -->").unwrap();
    assert_eq!(table, out(&run(&["config", "--format", "markdown"])), "print the table again");
}
