//! Making the ring, or saying what stands in the way and what to do about it.
use super::RingOptions;
use super::buffers::{BUFFERS_MAX, Pool};
use super::queue::Queue;
use crate::plane::host::{HOST_COMPLETIONS, HOST_SUBMISSIONS};
use crate::plane::os::{self, Limit};
use io_uring::{IoUring, Probe, opcode};
use std::io;

/// What a ring takes whatever it holds.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Requests queued between two enters. More are no failure: the queue is emptied when it is full.
    pub submissions: u32,
    /// An overflow loses nothing: it costs an allocation per completion and ends multishot receives. Above 8,191 the
    /// kernel gives the ring's cancel table its maximum of 256 buckets.
    pub completions: u32,
    /// Ordinary descriptors borrowed at a time. A drain closes ten thousand connections in a step; they take turns,
    /// so that closing needs few descriptors where keeping needs none.
    pub installs: usize,
    /// Descriptors held back for that.
    pub reserve: usize,
}

/// Room for every connection of a busy shard to speak at once.
pub(super) const FIRST: Sizes = Sizes { submissions: 4_096, completions: 32_768, installs: 64, reserve: 4 };

/// Of the further rings of a shard, of which there may be dozens, for mostly idle connections: 167,936 bytes of queues where the
/// first ring takes 806,912, which is 8 bytes instead of 41 for each of 20,000 connections. A broadcast to all of them takes forty
/// enters instead of five, of hundreds of sends; what is spoken at once beyond the queue overflows.
pub(super) const FURTHER: Sizes = Sizes { submissions: 512, completions: 8_192, installs: 16, reserve: 1 };

/// Bounds of `RingOptions::buffer_bytes`. Smaller pieces cost a completion for a few bytes; larger ones mostly hold
/// nothing, since a piece carries what one connection had sent so far.
const BUFFER_BYTES: std::ops::RangeInclusive<u32> = 64..=1 << 20;

/// Why there is no data plane. Each text names the likely cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "io_uring is switched off: kernel.io_uring_disabled = {0}. \
         Remedy: sysctl -w kernel.io_uring_disabled=0 (1 allows it to kernel.io_uring_group and CAP_SYS_ADMIN only)"
    )]
    Disabled(String),
    #[error(
        "{step} is forbidden ({errno}): most likely a seccomp filter, as in the default profiles of container runtimes. \
         Remedy: allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
    )]
    Forbidden { step: Step, errno: &'static str },
    #[error("the kernel does not know {0} (ENOSYS): too old, or built without io_uring. Linux 6.8 or later is needed")]
    Unknown(Step),
    #[error("the kernel lacks {0}. Linux 6.8 or later is needed")]
    KernelTooOld(&'static str),
    #[error(
        "no memory for {step} (ENOMEM): RLIMIT_MEMLOCK is {memlock}, and since Linux 6.14 the rings count against it \
         ({} bytes for each shard and {} for each further ring in it, all processes of a user together); or the memory \
         limit of the control group. \
         Remedy: raise them (ulimit -l; LimitMEMLOCK= and MemoryMax= in a unit), or configure fewer shards or rings",
        locked_bytes(1),
        locked_bytes(2) - locked_bytes(1)
    )]
    NoMemory { step: Step, memlock: Limit },
    #[error(
        "no memory for {bytes} bytes of receive buffers per shard (ENOMEM): most likely the limit on address space \
         (RLIMIT_AS) or vm.overcommit_memory = 2. Remedy: raise it (ulimit -v; LimitAS= in a unit), or configure fewer or \
         smaller buffers (plane.receive_buffers, plane.receive_buffer_bytes) or fewer shards"
    )]
    NoAddressSpace { bytes: usize },
    #[error(
        "no descriptor for {step} (EMFILE): RLIMIT_NOFILE is {limit} and in use. \
         Remedy: raise it (ulimit -n; LimitNOFILE= in a unit)"
    )]
    NoDescriptor { step: Step, limit: u64 },
    #[error(
        "a table of {slots} connections is larger than RLIMIT_NOFILE = {limit}, which bounds it. \
         Remedy: raise the limit (ulimit -n; LimitNOFILE= in a unit), or configure smaller tables (plane.connections_per_shard) and more of them (plane.rings_per_shard)"
    )]
    TableTooLarge { slots: u32, limit: u64 },
    #[error("{0}")]
    Options(String),
    #[error("{step} failed: {error}")]
    Other { step: Step, error: io::Error },
}

/// Who can mend a failed setup, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupCause {
    /// A rule forbids io_uring: sysctl, seccomp, a security module.
    Forbidden,
    /// The kernel lacks something.
    Kernel,
    /// A limit on memory or descriptors.
    Resources,
    /// The options contradict each other or the limits of the kernel.
    Options,
}

/// What was being set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Ring,
    HostRing,
    Probe,
    Table,
    Buffers,
    Waker,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Ring => "the data ring (io_uring_setup)",
            Step::HostRing => "the host's ring (io_uring_setup)",
            Step::Probe => "asking the ring what it can do (io_uring_register)",
            Step::Table => "the table of connections (io_uring_register)",
            Step::Buffers => "the receive buffers (io_uring_register)",
            Step::Waker => "the waker (eventfd)",
        })
    }
}

/// What a bare errno does not tell.
struct Surroundings {
    /// The value of kernel.io_uring_disabled, empty where it does not exist.
    sysctl: String,
    /// A seccomp filter is in force: what it hides may look like an old kernel.
    is_filtered: bool,
    memlock: Limit,
}

impl Surroundings {
    fn read() -> Surroundings {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Surroundings {
            sysctl: text("/proc/sys/kernel/io_uring_disabled").trim().into(),
            is_filtered: text("/proc/self/status").lines().any(|line| line == "Seccomp:\t2"),
            memlock: os::limits(os::Resource::LockedMemory).soft,
        }
    }
}

impl SetupError {
    pub(in crate::plane) fn from_io(step: Step, error: io::Error) -> SetupError {
        SetupError::classify(step, error, Surroundings::read())
    }

    fn classify(step: Step, error: io::Error, around: Surroundings) -> SetupError {
        match error.raw_os_error() {
            Some(libc::EPERM) if matches!(&*around.sysctl, "1" | "2") => SetupError::Disabled(around.sysctl),
            Some(libc::EPERM) => SetupError::Forbidden { step, errno: "EPERM" },
            Some(libc::EACCES) => SetupError::Forbidden { step, errno: "EACCES" },
            // Where the kernel has the sysctl (6.6), it has io_uring.
            Some(libc::ENOSYS) if around.is_filtered && !around.sysctl.is_empty() => {
                SetupError::Forbidden { step, errno: "ENOSYS" }
            }
            Some(libc::ENOSYS) => SetupError::Unknown(step),
            Some(libc::ENOMEM) => SetupError::NoMemory { step, memlock: around.memlock },
            Some(libc::EMFILE | libc::ENFILE) => SetupError::NoDescriptor { step, limit: os::nofile_limit() },
            // An unknown flag is an invalid one.
            Some(libc::EINVAL) if matches!(step, Step::Ring | Step::HostRing) => {
                SetupError::KernelTooOld("the setup flags COOP_TASKRUN and SINGLE_ISSUER (6.0)")
            }
            Some(libc::EINVAL) if step == Step::Buffers => SetupError::KernelTooOld("provided-buffer rings (5.19)"),
            _ => SetupError::Other { step, error },
        }
    }

    pub fn cause(&self) -> SetupCause {
        match self {
            SetupError::Disabled(_) | SetupError::Forbidden { .. } => SetupCause::Forbidden,
            SetupError::Unknown(_) | SetupError::KernelTooOld(_) => SetupCause::Kernel,
            SetupError::Options(_) => SetupCause::Options,
            SetupError::NoMemory { .. }
            | SetupError::NoAddressSpace { .. }
            | SetupError::NoDescriptor { .. }
            | SetupError::TableTooLarge { .. }
            | SetupError::Other { .. } => SetupCause::Resources,
        }
    }
}

/// Memory of a shard's rings, so many and its host's, that the kernel counts against RLIMIT_MEMLOCK since Linux 6.14, bytes, if the process has no
/// CAP_IPC_LOCK: per ring one region of completions (16 bytes each) and submission indices (4 bytes each) behind a header, and
/// one of submissions (64 bytes each), in whole pages; and the queue of free buffers, 16 bytes each, at its largest.
pub fn locked_bytes(rings: u32) -> u64 {
    let buffers = |count: u32| (u64::from(count) * 16).next_multiple_of(4_096);
    let all = RingOptions { slots: 1, buffers: BUFFERS_MAX, buffer_bytes: 64 };
    let first = locked(FIRST.submissions, FIRST.completions) + buffers(all.buffers);
    let further = locked(FURTHER.submissions, FURTHER.completions) + buffers(all.further(rings).buffers);
    locked(HOST_SUBMISSIONS, HOST_COMPLETIONS) + first + u64::from(rings.saturating_sub(1)) * further
}

const fn locked(submissions: u32, completions: u32) -> u64 {
    const HEADER: u64 = 64;
    (HEADER + 16 * completions as u64 + 4 * submissions as u64).next_multiple_of(4_096)
        + (64 * submissions as u64).next_multiple_of(4_096)
}

/// The ring with its table and buffers.
pub(super) fn build(options: &RingOptions, sizes: &Sizes) -> Result<(Queue, &'static Pool), SetupError> {
    check(options, os::nofile_limit())?;
    let ring = bare(sizes)?;
    if let Some(missing) = NEEDED.iter().map(|needed| needed.name).zip(supported(&ring)?).find(|(_, has)| !has) {
        return Err(SetupError::KernelTooOld(missing.0));
    }
    table(&ring, options.slots)?;
    let pool = Pool::register(&ring, options.buffers as u16, options.buffer_bytes)?;
    Ok((Queue::new(ring), pool))
}

/// A ring with our flags and sizes, and nothing else yet.
pub(super) fn bare(sizes: &Sizes) -> Result<IoUring, SetupError> {
    let mut builder = IoUring::builder();
    // Never DEFER_TASKRUN: such a ring does not wake those who poll its descriptor.
    builder.setup_coop_taskrun().setup_single_issuer().setup_taskrun_flag().setup_submit_all();
    builder.setup_cqsize(sizes.completions);
    builder.build(sizes.submissions).map_err(|error| SetupError::from_io(Step::Ring, error))
}

/// Gives the ring its table of connections.
pub(super) fn table(ring: &IoUring, slots: u32) -> Result<(), SetupError> {
    ring.submitter().register_files_sparse(slots).map_err(|error| SetupError::from_io(Step::Table, error))
}

pub(super) fn check(options: &RingOptions, limit: u64) -> Result<(), SetupError> {
    let &RingOptions { slots, buffers, buffer_bytes } = options;
    if slots == 0 {
        return Err(SetupError::Options("a shard needs at least one connection".into()));
    }
    if u64::from(slots) > limit {
        return Err(SetupError::TableTooLarge { slots, limit });
    }
    if !buffers.is_power_of_two() || buffers > BUFFERS_MAX {
        return Err(SetupError::Options(format!(
            "{buffers} receive buffers: must be a power of two, at most {BUFFERS_MAX}"
        )));
    }
    if !BUFFER_BYTES.contains(&buffer_bytes) {
        let (least, most) = BUFFER_BYTES.into_inner();
        return Err(SetupError::Options(format!("receive buffers of {buffer_bytes} bytes: must be {least} to {most}")));
    }
    Ok(())
}

/// What the plane asks of a ring, with the version of Linux that brought it.
pub(super) struct Needed {
    pub name: &'static str,
    is_there: fn(&IoUring, &Probe) -> bool,
}

macro_rules! needed {
    ($($name:literal $is_there:expr;)*) => { [$(Needed { name: $name, is_there: $is_there }),*] };
}

pub(super) const NEEDED: [Needed; 10] = needed! {
    "FIXED_FD_INSTALL (6.8)" |_, probe| probe.is_supported(opcode::FixedFdInstall::CODE);
    "RECV (5.6)" |_, probe| probe.is_supported(opcode::RecvMulti::CODE);
    "SEND (5.6)" |_, probe| probe.is_supported(opcode::Send::CODE);
    "POLL_ADD (5.1)" |_, probe| probe.is_supported(opcode::PollAdd::CODE);
    "ASYNC_CANCEL (5.5)" |_, probe| probe.is_supported(opcode::AsyncCancel::CODE);
    "CLOSE (5.6)" |_, probe| probe.is_supported(opcode::Close::CODE);
    "SHUTDOWN (5.11)" |_, probe| probe.is_supported(opcode::Shutdown::CODE);
    "NOP (5.1)" |_, probe| probe.is_supported(opcode::Nop::CODE);
    // Completions beyond the queue must be kept, and successes be silent.
    "NODROP (5.5)" |ring, _| ring.params().is_feature_nodrop();
    "CQE_SKIP_SUCCESS (5.17)" |ring, _| ring.params().is_feature_skip_cqe_on_success();
};

/// For each of `NEEDED`, whether the kernel has it.
pub(super) fn supported(ring: &IoUring) -> Result<[bool; NEEDED.len()], SetupError> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| SetupError::from_io(Step::Probe, error))?;
    Ok(NEEDED.map(|needed| (needed.is_there)(ring, &probe)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: RingOptions = RingOptions { slots: 8, buffers: 8, buffer_bytes: 2_048 };

    #[test]
    fn options_are_checked_at_their_bounds() {
        assert!(check(&OPTIONS, 8).is_ok());
        assert!(matches!(check(&OPTIONS, 7), Err(SetupError::TableTooLarge { slots: 8, limit: 7 })));
        assert!(check(&RingOptions { buffers: BUFFERS_MAX, ..OPTIONS }, 8).is_ok());
        for buffers in [0, 3, BUFFERS_MAX * 2] {
            assert!(matches!(check(&RingOptions { buffers, ..OPTIONS }, 8), Err(SetupError::Options(_))), "{buffers}");
        }
        for buffer_bytes in [0, 63, (1 << 20) + 1] {
            let options = RingOptions { buffer_bytes, ..OPTIONS };
            assert!(matches!(check(&options, 8), Err(SetupError::Options(_))), "{buffer_bytes}");
        }
        assert!(matches!(check(&RingOptions { slots: 0, ..OPTIONS }, 8), Err(SetupError::Options(_))));
    }

    fn failed(step: Step, errno: i32, sysctl: &str, is_filtered: bool) -> SetupError {
        let around = Surroundings { sysctl: sysctl.into(), is_filtered, memlock: Limit(Some(65_536)) };
        SetupError::classify(step, io::Error::from_raw_os_error(errno), around)
    }

    #[test]
    fn failures_name_cause_and_remedy() {
        let text = |errno, sysctl| failed(Step::Ring, errno, sysctl, false).to_string();
        assert!(text(libc::EPERM, "2").contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(text(libc::EPERM, "0").contains("seccomp"));
        assert!(text(libc::ENOSYS, "").contains("6.8"));
        assert!(text(libc::EINVAL, "0").contains("6.8"));
        assert!(text(libc::ENOMEM, "0").contains("RLIMIT_MEMLOCK is 65536"));
        assert!(text(libc::EMFILE, "0").contains("RLIMIT_NOFILE"));
        assert!(text(libc::EIO, "0").contains("io_uring_setup"));
    }

    #[test]
    fn failures_tell_who_can_mend_them() {
        use SetupCause::*;
        let cause = |errno, sysctl, is_filtered| failed(Step::Ring, errno, sysctl, is_filtered).cause();
        assert_eq!([cause(libc::EPERM, "2", false), cause(libc::EPERM, "0", true)], [Forbidden; 2]);
        assert_eq!(cause(libc::EACCES, "0", false), Forbidden);
        // A filter that answers ENOSYS, on a kernel that has io_uring; the same without one, or on an old kernel.
        assert_eq!(cause(libc::ENOSYS, "0", true), Forbidden);
        assert_eq!([cause(libc::ENOSYS, "0", false), cause(libc::ENOSYS, "", true)], [Kernel; 2]);
        assert_eq!(cause(libc::EINVAL, "0", false), Kernel);
        assert_eq!([cause(libc::ENOMEM, "0", false), cause(libc::EMFILE, "0", false)], [Resources; 2]);
        assert_eq!(SetupError::NoAddressSpace { bytes: 1 }.cause(), Resources);
        assert_eq!(check(&RingOptions { slots: 0, ..OPTIONS }, 8).unwrap_err().cause(), Options);
    }

    #[test]
    fn the_rings_take_what_they_are_said_to() {
        assert_eq!(locked(4_096, 32_768), (64 + 524_288 + 16_384 + 4_032) + 262_144);
        assert_eq!(locked(512, 8_192), (64 + 131_072 + 2_048 + 1_984) + 32_768);
        assert_eq!(locked_bytes(1), 806_912 + 335_872 + 524_288);
        assert_eq!(locked_bytes(3), locked_bytes(1) + 2 * (167_936 + 65_536));
    }
}
