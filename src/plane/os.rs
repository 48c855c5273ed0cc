//! What a server needs from the operating system besides its ring: listeners, clocks, entropy, cores, limits, memory. The unsafe
//! that this takes stays here.
use crate::base::clock::Now;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// A listening socket. TCP_NODELAY is set, which accepted sockets inherit.
///
/// It is blocking, as the runtime needs it. `backlog` is capped by net.core.somaxconn. With `reuse_port`, several
/// shards listen on the same address and the kernel spreads connections over them; another process of the same user
/// could join in, so a first listener without it tells whether the port is free.
pub fn listener(address: SocketAddr, reuse_port: bool, backlog: i32) -> io::Result<std::net::TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket.into())
    };
    open().map_err(|error: io::Error| {
        let cause = match error.kind() {
            io::ErrorKind::AddrInUse => "the port is in use; is another server running?",
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
            io::ErrorKind::PermissionDenied => "ports below net.ipv4.ip_unprivileged_port_start need privileges",
            _ => return io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {cause} ({error})"))
    })
}

/// Begins a connection for a client of ours and does not wait for it: sending says EAGAIN until it stands, and fails if it never will.
/// `source` is the own address to come from; its port is chosen at the connect, so that a pair of addresses has all of the
/// ephemeral range (IP_BIND_ADDRESS_NO_PORT). TCP_NODELAY is set.
pub fn connect(source: Option<std::net::Ipv4Addr>, address: SocketAddr) -> io::Result<std::os::fd::OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        let yes: libc::c_int = 1;
        // SAFETY: the kernel reads one int, which is ours; the descriptor is open.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const yes).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Both clocks.
pub fn now() -> Now {
    let monotonic = clock(libc::CLOCK_MONOTONIC);
    let real = clock(libc::CLOCK_REALTIME);
    Now {
        mono_ns: monotonic.tv_sec as u64 * 1_000_000_000 + monotonic.tv_nsec as u64,
        unix_ms: real.tv_sec as u64 * 1_000 + real.tv_nsec as u64 / 1_000_000,
    }
}

fn clock(id: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in `time`, which is ours. These two clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &mut time) };
    time
}

/// Gives pages that the allocator keeps for this thread but does not use back to the operating system. Milliseconds after a large
/// spike, microseconds otherwise.
pub fn release_memory() {
    // SAFETY: mimalloc's own call, allowed at any time in any thread; where it is not the process's allocator it has nothing to do.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Fills `bytes` from the operating system's random source.
///
/// # Panics
/// When there is none: no id and no key could be made then.
pub fn os_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system's random source");
}

/// The soft limit on descriptors (RLIMIT_NOFILE), which also bounds a ring's table.
pub fn nofile_limit() -> u64 {
    limits().rlim_cur
}

/// Raises the soft limit on descriptors to the hard one, which needs no privilege, and returns what holds then.
pub fn raise_nofile_limit() -> u64 {
    let hard = limits().rlim_max;
    let wanted = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads `wanted`, which is ours.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) };
    nofile_limit()
}

fn limits() -> libc::rlimit {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in `limits`, which is ours.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limits) };
    limits
}

/// Numbers of the cores that this thread may run on, ascending.
pub fn available_cores() -> Vec<usize> {
    let mut set = cpu_set();
    // SAFETY: the kernel fills in `set`, whose size it is told. 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: the numbers stay within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Binds the calling thread to one core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = cpu_set();
    // SAFETY: the number was checked; the kernel reads `set`, whose size it is told. 0 is the calling thread.
    let result = unsafe {
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn cpu_set() -> libc::cpu_set_t {
    // SAFETY: an array of integers; all zeros is the empty set.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    #[test]
    fn a_port_in_use_is_named() {
        let first = listener((Ipv4Addr::LOCALHOST, 0).into(), false, 16).expect("any port");
        let address = first.local_addr().expect("bound");
        let error = listener(address, false, 16).expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
    }

    #[test]
    fn shards_share_a_port() {
        let first = listener((Ipv4Addr::LOCALHOST, 0).into(), true, 16).expect("any port");
        listener(first.local_addr().expect("bound"), true, 16).expect("shared");
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let listener = listener((Ipv4Addr::LOCALHOST, 0).into(), false, 16).expect("any port");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        assert!(listener.accept().expect("accept").0.nodelay().expect("option"));
    }

    #[test]
    fn threads_can_be_pinned() {
        let cores = available_cores();
        let last = *cores.last().expect("this thread runs somewhere");
        let pinned = std::thread::spawn(move || {
            pin_to_core(last).expect("pin");
            available_cores()
        });
        assert_eq!(pinned.join().expect("thread"), [last]);
        assert!(pin_to_core(usize::MAX).is_err());
    }

    #[test]
    fn clocks_and_entropy() {
        let (first, second) = (now(), now());
        assert!(second.mono_ns >= first.mono_ns && first.unix_ms > 1_700_000_000_000);
        let (mut one, mut two) = ([0; 32], [0; 32]);
        os_random(&mut one);
        os_random(&mut two);
        assert_ne!(one, two);
        assert!(nofile_limit() > 0 && nofile_limit() <= raise_nofile_limit());
    }
}
