//! The token in use, and when another one is needed (R-SDK-2).
use super::output::{Ask, TokenReason};
use serde_json::Value;

/// A token that ends so soon is not used for a new connection.
const NEARLY_OVER_MS: i64 = 5000;
/// A provider that failed before the token's end is asked again after this.
pub(super) const ASK_AGAIN_MS: u64 = 10_000;

#[derive(Default)]
pub(super) struct Tokens {
    /// Whether there is a provider to ask; else one fixed token.
    pub has_provider: bool,
    token: Option<String>,
    /// Unix milliseconds by the server's clock; None: not known yet.
    expires_at_ms: Option<i64>,
    /// The server's clock minus ours.
    skew_ms: i64,
    was_rejected: bool,
    /// Counts questions.
    ask: u64,
    is_asking: bool,
}

impl Tokens {
    pub fn begin(&mut self, has_provider: bool) {
        self.has_provider = has_provider;
        self.forget();
    }

    pub fn forget(&mut self) {
        self.token = None;
        self.expires_at_ms = None;
        self.was_rejected = false;
        self.stop_asking();
    }

    /// The token for a connection that is made now; None: ask first.
    pub fn usable(&self, unix_ms: u64) -> Option<&str> {
        let now_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX).saturating_add(self.skew_ms);
        let is_over = self.expires_at_ms.is_some_and(|end| now_ms >= end.saturating_sub(NEARLY_OVER_MS));
        // Who has but one token tries it: the server's close code says more than a guess.
        if self.was_rejected || (self.has_provider && is_over) {
            return None;
        }
        self.token.as_deref()
    }

    pub fn ask(&mut self, reason: TokenReason) -> (Ask, TokenReason) {
        self.is_asking = true;
        self.ask += 1;
        (Ask(self.ask), if self.was_rejected { TokenReason::Rejected } else { reason })
    }

    /// Whether this answers the newest question.
    pub fn is_answer(&mut self, ask: Ask) -> bool {
        let is_it = self.is_asking && ask.0 == self.ask;
        if is_it {
            self.is_asking = false;
        }
        is_it
    }

    /// A later answer does not count any more.
    pub fn stop_asking(&mut self) {
        self.is_asking = false;
    }

    /// Put into use. When it ends is not known yet.
    pub fn put(&mut self, token: String) {
        self.token = Some(token);
        self.expires_at_ms = None;
        self.was_rejected = false;
    }

    /// When the token in use ends, as the server says.
    pub fn accepted(&mut self, expires_at: Option<&Value>) {
        if let Some(at) = expires_at.and_then(Value::as_i64) {
            self.expires_at_ms = Some(at);
        }
    }

    pub fn clock(&mut self, server: Option<&Value>, unix_ms: u64) {
        if let (Some(server), Ok(own)) = (server.and_then(Value::as_i64), i64::try_from(unix_ms)) {
            self.skew_ms = server.saturating_sub(own);
        }
    }

    /// Close 4001 to 4004.
    pub fn rejected(&mut self) {
        self.was_rejected = true;
    }
}
