//! Each peer that is installed is started and used as a run would; the others are named.
use super::*;
use crate::server::{Process, cores};
use crate::stamp::Stamp;
use crate::wire::{Command, Dialect, Incoming, Reply, frame};

struct Client {
    dialect: Dialect,
    stream: TcpStream,
    data: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Ready,
    Joined(u32),
    Heartbeat(u64),
    Live(Stamp),
    Closed(u16),
}

impl Client {
    fn connect(peer: Peer, address: SocketAddr) -> Client {
        let stream = upgraded(peer, address).unwrap().expect("accepted");
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut client = Client { dialect: peer.dialect(), stream, data: Vec::new() };
        client.send(&Command::Hello { token: None });
        if client.dialect.greets() {
            assert_eq!(client.next(), Seen::Ready);
        }
        client
    }

    fn send(&mut self, command: &Command<'_>) {
        let mut out = Vec::new();
        self.dialect.write(command, &mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// The next thing that matters.
    fn next(&mut self) -> Seen {
        loop {
            let Some(frame) = frame::first(&self.data).unwrap() else {
                let mut chunk = [0; 4096];
                let count = self.stream.read(&mut chunk).expect("an answer");
                assert!(count > 0, "the peer hung up");
                self.data.extend_from_slice(&chunk[..count]);
                continue;
            };
            assert!(frame.is_final);
            let mut reply = Vec::new();
            let seen = match self.dialect.read(frame.opcode, frame.payload) {
                Incoming::Ready => Some(Seen::Ready),
                Incoming::Joined { request } => Some(Seen::Joined(request)),
                Incoming::HeartbeatAnswer { intended_ns } => Some(Seen::Heartbeat(intended_ns)),
                Incoming::Live(stamp) => Some(Seen::Live(stamp)),
                Incoming::Reply(Reply::Close(code)) => Some(Seen::Closed(code)),
                Incoming::Reply(wanted) => {
                    self.dialect.write(&Command::Reply(wanted), &mut reply);
                    None
                }
                Incoming::Other => None,
                other => panic!("{other:?}"),
            };
            self.data.drain(..frame.bytes);
            self.stream.write_all(&reply).unwrap();
            if let Some(seen) = seen {
                return seen;
            }
        }
    }

    fn joined(mut self, room: &str) -> Client {
        if self.dialect.joins() {
            self.send(&Command::Join { room, request: 7, recover: None });
            assert_eq!(self.next(), Seen::Joined(7));
        }
        self
    }
}

fn live(number: u32, bytes: u32, include_self: bool) -> Command<'static> {
    Command::Live { room: "room", stamp: stamp(number), payload_bytes: bytes, include_self }
}

fn stamp(number: u32) -> Stamp {
    Stamp { room: 1, publisher: 2, number, intended_ns: 3 }
}

fn use_it(peer: Peer, address: SocketAddr) {
    let mut a = Client::connect(peer, address).joined("room");
    let mut b = Client::connect(peer, address).joined("room");
    a.send(&Command::Heartbeat { intended_ns: 1 << 52 });
    assert_eq!(a.next(), Seen::Heartbeat(1 << 52));

    // Small ones and one whose length takes two bytes, in order, to all.
    for number in 1..=50 {
        a.send(&live(number, if number == 7 { 3000 } else { 64 }, true));
    }
    for receiver in [&mut a, &mut b] {
        for number in 1..=50 {
            assert_eq!(receiver.next(), Seen::Live(stamp(number)));
        }
    }
    if peer != Peer::Nchan {
        // Not to the sender: what comes next is the answer to its heartbeat.
        a.send(&live(51, 64, false));
        assert_eq!(b.next(), Seen::Live(stamp(51)));
        a.send(&Command::Heartbeat { intended_ns: 2 });
        assert_eq!(a.next(), Seen::Heartbeat(2));
        // Nor to another room.
        let mut other = Client::connect(peer, address).joined("elsewhere");
        a.send(&live(52, 64, true));
        assert_eq!((a.next(), b.next()), (Seen::Live(stamp(52)), Seen::Live(stamp(52))));
        other.send(&Command::Heartbeat { intended_ns: 5 });
        assert_eq!(other.next(), Seen::Heartbeat(5));
    }
    b.send(&Command::Close { code: 1000 });
    if peer != Peer::SocketIo {
        assert_eq!(b.next(), Seen::Closed(1000));
    }
    drop(b);
    // Who has left is not sent to, and nobody minds.
    a.send(&live(53, 64, true));
    assert_eq!(a.next(), Seen::Live(stamp(53)));
}

#[test]
fn every_peer_that_is_installed_serves_and_ends() {
    let parent = tempfile::tempdir().unwrap();
    let core = cores::available()[..1].to_vec();
    for peer in Peer::ALL {
        let program = match peer.find() {
            Ok(program) => program,
            Err(missing) => {
                assert!(missing.to_string().contains("install.sh"));
                println!("skipped: {missing}");
                continue;
            }
        };
        let options =
            Launch { cores: core.clone(), parent: Some(parent.path().into()), connections: 10, ..Launch::default() };
        let (running, target) = program.launch(&options).unwrap_or_else(|error| panic!("{error}"));
        assert!(target.name.starts_with(peer.name()) && target.name.contains('.'), "{}", target.name);
        assert_eq!(cores::of_process(running.pid()), core);
        use_it(peer, target.addresses[0]);
        let used = Process::new(running.pid());
        assert!(used.rss_bytes().is_some_and(|bytes| bytes > 0) && used.usage().is_some());
        let folder = running.folder().to_path_buf();
        drop(running);
        assert!(!folder.exists() && TcpStream::connect(target.addresses[0]).is_err(), "{} still serves", peer.name());
        println!("{}: served", target.name);
    }
}

#[test]
fn a_program_that_does_not_serve_is_told_with_its_log() {
    let parent = tempfile::tempdir().unwrap();
    let (version, packages) = (String::new(), parent.path().into());
    let program = Program { peer: Peer::FastWebsockets, path: "/bin/ls".into(), version, packages };
    let options = Launch { parent: Some(parent.path().into()), ..Launch::default() };
    let error = program.launch(&options).err().expect("an error").to_string();
    assert!(error.starts_with("fastwebsockets did not start"), "{error}");
}
