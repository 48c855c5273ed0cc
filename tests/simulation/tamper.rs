//! Deliberate faults between a client's socket and the checks: a check that passes these is no check.
use super::Broken;
use std::collections::BTreeMap;
use throng::plane::SimRng;

/// Changes about one frame in this many of the kind that it is after.
const ONE_IN: usize = 40;

pub struct Tamper {
    broken: Broken,
    rng: SimRng,
    /// By connection: a frame to be delivered behind the next one.
    held: BTreeMap<usize, Vec<u8>>,
    /// Frames dropped, repeated or swapped.
    pub count: u64,
}

impl Tamper {
    pub fn new(seed: u64, broken: Broken) -> Tamper {
        Tamper { broken, rng: SimRng::new(seed ^ 0x7a3), held: BTreeMap::new(), count: 0 }
    }

    /// What the checks get to see in place of this text message.
    pub fn pass(&mut self, conn: usize, message: Vec<u8>) -> Vec<Vec<u8>> {
        let has = |kind: &str| message.windows(kind.len()).any(|window| window == kind.as_bytes());
        let is_target = match self.broken {
            Broken::DroppedFrame | Broken::RepeatedFrame | Broken::SwappedPair => has(r#""type":"chat_message""#),
            Broken::DroppedLiveEvent => has(r#""type":"broadcast""#),
            Broken::LostAck => has(r#""type":"ack""#),
            Broken::Nothing | Broken::ForgottenExclusion | Broken::LostWrite => return vec![message],
        };
        if let Some(first) = self.held.remove(&conn) {
            return vec![message, first];
        }
        if !is_target || self.rng.below(ONE_IN) > 0 {
            return vec![message];
        }
        self.count += 1;
        match self.broken {
            Broken::RepeatedFrame => vec![message.clone(), message],
            Broken::SwappedPair => {
                self.held.insert(conn, message);
                vec![]
            }
            _ => vec![],
        }
    }
}
