//! The table of keys. A key is `section.name`; a limit of 0 is off.
//!
//! Ranges: a time has to be at least 1, because "0 = off" and "0 = at once" are both easy to believe; where 0 means
//! something, the meaning says what.
use super::key::{Applies, Key, Range};
use crate::limits;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Largest count: rates and counters are 32 bits wide.
const COUNT: u64 = u32::MAX as u64;
/// Longest time in milliseconds and seconds: one day, one year.
const DAY_MS: u64 = 86_400_000;
const YEAR_S: u64 = 31_536_000;

table! {
    /// Process-wide.
    server Server (AtStart) {
        data_dir: PathBuf = PathBuf::from("throng-data"), "folder", "Database, signing keys; made 0700 if missing";
        shards: u64 = 0, "count", "Shard threads; 0 = one per core this process may use", 0..=limits::SHARDS_MAX as u64;
        log: String = "info".into(), "filter", "Log level or tracing filter, for example info,throng::shard=debug";
    }
    http Http (AtStart) {
        listen: SocketAddr = ([0, 0, 0, 0], 8080).into(), "address", "Where clients connect";
        tls_listen: Option<SocketAddr> = None, "address", "Where clients connect by TLS, http.listen staying without; unset: http.listen itself, if tls.cert_file is set";
        allowed_origins: Vec<String> = vec![], "origins", "Origins besides the request's own host; \"*\" allows all";
        head_timeout_ms: u64 = 10_000, "ms", "Time for a complete HTTP head, TLS handshake included", 1..=DAY_MS;
        trusted_proxies: Vec<String> = vec![], "networks", "Addresses or CIDR networks whose X-Forwarded-For counts";
    }
    ws Ws (AtStart) {
        max_message_bytes: u64 = 65_536, "bytes", "Largest message, all fragments together; larger closes 1009", 1_024..=16_777_216;
        ping_interval_ms: u64 = 25_000, "ms", "Silence after which the server pings", 1..=DAY_MS;
        pong_timeout_ms: u64 = 20_000, "ms", "Further silence after which the connection closes 4103", 1..=DAY_MS;
        close_timeout_ms: u64 = 5_000, "ms", "How long to wait for the peer's close frame", 1..=DAY_MS;
        deflate: String = "off".into(), "off, ask, on", "Compression (permessage-deflate) with clients that offer it: never, if their address says ?deflate=1, or always";
        deflate_min_bytes: u64 = 256, "bytes", "Shorter messages are not compressed", 0..=16_777_216;
        deflate_level: u64 = 6, "level", "zlib's: 1 is fastest, 9 makes the smallest messages", 1..=9;
    }
    sio Sio (AtStart) {
        ping_interval_ms: u64 = 25_000, "ms", "Engine.IO: time from one ping to the next", 1..=DAY_MS;
        ping_timeout_ms: u64 = 20_000, "ms", "Engine.IO: time for the pong; then the session ends", 1..=DAY_MS;
        upgrade_timeout_ms: u64 = 10_000, "ms", "Engine.IO: time for a WebSocket to take over from polling", 1..=DAY_MS;
        max_payload_bytes: u64 = 1_000_000, "bytes", "Engine.IO: largest POST, and largest packet with its attachments", 1_024..=16_777_216;
        connect_timeout_ms: u64 = 45_000, "ms", "Socket.IO: time to join a first namespace", 1..=DAY_MS;
        namespaces: Vec<String> = vec!["/".into()], "names", "Socket.IO: namespaces that exist, each with its slash";
        recovery_ms: u64 = 120_000, "ms", "Socket.IO: how long a lost client's state is kept for its return; 0 = not at all", 0..=DAY_MS;
        app_events: bool = false, "flag", "Socket.IO: relay events that are not of the vocabulary to a room";
        eio3: bool = false, "flag", "Let in clients of Engine.IO 3 (Socket.IO 2)";
    }
    auth Auth (Live) {
        timeout_ms: u64 = 10_000, "ms", "Time for a first auth frame; then close 4001", 1..=DAY_MS;
        allow_query_token: bool = false, "flag", "Accept ?token= in the address (it ends up in logs of proxies)";
        algorithms: Vec<String> = vec!["HS256".into(), "RS256".into(), "ES256".into(), "EdDSA".into()], "names", "Accepted signature algorithms";
        secret_file: Option<PathBuf> = None, "file", "Shared secret for HS256, at least 32 bytes; or environment JWT_SECRET";
        public_key_file: Option<PathBuf> = None, "file", "PEM public key: RSA, EC P-256 or Ed25519";
        jwks_file: Option<PathBuf> = None, "file", "JSON Web Key Set";
        jwks_url: Option<String> = None, "url", "JSON Web Key Set over HTTPS";
        jwks_refresh_s: u64 = 300, "s", "How often the key set is read again", 10..=YEAR_S;
        issuer: Option<String> = None, "text", "Required iss claim";
        audience: Option<String> = None, "text", "Required aud claim";
        leeway_s: u64 = 30, "s", "Clock difference allowed for exp and nbf", 0..=600;
        admin_role: String = "admin".into(), "text", "Value of the role claim that gives owner rights in all rooms; empty: nobody gets them";
        moderator_role: String = "moderator".into(), "text", "Value of the role claim that gives moderator rights in all rooms; empty: nobody gets them";
    }
    tls Tls (Live) {
        cert_file: Option<PathBuf> = None, "file", "PEM certificate chain, the server's own first; unset: no TLS";
        key_file: Option<PathBuf> = None, "file", "PEM private key of the certificate";
    }
    limits Limits (Live) {
        connections: u64 = 0, "count", "Connections in all; 0 = what descriptors allow", 0..=COUNT;
        connections_per_ip: u64 = 100, "count", "Connections per address (IPv6: per /64)", 0..=COUNT;
        handshakes_per_ip: u64 = 20, "per s", "Handshakes per address and second", 0..=COUNT;
        handshakes_burst: u64 = 40, "count", "Handshakes per address at once", 0..=COUNT;
        unauthenticated: u64 = 10_000, "count", "Connections that have not signed in yet", 0..=COUNT;
        connections_per_user: u64 = 20, "count", "Connections per user; the next one closes 4008", 0..=COUNT;
        rooms_per_session: u64 = 128, "count", "Rooms a session may be subscribed to", 0..=COUNT;
        rooms_created: u64 = 20, "per h", "Rooms a user may create", 0..=COUNT;
        live: u64 = 50, "per s", "Live events per connection", 0..=COUNT;
        live_burst: u64 = 100, "count", "Live events per connection at once", 0..=COUNT;
        messages: u64 = 10, "per window", "Messages per user over all devices", 0..=COUNT;
        messages_window_s: u64 = 60, "s", "Window of limits.messages", 1..=86_400;
        commands: u64 = 100, "per 10 s", "Other commands per user; ten times that closes 4104", 0..=COUNT;
    }
    conn Conn (AtStart) {
        stale_ms: u64 = 300_000, "ms", "A connection that sends only pongs for this long closes 4102", 1..=DAY_MS;
        out_queue_bytes: u64 = 1_048_576, "bytes", "Unsent bytes per connection; beyond it live events are skipped and durable ones close 4101", 1_024..=1_073_741_824;
        write_timeout_ms: u64 = 10_000, "ms", "Nothing could be sent for this long: close 4101", 1..=DAY_MS;
    }
    drain Drain (AtStart) {
        batch: u64 = 10_000, "count", "Connections closed per step of a drain", 1..=COUNT;
        interval_ms: u64 = 2_000, "ms", "Time between two steps", 1..=DAY_MS;
        deadline_ms: u64 = 30_000, "ms", "A drain ends within this time", 0..=DAY_MS;
        retry_max_ms: u64 = 10_000, "ms", "Upper end of the range in which clients are told to reconnect", 0..=DAY_MS;
    }
    rooms Rooms (AtStart) {
        recent: u64 = 50, "count", "Messages in a snapshot", 0..=1_000;
        auto_create: bool = true, "flag", "Joining an unknown name makes a public room";
    }
    presence Presence (AtStart) {
        leave_grace_ms: u64 = 10_000, "ms", "How long user_left waits after an abnormal close", 0..=DAY_MS;
        events_max_users: u64 = 1_000, "count", "Above this, occupancy replaces joined, left and typing", 0..=COUNT;
    }
    typing Typing (AtStart) {
        ttl_ms: u64 = 6_000, "ms", "Typing ends after this time unless renewed", 1..=DAY_MS;
    }
    live LiveEvents (Live) {
        ask_timeout_ms: u64 = 5_000, "ms", "How long the answers to a question may take: the longest that an ask can say, and what it gets if it says nothing", 1..=DAY_MS;
    }
    recovery Recovery (AtStart) {
        limit: u64 = 300, "count", "Missed durable events that a recovery may bring", 0..=10_000;
    }
    session Session (AtStart) {
        token_s: u64 = 604_800, "s", "Validity of a resume token", 1..=YEAR_S;
    }
    chat Chat (Live) {
        max_chars: u64 = 2_000, "characters", "Longest message", 1..=1_000_000;
        metadata_bytes: u64 = 4_096, "bytes", "Largest metadata, as JSON", 0..=1_048_576;
        dedupe_s: u64 = 300, "s", "How long a client id is remembered", 0..=YEAR_S;
    }
    history History (AtStart) {
        retention_days: u64 = 0, "days", "Age at which events are deleted; 0 = never", 0..=36_500;
    }
    privacy Privacy (AtStart) {
        expose_email: bool = false, "flag", "Show e-mail addresses to other users";
    }
    admin Admin (AtStart) {
        listen: Option<SocketAddr> = None, "address", "Where metrics and statistics are served; unset: to loopback callers on http.listen";
    }
    store Store (AtStart) {
        queue: u64 = 16_384, "count", "Writes waiting for the disk; beyond it commands are refused as overloaded", 1..=16_777_216;
        batch_max: u64 = 4_096, "count", "Writes in one transaction", 1..=1_048_576;
        readers: u64 = 2, "count", "Threads that read rooms and history", 1..=64;
    }
    plane PlaneKeys (AtStart) {
        connections_per_shard: u64 = 0, "count", "Rows of a ring's descriptor table, of which a shard has rings_per_shard; 0 = RLIMIT_NOFILE less a reserve, at most 1048576", 0..=1_048_576;
        rings_per_shard: u64 = 0, "count", "Rings of a shard; 0 = as many as limits.connections needs at the start, or one", 0..=limits::RINGS_MAX as u64;
        receive_buffers: u64 = 1_024, "count", "Receive buffers of a shard's first ring, a power of two up to 32768; each further ring has an eighth", 16..=32_768;
        receive_buffer_bytes: u64 = 2_048, "bytes", "Size of one receive buffer", 256..=65_536;
    }
}
