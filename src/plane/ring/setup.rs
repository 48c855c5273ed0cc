//! Making the ring, or saying what stands in the way and what to do about it.
use super::RingOptions;
use super::buffers::{BUFFERS_MAX, Pool};
use super::queue::Queue;
use crate::plane::os;
use io_uring::{IoUring, Probe, opcode};
use std::io;

/// Requests queued between two enters. More are no failure: the queue is emptied when it is full.
const SUBMISSIONS: u32 = 4_096;

/// Above 8,191 the kernel gives the ring's cancel table its maximum of 256 buckets. An overflow costs an allocation
/// per completion and ends multishot receives, so there is room for every connection of a busy shard to speak at once.
const COMPLETIONS: u32 = 32_768;

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
        "{0} is forbidden (EPERM): most likely a seccomp filter, as in the default profiles of container runtimes. \
         Remedy: allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
    )]
    Forbidden(Step),
    #[error(
        "the kernel does not know {0} (ENOSYS): too old, built without io_uring, or a seccomp filter answers so. \
         Linux 6.8 or later is needed"
    )]
    Unknown(Step),
    #[error("the kernel lacks {0}. Linux 6.8 or later is needed")]
    KernelTooOld(&'static str),
    #[error(
        "no memory for {0} (ENOMEM): most likely RLIMIT_MEMLOCK or the memory limit of the control group. \
         Remedy: raise them (ulimit -l; LimitMEMLOCK= and MemoryMax= in a unit), or configure fewer rows and buffers"
    )]
    NoMemory(Step),
    #[error(
        "no descriptor for {0} (EMFILE): RLIMIT_NOFILE is {limit} and in use. \
         Remedy: raise it (ulimit -n; LimitNOFILE= in a unit)",
        step
    )]
    NoDescriptor { step: Step, limit: u64 },
    #[error(
        "a table of {slots} connections per shard is larger than RLIMIT_NOFILE = {limit}, which bounds it. \
         Remedy: raise the limit (ulimit -n; LimitNOFILE= in a unit), or configure fewer per shard and more shards"
    )]
    TableTooLarge { slots: u32, limit: u64 },
    #[error("{0}")]
    Options(String),
    #[error("{step} failed: {error}")]
    Other { step: Step, error: io::Error },
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

impl SetupError {
    pub(in crate::plane) fn from_io(step: Step, error: io::Error) -> SetupError {
        let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        SetupError::classify(step, error, sysctl.trim())
    }

    /// `sysctl` is the value of kernel.io_uring_disabled, empty where it does not exist.
    fn classify(step: Step, error: io::Error, sysctl: &str) -> SetupError {
        match error.raw_os_error() {
            Some(libc::EPERM) if matches!(sysctl, "1" | "2") => SetupError::Disabled(sysctl.into()),
            Some(libc::EPERM | libc::EACCES) => SetupError::Forbidden(step),
            Some(libc::ENOSYS) => SetupError::Unknown(step),
            Some(libc::ENOMEM) => SetupError::NoMemory(step),
            Some(libc::EMFILE | libc::ENFILE) => SetupError::NoDescriptor { step, limit: os::nofile_limit() },
            // An unknown flag is an invalid one.
            Some(libc::EINVAL) if matches!(step, Step::Ring | Step::HostRing) => {
                SetupError::KernelTooOld("the setup flags COOP_TASKRUN and SINGLE_ISSUER (6.0)")
            }
            Some(libc::EINVAL) if step == Step::Buffers => SetupError::KernelTooOld("provided-buffer rings (5.19)"),
            _ => SetupError::Other { step, error },
        }
    }
}

/// The ring with its table and buffers.
pub(super) fn build(options: &RingOptions) -> Result<(Queue, &'static Pool), SetupError> {
    check(options, os::nofile_limit())?;
    let mut builder = IoUring::builder();
    // Never DEFER_TASKRUN: such a ring does not wake those who poll its descriptor.
    builder.setup_coop_taskrun().setup_single_issuer().setup_taskrun_flag().setup_submit_all();
    builder.setup_cqsize(COMPLETIONS);
    let ring = builder.build(SUBMISSIONS).map_err(|error| SetupError::from_io(Step::Ring, error))?;
    probe(&ring)?;
    ring.submitter().register_files_sparse(options.slots).map_err(|error| SetupError::from_io(Step::Table, error))?;
    let pool = Pool::register(&ring, options.buffers as u16, options.buffer_bytes)?;
    Ok((Queue::new(ring), pool))
}

fn check(options: &RingOptions, limit: u64) -> Result<(), SetupError> {
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

fn probe(ring: &IoUring) -> Result<(), SetupError> {
    const NEEDED: [(u8, &str); 8] = [
        (opcode::FixedFdInstall::CODE, "FIXED_FD_INSTALL (6.8)"),
        (opcode::RecvMulti::CODE, "RECV (5.6)"),
        (opcode::Send::CODE, "SEND (5.6)"),
        (opcode::PollAdd::CODE, "POLL_ADD (5.1)"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL (5.5)"),
        (opcode::Close::CODE, "CLOSE (5.6)"),
        (opcode::Shutdown::CODE, "SHUTDOWN (5.11)"),
        (opcode::Nop::CODE, "NOP (5.1)"),
    ];
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| SetupError::from_io(Step::Probe, error))?;
    match NEEDED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(SetupError::KernelTooOld(name)),
        // Completions beyond the queue must be kept, and successes be silent: both older than the requests above.
        None if !ring.params().is_feature_nodrop() => Err(SetupError::KernelTooOld("NODROP (5.5)")),
        None if !ring.params().is_feature_skip_cqe_on_success() => {
            Err(SetupError::KernelTooOld("CQE_SKIP_SUCCESS (5.17)"))
        }
        None => Ok(()),
    }
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

    #[test]
    fn failures_name_cause_and_remedy() {
        let text =
            |errno, sysctl| SetupError::classify(Step::Ring, io::Error::from_raw_os_error(errno), sysctl).to_string();
        assert!(text(libc::EPERM, "2").contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(text(libc::EPERM, "0").contains("seccomp"));
        assert!(text(libc::ENOSYS, "").contains("6.8"));
        assert!(text(libc::EINVAL, "0").contains("6.8"));
        assert!(text(libc::ENOMEM, "0").contains("MEMLOCK"));
        assert!(text(libc::EMFILE, "0").contains("RLIMIT_NOFILE"));
        assert!(text(libc::EIO, "0").contains("io_uring_setup"));
    }
}
