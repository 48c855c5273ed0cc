//! The keys that the configuration names (R-AUTH-2), or why the server does not start.
use super::dev::DevKey;
use crate::auth::jwk::Origin;
use crate::auth::sources::{FileFetch, HttpsFetch, KeySources};
use crate::auth::{Key, KeySet, secret_file};
use crate::config::Config;
use std::path::Path;
use std::sync::Arc;

/// Keys at the start of a server.
pub struct LoadedKeys {
    /// Never empty.
    pub keys: Arc<KeySet>,
    /// For `JwksSource::start`, unless `is_fixed`.
    pub sources: KeySources,
    /// What an operator should know, one line each.
    pub warnings: Vec<String>,
}

/// What to say and do if no key is configured.
pub const NO_KEY: &str = "\
no key to check tokens with, so nobody could sign in; there is no built-in key
  Configure one of these, in the file, the environment or by --set:
    auth.secret_file      file with a shared secret of at least 32 bytes (HS256); or environment JWT_SECRET
    auth.public_key_file  PEM public key of your token issuer (RSA, EC P-256 or Ed25519)
    auth.jwks_file        JSON Web Key Set in a file
    auth.jwks_url         JSON Web Key Set of your identity provider, over HTTPS
  A ready example:
    (umask 077; openssl rand -base64 48 > jwt.secret)
    throng serve --set auth.secret_file=jwt.secret
  To try Throng on this machine without a key of your own:
    throng serve --dev";

/// Reads all keys once. Blocks for up to 10 s if `auth.jwks_url` is set.
///
/// `jwt_secret`: the environment variable `JWT_SECRET`. `dev`: the key of development mode.
/// Errors are texts for the operator: cause and remedy, nothing of a key.
pub fn load(config: &Config, jwt_secret: Option<&[u8]>, dev: Option<&DevKey>) -> Result<LoadedKeys, String> {
    let auth = &config.auth;
    let mut warnings = vec![];
    let mut fixed = vec![];
    let mut add = |source: &str, key: Result<Key, String>| -> Result<(), String> {
        let key = key.map_err(|fault| format!("{source}: {fault}"))?;
        let algorithm = key.algorithm().as_str();
        if !auth.algorithms.iter().any(|name| name == algorithm) {
            return Err(format!("{source}: the key is for {algorithm}, which auth.algorithms does not allow"));
        }
        fixed.push(Arc::new(key));
        Ok(())
    };
    if let Some(dev) = dev {
        add("development key", dev.verification_key())?;
    }
    let of_file =
        auth.secret_file.as_deref().map(|path| read_secret("auth.secret_file", path, &mut warnings)).transpose()?;
    let of_environment = jwt_secret.map(without_newline).filter(|secret| !secret.is_empty());
    match (&of_file, of_environment) {
        (Some(file), Some(environment)) if file != environment => {
            return Err("auth.secret_file and environment JWT_SECRET hold different secrets; keep one, \
                 or put both into auth.jwks_file as keys of kty \"oct\""
                .into());
        }
        (Some(secret), _) => add("auth.secret_file", Key::secret(None, secret))?,
        (None, Some(secret)) => add("environment JWT_SECRET", Key::secret(None, secret))?,
        (None, None) => {}
    }
    if let Some(path) = &auth.public_key_file {
        add("auth.public_key_file", read("auth.public_key_file", path).and_then(|pem| Key::pem(None, &pem)))?;
    }
    let has_fixed = !fixed.is_empty();
    let mut sources = KeySources::new(fixed);
    if let Some(path) = &auth.jwks_file {
        sources.add(FileFetch(path.clone()), Origin::File);
    }
    if let Some(url) = &auth.jwks_url {
        sources.add(HttpsFetch::new(url), Origin::Network);
    }
    if !has_fixed && sources.is_fixed() {
        return Err(NO_KEY.into());
    }
    first_reading(sources, auth.jwks_file.is_some(), warnings)
}

/// A file that cannot be read is a mistake and stops the start; a provider that does not answer stops it only if there is
/// no other key.
fn first_reading(mut sources: KeySources, has_file: bool, mut warnings: Vec<String>) -> Result<LoadedKeys, String> {
    let refreshed = sources.refresh();
    let keys = sources.key_set();
    let is_of_file = |cause: &String| has_file && !cause.starts_with("auth.jwks_url");
    if let Some(cause) = refreshed.failures.iter().find(|cause| is_of_file(cause)) {
        return Err(format!("auth.jwks_file: {cause}"));
    }
    if keys.is_empty() {
        return Err(format!("no key could be read, so nobody could sign in: {}", refreshed.failures.join("; ")));
    }
    warnings.extend(refreshed.failures.into_iter().map(|cause| format!("{cause}; it is tried again while running")));
    warnings.extend(refreshed.left_out.into_iter().map(|key| format!("key set: {key} is left out")));
    Ok(LoadedKeys { keys, sources, warnings })
}

fn read_secret(name: &str, path: &Path, warnings: &mut Vec<String>) -> Result<Vec<u8>, String> {
    let secret = read(name, path)?;
    if secret_file::is_readable_by_others(path) {
        warnings.push(format!("{name}: others may read {}; chmod 600 it", path.display()));
    }
    Ok(without_newline(&secret).to_vec())
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{name}: {}: {error}", path.display()))
}

/// Editors and `openssl rand` end a file with a newline that is not part of the secret.
fn without_newline(secret: &[u8]) -> &[u8] {
    let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys");
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn algorithms(loaded: &LoadedKeys) -> Vec<&'static str> {
        loaded.keys.keys().iter().map(|key| key.algorithm().as_str()).collect()
    }

    fn load_with(settings: &[(&str, &str)], jwt_secret: Option<&[u8]>) -> Result<LoadedKeys, String> {
        let mut config = Config::default();
        for (key, text) in settings {
            config.set(key, text).unwrap();
        }
        load(&config, jwt_secret, None)
    }

    fn fault(settings: &[(&str, &str)], jwt_secret: Option<&[u8]>) -> String {
        load_with(settings, jwt_secret).err().expect("refused")
    }

    #[test]
    fn no_key_no_start() {
        let text = fault(&[], None);
        for part in
            ["auth.secret_file", "JWT_SECRET", "auth.public_key_file", "auth.jwks_file", "auth.jwks_url", "--dev"]
        {
            assert!(text.contains(part), "{part}");
        }
        assert_eq!(fault(&[], Some(b"\n")), NO_KEY, "an empty variable is none");
    }

    #[test]
    fn secrets_come_from_file_or_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, [SECRET, b"\n"].concat()).unwrap();
        let setting = [("auth.secret_file", path.to_str().unwrap())];
        let loaded = load_with(&setting, None).unwrap();
        assert_eq!(algorithms(&loaded), ["HS256"]);
        assert!(loaded.warnings[0].contains("chmod 600") && loaded.sources.is_fixed());
        assert_eq!(load_with(&setting, Some(SECRET)).unwrap().keys.keys().len(), 1);
        assert!(fault(&setting, Some(&[1; 32])).contains("different secrets"));
        assert!(fault(&[], Some(&SECRET[1..])).contains("31 bytes"));
        assert!(fault(&[], Some(&[&SECRET[1..], b"\n"].concat())).contains("31 bytes"));
        assert!(fault(&[("auth.secret_file", "/nonexistent")], None).starts_with("auth.secret_file: /nonexistent: "));
    }

    #[test]
    fn a_key_needs_its_algorithm_allowed() {
        let pem = format!("{KEYS}/p256.pub.pem");
        let loaded = load_with(&[("auth.public_key_file", &pem)], Some(SECRET)).unwrap();
        assert_eq!(algorithms(&loaded), ["HS256", "ES256"]);
        let text = fault(&[("auth.public_key_file", &pem), ("auth.algorithms", "RS256,EdDSA")], None);
        assert!(text.contains("ES256") && text.contains("auth.algorithms"), "{text}");
        let text = fault(&[("auth.public_key_file", &format!("{KEYS}/p256.pem"))], None);
        assert!(text.starts_with("auth.public_key_file: this is a private key"), "{text}");
    }

    #[test]
    fn a_broken_key_set_file_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, r#"{"keys":[]}"#).unwrap();
        let setting = [("auth.jwks_file", path.to_str().unwrap())];
        assert!(fault(&setting, Some(SECRET)).starts_with("auth.jwks_file: no usable key"));
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}},{{"kty":"AKP"}}]}}"#);
        std::fs::write(&path, keys).unwrap();
        let loaded = load_with(&setting, None).unwrap();
        assert_eq!(algorithms(&loaded), ["EdDSA"]);
        assert!(!loaded.sources.is_fixed() && loaded.warnings.len() == 1);
    }

    /// Port 9 of the loopback network: nobody listens.
    #[test]
    fn a_silent_provider_stops_the_start_only_without_other_keys() {
        let url = [("auth.jwks_url", "https://127.0.0.1:9/jwks.json")];
        assert!(fault(&url, None).contains("no key could be read"));
        let loaded = load_with(&url, Some(SECRET)).unwrap();
        assert!(loaded.warnings[0].contains("auth.jwks_url") && !loaded.sources.is_fixed());
    }
}
