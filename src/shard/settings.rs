//! The shard's view of the configuration: rates made ready, times in ticks.
use super::liveness::ticks;
use crate::base::rate::Rate;
use crate::config::Config;
use crate::limits;
use crate::session::socketio;

#[derive(Clone, Debug)]
pub struct Settings {
    pub message_bytes_max: usize,
    pub auth_timeout: u32,
    pub ping_interval: u32,
    pub pong_timeout: u32,
    pub close_timeout: u32,
    pub stale: u32,
    pub write_timeout: u32,
    pub leeway_ms: u64,
    /// 0 = off.
    pub out_queue_bytes: u64,
    pub connections_per_user: u64,
    pub rooms_per_session: usize,
    pub live: Rate,
    pub commands: Rate,
    /// What one connection may send before it is closed 4104: ten times `commands`.
    pub flood: Flood,
    pub session_token_ms: u64,
    pub heartbeat_ms: u64,
    pub expose_email: bool,
    pub drain_batch: u64,
    pub drain_interval: u32,
    pub drain_deadline: u32,
    pub retry_max_ms: u64,
    pub sio: socketio::Settings,
    pub upgrade_timeout: u32,
    /// Ticks; 0 = recovery is off.
    pub recovery_ticks: u32,
}

/// When a connection's messages are a flood: ten times `limits.commands` (R-CHAT-5).
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Messages at once; 0 = off.
    pub level_max: u16,
    /// What a tick takes off the level.
    pub per_tick: u32,
}

impl Flood {
    fn new(commands: u64) -> Flood {
        let messages = commands.saturating_mul(10);
        let per_tick = messages.saturating_mul(limits::TICK_MS) / limits::COMMANDS_WINDOW_MS;
        Flood {
            level_max: u16::try_from(messages).unwrap_or(u16::MAX),
            per_tick: u32::try_from(per_tick.max(1)).unwrap_or(u32::MAX),
        }
    }
}

/// Clients are told to send `heartbeat` this often (R-CONN-3).
const HEARTBEAT_MS: u64 = 30_000;

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        let limit = &config.limits;
        Settings {
            message_bytes_max: config.ws.max_message_bytes as usize,
            auth_timeout: ticks(config.auth.timeout_ms),
            ping_interval: ticks(config.ws.ping_interval_ms),
            pong_timeout: ticks(config.ws.pong_timeout_ms),
            close_timeout: ticks(config.ws.close_timeout_ms),
            stale: ticks(config.conn.stale_ms),
            write_timeout: ticks(config.conn.write_timeout_ms),
            leeway_ms: config.auth.leeway_s * 1000,
            out_queue_bytes: config.conn.out_queue_bytes,
            connections_per_user: limit.connections_per_user,
            rooms_per_session: match limit.rooms_per_session {
                0 => usize::MAX,
                rooms => rooms as usize,
            },
            live: Rate::with_burst(limit.live, 1000, limit.live_burst),
            commands: Rate::per(limit.commands, limits::COMMANDS_WINDOW_MS),
            flood: Flood::new(limit.commands),
            session_token_ms: config.session.token_s * 1000,
            heartbeat_ms: HEARTBEAT_MS,
            expose_email: config.privacy.expose_email,
            drain_batch: config.drain.batch.max(1),
            drain_interval: ticks(config.drain.interval_ms).max(1),
            drain_deadline: ticks(config.drain.deadline_ms),
            retry_max_ms: config.drain.retry_max_ms,
            sio: socketio::Settings {
                namespaces: config.sio.namespaces.iter().map(|name| name.as_str().into()).collect(),
                ping_interval_ms: config.sio.ping_interval_ms,
                ping_timeout_ms: config.sio.ping_timeout_ms,
                connect_timeout_ms: config.sio.connect_timeout_ms,
                packet_bytes_max: config.sio.max_payload_bytes as usize,
                app_events: config.sio.app_events,
            },
            upgrade_timeout: ticks(config.sio.upgrade_timeout_ms),
            recovery_ticks: ticks(config.sio.recovery_ms),
        }
    }
}
