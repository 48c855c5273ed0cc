//! A shard in small for the plane's tests: a thread whose runtime hosts the rings, echoing, and the way to give it orders.
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use throng::base::mailbox::Wake;
use throng::plane::{Completion, Plane, PlaneStats, Received, RingOptions, Rings, SLACK_BYTES, Slot, host};

/// A byte that makes the server close the connection instead of echoing.
pub const QUIT: u8 = b'Q';

/// Few buffers on purpose, so that bursts run them dry.
pub const SMALL: RingOptions = RingOptions { slots: 512, buffers: 64, buffer_bytes: 2_048 };

/// How long a client waits for bytes before the test counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// So many rings for this many connections, or a few more.
pub fn rings(count: u32, connections: usize) -> Rings {
    let slots = (connections as u32).div_ceil(count);
    Rings::new(&RingOptions { slots, ..SMALL }, count).expect("data rings")
}

/// What the shard knows of one connection.
#[derive(Default)]
struct Connection {
    open: bool,
    outbox: Vec<u8>,
    blocked: bool,
    dirty: bool,
}

/// A shard in small: echoes, with a private outbox per connection.
struct Echo {
    ring: Rings,
    connections: Vec<Connection>,
    dirty: Vec<Slot>,
    refused: u64,
}

impl Echo {
    fn new(ring: Rings) -> Echo {
        let connections = (0..ring.capacity()).map(|_| Connection::default()).collect();
        Echo { ring, connections, dirty: Vec::new(), refused: 0 }
    }

    fn adopt(&mut self, socket: OwnedFd) {
        match self.ring.adopt(socket) {
            Ok(slot) => {
                let connection = &mut self.connections[slot as usize];
                assert!(!std::mem::replace(&mut connection.open, true), "slot {slot} is in use");
                assert!(connection.outbox.is_empty());
                self.ring.submit();
            }
            Err(_full) => self.refused += 1,
        }
    }

    fn turn(&mut self) {
        let (mut completions, mut shortfalls) = (Vec::new(), Vec::new());
        self.ring.collect(&mut completions);
        for completion in completions {
            match completion {
                Completion::Received { slot, mut buffer } => {
                    let len = buffer.len();
                    assert_eq!(buffer.bytes().len(), len + SLACK_BYTES);
                    let connection = &mut self.connections[slot as usize];
                    assert!(connection.open, "bytes for a closed connection");
                    connection.outbox.extend_from_slice(&buffer.bytes()[..len]);
                    let quit = buffer.bytes()[..len].contains(&QUIT);
                    buffer.bytes().fill(0xee); // the memory is ours until it is given back, slack included
                    self.ring.give_back(buffer);
                    if quit { self.close(slot) } else { self.mark(slot) }
                }
                Completion::Ended { slot, .. } => self.close(slot),
                Completion::Writable { slot } => {
                    self.connections[slot as usize].blocked = false;
                    self.mark(slot);
                }
                Completion::Released { slot } => {
                    let connection = &mut self.connections[slot as usize];
                    assert!(connection.open, "released twice");
                    *connection = Connection::default();
                }
            }
        }
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|&slot| self.connections[slot as usize].dirty = false);
        let ready: Vec<Slot> = dirty
            .into_iter()
            .filter(|&slot| {
                let connection = &self.connections[slot as usize];
                connection.open && !connection.blocked && !connection.outbox.is_empty()
            })
            .collect();
        let sends = ready.iter().map(|&slot| (slot, &self.connections[slot as usize].outbox[..]));
        self.ring.send_batch(sends, &mut shortfalls);
        let mut shortfalls = shortfalls.into_iter().peekable();
        for (index, &slot) in ready.iter().enumerate() {
            let connection = &mut self.connections[slot as usize];
            match shortfalls.next_if(|shortfall| shortfall.index as usize == index).map(|shortfall| shortfall.taken) {
                None => connection.outbox.clear(),
                Some(Ok(taken)) => {
                    assert!((taken as usize) < connection.outbox.len());
                    connection.outbox.drain(..taken as usize);
                    connection.blocked = true;
                    self.ring.want_writable(slot);
                }
                Some(Err(_broken)) => connection.outbox.clear(), // `Ended` follows
            }
        }
        assert!(shortfalls.next().is_none(), "shortfalls of a batch come in its order");
        self.ring.submit();
    }

    fn mark(&mut self, slot: Slot) {
        if !std::mem::replace(&mut self.connections[slot as usize].dirty, true) {
            self.dirty.push(slot);
        }
    }

    fn close(&mut self, slot: Slot) {
        self.connections[slot as usize].outbox.clear();
        self.connections[slot as usize].blocked = true; // no sends from here on
        self.ring.close(slot);
    }
}

pub enum Order {
    /// An overlong turn.
    Stall(Duration),
    Ticks(u32),
    Report(Sender<Report>),
    Stop,
}

pub struct Report {
    pub stats: PlaneStats,
    pub open: usize,
    pub refused: u64,
}

/// A shard thread and the way to give it orders: a queue and the ring's waker.
pub struct Server {
    pub address: SocketAddr,
    pub orders: Sender<Order>,
    pub waker: Box<dyn Wake>,
    pub thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(count: u32, connections: usize) -> Server {
        let (orders, inbox) = channel();
        let (hello, greeting) = channel();
        let thread = std::thread::spawn(move || shard(rings(count, connections), inbox, hello));
        let (address, waker) = greeting.recv().expect("the shard starts");
        Server { address, orders, waker, thread: Some(thread) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    pub fn order(&self, order: Order) {
        self.orders.send(order).expect("the shard lives");
        self.waker.wake();
    }

    pub fn report(&self) -> Report {
        let (answer, report) = channel();
        self.order(Order::Report(answer));
        report.recv_timeout(PATIENCE).expect("woken from another thread, the shard answers")
    }

    /// Waits until the report satisfies `condition`.
    pub fn until(&self, what: &str, condition: impl Fn(&Report) -> bool) -> Report {
        for _ in 0..4_000 {
            let report = self.report();
            if condition(&report) {
                return report;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let report = self.report();
        panic!("waited in vain: {what}; {} open, {:?}", report.open, report.stats);
    }

    pub fn until_empty(&self) -> Report {
        self.until("an empty table", |report| report.open == 0 && report.stats.adopted == report.stats.released)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        self.waker.wake();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn shard(rings: Rings, inbox: Receiver<Order>, hello: Sender<(SocketAddr, Box<dyn Wake>)>) {
    let mut runtime = host::runtime().expect("host runtime");
    runtime.block_on(async move {
        let listener = throng::plane::os::listener((Ipv4Addr::LOCALHOST, 0).into(), false, 1_024).expect("listen");
        let address = listener.local_addr().expect("bound");
        let listener = monoio::net::TcpListener::from_std(listener).expect("wrap the listener");
        let echo = Rc::new(RefCell::new(Echo::new(rings)));
        let ready = host::Ready::new(&echo.borrow().ring).expect("wrap the ring");
        hello.send((address, echo.borrow().ring.waker())).expect("the test waits");
        let accepting = echo.clone();
        monoio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.borrow_mut().adopt(host::into_owned_fd(stream));
            }
        });
        loop {
            echo.borrow_mut().turn();
            while let Ok(order) = inbox.try_recv() {
                let mut echo = echo.borrow_mut();
                match order {
                    Order::Stall(duration) => std::thread::sleep(duration),
                    Order::Ticks(count) => (0..count).for_each(|_| {
                        echo.ring.tick();
                        echo.ring.submit();
                    }),
                    Order::Report(answer) => {
                        let open = echo.connections.iter().filter(|connection| connection.open).count();
                        let _ = answer.send(Report { stats: echo.ring.stats(), open, refused: echo.refused });
                    }
                    Order::Stop => return,
                }
            }
            ready.wait().await.expect("poll the ring");
        }
    });
    std::mem::forget(runtime); // its accept is pending for ever
}
