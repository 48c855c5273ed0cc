//! What a changed configuration means for a running server (SIGHUP).
use super::key::Applies;
use super::table::{Config, KEYS};

/// Names of changed keys, in the order of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Take effect at once: sections `limits`, `live`, `auth`, `chat`, `tls`.
    pub live: Vec<&'static str>,
    /// Take effect at the next start.
    pub at_start: Vec<&'static str>,
}

impl Config {
    pub fn reloadable_differences(old: &Config, new: &Config) -> Differences {
        let mut differences = Differences::default();
        for key in KEYS {
            if (key.read)(old).text() != (key.read)(new).text() {
                match key.applies {
                    Applies::Live => differences.live.push(key.name),
                    Applies::AtStart => differences.at_start.push(key.name),
                }
            }
        }
        differences
    }

    /// This configuration with the live keys of `new`: what a running server holds after a reload.
    pub fn reloaded(&self, new: &Config) -> Config {
        Config {
            limits: new.limits.clone(),
            live: new.live.clone(),
            auth: new.auth.clone(),
            chat: new.chat.clone(),
            tls: new.tls.clone(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_keys_and_others_are_told_apart() {
        let old = Config::default();
        let mut new = old.clone();
        for (key, text) in [
            ("limits.live", "7"),
            ("auth.issuer", "me"),
            ("server.shards", "2"),
            ("live.ask_timeout_ms", "9"),
            ("chat.max_chars", "5"),
        ] {
            new.set(key, text).unwrap();
        }
        let differences = Config::reloadable_differences(&old, &new);
        assert_eq!(differences.live, ["auth.issuer", "limits.live", "live.ask_timeout_ms", "chat.max_chars"]);
        assert_eq!(differences.at_start, ["server.shards"]);
        let rest = Config::reloadable_differences(&old.reloaded(&new), &new);
        assert_eq!((rest.live.len(), rest.at_start), (0, vec!["server.shards"]));
    }
}
