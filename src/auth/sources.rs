//! Where key sets come from, and what they gave last (R-AUTH-2). A source that fails keeps its keys: known keys outlive an
//! outage.
use super::jwk::{self, Origin};
use super::keys::{Key, KeySet};
use crate::limits;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Brings a document. May block for some seconds.
pub trait Fetch: Send {
    /// The text, or the cause for the log.
    fn fetch(&mut self) -> Result<String, String>;
}

impl<F: FnMut() -> Result<String, String> + Send> Fetch for F {
    fn fetch(&mut self) -> Result<String, String> {
        self()
    }
}

/// `auth.jwks_file`.
pub struct FileFetch(pub PathBuf);

impl Fetch for FileFetch {
    fn fetch(&mut self) -> Result<String, String> {
        let path = self.0.display();
        let size = fs::metadata(&self.0).map_err(|error| format!("{path}: {error}"))?.len();
        if size > limits::JWKS_BYTES_MAX {
            return Err(format!("{path}: {size} bytes; at most {} are read", limits::JWKS_BYTES_MAX));
        }
        fs::read_to_string(&self.0).map_err(|error| format!("{path}: {error}"))
    }
}

/// `auth.jwks_url`: HTTPS only, no redirect, at most `limits::JWKS_BYTES_MAX`, 10 s in all.
pub struct HttpsFetch {
    url: String,
    agent: ureq::Agent,
}

impl HttpsFetch {
    pub fn new(url: &str) -> HttpsFetch {
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .timeout_connect(Some(Duration::from_secs(5)))
            .user_agent(concat!("throng/", env!("CARGO_PKG_VERSION")))
            .build();
        HttpsFetch { url: url.into(), agent: config.into() }
    }
}

impl Fetch for HttpsFetch {
    fn fetch(&mut self) -> Result<String, String> {
        let named = |cause: &dyn std::fmt::Display| format!("auth.jwks_url: {cause}");
        let mut response = self.agent.get(&self.url).call().map_err(|error| named(&error))?;
        if response.status() != 200 {
            return Err(named(&format!("HTTP status {}", response.status().as_u16())));
        }
        response.body_mut().with_config().limit(limits::JWKS_BYTES_MAX).read_to_string().map_err(|error| named(&error))
    }
}

/// The keys that do not change, and the sources of those that may.
pub struct KeySources {
    fixed: Vec<Arc<Key>>,
    sources: Vec<Source>,
    version: u64,
}

struct Source {
    fetch: Box<dyn Fetch>,
    origin: Origin,
    document: String,
    keys: Vec<Arc<Key>>,
}

/// What one reading of all sources brought.
#[derive(Debug)]
pub struct Refreshed {
    /// The new set, if it differs from the last one.
    pub changed: Option<Arc<KeySet>>,
    /// Sources that failed: their keys stay.
    pub failures: Vec<String>,
    /// Keys left out of documents that were taken.
    pub left_out: Vec<String>,
}

impl KeySources {
    pub fn new(fixed: Vec<Arc<Key>>) -> KeySources {
        KeySources { fixed, sources: vec![], version: 0 }
    }

    pub fn add(&mut self, fetch: impl Fetch + 'static, origin: Origin) {
        self.sources.push(Source { fetch: Box::new(fetch), origin, document: String::new(), keys: vec![] });
    }

    /// Whether nothing can change: no thread is needed.
    pub fn is_fixed(&self) -> bool {
        self.sources.is_empty()
    }

    /// All keys known now.
    pub fn key_set(&self) -> Arc<KeySet> {
        let read = self.sources.iter().flat_map(|source| &source.keys);
        Arc::new(KeySet::new(self.fixed.iter().chain(read).cloned().collect(), self.version))
    }

    /// Reads every source once. Blocks.
    pub fn refresh(&mut self) -> Refreshed {
        let mut refreshed = Refreshed { changed: None, failures: vec![], left_out: vec![] };
        let mut is_changed = false;
        for source in &mut self.sources {
            let taken = source.fetch.fetch().and_then(|document| source.take(document));
            match taken {
                Ok(None) => {}
                Ok(Some(left_out)) => {
                    is_changed = true;
                    refreshed.left_out.extend(left_out);
                }
                Err(cause) => refreshed.failures.push(cause),
            }
        }
        if is_changed {
            self.version += 1;
            refreshed.changed = Some(self.key_set());
        }
        refreshed
    }
}

impl Source {
    /// `None`: the document is the one we have. A set without a usable key counts as a failure: it is a mishap of the
    /// provider far more often than a wish that nobody may sign in.
    fn take(&mut self, document: String) -> Result<Option<Vec<String>>, String> {
        if document == self.document {
            return Ok(None);
        }
        let parsed = jwk::parse(&document, self.origin)?;
        (self.document, self.keys) = (document, parsed.keys);
        Ok(Some(parsed.left_out))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn document(kids: &[&str]) -> String {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let keys: Vec<_> =
            kids.iter().map(|kid| format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#)).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    pub fn kids(keys: &KeySet) -> Vec<&str> {
        keys.keys().iter().filter_map(|key| key.kid()).collect()
    }

    #[test]
    fn known_keys_outlive_an_outage_and_changes_are_published_once() {
        let mut answers = vec![
            Ok(document(&["a"])),
            Ok(document(&["a"])),
            Err("down".to_string()),
            Ok(r#"{"keys":[]}"#.into()),
            Ok("<html>".into()),
            Ok(document(&["b", "c"])),
        ]
        .into_iter();
        let fixed = Arc::new(Key::secret(Some("fixed"), &[1; 32]).unwrap());
        let mut sources = KeySources::new(vec![fixed]);
        sources.add(move || answers.next().unwrap(), Origin::Network);
        let first = sources.refresh().changed.unwrap();
        assert_eq!((kids(&first), first.version), (vec!["fixed", "a"], 1));
        assert!(sources.refresh().changed.is_none(), "the same document");
        for _ in 0..3 {
            let refreshed = sources.refresh();
            assert!(refreshed.changed.is_none() && refreshed.failures.len() == 1);
            assert_eq!(kids(&sources.key_set()), ["fixed", "a"]);
        }
        let last = sources.refresh().changed.unwrap();
        assert_eq!((kids(&last), last.version), (vec!["fixed", "b", "c"], 2));
    }

    #[test]
    fn files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        fs::write(&path, " ".repeat(1 << 20)).unwrap();
        assert!(FileFetch(path.clone()).fetch().is_ok());
        fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
        assert!(FileFetch(path).fetch().unwrap_err().contains("1048577 bytes"));
        assert!(FileFetch("/nonexistent".into()).fetch().is_err());
    }

    /// Nothing is asked for over plain HTTP, whatever a configuration says.
    #[test]
    fn plain_http_is_refused() {
        assert!(HttpsFetch::new("http://127.0.0.1:9/jwks").fetch().unwrap_err().starts_with("auth.jwks_url: "));
    }
}
