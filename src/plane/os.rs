//! What a server needs from the operating system besides its ring: listeners, clocks, entropy, cores, limits, memory. The unsafe
//! that this takes stays here.
use crate::base::clock::Now;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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

/// Turns transparent huge pages off for this process (PR_SET_THP_DISABLE), as far as memory is touched from now on: with them each
/// page of the heap that is touched takes 2 MiB. The allocator does not ask for them; where the machine says `always`, they come unasked.
pub fn disable_huge_pages() {
    // SAFETY: takes and returns integers; fails only where the kernel has no huge pages.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Fills `bytes` from the operating system's random source.
///
/// # Panics
/// When there is none: no id and no key could be made then.
pub fn os_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system's random source");
}

/// A bound on one resource of the process; None: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("unlimited"),
        }
    }
}

/// What holds, and how far it can be raised without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub soft: Limit,
    pub hard: Limit,
}

/// Resources with a limit that a server may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// RLIMIT_NOFILE, a number.
    Descriptors,
    /// RLIMIT_MEMLOCK, bytes.
    LockedMemory,
    /// RLIMIT_AS, bytes.
    AddressSpace,
}

/// The process's limits (getrlimit(2)).
pub fn limits(resource: Resource) -> Limits {
    let id = match resource {
        Resource::Descriptors => libc::RLIMIT_NOFILE,
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
        Resource::AddressSpace => libc::RLIMIT_AS,
    };
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in `limits`, which is ours.
    unsafe { libc::getrlimit(id, &mut limits) };
    let limit = |value| Limit((value != libc::RLIM_INFINITY).then_some(value));
    Limits { soft: limit(limits.rlim_cur), hard: limit(limits.rlim_max) }
}

/// The soft limit on descriptors (RLIMIT_NOFILE), which also bounds a ring's table.
pub fn nofile_limit() -> u64 {
    limits(Resource::Descriptors).soft.0.unwrap_or(u64::MAX)
}

/// Raises the soft limit on descriptors to the hard one, which needs no privilege, and returns what holds then.
pub fn raise_nofile_limit() -> u64 {
    let hard = limits(Resource::Descriptors).hard.0.unwrap_or(libc::RLIM_INFINITY);
    let wanted = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the kernel reads `wanted`, which is ours.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) };
    nofile_limit()
}

/// Bytes that an unprivileged user can still write to the file system of this folder (statvfs(3)).
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: integers; all zeros is a value.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with a zero byte; the kernel fills in `facts`, which is ours.
    match unsafe { libc::statvfs(path.as_ptr(), &mut facts) } {
        0 => Ok(facts.f_bavail * facts.f_frsize),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the kernel believes its clock to be steered by a time service (adjtimex(2)). None where it does not say.
pub fn is_clock_synchronised() -> Option<bool> {
    // SAFETY: integers; all zeros is a value, and `modes` of 0 asks without changing anything.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in `clock`, which is ours.
    match unsafe { libc::adjtimex(&mut clock) } {
        -1 => None,
        state => Some(state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0),
    }
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
    fn limits_and_room() {
        let descriptors = limits(Resource::Descriptors);
        assert!(descriptors.soft.0.is_some_and(|soft| soft > 0 && soft <= descriptors.hard.0.unwrap_or(u64::MAX)));
        assert!(free_bytes(Path::new("/")).is_ok_and(|bytes| bytes > 0));
        assert!(free_bytes(Path::new("/no/such/folder")).is_err());
        assert_eq!(Limit(None).to_string(), "unlimited");
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
