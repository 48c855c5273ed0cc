//! Back ends that can be closed and opened again, and short ways to ask them.
use crate::jobs::*;
use std::cell::RefCell;
use throng::ids::UlidSource;
use throng::store::memory::Memory;
use throng::store::port::*;
use throng::store::sqlite::{Options, Sqlite};

pub const DEDUPE_S: u64 = 10;

/// A content, and ways into it.
pub trait Backend {
    /// Close all others before: this is also a restart.
    fn open(&self, ids: UlidSource) -> (Box<dyn Writer>, Box<dyn Reader>);
}

pub struct OnDisk(tempfile::TempDir);

impl OnDisk {
    pub fn new() -> OnDisk {
        OnDisk(tempfile::tempdir().unwrap())
    }
}

impl Backend for OnDisk {
    fn open(&self, ids: UlidSource) -> (Box<dyn Writer>, Box<dyn Reader>) {
        let mut store = Sqlite::open(self.0.path(), Options { dedupe_s: DEDUPE_S, retention_days: 0, ids }).unwrap();
        (Box::new(store.writer().unwrap()), Box::new(store.reader().unwrap()))
    }
}

#[derive(Default)]
pub struct InMemory(pub RefCell<Option<Memory>>);

impl Backend for InMemory {
    fn open(&self, ids: UlidSource) -> (Box<dyn Writer>, Box<dyn Reader>) {
        let mut memory = self.0.borrow_mut();
        let memory = memory.get_or_insert_with(|| Memory::new(DEDUPE_S, ids));
        (Box::new(memory.writer()), Box::new(memory.reader()))
    }
}

/// An open back end at a moment.
pub struct Store<'a> {
    backend: &'a dyn Backend,
    pub open: Option<(Box<dyn Writer>, Box<dyn Reader>)>,
    pub now_ms: u64,
}

impl<'a> Store<'a> {
    pub fn new(backend: &'a dyn Backend) -> Store<'a> {
        Store { backend, open: Some(backend.open(counting_ids(0))), now_ms: 1_000_000 }
    }

    pub fn restart(&mut self, ids: UlidSource) {
        self.open = None;
        self.open = Some(self.backend.open(ids));
    }

    pub fn commit(&mut self, writes: impl IntoIterator<Item = Write>) -> Vec<Outcome> {
        let jobs: Vec<_> = writes.into_iter().map(job).collect();
        // Outcomes are appended: what is there already stays.
        let mut outcomes = vec![Outcome::Deleted];
        self.open.as_mut().unwrap().0.commit(&jobs, self.now_ms, &mut outcomes);
        assert_eq!(outcomes.len(), jobs.len() + 1);
        outcomes.split_off(1)
    }

    pub fn one(&mut self, write: Write) -> Outcome {
        self.commit([write]).remove(0)
    }

    pub fn append(&mut self, append: Append) -> Outcome {
        self.one(Write::Append(append))
    }

    /// Makes a public room.
    pub fn lobby(&mut self, id: &str) -> RoomRow {
        created(self.one(Write::CreateRoom(room(id, RoomType::Public, &[])))).0.row
    }

    pub fn read(&mut self, read: Read) -> Outcome {
        self.open.as_mut().unwrap().1.read(&read)
    }

    pub fn image(&mut self, id: &str) -> Option<RoomImage> {
        match self.read(Read::Room { id: id.into(), recent: 3 }) {
            Outcome::Room(image) => image.map(|image| *image),
            other => panic!("{other:?}"),
        }
    }

    /// Offsets of a page of history, and whether there is more.
    pub fn history(&mut self, room: RoomPk, from: HistoryFrom, limit: u32) -> (Vec<u64>, bool) {
        page(self.read(Read::History { room, from, limit }))
    }

    pub fn events(&mut self, room: RoomPk, after: u64, limit: u32) -> (Vec<u64>, bool) {
        page(self.read(Read::Events { room, after, limit }))
    }
}

pub fn page(outcome: Outcome) -> (Vec<u64>, bool) {
    match outcome {
        Outcome::Page { rows, has_more } => (rows.iter().map(|row| row.offset).collect(), has_more),
        other => panic!("{other:?}"),
    }
}

pub fn created(outcome: Outcome) -> (RoomImage, bool) {
    match outcome {
        Outcome::Created { image, is_new } => (*image, is_new),
        other => panic!("{other:?}"),
    }
}

pub fn offset(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Appended { offset, .. } | Outcome::Changed { offset, .. } => *offset,
        other => panic!("{other:?}"),
    }
}
