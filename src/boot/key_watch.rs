//! The keys of a running server: a thread reads key sets again, and SIGHUP reads everything again (R-AUTH-2).
use super::dev::DevKey;
use super::keys::{self, LoadedKeys};
use super::post::post_until_taken;
use crate::auth::sources::KeySources;
use crate::auth::{JwksSource, KeySet, Settings, Verifier};
use crate::base::mailbox::Sender;
use crate::config::Config;
use crate::shard::UnknownKey;
use crate::shard::mail::Mail;
use std::io;
use std::sync::Arc;

/// Tells all shards of new keys.
pub struct KeyWatch {
    controls: Arc<[Sender<Mail>]>,
    /// None if all keys are fixed.
    refresh: Option<JwksSource>,
}

impl KeyWatch {
    /// `sources` were read once already.
    pub fn start(sources: KeySources, config: &Config, controls: Arc<[Sender<Mail>]>) -> io::Result<KeyWatch> {
        let mut watch = KeyWatch { controls, refresh: None };
        watch.watch(sources, config)?;
        Ok(watch)
    }

    /// What a shard calls when a token names a key that is not known.
    pub fn unknown_key(&self) -> UnknownKey {
        match &self.refresh {
            Some(refresh) => {
                let request = refresh.request();
                Arc::new(move |_| request.unknown_key())
            }
            None => Arc::new(|_| ()),
        }
    }

    /// Reads the keys that `config` names. If that fails, those known so far stay. May take 10 s, for `auth.jwks_url`.
    pub fn reload(&mut self, config: &Config, is_dev: bool) {
        let LoadedKeys { keys, sources, warnings } = match load(config, is_dev) {
            Ok(loaded) => loaded,
            Err(fault) => return tracing::error!(%fault, "keys not read again; those known so far stay in use"),
        };
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        // Its last word must come before ours.
        if let Some(refresh) = self.refresh.take() {
            refresh.stop();
        }
        if let Err(error) = self.watch(sources, config) {
            tracing::error!(%error, "no thread to read key sets again");
        }
        tracing::info!(keys = keys.keys().len(), "keys read again");
        let unknown_key = self.unknown_key();
        publish(&self.controls, &Settings::from(&config.auth), keys, Some(&unknown_key));
    }

    fn watch(&mut self, sources: KeySources, config: &Config) -> io::Result<()> {
        if sources.is_fixed() {
            return Ok(());
        }
        let (controls, settings) = (self.controls.clone(), Settings::from(&config.auth));
        let publish = move |keys| publish(&controls, &settings, keys, None);
        self.refresh = Some(JwksSource::start(sources, config.auth.jwks_refresh_s, publish)?);
        Ok(())
    }
}

/// With the same variable and development key as at the start.
fn load(config: &Config, is_dev: bool) -> Result<LoadedKeys, String> {
    let dev_key =
        is_dev.then(|| DevKey::load(&config.server.data_dir)).transpose().map_err(|error| error.to_string())?;
    let jwt_secret = std::env::var_os("JWT_SECRET");
    keys::load(config, jwt_secret.as_ref().map(|text| text.as_encoded_bytes()), dev_key.as_ref())
}

fn publish(controls: &[Sender<Mail>], settings: &Settings, keys: Arc<KeySet>, unknown_key: Option<&UnknownKey>) {
    let verifier = Arc::new(Verifier::new(settings.clone(), keys));
    for control in controls {
        post_until_taken(control, Mail::Keys(verifier.clone(), unknown_key.cloned()));
    }
}
