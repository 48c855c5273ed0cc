//! Bounds that are not configurable, each with unit, derivation and what happens at it.
//! Configurable ones are keys of `config`.

/// Shards in one process. Bounded by the mesh: one queue per ordered pair.
pub const SHARDS_MAX: u16 = 256;

/// Rows of one ring's table of connections: the kernel's IORING_MAX_FIXED_FILES. More: no ring (EMFILE).
pub const TABLE_ROWS_MAX: u32 = 1 << 20;

/// Rings of one shard. Each is looked at once a turn, some ten ns. With the fewest rows that the usual hard limit of 4,096
/// descriptors leaves, they hold 900,000 connections.
pub const RINGS_MAX: u16 = 256;

/// Kernel memory of one idle connection, bytes, to plan with. Measured on Linux 6.18, x86-64: tcp_sock 2,521, sock_inode 862, file
/// 195, dentry 195, security module 56 (slab sizes, with what their pages waste); one armed poll 263; its row of the table 8. That
/// makes 4,100; the rest is for other kernels and configurations. Smaller: a machine is said to hold what it does not. Larger: memory
/// stays unused. Buffers of data in flight come on top and are bounded by net.ipv4.tcp_mem.
pub const CONNECTION_KERNEL_BYTES: u64 = 4_400;

/// Memory of one idle connection in the process, bytes, to plan with: `tests/idle_memory.rs` fails above it.
pub const CONNECTION_USER_BYTES: u64 = 224;

/// What TLS adds to it, bytes, to plan with: `tests/tls_idle.rs` fails above it. Two keys with their tables (544 bytes each) and in TLS 1.3
/// what makes the next ones, 2,056 bytes in all; the allocator rounds blocks up.
pub const CONNECTION_TLS_BYTES: u64 = 3_072;

/// Members of rooms that are offered new frames in one turn: once the queue of requests of a shard's first ring. At 2.5 µs a send
/// that makes 10 ms, at the 13 µs of a million sockets that lie in no cache 53 ms, for which heartbeats, joins and pages wait. More:
/// they wait longer. Fewer: what a turn costs besides, some ten µs, is no longer lost in them.
pub const OFFERS_PER_TURN: usize = 4_096;

/// What a socket that was empty may take in one send, bytes: the largest send buffer the kernel gives by itself (`net.ipv4.tcp_wmem`).
/// Private bytes of one turn that go beyond this and `conn.out_queue_bytes` together would leave a slow reader behind whatever the socket
/// takes, and end it before they are made (R-CONN-5). Smaller: whoever asks for many pages at once is cut off. Larger: asking without
/// reading holds more.
pub const SOCKET_SEND_BYTES_MAX: u64 = 4 << 20;

/// Bytes of answers for other shards that commands from there may make in one turn; the rest of them waits for the next. The answers are
/// read meanwhile. Fewer: more turns for a rush of large answers. More: so much lies between two shards.
pub const MAILED_BYTES_PER_TURN: usize = 4 << 20;

/// HTTP head, bytes (R-CONN-2). Larger: 431 and close.
pub const HTTP_HEAD_BYTES_MAX: usize = 16_384;

/// Headers in one HTTP head. More: 431. Browsers send about 20.
pub const HTTP_HEADERS_MAX: usize = 64;

/// Bytes of the client in a TLS handshake. A ClientHello is under 2 KiB, with post-quantum key shares too, and what follows it under
/// 200 bytes; rustls would read messages of up to 64 KiB. More: the handshake has failed.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 65_536;

/// JSON nesting (R-ENV-3). Deeper: `invalid_format`.
pub const JSON_DEPTH_MAX: usize = 32;

/// Bytes of a frame before sign-in (R-AUTH-1). Larger: close 1009.
pub const UNAUTHENTICATED_MESSAGE_BYTES_MAX: usize = 8_192;

/// A token in compact form, bytes. What fits into the only frame allowed before sign-in. Longer: refused unread.
pub const TOKEN_BYTES_MAX: usize = UNAUTHENTICATED_MESSAGE_BYTES_MAX;

/// Shared secrets for HS256, bytes (R-AUTH-2; RFC 7518 section 3.2 asks for the hash's size). Shorter: no start.
pub const SECRET_BYTES_MIN: usize = 32;

/// RSA moduli, bits. Below: breakable. Above: the verifier does not take it, and a verification would cost milliseconds.
pub const RSA_BITS_MIN: usize = 2_048;
pub const RSA_BITS_MAX: usize = 4_096;

/// A token without `kid` is tried against at most this many keys: each try costs a signature verification, and anyone
/// may send such tokens. More keys of its algorithm: the token is refused as of an unknown key.
pub const KEYS_TRIED_MAX: usize = 4;

/// A JSON Web Key Set, bytes and keys. Providers publish 2 to 10 keys. Longer: refused, known keys stay.
pub const JWKS_BYTES_MAX: u64 = 1 << 20;
pub const JWKS_KEYS_MAX: usize = 100;

/// An unknown `kid` makes the key set be read again at most this often, ms (R-AUTH-2).
pub const JWKS_UNKNOWN_KID_MS: u64 = 30_000;

/// Empty fragments of one message: legal (RFC 6455 5.4), but an endless row of them costs CPU without ever reaching the size
/// limit, which bounds the others. More: close 1002.
pub const FRAGMENTS_MAX: u32 = 4_096;

/// Packets in one polling payload of Engine.IO. Each costs a dispatch of some 100 ns, so a payload at most half a millisecond. A
/// client that was offline sends what it kept in one payload; 4,096 is four times the commands that would close it for flooding.
/// More: 400, and the session ends.
pub const ENGINE_PAYLOAD_PACKETS_MAX: usize = 4_096;

/// Attachments of one Socket.IO packet, the bound of npm `socket.io-parser`. More: the connection closes.
pub const ATTACHMENTS_MAX: usize = 10;

/// A Socket.IO namespace in a packet, bytes. What is configured is shorter (`NAMESPACE_NAME_BYTES_MAX`); a client may still ask for
/// one that does not exist, and hears of it by name. Longer: the connection closes.
pub const NAMESPACE_BYTES_MAX: usize = 256;

/// A Socket.IO namespace in the configuration, bytes, its slash not counted: with the prefix `ns:` it names a room (R-ID-2).
pub const NAMESPACE_NAME_BYTES_MAX: usize = 100;

/// Namespaces in the configuration. Each is a wire format of its own for each of the two revisions, and a shard has 32 of those, which
/// other protocols want some of too. More: no start.
pub const NAMESPACES_MAX: usize = 8;

/// JSON nesting of a Socket.IO payload: what a native message may have, less the envelope and the data object that a live event of an
/// application is put into. Deeper: the connection closes.
pub const SOCKETIO_DEPTH_MAX: usize = JSON_DEPTH_MAX - 2;

/// A Socket.IO CONNECT, bytes: the frame allowed before sign-in, and what a recovery adds to it (pid, offset). Larger: close.
pub const SOCKETIO_CONNECT_BYTES_MAX: usize = UNAUTHENTICATED_MESSAGE_BYTES_MAX + 1_024;

/// CONNECTs of one Engine.IO session, good and refused: each may cost the check of a signature. A client connects a namespace once,
/// and again after the server ended it. More: close.
pub const SOCKETIO_CONNECTS_MAX: u32 = 128;

/// The line before a chunk of a request's body, bytes: sixteen digits and an extension, which nobody sends. More: 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Trailers behind a chunked body, bytes: they are read over. More: 400.
pub const TRAILER_BYTES_MAX: usize = 4_096;

/// Malformed messages in `INVALID_WINDOW_MS` before close 4007 (R-ENV-3).
pub const INVALID_MESSAGES_MAX: u32 = 10;
pub const INVALID_WINDOW_MS: u64 = 60_000;

/// Entries of `onlineUsers` in a snapshot (R-ROOM-4).
pub const SNAPSHOT_ONLINE_MAX: usize = 200;

/// Messages in one `get_history` page (R-CHAT-6).
pub const HISTORY_PAGE_MAX: u32 = 100;

/// Users in one `get_presence` (R-PRES-4).
pub const PRESENCE_QUERY_MAX: usize = 100;

/// Rooms in one `resume` (R-REC-2): what a session may be subscribed to by default. More: `invalid_argument`.
pub const RESUME_ROOMS_MAX: usize = 128;

/// Rooms of one event stream (R-SSE-1). Each durable event of a stream of several rooms carries an id of all their positions, 34 bytes a
/// room, and its request must bring that id beside the rooms' names and a token. More: HTTP 400; a client opens a second stream.
pub const STREAM_ROOMS_MAX: usize = 32;

/// What the client of an event stream may send behind its request, bytes: it has nothing to say, and a stray line feed is no attack.
/// More: close 1002.
pub const STREAM_INPUT_BYTES_MAX: u16 = 1_024;

/// How long the client of an event stream waits before it reconnects, ms: a random time between the two, so that the streams of a
/// server that went away do not all come back at once. Smaller: no spread. Larger: a short break is felt.
pub const STREAM_RETRY_MS: [u64; 2] = [1_000, 5_000];

/// The same after a close that asks for back-off (4100 to 4199).
pub const STREAM_BACK_OFF_MS: [u64; 2] = [5_000, 30_000];

/// The same after a terminal close, for clients that do not know that they should stop: each try costs a handshake.
pub const STREAM_TERMINAL_RETRY_MS: [u64; 2] = [60_000, 120_000];

/// Characters of an `epoch` (product section 2). Longer: `invalid_argument`.
pub const EPOCH_CHARS_MAX: usize = 16;

/// Characters of a room's name and description (R-ROOM-1).
pub const ROOM_NAME_CHARS_MAX: usize = 100;
pub const ROOM_DESCRIPTION_CHARS_MAX: usize = 500;

/// Slow mode, seconds (R-MOD-2): six hours.
pub const SLOW_MODE_S_MAX: u32 = 21_600;

/// Messages in a `get_history` page that names no limit (R-CHAT-6).
pub const HISTORY_PAGE_DEFAULT: u32 = 50;

/// Seconds without message, typing or `activity` until a user counts as idle (R-PRES-4).
pub const IDLE_AFTER_S: u32 = 300;

/// A typing repeat is relayed at most this often, ms (R-PRES-5).
pub const TYPING_RELAY_MS: u64 = 3_000;

/// Occupancy events of one room: at most one in this time, ms (R-PRES-3).
pub const OCCUPANCY_INTERVAL_MS: u64 = 1_000;

/// Occupancy events that one room may cost, deliveries per second: a million users who hear a number every second would keep a core
/// busy with nothing else (3 µs a delivery). A larger room hears it less often, a million every 50 s.
pub const OCCUPANCY_DELIVERIES_PER_S: u64 = 20_000;

/// `limits.commands` window, ms; ten times the limit closes 4104 (R-CHAT-5).
pub const COMMANDS_WINDOW_MS: u64 = 10_000;

/// `limits.rooms_created` window, ms (R-ROOM-1).
pub const ROOMS_CREATED_WINDOW_MS: u64 = 3_600_000;

/// Messages in one mailbox between two threads. A full one is back-pressure: what each kind of mail does then is
/// said at its variant.
///
/// Each of n shards hears from the n - 1 others, the store and the control thread: n (n + 1) mailboxes, whose memory is taken
/// when the server starts. They share 32 MiB at 136 bytes a message (the mail and its stamp). Up to 7 shards each has the 4,096
/// that a burst of one turn may need. From 62 shards on each has 64 and the sum is larger, since fewer would be full after a few
/// commands: 65 MiB with 88 shards, 546 MiB with 256.
pub const fn mailbox_capacity(shards: usize) -> usize {
    const ALL_BYTES: usize = 32 << 20;
    const MESSAGE_BYTES: usize = 136;
    let each = ALL_BYTES / MESSAGE_BYTES / (shards * (shards + 1));
    match each {
        0..64 => 64,
        4_096.. => 4_096,
        _ => each,
    }
}

/// The tick of the shard's timers, ms. Typing expiry (6 s) and occupancy (1 s) are the finest deadlines there are.
pub const TICK_MS: u64 = 100;

/// Sends that who came and who left may cause in one tick of a shard. What comes beyond them in that tick waits for more of its room, so
/// that many go out in one send: when everybody comes back at once, each return would be a send to each of the others. At the 13 µs of
/// a socket that lies in no cache, 26 ms of the tick's 100. More: less is left for the returns themselves. Fewer: presence is late
/// where it need not be.
pub const PRESENCE_SENDS_PER_TICK: usize = 2_048;

/// How long it waits, ms, unless a frame of another kind for the room takes it along; then it is told as soon as the shard has nothing
/// else to send, half of the above in a turn. `room_occupancy` is as late (R-PRES-3). Shorter: fewer go together.
pub const PRESENCE_WAIT_MS: u64 = 1_000;

/// How long a room without subscribers stays in memory after commands that waited for it were let go, ms; a missing room is known
/// to be missing for as long. Shorter than it takes to try those commands again: they load the room once more. Longer: names that
/// nobody uses hold memory.
pub const ROOM_LINGER_MS: u64 = 1_000;

/// Joins of one room that wait for missed events from disk (about 150 bytes each). More: `overloaded`, and a resume goes on without
/// recovery. All of them wait for one read, so the wait is short.
pub const HELD_JOINS_MAX: usize = 1_024;

/// Refused messages of one room that wait to hear whether they are repeats. More: refused without asking, and a repeat among them
/// gets its first result only when it is tried again, later.
pub const PROBES_MAX: usize = 64;

/// Users of one room whose typing is followed (32 bytes each). More: not relayed, and counted.
pub const TYPING_USERS_MAX: usize = 256;

/// Sessions of a room in which a question may be asked, the asker's own not counted. Each may answer at once, which is a command of its
/// own: as many as fit into a mailbox of a server of few shards, and as are offered the question in one turn. More: `limit_reached`.
pub const ASKED_MAX: usize = 4_096;

/// Answers that the ack of one question holds, and the bytes of their payloads and user ids: the ack is one message, four times as large
/// as what a client may send, and a quarter of what may wait for a slow reader (`conn.out_queue_bytes`). More: counted in `dropped`.
pub const ANSWERS_MAX: usize = 1_000;
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Questions open at a time in one room. Each holds its answers and 12 bytes for each session asked, so that a room has at most 10 MiB of
/// them. A question is over within `live.ask_timeout_ms`, and usually as soon as all have answered. More: `overloaded`.
pub const ASKS_OF_ROOM_MAX: usize = 32;

/// Of these, of one session: others are to have their turn. Over all its rooms `limits.live` bounds what a session asks. More:
/// `rate_limited`.
pub const ASKS_OF_SESSION_MAX: usize = 8;

/// Users of one room whose last message is remembered while slow mode is on. More: the surplus is not slowed down.
pub const SLOW_MODE_USERS_MAX: usize = 65_536;

/// Roles that one room keeps in memory: all members of a private room, moderators and owners of a public one. More: `limit_reached`.
pub const ROLES_MAX: usize = 100_000;

/// Newest durable events of one room in memory, bytes; beyond it (or `recovery.limit` events) the oldest go, save the messages of
/// a snapshot. Smaller: more recoveries read the disk. Larger: every active room costs as much.
pub const WINDOW_BYTES_MAX: usize = 131_072;

/// `retryAfterMs` of `overloaded` when a store queue is full, ms. A full queue of 16,384 writes drains in well under a second.
pub const OVERLOADED_RETRY_MS: u64 = 1_000;

/// Rooms listed by number of connections in `/stats` (R-OPS-1).
pub const TOP_ROOMS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_share_a_budget() {
        let of = |shards: usize| mailbox_capacity(shards);
        assert_eq!([1, 2, 16, 64, 256].map(of), [4_096, 4_096, 907, 64, 64]);
        for shards in 1..=60 {
            assert!(of(shards) * shards * (shards + 1) * 136 <= 32 << 20, "{shards}");
        }
        assert!((1..=256).all(|shards| (64..=4_096).contains(&of(shards)) && of(shards + 1) <= of(shards)));
    }
}
