//! What messages become on the cable: WebSocket, TCP, IP and Ethernet around them, packets, acknowledgements.
use super::work::Work;
use serde::{Deserialize, Serialize};

/// Ethernet around an IP packet: preamble 8, header 14, check sequence 4, gap 12 (IEEE 802.3).
const ETHERNET_BYTES: f64 = 38.0;
/// IPv4 20, TCP 20 and its timestamp option 12 (RFC 791, 9293, 7323).
const TCP_IP_BYTES: f64 = 52.0;
/// Bytes that one TCP segment carries at an MTU of 1500.
pub const SEGMENT_BYTES: f64 = 1448.0;
/// A receiver acknowledges every second segment (RFC 9293, 3.8.6.3), unless an answer takes it along.
const SEGMENTS_PER_ACK: f64 = 2.0;

/// A live event as it is delivered, without its payload: docs/PROTOCOL.md, `broadcast`, with names of eight characters. What
/// counts where no run tells the size.
const DELIVERED: &str = r#"{"id":"evt_01M867TFMHKMQZZ8D5PSYCX34Z","type":"broadcast","data":{"roomId":"match-01","userId":"player01","event":"m","payload":,"timestamp":1795505864337},"timestamp":1795505864337}"#;
const SENT: &str = r#"{"id":"c-123456","type":"broadcast","data":{"roomId":"match-01","event":"m","payload":}}"#;

/// WebSocket frame headers (RFC 6455, 5.2) for messages of 126 to 65,535 bytes; clients mask.
const FRAME_BYTES: f64 = 4.0;
const MASK_BYTES: f64 = 4.0;

pub fn delivered_overhead_bytes() -> f64 {
    DELIVERED.len() as f64 + FRAME_BYTES
}

pub fn sent_overhead_bytes() -> f64 {
    SENT.len() as f64 + FRAME_BYTES + MASK_BYTES
}

/// A heartbeat and its answer, and the acknowledgement of a durable message, each with its frame.
const HEARTBEAT_BYTES: f64 = 79.0;
const HEARTBEAT_ANSWER_BYTES: f64 = 150.0;
const ACK_BYTES: f64 = 190.0;

/// Per second, on the server's side of the cable. Network cards carry both directions at once: the larger one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub out_bits_per_s: f64,
    pub in_bits_per_s: f64,
    pub out_packets_per_s: f64,
    pub in_packets_per_s: f64,
}

/// How large messages are besides their payload.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    pub delivered_bytes: f64,
    pub sent_bytes: f64,
    /// Taken from runs, not from the protocol's description.
    pub is_measured: bool,
}

impl Network {
    /// `sends_per_s`: sends that carry all the deliveries; `sent_payload_bytes`: payload of a message that a client sends.
    pub fn of(work: &Work, sends_per_s: f64, sent_payload_bytes: f64, overhead: &Overhead) -> Network {
        let mut out = Direction::default();
        let mut into = Direction::default();
        if work.deliveries_per_s > 0.0 {
            let bytes = work.payload_bytes_per_s + work.deliveries_per_s * overhead.delivered_bytes;
            out.carry(sends_per_s.clamp(1e-9, work.deliveries_per_s), bytes);
        }
        out.carry(work.heartbeats_per_s, work.heartbeats_per_s * HEARTBEAT_ANSWER_BYTES);
        out.carry(work.durable_per_s, work.durable_per_s * ACK_BYTES);
        into.carry(work.heartbeats_per_s, work.heartbeats_per_s * HEARTBEAT_BYTES);
        let commands = work.received_per_s + work.durable_per_s;
        into.carry(commands, commands * (sent_payload_bytes + overhead.sent_bytes));
        let (out_acks, in_acks) = (into.packets / SEGMENTS_PER_ACK, out.packets / SEGMENTS_PER_ACK);
        out.acknowledge(out_acks);
        into.acknowledge(in_acks);
        Network {
            out_bits_per_s: out.bytes * 8.0,
            in_bits_per_s: into.bytes * 8.0,
            out_packets_per_s: out.packets,
            in_packets_per_s: into.packets,
        }
    }

    pub fn larger_bits_per_s(&self) -> f64 {
        self.out_bits_per_s.max(self.in_bits_per_s)
    }

    pub fn scaled(&self, factor: f64) -> Network {
        Network {
            out_bits_per_s: self.out_bits_per_s * factor,
            in_bits_per_s: self.in_bits_per_s * factor,
            out_packets_per_s: self.out_packets_per_s * factor,
            in_packets_per_s: self.in_packets_per_s * factor,
        }
    }
}

#[derive(Default)]
struct Direction {
    bytes: f64,
    packets: f64,
}

impl Direction {
    /// `sends` of `bytes` in all, each in as many segments as it needs.
    fn carry(&mut self, sends: f64, bytes: f64) {
        if sends > 0.0 {
            let packets = sends * (bytes / sends / SEGMENT_BYTES).ceil().max(1.0);
            self.packets += packets;
            self.bytes += bytes + packets * (TCP_IP_BYTES + ETHERNET_BYTES);
        }
    }

    fn acknowledge(&mut self, packets: f64) {
        self.packets += packets;
        self.bytes += packets * (TCP_IP_BYTES + ETHERNET_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 deliveries/s of 64 + 186 = 250 bytes, each in its own send; 10 messages/s of 64 + 86 = 150 bytes received.
    /// Out: 1,000 · (250 + 90) + 5 acks · 90 = 340,450 B/s = 2,723,600 bit/s in 1,005 packets.
    /// In: 10 · (150 + 90) + 500 acks · 90 = 47,400 B/s = 379,200 bit/s in 510 packets.
    #[test]
    fn every_send_has_its_packets_and_acknowledgements() {
        let overhead = Overhead { delivered_bytes: 186.0, sent_bytes: 86.0, is_measured: false };
        let work =
            Work { deliveries_per_s: 1000.0, payload_bytes_per_s: 64_000.0, received_per_s: 10.0, ..Work::default() };
        let network = Network::of(&work, 1000.0, 64.0, &overhead);
        assert_eq!((network.out_bits_per_s, network.out_packets_per_s), (2_723_600.0, 1005.0));
        assert_eq!((network.in_bits_per_s, network.in_packets_per_s), (379_200.0, 510.0));
        // Ten in a send: 2,500 bytes are 2 segments, 200 packets instead of 1,000.
        let gathered = Network::of(&work, 100.0, 64.0, &overhead);
        assert_eq!(gathered.out_packets_per_s, 205.0);
        assert_eq!(gathered.out_bits_per_s, (250_000.0 + 205.0 * 90.0) * 8.0);
    }

    #[test]
    fn the_envelopes_are_those_of_the_protocol() {
        assert_eq!(delivered_overhead_bytes(), 182.0 + 4.0);
        assert_eq!(sent_overhead_bytes(), 88.0 + 8.0);
    }
}
