//! Layers: defaults, then the file, then the environment, then flags. All faults are found, not only the first.
use super::key::Key;
use super::problem::{Place, Problem, Problems};
use super::suggest;
use super::table::{Config, KEYS};
use super::value::Input;
use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where a configuration comes from; kept by a running server to read it again.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--config`; without it `THRONG_CONFIG` may name the file.
    pub file: Option<PathBuf>,
    /// Variables whose name starts with `THRONG_`.
    pub environment: Vec<(String, String)>,
    /// In the order given: the last one wins.
    pub flags: Vec<Flag>,
    /// Development mode: the default of `http.listen` is the loopback address.
    pub dev: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As written on the command line, for example `--listen`.
    pub written: String,
    pub key: String,
    pub value: String,
}

impl Inputs {
    /// Keeps of `variables` (the process's environment) what concerns the configuration.
    pub fn take_environment(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        self.environment = variables
            .map(|(name, value)| (lossy(name), lossy(value)))
            .filter(|(name, _)| name.starts_with("THRONG_"))
            .collect();
        self.environment.sort_unstable();
    }
}

/// Reads the file, if one is named, and lays the layers on each other.
pub fn load(inputs: &Inputs) -> Result<Config, Problems> {
    let mut loader = Loader { config: Config::default(), places: HashMap::new(), problems: vec![] };
    if inputs.dev {
        loader.config.http.listen = SocketAddr::from(([127, 0, 0, 1], 8080));
    }
    let named =
        inputs.environment.iter().find(|(name, _)| name == "THRONG_CONFIG").map(|(_, path)| PathBuf::from(path));
    if let Some(path) = inputs.file.clone().or(named) {
        loader.read_file(&path);
    }
    for (name, value) in &inputs.environment {
        loader.take_variable(name, value);
    }
    for flag in &inputs.flags {
        loader.set(&flag.key, &Input::Loose(&flag.value), Place::Flag(flag.written.clone()));
    }
    loader.finish()
}

struct Loader {
    config: Config,
    /// Who set a key last: a fault found later names that place.
    places: HashMap<&'static str, Place>,
    problems: Vec<Problem>,
}

impl Loader {
    fn read_file(&mut self, path: &Path) {
        let place = Place::File(path.into(), None);
        match std::fs::read_to_string(path) {
            Ok(text) => self.take_file(path, &text),
            Err(error) => self.problems.push(Problem::new(place, "", format!("cannot be read: {error}"))),
        }
    }

    fn take_file(&mut self, path: &Path, text: &str) {
        let place = |offset: usize| {
            Place::File(path.into(), Some(1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()))
        };
        match DeTable::parse(text) {
            Ok(table) => self.take_table("", table.get_ref(), &place),
            Err(error) => {
                let place = error.span().map_or(Place::File(path.into(), None), |span| place(span.start));
                self.problems.push(Problem::new(place, "", format!("not TOML: {}", error.message())));
            }
        }
    }

    fn take_table(&mut self, prefix: &str, table: &DeTable, place: &dyn Fn(usize) -> Place) {
        for (name, value) in table.iter() {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let place_here = place(name.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if Key::find(&key).is_none() => {
                    let is_section = KEYS.iter().any(|known| known.section() == key);
                    if is_section || !inner.is_empty() {
                        self.take_table(&key, inner, place);
                    } else {
                        self.problems.push(Problem::new(
                            place_here,
                            &key,
                            "unknown section; `throng config` lists all keys",
                        ));
                    }
                }
                value => self.set(&key, &Input::from_toml(value), place_here),
            }
        }
    }

    /// `THRONG_LIMITS__LIVE`. A name without `__` is none of ours: orchestrators inject THRONG_PORT and the like for a
    /// service of that name.
    fn take_variable(&mut self, name: &str, value: &str) {
        let Some(key) = name.strip_prefix("THRONG_").filter(|rest| rest.contains("__")) else {
            return;
        };
        let place = Place::Environment(name.into());
        match KEYS.iter().find(|known| known.environment_name() == name) {
            Some(known) => self.set(known.name, &Input::Loose(value), place),
            None => {
                let key = key.to_lowercase().replacen("__", ".", 1);
                let what = suggest::unknown_key(&key);
                self.problems.push(Problem::new(place, &key, what));
            }
        }
    }

    fn set(&mut self, name: &str, input: &Input, place: Place) {
        match self.config.set_input(name, input, place.clone()) {
            Ok(()) => {
                if let Some(key) = Key::find(name) {
                    self.places.insert(key.name, place);
                }
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    fn finish(mut self) -> Result<Config, Problems> {
        for (key, what) in self.config.check() {
            let place = self.places.get(key).cloned().unwrap_or(Place::Default);
            self.problems.push(Problem::new(place, key, what));
        }
        if self.problems.is_empty() { Ok(self.config) } else { Err(Problems(self.problems)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load_text(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("throng.toml");
        std::fs::write(&file, text).unwrap();
        let inputs = Inputs {
            file: Some(file),
            environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            flags: flags
                .iter()
                .map(|(key, value)| Flag { written: "--set".into(), key: key.to_string(), value: value.to_string() })
                .collect(),
            dev: false,
        };
        let prefix = format!("{}/", folder.path().display());
        load(&inputs)
            .map_err(|problems| problems.0.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect())
    }

    #[test]
    fn later_layers_win() {
        let text =
            "limits.live = 1\nlimits.messages = 1\nlimits.commands = 1\n[http]\nallowed_origins = [\"https://a\"]\n";
        let environment = [("THRONG_LIMITS__MESSAGES", "2"), ("THRONG_LIMITS__COMMANDS", "2")];
        let config = load_text(text, &environment, &[("limits.commands", "3")]).unwrap();
        assert_eq!((config.limits.live, config.limits.messages, config.limits.commands), (1, 2, 3));
        assert_eq!(config.http.allowed_origins, ["https://a"]);
    }

    #[test]
    fn all_faults_are_named_with_their_line() {
        let text = "[limits]\nmesages = 5\nlive = \"x\"\n\n[ws]\nmax_message_bytes = 1\n[nothing]\nhere.there = 1\n";
        let faults = load_text(text, &[("THRONG_WS__PING", "1")], &[("plane.receive_buffers", "100")]).unwrap_err();
        for part in [
            "throng.toml:2: limits.mesages: unknown key; did you mean limits.messages?",
            "throng.toml:3: limits.live: \"x\" is not a whole number (per s)",
            "throng.toml:6: ws.max_message_bytes: 1 is out of range: 1024 to 16777216 bytes",
            "throng.toml:8: nothing.here.there: unknown key; `throng config` lists all keys",
            "environment THRONG_WS__PING: ws.ping: unknown key",
            "--set: plane.receive_buffers: 100 is not a power of two; the next one is 128",
        ] {
            assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part}\nnot in {faults:#?}");
        }
        assert_eq!(faults.len(), 6, "{faults:#?}");
    }

    #[test]
    fn broken_files_are_named() {
        assert!(load_text("a = 1\na = 2", &[], &[]).unwrap_err()[0].starts_with("throng.toml:2: not TOML: "));
        assert!(
            load_text("\n\nlimits = 3", &[], &[]).unwrap_err()[0].starts_with("throng.toml:3: limits: unknown key")
        );
        let missing = Inputs { file: Some("/nonexistent/throng.toml".into()), ..Inputs::default() };
        assert!(load(&missing).unwrap_err().to_string().contains("/nonexistent/throng.toml: cannot be read"));
    }

    #[test]
    fn a_value_is_not_taken_for_another_type() {
        for text in
            ["limits.live = 1.5", "limits.live = true", "limits.live = -1", "http.listen = 8080", "auth.issuer = 1"]
        {
            assert!(load_text(text, &[], &[]).is_err(), "{text}");
        }
        for text in ["auth.algorithms = \"HS256\"", "auth.algorithms = [1]", "auth = []", "limits.live = {}"] {
            assert!(load_text(text, &[], &[]).is_err(), "{text}");
        }
        assert_eq!(load_text("limits.live = 0x1_0", &[], &[]).unwrap().limits.live, 16);
    }

    #[test]
    fn development_mode_listens_on_loopback_unless_told() {
        let mut inputs = Inputs { dev: true, ..Inputs::default() };
        assert_eq!(load(&inputs).unwrap().http.listen.to_string(), "127.0.0.1:8080");
        inputs.environment =
            vec![("THRONG_HTTP__LISTEN".into(), "0.0.0.0:80".into()), ("THRONG_PORT".into(), "x".into())];
        assert_eq!(load(&inputs).unwrap().http.listen.to_string(), "0.0.0.0:80");
    }

    #[test]
    fn the_environment_may_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        std::fs::write(&file, "limits.live = 4").unwrap();
        let environment = vec![("THRONG_CONFIG".into(), file.to_string_lossy().into_owned())];
        assert_eq!(load(&Inputs { environment, ..Inputs::default() }).unwrap().limits.live, 4);
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(text in ".*", key in "[a-z._\"-]{0,20}", value in "[0-9a-z\"\\[\\]{}., -]{0,20}") {
            for text in [&text, &format!("[limits]\n{key} = {value}\n"), &format!("{key} = {value}")] {
                let mut loader = Loader { config: Config::default(), places: HashMap::new(), problems: vec![] };
                loader.take_file(Path::new("t.toml"), text);
                let shown = Problems(loader.problems.clone()).to_string();
                prop_assert!(shown.is_empty() || loader.finish().is_err());
            }
        }
    }
}
