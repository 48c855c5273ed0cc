//! Checks of the kernel: whether a server gets its rings.
use super::check::{Check, Finding, Gain, Verdict::Problem};
use super::facts::Facts;
use crate::plane::SetupCause;

/// The oldest kernel that has all (FIXED_FD_INSTALL).
const KERNEL_MIN: (u32, u32) = (6, 8);

pub const CHECKS: &[Check] = &[
    Check {
        name: "io_uring allowed",
        why: "connections live in io_uring; a sysctl (kernel.io_uring_disabled) or a seccomp filter can forbid it",
        gain: Gain::Start,
        judge: |facts, _| {
            let sysctl = facts.sysctls.get("kernel.io_uring_disabled").map_or("absent", String::as_str);
            let group = facts.sysctls.get("kernel.io_uring_group").map_or("absent", String::as_str);
            let seccomp = match facts.ring.seccomp {
                Some(0) => "none",
                Some(1) => "strict",
                Some(_) => "filter",
                None => "unknown",
            };
            let value = format!("kernel.io_uring_disabled = {sysctl}, io_uring_group = {group}, seccomp {seccomp}");
            let refusal = refused(facts, SetupCause::Forbidden);
            Some(Finding::of(refusal.is_none(), Problem, value, "allowed".into(), || match sysctl {
                "1" | "2" => "sysctl -w kernel.io_uring_disabled=0".into(),
                _ => "allow io_uring_setup, io_uring_enter, io_uring_register in the seccomp profile (docker run \
                      --security-opt seccomp=PROFILE)"
                    .into(),
            }))
        },
    },
    Check {
        name: "kernel",
        why: "what the plane needs of io_uring, asked of the kernel itself rather than of its version",
        gain: Gain::Start,
        judge: |facts, _| {
            let missing: Vec<&str> = facts
                .ring
                .features
                .iter()
                .filter(|feature| feature.fault.is_some())
                .map(|feature| feature.name.as_str())
                .collect();
            let is_old = facts.kernel_version() < KERNEL_MIN && !missing.is_empty();
            let has_all = refused(facts, SetupCause::Kernel).is_none() && !is_old;
            let value = match (has_all, facts.ring.features.len()) {
                (false, _) => format!("Linux {}, without {}", facts.kernel, missing.join(", ")),
                (true, count) if missing.is_empty() => {
                    format!("Linux {}, {count} features of {count} work", facts.kernel)
                }
                (true, _) => format!("Linux {}, features not all tried", facts.kernel),
            };
            let (major, minor) = KERNEL_MIN;
            Some(Finding::of(has_all, Problem, value, format!("Linux {major}.{minor}"), || {
                "install a newer kernel and boot it".into()
            }))
        },
    },
    Check {
        name: "rings",
        why: "one shard's rings, table and buffers were made in their full size and given back",
        gain: Gain::Start,
        judge: |facts, _| match &facts.ring.refusal {
            Some((SetupCause::Resources | SetupCause::Options, text)) => {
                Some(Finding::of(false, Problem, "cannot be made".into(), "made".into(), || text.clone()))
            }
            Some(_) => None,
            None => Some(Finding::fine("made")),
        },
    },
    Check {
        name: "a connection through a ring",
        why: "adopt, receive, send in silence, close: the walk of every connection, done once",
        gain: Gain::Start,
        judge: |facts, _| match facts.ring.rehearsal.as_ref()? {
            Ok(()) => Some(Finding::fine("carried and closed")),
            Err(text) => Some(Finding::of(false, Problem, text.clone(), "carried".into(), || {
                "a fault of this kernel's io_uring: install another kernel, and report this line".into()
            })),
        },
    },
];

fn refused(facts: &Facts, cause: SetupCause) -> Option<&str> {
    facts.ring.refusal.as_ref().filter(|(found, _)| *found == cause).map(|(_, text)| text.as_str())
}
