//! SIGHUP: the configuration is read again, and what can change while running does.
use crate::config::{self, Config, Inputs};

/// The new configuration, or None if there is nothing to apply. What needs a restart is named and left as it is.
pub fn reload(current: &Config, inputs: &Inputs) -> Option<Config> {
    let next = match config::load(inputs) {
        Ok(next) => next,
        Err(problems) => {
            tracing::error!(%problems, "configuration not reloaded; the old one stays in force");
            return None;
        }
    };
    let changes = Config::reloadable_differences(current, &next);
    for key in &changes.at_start {
        tracing::warn!(key, "changed, but needs a restart");
    }
    if changes.live.is_empty() {
        tracing::info!("configuration reloaded: nothing changed");
        return None;
    }
    tracing::info!(changed = ?changes.live, "configuration reloaded");
    Some(current.reloaded(&next))
}
