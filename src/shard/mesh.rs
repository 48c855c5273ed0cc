//! Mail between shards: one bounded queue per ordered pair, and what waits when a queue is full.
use super::mail::Mail;
use crate::base::mailbox::{Receiver, Sender};
use std::collections::VecDeque;

/// This shard's ends of the mesh.
pub struct Mesh {
    /// By shard; none for itself.
    out: Vec<Option<Outgoing>>,
    /// Mail from the other shards, from the store's threads, and from boot and the services.
    inboxes: Vec<Receiver<Mail>>,
    /// Which inbox is drained first: moves on each turn so that none starves.
    first: usize,
}

struct Outgoing {
    sender: Sender<Mail>,
    /// Must-arrive mail that did not fit, oldest first. While it is not empty everything queues behind it.
    backlog: VecDeque<Mail>,
    is_ringing: bool,
}

impl Mesh {
    /// Beyond this much waiting mail for one shard, commands for it are refused.
    const BACKLOG_SOFT_MAX: usize = 1_024;

    pub fn new(out: Vec<Option<Sender<Mail>>>, inboxes: Vec<Receiver<Mail>>) -> Mesh {
        let outgoing = |sender| Outgoing { sender, backlog: VecDeque::new(), is_ringing: false };
        Mesh { out: out.into_iter().map(|sender| sender.map(outgoing)).collect(), inboxes, first: 0 }
    }

    /// Queues mail that must arrive.
    pub fn post(&mut self, shard: u16, mail: Mail) {
        let out = self.outgoing(shard);
        out.is_ringing = true;
        if out.backlog.is_empty() {
            if let Err(mail) = out.sender.push(mail) {
                out.backlog.push_back(mail);
            }
        } else {
            out.backlog.push_back(mail);
        }
    }

    /// Queues mail that may be refused: given back when there is no room.
    pub fn offer(&mut self, shard: u16, mail: Mail) -> Result<(), Mail> {
        let out = self.outgoing(shard);
        if !out.backlog.is_empty() {
            return Err(mail);
        }
        out.is_ringing = true;
        out.sender.push(mail)
    }

    /// Keeps room for so many in each backlog.
    pub fn trim(&mut self, kept: usize) {
        self.out.iter_mut().flatten().for_each(|out| out.backlog.shrink_to(kept));
    }

    /// Room for one more command. Unlike `offer` it may be queued behind a short backlog, which keeps a connection's mail in order.
    pub fn is_congested(&self, shard: u16) -> bool {
        self.out[usize::from(shard)].as_ref().is_some_and(|out| out.backlog.len() >= Self::BACKLOG_SOFT_MAX)
    }

    /// At the end of a turn: retries what waits and wakes those who got mail.
    pub fn flush(&mut self) {
        for out in self.out.iter_mut().flatten() {
            while let Some(mail) = out.backlog.pop_front() {
                if let Err(mail) = out.sender.push(mail) {
                    out.backlog.push_front(mail);
                    break;
                }
                out.is_ringing = true;
            }
            if std::mem::take(&mut out.is_ringing) {
                out.sender.ring();
            }
        }
    }

    /// Takes at most `budget` pieces of mail, fairly over the senders. True if there may be more.
    pub fn receive(&mut self, budget: usize, into: &mut Vec<Mail>) -> bool {
        let (count, mut has_more) = (self.inboxes.len(), false);
        self.first = (self.first + 1) % count.max(1);
        let share = (budget / count.max(1)).max(1);
        for i in 0..count {
            let inbox = &self.inboxes[(self.first + i) % count];
            into.extend(std::iter::from_fn(|| inbox.pop()).take(share));
            has_more |= !inbox.is_empty();
        }
        has_more
    }

    pub fn has_mail(&self) -> bool {
        self.inboxes.iter().any(|inbox| !inbox.is_empty())
    }

    /// Mail that waits for room, all shards.
    pub fn waiting(&self) -> usize {
        self.out.iter().flatten().map(|out| out.backlog.len()).sum()
    }

    fn outgoing(&mut self, shard: u16) -> &mut Outgoing {
        self.out[usize::from(shard)].as_mut().expect("a shard does not write to itself")
    }
}
