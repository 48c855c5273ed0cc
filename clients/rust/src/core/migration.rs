//! Moving to another server when asked (R-CLU-7, R-SDK-5): the new connection first, then the old one's end.
use super::Core;
use super::output::{Close, LinkId, Output};
use super::timers::Timer;
use crate::error::Error;
use crate::event::Event;
use serde_json::{Map, Value};

/// The old server serves so long; then the new connection is given up (R-CLU-7).
const MIGRATION_MS: u64 = 30_000;

impl Core {
    pub(super) fn is_next(&self, link: LinkId) -> bool {
        self.connection.next.as_ref().is_some_and(|next| next.id == link)
    }

    /// Opens the connection to the new server; the old one serves until that is up.
    pub(super) fn migrate(&mut self, data: &Map<String, Value>) {
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        let (Some(url), Some(token)) = (text("newServerUrl"), text("migrationToken")) else { return };
        if self.connection.next.is_some() {
            return;
        }
        // Never from an encrypted connection to one that is not.
        let is_safe =
            url.starts_with("wss://") || (url.starts_with("ws://") && !self.settings.url.starts_with("wss://"));
        if !is_safe {
            return self.tell(Event::Error(Error::InvalidFormat(format!("a migration to {url:?}"))));
        }
        let next = self.new_link(url.to_owned(), Some(token.to_owned()));
        self.connection.next = Some(next);
        self.start(Timer::Migration, MIGRATION_MS);
    }

    /// The new connection is up: the old one ends.
    pub(super) fn switch(&mut self) {
        self.timers.stop(Timer::Migration);
        let next = self.connection.next.take();
        if let Some(old) = self.connection.link.as_ref().map(|link| link.id) {
            let how = Close::Frame { code: 1000, reason: "Client migrated" };
            self.outputs.push_back(Output::Close { link: old, how });
            self.link_ends();
        }
        self.connection.link = next;
    }
}
