//! The handshake packet: `0{"sid":…}`.
use super::{Sid, Transport};
use crate::wire::json;

/// What a client is told first.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    pub sid: Sid,
    /// The transport it is told on: from polling one can go on to a WebSocket.
    pub transport: Transport,
    /// `sio.ping_interval_ms`.
    pub ping_interval_ms: u64,
    /// `sio.ping_timeout_ms`.
    pub ping_timeout_ms: u64,
    /// `sio.max_payload_bytes`.
    pub max_payload_bytes: u64,
}

/// Appends the open packet, which is the same in both revisions: clients of revision 3 ignore `maxPayload`.
pub fn write_open(out: &mut Vec<u8>, open: &Open) {
    out.push(b'0');
    json::object(out, |message| {
        message.str("sid", open.sid.text(&mut [0; Sid::TEXT_BYTES]));
        message.raw("upgrades", if open.transport == Transport::Polling { r#"["websocket"]"# } else { "[]" });
        message.num("pingInterval", open.ping_interval_ms).num("pingTimeout", open.ping_timeout_ms);
        message.num("maxPayload", open.max_payload_bytes);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_protocol_asks_for() {
        for (transport, upgrades) in [(Transport::Polling, r#"["websocket"]"#), (Transport::WebSocket, "[]")] {
            let sid = Sid::new(0, 1, 2, [3; 12]);
            let open = Open {
                sid,
                transport,
                ping_interval_ms: 25_000,
                ping_timeout_ms: 20_000,
                max_payload_bytes: 1_000_000,
            };
            let mut out = Vec::new();
            write_open(&mut out, &open);
            let mut buffer = [0; Sid::TEXT_BYTES];
            let expected = format!(
                r#"0{{"sid":"{}","upgrades":{upgrades},"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}}"#,
                sid.text(&mut buffer)
            );
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
