//! What the domain needs of the configuration, in the units it works in.
use crate::base::rate::Rate;
use crate::config::Config;
use crate::limits;

#[derive(Clone, Debug)]
pub struct Settings {
    /// `rooms.recent`: messages in a snapshot.
    pub recent: usize,
    /// `rooms.auto_create`.
    pub auto_create: bool,
    /// `presence.leave_grace_ms`.
    pub leave_grace_ms: u64,
    /// `presence.events_max_users`.
    pub events_max_users: u64,
    /// `typing.ttl_ms`.
    pub typing_ttl_ms: u64,
    /// `live.ask_timeout_ms`.
    pub ask_timeout_ms: u64,
    /// `recovery.limit`: missed events that a recovery may bring.
    pub recovery_limit: u64,
    /// `chat.max_chars`.
    pub message_chars_max: usize,
    /// `chat.metadata_bytes`.
    pub metadata_bytes_max: usize,
    /// `history.retention_days` in milliseconds; 0 = for ever.
    pub retention_ms: u64,
    /// `privacy.expose_email`.
    pub expose_email: bool,
    /// `limits.messages` per `limits.messages_window_s`.
    pub messages: Rate,
    /// `limits.rooms_created`.
    pub rooms_created: Rate,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            recent: size(config.rooms.recent),
            auto_create: config.rooms.auto_create,
            leave_grace_ms: config.presence.leave_grace_ms,
            events_max_users: config.presence.events_max_users,
            typing_ttl_ms: config.typing.ttl_ms,
            ask_timeout_ms: config.live.ask_timeout_ms,
            recovery_limit: config.recovery.limit,
            message_chars_max: size(config.chat.max_chars),
            metadata_bytes_max: size(config.chat.metadata_bytes),
            retention_ms: config.history.retention_days.saturating_mul(86_400_000),
            expose_email: config.privacy.expose_email,
            messages: Rate::per(config.limits.messages, config.limits.messages_window_s.saturating_mul(1_000)),
            rooms_created: Rate::per(config.limits.rooms_created, limits::ROOMS_CREATED_WINDOW_MS),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::from(&Config::default())
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
