//! All mailboxes of a process: between shards, from the store's threads, and from boot and the services.
use crate::base::mailbox::{Bell, Sender, mailbox};
use crate::limits::mailbox_capacity;
use crate::shard::mail::Mail;
use crate::shard::mesh::Mesh;
use crate::store::threads::Sink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// A mailbox of a running shard empties within milliseconds.
pub(super) fn post_until_taken(control: &Sender<Mail>, mut mail: Mail) {
    for _ in 0..1_000 {
        match control.push(mail) {
            Ok(()) => return control.ring(),
            Err(back) => mail = back,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    tracing::error!("a shard does not read its mail");
}

/// All mailboxes of all shards.
pub(super) struct Post {
    meshes: Vec<Option<Mesh>>,
    stores: Vec<Sender<Mail>>,
    controls: Arc<[Sender<Mail>]>,
}

impl Post {
    pub fn new(bells: &[Arc<Bell>]) -> Post {
        let (count, capacity) = (bells.len(), mailbox_capacity(bells.len()));
        let mut out: Vec<Vec<Option<Sender<Mail>>>> = (0..count).map(|_| Vec::new()).collect();
        let mut inboxes: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        for (from, out) in out.iter_mut().enumerate() {
            for (to, (bell, inboxes)) in bells.iter().zip(&mut inboxes).enumerate() {
                out.push((from != to).then(|| {
                    let (sender, receiver) = mailbox(capacity, bell);
                    inboxes.push(receiver);
                    sender
                }));
            }
        }
        let mut others = || -> Vec<Sender<Mail>> {
            let pairs = bells.iter().map(|bell| mailbox(capacity, bell));
            pairs.zip(&mut inboxes).map(|((sender, receiver), inboxes)| (sender, inboxes.push(receiver)).0).collect()
        };
        let (stores, controls) = (others(), others().into());
        let meshes = out.into_iter().zip(inboxes).map(|(out, inboxes)| Some(Mesh::new(out, inboxes))).collect();
        Post { meshes, stores, controls }
    }

    pub fn mesh(&mut self, shard: u16) -> Mesh {
        self.meshes[usize::from(shard)].take().expect("each shard takes its mesh once")
    }

    pub fn controls(&self) -> Arc<[Sender<Mail>]> {
        self.controls.clone()
    }

    /// After `is_over` the shards read no mail any more, and what comes is nobody's.
    pub fn store_sink(&self, shard: u16, is_over: Arc<AtomicBool>) -> Sink {
        let mailbox = self.stores[usize::from(shard)].clone();
        Box::new(move |finished| match mailbox.push(Mail::Stored(finished)) {
            Ok(()) => {
                mailbox.ring();
                Ok(())
            }
            Err(_) if is_over.load(Relaxed) => Ok(()),
            Err(Mail::Stored(finished)) => Err(finished),
            Err(_) => unreachable!("a full mailbox gives back what was pushed"),
        })
    }
}
