//! The table of keys. A key is `section.name`; a limit of 0 is off.
use std::net::SocketAddr;
use std::path::PathBuf;

/// What `throng config` prints about one key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub unit: &'static str,
    pub meaning: &'static str,
}

macro_rules! table {
    ($($(#[$section_doc:meta])* $section:ident $Section:ident {
        $($field:ident: $type:ty = $default:expr, $unit:literal, $meaning:literal;)*
    })*) => {
        $($(#[$section_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Section { $(#[doc = $meaning] pub $field: $type,)* }

        impl Default for $Section {
            fn default() -> Self { $Section { $($field: $default,)* } }
        })*

        /// All settings, typed.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Config { $(pub $section: $Section,)* }

        /// Every key, in the order of the table.
        pub const KEYS: &[Key] = &[$($(
            Key { name: concat!(stringify!($section), ".", stringify!($field)), unit: $unit, meaning: $meaning },
        )*)*];
    };
}

table! {
    /// Process-wide.
    server Server {
        data_dir: PathBuf = PathBuf::from("throng-data"), "folder", "Database, signing keys; made 0700 if missing";
        shards: u64 = 0, "count", "Shard threads; 0 = one per core this process may use";
        log: String = "info".into(), "filter", "Log level or tracing filter, for example info,throng::shard=debug";
    }
    http Http {
        listen: SocketAddr = ([0, 0, 0, 0], 8080).into(), "address", "Where clients connect";
        allowed_origins: Vec<String> = vec![], "origins", "Origins besides the request's own host; \"*\" allows all";
        head_timeout_ms: u64 = 10_000, "ms", "Time for a complete HTTP head";
        trusted_proxies: Vec<String> = vec![], "networks", "Addresses or CIDR networks whose X-Forwarded-For counts";
    }
    ws Ws {
        max_message_bytes: u64 = 65_536, "bytes", "Largest message, all fragments together; larger closes 1009";
        ping_interval_ms: u64 = 25_000, "ms", "Silence after which the server pings";
        pong_timeout_ms: u64 = 20_000, "ms", "Further silence after which the connection closes 4103";
        close_timeout_ms: u64 = 5_000, "ms", "How long to wait for the peer's close frame";
    }
    auth Auth {
        timeout_ms: u64 = 10_000, "ms", "Time for a first auth frame; then close 4001";
        allow_query_token: bool = false, "flag", "Accept ?token= in the address (it ends up in logs of proxies)";
        algorithms: Vec<String> = vec!["HS256".into(), "RS256".into(), "ES256".into(), "EdDSA".into()], "names", "Accepted signature algorithms";
        secret_file: Option<PathBuf> = None, "file", "Shared secret for HS256, at least 32 bytes; or environment JWT_SECRET";
        public_key_file: Option<PathBuf> = None, "file", "PEM public key: RSA, EC P-256 or Ed25519";
        jwks_file: Option<PathBuf> = None, "file", "JSON Web Key Set";
        jwks_url: Option<String> = None, "url", "JSON Web Key Set over HTTPS";
        jwks_refresh_s: u64 = 300, "s", "How often the key set is read again";
        issuer: Option<String> = None, "text", "Required iss claim";
        audience: Option<String> = None, "text", "Required aud claim";
        leeway_s: u64 = 30, "s", "Clock difference allowed for exp and nbf";
        admin_role: String = "admin".into(), "text", "Value of the role claim that gives owner rights in all rooms";
        moderator_role: String = "moderator".into(), "text", "Value of the role claim that gives moderator rights";
    }
    limits Limits {
        connections: u64 = 0, "count", "Connections in all; 0 = what descriptors allow";
        connections_per_ip: u64 = 100, "count", "Connections per address (IPv6: per /64)";
        handshakes_per_ip: u64 = 20, "per s", "Handshakes per address and second";
        handshakes_burst: u64 = 40, "count", "Handshakes per address at once";
        unauthenticated: u64 = 10_000, "count", "Connections that have not signed in yet";
        connections_per_user: u64 = 20, "count", "Connections per user; the next one closes 4008";
        rooms_per_session: u64 = 128, "count", "Rooms a session may be subscribed to";
        rooms_created: u64 = 20, "per h", "Rooms a user may create";
        live: u64 = 50, "per s", "Live events per connection";
        live_burst: u64 = 100, "count", "Live events per connection at once";
        messages: u64 = 10, "per window", "Messages per user over all devices";
        messages_window_s: u64 = 60, "s", "Window of limits.messages";
        commands: u64 = 100, "per 10 s", "Other commands per user; ten times that closes 4104";
    }
    conn Conn {
        stale_ms: u64 = 300_000, "ms", "A connection that sends only pongs for this long closes 4102";
        out_queue_bytes: u64 = 1_048_576, "bytes", "Unsent bytes per connection; beyond it live events are skipped and durable ones close 4101";
        write_timeout_ms: u64 = 10_000, "ms", "Nothing could be sent for this long: close 4101";
    }
    drain Drain {
        batch: u64 = 10_000, "count", "Connections closed per step of a drain";
        interval_ms: u64 = 2_000, "ms", "Time between two steps";
        deadline_ms: u64 = 30_000, "ms", "A drain ends within this time";
        retry_max_ms: u64 = 10_000, "ms", "Upper end of the range in which clients are told to reconnect";
    }
    rooms Rooms {
        recent: u64 = 50, "count", "Messages in a snapshot";
        auto_create: bool = true, "flag", "Joining an unknown name makes a public room";
    }
    presence Presence {
        leave_grace_ms: u64 = 10_000, "ms", "How long user_left waits after an abnormal close";
        events_max_users: u64 = 1_000, "count", "Above this, occupancy replaces joined, left and typing";
    }
    typing Typing {
        ttl_ms: u64 = 6_000, "ms", "Typing ends after this time unless renewed";
    }
    recovery Recovery {
        limit: u64 = 300, "count", "Missed durable events that a recovery may bring";
    }
    session Session {
        token_s: u64 = 604_800, "s", "Validity of a resume token";
    }
    chat Chat {
        max_chars: u64 = 2_000, "characters", "Longest message";
        metadata_bytes: u64 = 4_096, "bytes", "Largest metadata, as JSON";
        dedupe_s: u64 = 300, "s", "How long a client id is remembered";
    }
    history History {
        retention_days: u64 = 0, "days", "Age at which events are deleted; 0 = never";
    }
    privacy Privacy {
        expose_email: bool = false, "flag", "Show e-mail addresses to other users";
    }
    admin Admin {
        listen: Option<SocketAddr> = None, "address", "Where metrics and statistics are served; unset: to loopback callers on http.listen";
    }
    store Store {
        queue: u64 = 16_384, "count", "Writes waiting for the disk; beyond it commands are refused as overloaded";
        batch_max: u64 = 4_096, "count", "Writes in one transaction";
        readers: u64 = 2, "count", "Threads that read rooms and history";
    }
    plane PlaneKeys {
        connections_per_shard: u64 = 0, "count", "Rows of a shard's descriptor table; 0 = RLIMIT_NOFILE less a reserve";
        receive_buffers: u64 = 1_024, "count", "Receive buffers of a shard, a power of two up to 32768";
        receive_buffer_bytes: u64 = 2_048, "bytes", "Size of one receive buffer";
    }
}
