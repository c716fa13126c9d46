//! Which system calls are refused: those that would load programs into the kernel, reach into other processes, or change
//! the system around them. They fail with EPERM; nothing is killed, and everything else passes. A list of what is
//! allowed would be shorter for whoever attacks, and break with every new version of a library.
//!
//! The data path's maps are used after this: look-ups, updates, pins and test runs of what is loaded stay possible.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// What makes the filter known: kill(2) of this process, which no system has (numbers end at 2^22), is refused, and not
/// merely in vain. So a successor does not put on the filter that it has inherited, each time one more. It counts up with
/// the filter's content.
pub(super) const MARK: i32 = 0x5945_5401;

/// Refused altogether.
pub(super) const REFUSED: &[libc::c_long] = &[
    // The kernel's own code and counters.
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    // File systems and name spaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_setns,
    libc::SYS_unshare,
    // Keys that the kernel keeps.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Refused commands of bpf(2), by their numbers in linux/bpf.h.
pub(super) const BPF_REFUSED: &[(&str, u32)] = &[
    ("MAP_CREATE", 0),
    ("PROG_LOAD", 5),
    ("PROG_ATTACH", 8),
    ("RAW_TRACEPOINT_OPEN", 17),
    ("BTF_LOAD", 18),
    ("LINK_CREATE", 28),
    ("ITER_CREATE", 33),
    ("TOKEN_CREATE", 36),
];

/// On x86-64 a call has a second number where the kernel knows the x32 ABI, and some have another one there.
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;
/// ptrace, kexec_load, process_vm_readv, process_vm_writev.
#[cfg(target_arch = "x86_64")]
const X32_REFUSED: [libc::c_long; 4] = [X32 | 521, X32 | 528, X32 | 539, X32 | 540];

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct FilterError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("the filter cannot be made: {0}")]
    Made(#[from] seccompiler::BackendError),
    #[error(transparent)]
    Installed(#[from] seccompiler::Error),
}

impl FilterError {
    /// Whether the kernel has no such thing.
    pub(super) fn is_unsupported(&self) -> bool {
        let Self(Cause::Installed(seccompiler::Error::Seccomp(error))) = self else { return false };
        [Errno::NOSYS, Errno::INVAL].iter().any(|errno| Some(*errno) == Errno::from_io_error(error))
    }
}

/// Has these calls of the thread refused from now on, and of those it starts, unless they are already.
pub(super) fn install() -> Result<(), FilterError> {
    if is_installed() {
        return Ok(());
    }
    let program = program().map_err(Cause::from)?;
    apply_filter(&program).map_err(Cause::from)?;
    Ok(())
}

/// Whether a process before this one has put on the same filter.
pub(super) fn is_installed() -> bool {
    Pid::from_raw(MARK).is_some_and(|nobody| test_kill_process(nobody) == Err(Errno::PERM))
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let is = |value: u32| {
        let condition =
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value))?;
        SeccompRule::new(vec![condition])
    };
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let commands = BPF_REFUSED.iter().map(|(_, command)| is(*command)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_bpf, commands);
    rules.insert(libc::SYS_kill, vec![is(MARK.unsigned_abs())?]);
    #[cfg(target_arch = "x86_64")]
    {
        let others: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(others);
        rules.extend(X32_REFUSED.map(|call| (call, Vec::new())));
    }
    let refused = SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs());
    let architecture = TargetArch::try_from(ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture)?.try_into()
}
