//! The store of a simulated process: the in-memory back end behind queues that the seed empties, sooner or later, with failures.
//!
//! What it keeps to is the port's promise and no more: jobs of one room come back in order, per kind.
use super::shape::StoreShape;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use throng::base::mailbox::Sender;
use throng::ids::UlidSource;
use throng::plane::SimRng;
use throng::shard::mail::Mail;
use throng::store::memory::{Memory, MemoryReader, MemoryWriter};
use throng::store::port::{
    Append, Done, EventRow, Outcome, Read, ReadJob, Reader, RoomImage, StorePort, Waiter, Write, WriteJob, Writer,
};

/// Jobs that were handed in, of all shards.
struct Queues {
    writes: VecDeque<Box<WriteJob>>,
    reads: VecDeque<Box<ReadJob>>,
    is_full: bool,
}

struct Port(Arc<Mutex<Queues>>);

impl StorePort for Port {
    fn write(&self, job: Box<WriteJob>) -> Result<(), Box<WriteJob>> {
        let mut queues = self.0.lock().expect("one thread");
        if queues.is_full {
            return Err(job);
        }
        queues.writes.push_back(job);
        Ok(())
    }

    fn read(&self, job: Box<ReadJob>) -> Result<(), Box<ReadJob>> {
        let mut queues = self.0.lock().expect("one thread");
        if queues.is_full {
            return Err(job);
        }
        queues.reads.push_back(job);
        Ok(())
    }
}

pub struct SimStore {
    queues: Arc<Mutex<Queues>>,
    memory: Memory,
    writer: MemoryWriter,
    reader: MemoryReader,
    rng: SimRng,
    /// Finished jobs that their shard has not got yet.
    finished: Vec<VecDeque<Done>>,
    mailboxes: Vec<Sender<Mail>>,
    /// Messages to be acknowledged without being stored, for a check that must notice.
    lies: f64,
    pub lies_told: u64,
    /// Reads for recoveries that memory could not serve.
    pub recovery_reads: u64,
}

impl SimStore {
    pub fn new(seed: u64, dedupe_s: u64, mailboxes: Vec<Sender<Mail>>, lies: f64) -> SimStore {
        let mut ids = SimRng::new(seed ^ 0x1d5);
        let memory = Memory::new(dedupe_s, UlidSource::new(Box::new(move |bytes| ids.fill(bytes))));
        let queues = Queues { writes: VecDeque::new(), reads: VecDeque::new(), is_full: false };
        SimStore {
            queues: Arc::new(Mutex::new(queues)),
            writer: memory.writer(),
            reader: memory.reader(),
            memory,
            rng: SimRng::new(seed ^ 0x570e),
            finished: mailboxes.iter().map(|_| VecDeque::new()).collect(),
            mailboxes,
            lies,
            lies_told: 0,
            recovery_reads: 0,
        }
    }

    pub fn port(&self) -> Box<dyn StorePort> {
        Box::new(Port(self.queues.clone()))
    }

    /// Nothing is queued or on its way back.
    pub fn is_idle(&self) -> bool {
        let queues = self.queues.lock().expect("one thread");
        queues.writes.is_empty() && queues.reads.is_empty() && self.finished.iter().all(VecDeque::is_empty)
    }

    /// One step: perhaps a batch, perhaps reads, perhaps deliveries.
    pub fn work(&mut self, shape: &StoreShape, now_ms: u64) {
        let queues = self.queues.clone();
        let mut queues = queues.lock().expect("one thread");
        queues.is_full = self.rng.chance(shape.is_full);
        if self.rng.chance(shape.works) {
            let count = self.rng.below(queues.writes.len() + 1).max(usize::from(shape.works == 1.0));
            for _ in 0..count.min(queues.writes.len()) {
                let job = queues.writes.pop_front().expect("counted");
                self.write(job, shape, now_ms);
            }
        }
        if self.rng.chance(shape.works) {
            while let Some(job) =
                take_any(&mut queues.reads, &mut self.rng, |job| (job.waiter.shard, job.waiter.room_key))
            {
                self.memory.set_failing(self.rng.chance(shape.fails));
                self.recovery_reads += u64::from(matches!(job.read, Read::Events { .. }));
                let outcome = self.reader.read(&job.read);
                self.finish(Done::Read { job, outcome });
                if self.rng.chance(0.5) {
                    break;
                }
            }
        }
        self.memory.set_failing(false);
        for shard in 0..self.mailboxes.len() {
            if self.rng.chance(shape.works) {
                self.deliver(shard);
            }
        }
    }

    fn write(&mut self, job: Box<WriteJob>, shape: &StoreShape, now_ms: u64) {
        if let Write::Append(Append { room, probe: false, .. }) = &job.write
            && self.rng.chance(self.lies)
        {
            let all = Read::Events { room: *room, after: 0, limit: u32::MAX };
            if let Outcome::Page { rows, .. } = self.reader.read(&all) {
                self.lies_told += 1;
                let offset = rows.len() as u64 + 1;
                return self.finish(Done::Write { job, outcome: Outcome::Appended { offset, became_member: false } });
            }
        }
        self.memory.set_failing(self.rng.chance(shape.fails));
        let mut outcomes = Vec::new();
        let jobs = [job];
        self.writer.commit(&jobs, now_ms, &mut outcomes);
        let ([job], Some(outcome)) = (jobs, outcomes.pop()) else { panic!("one outcome per job") };
        self.finish(Done::Write { job, outcome });
    }

    fn finish(&mut self, done: Done) {
        self.finished[usize::from(done.waiter().shard)].push_back(done);
    }

    /// Some of what is finished, to its shard. A full mailbox is tried again.
    fn deliver(&mut self, shard: usize) {
        let room = |done: &Done| {
            let Waiter { room_key, .. } = done.waiter();
            (*room_key, matches!(done, Done::Write { .. }))
        };
        let mut batch = Vec::new();
        while let Some(done) = take_any(&mut self.finished[shard], &mut self.rng, room) {
            batch.push(done);
            if self.rng.chance(0.2) {
                break;
            }
        }
        if batch.is_empty() {
            return;
        }
        match self.mailboxes[shard].push(Mail::Stored(batch)) {
            Ok(()) => self.mailboxes[shard].ring(),
            Err(Mail::Stored(batch)) => batch.into_iter().rev().for_each(|done| self.finished[shard].push_front(done)),
            Err(_) => unreachable!("a full mailbox gives back what was pushed"),
        }
    }

    /// A room as it is stored.
    pub fn room(&mut self, id: &str) -> Option<Box<RoomImage>> {
        match self.reader.read(&Read::Room { id: id.into(), recent: 0 }) {
            Outcome::Room(room) => room,
            _ => None,
        }
    }

    /// All stored events of a room, by offset.
    pub fn events(&mut self, id: &str) -> Vec<EventRow> {
        let Some(room) = self.room(id) else { return Vec::new() };
        match self.reader.read(&Read::Events { room: room.row.pk, after: 0, limit: u32::MAX }) {
            Outcome::Page { rows, .. } => rows,
            _ => Vec::new(),
        }
    }

    pub fn last_offset(&mut self, id: &str) -> u64 {
        self.room(id).map_or(0, |room| room.row.last_offset)
    }
}

/// Any of the queue, but the first of its kind.
fn take_any<T, K: PartialEq>(queue: &mut VecDeque<T>, rng: &mut SimRng, key: impl Fn(&T) -> K) -> Option<T> {
    if queue.is_empty() {
        return None;
    }
    let chosen = key(&queue[rng.below(queue.len())]);
    let at = queue.iter().position(|item| key(item) == chosen)?;
    queue.remove(at)
}
